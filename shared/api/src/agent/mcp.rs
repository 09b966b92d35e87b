//! An agent's tools as an MCP server over streamable HTTP: each message is a request of its own and its answer plain JSON, so that
//! nothing is kept between two of them.
//!
//! The one thing that is to be known of a client beyond a request, whether it can open a URL for its user, is in the id of the
//! session that it is given: the client sends it back, and it grants nothing.

use agent_identity_core::error::ErrorKind;
use agent_identity_core::name::ToolName;
use agent_identity_core::random;
use agent_identity_service::invoke::{ToolCall, ToolOutcome, ToolSession};
use agent_identity_service::page::PageRequest;
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Map, Value, json};

use super::{MCP_PATH, Sessions, admitted, invoke};
use crate::operations::tool::MAX_PAGE;
use crate::{Api, Failure, operations};

/// Versions of the protocol, the newest first.
const VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

const VERSION_HEADER: &str = "mcp-protocol-version";
const SESSION_HEADER: &str = "mcp-session-id";

/// Ends the id of a session whose client opens URLs for its user.
const OPENS_URLS: &str = "-url";

/// JSON-RPC 2.0 §5.1.
const PARSE_ERROR: i32 = -32700;
const INVALID_REQUEST: i32 = -32600;
const METHOD_NOT_FOUND: i32 = -32601;
const INVALID_PARAMS: i32 = -32602;
const INTERNAL_ERROR: i32 = -32603;

/// MCP 2025-11-25, "URL Elicitation Required Error".
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
}

pub(super) async fn door(api: &Api, sessions: &dyn Sessions, agent: &str, request: Request) -> Response {
    let headers = request.headers().clone();
    let (session, body) = match admitted(api, sessions, agent, MCP_PATH, request).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused,
    };
    if let Some(version) = headers.get(VERSION_HEADER)
        && !VERSIONS.iter().any(|known| version.as_bytes() == known.as_bytes())
    {
        let error = RpcError::new(INVALID_REQUEST, format!("this server speaks MCP {}", VERSIONS.join(", ")));
        return answer(StatusCode::BAD_REQUEST, &Value::Null, Err(error));
    }
    let message = match serde_json::from_slice::<Value>(&body) {
        Ok(Value::Object(message)) => message,
        Ok(_) => {
            let error = RpcError::new(INVALID_REQUEST, "a body is one JSON-RPC message");
            return answer(StatusCode::BAD_REQUEST, &Value::Null, Err(error));
        }
        Err(_) => {
            let error = RpcError::new(PARSE_ERROR, "the body is not JSON");
            return answer(StatusCode::BAD_REQUEST, &Value::Null, Err(error));
        }
    };
    let method = message.get("method").and_then(Value::as_str);
    let id = message.get("id").filter(|id| id.is_string() || id.is_i64() || id.is_u64());
    let is_rpc = message.get("jsonrpc").and_then(Value::as_str) == Some("2.0");
    match (method, id) {
        (Some(method), Some(id)) if is_rpc => {
            let none = Map::new();
            let params = message.get("params").and_then(Value::as_object).unwrap_or(&none);
            if method == "initialize" {
                return initialize(api, id, params);
            }
            let opens_urls =
                headers.get(SESSION_HEADER).is_some_and(|id| id.as_bytes().ends_with(OPENS_URLS.as_bytes()));
            answer(StatusCode::OK, id, perform(api, &session, method, params, opens_urls).await)
        }
        // Notifications, and answers to questions that this server does not ask.
        (Some(_), None) if is_rpc && !message.contains_key("id") => StatusCode::ACCEPTED.into_response(),
        (None, Some(_)) if is_rpc && (message.contains_key("result") || message.contains_key("error")) => {
            StatusCode::ACCEPTED.into_response()
        }
        _ => {
            let error = RpcError::new(
                INVALID_REQUEST,
                "is no JSON-RPC 2.0 request with a string or a number as its id",
            );
            answer(StatusCode::BAD_REQUEST, &Value::Null, Err(error))
        }
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

fn initialize(api: &Api, id: &Value, params: &Map<String, Value>) -> Response {
    let asked = params.get("protocolVersion").and_then(Value::as_str);
    let [newest, ..] = VERSIONS;
    let version = VERSIONS.into_iter().find(|version| asked == Some(version)).unwrap_or(newest);
    let result = json!({
        "protocolVersion": version,
        "capabilities": { "tools": {} },
        "serverInfo": { "name": "agent-identity", "version": env!("CARGO_PKG_VERSION") },
    });
    let mut response = answer(StatusCode::OK, id, Ok(result));
    let opens_urls = params
        .get("capabilities")
        .and_then(|capabilities| capabilities.get("elicitation")?.get("url"))
        .is_some_and(|url| !url.is_null());
    if opens_urls {
        add_session(response.headers_mut(), &random::handle(&*api.services.ports().random));
    }
    response
}

fn add_session(headers: &mut HeaderMap, handle: &str) {
    if let Ok(id) = HeaderValue::from_str(&format!("{handle}{OPENS_URLS}")) {
        headers.insert(SESSION_HEADER, id);
    }
}

async fn perform(
    api: &Api,
    session: &ToolSession,
    method: &str,
    params: &Map<String, Value>,
    opens_urls: bool,
) -> Result<Value, RpcError> {
    match method {
        "ping" => Ok(json!({})),
        "tools/list" => list(api, session, params).await,
        "tools/call" => call(api, session, params, opens_urls).await,
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
            .map(|tool| json!({ "name": tool.name, "description": tool.description, "inputSchema": tool.input_schema }))
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
    opens_urls: bool,
) -> Result<Value, RpcError> {
    let name = params.get("name").and_then(Value::as_str).and_then(|name| ToolName::parse(name).ok());
    let tool = name.ok_or_else(|| RpcError::new(INVALID_PARAMS, "`name` is not that of a tool"))?;
    let input = match params.get("arguments") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(input)) => input.clone(),
        Some(_) => return Err(RpcError::new(INVALID_PARAMS, "`arguments` must be an object")),
    };
    let call = ToolCall { tool: tool.clone(), input, return_url: None, custom_state: None };
    match invoke(api, session, Ok(call)).await {
        Ok(ToolOutcome::Answered(answer)) => {
            let is_error = !(200..400).contains(&answer.status);
            let status = answer.status;
            let content = match String::from_utf8(answer.body) {
                Ok(body) if is_error => json!({ "type": "text", "text": format!("HTTP {status}\n{body}") }),
                Ok(body) => json!({ "type": "text", "text": body }),
                Err(binary) => binary_content(&tool, &answer.headers, &binary.into_bytes()),
            };
            Ok(json!({ "content": [content], "isError": is_error }))
        }
        Ok(ToolOutcome::Consent { authorization_url, session }) => {
            let message = format!("The user must first allow the tool `{tool}` to be used in their name.");
            if opens_urls {
                let elicitation = json!({
                    "mode": "url",
                    "elicitationId": session.as_str(),
                    "url": authorization_url.expose(),
                    "message": message,
                });
                return Err(RpcError {
                    data: Some(json!({ "elicitations": [elicitation] })),
                    ..RpcError::new(URL_ELICITATION_REQUIRED, message)
                });
            }
            let text =
                format!("{message} Let them open {} and then call it again.", authorization_url.expose());
            Ok(failed(&text))
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

fn failed(text: &str) -> Value {
    json!({ "content": [{ "type": "text", "text": text }], "isError": true })
}

/// What is no text: an image or a sound as such, anything else as a resource of the tool's.
fn binary_content(
    tool: &ToolName,
    headers: &std::collections::BTreeMap<String, String>,
    body: &[u8],
) -> Value {
    let kind = headers.get("content-type").and_then(|it| it.split(';').next()).map(str::trim);
    let kind = kind.filter(|kind| !kind.is_empty()).unwrap_or("application/octet-stream");
    let data = agent_identity_core::encoding::base64(body);
    match kind.split('/').next() {
        Some(media @ ("image" | "audio")) => json!({ "type": media, "data": data, "mimeType": kind }),
        _ => json!({
            "type": "resource",
            "resource": { "uri": format!("tool:{tool}/answer"), "mimeType": kind, "blob": data },
        }),
    }
}
