//! What every request passes: the `Host` check (D21), a request id, and a task of its own that outlives its client.

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http::header::{self, AsHeaderName};
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use http_body_util::BodyExt as _;
use tracing::Instrument as _;

use crate::{Api, Failure};
use agent_identity_core::Id;
use agent_identity_service::audit::{self, About};

/// Which `Host` headers are served.
#[derive(Clone, Debug)]
pub enum Hosts {
    /// Any: whoever is in front has looked (API Gateway).
    Any,
    /// These authorities only, in lower case: a page of another site that had its name point at this machine (DNS
    /// rebinding) is refused.
    Only(Vec<String>),
    /// These, and `/healthz` under any name: beyond loopback, where a load balancer asks by address and a page that asks learns
    /// nothing.
    OnlyButHealth(Vec<String>),
}

/// Where its health is asked.
pub(crate) const HEALTH: &str = "/healthz";

impl Hosts {
    fn admits(&self, target: &Uri, headers: &HeaderMap) -> bool {
        let hosts = match self {
            Self::Any => return true,
            Self::OnlyButHealth(_) if target.path() == HEALTH => return true,
            Self::Only(hosts) | Self::OnlyButHealth(hosts) => hosts,
        };
        // A target that names an authority of its own overrides Host (RFC 9112 §3.2.2): nobody but a proxy is sent one.
        if target.authority().is_some() {
            return false;
        }
        one_value(headers, &header::HOST).is_some_and(|host| hosts.contains(&host.to_ascii_lowercase()))
    }
}

/// The one value of a header, if it is text; two are none, since which of them counts, others may see differently.
pub fn one_value(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    let mut all = headers.get_all(name).iter();
    match (all.next(), all.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// A request's id, where whoever is in front has given it one (Lambda): an extension of the request, which nothing that a
/// client sends can set.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

/// So much of a foreign `Host` is logged.
const SHOWN_HOST: usize = 128;

/// A body is read to this size.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// A larger body is read on to this size, and thrown away, so that its sender reads the answer.
const MAX_DRAIN: usize = 16 * 1024 * 1024;

/// How long a body may take to come in.
const BODY_TIME: Duration = Duration::from_secs(30);

/// How long it may still send when the process is about to end.
const LAST_MOMENTS: Duration = Duration::from_secs(1);

async fn last_moments(api: &Api) {
    api.stopping.cancelled().await;
    tokio::time::sleep(LAST_MOMENTS).await;
}

/// Runs a request to its end in a task of its own: when its client goes away, a refresh that is under way still reaches
/// the store, and a panic is an answer.
pub(crate) async fn pass(State(api): State<Api>, request: Request, next: Next) -> Response {
    let id = match request.extensions().get::<RequestId>() {
        Some(RequestId(id)) => id.clone(),
        None => Id::<RequestId>::random(&*api.services.ports().random).hyphenated(),
    };
    let span = tracing::info_span!("request", request_id = %id);
    // RFC 9112 §6.1: a request with two framings, chunks and a Content-Length, ends its connection. hyper reads the chunks and
    // has dropped the other by now, so that each chunked request does.
    let last = request.headers().contains_key(header::TRANSFER_ENCODING);
    let admitted = api.hosts.admits(request.uri(), request.headers());
    let about = About {
        request: Some(id.clone()),
        ..About::new("anonymous", format!("{} {}", request.method(), request.uri().path()))
    };
    let work = async move {
        if admitted {
            next.run(request).await
        } else {
            let host =
                request.headers().get(header::HOST).map(|host| host.as_bytes().escape_ascii().to_string());
            let host: String = host.unwrap_or_default().chars().take(SHOWN_HOST).collect();
            tracing::info!(
                host,
                status = 403,
                error = "AccessDeniedException",
                "refused: this Host is not served"
            );
            Failure::new(
                "AccessDeniedException",
                StatusCode::FORBIDDEN,
                "this Host is not served here: use the address that the server printed, or its public base URL",
            )
            .into_response()
        }
    };
    let mut response = match api.work.spawn(audit::about(about, work.instrument(span))).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(request_id = %id, %error, "a request failed by panic");
            Failure::from(agent_identity_core::Error::internal("panic")).into_response()
        }
    };
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-amzn-requestid", value);
    }
    if last {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// `GET /healthz`.
pub(crate) async fn health() -> Result<&'static str, Infallible> {
    Ok("ok\n")
}

/// The whole body, if it is not too large.
///
/// # Errors
/// 413 when it is; it was read to its end (or to 16 MiB) so that the connection can go on.
pub(crate) async fn read_body(api: &Api, body: axum::body::Body) -> Result<Bytes, Failure> {
    in_time(api, body, true).await
}

/// Reads a body as [`read_body`] does and keeps nothing of it: its request is refused.
///
/// # Errors
/// As [`read_body`].
pub(crate) async fn drain(api: &Api, body: axum::body::Body) -> Result<(), Failure> {
    in_time(api, body, false).await.map(drop)
}

async fn in_time(api: &Api, body: axum::body::Body, keep: bool) -> Result<Bytes, Failure> {
    let too_slow =
        || Failure::cannot_parse(StatusCode::REQUEST_TIMEOUT, "the body did not come to its end in time");
    tokio::select! {
        body = tokio::time::timeout(BODY_TIME, read(body, keep)) => body.map_err(|_slow| too_slow())?,
        () = last_moments(api) => Err(too_slow()),
    }
}

/// Reads to the end, or to 16 MiB.
async fn read(mut body: axum::body::Body, keep: bool) -> Result<Bytes, Failure> {
    let mut whole = BytesMut::new();
    let mut length = 0_usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_broken| {
            Failure::cannot_parse(StatusCode::BAD_REQUEST, "the body broke off before its end")
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length = length.saturating_add(data.len());
        if length > MAX_DRAIN {
            break;
        }
        if keep && length <= MAX_BODY {
            whole.extend_from_slice(&data);
        }
    }
    if length > MAX_BODY {
        return Err(Failure::cannot_parse(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body is larger than {MAX_BODY} bytes"),
        ));
    }
    Ok(whole.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(hosts: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        headers
    }

    #[test]
    fn d21_only_the_listed_hosts_are_served() {
        let hosts = Hosts::Only(vec!["localhost:7420".to_owned(), "[::1]:7420".to_owned()]);
        let admits = |names: &[&str]| hosts.admits(&Uri::from_static("/healthz"), &headers(names));
        assert!(admits(&["LocalHost:7420"]));
        assert!(admits(&["[::1]:7420"]));
        assert!(
            !hosts.admits(&Uri::from_static("http://evil.example/healthz"), &headers(&["localhost:7420"]))
        );
        for wrong in [&["localhost"][..], &["evil.example:7420"], &[], &["localhost:7420", "localhost:7420"]]
        {
            assert!(!admits(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn beyond_loopback_the_health_is_told_under_any_name_and_nothing_else_is() {
        let hosts = Hosts::OnlyButHealth(vec!["id.example".to_owned()]);
        for (path, host, admitted) in [
            ("/healthz", "10.0.0.7:8080", true),
            ("/healthz", "id.example", true),
            ("/", "id.example", true),
            ("/", "10.0.0.7:8080", false),
            ("/healthz/", "10.0.0.7:8080", false),
        ] {
            assert_eq!(hosts.admits(&Uri::from_static(path), &headers(&[host])), admitted, "{path} {host}");
        }
    }
}
