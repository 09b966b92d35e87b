//! The story itself: each step does something, says it in plain words, and shows what went over the wire.

use std::path::Path;
use std::time::Duration;

use agent_identity_core::Secret;
use agent_identity_core::encoding::{base64url, unbase64url};
use agent_identity_core::http::{HttpClient as _, HttpRequest, HttpResponse, Method};
use agent_identity_core::random::handle;
use agent_identity_egress::{AllowList, GuardedClient};
use agent_identity_local::SystemRandom;
use serde_json::{Value, json};
use url::{Url, form_urlencoded};

use super::browser::Browser;
use super::world::{AGENT_CLIENT, APP_CLIENT, APP_URL, CALENDAR_SCOPE, VENDOR_TOKEN_SECONDS, World};
use crate::client::{Client, text};
use crate::{CommandResult, output};

/// The agent of the story.
const AGENT: &str = "my-agent";

/// Tells the story.
///
/// # Errors
/// When a step does not do what it says.
pub async fn tell(directory: &Path, keep: bool) -> CommandResult {
    let began = World::now();
    say(
        "agent-identity quickstart: a user, an agent, two protected APIs, one vault. All real, all on this machine.",
    )?;
    let world = World::start(directory).await?;
    say(&format!("  server             {}", world.url))?;
    say(&format!("  company's sign-in  {}", world.company.issuer()))?;
    say(&format!("  calendar vendor    {}", world.vendor.issuer()))?;
    say(&format!("  calendar, weather  {}", world.api.origin()))?;
    let sdk = world.client()?;

    step(
        1,
        "You register the agent, and how it gets at the two APIs. Secrets go into the vault and never come back.",
    )?;
    register(&world, &sdk).await?;

    step(2, "A user signs in at the company's own identity provider. Your app gets a JWT.")?;
    let user_token = sign_in(&world).await?;
    wire(&format!("id_token {}", shorten(user_token.expose())))?;
    wire(&format!("         says {}", claims(user_token.expose())))?;

    step(
        3,
        "Your app calls the agent's API with it. The authorizer before the API lets the user's token pass, and nothing else.",
    )?;
    speak_to_the_agent(&world, &sdk, &user_token).await?;

    step(4, "The JWT becomes a workload access token: this agent, for this user, for 15 minutes.")?;
    let answer = sdk
        .call(
            "/identities/GetWorkloadAccessTokenForJWT",
            &json!({ "workloadName": AGENT, "userToken": user_token.expose() }),
        )
        .await?;
    let wat = Secret::new(text(&answer, "workloadAccessToken")?);
    wire("POST /identities/GetWorkloadAccessTokenForJWT")?;
    wire(&format!("  -> workloadAccessToken {}", shorten(wat.expose())))?;

    step(5, "The agent asks for a calendar token. The user has not agreed yet, so it gets a link for them.")?;
    let wanted = json!({
        "workloadIdentityToken": wat.expose(),
        "resourceCredentialProviderName": "calendar",
        "scopes": ["openid", "offline_access", CALENDAR_SCOPE],
        "oauth2Flow": "USER_FEDERATION",
        "resourceOauth2ReturnUrl": format!("{APP_URL}/connected"),
    });
    let answer = sdk.call("/identities/oauth2/token", &wanted).await?;
    let link = text(&answer, "authorizationUrl")?;
    let session = text(&answer, "sessionUri")?.to_owned();
    wire("POST /identities/oauth2/token")?;
    wire(&format!("  -> authorizationUrl {}", shorten(link)))?;

    step(6, "The user opens it, sees which agent wants what, signs in at the vendor and agrees.")?;
    let returned = consent(&world, link).await?;
    wire(&format!("GET {}", shorten(returned.as_str())))?;

    step(
        7,
        "Your app sees the same user come back, and says so. Only now is the code exchanged and the tokens stored.",
    )?;
    sdk.call(
        "/identities/CompleteResourceTokenAuth",
        &json!({ "sessionUri": session, "userIdentifier": { "userToken": user_token.expose() } }),
    )
    .await?;
    wire("POST /identities/CompleteResourceTokenAuth")?;
    wire("  -> 200 {}")?;

    step(8, "The agent asks again, gets the token, and reads the user's calendar.")?;
    let token = access_token(&sdk, &wanted).await?;
    wire(&format!("  -> accessToken {}", shorten(token.expose())))?;
    read_calendar(&world, &token).await?;

    step(9, "It gets an API key for the weather the same way, and uses it.")?;
    let answer = sdk
        .call(
            "/identities/api-key",
            &json!({ "workloadIdentityToken": wat.expose(), "resourceCredentialProviderName": "weather" }),
        )
        .await?;
    let key = Secret::new(text(&answer, "apiKey")?);
    wire("POST /identities/api-key")?;
    wire(&format!("  -> apiKey {}", shorten(key.expose())))?;
    let weather = get(world.api.origin(), "/weather", ("x-api-key", key)).await?;
    expect_ok(&weather, "/weather")?;

    step(
        10,
        &format!(
            "The calendar token runs out ({VENDOR_TOKEN_SECONDS} s here). The vault refreshes it by itself."
        ),
    )?;
    tokio::time::sleep(Duration::from_millis(u64::from(VENDOR_TOKEN_SECONDS) * 1000 + 200)).await;
    let refused = get(world.api.origin(), "/calendar", bearer(&token)).await?;
    wire(&format!("GET {}/calendar, old token -> {}", world.api.origin(), refused.status))?;
    if refused.status != 401 {
        return Err("the old token should have run out".into());
    }
    let before = world.vendor.counts().refresh_token;
    let fresh = access_token(&sdk, &wanted).await?;
    wire(&format!("  -> accessToken {}", shorten(fresh.expose())))?;
    read_calendar(&world, &fresh).await?;
    let refreshes = world.vendor.counts().refresh_token.saturating_sub(before);
    wire(&format!(
        "the vendor saw {refreshes} refresh, and gave a new refresh token, which is in the vault"
    ))?;
    if refreshes != 1 || fresh == token {
        return Err("the vault should have refreshed the token exactly once".into());
    }

    step(
        11,
        "Better still, the agent asks for no token: the calendar is a tool, and the call is made for it with the token in it.",
    )?;
    call_a_tool(&world, &sdk, &wat).await?;

    let took = World::now().since(began);
    say("")?;
    say(&format!(
        "Done in {:.1} s. No secret left the vault but the two credentials the agent asked for; in step 11 it held none.",
        took.as_secs_f64()
    ))?;
    go_on(directory, &world, keep)?;
    if keep {
        world.server.await?;
    }
    Ok(())
}

async fn register(world: &World, sdk: &Client) -> CommandResult {
    sdk.call(
        "/identities/CreateWorkloadIdentity",
        &json!({ "name": AGENT, "allowedResourceOauth2ReturnUrls": [format!("{APP_URL}/connected")] }),
    )
    .await?;
    wire(&format!("POST /identities/CreateWorkloadIdentity {{\"name\":\"{AGENT}\",…}}"))?;
    let discovery = format!("{}/.well-known/openid-configuration", world.vendor.issuer());
    let created = sdk
        .call(
            "/identities/CreateOauth2CredentialProvider",
            &json!({
                "name": "calendar",
                "credentialProviderVendor": "CustomOauth2",
                "oauth2ProviderConfigInput": { "customOauth2ProviderConfig": {
                    "oauthDiscovery": { "discoveryUrl": discovery },
                    "clientId": AGENT_CLIENT,
                    "clientSecret": world.agent_secret.expose(),
                } },
                // Where tools may send its tokens, and nowhere else.
                "tags": { "agent-identity:injectable-hosts": world.api.authority() },
            }),
        )
        .await?;
    let callback = text(&created, "callbackUrl")?;
    wire("POST /identities/CreateOauth2CredentialProvider {\"name\":\"calendar\",…}")?;
    wire(&format!("  -> callbackUrl {callback}  (registered at the vendor)"))?;
    if !world.vendor.add_redirect_uri(AGENT_CLIENT, callback) {
        return Err("the vendor does not know the agent's client".into());
    }
    sdk.call(
        "/identities/CreateApiKeyCredentialProvider",
        &json!({ "name": "weather", "apiKey": world.api_key.expose() }),
    )
    .await?;
    wire("POST /identities/CreateApiKeyCredentialProvider {\"name\":\"weather\",…}")?;
    Ok(())
}

/// A request that the agent may have made, and the agent having it made.
async fn call_a_tool(world: &World, sdk: &Client, wat: &Secret) -> CommandResult {
    let (name, url) = ("read_calendar", format!("{}/calendar", world.api.origin()));
    sdk.call(
        "/identities/PutTool",
        &json!({
            "name": name,
            "inputSchema": { "type": "object" },
            "request": { "method": "GET", "url": url },
            "credential": {
                "providerName": "calendar",
                "flow": "USER_FEDERATION",
                "scopes": ["openid", "offline_access", CALENDAR_SCOPE],
            },
            "allowedWorkloads": [AGENT],
        }),
    )
    .await?;
    wire(&format!("POST /identities/PutTool {{\"name\":\"{name}\",…,\"url\":\"{url}\"}}"))?;
    let answer = sdk
        .call("/identities/InvokeTool", &json!({ "workloadIdentityToken": wat.expose(), "toolName": name }))
        .await?;
    wire(&format!("POST /identities/InvokeTool {{\"toolName\":\"{name}\"}}"))?;
    if answer.get("statusCode") != Some(&json!(200)) {
        return Err("the tool should have answered".into());
    }
    wire(&format!("  -> {}", text(&answer, "body")?))
}

/// The rules of the agent's authorizer, and a call of its API with and without a token that keeps them.
async fn speak_to_the_agent(world: &World, sdk: &Client, user_token: &Secret) -> CommandResult {
    let discovery = format!("{}/.well-known/openid-configuration", world.company.issuer());
    sdk.call(
        "/identities/PutAuthorizer",
        &json!({
            "agentId": AGENT,
            "name": "main",
            "authorizerConfiguration": { "customJWTAuthorizer": {
                "discoveryUrl": discovery, "allowedAudience": [APP_CLIENT],
            } },
        }),
    )
    .await?;
    wire(&format!(
        "POST /identities/PutAuthorizer {{\"agentId\":\"{AGENT}\",…,\"allowedAudience\":[\"{APP_CLIENT}\"]}}"
    ))?;
    let path = format!("/agents/{AGENT}/sample");
    let stranger = get(&world.url, &path, ("authorization", Secret::new("Bearer of.nobody.here"))).await?;
    wire(&format!("GET {path}, a made-up token -> {}", stranger.status))?;
    if stranger.status != 401 {
        return Err("a made-up token should be refused".into());
    }
    let session = get(&world.url, &path, bearer(user_token)).await?;
    expect_ok(&session, &path)?;
    let session: Value = serde_json::from_slice(&session.body)?;
    wire(&format!("GET {path}, the user's token -> 200"))?;
    wire(&format!(
        "  -> verified session: agentId {}, subject {}, userId {}",
        text(&session, "agentId")?,
        text(&session, "subject")?,
        shorten(text(&session, "userId")?)
    ))
}

/// What an app with a sign-in does: the code flow with PKCE at the company's provider.
async fn sign_in(world: &World) -> CommandResult<Secret> {
    let verifier = handle(&SystemRandom);
    let challenge = base64url(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes()));
    let redirect = format!("{APP_URL}/signed-in");
    let query: String = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("response_type", "code"),
            ("client_id", APP_CLIENT),
            ("redirect_uri", &redirect),
            ("scope", "openid profile"),
            ("state", "app"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ])
        .finish();
    let issuer = world.company.issuer();
    let mut browser = Browser::new(&[issuer])?;
    let login = browser.open(&format!("{issuer}/authorize?{query}"), APP_URL).await?;
    let (name, password) = world.company.user();
    let consent =
        browser.submit(&login, &[("username", name), ("password", password.expose())], APP_URL).await?;
    let back = browser.submit(&consent, &[("decision", "allow")], APP_URL).await?;
    let code = parameter(&back.url, "code")?;
    let body = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &redirect),
            ("code_verifier", &verifier),
            ("client_id", APP_CLIENT),
            ("client_secret", world.app_secret.expose()),
        ])
        .finish();
    let headers = vec![("content-type", Secret::new("application/x-www-form-urlencoded"))];
    let url = format!("{issuer}/token");
    let request = HttpRequest::new(Method::Post, url, headers, Some(Secret::new(body)));
    let response = client(&[issuer])?.send(request).await?;
    let tokens: Value = serde_json::from_slice(&response.body)?;
    Ok(Secret::new(text(&tokens, "id_token")?))
}

/// What the user does with the link.
async fn consent(world: &World, link: &str) -> CommandResult<Url> {
    let mut browser = Browser::new(&[&world.url, world.vendor.issuer()])?;
    let page = browser.open(link, APP_URL).await?;
    if page.status != 200 || !page.html.contains(AGENT) || !page.html.contains(CALENDAR_SCOPE) {
        return Err("the page before the vendor should name the agent and what it asks for".into());
    }
    wire(&format!("GET {} -> a page: \"The agent {AGENT} asks for access\"", page.url.path()))?;
    let login = browser.submit(&page, &[], APP_URL).await?;
    let (name, password) = world.vendor.user();
    let consent =
        browser.submit(&login, &[("username", name), ("password", password.expose())], APP_URL).await?;
    Ok(browser.submit(&consent, &[("decision", "allow")], APP_URL).await?.url)
}

async fn access_token(sdk: &Client, wanted: &Value) -> CommandResult<Secret> {
    wire("POST /identities/oauth2/token")?;
    let answer = sdk.call("/identities/oauth2/token", wanted).await?;
    Ok(Secret::new(text(&answer, "accessToken")?))
}

async fn read_calendar(world: &World, token: &Secret) -> CommandResult {
    let calendar = get(world.api.origin(), "/calendar", bearer(token)).await?;
    expect_ok(&calendar, "/calendar")?;
    wire(&format!("GET {}/calendar -> {}", world.api.origin(), String::from_utf8_lossy(&calendar.body)))?;
    Ok(())
}

fn bearer(token: &Secret) -> (&'static str, Secret) {
    ("authorization", Secret::new(format!("Bearer {}", token.expose())))
}

async fn get(origin: &str, path: &str, header: (&'static str, Secret)) -> CommandResult<HttpResponse> {
    let request = HttpRequest::new(Method::Get, format!("{origin}{path}"), vec![header], None);
    Ok(client(&[origin])?.send(request).await?)
}

fn client(origins: &[&str]) -> CommandResult<GuardedClient> {
    let rules = origins.iter().map(|origin| origin.trim_start_matches("http://").parse());
    Ok(GuardedClient::new(AllowList::new(rules.collect::<Result<Vec<_>, _>>()?), Vec::new()))
}

fn expect_ok(response: &HttpResponse, path: &str) -> CommandResult {
    if response.status == 200 { Ok(()) } else { Err(format!("{path} answered {}", response.status).into()) }
}

fn parameter(url: &Url, name: &str) -> CommandResult<String> {
    let found = url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    found.ok_or_else(|| format!("the redirect has no `{name}`").into())
}

fn go_on(directory: &Path, world: &World, keep: bool) -> CommandResult {
    say("")?;
    if keep {
        say(&format!("It is still running, until Ctrl-C: {}", world.url))?;
        let program =
            std::env::current_exe().map_or("agent-identity".to_owned(), |path| path.display().to_string());
        say(&format!("  eval \"$({program} env --data {} --url {})\"", directory.display(), world.url))?;
    } else {
        say("Go on with a server of your own:")?;
        say("  cargo run --release -- serve")?;
        say("and in another terminal:")?;
        say("  eval \"$(cargo run --release -- env)\"")?;
    }
    say(
        "  python3 -c 'import boto3; print(boto3.client(\"bedrock-agentcore-control\").list_workload_identities()[\"workloadIdentities\"])'",
    )
}

fn step(number: u32, words: &str) -> CommandResult {
    say("")?;
    say(&format!("{number}. {words}"))
}

fn wire(line: &str) -> CommandResult {
    say(&format!("   {line}"))
}

fn say(line: &str) -> CommandResult {
    output::print(line)
}

/// The beginning of a long value: enough to recognise it, too little to use it.
fn shorten(value: &str) -> String {
    const SHOWN: usize = 12;
    let secret_at =
        ["request_uri%3A", "request_uri:"].iter().find_map(|mark| value.find(mark).map(|at| at + mark.len()));
    let from = secret_at.unwrap_or(0);
    let head: String = value.chars().take(from.saturating_add(SHOWN)).collect();
    if head.len() < value.len() { format!("{head}…") } else { "…".to_owned() }
}

/// What a JWT says, but for its signature.
fn claims(token: &str) -> String {
    let payload = token.split('.').nth(1).and_then(unbase64url).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&payload).unwrap_or_default();
    let shown: serde_json::Map<String, Value> = ["iss", "sub", "aud"]
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), claims.get(*name)?.clone())))
        .collect();
    Value::Object(shown).to_string()
}
