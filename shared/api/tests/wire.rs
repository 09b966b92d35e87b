//! What goes over the wire, byte for byte, and what happens to bytes that are none of ours. No signature here: who asks is
//! given; signatures have vectors of their own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_identity_api::sigv4::SignedRequest;
use agent_identity_api::{
    All, Api, Authenticate, CancellationToken, Failure, GatewayCaller, Hosts, TaskTracker, router,
};
use agent_identity_core::grant::{Grant, Principal};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::Request;
use proptest::prelude::*;
use serde_json::Value;
use world::World;

struct Everybody;

#[async_trait]
impl Authenticate for Everybody {
    async fn admit(&self, _: &SignedRequest<'_>, _: Option<&GatewayCaller>) -> Result<(), Failure> {
        Ok(())
    }

    async fn authenticate(
        &self,
        _: &SignedRequest<'_>,
        _: Option<&GatewayCaller>,
    ) -> Result<Principal, Failure> {
        Ok(Principal { name: "access-key/test".to_owned(), grants: vec![Grant::everything()] })
    }
}

fn app() -> Router {
    app_at("https://identity.example")
}

fn app_at(public_base_url: &str) -> Router {
    let services = World::new(public_base_url, Duration::ZERO).services;
    let api = Api {
        services,
        authenticate: Arc::new(Everybody),
        hosts: Hosts::Any,
        work: TaskTracker::new(),
        stopping: CancellationToken::new(),
    };
    router::<All>(api, Router::new())
}

async fn send(app: &Router, method: &str, path: &str, body: impl Into<Body>) -> (u16, String, String) {
    world::send(app, Request::builder().method(method).uri(path).body(body.into()).unwrap()).await
}

const STORY: &[(&str, &str)] = &[
    (
        "CreateWorkloadIdentity",
        r#"{"name":"agent","allowedResourceOauth2ReturnUrls":["https://app.example/cb"],"tags":{"team":"a b"}}"#,
    ),
    ("CreateWorkloadIdentity", r#"{"name":"agent"}"#),
    ("GetWorkloadIdentity", r#"{"name":"agent"}"#),
    ("UpdateWorkloadIdentity", r#"{"name":"agent","allowedResourceOauth2ReturnUrls":[]}"#),
    ("ListWorkloadIdentities", "{}"),
    ("CreateApiKeyCredentialProvider", r#"{"name":"weather","apiKey":"k"}"#),
    ("GetApiKeyCredentialProvider", r#"{"name":"weather"}"#),
    (
        "UpdateApiKeyCredentialProvider",
        r#"{"name":"weather","apiKeySecretSource":"EXTERNAL","apiKeySecretConfig":{"secretId":"mine","jsonKey":"key"}}"#,
    ),
    ("ListApiKeyCredentialProviders", r#"{"maxResults":1}"#),
    (
        "CreateOauth2CredentialProvider",
        r#"{"name":"gh","credentialProviderVendor":"GithubOauth2","oauth2ProviderConfigInput":{"githubOauth2ProviderConfig":{"clientId":"id","clientSecret":"s"}}}"#,
    ),
    (
        "CreateOauth2CredentialProvider",
        r#"{"name":"idp","credentialProviderVendor":"CustomOauth2","oauth2ProviderConfigInput":{"customOauth2ProviderConfig":{"oauthDiscovery":{"discoveryUrl":"https://idp.example/.well-known/openid-configuration"},"clientId":"id","clientAuthenticationMethod":"CLIENT_SECRET_POST"}}}"#,
    ),
    ("GetOauth2CredentialProvider", r#"{"name":"gh"}"#),
    ("ListOauth2CredentialProviders", r#"{"maxResults":20}"#),
    (
        "CreateOauth2CredentialProvider",
        r#"{"name":"x y","credentialProviderVendor":"GoogleOauth2","oauth2ProviderConfigInput":{"GoogleOauth2ProviderConfigInput":{"clientId":""}}}"#,
    ),
    (
        "PutAuthorizer",
        r#"{"agentId":"agent","name":"people","authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":"https://idp.example/.well-known/openid-configuration","allowedAudience":["agents"],"allowedClients":["front-end"],"allowedScopes":["chat.write"]}},"options":{"leewaySeconds":5,"requiredTyp":"at+jwt","azpAsClient":true,"algorithms":["ES256"],"maxTokenAgeSeconds":600}}"#,
    ),
    (
        "PutAuthorizer",
        r#"{"agentId":"agent","name":"people","authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":"https://idp.example/.well-known/openid-configuration","allowedAudience":["agents"]}}}"#,
    ),
    (
        "PutAuthorizer",
        r#"{"agentId":"a","name":"a b","authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":"https://idp.example","allowedAudience":[],"customClaims":[],"allowedAudiences":["x"],"allowedScopes":["a b"]}},"options":{"introspection":{},"leewaySeconds":301,"algorithms":["HS256"],"strict":true}}"#,
    ),
    (
        "PutAuthorizer",
        r#"{"agentId":"agent","name":"loose","authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":"https://idp.example/.well-known/openid-configuration"}}}"#,
    ),
    (
        "PutAuthorizer",
        r#"{"agentId":"nobody","name":"people","authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":"https://idp.example/.well-known/openid-configuration","allowedAudience":["agents"]}}}"#,
    ),
    ("GetAuthorizer", r#"{"agentId":"agent","name":"people"}"#),
    ("GetAuthorizer", r#"{"agentId":"agent","name":"nobody"}"#),
    ("ListAuthorizers", r#"{"agentId":"agent"}"#),
    ("ListAuthorizers", r#"{"agentId":"nobody","maxResults":1}"#),
    (
        "PutAuthorizer",
        r#"{"agentId":"agent","name":"claims","authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":"https://idp.example/.well-known/oauth-authorization-server/t","allowedScopes":["chat"],"customClaims":[{"inboundTokenClaimName":"roles","inboundTokenClaimValueType":"STRING_ARRAY","authorizingClaimMatchValue":{"claimMatchValue":{"matchValueStringList":["a","b"]},"claimMatchOperator":"CONTAINS_ANY"}}],"advertisedScopeMapping":{"chat":"api://x/chat"},"allowedWorkloadConfiguration":{"hostingEnvironments":[{"arn":"arn:aws:bedrock-agentcore:us-east-1:1:gateway/g"}],"workloadIdentities":["gateway"]}}},"options":{"subjectClaim":"oid"}}"#,
    ),
    ("GetAuthorizer", r#"{"agentId":"agent","name":"claims"}"#),
    (
        "PutAuthorizer",
        r#"{"agentId":"agent","name":"claims","authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":"https://idp.example/t/.well-known/openid-configuration","allowedScopes":["chat"],"privateEndpoint":{},"customClaims":[{"inboundTokenClaimName":"a b","inboundTokenClaimValueType":"NUMBER","authorizingClaimMatchValue":{}},{"inboundTokenClaimName":"a","inboundTokenClaimValueType":"STRING","authorizingClaimMatchValue":{"claimMatchValue":{"matchValueStringList":["a"]},"claimMatchOperator":"CONTAINS_ANY"}},{"inboundTokenClaimName":"a","inboundTokenClaimValueType":"STRING_ARRAY","authorizingClaimMatchValue":{"claimMatchValue":{"matchValueString":"a"},"claimMatchOperator":"CONTAINS_ANY"}}],"advertisedScopeMapping":{"other":"x"},"allowedWorkloadConfiguration":{"workloadIdentities":["x"]}}},"options":{"subjectClaim":"a b"}}"#,
    ),
    (
        "PutAuthorizer",
        r#"{"agentId":"agent","name":"claims","authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":"https://idp.example/t/.well-known/openid-configuration","allowedScopes":["chat"]}},"options":{"subjectClaim":"sub"}}"#,
    ),
    // No root key for authorizers here.
    (
        "PutAuthorizer",
        r#"{"agentId":"agent","name":"claims","authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":"https://idp.example/t/.well-known/openid-configuration","allowedScopes":["chat"]}},"options":{"issueWorkloadAccessToken":true}}"#,
    ),
    (
        "PutAuthorizer",
        r#"{"agentId":"agent","name":"claims","authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":"https://idp.example/t/.well-known/openid-configuration","allowedScopes":["chat"]}},"options":{"introspection":{"endpoint":"https://idp.example/t/introspect","clientId":"agents","clientSecret":"never shown"}}}"#,
    ),
    ("DeleteAuthorizer", r#"{"agentId":"agent","name":"claims"}"#),
    ("GetWorkloadAccessTokenForJWT", r#"{"workloadName":"agent","userToken":"a.b.c"}"#),
    ("DeleteAuthorizer", r#"{"agentId":"agent","name":"people"}"#),
    ("DeleteAuthorizer", r#"{"agentId":"agent","name":"people"}"#),
    ("GetWorkloadAccessToken", r#"{"workloadName":"nobody"}"#),
    (
        "oauth2/token",
        r#"{"workloadIdentityToken":"x","resourceCredentialProviderName":"gh","scopes":["a"],"oauth2Flow":"M2M"}"#,
    ),
    ("oauth2/token", r#"{"scopes":"a","oauth2Flow":"m2m","sessionUri":"urn:x","forceAuthentication":"yes"}"#),
    ("api-key", "[]"),
    ("api-key", "{"),
    (
        "CompleteResourceTokenAuth",
        r#"{"sessionUri":"urn:ietf:params:oauth:request_uri:a","userIdentifier":{"userId":"u","userToken":"a.b.c"}}"#,
    ),
    (
        "CompleteResourceTokenAuth",
        r#"{"sessionUri":"urn:ietf:params:oauth:request_uri:a","userIdentifier":{"userId":"u"}}"#,
    ),
    ("BlockUser", r#"{"agentId":"agent","issuer":"https://idp.example","subject":"ada"}"#),
    ("SignOutUser", r#"{"userId":"ada"}"#),
    ("UnblockUser", r#"{"agentId":"agent","issuer":"https://idp.example/","subject":"ada"}"#),
    ("GetWorkloadAccessTokenForUserId", r#"{"workloadName":"agent","userId":"ada"}"#),
    ("BlockUser", r#"{"userId":"bob"}"#),
    ("GetWorkloadAccessTokenForUserId", r#"{"workloadName":"agent","userId":"bob"}"#),
    ("BlockUser", r#"{"agentId":"nobody","userId":"ada"}"#),
    ("SignOutUser", r#"{"agentId":"x","issuer":"https://idp.example"}"#),
    ("ListConnections", r#"{"userId":"ada","workloadName":"agent"}"#),
    ("ListConnections", "{}"),
    (
        "ListConnections",
        r#"{"userId":"ada","issuer":"https://idp.example","maxResults":101,"providerName":"a b"}"#,
    ),
    (
        "GetConnection",
        r#"{"connectionId":"00000000000000000000000000000000.0000000000000000000000000000000000000000000000000000000000000000.00000000000000000000000000000000.default"}"#,
    ),
    ("GetConnection", r#"{"connectionId":"x"}"#),
    (
        "DeleteConnection",
        r#"{"connectionId":"00000000000000000000000000000000.0000000000000000000000000000000000000000000000000000000000000000.00000000000000000000000000000000.default"}"#,
    ),
    ("DeleteConnection", "{}"),
    (
        "RetryConnection",
        r#"{"connectionId":"00000000000000000000000000000000.0000000000000000000000000000000000000000000000000000000000000000.00000000000000000000000000000000.default"}"#,
    ),
    ("OffboardUser", r#"{"userId":"ada"}"#),
    ("OffboardUser", r#"{"issuer":"https://idp.example"}"#),
    ("UnblockUser", r#"{"issuer":"https://idp.example","subject":"ada","userId":"ada"}"#),
    ("UnblockUser", "{}"),
    ("DeleteOauth2CredentialProvider", r#"{"name":"gh"}"#),
    ("DeleteApiKeyCredentialProvider", r#"{"name":"weather"}"#),
    ("DeleteWorkloadIdentity", r#"{"name":"agent"}"#),
    ("DeleteWorkloadIdentity", r#"{"name":"agent"}"#),
    ("CreatePaymentCredentialProvider", "{}"),
];

/// The story's requests and answers, with every header. `UPDATE_WIRE=1` writes it anew: read the difference before you
/// commit it.
#[tokio::test]
async fn the_wire_is_byte_for_byte_what_it_was() {
    let app = app();
    let mut told = String::new();
    for (operation, body) in STORY {
        let (status, headers, answer) = send(&app, "POST", &format!("/identities/{operation}"), *body).await;
        told += &format!("> POST /identities/{operation}\n> {body}\n< {status}\n");
        for header in headers.lines() {
            told += &format!("< {header}\n");
        }
        told += &format!("< {}\n\n", in_order(&answer));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire.txt");
    if std::env::var_os("UPDATE_WIRE").is_some() {
        std::fs::write(path, &told).unwrap();
    }
    let expected = std::fs::read_to_string(path).unwrap();
    assert!(told == expected, "the wire changed:\n{}", difference(&expected, &told));
}

/// JSON with the members of each object in the order of their names: their order says nothing, and depends on what else
/// is built beside this crate (`preserve_order` of serde_json).
fn in_order(answer: &str) -> String {
    fn ordered(value: Value) -> Value {
        match value {
            Value::Object(members) => {
                let sorted: BTreeMap<_, _> =
                    members.into_iter().map(|(name, value)| (name, ordered(value))).collect();
                Value::Object(sorted.into_iter().collect())
            }
            Value::Array(items) => {
                let mut items: Vec<_> = items.into_iter().map(ordered).collect();
                // What is wrong is told in the order of the request's members.
                if items.iter().all(|item| item.get("message").is_some()) {
                    items.sort_by_key(|item| item["name"].to_string());
                }
                Value::Array(items)
            }
            other => other,
        }
    }
    serde_json::from_str(answer).map_or_else(|_| answer.to_owned(), |value| ordered(value).to_string())
}

fn difference(expected: &str, told: &str) -> String {
    let pairs = expected.lines().zip(told.lines());
    pairs.filter(|(a, b)| a != b).map(|(a, b)| format!("- {a}\n+ {b}\n")).take(10).collect()
}

#[tokio::test]
async fn d12_on_https_the_cookie_is_the_hosts_alone_and_on_loopback_it_is_not_secure() {
    for (base, name, secure) in [
        ("https://identity.example", "__Host-agent-identity-consent", true),
        ("http://127.0.0.1:7420", "agent-identity-consent", false),
    ] {
        let app = app_at(base);
        let post = |path: &'static str, body: String| {
            let app = app.clone();
            async move { send(&app, "POST", path, body).await }
        };
        post(
            "/identities/CreateWorkloadIdentity",
            r#"{"name":"agent","allowedResourceOauth2ReturnUrls":["https://app.example/cb"]}"#.to_owned(),
        )
        .await;
        post("/identities/CreateOauth2CredentialProvider", r#"{"name":"gh","credentialProviderVendor":"GithubOauth2","oauth2ProviderConfigInput":{"githubOauth2ProviderConfig":{"clientId":"id","clientSecret":"s"}}}"#.to_owned()).await;
        let (_, _, wat) = post(
            "/identities/GetWorkloadAccessTokenForUserId",
            r#"{"workloadName":"agent","userId":"ada"}"#.to_owned(),
        )
        .await;
        let wat: serde_json::Value = serde_json::from_str(&wat).unwrap();
        let wanted = serde_json::json!({
            "workloadIdentityToken": wat["workloadAccessToken"], "resourceCredentialProviderName": "gh", "scopes": ["repo"],
            "oauth2Flow": "USER_FEDERATION", "resourceOauth2ReturnUrl": "https://app.example/cb",
        });
        let (_, _, answer) = post("/identities/oauth2/token", wanted.to_string()).await;
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        let form = format!("request_uri={}", answer["sessionUri"].as_str().unwrap());
        let (status, headers, _) = post("/identities/oauth2/authorize", form).await;
        assert_eq!(status, 303, "{headers}");
        let cookie = headers.lines().find(|line| line.starts_with("set-cookie: ")).unwrap();
        assert!(cookie.starts_with(&format!("set-cookie: {name}=")), "{cookie}");
        assert!(
            cookie.contains("; Path=/; HttpOnly; SameSite=Lax; Max-Age=600") && !cookie.contains("Domain")
        );
        assert_eq!(cookie.ends_with("; Secure"), secure, "{cookie}");
        assert!(headers.contains("location: https://github.com/login/oauth/authorize?"));
    }
}

fn json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|value| value.to_string()),
        any::<f64>()
            .prop_filter("JSON has no NaN", |value| value.is_finite())
            .prop_map(|value| value.to_string()),
        "\\PC{0,20}".prop_map(|text| serde_json::Value::String(text).to_string()),
        Just("\"GoogleOauth2\"".to_owned()),
        Just("\"agent\"".to_owned()),
    ];
    let name = prop_oneof![
        Just("name"),
        Just("workloadName"),
        Just("credentialProviderVendor"),
        Just("oauth2ProviderConfigInput"),
        Just("customOauth2ProviderConfig"),
        Just("googleOauth2ProviderConfig"),
        Just("oauthDiscovery"),
        Just("clientId"),
        Just("tags"),
        Just("maxResults"),
        Just("nextToken"),
        Just("scopes"),
        Just("userIdentifier"),
        Just("sessionUri"),
        Just("agentId"),
        Just("authorizerConfiguration"),
        Just("customJWTAuthorizer"),
        Just("allowedAudience"),
        Just("options"),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            proptest::collection::vec((name.clone(), inner), 0..6).prop_map(|members| {
                let members: Vec<String> =
                    members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_json_comes_the_answer_is_never_a_5xx(body in json()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let app = app();
            for (operation, _) in STORY {
                let (status, headers, answer) = send(&app, "POST", &format!("/identities/{operation}"), body.clone()).await;
                assert!(status < 500, "{operation} {body}: {status} {answer}");
                if status == 400 {
                    assert!(headers.contains("x-amzn-errortype: ValidationException") && answer.contains("\"fieldList\":[{"));
                }
            }
        });
    }

    #[test]
    fn whatever_bytes_come_to_a_browsers_endpoint_the_answer_is_never_a_5xx(bytes: Vec<u8>, path in "[a-zA-Z0-9%?&=/.:_-]{0,60}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let app = app();
            for (method, start) in [
                ("GET", "/identities/oauth2/authorize?request_uri="), ("POST", "/identities/oauth2/authorize?"),
                ("GET", "/identities/oauth2/callback/"), ("GET", "/identities/oauth2/return?session_id="), ("GET", "/"),
            ] {
                let uri = format!("{start}{path}");
                if uri.parse::<http::Uri>().is_ok() {
                    let (status, ..) = send(&app, method, &uri, bytes.clone()).await;
                    assert!(status < 500, "{method} {uri}: {status}");
                }
            }
        });
    }
}
