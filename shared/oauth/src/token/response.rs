//! Token responses (RFC 6749 §5): read leniently, kept strictly, never repeated.

use std::collections::BTreeSet;
use std::time::Duration;

use agent_identity_core::Secret;
use agent_identity_core::connection::Account;
use agent_identity_core::encoding::unbase64url;
use agent_identity_core::http::HttpResponse;
use agent_identity_core::name::Scope;
use agent_identity_core::provider::Vendor;
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::catalogue::{self, Facts, ResponseScopes};

/// Longest access token, in characters (`AccessTokenType` of the service model).
pub const MAX_ACCESS_TOKEN: usize = 131_072;

/// Longest refresh or ID token, in characters: with an access token, sealed, it fits a row of 400 KB.
pub const MAX_REFRESH_TOKEN: usize = 65_536;

/// Longest life that an access token is taken to have. Who says more means "for ever".
pub const MAX_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Longest wait that a provider may ask for.
const MAX_WAIT: Duration = Duration::from_secs(86_400);

/// Longest name of an account, or of who gave it, in bytes. (A `sub` has at most 255, OpenID Connect Core §2.)
const MAX_ACCOUNT: usize = 2048;

/// Most scopes that are kept.
const MAX_SCOPES: usize = 512;

/// Largest body that is read, in bytes.
const MAX_BODY: usize = 1 << 20;

/// What a provider gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The access token: 1 to [`MAX_ACCESS_TOKEN`] printable ASCII characters.
    pub access_token: Secret,
    /// A refresh token, at most [`MAX_REFRESH_TOKEN`] characters. Its absence does not end the one from before.
    pub refresh_token: Option<Secret>,
    /// How long the access token lives, at most [`MAX_LIFE`]; `None` if the provider does not say.
    pub expires_in: Option<Duration>,
    /// The granted scopes; `None` if the provider does not say.
    pub scope: Option<BTreeSet<Scope>>,
    /// An ID token (OpenID Connect Core §3.1.3.3).
    pub id_token: Option<Secret>,
}

/// Why there are no tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenFailure {
    /// The provider refused, and did nothing.
    Refused {
        /// Why.
        code: RefusalCode,
        /// The status code.
        status: u16,
    },
    /// The provider asks to wait, and did nothing.
    Throttled {
        /// How long, if it said so in seconds.
        retry_after: Option<Duration>,
    },
    /// No usable answer: what the provider did is **unknown** (D5).
    Unusable {
        /// What is wrong with it, without a word of it.
        reason: String,
    },
}

/// Why a provider refused (RFC 6749 §5.2, §4.1.2.1; RFC 8707 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalCode {
    /// The code or refresh token is not valid, or no longer.
    InvalidGrant,
    /// The client is not known, or did not prove itself.
    InvalidClient,
    /// The client may not use this grant.
    UnauthorizedClient,
    /// The server does not know this grant.
    UnsupportedGrantType,
    /// The scope is unknown, malformed or more than was granted.
    InvalidScope,
    /// The resource or audience is unknown or malformed.
    InvalidTarget,
    /// The request is malformed.
    InvalidRequest,
    /// The user or the server does not want to.
    AccessDenied,
    /// Anything else.
    Other,
}

impl Tokens {
    /// Whose account it is, by the ID token for this client. It came from the token endpoint itself, so no signature is needed to
    /// believe it (OpenID Connect Core §3.1.3.7, 6); one that is for another client, or cannot be read, says nothing.
    pub fn account(&self, client_id: &str) -> Option<Account> {
        #[derive(serde::Deserialize)]
        struct Claims {
            iss: String,
            sub: String,
            aud: Value,
        }
        let payload = self.id_token.as_ref()?.expose().split('.').nth(1)?;
        let Claims { iss, sub, aud } = serde_json::from_slice(&unbase64url(payload)?).ok()?;
        let ours = match &aud {
            Value::String(one) => one == client_id,
            Value::Array(several) => several.iter().any(|one| one == client_id),
            _ => false,
        };
        let fits = |text: &str| !text.is_empty() && text.len() <= MAX_ACCOUNT;
        (ours && fits(&iss) && fits(&sub)).then_some(Account { issuer: iss, subject: sub })
    }
}

impl RefusalCode {
    const ALL: [Self; 9] = [
        Self::InvalidGrant,
        Self::InvalidClient,
        Self::UnauthorizedClient,
        Self::UnsupportedGrantType,
        Self::InvalidScope,
        Self::InvalidTarget,
        Self::InvalidRequest,
        Self::AccessDenied,
        Self::Other,
    ];

    /// The code in its RFC.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidClient => "invalid_client",
            Self::UnauthorizedClient => "unauthorized_client",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::InvalidScope => "invalid_scope",
            Self::InvalidTarget => "invalid_target",
            Self::InvalidRequest => "invalid_request",
            Self::AccessDenied => "access_denied",
            Self::Other => "other",
        }
    }
}

/// Reads what a vendor's token endpoint answered.
///
/// # Errors
/// [`TokenFailure`]: refused, throttled, or of unknown outcome.
pub fn parse_token_response(vendor: Vendor, response: &HttpResponse) -> Result<Tokens, TokenFailure> {
    let facts = catalogue::facts(vendor);
    let members = members(response);
    match response.status {
        200..=299 => {
            let Some(mut members) = members else {
                return Err(unusable("the answer is neither a JSON object nor a form"));
            };
            match error_code(&members) {
                Some(code) => Err(failure(facts, code, response)),
                None => tokens(facts, &mut members),
            }
        }
        429 => Err(TokenFailure::Throttled { retry_after: retry_after(response) }),
        // D5: the server may have acted before it gave up.
        408 => Err(unusable("status 408")),
        400..=499 => {
            let code = members.as_ref().and_then(error_code).unwrap_or_default();
            Err(failure(facts, code, response))
        }
        status => Err(unusable(format!("status {status}"))),
    }
}

fn unusable(reason: impl Into<String>) -> TokenFailure {
    TokenFailure::Unusable { reason: reason.into() }
}

/// The body as members: a JSON object, or a form (GitHub without `Accept`, Facebook of old).
pub(crate) fn members(response: &HttpResponse) -> Option<Map<String, Value>> {
    if response.body.len() > MAX_BODY {
        return None;
    }
    if let Ok(members) = serde_json::from_slice(&response.body) {
        return Some(members);
    }
    let text = std::str::from_utf8(&response.body).ok()?;
    let members: Map<String, Value> = form_urlencoded::parse(text.trim().as_bytes())
        .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
        .collect();
    (members.contains_key("access_token") || members.contains_key("error")).then_some(members)
}

/// The error that an answer names, whatever its status: GitHub and Slack say it with 200. Empty if it says only that there
/// is one.
pub(crate) fn error_code(members: &Map<String, Value>) -> Option<&str> {
    match members.get("error") {
        Some(Value::String(code)) if !code.is_empty() => Some(code),
        Some(Value::Object(_) | Value::Bool(true)) => Some(""),
        _ if members.get("ok") == Some(&Value::Bool(false)) => Some(""),
        _ => None,
    }
}

fn failure(facts: &Facts, code: &str, response: &HttpResponse) -> TokenFailure {
    let code = facts.error_codes.get(code).map_or(code, String::as_str);
    match code {
        "server_error" => unusable(format!("server_error with status {}", response.status)),
        "temporarily_unavailable" | "slow_down" => {
            TokenFailure::Throttled { retry_after: retry_after(response) }
        }
        code => {
            let known = RefusalCode::ALL.into_iter().find(|known| known.as_str() == code);
            TokenFailure::Refused { code: known.unwrap_or(RefusalCode::Other), status: response.status }
        }
    }
}

/// `Retry-After` in seconds (RFC 9110 §10.2.3). Its other form, a date, means nothing without a clock.
pub(crate) fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let seconds: u64 = response.header("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(MAX_WAIT))
}

fn tokens(facts: &Facts, members: &mut Map<String, Value>) -> Result<Tokens, TokenFailure> {
    let nested = facts.nested_tokens.iter().find(|name| {
        members.get(*name).is_some_and(|nested| nested.get("access_token").is_some_and(Value::is_string))
    });
    let mut inner = match nested.and_then(|name| members.remove(name)) {
        Some(Value::Object(inner)) => inner,
        _ => std::mem::take(members),
    };
    check_type(facts, inner.get("token_type"))?;
    Ok(Tokens {
        access_token: secret(&mut inner, "access_token", MAX_ACCESS_TOKEN)?
            .ok_or_else(|| unusable("the answer has no access_token"))?,
        refresh_token: secret(&mut inner, "refresh_token", MAX_REFRESH_TOKEN)?,
        // Nobody loses a grant over an ID token.
        id_token: secret(&mut inner, "id_token", MAX_REFRESH_TOKEN).unwrap_or_default(),
        expires_in: inner.get("expires_in").and_then(life),
        scope: inner.get("scope").and_then(|value| scopes(facts, value)),
    })
}

/// A token of another type (`DPoP`, `mac`) would be sent as a bearer token and either fail or lose its protection. Absent,
/// it is taken to be one (RFC 6749 §7.1 wants it; some leave it out).
fn check_type(facts: &Facts, token_type: Option<&Value>) -> Result<(), TokenFailure> {
    let is_bearer = match token_type {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => {
            text.eq_ignore_ascii_case("bearer")
                || facts.token_types.iter().any(|known| known.eq_ignore_ascii_case(text))
        }
        Some(_) => false,
    };
    if is_bearer { Ok(()) } else { Err(unusable("the token_type is not bearer")) }
}

/// A token: printable ASCII (RFC 6749 appendix A.12), so that it can stand in a header. Empty is as absent.
fn secret(
    members: &mut Map<String, Value>,
    name: &'static str,
    longest: usize,
) -> Result<Option<Secret>, TokenFailure> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => {
            let secret = Secret::new(text);
            if secret.expose().len() > longest {
                return Err(unusable(format!("the {name} has more than {longest} characters")));
            }
            if !secret.expose().bytes().all(|byte| (0x20..=0x7e).contains(&byte)) {
                return Err(unusable(format!("the {name} has characters that no token may have")));
            }
            Ok(Some(secret))
        }
        Some(_) => Err(unusable(format!("the {name} is not a text"))),
    }
}

/// `expires_in` as a number or a text of one. A life that is over keeps its tokens, so that they can be refreshed; a text
/// that is no number says nothing.
fn life(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    if seconds.is_nan() {
        return None;
    }
    let seconds = seconds.clamp(0.0, MAX_LIFE.as_secs_f64()).floor();
    Duration::try_from_secs_f64(seconds).ok()
}

/// The granted scopes. None at all is not a `scope` (RFC 6749 §3.3) and says nothing: GitHub Apps answer so whatever
/// their users' tokens may do. Texts that cannot be scopes cannot have been asked for, and are dropped.
fn scopes(facts: &Facts, value: &Value) -> Option<BTreeSet<Scope>> {
    let texts: Vec<&str> = match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let separator =
        |c: char| c.is_whitespace() || (c == ',' && facts.response_scopes == ResponseScopes::Commas);
    let scopes: BTreeSet<Scope> = texts
        .into_iter()
        .flat_map(|text| text.split(separator))
        .filter_map(|text| Scope::parse(text).ok())
        .take(MAX_SCOPES)
        .collect();
    (!scopes.is_empty()).then_some(scopes)
}

#[cfg(test)]
mod tests;
