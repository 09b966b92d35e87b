//! A small protected API for the quickstart: what a third party's API would be.
//!
//! `GET /calendar` wants an OAuth access token of a provider (RFC 6750), `GET /weather` wants an API key. What is *not*
//! here: anything of the product. It believes what its own checks tell it, as a third party would.

use std::io;
use std::sync::Arc;

use agent_identity_core::Secret;
use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::answer;
use super::idp::{AccessTokenClaims, TokenVerifier};
use super::listener::{Bound, Listener};

/// What the API wants to see.
pub(super) struct Config {
    /// Checks the tokens of the provider that it trusts.
    pub verifier: TokenVerifier,
    /// The `aud` that means this API.
    pub audience: String,
    /// The scope that opens the calendar.
    pub calendar_scope: String,
    /// The key that opens the weather.
    pub api_key: Secret,
}

/// A running API. It ends when this is dropped.
pub(super) struct ProtectedApi {
    listener: Listener,
}

impl ProtectedApi {
    /// Starts the API on a free port of 127.0.0.1.
    ///
    /// # Errors
    /// When no port is free.
    pub async fn start(config: Config) -> io::Result<Self> {
        let router = Router::new()
            .route("/calendar", get(calendar))
            .route("/weather", get(weather))
            .with_state(Arc::new(config));
        Ok(Self { listener: Bound::new().await?.serve(router) })
    }

    /// `http://127.0.0.1:PORT`.
    pub fn origin(&self) -> &str {
        self.listener.origin()
    }

    /// `127.0.0.1:PORT`.
    pub fn authority(&self) -> &str {
        self.origin().trim_start_matches("http://")
    }
}

/// Why a request for the calendar is refused (RFC 6750 §3.1).
enum BearerError {
    /// No token was sent: the answer says no more than what is wanted.
    NoToken,
    /// The token is not good here.
    InvalidToken(String),
    /// The token is good, but not for this.
    InsufficientScope,
}

async fn calendar(State(config): State<Arc<Config>>, headers: HeaderMap) -> Response {
    match config.check_bearer(&headers) {
        Ok(claims) => answer::json(&json!({
            "user": claims.sub,
            "events": [
                { "start": "09:30", "title": "Review the Analytical Engine's notes" },
                { "start": "14:00", "title": "Tea with Charles" },
            ],
        })),
        Err(error) => config.refuse_bearer(&error),
    }
}

async fn weather(State(config): State<Arc<Config>>, headers: HeaderMap) -> Response {
    let sent = headers.get("x-api-key").and_then(|value| value.to_str().ok()).map(Secret::new);
    if sent.is_some_and(|sent| sent == config.api_key) {
        answer::json(&json!({ "city": "London", "sky": "light rain", "celsius": 12 }))
    } else {
        refuse(StatusCode::UNAUTHORIZED, "ApiKey realm=\"weather\", header=\"x-api-key\"", "invalid_api_key")
    }
}

impl Config {
    fn check_bearer(&self, headers: &HeaderMap) -> Result<AccessTokenClaims, BearerError> {
        let token = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim())
            .ok_or(BearerError::NoToken)?;
        let claims =
            self.verifier.verify(token).map_err(|error| BearerError::InvalidToken(error.to_string()))?;
        if claims.aud != self.audience {
            return Err(BearerError::InvalidToken("the token is for another audience".to_owned()));
        }
        if !claims.scope.split(' ').any(|scope| scope == self.calendar_scope) {
            return Err(BearerError::InsufficientScope);
        }
        Ok(claims)
    }

    fn refuse_bearer(&self, error: &BearerError) -> Response {
        let realm = "Bearer realm=\"calendar\"";
        match error {
            BearerError::NoToken => refuse(StatusCode::UNAUTHORIZED, realm, "invalid_token"),
            BearerError::InvalidToken(why) => refuse(
                StatusCode::UNAUTHORIZED,
                &format!("{realm}, error=\"invalid_token\", error_description=\"{why}\""),
                "invalid_token",
            ),
            BearerError::InsufficientScope => refuse(
                StatusCode::FORBIDDEN,
                &format!("{realm}, error=\"insufficient_scope\", scope=\"{}\"", self.calendar_scope),
                "insufficient_scope",
            ),
        }
    }
}

fn refuse(status: StatusCode, challenge: &str, error: &str) -> Response {
    let mut response = answer::json_with(status, &json!({ "error": error }));
    if let Ok(challenge) = HeaderValue::from_str(challenge) {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

#[cfg(test)]
mod tests;
