//! The doors to tools for who has a user's token and nothing else: outside IAM, behind the agent's authorizer
//! (`POST /agents/{agentId}/tools/{tool}`, `POST /agents/{agentId}/mcp`).

use std::sync::Arc;

use agent_identity_core::WorkloadName;
use agent_identity_core::name::ToolName;
use agent_identity_service::audit;
use agent_identity_service::invoke::{ToolCall, ToolOutcome, ToolSession};
use async_trait::async_trait;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get, post};
use http::{HeaderValue, StatusCode, header};

use crate::fields::Members;
use crate::gate::{drain, read_body};
use crate::operations::{Served, json, no_browser, read_object, tool};
use crate::{Api, Failure};

mod mcp;

/// Where an agent's tools are called.
pub const TOOL_PATH: &str = "/agents/{agentId}/tools/{tool}";

/// Where an agent's tools are an MCP server.
pub const MCP_PATH: &str = "/agents/{agentId}/mcp";

/// Where the metadata of a protected resource is: before its path (RFC 9728 §3.1).
pub const METADATA: &str = "/.well-known/oauth-protected-resource";

/// Who has verified the user of a request to an agent: the authorizer in this process, or API Gateway with ours.
#[async_trait]
pub trait Sessions: Send + Sync {
    /// The verified session of a request, which came to `path`, for this agent.
    ///
    /// # Errors
    /// What is answered instead: 401 or 403, with the challenge of RFC 9728 §5.1 where it is known.
    async fn session(
        &self,
        agent: &str,
        path: &str,
        parts: &http::request::Parts,
    ) -> Result<ToolSession, Response>;
}

/// The two doors, and the metadata of the one to which clients come that know nothing but its URL.
pub fn agent_routes(sessions: Arc<dyn Sessions>) -> Router<Api> {
    let for_mcp = Arc::clone(&sessions);
    let call_tool =
        move |State(api): State<Api>, Path((agent, tool)): Path<(String, String)>, request: Request| {
            let sessions = Arc::clone(&sessions);
            async move { tool_door(&api, &*sessions, &agent, &tool, request).await }
        };
    let mcp = move |State(api): State<Api>, Path(agent): Path<String>, request: Request| {
        let sessions = Arc::clone(&for_mcp);
        async move { mcp::door(&api, &*sessions, &agent, request).await }
    };
    Router::new()
        .route(TOOL_PATH, post(call_tool).fallback(only_post))
        .route(MCP_PATH, post(mcp).fallback(any(only_post)))
        .merge(protected_resource(MCP_PATH))
}

/// What clients may know, before they have a token, of what is at this path of an agent (RFC 9728).
pub fn protected_resource(path: &'static str) -> Router<Api> {
    let answer = move |State(api): State<Api>, Path(agent): Path<String>| async move {
        let found = match WorkloadName::parse(&agent) {
            Ok(agent) => api.services.protection(&agent).await,
            // What cannot be is not there.
            Err(_) => Ok(None),
        };
        match found {
            Ok(Some(protection)) => {
                let path = path.replace("{agentId}", &agent);
                let resource = format!("{}{path}", api.services.config().public_base_url);
                json(StatusCode::OK, &protection.metadata(&resource))
            }
            Ok(None) => Failure::new(
                "ResourceNotFoundException",
                StatusCode::NOT_FOUND,
                "there is no such agent, or nobody's tokens are accepted for it",
            )
            .into_response(),
            Err(error) => Failure::from(error).into_response(),
        }
    };
    Router::new().route(&format!("{METADATA}{path}"), get(answer))
}

/// A stream of events is what MCP's GET would open; an answer here is one piece.
async fn only_post(State(api): State<Api>, request: Request) -> Response {
    let refused =
        Failure::new("MethodNotAllowed", StatusCode::METHOD_NOT_ALLOWED, "only POST is served here");
    let mut response = match drain(&api, request.into_body()).await {
        Ok(()) => refused.into_response(),
        Err(too_large) => too_large.into_response(),
    };
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
    response
}

/// The session, and the JSON of the body. What can be refused without the body is refused before it costs memory.
async fn admitted(
    api: &Api,
    sessions: &dyn Sessions,
    agent: &str,
    path: &str,
    request: Request,
) -> Result<(ToolSession, bytes::Bytes), Response> {
    let (parts, body) = request.into_parts();
    let session = async {
        no_browser(&parts.headers).map_err(Failure::into_response)?;
        sessions.session(agent, path, &parts).await
    };
    match session.await {
        Ok(session) => {
            audit::note(|about| about.principal = format!("session/{}", session.agent));
            Ok((session, read_body(api, body).await.map_err(Failure::into_response)?))
        }
        Err(refused) => {
            let _refused_already = drain(api, body).await;
            Err(refused)
        }
    }
}

/// Calls a tool in a session, with its line in the log and its record in the trail.
async fn invoke(
    api: &Api,
    session: &ToolSession,
    call: Result<ToolCall, Failure>,
) -> Result<ToolOutcome, Failure> {
    let served = Served::begins(api, "InvokeTool");
    let outcome = async { Ok(api.services.invoke_tool_in_session(session, &call?).await?) };
    served.ends(api, &format!("session/{}", session.agent), outcome.await).await
}

async fn tool_door(
    api: &Api,
    sessions: &dyn Sessions,
    agent: &str,
    tool: &str,
    request: Request,
) -> Response {
    let (session, body) = match admitted(api, sessions, agent, TOOL_PATH, request).await {
        Ok(admitted) => admitted,
        Err(refused) => return refused,
    };
    let call = read_object(&body).and_then(|body: Members| {
        let name = ToolName::parse(tool).map_err(|wrong| body.wrong("tool", wrong)).ok();
        Ok(body.finish(tool::call(&body, name))?)
    });
    match invoke(api, &session, call).await {
        Ok(outcome) => json(StatusCode::OK, &tool::outcome(outcome)),
        Err(failure) => failure.into_response(),
    }
}
