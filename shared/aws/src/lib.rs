//! Adapters on AWS: rows in one DynamoDB table, secrets in Secrets Manager, vault keys under a KMS key, events on
//! EventBridge, the refresh queue on SQS.
//!
//! What is *not* here: rules (they are in `core` and `service`), sealing (`jose`), and how a function is composed (`lambda`).
//! No other crate names an AWS SDK.

mod audit;
mod connection;
mod events;
mod fault;
#[cfg(test)]
mod golden;
mod http;
mod pace;
mod queue;
mod secrets;
mod signing;
mod store;
mod wrapper;

pub use audit::KmsHeadSigner;
pub use connection::{AwsConnection, AwsSettings, SettingsError};
pub use events::EventBridgeEvents;
pub use queue::{QueueError, SqsQueue};
pub use secrets::SecretsManager;
pub use signing::KmsSigningKeys;
pub use store::{DynamoRows, DynamoStore};
pub use wrapper::KmsWrapper;
