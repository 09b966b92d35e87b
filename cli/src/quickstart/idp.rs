//! A small but real OpenID provider for the quickstart: what a company's own identity provider would be.
//!
//! OpenID Connect Core's code flow with PKCE, rotating refresh tokens with reuse detection, and client credentials; ES256
//! tokens under a key that is made at the start. What is *not* here: storage, more than one user, and any way to reach it
//! but from this machine.
//!
//! A browser meets two forms: `POST /login` with `interaction`, `username`, `password`, and `POST /consent` with
//! `interaction` and `decision=allow|deny`; both need the cookie that the authorization endpoint set.

mod authorize;
mod client;
mod grants;
mod interaction;
mod keys;
mod pages;
mod parameters;
mod token;

#[cfg(test)]
pub(super) mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_identity_core::random::{Random, handle};
use agent_identity_core::{Clock, Secret, Timestamp};
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::json;

pub(super) use client::{Client, GrantType};
pub(super) use keys::{AccessTokenClaims, TokenVerifier};
pub(super) use token::Counts;

use super::answer;
use super::listener::{Bound, Listener};
use grants::Grants;
use interaction::Interactions;
use keys::SigningKey;

/// The one user who can sign in.
const USER_NAME: &str = "ada";
const USER_FULL_NAME: &str = "Ada Lovelace";

/// What can be asked for besides the scopes of an API.
const OWN_SCOPES: [Scope; 3] = [
    Scope { name: "openid", meaning: "know who you are" },
    Scope { name: "profile", meaning: "see your name" },
    Scope { name: "offline_access", meaning: "act for you while you are away" },
];

/// A scope, and what the user is told about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// The name on the wire.
    pub name: &'static str,
    /// Completes "it may …".
    pub meaning: &'static str,
}

/// How a provider behaves.
pub(super) struct Config {
    /// Where its time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where its handles come from.
    pub random: Arc<dyn Random>,
    /// The scopes of the API that its access tokens are for.
    pub scopes: Vec<Scope>,
    /// The `aud` of its access tokens.
    pub audience: String,
    /// How long an access token lives.
    pub access_token_seconds: u32,
    /// How long an id token lives.
    pub id_token_seconds: u32,
}

/// A running provider. It ends when this is dropped.
pub(super) struct IdentityProvider {
    inner: Arc<Inner>,
    _listener: Listener,
}

/// What the endpoints share.
struct Inner {
    config: Config,
    issuer: String,
    key: SigningKey,
    password: Secret,
    state: Mutex<ProviderState>,
}

/// What changes while it runs.
#[derive(Default)]
struct ProviderState {
    clients: Vec<Client>,
    interactions: Interactions,
    grants: Grants,
    counts: Counts,
}

impl IdentityProvider {
    /// Starts a provider on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port is free or no key can be made.
    pub async fn start(config: Config) -> io::Result<Self> {
        let bound = Bound::new().await?;
        let password = Secret::new(handle(config.random.as_ref()));
        let inner = Arc::new(Inner {
            issuer: bound.origin().to_owned(),
            key: SigningKey::generate()?,
            password,
            state: Mutex::default(),
            config,
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .route("/authorize", get(authorize::authorize))
            .route("/login", post(authorize::login))
            .route("/consent", post(authorize::consent))
            .route("/token", post(token::token))
            .with_state(Arc::clone(&inner));
        Ok(Self { inner, _listener: bound.serve(router) })
    }

    /// The `iss` of its tokens, and the origin of its endpoints.
    pub fn issuer(&self) -> &str {
        &self.inner.issuer
    }

    /// The name and the password of the one user.
    pub fn user(&self) -> (&'static str, &Secret) {
        (USER_NAME, &self.inner.password)
    }

    /// What an API that trusts this provider checks access tokens with.
    pub fn verifier(&self) -> TokenVerifier {
        self.inner.key.verifier(self.inner.issuer.clone(), Arc::clone(&self.inner.config.clock))
    }

    /// Makes a client known; one of the same id is replaced.
    pub fn register_client(&self, client: Client) {
        let mut state = self.inner.state();
        state.clients.retain(|known| known.id != client.id);
        state.clients.push(client);
    }

    /// Adds a redirect URI to a client, as one does at a vendor once the callback URL is known. False without such a client.
    pub fn add_redirect_uri(&self, client_id: &str, redirect_uri: &str) -> bool {
        let mut state = self.inner.state();
        let client = state.clients.iter_mut().find(|client| client.id == client_id);
        client.map(|client| client.redirect_uris.push(redirect_uri.to_owned())).is_some()
    }

    /// How often its token endpoint was asked so far.
    pub fn counts(&self) -> Counts {
        self.inner.state().counts
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, ProviderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        self.config.clock.now()
    }

    fn handle(&self) -> String {
        handle(self.config.random.as_ref())
    }

    fn scopes(&self) -> impl Iterator<Item = Scope> {
        OWN_SCOPES.into_iter().chain(self.config.scopes.iter().copied())
    }
}

/// OpenID Connect Discovery §3. RS256, which it wants listed, is left out: nothing here signs with it.
async fn discovery(State(inner): State<Arc<Inner>>) -> Response {
    let issuer = &inner.issuer;
    answer::json(&json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/authorize"),
        "token_endpoint": format!("{issuer}/token"),
        "jwks_uri": format!("{issuer}/jwks"),
        "scopes_supported": inner.scopes().map(|scope| scope.name).collect::<Vec<_>>(),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": GrantType::ALL.map(GrantType::as_str),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": [keys::ALGORITHM],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    }))
}

async fn jwks(State(inner): State<Arc<Inner>>) -> Response {
    answer::json(&inner.key.jwks())
}
