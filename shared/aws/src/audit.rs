//! The `HeadSigner` port on an asymmetric KMS key: the schedule's role may sign with it, the data plane's may not (D18).

use std::sync::OnceLock;

use agent_identity_core::port::HeadSigner;
use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};

use crate::AwsConnection;
use crate::fault::fault;

/// The key is on P-256.
const ALGORITHM: SigningAlgorithmSpec = SigningAlgorithmSpec::EcdsaSha256;

/// Signs and verifies with one KMS key.
pub struct KmsHeadSigner {
    connection: AwsConnection,
    key: String,
    client: OnceLock<Client>,
}

impl KmsHeadSigner {
    /// With this key, an ARN or id.
    pub const fn new(connection: AwsConnection, key: String) -> Self {
        Self { connection, key, client: OnceLock::new() }
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| self.connection.kms())
    }
}

#[async_trait]
impl HeadSigner for KmsHeadSigner {
    async fn sign(&self, framed: &[u8]) -> Result<Vec<u8>, String> {
        let sent = self
            .client()
            .sign()
            .key_id(&self.key)
            .signing_algorithm(ALGORITHM)
            .message_type(MessageType::Raw)
            .message(Blob::new(framed))
            .send()
            .await;
        let answer = sent.map_err(|error| format!("KMS, key `{}`: {}", self.key, fault(error).reason()))?;
        answer.signature.map(Blob::into_inner).ok_or_else(|| "KMS gave no signature".to_owned())
    }

    async fn holds(&self, framed: &[u8], signature: &[u8]) -> Result<bool, String> {
        let sent = self
            .client()
            .verify()
            .key_id(&self.key)
            .signing_algorithm(ALGORITHM)
            .message_type(MessageType::Raw)
            .message(Blob::new(framed))
            .signature(Blob::new(signature))
            .send()
            .await
            .map_err(fault);
        match sent {
            Ok(answer) => Ok(answer.signature_valid),
            Err(fault) if fault.is("KMSInvalidSignatureException") => Ok(false),
            Err(fault) => Err(format!("KMS, key `{}`: {}", self.key, fault.reason())),
        }
    }
}
