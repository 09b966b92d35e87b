//! An agent's tools as an MCP server over streamable HTTP: each message is a request of its own and its answer plain JSON, so that
//! nothing is kept between two of them.
//!
//! That is how version 2026-07-28 of the protocol is meant: each request says what its client can do. Of clients of earlier versions
//! one thing is to be known beyond the request that says it, whether they can open a URL for their user: it is in the id of the
//! session that they are given and send back, and it grants nothing.

use std::collections::BTreeMap;

use agent_identity_core::consent::SessionUri;
use agent_identity_core::encoding::{base64, unbase64};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::name::{Label, ToolName};
use agent_identity_core::random;
use agent_identity_service::invoke::{ToolAnswer, ToolCall, ToolOutcome, ToolSession};
use agent_identity_service::page::PageRequest;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::{MCP_PATH, Sessions, admitted, invoke};
use crate::gate::one_value;
use crate::operations::tool::MAX_PAGE;
use crate::{Api, Failure, operations};

/// The version in which a request says all of itself.
const STATELESS: &str = "2026-07-28";

/// Versions that begin with `initialize`, the newest first.
const WITH_HANDSHAKE: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

const VERSION_HEADER: &str = "mcp-protocol-version";
const SESSION_HEADER: &str = "mcp-session-id";
const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";

/// What a request of [`STATELESS`] says of its client, in `params._meta`.
const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// What an answer of [`STATELESS`] says of its server.
const META_SERVER: &str = "io.modelcontextprotocol/serverInfo";

/// Ends the id of a session whose client opens URLs for its user.
const OPENS_URLS: &str = "-url";

/// The name of the one question that a client is asked.
const CONSENT: &str = "consent";

/// JSON-RPC 2.0 §5.1.
const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL_ERROR: i32 = -32603;

/// MCP 2026-07-28: a header says something else than the body.
const HEADER_MISMATCH: i32 = -32020;
/// MCP 2026-07-28.
const UNSUPPORTED_VERSION: i32 = -32022;
/// MCP 2025-11-25.
const URL_ELICITATION_REQUIRED: i32 = -32042;

/// An error of the protocol.
struct RpcError {
    code: i32,
    message: String,
    data: Option<Value>,
}

impl RpcError {
    fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    fn unsupported(asked: &str) -> Self {
        let data = json!({ "supported": versions(), "requested": asked });
        Self { data: Some(data), ..Self::new(UNSUPPORTED_VERSION, "Unsupported protocol version") }
    }

    /// MCP 2026-07-28, "Streamable HTTP".
    const fn status(&self) -> StatusCode {
        match self.code {
            METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
            INTERNAL_ERROR => StatusCode::OK,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

fn versions() -> Vec<&'static str> {
    std::iter::once(STATELESS).chain(WITH_HANDSHAKE).collect()
}

/// What is to be known of a request's client.
#[derive(Clone, Copy)]
struct Client {
    /// Whether it speaks [`STATELESS`].
    is_stateless: bool,
    /// Whether it opens URLs for its user.
    opens_urls: bool,
}

pub(super) async fn door(api: &Api, sessions: &dyn Sessions, agent: &str, request: Request) -> Response {
    let headers = request.headers().clone();
    let (session, body) = match admitted(api, sessions, agent, MCP_PATH, request).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused,
    };
    let invalid = |error: RpcError| answer(StatusCode::BAD_REQUEST, &Value::Null, Err(error));
    let message = match serde_json::from_slice::<Value>(&body) {
        Ok(Value::Object(message)) => message,
        Ok(_) => return invalid(RpcError::new(INVALID_REQUEST, "a body is one JSON-RPC message")),
        Err(_) => return invalid(RpcError::new(PARSE_ERROR, "the body is not JSON")),
    };
    let version = one_value(&headers, VERSION_HEADER);
    if let Some(version) = version.filter(|version| !versions().contains(version)) {
        return invalid(RpcError::unsupported(version));
    }
    let method = message.get("method").and_then(Value::as_str);
    let id = message.get("id").filter(|id| id.is_string() || id.is_i64() || id.is_u64());
    let is_rpc = message.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    match (method, id) {
        (Some(method), Some(id)) if is_rpc => {
            let none = Map::new();
            let params = message.get("params").and_then(Value::as_object).unwrap_or(&none);
            if version == Some(STATELESS) {
                let result = async {
                    let client = stateless_client(&headers, method, params)?;
                    Ok(complete(perform(api, &session, method, params, client).await?))
                };
                let result = result.await;
                return answer(result.as_ref().err().map_or(StatusCode::OK, RpcError::status), id, result);
            }
            if method == "initialize" {
                return initialize(api, id, params);
            }
            let opens_urls = one_value(&headers, SESSION_HEADER).is_some_and(|id| id.ends_with(OPENS_URLS));
            let client = Client { is_stateless: false, opens_urls };
            answer(StatusCode::OK, id, perform(api, &session, method, params, client).await)
        }
        // Notifications, and answers to questions that this server does not ask.
        (Some(_), None) if is_rpc && !message.contains_key("id") => StatusCode::ACCEPTED.into_response(),
        (None, Some(_)) if is_rpc && (message.contains_key("result") || message.contains_key("error")) => {
            StatusCode::ACCEPTED.into_response()
        }
        _ => invalid(RpcError::new(
            INVALID_REQUEST,
            "is no JSON-RPC 2.0 request with a string or a number as its id",
        )),
    }
}

fn answer(status: StatusCode, id: &Value, result: Result<Value, RpcError>) -> Response {
    let body = match result {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(RpcError { code, message, data }) => {
            let mut error = json!({ "code": code, "message": message });
            if let (Some(data), Some(members)) = (data, error.as_object_mut()) {
                members.insert("data".to_owned(), data);
            }
            json!({ "jsonrpc": "2.0", "id": id, "error": error })
        }
    };
    operations::json(status, &body)
}

fn server_info() -> Value {
    json!({ "name": "agent-identity", "version": env!("CARGO_PKG_VERSION") })
}

fn opens_urls(capabilities: Option<&Value>) -> bool {
    capabilities
        .and_then(|capabilities| capabilities.get("elicitation")?.get("url"))
        .is_some_and(|url| !url.is_null())
}

fn initialize(api: &Api, id: &Value, params: &Map<String, Value>) -> Response {
    let asked = params.get("protocolVersion").and_then(Value::as_str);
    let [newest, ..] = WITH_HANDSHAKE;
    let version = WITH_HANDSHAKE.into_iter().find(|version| asked == Some(version)).unwrap_or(newest);
    let result = json!({
        "protocolVersion": version,
        "capabilities": { "tools": {} },
        "serverInfo": server_info(),
    });
    let mut response = answer(StatusCode::OK, id, Ok(result));
    if opens_urls(params.get("capabilities")) {
        let handle = random::handle(&*api.services.ports().random);
        if let Ok(id) = HeaderValue::from_str(&format!("{handle}{OPENS_URLS}")) {
            response.headers_mut().insert(SESSION_HEADER, id);
        }
    }
    response
}

/// What a request of [`STATELESS`] says of its client. What stands in its headers, for who looks at these alone, must be so.
fn stateless_client(
    headers: &HeaderMap,
    method: &str,
    params: &Map<String, Value>,
) -> Result<Client, RpcError> {
    let meta = |key: &str| params.get("_meta").and_then(|meta| meta.get(key));
    let (Some(version), Some(capabilities)) = (meta(META_VERSION), meta(META_CAPABILITIES)) else {
        let message = format!("`params._meta` must have `{META_VERSION}` and `{META_CAPABILITIES}`");
        return Err(RpcError::new(INVALID_PARAMS, message));
    };
    let name = if method == "tools/call" { params.get("name").and_then(Value::as_str) } else { None };
    let shown_name = one_value(headers, NAME_HEADER).and_then(plain_header);
    for (header_name, is_so) in [
        (VERSION_HEADER, version.as_str() == Some(STATELESS)),
        (METHOD_HEADER, one_value(headers, METHOD_HEADER) == Some(method)),
        (NAME_HEADER, name.is_none() || shown_name.as_deref() == name),
    ] {
        if !is_so {
            let message = format!("the header `{header_name}` does not say what the body does");
            return Err(RpcError::new(HEADER_MISMATCH, message));
        }
    }
    Ok(Client { is_stateless: true, opens_urls: opens_urls(Some(capabilities)) })
}

/// A header's value, which stands in base64 where it is more than plain text.
fn plain_header(value: &str) -> Option<String> {
    match value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) {
        Some(encoded) => String::from_utf8(unbase64(encoded)?).ok(),
        None => Some(value.to_owned()),
    }
}

/// A result as [`STATELESS`] wants it.
fn complete(mut result: Value) -> Value {
    if let Some(members) = result.as_object_mut() {
        members.entry("resultType").or_insert_with(|| json!("complete"));
        members.insert("_meta".to_owned(), json!({ META_SERVER: server_info() }));
    }
    result
}

async fn perform(
    api: &Api,
    session: &ToolSession,
    method: &str,
    params: &Map<String, Value>,
    client: Client,
) -> Result<Value, RpcError> {
    match method {
        "ping" => Ok(json!({})),
        "server/discover" if client.is_stateless => Ok(json!({
            "supportedVersions": versions(),
            "capabilities": { "tools": {} },
            "cacheScope": "private",
            "ttlMs": 0,
        })),
        "tools/list" => {
            let mut tools = list(api, session, params).await?;
            if let (true, Some(members)) = (client.is_stateless, tools.as_object_mut()) {
                members.insert("cacheScope".to_owned(), json!("private"));
                members.insert("ttlMs".to_owned(), json!(0));
            }
            Ok(tools)
        }
        "tools/call" => call(api, session, params, client).await,
        _ => {
            let method: String = method.chars().take(64).collect();
            Err(RpcError::new(
                METHOD_NOT_FOUND,
                format!("there is no method `{method}`: this server has tools"),
            ))
        }
    }
}

async fn list(api: &Api, session: &ToolSession, params: &Map<String, Value>) -> Result<Value, RpcError> {
    let next_token = params.get("cursor").and_then(Value::as_str).map(str::to_owned);
    let mut page = PageRequest { max_results: usize::try_from(MAX_PAGE).unwrap_or(1), next_token };
    loop {
        let found =
            api.services.tools_in_session(session, &page).await.map_err(|error| match error.kind() {
                ErrorKind::Validation => {
                    RpcError::new(INVALID_PARAMS, "the cursor is not one of this server's")
                }
                _ => internal(&Failure::from(error)),
            })?;
        // A page on which no tool is this agent's says nothing; clients may stop at it.
        if found.items.is_empty() && found.next_token.is_some() {
            page.next_token = found.next_token;
            continue;
        }
        let tools: Vec<Value> = found
            .items
            .iter()
            .map(|tool| {
                json!({ "name": tool.name, "description": tool.description, "inputSchema": tool.input_schema })
            })
            .collect();
        let mut result = json!({ "tools": tools });
        if let (Some(next), Some(members)) = (found.next_token, result.as_object_mut()) {
            members.insert("nextCursor".to_owned(), json!(next));
        }
        return Ok(result);
    }
}

fn internal(failure: &Failure) -> RpcError {
    RpcError::new(INTERNAL_ERROR, failure.message.clone())
}

async fn call(
    api: &Api,
    session: &ToolSession,
    params: &Map<String, Value>,
    client: Client,
) -> Result<Value, RpcError> {
    let name = params.get("name").and_then(Value::as_str).and_then(|name| ToolName::parse(name).ok());
    let tool = name.ok_or_else(|| RpcError::new(INVALID_PARAMS, "`name` is not that of a tool"))?;
    let input = match params.get("arguments") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(input)) => input.clone(),
        Some(_) => return Err(RpcError::new(INVALID_PARAMS, "`arguments` must be an object")),
    };
    // The user was asked before, and this is what came of it.
    let action = params.get("inputResponses").and_then(|responses| responses.get(CONSENT)?.get("action"));
    if let Some("decline" | "cancel") = action.and_then(Value::as_str) {
        return Ok(failed(&format!("The user did not allow the tool `{tool}` to be used in their name.")));
    }
    let consent = match params.get("requestState").and_then(Value::as_str) {
        None => None,
        Some(state) => Some(SessionUri::parse(state).map_err(|_wrong| {
            RpcError::new(INVALID_PARAMS, "`requestState` is not what this server has given")
        })?),
    };
    let call = ToolCall {
        tool: tool.clone(),
        input,
        label: Label::default(),
        consent,
        return_url: None,
        custom_state: None,
    };
    match invoke(api, session, Ok(call)).await {
        Ok(ToolOutcome::Answered(answer)) => Ok(answered(&tool, answer)),
        Ok(ToolOutcome::Consent { authorization_url, session }) => {
            asks_for_consent(&tool, authorization_url.expose(), session.as_str(), client)
        }
        Ok(ToolOutcome::Failed { code, message }) => Ok(failed(&format!("{}: {message}", code.as_str()))),
        Err(failure) if failure.name == "ResourceNotFoundException" => {
            Err(RpcError::new(INVALID_PARAMS, failure.message))
        }
        Err(failure) if failure.status.is_server_error() => Err(internal(&failure)),
        // What the model can mend, or tell its user.
        Err(failure) => Ok(failed(&failure.message)),
    }
}

/// The user must consent first: asked by the client, if it can, or else told by the agent.
fn asks_for_consent(tool: &ToolName, url: &str, session: &str, client: Client) -> Result<Value, RpcError> {
    let message = format!("The user must first allow the tool `{tool}` to be used in their name.");
    match client {
        Client { is_stateless: true, opens_urls: true } => {
            let params = json!({ "mode": "url", "message": message, "url": url });
            Ok(json!({
                "resultType": "input_required",
                "inputRequests": { CONSENT: { "method": "elicitation/create", "params": params } },
                "requestState": session,
            }))
        }
        Client { is_stateless: false, opens_urls: true } => {
            let elicitation =
                json!({ "mode": "url", "elicitationId": session, "url": url, "message": message });
            let data = Some(json!({ "elicitations": [elicitation] }));
            Err(RpcError { data, ..RpcError::new(URL_ELICITATION_REQUIRED, message) })
        }
        Client { opens_urls: false, .. } => {
            Ok(failed(&format!("{message} Let them open {url} and then call it again.")))
        }
    }
}

fn answered(tool: &ToolName, answer: ToolAnswer) -> Value {
    let ToolAnswer { status, headers, body } = answer;
    let is_error = !(200..400).contains(&status);
    let content = match String::from_utf8(body) {
        Ok(body) if is_error => json!({ "type": "text", "text": format!("HTTP {status}\n{body}") }),
        Ok(body) => json!({ "type": "text", "text": body }),
        Err(binary) => binary_content(tool, &headers, &binary.into_bytes()),
    };
    json!({ "content": [content], "isError": is_error })
}

fn failed(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }], "isError": true })
}

/// What is no text: an image or a sound as such, anything else as a resource of the tool's.
fn binary_content(tool: &ToolName, headers: &BTreeMap<String, String>, body: &[u8]) -> Value {
    let kind = headers.get("content-type").and_then(|it| it.split(';').next()).map(str::trim);
    let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or("application/octet-stream");
    let data = base64(body);
    match kind.split('/').next() {
        Some(media @ ("image" | "audio")) => json!({ "type": media, "data": data, "mimeType": kind }),
        _ => json!({
            "type": "resource",
            "resource": { "uri": format!("tool:{tool}/answer"), "mimeType": kind, "blob": data },
        }),
    }
}
