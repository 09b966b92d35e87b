//! The refresh queue on SQS.

use std::sync::OnceLock;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;

use crate::AwsConnection;
use crate::fault::fault;

/// Most messages of one call (`SendMessageBatch`, "Entries").
const AT_ONCE: usize = 10;

/// Why messages could not be sent.
#[derive(Debug, thiserror::Error)]
#[error("{failed} messages could not be sent to the queue: {reason}")]
pub struct QueueError {
    /// How many of them.
    pub failed: usize,
    /// Why, of the first.
    pub reason: String,
}

/// A standard queue: a message comes at least once, in any order.
pub struct SqsQueue {
    connection: AwsConnection,
    url: String,
    client: OnceLock<Client>,
}

impl SqsQueue {
    /// The queue with this URL.
    pub const fn new(connection: AwsConnection, url: String) -> Self {
        Self { connection, url, client: OnceLock::new() }
    }

    /// Sends messages, ten at a time. All are tried, also when some fail.
    ///
    /// # Errors
    /// When some could not be sent; the others were.
    pub async fn send(&self, bodies: Vec<String>) -> Result<(), QueueError> {
        let mut failed = 0;
        let mut reason = None;
        let mut bodies = bodies.into_iter();
        loop {
            let entries: Vec<_> = bodies.by_ref().take(AT_ONCE).enumerate().collect();
            if entries.is_empty() {
                break;
            }
            let sent = entries.len();
            let (lost, why) = match self.send_ten(entries).await {
                Ok(None) => continue,
                Ok(Some((lost, why))) => (lost, why),
                Err(why) => (sent, why),
            };
            failed += lost;
            reason.get_or_insert(why);
        }
        match reason {
            None => Ok(()),
            Some(reason) => Err(QueueError { failed, reason }),
        }
    }

    /// How many failed although the call succeeded, and why.
    async fn send_ten(&self, bodies: Vec<(usize, String)>) -> Result<Option<(usize, String)>, String> {
        let entries = bodies
            .into_iter()
            .map(|(index, body)| {
                SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(body).build()
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        let answer = self
            .client
            .get_or_init(|| self.connection.sqs())
            .send_message_batch()
            .queue_url(&self.url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| fault(error).reason())?;
        Ok(answer.failed.first().map(|first| (answer.failed.len(), first.code.clone())))
    }
}
