//! The token endpoint (RFC 6749 §3.2).

use std::io;
use std::sync::Arc;

use agent_identity_core::{Secret, Timestamp};
use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::client::{Client, GrantType};
use super::grants::{Authorization, CodePresented, GrantRefused};
use super::parameters::{Parameters, Repeated, decode};
use super::{Inner, USER_FULL_NAME, answer, keys};

/// How often the token endpoint was asked, answered or not, and how often it refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Counts {
    /// Requests with a code.
    pub authorization_code: u32,
    /// Requests with a refresh token.
    pub refresh_token: u32,
    /// Requests of a client for itself.
    pub client_credentials: u32,
    /// How many of all requests were refused.
    pub refused: u32,
}

/// An error answer (RFC 6749 §5.2).
#[derive(Debug, thiserror::Error)]
enum TokenError {
    /// A parameter is missing, repeated or malformed.
    #[error("{0}")]
    InvalidRequest(&'static str),
    /// The client is unknown, or its secret is wrong. 401 when it used HTTP Basic.
    #[error("the client is unknown or its secret is wrong")]
    InvalidClient,
    /// The code or refresh token is not good.
    #[error(transparent)]
    InvalidGrant(#[from] GrantRefused),
    /// The client may not use this grant type.
    #[error("this client may not use this grant type")]
    UnauthorizedClient,
    /// There is no such grant type here.
    #[error("the grant type is unknown")]
    UnsupportedGrantType,
    /// A scope is unknown, or more than was granted.
    #[error("a scope is unknown or was not granted")]
    InvalidScope,
    /// No token could be signed.
    #[error("no token could be signed")]
    Signing(#[from] io::Error),
}

/// `POST /token`.
pub(super) async fn token(State(inner): State<Arc<Inner>>, headers: HeaderMap, body: Bytes) -> Response {
    match inner.answer(&headers, &body) {
        Ok(tokens) => answer::json(&tokens),
        Err(error) => {
            inner.state().counts.refused += 1;
            refuse(&error)
        }
    }
}

fn refuse(error: &TokenError) -> Response {
    let (status, code) = match error {
        TokenError::InvalidRequest(_) => (StatusCode::BAD_REQUEST, "invalid_request"),
        TokenError::InvalidClient => (StatusCode::UNAUTHORIZED, "invalid_client"),
        TokenError::InvalidGrant(_) => (StatusCode::BAD_REQUEST, "invalid_grant"),
        TokenError::UnauthorizedClient => (StatusCode::BAD_REQUEST, "unauthorized_client"),
        TokenError::UnsupportedGrantType => (StatusCode::BAD_REQUEST, "unsupported_grant_type"),
        TokenError::InvalidScope => (StatusCode::BAD_REQUEST, "invalid_scope"),
        TokenError::Signing(_) => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
    };
    let body = json!({ "error": code, "error_description": error.to_string() });
    let mut response = answer::json_with(status, &body);
    if status == StatusCode::UNAUTHORIZED {
        response
            .headers_mut()
            .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"token\""));
    }
    response
}

impl Inner {
    fn answer(&self, headers: &HeaderMap, body: &[u8]) -> Result<Value, TokenError> {
        let is_form = headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split(';').next())
            .is_some_and(|media_type| {
                media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
            });
        if !is_form {
            return Err(TokenError::InvalidRequest("the body must be application/x-www-form-urlencoded"));
        }
        let form = Parameters::parse(body)
            .map_err(|Repeated| TokenError::InvalidRequest("a parameter is sent more than once"))?;
        let grant_type = form.get("grant_type").ok_or(TokenError::InvalidRequest("grant_type is missing"))?;
        let grant_type = GrantType::parse(grant_type).ok_or(TokenError::UnsupportedGrantType)?;
        self.count(grant_type);
        let client = self.authenticate(headers, &form)?;
        if !client.may(grant_type) {
            return Err(TokenError::UnauthorizedClient);
        }
        match grant_type {
            GrantType::AuthorizationCode => self.redeem_code(&client, &form),
            GrantType::RefreshToken => self.refresh(&client, &form),
            GrantType::ClientCredentials => self.client_credentials(&client, &form),
        }
    }

    fn count(&self, grant_type: GrantType) {
        let counts = &mut self.state().counts;
        *match grant_type {
            GrantType::AuthorizationCode => &mut counts.authorization_code,
            GrantType::RefreshToken => &mut counts.refresh_token,
            GrantType::ClientCredentials => &mut counts.client_credentials,
        } += 1;
    }

    /// `client_secret_basic` or `client_secret_post`, never both (RFC 6749 §2.3).
    fn authenticate(&self, headers: &HeaderMap, form: &Parameters) -> Result<Client, TokenError> {
        let (id, secret) = match (headers.get(header::AUTHORIZATION), form.get("client_secret")) {
            (Some(_), Some(_)) => {
                return Err(TokenError::InvalidRequest("the client authenticates in two ways"));
            }
            (Some(value), None) => {
                let (id, secret) = basic(value).ok_or(TokenError::InvalidClient)?;
                if form.get("client_id").is_some_and(|other| other != id) {
                    return Err(TokenError::InvalidRequest("client_id is not the one that authenticates"));
                }
                (id, secret)
            }
            (None, secret) => {
                let id = form.owned("client_id").ok_or(TokenError::InvalidClient)?;
                (id, Secret::new(secret.unwrap_or_default()))
            }
        };
        let state = self.state();
        let client = state.clients.iter().find(|client| client.id == id && client.secret == secret);
        client.cloned().ok_or(TokenError::InvalidClient)
    }

    /// RFC 6749 §4.1.3.
    fn redeem_code(&self, client: &Client, form: &Parameters) -> Result<Value, TokenError> {
        let required = |name, missing| form.get(name).ok_or(TokenError::InvalidRequest(missing));
        let presented = CodePresented {
            code: required("code", "code is missing")?,
            client_id: &client.id,
            redirect_uri: required("redirect_uri", "redirect_uri is missing")?,
            code_verifier: required("code_verifier", "code_verifier is missing")?,
        };
        // RFC 7636 §4.1.
        if !(43..=128).contains(&presented.code_verifier.len()) {
            return Err(TokenError::InvalidRequest("code_verifier must have 43 to 128 characters"));
        }
        let refresh_token = client.may(GrantType::RefreshToken).then(|| Secret::new(self.handle()));
        let now = self.now();
        let granted = self.state().grants.redeem(&presented, refresh_token.as_ref(), now)?;
        self.tokens(&granted, &granted.scopes, refresh_token.as_ref(), now)
    }

    /// RFC 6749 §6.
    fn refresh(&self, client: &Client, form: &Parameters) -> Result<Value, TokenError> {
        let token =
            form.get("refresh_token").ok_or(TokenError::InvalidRequest("refresh_token is missing"))?;
        let (next, now) = (Secret::new(self.handle()), self.now());
        // One lock from the check to the change: of two requests with one token, the second finds it used.
        let mut state = self.state();
        let granted = state.grants.refreshable(token, &client.id)?;
        let scopes = match form.get("scope") {
            Some(asked) => self.known_scopes(asked).ok_or(TokenError::InvalidScope)?,
            None => granted.scopes.clone(),
        };
        if !scopes.iter().all(|scope| granted.scopes.contains(scope)) {
            return Err(TokenError::InvalidScope);
        }
        state.grants.rotate(token, &next);
        drop(state);
        self.tokens(&granted, &scopes, Some(&next), now)
    }

    /// RFC 6749 §4.4: no user, so no id token, and no refresh token either.
    fn client_credentials(&self, client: &Client, form: &Parameters) -> Result<Value, TokenError> {
        let scopes = self.known_scopes(form.get("scope").unwrap_or_default());
        let of_the_api = |name: &String| self.config.scopes.iter().any(|scope| scope.name == name);
        let scopes = scopes.filter(|names| names.iter().all(of_the_api)).ok_or(TokenError::InvalidScope)?;
        let access_token = self.access_token(&client.id, &client.id, &scopes, self.now())?;
        Ok(self.token_response(&access_token, &scopes))
    }

    fn tokens(
        &self,
        granted: &Authorization,
        scopes: &[String],
        refresh_token: Option<&Secret>,
        now: Timestamp,
    ) -> Result<Value, TokenError> {
        let access_token = self.access_token(&granted.subject, &granted.client_id, scopes, now)?;
        let mut response = self.token_response(&access_token, scopes);
        if let Some(refresh_token) = refresh_token {
            set(&mut response, "refresh_token", refresh_token.expose());
        }
        if scopes.iter().any(|scope| scope == "openid") {
            set(&mut response, "id_token", self.id_token(granted, scopes, now)?.expose());
        }
        Ok(response)
    }

    fn token_response(&self, access_token: &Secret, scopes: &[String]) -> Value {
        json!({
            "access_token": access_token.expose(),
            "token_type": "Bearer",
            "expires_in": self.config.access_token_seconds,
            "scope": scopes.join(" "),
        })
    }

    /// RFC 9068 §2.2.
    fn access_token(
        &self,
        subject: &str,
        client_id: &str,
        scopes: &[String],
        now: Timestamp,
    ) -> io::Result<Secret> {
        let issued_at = now.as_seconds();
        let claims = json!({
            "iss": self.issuer,
            "sub": subject,
            "aud": self.config.audience,
            "client_id": client_id,
            "scope": scopes.join(" "),
            "iat": issued_at,
            "exp": issued_at + i64::from(self.config.access_token_seconds),
            "jti": self.handle(),
        });
        self.key.sign(keys::ACCESS_TOKEN, &claims)
    }

    /// OpenID Connect Core §2.
    fn id_token(&self, granted: &Authorization, scopes: &[String], now: Timestamp) -> io::Result<Secret> {
        let issued_at = now.as_seconds();
        let mut claims = json!({
            "iss": self.issuer,
            "sub": granted.subject,
            "aud": granted.client_id,
            "iat": issued_at,
            "exp": issued_at + i64::from(self.config.id_token_seconds),
            "auth_time": granted.signed_in_at.as_seconds(),
        });
        if let Some(nonce) = &granted.nonce {
            set(&mut claims, "nonce", nonce);
        }
        if scopes.iter().any(|scope| scope == "profile") {
            set(&mut claims, "name", USER_FULL_NAME);
            set(&mut claims, "preferred_username", &granted.subject);
        }
        self.key.sign(keys::ID_TOKEN, &claims)
    }
}

fn set(object: &mut Value, name: &str, value: &str) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value.into());
    }
}

/// The client id and secret of HTTP Basic, each form-encoded before (RFC 6749 §2.3.1).
fn basic(value: &HeaderValue) -> Option<(String, Secret)> {
    let (scheme, encoded) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (id, secret) = pair.split_once(':')?;
    Some((decode(id), Secret::new(decode(secret))))
}
