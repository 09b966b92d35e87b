//! What an AWS SDK does: a signed POST for each operation of a server.

use std::time::Duration;

use agent_identity_api::sigv4::{Service, SignedRequest, SigningCredentials, sign};
use agent_identity_core::http::{HttpClient as _, HttpError, HttpRequest, Method};
use agent_identity_core::{Clock as _, Secret};
use agent_identity_egress::{AllowList, GuardedClient};
use agent_identity_local::SystemClock;
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;
use url::Url;

use crate::{CommandError, CommandResult};

/// Longer than a tool may take, and once more after a token was refreshed.
const WITHIN: Duration = Duration::from_secs(70);

/// An answer of a tool has at most 1 MiB, which JSON may write at greater length.
const LARGEST_ANSWER: usize = 8 * 1024 * 1024;

/// A client of a server.
pub struct Client {
    url: String,
    authority: String,
    region: String,
    access_key_id: String,
    secret_access_key: Secret,
    http: GuardedClient,
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The server refuses it.
    #[error("{path}: {status} {name}: {message}")]
    Refused {
        /// Of the operation.
        path: String,
        /// The status code.
        status: u16,
        /// The exception's name.
        name: String,
        /// What is wrong.
        message: String,
    },
    /// Nothing was sent.
    #[error("{0}")]
    NotSent(String),
    /// It was sent, and there is no answer that can be read: it may have been done (D5).
    #[error("{0}")]
    Unknown(String),
}

impl CallError {
    fn not_sent(error: impl std::fmt::Display) -> Self {
        Self::NotSent(error.to_string())
    }
}

impl From<HttpError> for CallError {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Unknown { .. } => Self::Unknown(error.to_string()),
            HttpError::NotSent { .. } | HttpError::Forbidden { .. } => Self::NotSent(error.to_string()),
        }
    }
}

impl Client {
    /// A client of the server at this URL, with an access key of its.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn new(
        url: &str,
        region: &str,
        access_key_id: &str,
        secret_access_key: &Secret,
        extra_roots: Vec<u8>,
    ) -> CommandResult<Self> {
        let wrong = |why: &dyn std::fmt::Display| CommandError(format!("{url} is no URL of a server: {why}"));
        let parsed: Url = url.parse().map_err(|error| wrong(&error))?;
        let host = parsed.host_str().ok_or_else(|| wrong(&"it has no host"))?;
        let authority = match parsed.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        // A person named it, so that it may be anywhere.
        let port = parsed.port_or_known_default().ok_or_else(|| wrong(&"it has no port"))?;
        let allow = AllowList::new(vec![format!("{host}:{port}").parse()?]);
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            authority,
            region: region.to_owned(),
            access_key_id: access_key_id.to_owned(),
            secret_access_key: secret_access_key.clone(),
            http: GuardedClient::new(allow, extra_roots).with_largest_answer(LARGEST_ANSWER),
        })
    }

    /// Calls an operation by its path, and gives its answer.
    ///
    /// # Errors
    /// When it is refused, or nobody answers.
    pub async fn call(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        let body = body.to_string();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(&self.authority).map_err(CallError::not_sent)?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let signed = SignedRequest {
            method: "POST",
            raw_path: path,
            raw_query: None,
            headers: &headers,
            body: body.as_bytes(),
        };
        let credentials = SigningCredentials {
            access_key_id: &self.access_key_id,
            secret_access_key: &self.secret_access_key,
            session_token: None,
            region: &self.region,
            service: Service::BedrockAgentcore,
        };
        let added = sign(&credentials, &signed, SystemClock.now()).map_err(CallError::not_sent)?;
        let text = |name: &str| {
            let value = added.get(name).and_then(|value| value.to_str().ok());
            value.map(Secret::new).ok_or_else(|| CallError::not_sent("the signature is incomplete"))
        };
        let headers = vec![
            ("content-type", Secret::new("application/json")),
            ("authorization", text("authorization")?),
            ("x-amz-date", text("x-amz-date")?),
        ];
        let url = format!("{}{path}", self.url);
        let mut request = HttpRequest::new(Method::Post, url, headers, Some(Secret::new(body)));
        request.within = Some(WITHIN);
        let response = self.http.send(request).await?;
        let answer: Value = match response.body.as_slice() {
            [] => Value::Null,
            body => serde_json::from_slice(body).map_err(|_| {
                CallError::Unknown(format!("{path}: the answer ({}) is no JSON", response.status))
            })?,
        };
        if response.status >= 300 {
            return Err(CallError::Refused {
                path: path.to_owned(),
                status: response.status,
                name: response.header("x-amzn-errortype").unwrap_or("error").to_owned(),
                message: answer.get("message").and_then(Value::as_str).unwrap_or_default().to_owned(),
            });
        }
        Ok(answer)
    }
}

/// A text member of an answer.
///
/// # Errors
/// When it is not there.
pub fn text<'a>(answer: &'a Value, name: &str) -> CommandResult<&'a str> {
    answer.get(name).and_then(Value::as_str).ok_or_else(|| format!("the answer has no `{name}`").into())
}
