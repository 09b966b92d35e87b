//! `rmcp-peer URL auto|legacy TOOL INPUT`: lists the tools of an MCP server and calls one. The user's token is the first line of stdin.
//! Prints `{"open": URL}` when it is asked to open one, and goes on with the next line of stdin, `accept` or `decline`; the last line
//! is `{"tools": […], "result": …}`, or `{"error": …}`.
//!
//! All of the protocol is `rmcp`'s. Its own HTTP clients bring another TLS stack, so that its requests go out here.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rmcp::model::{
    CallToolRequestParams, ClientCapabilities, ClientConfig, ClientJsonRpcMessage, ElicitRequestParams,
    ElicitResult, ElicitationAction, ElicitationCapability, ProtocolVersion, UrlElicitationCapability,
};
use rmcp::service::RequestContext;
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, SseError, StreamableHttpClient, StreamableHttpClientTransportConfig,
    StreamableHttpError, StreamableHttpPostResponse,
};
use rmcp::{ClientHandler, ClientLifecycleMode, ClientServiceExt as _, ErrorData, RoleClient};
use serde_json::{Map, Value, json};
use sse_stream::Sse;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin};
use tokio::sync::Mutex;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone)]
struct Http(hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>);

#[derive(Debug, thiserror::Error)]
enum HttpFailure {
    #[error(transparent)]
    Send(#[from] hyper_util::client::legacy::Error),
    #[error("the answer is incomplete")]
    Read,
    #[error(transparent)]
    Make(#[from] http::Error),
}

type Refused = StreamableHttpError<HttpFailure>;

impl Http {
    async fn send(
        &self,
        method: &str,
        uri: &str,
        session: Option<Arc<str>>,
        token: Option<String>,
        more: HashMap<HeaderName, HeaderValue>,
        body: String,
    ) -> Result<Response<Bytes>, HttpFailure> {
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream");
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if let Some(session) = session {
            request = request.header("mcp-session-id", &*session);
        }
        for (name, value) in more {
            request = request.header(name, value);
        }
        let response = self.0.request(request.body(Full::from(body))?).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|_| HttpFailure::Read)?.to_bytes();
        Ok(Response::from_parts(head, body))
    }
}

impl StreamableHttpClient for Http {
    type Error = HttpFailure;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        token: Option<String>,
        more: HashMap<HeaderName, HeaderValue>,
    ) -> Result<StreamableHttpPostResponse, Refused> {
        let body = serde_json::to_string(&message)?;
        let response =
            self.send("POST", &uri, session, token, more, body).await.map_err(StreamableHttpError::Client)?;
        let text = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        if let (StatusCode::UNAUTHORIZED, Some(challenge)) = (response.status(), text("www-authenticate")) {
            return Err(StreamableHttpError::AuthRequired(AuthRequiredError::new(challenge)));
        }
        if response.status() == StatusCode::ACCEPTED {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        // An error of the protocol comes with a status of its own.
        match serde_json::from_slice(response.body()) {
            Ok(message) => Ok(StreamableHttpPostResponse::Json(message, text("mcp-session-id"))),
            Err(_) => Err(StreamableHttpError::UnexpectedServerResponse(
                format!("HTTP {}: {}", response.status(), String::from_utf8_lossy(response.body())).into(),
            )),
        }
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        token: Option<String>,
        more: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Refused> {
        let sent = self.send("DELETE", &uri, Some(session), token, more, String::new()).await;
        match sent.map_err(StreamableHttpError::Client)?.status() {
            StatusCode::METHOD_NOT_ALLOWED => Err(StreamableHttpError::ServerDoesNotSupportDeleteSession),
            _ => Ok(()),
        }
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session: Option<Arc<str>>,
        _last_event_id: Option<String>,
        token: Option<String>,
        more: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Refused> {
        let sent = self.send("GET", &uri, session, token, more, String::new()).await;
        match sent.map_err(StreamableHttpError::Client)?.status() {
            StatusCode::METHOD_NOT_ALLOWED => Err(StreamableHttpError::ServerDoesNotSupportSse),
            status => {
                Err(StreamableHttpError::UnexpectedServerResponse(format!("GET: HTTP {status}").into()))
            }
        }
    }
}

/// A client whose user opens URLs, or does not.
#[derive(Clone)]
struct Person(Arc<Mutex<Lines<BufReader<Stdin>>>>);

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let mut capabilities = ClientCapabilities::default();
        capabilities.elicitation =
            Some(ElicitationCapability::new().with_url(UrlElicitationCapability::new()));
        let mut config = ClientConfig::default();
        config.capabilities = capabilities;
        config
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let failed = |error: std::io::Error| ErrorData::internal_error(error.to_string(), None);
        let ElicitRequestParams::UrlElicitationParams { url, .. } = request else {
            return Ok(ElicitResult::new(ElicitationAction::Decline));
        };
        print(&json!({ "open": url })).await.map_err(failed)?;
        let said = self.0.lock().await.next_line().await.map_err(failed)?;
        Ok(ElicitResult::new(match said.as_deref() {
            Some("accept") => ElicitationAction::Accept,
            _ => ElicitationAction::Decline,
        }))
    }
}

async fn print(value: &Value) -> std::io::Result<()> {
    let mut out = tokio::io::stdout();
    out.write_all(format!("{value}\n").as_bytes()).await?;
    out.flush().await
}

async fn work(arguments: &[String], person: Person) -> Result<Value, Failure> {
    let [url, mode, tool, input] = arguments else {
        return Err("usage: rmcp-peer URL auto|legacy TOOL INPUT".into());
    };
    let token = person.0.lock().await.next_line().await?.ok_or("no token on stdin")?;
    let input: Map<String, Value> = serde_json::from_str(input)?;
    let http = Http(hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build_http());
    let config = StreamableHttpClientTransportConfig::with_uri(url.as_str()).auth_header(token);
    let transport = StreamableHttpClientTransport::with_client(http, config);
    let mode = match mode.as_str() {
        "legacy" => ClientLifecycleMode::Initialize,
        _ => ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] },
    };
    let client = person.serve_with_lifecycle(transport, mode).await?;
    let tools: Vec<String> =
        client.list_all_tools().await?.into_iter().map(|tool| tool.name.into_owned()).collect();
    let called = client.call_tool(CallToolRequestParams::new(tool.clone()).with_arguments(input)).await?;
    let result = serde_json::to_value(called)?;
    client.cancel().await?;
    Ok(json!({ "tools": tools, "result": result }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let person = Person(Arc::new(Mutex::new(BufReader::new(tokio::io::stdin()).lines())));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let said = match work(&arguments, person).await {
        Ok(said) => said,
        Err(error) => json!({ "error": error.to_string() }),
    };
    print(&said).await?;
    Ok(())
}
