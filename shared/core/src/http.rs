//! The port for outbound HTTP, and the plain request and response values that the sans-IO crates build and read.

use std::borrow::Cow;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::Secret;

/// An outbound request. Bodies are whole and small: token endpoints, discovery documents, key sets, calls of tools.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// The absolute URL. Never holds a secret.
    pub url: String,
    /// A parameter that is added to the URL's query where it is sent, percent-encoded already: for tools whose API takes its
    /// key there and nowhere else.
    pub secret_query: Option<Secret>,
    /// Header names (lower case) and values. A value may be a secret, so all are held as such.
    pub headers: Vec<(Cow<'static, str>, Secret)>,
    /// The body, if any. It may carry client secrets and tokens.
    pub body: Option<Secret>,
    /// How long it may take to the last byte of the answer, where that is not the client's own limit.
    pub within: Option<Duration>,
}

impl HttpRequest {
    /// A request of this product's own.
    pub fn new(
        method: Method,
        url: impl Into<String>,
        headers: Vec<(&'static str, Secret)>,
        body: Option<Secret>,
    ) -> Self {
        let headers = headers.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect();
        Self { method, url: url.into(), secret_query: None, headers, body, within: None }
    }
}

/// The methods that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// GET, for discovery documents, key sets and tools.
    Get,
    /// HEAD, for tools.
    Head,
    /// POST, for token, revocation and introspection endpoints, and tools.
    Post,
    /// PUT, for tools.
    Put,
    /// PATCH, for tools.
    Patch,
    /// DELETE, for providers whose revocation is one, and tools.
    Delete,
}

impl Method {
    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }
}

/// The answer to an [`HttpRequest`]. The body may hold tokens, hence no `Debug` of it.
#[derive(Clone)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The whole body, at most the client's cap.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpResponse").field("status", &self.status).finish_non_exhaustive()
    }
}

impl HttpResponse {
    /// The first value of the header with this lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no usable answer. The difference between the first two decides whether a grant can be lost (D5).
#[derive(Clone, Debug, thiserror::Error)]
pub enum HttpError {
    /// Nothing was sent: the target is forbidden by the egress guard. It will stay so.
    #[error("egress to {target} is not allowed: {reason}")]
    Forbidden {
        /// `host:port`, without path or query.
        target: String,
        /// Why, and what would allow it.
        reason: String,
    },
    /// No byte of the request left: name resolution, connect or TLS failed. Safe to repeat.
    #[error("cannot reach {target}: {reason}")]
    NotSent {
        /// `host:port`, without path or query.
        target: String,
        /// The cause, without secrets.
        reason: String,
    },
    /// The request left at least in part, and no whole answer came: its outcome is **unknown** (D5).
    #[error("no usable answer from {target}: {reason}")]
    Unknown {
        /// `host:port`, without path or query.
        target: String,
        /// The cause, without secrets.
        reason: String,
    },
}

/// The guarded client to the world.
#[async_trait]
pub trait HttpClient: Send + Sync {
    /// Sends one request and reads the whole answer, without following redirects.
    ///
    /// # Errors
    /// See [`HttpError`]; any status code, 5xx included, is an `Ok`.
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError>;
}
