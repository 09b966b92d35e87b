//! The provider over real sockets, as clients and browsers meet it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use agent_identity_core::encoding::unbase64url;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use super::grants::code_challenge;
use super::*;

const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CALLBACK: &str = "http://127.0.0.1:1/callback?provider=7";
const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// A clock that stands until it is moved.
pub(in super::super) struct TestClock(AtomicI64);

impl TestClock {
    pub fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(now.as_millis())))
    }

    pub fn forward(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

struct TestRandom;

impl Random for TestRandom {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).unwrap();
    }
}

/// A whole answer.
pub(in super::super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The parameters that a redirect carries, without those of the redirect URI itself.
    fn redirected(&self) -> Vec<(String, String)> {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.text);
        let location = Url::parse(self.header("location")).unwrap();
        assert!(location.as_str().starts_with(CALLBACK), "{location}");
        location.query_pairs().skip(1).map(|(name, value)| (name.into(), value.into())).collect()
    }

    fn interaction(&self) -> String {
        let marker = "name=\"interaction\" value=\"";
        let from = self.text.find(marker).unwrap_or_else(|| panic!("no form: {}", self.text)) + marker.len();
        self.text[from..].split('"').next().unwrap().to_owned()
    }
}

/// Sends one request.
pub(in super::super) async fn send(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Answer {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(body)).unwrap();
    let client = HttpClient::builder(TokioExecutor::new()).build_http::<Body>();
    let (parts, body) = client.request(request).await.unwrap().into_parts();
    let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap();
    Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(body.to_vec()).unwrap() }
}

/// A provider that knows one application.
pub(in super::super) struct World {
    pub idp: IdentityProvider,
    pub clock: Arc<TestClock>,
}

impl World {
    pub async fn start() -> Self {
        let clock = TestClock::at(NOW);
        let scope = |name, meaning| Scope { name, meaning };
        let idp = IdentityProvider::start(Config {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            random: Arc::new(TestRandom),
            scopes: vec![scope("calendar.read", "read your calendar"), scope("mail.read", "read your mail")],
            audience: "https://calendar.example".into(),
            access_token_seconds: 60,
            id_token_seconds: 600,
        })
        .await
        .unwrap();
        idp.register_client(Client {
            id: "app".into(),
            name: "The App".into(),
            secret: Secret::new("s3cret:+%"),
            redirect_uris: Vec::new(),
            grant_types: GrantType::ALL.to_vec(),
        });
        assert!(idp.add_redirect_uri("app", CALLBACK));
        assert!(!idp.add_redirect_uri("nobody", CALLBACK));
        Self { idp, clock }
    }

    /// The authorization request that every test starts from, with `changes`.
    fn authorize_url(&self, changes: &[(&str, &str)]) -> String {
        let challenge = code_challenge(VERIFIER);
        let usual = [
            ("response_type", "code"),
            ("client_id", "app"),
            ("redirect_uri", CALLBACK),
            ("scope", "openid profile calendar.read"),
            ("state", "st&te"),
            ("nonce", "n0nce"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        format!("{}/authorize?{}", self.idp.issuer(), encode(&usual, changes))
    }

    async fn authorize(&self, changes: &[(&str, &str)], cookie: &str) -> Answer {
        send(Method::GET, &self.authorize_url(changes), &[("cookie", cookie)], String::new()).await
    }

    async fn form(&self, path: &str, cookie: &str, fields: &[(&str, &str)]) -> Answer {
        let url = format!("{}{path}", self.idp.issuer());
        send(Method::POST, &url, &[("cookie", cookie)], encode(fields, &[])).await
    }

    /// Signs Ada in; answers the consent page and the browser's cookie.
    async fn sign_in(&self, changes: &[(&str, &str)]) -> (Answer, String) {
        let page = self.authorize(changes, "").await;
        let (name, password) = self.idp.user();
        let fields = [
            ("interaction", page.interaction()),
            ("username", name.into()),
            ("password", password.expose().into()),
        ];
        let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let page = self.form("/login", &cookie(&page), &fields).await;
        let cookie = cookie(&page);
        (page, cookie)
    }

    async fn decide(&self, decision: &str) -> Answer {
        let (page, cookie) = self.sign_in(&[]).await;
        self.form("/consent", &cookie, &[("interaction", &page.interaction()), ("decision", decision)]).await
    }

    async fn code(&self) -> String {
        let parameters = self.decide("allow").await.redirected();
        parameters.into_iter().find(|(name, _)| name == "code").unwrap().1
    }

    async fn token(&self, fields: &[(&str, &str)], changes: &[(&str, &str)]) -> Answer {
        let client = [("client_id", "app"), ("client_secret", "s3cret:+%")];
        let fields: Vec<_> = client.iter().chain(fields).copied().collect();
        let url = format!("{}/token", self.idp.issuer());
        let form = [("content-type", "application/x-www-form-urlencoded")];
        send(Method::POST, &url, &form, encode(&fields, changes)).await
    }

    async fn redeem(&self, code: &str, changes: &[(&str, &str)]) -> Answer {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        self.token(&fields, changes).await
    }

    async fn refresh(&self, token: &str, changes: &[(&str, &str)]) -> Answer {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", token)], changes).await
    }

    /// An access token for `scope` that the application has for itself.
    pub async fn machine_token(&self, scope: &str) -> String {
        let answer = self.token(&[("grant_type", "client_credentials"), ("scope", scope)], &[]).await;
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// What Ada's consent gives.
    pub async fn user_tokens(&self) -> Value {
        self.redeem(&self.code().await, &[]).await.json()
    }
}

/// `fields` with each of `changes` put in the place of its namesake; an empty value leaves it out.
fn encode(fields: &[(&str, &str)], changes: &[(&str, &str)]) -> String {
    let kept = fields.iter().filter(|(name, _)| !changes.iter().any(|(changed, _)| changed == name));
    let added = changes.iter().filter(|(_, value)| !value.is_empty());
    Serializer::new(String::new()).extend_pairs(kept.chain(added)).finish()
}

fn cookie(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie");
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

fn part(token: &Value, index: usize) -> Value {
    let part = token.as_str().unwrap().split('.').nth(index).unwrap();
    serde_json::from_slice(&unbase64url(part).unwrap()).unwrap()
}

#[track_caller]
fn assert_error(answer: &Answer, status: StatusCode, error: &str) {
    assert_eq!((answer.status, answer.json()["error"].as_str()), (status, Some(error)), "{}", answer.text);
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn discovery_names_the_issuer_and_endpoints_that_answer() {
    let world = World::start().await;
    let url = format!("{}/.well-known/openid-configuration", world.idp.issuer());
    let document = send(Method::GET, &url, &[], String::new()).await.json();
    assert_eq!(document["issuer"], world.idp.issuer());
    assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
    let jwks = send(Method::GET, document["jwks_uri"].as_str().unwrap(), &[], String::new()).await.json();
    assert_eq!(jwks["keys"][0]["alg"], "ES256");
    assert!(jwks["keys"][0].get("d").is_none());
}

#[tokio::test]
async fn a_user_signs_in_consents_and_the_client_gets_tokens() {
    let world = World::start().await;
    let parameters = world.decide("allow").await.redirected();
    let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["code", "state", "iss"]);
    assert_eq!((parameters[1].1.as_str(), parameters[2].1.as_str()), ("st&te", world.idp.issuer()));

    let tokens = world.redeem(&parameters[0].1, &[]).await.json();
    assert_eq!((&tokens["token_type"], &tokens["expires_in"]), (&json!("Bearer"), &json!(60)));
    let claims = world.idp.verifier().verify(tokens["access_token"].as_str().unwrap()).unwrap();
    assert_eq!((claims.sub.as_str(), claims.aud.as_str()), ("ada", "https://calendar.example"));
    assert_eq!(claims.scope, "openid profile calendar.read");

    let id = part(&tokens["id_token"], 1);
    assert_eq!((&id["sub"], &id["aud"], &id["nonce"]), (&json!("ada"), &json!("app"), &json!("n0nce")));
    assert_eq!(id["exp"].as_i64().unwrap() - id["iat"].as_i64().unwrap(), 600);
    let jwks = world.idp.inner.key.jwks();
    assert_eq!(part(&tokens["id_token"], 0)["kid"], jwks["keys"][0]["kid"]);
}

#[tokio::test]
async fn the_consent_page_says_who_asks_whom_for_what() {
    let world = World::start().await;
    let (page, _) = world.sign_in(&[]).await;
    for text in ["The App", "ada", "read your calendar", "calendar.read"] {
        assert!(page.text.contains(text), "{text}: {}", page.text);
    }
    assert!(!page.text.contains("mail.read"));
    assert!(page.header("content-security-policy").contains("frame-ancestors 'none'"));
}

#[tokio::test]
async fn a_refusal_goes_back_to_the_client() {
    let world = World::start().await;
    let parameters = world.decide("deny").await.redirected();
    assert_eq!(parameters[0], ("error".into(), "access_denied".into()));
    assert!(parameters.contains(&("state".into(), "st&te".into())));
    assert!(parameters.contains(&("iss".into(), world.idp.issuer().into())));
}

#[tokio::test]
async fn a_wrong_password_shows_the_form_again() {
    let world = World::start().await;
    let page = world.authorize(&[], "").await;
    let cookie = cookie(&page);
    for (name, password) in [("ada", "guess"), ("ada", ""), ("eve", world.idp.user().1.expose())] {
        let fields = [("interaction", &*page.interaction()), ("username", name), ("password", password)];
        let answer = world.form("/login", &cookie, &fields).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN);
        assert_eq!(answer.interaction(), page.interaction());
    }
}

#[tokio::test]
async fn consent_cannot_be_given_before_the_login_nor_in_another_browser_nor_twice() {
    let world = World::start().await;
    let page = world.authorize(&[], "").await;
    let early = [("interaction", &*page.interaction()), ("decision", "allow")];
    assert_eq!(world.form("/consent", &cookie(&page), &early).await.status, StatusCode::BAD_REQUEST);

    let (page, own) = world.sign_in(&[]).await;
    let (_, other) = world.sign_in(&[]).await;
    let allow = [("interaction", &*page.interaction()), ("decision", "allow")];
    for cookie in ["", &other] {
        assert_eq!(world.form("/consent", cookie, &allow).await.status, StatusCode::BAD_REQUEST);
    }
    assert_eq!(world.form("/consent", &own, &allow).await.status, StatusCode::SEE_OTHER);
    assert_eq!(world.form("/consent", &own, &allow).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn who_is_signed_in_is_asked_for_consent_at_once_unless_a_login_is_wanted() {
    let world = World::start().await;
    let (_, cookie) = world.sign_in(&[]).await;
    assert!(world.authorize(&[], &cookie).await.text.contains("Allow access?"));
    assert!(world.authorize(&[("prompt", "login")], &cookie).await.text.contains("Sign in"));
    let none = world.authorize(&[("prompt", "none")], &cookie).await.redirected();
    assert_eq!(none[0].1, "consent_required");
    let none = world.authorize(&[("prompt", "none")], "").await.redirected();
    assert_eq!(none[0].1, "login_required");
}

#[tokio::test]
async fn without_a_known_client_and_its_exact_redirect_uri_the_browser_is_sent_nowhere() {
    let world = World::start().await;
    let longer = format!("{CALLBACK}x");
    for change in [
        ("client_id", "other"),
        ("client_id", ""),
        ("redirect_uri", &longer),
        ("redirect_uri", "http://127.0.0.1:1/callback"),
        ("redirect_uri", "http://127.0.0.1:2/callback?provider=7"),
        ("redirect_uri", ""),
    ] {
        let answer = world.authorize(&[change], "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{change:?}");
        assert_eq!(answer.header("location"), "");
    }
    let twice = format!("{}&client_id=app", world.authorize_url(&[]));
    assert_eq!(send(Method::GET, &twice, &[], String::new()).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn any_other_mistake_is_told_to_the_client() {
    let world = World::start().await;
    for (change, error) in [
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", ""), "unsupported_response_type"),
        (("response_mode", "fragment"), "invalid_request"),
        (("code_challenge", ""), "invalid_request"),
        (("code_challenge", "short"), "invalid_request"),
        (("code_challenge_method", ""), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("scope", "openid everything"), "invalid_scope"),
        (("request", "e30.e30."), "request_not_supported"),
        (("request_uri", "urn:x"), "request_uri_not_supported"),
    ] {
        let parameters = world.authorize(&[change], "").await.redirected();
        assert_eq!(parameters[0], ("error".into(), error.into()), "{change:?}");
        assert!(parameters.contains(&("state".into(), "st&te".into())));
    }
}

#[tokio::test]
async fn a_code_is_good_once_for_a_minute_and_only_with_its_verifier() {
    let world = World::start().await;
    let code = world.code().await;
    let first = world.redeem(&code, &[]).await.json();
    assert_error(&world.redeem(&code, &[]).await, StatusCode::BAD_REQUEST, "invalid_grant");
    let orphan = world.refresh(first["refresh_token"].as_str().unwrap(), &[]).await;
    assert_error(&orphan, StatusCode::BAD_REQUEST, "invalid_grant");

    let wrong = [("code_verifier", "another-verifier-of-at-least-forty-three-characters")];
    let refused = world.redeem(&world.code().await, &wrong).await;
    assert_error(&refused, StatusCode::BAD_REQUEST, "invalid_grant");
    let refused = world.redeem(&world.code().await, &[("redirect_uri", "http://127.0.0.1:1/")]).await;
    assert_error(&refused, StatusCode::BAD_REQUEST, "invalid_grant");

    let short = world.redeem(&world.code().await, &[("code_verifier", "short")]).await;
    assert_error(&short, StatusCode::BAD_REQUEST, "invalid_request");

    let code = world.code().await;
    world.clock.forward(Duration::from_secs(60));
    assert_error(&world.redeem(&code, &[]).await, StatusCode::BAD_REQUEST, "invalid_grant");
}

#[tokio::test]
async fn a_refresh_token_rotates_and_its_reuse_ends_the_family() {
    let world = World::start().await;
    let first = world.user_tokens().await;
    world.clock.forward(Duration::from_secs(60));
    assert!(world.idp.verifier().verify(first["access_token"].as_str().unwrap()).is_err());

    let first = first["refresh_token"].as_str().unwrap();
    let second = world.refresh(first, &[]).await.json();
    assert!(world.idp.verifier().verify(second["access_token"].as_str().unwrap()).is_ok());
    let second = second["refresh_token"].as_str().unwrap();
    assert_ne!(first, second);
    assert_error(&world.refresh(first, &[]).await, StatusCode::BAD_REQUEST, "invalid_grant");
    assert_error(&world.refresh(second, &[]).await, StatusCode::BAD_REQUEST, "invalid_grant");
}

#[tokio::test]
async fn a_refresh_may_ask_for_less_and_never_for_more() {
    let world = World::start().await;
    let tokens = world.user_tokens().await;
    let token = tokens["refresh_token"].as_str().unwrap();
    let more = world.refresh(token, &[("scope", "calendar.read mail.read")]).await;
    assert_error(&more, StatusCode::BAD_REQUEST, "invalid_scope");
    let less = world.refresh(token, &[("scope", "calendar.read")]).await.json();
    assert_eq!(less["scope"], "calendar.read");
    assert!(less.get("id_token").is_none());
}

#[tokio::test]
async fn a_client_gets_a_token_for_itself_without_a_refresh_token() {
    let world = World::start().await;
    let fields = [("grant_type", "client_credentials"), ("scope", "calendar.read")];
    let tokens = world.token(&fields, &[]).await.json();
    assert!(tokens.get("refresh_token").is_none() && tokens.get("id_token").is_none());
    let claims = world.idp.verifier().verify(tokens["access_token"].as_str().unwrap()).unwrap();
    assert_eq!((claims.sub.as_str(), claims.scope.as_str()), ("app", "calendar.read"));
    let of_a_user = world.token(&fields, &[("scope", "openid")]).await;
    assert_error(&of_a_user, StatusCode::BAD_REQUEST, "invalid_scope");
}

#[tokio::test]
async fn a_client_authenticates_by_basic_or_by_post_and_not_by_both() {
    let world = World::start().await;
    let url = format!("{}/token", world.idp.issuer());
    let send_with = |authorization: &str, body: &str| {
        let (url, authorization, body) = (url.clone(), authorization.to_owned(), body.to_owned());
        async move {
            let headers = [
                ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
                ("authorization", &*authorization),
            ];
            send(Method::POST, &url, &headers, body).await
        }
    };
    let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
    let (good, body) = (basic("app:s3cret%3A%2B%25"), "grant_type=client_credentials");
    assert_eq!(send_with(&good, body).await.status, StatusCode::OK);
    assert_eq!(send_with(&good, &format!("{body}&client_id=app")).await.status, StatusCode::OK);

    for wrong in [basic("app:guess"), basic("app"), basic("nobody:x"), "Basic ~".into(), "Bearer x".into()] {
        let answer = send_with(&wrong, body).await;
        assert_error(&answer, StatusCode::UNAUTHORIZED, "invalid_client");
        assert!(answer.header("www-authenticate").starts_with("Basic "));
    }
    let both = send_with(&good, &format!("{body}&client_id=app&client_secret=x")).await;
    assert_error(&both, StatusCode::BAD_REQUEST, "invalid_request");
    let other = send_with(&good, &format!("{body}&client_id=other")).await;
    assert_error(&other, StatusCode::BAD_REQUEST, "invalid_request");
    for change in
        [("client_secret", "guess"), ("client_secret", ""), ("client_id", "nobody"), ("client_id", "")]
    {
        let answer = world.token(&[("grant_type", "client_credentials")], &[change]).await;
        assert_error(&answer, StatusCode::UNAUTHORIZED, "invalid_client");
    }
}

#[tokio::test]
async fn token_requests_that_are_out_of_order_get_the_errors_of_rfc_6749() {
    let world = World::start().await;
    let post = |fields: Vec<(&'static str, &'static str)>| {
        let world = &world;
        async move { world.token(&fields, &[]).await }
    };
    for (fields, error) in [
        (vec![], "invalid_request"),
        (vec![("grant_type", "password")], "unsupported_grant_type"),
        (vec![("grant_type", "authorization_code")], "invalid_request"),
        (vec![("grant_type", "refresh_token")], "invalid_request"),
        (vec![("grant_type", "refresh_token"), ("refresh_token", "made-up")], "invalid_grant"),
        (vec![("grant_type", "client_credentials"), ("grant_type", "x")], "invalid_request"),
        (vec![("grant_type", "client_credentials"), ("scope", "everything")], "invalid_scope"),
    ] {
        assert_error(&post(fields).await, StatusCode::BAD_REQUEST, error);
    }
    let url = format!("{}/token", world.idp.issuer());
    let json = send(Method::POST, &url, &[("content-type", "application/json")], "{}".into()).await;
    assert_error(&json, StatusCode::BAD_REQUEST, "invalid_request");

    world.idp.register_client(Client {
        id: "app".into(),
        name: "The App".into(),
        secret: Secret::new("s3cret:+%"),
        redirect_uris: vec![CALLBACK.into()],
        grant_types: vec![GrantType::RefreshToken],
    });
    let machine = post(vec![("grant_type", "client_credentials")]).await;
    assert_error(&machine, StatusCode::BAD_REQUEST, "unauthorized_client");
    assert_eq!(world.authorize(&[], "").await.redirected()[0].1, "unauthorized_client");
}

#[tokio::test]
async fn each_token_request_is_counted() {
    let world = World::start().await;
    let tokens = world.user_tokens().await;
    world.refresh(tokens["refresh_token"].as_str().unwrap(), &[]).await;
    world.refresh(tokens["refresh_token"].as_str().unwrap(), &[]).await;
    world.machine_token("calendar.read").await;
    let expected = Counts { authorization_code: 1, refresh_token: 2, client_credentials: 1, refused: 1 };
    assert_eq!(world.idp.counts(), expected);
}

#[tokio::test]
async fn the_provider_ends_with_its_value() {
    let world = World::start().await;
    let issuer = world.idp.issuer().to_owned();
    let address = issuer.strip_prefix("http://").unwrap().to_owned();
    drop(world);
    for _ in 0..200 {
        // The port can be taken again as soon as nobody listens there any more.
        if tokio::net::TcpListener::bind(&address).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{issuer} is still served");
}

#[test]
fn the_header_of_no_answer_lets_a_cache_keep_it() {
    let answers =
        [answer::json(&json!({})), answer::redirect("http://a"), answer::page(StatusCode::OK, String::new())];
    for answer in answers {
        assert_eq!(answer.headers()[header::CACHE_CONTROL], "no-store");
    }
}
