//! The APIs of agents behind their authorizer: the doors to their tools, and a sample for who wants to see what a verified session
//! is. What API Gateway and the authorizer function are on AWS. The sample stands where the server is reached on loopback alone.

use std::sync::Arc;

use agent_identity_api::{
    Api, MCP_PATH, METADATA, Sessions, TOOL_PATH, agent_routes, one_value, protected_resource,
};
use agent_identity_core::WorkloadName;
use agent_identity_inbound::{AuthorizeRequest, Outcome, VerifiedSession, bearer_token};
use agent_identity_service::invoke::ToolSession;
use async_trait::async_trait;
use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::json;

const SAMPLE_PATH: &str = "/agents/{agentId}/sample";

/// The agents' APIs, and the metadata that their 401 names. `base` is where both are reached.
pub fn routes(authorize: Arc<AuthorizeRequest>, base: String, with_sample: bool) -> Router<Api> {
    let agents = Arc::new(Agents { authorize, base });
    let router = agent_routes(agents.clone());
    if !with_sample {
        return router;
    }
    let sample = Arc::clone(&agents);
    let answer = move |Path(agent): Path<String>, headers: HeaderMap| async move {
        sample.sample(&agent, &headers).await
    };
    router.route(SAMPLE_PATH, get(answer)).merge(protected_resource(SAMPLE_PATH))
}

struct Agents {
    authorize: Arc<AuthorizeRequest>,
    base: String,
}

#[async_trait]
impl Sessions for Agents {
    async fn session(
        &self,
        agent: &str,
        path: &str,
        parts: &http::request::Parts,
    ) -> Result<ToolSession, Response> {
        // What a 401 points at is one resource an agent: its tools as an MCP server.
        let path = if path == TOOL_PATH { MCP_PATH } else { path };
        let session = self.verified(agent, path, &parts.headers).await?;
        Ok(ToolSession {
            agent: session.agent,
            user: session.user_key,
            issuer: session.issuer,
            expires_at: session.expires_at,
        })
    }
}

impl Agents {
    /// The verified session of a request.
    ///
    /// # Errors
    /// What is answered instead.
    async fn verified(
        &self,
        agent: &str,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<VerifiedSession, Response> {
        let outcome = match one_value(headers, AUTHORIZATION).and_then(bearer_token) {
            Some(token) => self.authorize.authorize(agent, &token).await,
            None => Outcome::Unauthorized("no_bearer_token"),
        };
        let (name, reason) = outcome.log_fields();
        let known = WorkloadName::parse(agent);
        let agent_name = known.as_ref().map_or("-", WorkloadName::as_str);
        tracing::info!(
            outcome = name,
            agent = agent_name,
            reason = (!reason.is_empty()).then_some(reason),
            "authorized"
        );
        Err(match outcome {
            Outcome::Allowed(session) => return Ok(session),
            Outcome::Unauthorized(_) => {
                let error =
                    if headers.contains_key(AUTHORIZATION) { r#"error="invalid_token", "# } else { "" };
                self.challenged(agent, path, StatusCode::UNAUTHORIZED, "Unauthorized", error)
            }
            Outcome::Forbidden("scope") => {
                let error = r#"error="insufficient_scope", "#;
                self.challenged(agent, path, StatusCode::FORBIDDEN, "Forbidden", error)
            }
            Outcome::Forbidden(_) => message(StatusCode::FORBIDDEN, "Forbidden"),
            Outcome::Unavailable(_) => {
                let busy = message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
                ([(RETRY_AFTER, "1")], busy).into_response()
            }
        })
    }

    /// The verified session, but for the workload access token that it may carry: that one is for the API alone.
    async fn sample(&self, agent: &str, headers: &HeaderMap) -> Response {
        match self.verified(agent, SAMPLE_PATH, headers).await {
            Ok(session) => {
                let mut context = session.context();
                context.workload_access_token = None;
                // What one user sees is for no cache on the way.
                ([(CACHE_CONTROL, "no-store")], body(StatusCode::OK, &context)).into_response()
            }
            Err(refused) => refused,
        }
    }

    /// RFC 6750 §3, with the pointer of RFC 9728 §5.1. A name that is none is not repeated.
    fn challenged(&self, agent: &str, path: &str, status: StatusCode, text: &str, error: &str) -> Response {
        let challenge = match WorkloadName::parse(agent) {
            Ok(agent) => {
                let path = path.replace("{agentId}", agent.as_str());
                format!(r#"Bearer {error}resource_metadata="{}{METADATA}{path}""#, self.base)
            }
            Err(_) => "Bearer".to_owned(),
        };
        ([(WWW_AUTHENTICATE, challenge)], message(status, text)).into_response()
    }
}

/// In API Gateway's form.
fn message(status: StatusCode, text: &str) -> Response {
    body(status, &json!({ "message": text }))
}

fn body(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(json) => (status, [(CONTENT_TYPE, "application/json")], json).into_response(),
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
