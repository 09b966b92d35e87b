//! The `Events` port on EventBridge.

use std::sync::{Mutex, OnceLock, PoisonError};

use agent_identity_core::port::{Event, Events};
use async_trait::async_trait;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;

use crate::AwsConnection;
use crate::fault::fault;

/// The `source` of every event.
const SOURCE: &str = "agent-identity";

/// Most entries of one call (`PutEvents`, "Entries").
const AT_ONCE: usize = 10;

/// Events that wait, at most: a bus that does not answer must not fill the memory.
const MAX_PENDING: usize = 1000;

/// Events on a bus. [`Events::emit`] only takes them down: whoever runs an invocation sends them before it answers, since
/// Lambda may freeze the process right after.
pub struct EventBridgeEvents {
    connection: AwsConnection,
    bus: String,
    client: OnceLock<Client>,
    pending: Mutex<Vec<Event>>,
}

impl EventBridgeEvents {
    /// Events for the bus with this name or ARN.
    pub fn new(connection: AwsConnection, bus: String) -> Self {
        Self { connection, bus, client: OnceLock::new(), pending: Mutex::default() }
    }

    /// Sends what waits, before an invocation ends. What cannot be sent is logged with all it says, and is not kept.
    pub async fn flush(&self) {
        let pending = std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        for events in pending.chunks(AT_ONCE) {
            if let Err(reason) = self.send(events).await {
                for event in events {
                    not_sent(event, &reason);
                }
            }
        }
    }

    async fn send(&self, events: &[Event]) -> Result<(), String> {
        let entries = events.iter().map(|event| {
            PutEventsRequestEntry::builder()
                .source(SOURCE)
                .event_bus_name(&self.bus)
                .detail_type(event.what())
                .detail(event.detail().to_string())
                .build()
        });
        let answer = self
            .client
            .get_or_init(|| self.connection.eventbridge())
            .put_events()
            .set_entries(Some(entries.collect()))
            .send()
            .await
            .map_err(|error| fault(error).reason())?;
        // The call succeeds although entries failed.
        match answer.entries.unwrap_or_default().into_iter().find_map(|entry| entry.error_code) {
            Some(code) => Err(code),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Events for EventBridgeEvents {
    fn emit(&self, event: Event) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() < MAX_PENDING {
            pending.push(event);
        } else {
            let (detail_type, detail) = (event.what(), event.detail());
            tracing::error!(detail_type, %detail, "an event was dropped: too many wait");
        }
    }

    /// At once, and alone: what others emit meanwhile does not decide what is said of this one.
    async fn tell(&self, event: Event) -> Result<(), String> {
        self.send(std::slice::from_ref(&event)).await.inspect_err(|reason| not_sent(&event, reason))
    }
}

fn not_sent(event: &Event, reason: &str) {
    let (detail_type, detail) = (event.what(), event.detail());
    tracing::error!(%reason, detail_type, %detail, "an event could not be sent");
}
