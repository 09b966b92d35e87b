//! How a server proves that it serves a data directory, before anybody trusts its port (D21): an HMAC with a key that only
//! the directory gives.

use std::time::Duration;

use agent_identity_api::Api;
use agent_identity_core::encoding;
use agent_identity_core::http::{HttpClient as _, HttpRequest, Method};
use agent_identity_core::random;
use agent_identity_core::seal::Key32;
use agent_identity_egress::{AllowList, GuardedClient};
use agent_identity_local::SystemRandom;
use aws_lc_rs::hmac;
use axum::Router;
use axum::extract::RawQuery;
use axum::routing::get;

use crate::{CommandError, CommandResult};

const PATH: &str = "/.well-known/agent-identity";

/// How long a server on this machine may take to prove itself.
const PATIENCE: Duration = Duration::from_secs(3);

/// `HOST:PORT` of an http URL whose host is a loopback address.
fn loopback_authority(url: &str) -> Option<String> {
    let parsed = url::Url::parse(url).ok().filter(|url| {
        url.scheme() == "http"
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    })?;
    let host = match parsed.host()? {
        url::Host::Ipv4(ip) if ip.is_loopback() => ip.to_string(),
        url::Host::Ipv6(ip) if ip.is_loopback() => format!("[{ip}]"),
        _ => return None,
    };
    Some(format!("{host}:{}", parsed.port_or_known_default()?))
}

/// What is authenticated: the challenge, and the authority that answers, so that an answer cannot be relayed from
/// another port.
fn message(challenge: &[u8], authority: &str) -> Vec<u8> {
    encoding::length_prefixed([b"agent-identity serve".as_slice(), challenge, authority.as_bytes()])
}

/// The route that answers challenges.
pub fn route(key: &Key32, authority: &str) -> Router<Api> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let authority = authority.to_owned();
    let answer = move |RawQuery(query): RawQuery| async move {
        let challenge =
            query.as_deref().and_then(|query| query.strip_prefix("challenge=")).unwrap_or_default();
        // Exactly 32 bytes: the endpoint signs nothing but challenges.
        match encoding::unhex(challenge) {
            Some(challenge) if challenge.len() == 32 => {
                Ok(encoding::hex(hmac::sign(&key, &message(&challenge, &authority)).as_ref()))
            }
            _ => Err(http::StatusCode::BAD_REQUEST),
        }
    };
    Router::new().route(PATH, get(answer))
}

/// Whether the server at `url` serves the directory with this key. `None` when nobody listens there: nothing else than a
/// refused connection counts as nobody.
///
/// # Errors
/// When `url` is no http URL of a loopback address.
pub async fn answers(url: &str, key: &Key32) -> CommandResult<Option<bool>> {
    let authority = loopback_authority(url).ok_or_else(|| {
        CommandError(format!(
            "`{url}` is not http://ADDRESS:PORT with a loopback address, such as http://127.0.0.1:7420"
        ))
    })?;
    #[expect(clippy::disallowed_methods, reason = "a port of this machine is asked whether anybody listens")]
    let probe = tokio::net::TcpStream::connect(&authority).await;
    if probe.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
        return Ok(None);
    }
    let challenge = random::bytes::<32>(&SystemRandom);
    let client = GuardedClient::new(AllowList::new(vec![authority.parse()?]), Vec::new());
    let url = format!("{}{PATH}?challenge={}", url.trim_end_matches('/'), encoding::hex(&challenge));
    let request = HttpRequest::new(Method::Get, url, Vec::new(), None);
    let Ok(Ok(response)) = tokio::time::timeout(PATIENCE, client.send(request)).await else {
        return Ok(Some(false));
    };
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
    let answer = std::str::from_utf8(&response.body).ok().and_then(encoding::unhex).unwrap_or_default();
    Ok(Some(hmac::verify(&key, &message(&challenge, &authority), &answer).is_ok()))
}
