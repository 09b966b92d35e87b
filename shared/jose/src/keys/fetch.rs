//! Reads an issuer's keys from the issuer: its metadata, and the key set that they name.

use agent_identity_core::Secret;
use agent_identity_core::http::{HttpClient, HttpRequest, HttpResponse, Method};
use agent_identity_core::issuer::without_slash;
use serde::Deserialize;

use super::issuer_url::{is_plain_url, oauth_authorization_server, openid_configuration};
use super::key_set::Published;

/// The largest metadata document or key set, in bytes.
const MAX_DOCUMENT: usize = 256 * 1024;

/// What is read of the metadata (OpenID Connect Discovery §3, RFC 8414 §2).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    jwks_uri: String,
}

/// What an issuer said.
pub(super) struct Fetched {
    /// Who it is, as its metadata say.
    pub(super) issuer: String,
    /// Where its keys are.
    pub(super) jwks_uri: String,
    /// They.
    pub(super) published: Published,
}

/// Reads the keys of `issuer`. The error says for the log why there are none.
pub(super) async fn fetch(http: &dyn HttpClient, issuer: &str) -> Result<Fetched, String> {
    // Exactly: otherwise one issuer could speak with another's keys (OpenID Connect Discovery §4.3, RFC 8414 §3.3).
    fetch_of(http, issuer, |named| named == issuer).await
}

/// Reads the keys of whoever publishes metadata at `issuer`, with or without a terminating slash: the two have one place
/// (OpenID Connect Discovery §4), and the metadata say which of them it is.
pub(super) async fn fetch_either(http: &dyn HttpClient, issuer: &str) -> Result<Fetched, String> {
    fetch_of(http, issuer, |named| without_slash(named) == without_slash(issuer)).await
}

async fn fetch_of(
    http: &dyn HttpClient,
    issuer: &str,
    is_issuer: impl Fn(&str) -> bool + Send,
) -> Result<Fetched, String> {
    let mut answer = get(http, openid_configuration(issuer)).await?;
    // "There is no such document", and not "I cannot answer now".
    if matches!(answer.status, 400..=428 | 430..=499) {
        answer = get(http, oauth_authorization_server(issuer)).await?;
    }
    let Ok(metadata) = serde_json::from_slice::<Metadata>(document(&answer, "metadata")?) else {
        return Err("its metadata are not JSON with `issuer` and `jwks_uri`".to_owned());
    };
    if !is_issuer(&metadata.issuer) {
        return Err("its metadata name another issuer".to_owned());
    }
    if !is_plain_url(&metadata.jwks_uri) {
        return Err("its `jwks_uri` is not a plain http or https URL".to_owned());
    }
    let answer = get(http, metadata.jwks_uri.clone()).await?;
    let published = Published::parse(document(&answer, "key set")?)?;
    Ok(Fetched { issuer: metadata.issuer, jwks_uri: metadata.jwks_uri, published })
}

async fn get(http: &dyn HttpClient, url: String) -> Result<HttpResponse, String> {
    let headers = vec![("accept", Secret::new("application/json"))];
    let request = HttpRequest::new(Method::Get, url, headers, None);
    http.send(request).await.map_err(|error| error.to_string())
}

fn document<'a>(answer: &'a HttpResponse, what: &str) -> Result<&'a [u8], String> {
    if answer.status != 200 {
        return Err(format!("its {what} came with status {}", answer.status));
    }
    if answer.body.len() > MAX_DOCUMENT {
        return Err(format!("its {what} has more than {MAX_DOCUMENT} bytes"));
    }
    Ok(&answer.body)
}
