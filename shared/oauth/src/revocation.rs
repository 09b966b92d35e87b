//! Revocation requests (RFC 7009), and the ways of providers that have another.

use agent_identity_core::Secret;
use agent_identity_core::http::{HttpRequest, HttpResponse, Method};
use agent_identity_core::provider::ClientRegistration;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::catalogue::{self, Facts};
use crate::discovery::Server;
use crate::parameter::{Parameters, escape};
use crate::token::{ClientProof, USER_AGENT, basic, error_code, members, proof_parameters, retry_after};

/// How a provider is told that a grant has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationWay {
    /// RFC 7009 §2.1: each token, with the client's proof.
    #[default]
    Rfc7009,
    /// A request with the access token as its bearer token, which ends the grant behind it (Dropbox) or that token (Slack).
    Bearer,
    /// `DELETE …/applications/{client_id}/grant` with the client's secret and the access token, which ends all that the user
    /// granted to the client (GitHub).
    GithubGrant,
}

/// Which token it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An access token.
    Access,
    /// A refresh token.
    Refresh,
}

impl TokenKind {
    /// The `token_type_hint` (RFC 7009 §2.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Access => "access_token",
            Self::Refresh => "refresh_token",
        }
    }
}

/// What a revocation request is made of.
#[derive(Clone, Copy, Debug)]
pub struct RevocationRequest<'a> {
    /// Whose client it is.
    pub registration: &'a ClientRegistration,
    /// Where it goes.
    pub server: &'a Server,
    /// The token.
    pub token: &'a Secret,
    /// Which it is.
    pub kind: TokenKind,
    /// How the client proves itself.
    pub proof: ClientProof<'a>,
}

impl RevocationRequest<'_> {
    /// The request; `None` where the provider has no way to revoke such a token, as far as is known. The same values give
    /// the same bytes.
    pub fn build(&self) -> Option<HttpRequest> {
        let facts = catalogue::facts(self.registration.vendor);
        let endpoint = self.server.revocation_endpoint.as_deref()?;
        let mut headers =
            vec![("accept", Secret::new("application/json")), ("user-agent", Secret::new(USER_AGENT))];
        let client_id = &self.registration.client_id;
        match (facts.revocation_way, self.kind) {
            (RevocationWay::Rfc7009, _) => {
                if let ClientProof::Basic(secret) = self.proof {
                    headers.push(("authorization", basic(client_id, secret)));
                }
                let mut parameters: Parameters<'_> = vec![
                    ("token".into(), self.token.expose().into()),
                    ("token_type_hint".into(), self.kind.as_str().into()),
                ];
                parameters.extend(proof_parameters(client_id, self.proof));
                let (content_type, body) = facts.token_body.write(&parameters);
                headers.push(("content-type", Secret::new(content_type)));
                Some(request(Method::Post, endpoint.to_owned(), headers, Some(body)))
            }
            (RevocationWay::Bearer, TokenKind::Access) => {
                headers.push(("authorization", Secret::new(format!("Bearer {}", self.token.expose()))));
                Some(request(Method::Post, endpoint.to_owned(), headers, None))
            }
            (RevocationWay::GithubGrant, TokenKind::Access) => {
                // The endpoint takes no other proof than this.
                let (ClientProof::Basic(secret) | ClientProof::Post(secret)) = self.proof else {
                    return None;
                };
                headers.push(("content-type", Secret::new("application/json")));
                headers.push(("authorization", basic(client_id, secret)));
                let url = endpoint.replace("{client_id}", &escape(client_id).to_string());
                let body = json!({ "access_token": self.token.expose() }).to_string();
                Some(request(Method::Delete, url, headers, Some(body)))
            }
            (RevocationWay::Bearer | RevocationWay::GithubGrant, TokenKind::Refresh) => None,
        }
    }
}

fn request(
    method: Method,
    url: String,
    headers: Vec<(&'static str, Secret)>,
    body: Option<String>,
) -> HttpRequest {
    HttpRequest::new(method, url, headers, body.map(Secret::new))
}

/// What a provider answered to a revocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RevocationAnswer {
    /// The token is worth nothing any more (RFC 7009 §2.2: or never was).
    Revoked,
    /// The provider does not revoke tokens of this kind (§2.2.1).
    Unsupported,
    /// It refused, with a code of a registry or the status alone. Never a word of its body.
    Refused(String),
    /// It asks to come again, or may not have heard.
    Later {
        /// After how long, if it said so.
        retry_after: Option<std::time::Duration>,
        /// Why.
        reason: String,
    },
}

/// The error codes that say that the token is no good (RFC 6750 §3.1, RFC 6749 §5.2, and Slack's).
const ENDED: [&str; 6] =
    ["invalid_token", "invalid_grant", "token_revoked", "token_expired", "account_inactive", "invalid_auth"];

/// Those that anybody may be told: they are of the registries.
const TOLD: [&str; 3] = ["invalid_request", "unsupported_grant_type", "access_denied"];

/// Reads what a revocation endpoint answered (RFC 7009 §2.2).
pub fn parse_revocation_response(facts: &Facts, response: &HttpResponse) -> RevocationAnswer {
    let later = |reason: String| RevocationAnswer::Later { retry_after: retry_after(response), reason };
    let members = members(response);
    let code = members.as_ref().and_then(error_code);
    let code = code.map(|code| facts.error_codes.get(code).map_or(code, String::as_str));
    match (response.status, code) {
        (429, _) => later("the provider asks to wait".to_owned()),
        (408 | 500.., _) => later(format!("the provider answered with status {}", response.status)),
        (_, Some("server_error" | "temporarily_unavailable" | "slow_down")) => {
            later("the provider cannot do it now".to_owned())
        }
        // Whose fault it is, is D8's: the provider's configuration may be mended.
        (_, Some(code @ ("invalid_client" | "unauthorized_client"))) => {
            later(format!("the provider answered `{code}`"))
        }
        (_, Some(code)) if ENDED.contains(&code) => RevocationAnswer::Revoked,
        (_, Some("unsupported_token_type")) => RevocationAnswer::Unsupported,
        (_, Some(code)) if TOLD.contains(&code) => {
            RevocationAnswer::Refused(format!("the provider answered `{code}`"))
        }
        (200..=299, None) if not_revoked(members.as_ref()) => {
            RevocationAnswer::Refused("the provider says that the token was not revoked".to_owned())
        }
        (200..=299, None) => RevocationAnswer::Revoked,
        (status, _) => RevocationAnswer::Refused(format!("the provider answered with status {status}")),
    }
}

/// Slack says it in the body of a 200.
fn not_revoked(members: Option<&serde_json::Map<String, Value>>) -> bool {
    members.is_some_and(|members| members.get("revoked") == Some(&Value::Bool(false)))
}

#[cfg(test)]
mod tests;
