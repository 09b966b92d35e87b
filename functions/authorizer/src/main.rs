//! The Lambda authorizer: whether a user's token may speak to an agent.
//!
//! It stands before every request of an API, so it links neither axum nor the vault nor the catalogue of vendors, and reads
//! nothing but authorizers.

mod answer;
mod environment;
mod event;

use std::sync::Arc;
use std::time::Instant;

use agent_identity_core::Secret;
use agent_identity_inbound::{Outcome, bearer_token};
use lambda_runtime::{Diagnostic, Error, LambdaEvent, service_fn};
use serde_json::Value;

use environment::Authorizer;
use event::Request;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    agent_identity_telemetry::start_on_lambda()?;
    let authorizer = Authorizer::from_environment(|name| std::env::var(name).ok())
        .inspect_err(|error| tracing::error!(%error, "the function cannot start"))?;
    let authorizer = Arc::new(authorizer);
    lambda_runtime::run_concurrent(service_fn(move |event: LambdaEvent<Value>| {
        let authorizer = Arc::clone(&authorizer);
        async move { decide(&authorizer, event.payload).await }
    }))
    .await
}

/// The decision on one event, in the form that its kind of API takes.
async fn decide(authorizer: &Authorizer, event: Value) -> Result<Value, Diagnostic> {
    let began = Instant::now();
    let request = Request::parse(event, authorizer.agent.as_deref());
    let (outcome, agent) = match &request {
        Ok(Request { agent, token, .. }) => {
            let token: Option<Secret> = bearer_token(token);
            let outcome = match token {
                Some(token) => authorizer.authorize.authorize(agent, &token).await,
                None => Outcome::Unauthorized("no_bearer_token"),
            };
            (outcome, agent.as_str())
        }
        Err(reason) => (Outcome::Forbidden(reason), "-"),
    };
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (outcome_name, reason) = answer::log_fields(&outcome);
    tracing::info!(
        outcome = outcome_name,
        agent,
        reason = (!reason.is_empty()).then_some(reason),
        micros,
        "authorized"
    );
    answer::answer(request.as_ref().ok(), outcome)
}
