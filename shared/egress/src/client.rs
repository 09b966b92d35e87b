//! The client: one request, one connection, one answer, within its limits.

use std::pin::pin;
use std::time::Duration;

use agent_identity_core::Secret;
use agent_identity_core::http::{HttpClient, HttpError, HttpRequest, HttpResponse, Method};
use async_trait::async_trait;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use crate::allow::AllowList;
use crate::connect::{Connector, Resolve, SystemResolver};
use crate::target::Target;
use crate::watched::{Sent, Watched};

#[cfg(test)]
mod tests;

/// Most bytes of an answer's status line and headers.
const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Most headers of an answer.
const MAX_HEADERS: usize = 100;

/// Headers that say how a message is framed or where it goes: the client's alone.
const OURS: [HeaderName; 5] =
    [header::HOST, header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE];

#[derive(Clone, Copy)]
struct Limits {
    total: Duration,
    body: usize,
}

/// 10 seconds from the lookup of the name to the last byte of the answer, whose body has at most 1 MiB.
const LIMITS: Limits = Limits { total: Duration::from_secs(10), body: 1024 * 1024 };

/// How long the last look at a socket may take.
const LAST_LOOK: Duration = Duration::from_millis(250);

/// The guarded client. Follows no redirect, uses no proxy, keeps no cookie, tries nothing twice.
pub struct GuardedClient {
    connector: Connector,
    limits: Limits,
}

impl GuardedClient {
    /// A client that reaches the public internet over https, and what `allow` lists. `extra_roots` is the content of
    /// `AGENT_IDENTITY_EXTRA_CA_FILE`, PEM, or empty; [`crate::check_extra_roots`] says beforehand whether it is usable.
    pub fn new(allow: AllowList, extra_roots: Vec<u8>) -> Self {
        Self::with(allow, extra_roots, Box::new(SystemResolver), LIMITS)
    }

    /// The same client, for answers of so many bytes.
    #[must_use]
    pub fn with_largest_answer(mut self, bytes: usize) -> Self {
        self.limits.body = bytes;
        self
    }

    fn with(allow: AllowList, extra_roots: Vec<u8>, resolver: Box<dyn Resolve>, limits: Limits) -> Self {
        Self { connector: Connector::new(allow, resolver, extra_roots), limits }
    }

    async fn exchange(
        &self,
        target: &Target,
        request: http::Request<Full<Bytes>>,
        sent: &Sent,
    ) -> Result<HttpResponse, HttpError> {
        let stream = self.connector.connect(target).await?;
        let failed = |error: hyper::Error| {
            let reason = describe(&error);
            if sent.maybe() { target.unknown(reason) } else { target.not_sent(reason) }
        };
        let io = TokioIo::new(Watched::new(stream, sent.clone()));
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(MAX_HEAD_BYTES)
            .max_header_size(MAX_HEAD_BYTES)
            .max_headers(MAX_HEADERS)
            .handshake(io)
            .await
            .map_err(failed)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            self.read(target, response).await
        };
        tokio::pin!(answer, connection);
        // The connection is driven here and not in a task of its own, so that it ends with the request, whoever drops it.
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            _ = &mut connection => answer.await,
        }
    }

    /// The whole answer. The request has left by now, so whatever is wrong makes the outcome unknown.
    async fn read(
        &self,
        target: &Target,
        response: http::Response<Incoming>,
    ) -> Result<HttpResponse, HttpError> {
        let (head, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| target.unknown(describe(&error)))?;
            let Ok(data) = frame.into_data() else { continue };
            if bytes.len() + data.len() > self.limits.body {
                return Err(target.unknown(format!("the answer is larger than {} bytes", self.limits.body)));
            }
            bytes.extend_from_slice(&data);
        }
        let headers = head.headers.iter().map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        Ok(HttpResponse { status: head.status.as_u16(), headers: headers.collect(), body: bytes })
    }
}

#[async_trait]
impl HttpClient for GuardedClient {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let target = Target::parse(&request.url)?;
        let total = request.within.unwrap_or(self.limits.total);
        let request = message(&target, request)?;
        let sent = Sent::default();
        let mut exchange = pin!(self.exchange(&target, request, &sent));
        let mut outcome = tokio::time::timeout(total, &mut exchange).await;
        if outcome.is_err() && sent.maybe() {
            // A process that was frozen finds its time gone and the answer in its socket: one last look, for what is there
            // already must not become an unknown outcome (D5).
            outcome = tokio::time::timeout(LAST_LOOK, &mut exchange).await;
        }
        match outcome {
            Ok(outcome) => outcome,
            Err(_) if sent.maybe() => Err(target.unknown(format!("no whole answer in {total:?}"))),
            Err(_) => Err(target.not_sent(format!("no connection in {total:?}"))),
        }
    }
}

/// The request as it goes over the wire.
fn message(target: &Target, request: HttpRequest) -> Result<http::Request<Full<Bytes>>, HttpError> {
    let method = match request.method {
        Method::Get => http::Method::GET,
        Method::Head => http::Method::HEAD,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Delete => http::Method::DELETE,
    };
    let body = request.body.map_or_else(Bytes::new, |body| Bytes::from_owner(SecretBytes(body)));
    let mut message = http::Request::new(Full::new(body));
    *message.method_mut() = method;
    let malformed = |what: &str| target.forbidden(format!("{what} cannot be sent"));
    let uri = match &request.secret_query {
        Some(secret) => {
            let mark = if target.path_and_query.contains('?') { '&' } else { '?' };
            format!("{}{mark}{}", target.path_and_query, secret.expose()).parse()
        }
        None => target.path_and_query.parse(),
    };
    *message.uri_mut() = uri.map_err(|_| malformed("the path"))?;
    let headers = message.headers_mut();
    headers.insert(
        header::USER_AGENT,
        HeaderValue::from_static(concat!("agent-identity/", env!("CARGO_PKG_VERSION"))),
    );
    // What is not decompressed must not be compressed.
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    for (name, value) in request.headers {
        let header =
            HeaderName::try_from(name.as_ref()).map_err(|_| malformed(&format!("header `{name}`")))?;
        let mut value = HeaderValue::try_from(value.expose())
            .map_err(|_| malformed(&format!("the value of header `{name}`")))?;
        if OURS.contains(&header) {
            return Err(malformed(&format!("header `{name}`")));
        }
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    let host = HeaderValue::try_from(target.host_header()).map_err(|_| malformed("the host"))?;
    headers.insert(header::HOST, host);
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    Ok(message)
}

/// A body that is wiped when the last of its clones is dropped.
struct SecretBytes(Secret);

impl AsRef<[u8]> for SecretBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}

/// An error with its causes, none of which repeats what was sent or received.
fn describe(error: &hyper::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
