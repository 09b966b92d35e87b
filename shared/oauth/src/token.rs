//! Token requests (RFC 6749 §4.1.3, §4.4.2, §6).

mod response;

use std::collections::{BTreeMap, BTreeSet};

use agent_identity_core::Secret;
use agent_identity_core::http::{HttpRequest, Method};
use agent_identity_core::name::Scope;
use agent_identity_core::provider::ClientRegistration;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::authorize::targets;
use crate::catalogue::{self, Facts, TokenBody};
use crate::discovery::Server;
use crate::parameter::{self, Parameters, escape};

pub use response::{
    MAX_ACCESS_TOKEN, MAX_LIFE, MAX_REFRESH_TOKEN, RefusalCode, TokenFailure, Tokens, parse_token_response,
};
pub(crate) use response::{error_code, members, retry_after};

/// How this product names itself to providers. Some (Reddit) throttle who does not.
pub(crate) const USER_AGENT: &str = concat!("agent-identity/", env!("CARGO_PKG_VERSION"));

/// The type of client assertions (RFC 7523 §2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What tokens are asked for with.
#[derive(Clone, Copy, Debug)]
pub enum TokenGrant<'a> {
    /// An authorization code (RFC 6749 §4.1.3).
    AuthorizationCode {
        /// `code`.
        code: &'a Secret,
        /// `redirect_uri`: the one of the authorization request.
        redirect_uri: &'a str,
        /// `code_verifier` (RFC 7636 §4.5).
        code_verifier: &'a Secret,
    },
    /// A refresh token (RFC 6749 §6).
    RefreshToken {
        /// `refresh_token`.
        refresh_token: &'a Secret,
    },
    /// A refresh token whose grant's scopes are known: they are sent to the providers that want them repeated.
    ScopedRefreshToken {
        /// `refresh_token`.
        refresh_token: &'a Secret,
        /// The granted scopes.
        scopes: &'a BTreeSet<Scope>,
    },
    /// The client itself (RFC 6749 §4.4.2).
    ClientCredentials {
        /// The scopes asked for.
        scopes: &'a BTreeSet<Scope>,
    },
}

/// How the client proves itself.
#[derive(Clone, Copy, Debug)]
pub enum ClientProof<'a> {
    /// The secret, in the `Authorization` header (RFC 6749 §2.3.1).
    Basic(&'a Secret),
    /// The secret, in the body (RFC 6749 §2.3.1).
    Post(&'a Secret),
    /// A signed assertion (RFC 7523 §2.2).
    Assertion(&'a Secret),
    /// Not at all: a public client.
    Public,
}

/// What a token request is made of.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest<'a> {
    /// Whose client it is.
    pub registration: &'a ClientRegistration,
    /// Where it goes.
    pub server: &'a Server,
    /// What tokens are asked for with.
    pub grant: TokenGrant<'a>,
    /// How the client proves itself.
    pub proof: ClientProof<'a>,
    /// Resources (RFC 8707 §2.2).
    pub resources: &'a [String],
    /// Audiences.
    pub audiences: &'a [String],
    /// The caller's own parameters. Those that are reserved (D24) are left out.
    pub custom_parameters: &'a BTreeMap<String, String>,
}

impl TokenBody {
    /// The parameters as a body, and its content type.
    pub(crate) fn write(self, parameters: &Parameters<'_>) -> (&'static str, String) {
        match self {
            Self::Form => ("application/x-www-form-urlencoded", parameter::form(parameters)),
            Self::Json => ("application/json", json(parameters)),
        }
    }
}

impl TokenRequest<'_> {
    /// The request. The same values give the same bytes.
    pub fn build(&self) -> HttpRequest {
        let facts = catalogue::facts(self.registration.vendor);
        let parameters = self.parameters(facts);
        let (content_type, body) = facts.token_body.write(&parameters);
        let mut headers = vec![
            ("accept", Secret::new("application/json")),
            ("content-type", Secret::new(content_type)),
            ("user-agent", Secret::new(USER_AGENT)),
        ];
        if let ClientProof::Basic(secret) = self.proof {
            headers.push(("authorization", basic(&self.registration.client_id, secret)));
        }
        HttpRequest::new(Method::Post, self.endpoint(), headers, Some(Secret::new(body)))
    }

    fn endpoint(&self) -> &str {
        match (self.is_refresh(), &self.server.refresh_endpoint) {
            (true, Some(endpoint)) => endpoint,
            _ => &self.server.token_endpoint,
        }
    }

    fn is_refresh(&self) -> bool {
        matches!(self.grant, TokenGrant::RefreshToken { .. } | TokenGrant::ScopedRefreshToken { .. })
    }

    fn parameters(&self, facts: &'static Facts) -> Parameters<'_> {
        let mut parameters = self.grant_parameters(facts);
        parameters.extend(proof_parameters(&self.registration.client_id, self.proof));
        let fixed = if self.is_refresh() { &facts.refresh_params } else { &facts.token_params };
        parameters.extend(fixed.iter().map(|(name, value)| (name.into(), value.into())));
        parameters.extend(targets(self.resources, self.audiences));
        let own = self.custom_parameters.iter();
        let own = own.filter(|(name, _)| !parameter::is_reserved(self.registration.vendor, name));
        parameters.extend(own.map(|(name, value)| (name.into(), value.into())));
        parameters
    }

    fn grant_parameters(&self, facts: &Facts) -> Parameters<'_> {
        let grant_type = |name: &'static str| ("grant_type".into(), name.into());
        match self.grant {
            TokenGrant::AuthorizationCode { code, redirect_uri, code_verifier } => {
                let mut parameters: Parameters<'_> = vec![
                    grant_type("authorization_code"),
                    ("code".into(), code.expose().into()),
                    ("redirect_uri".into(), redirect_uri.into()),
                ];
                if facts.pkce.is_sent() {
                    parameters.push(("code_verifier".into(), code_verifier.expose().into()));
                }
                parameters
            }
            TokenGrant::RefreshToken { refresh_token } => {
                vec![grant_type("refresh_token"), ("refresh_token".into(), refresh_token.expose().into())]
            }
            TokenGrant::ScopedRefreshToken { refresh_token, scopes } => {
                let mut parameters: Parameters<'_> = vec![
                    grant_type("refresh_token"),
                    ("refresh_token".into(), refresh_token.expose().into()),
                ];
                if facts.resend_scope && !scopes.is_empty() {
                    let all = scope(facts, scopes.iter().chain(&facts.default_scopes));
                    parameters.push(("scope".into(), all.into()));
                }
                parameters
            }
            TokenGrant::ClientCredentials { scopes } => {
                let mut parameters: Parameters<'_> = vec![grant_type("client_credentials")];
                if !scopes.is_empty() {
                    parameters.push(("scope".into(), scope(facts, scopes).into()));
                }
                parameters
            }
        }
    }
}

/// What of a client's proof stands in the body.
pub(crate) fn proof_parameters<'a>(client_id: &'a str, proof: ClientProof<'a>) -> Parameters<'a> {
    let client_id = || ("client_id".into(), client_id.into());
    match proof {
        // A second way to name the client in one request is refused by some (RFC 6749 §2.3).
        ClientProof::Basic(_) => Vec::new(),
        ClientProof::Post(secret) => vec![client_id(), ("client_secret".into(), secret.expose().into())],
        ClientProof::Assertion(assertion) => vec![
            client_id(),
            ("client_assertion_type".into(), ASSERTION_TYPE.into()),
            ("client_assertion".into(), assertion.expose().into()),
        ],
        ClientProof::Public => vec![client_id()],
    }
}

fn scope<'a>(facts: &Facts, scopes: impl IntoIterator<Item = &'a Scope>) -> String {
    let all: BTreeSet<&str> = scopes.into_iter().map(Scope::as_str).collect();
    all.into_iter().collect::<Vec<_>>().join(&facts.scope_separator)
}

/// Both halves are form-encoded before they are joined (RFC 6749 §2.3.1): a colon in them would move the border.
pub(crate) fn basic(client_id: &str, secret: &Secret) -> Secret {
    let pair = format!("{}:{}", escape(client_id), escape(secret.expose()));
    Secret::new(format!("Basic {}", STANDARD.encode(pair)))
}

/// A JSON object; a repeated parameter becomes an array.
fn json(parameters: &Parameters<'_>) -> String {
    let mut object = Map::new();
    for (name, value) in parameters {
        let value = Value::from(value.as_ref());
        match object.get_mut(name.as_ref()) {
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::from(vec![first.take(), value]),
            None => {
                object.insert(name.to_string(), value);
            }
        }
    }
    Value::Object(object).to_string()
}

#[cfg(test)]
mod tests;
