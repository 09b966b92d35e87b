//! Tokens in the shapes of Cognito, Okta, Entra ID and Auth0, by their public documentation and signed with keys made here, against
//! the presets (`core/src/authorizer/preset.rs` names the sources): the right token passes, an id token does not, nor does another
//! client's or tenant's.

use agent_identity_core::authorizer::preset::{EntraVersion, Made, Preset};
use agent_identity_core::authorizer::{AgentAuthorizers, AgentRules, Authorizer, Refused};
use agent_identity_core::issuer::TokenRefused;
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::{Id, Secret, Timestamp};
use serde_json::{Value, json};

use super::support::{Setting, TestKey, from_now};

/// An agent with one authorizer, made by a preset. Every issuer of these tests has the same key, as Entra ID's tenants do.
struct Agent {
    rules: AgentRules,
    setting: Setting,
}

impl Agent {
    fn of(preset: &Preset, scopes: &[&str]) -> Self {
        let Made { configuration, options } = preset.make(&list(scopes)).unwrap();
        let setting = Setting::with_key(TestKey::new("k1", "RS256"));
        for issuer in ISSUERS {
            setting.origin.publish(issuer, &[setting.key.jwk()]);
        }
        let authorizer = Authorizer {
            name: AuthorizerName::parse("people").unwrap(),
            version: 1,
            subject_claim: options.subject_claim.clone().unwrap_or_else(|| "sub".to_owned()),
            configuration,
            options,
            minting_key: None,
            introspection_secret: None,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        };
        let all =
            AgentAuthorizers { workload: Id::from_bytes([1; 16]), epoch: 1, authorizers: vec![authorizer] };
        Self { rules: AgentRules::new(all, &[]), setting }
    }

    /// The user that a token of this type speaks for, with some of its claims changed, or the code of its refusal.
    async fn ask_as(
        &self,
        typ: Option<&str>,
        claims: &Value,
        changes: Value,
    ) -> Result<String, &'static str> {
        let mut claims = claims.clone();
        for (name, at) in [("iat", 0), ("nbf", 0), ("exp", 3600)] {
            claims[name] = json!(from_now(at));
        }
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        let mut header = json!({"alg": "RS256", "kid": "k1"});
        if let Some(typ) = typ {
            header["typ"] = json!(typ);
        }
        let token = Secret::new(self.setting.key.token_of(header.to_string(), claims.to_string()));
        let judged = self.rules.judge(&*self.setting.verifier, &token).await;
        let explained = self.rules.explain(&*self.setting.verifier, &token).await;
        assert_eq!(judged.is_ok(), explained[0].passes(), "what is explained is what is decided");
        judged.map(|passed| passed.claims.token.subject).map_err(|refused| match refused {
            Refused::Token(TokenRefused::Invalid { code, .. }) => code,
            Refused::Token(unavailable) => panic!("{unavailable}"),
            Refused::Denied(denial) => denial.as_str(),
        })
    }

    async fn ask(&self, claims: &Value, changes: Value) -> Result<String, &'static str> {
        self.ask_as(Some("JWT"), claims, changes).await
    }
}

fn list(items: &[&str]) -> Vec<String> {
    items.iter().map(|it| (*it).to_owned()).collect()
}

fn user(name: &str) -> Result<String, &'static str> {
    Ok(name.to_owned())
}

const POOL: &str = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_AbCdEfGhI";
const OKTA: &str = "https://dev-123.okta.com/oauth2/default";
const ENTRA_V2: &str = "https://login.microsoftonline.com/aaaabbbb-0000-cccc-1111-dddd2222eeee/v2.0";
const ENTRA_V1: &str = "https://sts.windows.net/aaaabbbb-0000-cccc-1111-dddd2222eeee/";
const AUTH0: &str = "https://example.eu.auth0.com/";
const KEYCLOAK: &str = "https://idp.example/realms/x";
const ISSUERS: [&str; 6] = [POOL, OKTA, ENTRA_V2, ENTRA_V1, AUTH0, KEYCLOAK];

#[tokio::test]
async fn d25_a_cognito_access_token_passes_by_its_client_and_an_id_token_does_not() {
    const SUB: &str = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee";
    let preset = Preset::Cognito {
        region: "eu-west-1".to_owned(),
        user_pool: "eu-west-1_AbCdEfGhI".to_owned(),
        clients: list(&["1example23456789"]),
    };
    let agent = Agent::of(&preset, &[]);
    let access = json!({
        "sub": SUB, "device_key": "aaaaaaaa-bbbb", "cognito:groups": ["admin"], "iss": POOL, "version": 2,
        "client_id": "1example23456789", "origin_jti": "o", "event_id": "e", "token_use": "access",
        "scope": "openid profile agents/chat", "auth_time": from_now(-60), "jti": "j", "username": "my-test-user",
    });
    assert_eq!(agent.ask_as(None, &access, json!({})).await, user(SUB));
    assert_eq!(agent.ask(&access, json!({"client_id": "another"})).await, Err("client"));
    assert_eq!(agent.ask(&access, json!({"token_use": null})).await, Err("claim"));
    assert_eq!(agent.ask(&access, json!({"iss": POOL.replace("AbC", "AbD")})).await, Err("issuer"));
    let id = json!({
        "sub": SUB, "cognito:groups": ["admin"], "email_verified": true, "iss": POOL, "cognito:username": "my-test-user",
        "origin_jti": "o", "aud": "1example23456789", "event_id": "e", "token_use": "id", "auth_time": from_now(-60), "jti": "j",
    });
    assert_eq!(agent.ask(&id, json!({})).await, Err("client"));
    assert_eq!(
        agent.ask(&id, json!({"client_id": "1example23456789"})).await,
        Err("claim"),
        "by its use too"
    );
}

#[tokio::test]
async fn an_okta_access_token_passes_by_audience_and_cid_and_its_user_is_the_uid() {
    let preset = |client: Option<&str>| Preset::Okta {
        domain: "dev-123.okta.com".to_owned(),
        authorization_server: "default".to_owned(),
        audiences: list(&["api://default"]),
        client: client.map(str::to_owned),
    };
    let agent = Agent::of(&preset(Some("0oabskvc6442nkvQO0h7")), &["agents.chat"]);
    let access = json!({
        "ver": 1, "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE", "iss": OKTA, "aud": "api://default",
        "sub": "ada@example.com", "cid": "0oabskvc6442nkvQO0h7", "uid": "00uid4BxXw6I6TV4m0g3", "scp": ["openid", "agents.chat"],
        "auth_time": from_now(-60),
    });
    assert_eq!(agent.ask_as(None, &access, json!({})).await, user("00uid4BxXw6I6TV4m0g3"));
    assert_eq!(agent.ask(&access, json!({"cid": "another"})).await, Err("claim"));
    assert_eq!(agent.ask(&access, json!({"cid": null})).await, Err("claim"));
    assert_eq!(agent.ask(&access, json!({"scp": ["openid"]})).await, Err("scope"));
    let org = json!({"iss": "https://dev-123.okta.com", "aud": "https://dev-123.okta.com"});
    assert_eq!(agent.ask(&access, org).await, Err("issuer"));
    assert_eq!(agent.ask(&access, json!({"uid": null})).await, Err("subject"), "a machine's");
    let id = json!({
        "sub": "00uid4BxXw6I6TV4m0g3", "name": "Ada", "email": "ada@example.com", "ver": 1, "iss": OKTA,
        "aud": "0oabskvc6442nkvQO0h7", "jti": "ID.1", "amr": ["pwd"], "idp": "00o1", "auth_time": from_now(-60), "at_hash": "x",
    });
    for agent in [agent, Agent::of(&preset(None), &[])] {
        assert_eq!(agent.ask(&id, json!({})).await, Err("subject"));
        assert_eq!(agent.ask(&id, json!({"uid": "00u"})).await, Err("audience"));
    }
}

const TENANT: &str = "aaaabbbb-0000-cccc-1111-dddd2222eeee";
const OTHER_TENANT: &str = "bbbbcccc-1111-dddd-2222-eeee3333ffff";
const API: &str = "11112222-bbbb-3333-cccc-4444dddd5555";
const FRONT_END: &str = "00001111-aaaa-2222-bbbb-3333cccc4444";
const OBJECT: &str = "00aa00aa-bb11-cc22-dd33-44ee44ee44ee";

fn entra_v2() -> Value {
    json!({
        "aud": API, "iss": ENTRA_V2, "aio": "AXQ", "azp": FRONT_END, "azpacr": "0", "name": "Ada", "oid": OBJECT,
        "preferred_username": "ada@example.com", "rh": "I", "scp": "access_as_user", "sub": "HKZpfaHyWadeOouYlitjrI",
        "tid": TENANT, "uti": "u", "ver": "2.0",
    })
}

fn entra_v1() -> Value {
    json!({
        "aud": format!("api://{API}"), "iss": ENTRA_V1, "acr": "1", "aio": "AXQ", "amr": ["pwd"], "appid": FRONT_END,
        "appidacr": "0", "ipaddr": "192.0.2.1", "name": "Ada", "oid": OBJECT, "rh": "I", "scp": "access_as_user",
        "sub": "l3_roISQU222bULS9yi2k0", "tid": TENANT, "unique_name": "ada@example.com", "upn": "ada@example.com",
        "uti": "u", "ver": "1.0",
    })
}

fn entra(version: EntraVersion, audience: &str, client: Option<&str>) -> Preset {
    Preset::Entra {
        tenant: TENANT.to_owned(),
        version,
        audiences: list(&[audience]),
        client: client.map(str::to_owned),
    }
}

#[tokio::test]
async fn an_entra_v2_token_passes_and_its_user_is_the_object_id() {
    let agent = Agent::of(&entra(EntraVersion::V2, API, Some(FRONT_END)), &[]);
    let access = entra_v2();
    assert_eq!(agent.ask(&access, json!({})).await, user(OBJECT));
    assert_eq!(agent.ask(&access, json!({"azp": OTHER_TENANT})).await, Err("claim"));
    assert_eq!(agent.ask(&access, json!({"aud": FRONT_END})).await, Err("audience"));
    assert_eq!(agent.ask(&entra_v1(), json!({})).await, Err("issuer"), "a v1 token is of another issuer");
    // One app for both: its id token has the audience of the API.
    let id = json!({"azp": null, "azpacr": null, "scp": null, "nonce": "n"});
    assert_eq!(agent.ask(&access, id.clone()).await, Err("claim"));
    let by_scope = Agent::of(&entra(EntraVersion::V2, API, None), &["access_as_user"]);
    assert_eq!(by_scope.ask(&access, json!({})).await, user(OBJECT));
    assert_eq!(by_scope.ask(&access, id).await, Err("scope"));
}

#[tokio::test]
async fn an_entra_v1_token_passes_and_a_v2_token_does_not() {
    let agent = Agent::of(&entra(EntraVersion::V1, &format!("api://{API}"), Some(FRONT_END)), &[]);
    let access = entra_v1();
    assert_eq!(agent.ask(&access, json!({})).await, user(OBJECT));
    assert_eq!(agent.ask(&access, json!({"appid": null, "azp": FRONT_END})).await, Err("claim"));
    assert_eq!(agent.ask(&entra_v2(), json!({})).await, Err("issuer"));
}

/// All tenants sign with the same keys.
#[tokio::test]
async fn a_token_of_another_entra_tenant_does_not_pass_whatever_of_it_is_like_ours() {
    for (version, access) in [(EntraVersion::V2, entra_v2()), (EntraVersion::V1, entra_v1())] {
        let audience = access["aud"].as_str().unwrap();
        let issuer = access["iss"].as_str().unwrap().replace(TENANT, OTHER_TENANT);
        let agent = Agent::of(&entra(version, audience, Some(FRONT_END)), &[]);
        agent.setting.origin.publish(&issuer, &[agent.setting.key.jwk()]);
        assert_eq!(agent.ask(&access, json!({"iss": issuer, "tid": OTHER_TENANT})).await, Err("issuer"));
        assert_eq!(agent.ask(&access, json!({"iss": issuer})).await, Err("issuer"));
        assert_eq!(agent.ask(&access, json!({"tid": OTHER_TENANT})).await, Err("claim"));
        assert_eq!(agent.ask(&access, json!({"tid": null})).await, Err("claim"));
        assert_eq!(agent.ask(&access, json!({"oid": null})).await, Err("subject"));
    }
}

#[tokio::test]
async fn an_auth0_access_token_passes_with_the_slash_of_its_issuer_and_an_id_token_does_not() {
    let preset = Preset::Auth0 {
        domain: "example.eu.auth0.com".to_owned(),
        audiences: list(&["https://agents.example.com"]),
        clients: list(&["my_client_id"]),
    };
    let agent = Agent::of(&preset, &[]);
    let access = json!({
        "iss": AUTH0, "sub": "auth0|123456", "aud": ["https://agents.example.com", "https://example.eu.auth0.com/userinfo"],
        "azp": "my_client_id", "scope": "openid profile chat",
    });
    assert_eq!(agent.ask(&access, json!({})).await, user("auth0|123456"));
    let rfc_9068 = json!({"azp": null, "client_id": "my_client_id", "jti": "j"});
    assert_eq!(agent.ask_as(Some("at+jwt"), &access, rfc_9068).await, user("auth0|123456"));
    assert_eq!(agent.ask(&access, json!({"azp": "another"})).await, Err("client"));
    let id = json!({"iss": AUTH0, "sub": "auth0|123456", "aud": "my_client_id", "nonce": "n", "email": "ada@example.com"});
    assert_eq!(agent.ask(&id, json!({})).await, Err("audience"));
}

#[tokio::test]
async fn by_its_client_alone_no_id_token_passes_anywhere() {
    let preset = |audiences: &[&str]| Preset::Oidc {
        issuer: KEYCLOAK.to_owned(),
        audiences: list(audiences),
        clients: list(&["front-end"]),
    };
    let id = json!({"iss": KEYCLOAK, "sub": "ada", "aud": "front-end", "azp": "front-end", "typ": "ID"});
    let agent = Agent::of(&preset(&[]), &[]);
    assert_eq!(agent.ask(&id, json!({})).await, Err("client"));
    assert_eq!(agent.ask(&id, json!({"client_id": "front-end", "aud": "account"})).await, user("ada"));
    let agent = Agent::of(&preset(&["agents"]), &[]);
    assert_eq!(agent.ask(&id, json!({})).await, Err("audience"));
    assert_eq!(agent.ask(&id, json!({"aud": "agents"})).await, user("ada"), "an access token of Keycloak");
}

#[test]
fn a_preset_refuses_what_cannot_be_and_says_why() {
    let refused = |preset: Preset| preset.make(&[]).unwrap_err();
    let cognito = |region: &str, pool: &str, clients: &[&str]| Preset::Cognito {
        region: region.to_owned(),
        user_pool: pool.to_owned(),
        clients: list(clients),
    };
    assert!(refused(cognito("us-east-1", "eu-west-1_A", &["c"])).contains("begins with its region"));
    assert!(refused(cognito("eu-west-1", "eu-west-1_A", &[])).contains("--client is needed"));
    assert!(refused(cognito("eu/west", "eu/west_A", &["c"])).contains("region"));
    for tenant in ["common", "example.onmicrosoft.com", &TENANT.to_uppercase()] {
        let preset = Preset::Entra {
            tenant: tenant.to_owned(),
            version: EntraVersion::V2,
            audiences: list(&[API]),
            client: Some(FRONT_END.to_owned()),
        };
        assert!(refused(preset).contains("no tenant id"), "{tenant}");
    }
    assert!(refused(entra(EntraVersion::V2, API, None)).contains("--client or --scope"));
    assert!(refused(entra(EntraVersion::V2, "", Some(FRONT_END))).contains("--audience"));
    let auth0 = |domain: &str, audiences: &[&str]| Preset::Auth0 {
        domain: domain.to_owned(),
        audiences: list(audiences),
        clients: Vec::new(),
    };
    assert!(refused(auth0("https://example.auth0.com", &["a"])).contains("without https://"));
    assert!(refused(auth0("example.auth0.com", &[])).contains("--audience"));
    let oidc = |issuer: &str, audiences: &[&str]| Preset::Oidc {
        issuer: issuer.to_owned(),
        audiences: list(audiences),
        clients: Vec::new(),
    };
    assert!(refused(oidc("https://idp.example", &[])).contains("not enough"));
    assert!(refused(oidc("idp.example", &["a"])).contains("no issuer's URL"));
    for issuer in ["https://idp.example/t/", "https://idp.example/.well-known/oauth-authorization-server/t"] {
        let made = oidc(issuer, &["a"]).make(&[]).unwrap();
        assert_eq!(made.configuration.discovery_url.issuer(), "https://idp.example/t");
    }
}
