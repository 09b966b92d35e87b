//! The Lambda authorizer: whether a user's token may speak to an agent.
//!
//! It stands before every request of an API, so it links neither axum nor the vault nor the catalogue of vendors, and reads
//! nothing but authorizers.

mod answer;
mod environment;
mod event;
#[cfg(test)]
mod mutated;
#[cfg(test)]
mod result_cache;
mod settings;

use std::sync::Arc;
use std::time::Instant;

use agent_identity_inbound::{Outcome, bearer_token};
use lambda_runtime::{Context, Diagnostic, Error, LambdaEvent, Runtime, service_fn};
use serde_json::Value;

use answer::Answer;
use environment::Authorizer;
use event::{Asked, Request};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    agent_identity_telemetry::start_on_lambda_telling_failures()?;
    let authorizer = Authorizer::from_environment(|name| std::env::var(name).ok())
        .inspect_err(|error| tracing::error!(%error, "the function cannot start"))?;
    let authorizer = Arc::new(authorizer);
    // Without the runtime's layer for tracing: a span for each invocation costs more than all that is done about a bad token, for
    // one line that can say itself whose it is.
    let handler = service_fn(move |event: LambdaEvent<Value>| {
        let authorizer = Arc::clone(&authorizer);
        async move { decide(&authorizer, event.payload, &event.context).await }
    });
    Runtime::new(handler).run_concurrent().await
}

/// The decision on one event, in the form that its kind of API takes.
async fn decide(authorizer: &Authorizer, event: Value, context: &Context) -> Result<Answer, Diagnostic> {
    let began = Instant::now();
    let request = Request::parse(event, &authorizer.settings);
    let asked =
        request.as_ref().map_err(|reason| *reason).and_then(|it| it.asked.as_ref().map_err(|why| *why));
    let outcome = match asked {
        Ok(Asked { agent, token }) => match bearer_token(token) {
            Some(token) => authorizer.authorize.authorize(agent, &token).await,
            None => Outcome::Unauthorized("no_bearer_token"),
        },
        Err(reason) => Outcome::Unauthorized(reason),
    };
    let agent = asked.map_or("-", |asked| asked.agent.as_str());
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (outcome_name, reason) = outcome.log_fields();
    tracing::info!(
        outcome = outcome_name,
        agent,
        reason = (!reason.is_empty()).then_some(reason),
        micros,
        requestId = context.request_id,
        xrayTraceId = context.xray_trace_id,
        "authorized"
    );
    answer::answer(request.ok().map(|request| request.form), outcome)
}
