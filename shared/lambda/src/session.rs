//! The user of a request to an agent, as our authorizer has verified them in front of API Gateway.

use std::collections::HashMap;

use agent_identity_api::{Failure, Sessions};
use agent_identity_core::user::UserKey;
use agent_identity_core::{Timestamp, WorkloadName};
use agent_identity_service::invoke::ToolSession;
use async_trait::async_trait;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use serde_json::Value;

/// What the authorizer has said of a request: an extension of it, which nothing that a client sends can set.
#[derive(Clone, Debug)]
pub(crate) struct Verified(ToolSession);

impl Verified {
    /// From the context that API Gateway hands on; `None` where another authorizer, or none, was in front.
    pub(crate) fn of(context: &HashMap<String, Value>) -> Option<Self> {
        let text = |name: &str| context.get(name)?.as_str();
        // An IAM policy's context has texts alone.
        let expires_at = match context.get("expiresAt")? {
            Value::Number(seconds) => seconds.as_i64()?,
            Value::String(seconds) => seconds.parse().ok()?,
            _ => return None,
        };
        Some(Self(ToolSession {
            agent: WorkloadName::parse(text("agentId")?).ok()?,
            user: UserKey::parse(text("userId")?)?,
            issuer: text("issuer")?.to_owned(),
            expires_at: Timestamp::from_seconds(expires_at),
        }))
    }
}

/// Goes by what the authorizer has said, and checks again what a cached answer could have wrong (D14): the agent, and the time.
pub(crate) struct BehindAuthorizer;

#[async_trait]
impl Sessions for BehindAuthorizer {
    async fn session(
        &self,
        agent: &str,
        _path: &str,
        parts: &http::request::Parts,
    ) -> Result<ToolSession, Response> {
        match parts.extensions.get::<Verified>() {
            Some(Verified(session)) if session.agent.as_str() == agent => Ok(session.clone()),
            _ => Err(Failure::new(
                "AccessDeniedException",
                StatusCode::FORBIDDEN,
                "the authorizer in front of this route has let nobody pass for this agent",
            )
            .into_response()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn context(change: impl FnOnce(&mut HashMap<String, Value>)) -> Option<Verified> {
        let mut context = HashMap::from([
            ("agentId".to_owned(), json!("agent")),
            ("userId".to_owned(), json!("ab".repeat(32))),
            ("issuer".to_owned(), json!("https://idp.example")),
            ("expiresAt".to_owned(), json!(1_800_000_000)),
        ]);
        change(&mut context);
        Verified::of(&context)
    }

    async fn admits(verified: Option<Verified>, agent: &str) -> bool {
        let mut request = http::Request::new(());
        if let Some(verified) = verified {
            request.extensions_mut().insert(verified);
        }
        BehindAuthorizer.session(agent, "", &request.into_parts().0).await.is_ok()
    }

    #[tokio::test]
    async fn d14_a_session_is_for_its_own_agent() {
        assert!(admits(context(|_| {}), "agent").await);
        assert!(
            admits(context(|it| drop(it.insert("expiresAt".to_owned(), json!("1800000000")))), "agent").await
        );
        assert!(!admits(context(|_| {}), "another").await);
        assert!(!admits(None, "agent").await);
    }

    #[test]
    fn a_context_that_is_not_our_authorizers_is_none() {
        for name in ["agentId", "userId", "issuer", "expiresAt"] {
            assert!(context(|it| drop(it.remove(name))).is_none(), "{name}");
            assert!(context(|it| drop(it.insert(name.to_owned(), json!(true)))).is_none(), "{name}");
        }
        assert!(context(|it| drop(it.insert("userId".to_owned(), json!("ada")))).is_none());
    }
}
