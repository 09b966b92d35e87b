//! The scheduled refresh: a tick finds what is due and puts it on the queue, signs how far the audit trail has come, and reads the
//! keys of issuers; a message refreshes one connection.

use std::sync::Arc;

use agent_identity_aws::SqsQueue;
use agent_identity_jose::{KeyPrefetch, Renewed};
use agent_identity_service::Services;
use agent_identity_service::audit::{About, about};
use agent_identity_service::due::{DueWork, LIMIT_PER_SHARD};
use aws_lambda_events::sqs::{BatchItemFailure, SqsBatchResponse, SqsMessage};
use lambda_runtime::{LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::environment::variable;
use crate::{EnvironmentError, StartError, kms_signer, start};

/// What wakes the function.
#[derive(Deserialize)]
#[serde(untagged)]
enum Wake {
    /// Messages of the queue.
    Messages {
        #[serde(rename = "Records")]
        records: Vec<SqsMessage>,
    },
    /// The schedule.
    Tick {
        #[serde(rename = "source")]
        _source: Schedule,
    },
}

/// Who sends ticks: EventBridge Scheduler with the input that the template gives it, or a rule.
#[derive(Deserialize)]
enum Schedule {
    #[serde(rename = "aws.scheduler")]
    Scheduler,
    #[serde(rename = "aws.events")]
    Rule,
}

/// Runs the function.
///
/// # Errors
/// When the environment is not what it must be.
pub async fn refresh() -> Result<(), StartError> {
    let (composed, queue, keys) = start(Some(kms_signer), |composed| {
        let url = variable("AGENT_IDENTITY_QUEUE_URL")
            .ok_or_else(|| EnvironmentError::missing("AGENT_IDENTITY_QUEUE_URL"))?;
        if variable("AGENT_IDENTITY_AUDIT_KMS_KEY_ID").is_none() {
            return Err(EnvironmentError::missing("AGENT_IDENTITY_AUDIT_KMS_KEY_ID").into());
        }
        let queue = SqsQueue::new(composed.connection.clone(), url);
        let (ports, issuers) = (composed.services.ports().clone(), &composed.services.config().issuers);
        let keys = KeyPrefetch::new(ports.http, ports.clock, ports.store, issuers);
        Ok((Arc::new(composed), Arc::new(queue), Arc::new(keys)))
    })?;
    lambda_runtime::run_concurrent(service_fn(move |event: LambdaEvent<Wake>| {
        let (composed, queue, keys) = (Arc::clone(&composed), Arc::clone(&queue), Arc::clone(&keys));
        async move {
            let answer = match event.payload {
                Wake::Tick { .. } => tick(&composed.services, &queue, &keys).await,
                Wake::Messages { records } => Ok(messages(&composed.services, records).await),
            };
            composed.events.flush().await;
            answer
        }
    }))
    .await
}

/// Puts what is due on the queue, then reads the keys of issuers. Neither stops the other.
async fn tick(services: &Services, queue: &SqsQueue, keys: &KeyPrefetch) -> Result<Value, StartError> {
    let due = put_due(services, queue).await;
    let renewed = keys.renew().await.unwrap_or_else(|error| {
        tracing::error!(%error, "the keys of issuers could not be looked at");
        Renewed::default()
    });
    let Renewed { issuers, renewed, failed, left } = renewed;
    let due = due?;
    tracing::info!(due, issuers, renewed, failed, left, "tick");
    Ok(serde_json::json!({ "due": due, "issuers": issuers, "renewed": renewed, "failed": failed }))
}

async fn put_due(services: &Services, queue: &SqsQueue) -> Result<usize, StartError> {
    let due = services.due_work(LIMIT_PER_SHARD).await?;
    let found = due.len();
    let bodies = due.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    // What could not be sent is still due, and comes with the next tick.
    queue.send(bodies).await?;
    Ok(found)
}

/// Refreshes the connections of a batch at the same time, and says which messages must come again.
async fn messages(services: &Arc<Services>, records: Vec<SqsMessage>) -> Value {
    let mut running = JoinSet::new();
    for record in records {
        let services = Arc::clone(services);
        let message_id = record.message_id.unwrap_or_default();
        let span = tracing::Span::current();
        running.spawn(
            async move {
                let body = record.body.as_deref().unwrap_or_default();
                let done = about(About::schedule(), message(&services, body)).await;
                if let Err(reason) = &done {
                    tracing::error!(message_id, reason, "a message could not be worked off");
                }
                (message_id, done.is_ok())
            }
            .instrument(span),
        );
    }
    let mut answer = SqsBatchResponse::default();
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok((_, true)) => {}
            Ok((message_id, false)) => {
                let mut failure = BatchItemFailure::default();
                failure.item_identifier = message_id;
                answer.batch_item_failures.push(failure);
            }
            // Whose it was is lost with it: an empty identifier fails the whole batch.
            Err(_panic) => answer.batch_item_failures.push(BatchItemFailure::default()),
        }
    }
    serde_json::to_value(answer).unwrap_or_default()
}

async fn message(services: &Services, body: &str) -> Result<(), String> {
    let began = Instant::now();
    let due: DueWork = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let outcome = services.work_off(&due).await.map_err(|error| error.to_string())?;
    let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::info!(outcome, micros, "refresh");
    Ok(())
}
