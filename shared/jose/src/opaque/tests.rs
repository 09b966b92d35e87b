//! An issuer that answers whatever a test wants, and counts who asks.

mod answers;
mod asked;
mod judged;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use agent_identity_core::authorizer::{Authorizer, IntrospectionSecret, KeyOwner, KeyPurpose};
use agent_identity_core::encoding::base64url;
use agent_identity_core::http::{HttpClient, HttpError, HttpRequest, HttpResponse};
use agent_identity_core::issuer::{TokenRefused, VerifiedClaims};
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::seal::{AuthorizerKeys, Key32, KeyWrapper, SealError};
use agent_identity_core::workload::Workload;
use agent_identity_core::{Clock as _, Id, Secret, Timestamp};
use agent_identity_testkit::{FixedClock, SeededRandom};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::Introspector;
use crate::RootedAuthorizerKeys;

const ISSUER: &str = "https://idp.example";
const TOKEN: &str = "an-opaque.token~of+the/user==";
const CLIENT_SECRET: &str = "the secret of the client";
const WORKLOAD: Id<Workload> = Id::from_bytes([7; 16]);

/// What stands behind the HTTP port: one introspection endpoint.
#[derive(Default)]
struct Endpoint {
    /// By the token as it is in the body; any other token is not active.
    answers: Mutex<HashMap<String, (u16, Vec<u8>)>>,
    bodies: Mutex<Vec<String>>,
    is_down: AtomicBool,
    /// Answers wait while a test holds this for writing.
    gate: tokio::sync::RwLock<()>,
}

impl Endpoint {
    fn says(&self, token: &str, status: u16, body: impl Into<Vec<u8>>) {
        let token = token.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D").replace('~', "%7E");
        self.answers.lock().unwrap().insert(token, (status, body.into()));
    }

    /// How often it was asked since the last time this was called.
    fn take_asked(&self) -> usize {
        std::mem::take(&mut *self.bodies.lock().unwrap()).len()
    }
}

#[async_trait]
impl HttpClient for Endpoint {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.url.contains("/.well-known/") {
            return Ok(HttpResponse { status: 404, headers: Vec::new(), body: Vec::new() });
        }
        assert!(
            request
                .headers
                .iter()
                .any(|(name, value)| *name == "authorization" && value.expose().starts_with("Basic ")),
            "as the client"
        );
        let body = request.body.as_ref().unwrap().expose().to_owned();
        self.bodies.lock().unwrap().push(body.clone());
        assert_eq!(request.url, format!("{ISSUER}/introspect"), "nobody else is asked");
        let _open = self.gate.read().await;
        tokio::task::yield_now().await;
        if self.is_down.load(Ordering::SeqCst) {
            let target = "idp.example:443".to_owned();
            return Err(HttpError::NotSent { target, reason: "connection refused".to_owned() });
        }
        let token =
            body.strip_prefix("token=").and_then(|it| it.strip_suffix("&token_type_hint=access_token"));
        let answer = self.answers.lock().unwrap().get(token.unwrap()).cloned();
        let (status, body) = answer.unwrap_or_else(|| (200, b"{\"active\":false}".to_vec()));
        Ok(HttpResponse { status, headers: Vec::new(), body })
    }
}

/// A root key that keeps to its contexts.
struct Root;

#[async_trait]
impl KeyWrapper for Root {
    async fn wrap(&self, key: &Key32, context: &[(&str, &str)]) -> Result<Vec<u8>, SealError> {
        Ok([key.expose().as_slice(), format!("{context:?}").as_bytes()].concat())
    }

    async fn unwrap_key(&self, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Key32, SealError> {
        let (key, rest) = wrapped.split_first_chunk().ok_or(SealError::Broken)?;
        if rest == format!("{context:?}").as_bytes() { Ok(Key32::new(*key)) } else { Err(SealError::Broken) }
    }
}

/// An issuer, an authorizer that asks it, and a process.
struct World {
    clock: Arc<FixedClock>,
    endpoint: Arc<Endpoint>,
    keys: Arc<RootedAuthorizerKeys>,
    introspector: Arc<Introspector>,
    authorizer: Authorizer,
}

impl World {
    async fn new() -> Self {
        Self::with(json!({"allowedClients": ["front-end"]}), json!({})).await
    }

    async fn with(rules: Value, options: Value) -> Self {
        let (clock, endpoint) = (Arc::new(FixedClock::default()), Arc::new(Endpoint::default()));
        let keys = Arc::new(RootedAuthorizerKeys::new(
            Arc::new(Root),
            clock.clone(),
            Arc::new(SeededRandom::new(3)),
        ));
        let introspector = Arc::new(Introspector::new(endpoint.clone(), clock.clone(), keys.clone()));
        let authorizer = authorizer(&*keys, rules, options).await;
        let world = Self { clock, endpoint, keys, introspector, authorizer };
        world.endpoint.says(TOKEN, 200, world.active(&json!({})).to_string());
        world
    }

    /// What the issuer says of an active token, with some members changed; `null` removes one.
    fn active(&self, changes: &Value) -> Value {
        let now = self.clock.now().as_seconds();
        let mut answer = json!({
            "active": true, "token_type": "Bearer", "iss": ISSUER, "sub": "ada", "client_id": "front-end",
            "scope": "chat.write profile", "aud": "agents", "iat": now, "exp": now + 600,
        });
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(answer.as_object_mut().unwrap().remove(name)),
                value => answer[name] = value.clone(),
            }
        }
        answer
    }

    async fn ask(&self, token: &str) -> Result<VerifiedClaims, TokenRefused> {
        let profile = self.authorizer.profile();
        self.introspector.introspect(&Secret::new(token), WORKLOAD, &self.authorizer, &profile).await
    }

    /// The user of the token, or the code of its refusal. Holds that no refusal repeats anything of the token or the secret.
    async fn user_of(&self, token: &str) -> Result<String, &'static str> {
        self.ask(token).await.map(|claims| claims.token.subject).map_err(|refusal| {
            let shown = format!("{refusal} {refusal:?}");
            assert!(!shown.contains(token) && !shown.contains(CLIENT_SECRET), "{shown}");
            code(&refusal)
        })
    }

    /// The same, of a fresh token of which the issuer says exactly this.
    async fn said(&self, status: u16, body: impl Into<Vec<u8>>) -> Result<String, &'static str> {
        let token = format!("token-{}", self.endpoint.answers.lock().unwrap().len());
        self.endpoint.says(&token, status, body);
        self.user_of(&token).await
    }

    async fn said_with(&self, changes: Value) -> Result<String, &'static str> {
        self.said(200, self.active(&changes).to_string()).await
    }
}

fn code(refusal: &TokenRefused) -> &'static str {
    match refusal {
        TokenRefused::Invalid { code, .. } => code,
        TokenRefused::IssuerUnavailable(_) => "unavailable",
        TokenRefused::KeysUnavailable(_) => "keys",
    }
}

async fn authorizer(keys: &dyn AuthorizerKeys, mut rules: Value, mut options: Value) -> Authorizer {
    rules["discoveryUrl"] = json!(format!("{ISSUER}/.well-known/openid-configuration"));
    options["introspection"] = json!({"endpoint": format!("{ISSUER}/introspect"), "clientId": "agents"});
    let mut made = Authorizer {
        name: AuthorizerName::parse("people").unwrap(),
        version: 1,
        subject_claim: "sub".to_owned(),
        configuration: serde_json::from_value(rules).unwrap(),
        options: serde_json::from_value(options).unwrap(),
        minting_key: None,
        introspection_secret: None,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    };
    seal_secret(keys, &mut made).await;
    made
}

/// As PutAuthorizer does.
async fn seal_secret(keys: &dyn AuthorizerKeys, authorizer: &mut Authorizer) {
    let owner = KeyOwner { workload: WORKLOAD, purpose: KeyPurpose::Introspection };
    let key = keys.create(owner).await.unwrap();
    let context = authorizer.options.introspection.as_ref().unwrap().context(&authorizer.name);
    let sealed = keys.seal(owner, &key, &context, CLIENT_SECRET.as_bytes()).await.unwrap();
    authorizer.introspection_secret = Some(IntrospectionSecret { key, sealed: base64url(sealed) });
}
