//! Discovery documents (RFC 8414 §3, OpenID Connect Discovery 1.0 §4).

use agent_identity_core::Secret;
use agent_identity_core::http::{HttpRequest, HttpResponse, Method};
use serde_json::{Map, Value};
use url::Url;

use super::Server;
use crate::token::USER_AGENT;
use crate::{OauthError, endpoint};

/// Largest document, in bytes.
const MAX_DOCUMENT: usize = 1 << 20;

/// Most entries that are kept of a list, and the longest.
const MAX_LIST: usize = 32;

/// Longest entry of a list, in bytes.
const MAX_ENTRY: usize = 128;

/// The request for a discovery document.
pub fn metadata_request(url: &str) -> HttpRequest {
    let headers = vec![("accept", Secret::new("application/json")), ("user-agent", Secret::new(USER_AGENT))];
    HttpRequest::new(Method::Get, url, headers, None)
}

/// Reads the discovery document that came from `url`. Its issuer must be the one that the URL stands for, to the letter
/// (RFC 8414 §3.3, OpenID Connect Discovery 1.0 §4.3).
///
/// # Errors
/// [`OauthError`]: the URL, the answer, the issuer or an endpoint is not acceptable.
pub fn parse_metadata(url: &str, response: &HttpResponse) -> Result<Server, OauthError> {
    let expected = implied_issuer(url)?;
    if response.status != 200 {
        return Err(OauthError::MetadataStatus { status: response.status });
    }
    if response.body.len() > MAX_DOCUMENT {
        return Err(OauthError::MetadataNotJson);
    }
    let document: Map<String, Value> =
        serde_json::from_slice(&response.body).map_err(|_| OauthError::MetadataNotJson)?;
    let issuer = issuer(text(&document, "issuer")?, expected)?;
    let endpoint = |member: &'static str| -> Result<String, OauthError> {
        let endpoint = text(&document, member)?;
        endpoint::parse(member, endpoint)?;
        if url.starts_with("https://") && !endpoint.starts_with("https://") {
            return Err(OauthError::Endpoint {
                what: member,
                reason: "must be https, as the discovery URL is",
            });
        }
        Ok(endpoint.to_owned())
    };
    Ok(Server {
        issuer,
        // Absent where no grant type needs it (RFC 8414 §2).
        authorization_endpoint: match document.get("authorization_endpoint") {
            None | Some(Value::Null) => String::new(),
            Some(_) => endpoint("authorization_endpoint")?,
        },
        token_endpoint: endpoint("token_endpoint")?,
        refresh_endpoint: None,
        // Nobody loses a login over one that is not usable.
        revocation_endpoint: document
            .contains_key("revocation_endpoint")
            .then(|| endpoint("revocation_endpoint").ok())
            .flatten(),
        token_endpoint_auth_methods: list(&document, "token_endpoint_auth_methods_supported")
            .unwrap_or_default(),
        code_challenge_methods: list(&document, "code_challenge_methods_supported"),
        iss_parameter: document.get("authorization_response_iss_parameter_supported")
            == Some(&Value::Bool(true)),
    })
}

fn text<'a>(document: &'a Map<String, Value>, member: &'static str) -> Result<&'a str, OauthError> {
    document.get(member).and_then(Value::as_str).ok_or(OauthError::MetadataMember { member })
}

fn list(document: &Map<String, Value>, member: &str) -> Option<Vec<String>> {
    let entries = document.get(member)?.as_array()?.iter().filter_map(Value::as_str);
    Some(entries.filter(|entry| entry.len() <= MAX_ENTRY).take(MAX_LIST).map(str::to_owned).collect())
}

/// `expected` has no slash at its end, and the issuer may: the rule for making the URL drops it.
fn issuer(found: &str, expected: String) -> Result<Option<String>, OauthError> {
    if found.strip_suffix('/').unwrap_or(found) == expected {
        return Ok(Some(found.to_owned()));
    }
    // Entra's documents for users of many tenants have a template there; the real issuer differs by user.
    let of_any = ["common", "organizations"].into_iter().any(|class| {
        let template = |tenant| format!("https://login.microsoftonline.com/{tenant}/v2.0");
        expected == template(class) && found == template("{tenantid}")
    });
    if of_any { Ok(None) } else { Err(OauthError::IssuerMismatch { expected }) }
}

const WELL_KNOWN: &str = "/.well-known/";
const DOCUMENTS: [&str; 2] = ["openid-configuration", "oauth-authorization-server"];

/// The issuer for which a discovery URL stands, without a slash at its end: what precedes `/.well-known/…`, or the host
/// with the path that follows it (RFC 8414 §3.1).
pub(super) fn implied_issuer(url: &str) -> Result<String, OauthError> {
    let parsed = endpoint::parse("discovery URL", url)?;
    // Dot segments would stand for another path than they show.
    let shown =
        url.split_once("://").and_then(|(_, rest)| rest.find('/').and_then(|start| rest.get(start..)));
    let normal = parsed.query().is_none() && shown == Some(parsed.path());
    let (before, after) = url.split_once(WELL_KNOWN).filter(|_| normal).ok_or(OauthError::DiscoveryUrl)?;
    let (document, path) = match after.split_once('/') {
        Some((document, path)) => (document, Some(path)),
        None => (after, None),
    };
    let bare_host = || Url::parse(before).is_ok_and(|url| url.path() == "/") && !before.ends_with('/');
    match path {
        _ if !DOCUMENTS.contains(&document) => Err(OauthError::DiscoveryUrl),
        None if !before.ends_with('/') => Ok(before.to_owned()),
        Some(path) if !path.is_empty() && !path.contains(".well-known") && bare_host() => {
            Ok(format!("{before}/{}", path.strip_suffix('/').unwrap_or(path)))
        }
        _ => Err(OauthError::DiscoveryUrl),
    }
}
