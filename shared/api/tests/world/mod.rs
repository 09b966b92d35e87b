//! The use cases over ports in memory, behind the router.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a test's world stops at the first surprise")]

use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::Secret;
use agent_identity_core::arn::Place;
use agent_identity_core::http::{HttpClient, HttpError, HttpRequest, HttpResponse};
use agent_identity_core::issuer::{
    IssuerPolicy, TokenProfile, TokenRefused, TokenVerifier, VerifiedClaims, VerifiedToken,
};
use agent_identity_core::port::{Event, Events};
use agent_identity_service::{Config, Ports, Services};
use agent_identity_testkit::{
    FixedClock, MemorySecrets, MemoryStore, NoSigningKeys, SeededRandom, Sha256, TestSealer,
};
use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use http::Request;
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

struct Nowhere;

#[async_trait]
impl HttpClient for Nowhere {
    async fn send(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        Err(HttpError::NotSent { target: "nowhere".to_owned(), reason: "test".to_owned() })
    }
}

#[async_trait]
impl TokenVerifier for Nowhere {
    async fn verify(&self, _: &Secret, _: &IssuerPolicy) -> Result<VerifiedToken, TokenRefused> {
        Err(TokenRefused::Invalid { code: "test", reason: "it is a test's".to_owned() })
    }

    async fn verify_claims(&self, _: &Secret, _: &[TokenProfile]) -> Result<VerifiedClaims, TokenRefused> {
        Err(TokenRefused::Invalid { code: "test", reason: "it is a test's".to_owned() })
    }
}

impl Events for Nowhere {
    fn emit(&self, _: Event) {}
}

/// The use cases of one process, with its store and its clock.
pub struct World {
    pub services: Arc<Services>,
    pub store: Arc<MemoryStore>,
    pub clock: Arc<FixedClock>,
}

impl World {
    pub fn new(public_base_url: &str, record_cache: Duration) -> Self {
        let clock = Arc::new(FixedClock::default());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let ports = Ports {
            store: store.clone(),
            secrets: Arc::new(MemorySecrets::default()),
            signing_keys: Arc::new(NoSigningKeys),
            sealer: Arc::new(TestSealer),
            authorizer_keys: None,
            verifier: Arc::new(Nowhere),
            http: Arc::new(Nowhere),
            clock: clock.clone(),
            random: Arc::new(SeededRandom::new(7)),
            digest: Arc::new(Sha256),
            events: Arc::new(Nowhere),
            trail: None,
        };
        let config = Config {
            place: Place { region: "us-east-1".to_owned(), account: "000000000000".to_owned() },
            public_base_url: public_base_url.to_owned(),
            issuers: IssuerPolicy::Trusted(Vec::new()),
            built_in_return_page: false,
            record_cache,
            secret_cache: Duration::ZERO,
        };
        Self { services: Arc::new(Services::new(ports, config)), store, clock }
    }
}

/// Sends one request: the status, the headers in order, the body.
pub async fn send(app: &Router, request: Request<Body>) -> (u16, String, String) {
    let response = app.clone().oneshot(request).await.unwrap();
    let status = response.status().as_u16();
    let mut headers: Vec<String> = response
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    headers.sort();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, headers.join("\n"), String::from_utf8(body.to_vec()).unwrap())
}
