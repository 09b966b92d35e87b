//! The `SigningKeys` port on asymmetric KMS keys, for `private_key_jwt`.

use std::sync::OnceLock;

use agent_identity_core::ProviderName;
use agent_identity_core::port::{SecretError, SigningAlgorithm, SigningKeys};
use async_trait::async_trait;
use aws_lc_rs::digest;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{MessageType, SigningAlgorithmSpec};

use crate::AwsConnection;
use crate::fault::{Fault, fault};

mod der;

/// The tag by which its owner lets a key or a secret be used by one provider (D2).
pub(crate) const PROVIDER_TAG: &str = "agent-identity:provider";

/// The longest message that KMS hashes itself (`Sign`, "Message").
const LONGEST_RAW: usize = 4096;

/// Signs with KMS keys whose owner tagged them for the provider.
pub struct KmsSigningKeys {
    connection: AwsConnection,
    client: OnceLock<Client>,
}

impl KmsSigningKeys {
    /// Keys are named by their ARNs when they are used.
    pub const fn new(connection: AwsConnection) -> Self {
        Self { connection, client: OnceLock::new() }
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| self.connection.kms())
    }

    /// Whether the key's owner lets this provider use it. Asked at each signature: an assertion is made once an hour, and a
    /// tag that is removed shall hold.
    async fn may_use(&self, key_arn: &str, provider: &ProviderName) -> Result<(), SecretError> {
        let mut pages = self.client().list_resource_tags().key_id(key_arn).into_paginator().items().send();
        while let Some(tag) = pages.next().await {
            let tag = tag.map_err(|error| failed(key_arn, fault(error)))?;
            if tag.tag_key == PROVIDER_TAG && tag.tag_value == provider.as_str() {
                return Ok(());
            }
        }
        Err(SecretError::Denied(format!(
            "key `{key_arn}` may not be used by provider `{provider}`: its owner must tag it {PROVIDER_TAG}={provider}"
        )))
    }
}

fn failed(key_arn: &str, fault: Fault) -> SecretError {
    if fault.is("NotFoundException") {
        return SecretError::NotFound(format!("there is no key `{key_arn}`"));
    }
    if fault.is("AccessDeniedException") {
        return SecretError::Denied(format!(
            "key `{key_arn}` may not be used: it does not exist, or its owner has not tagged it {PROVIDER_TAG}=PROVIDER"
        ));
    }
    let is_busy = matches!(fault, Fault::Busy(_));
    let reason = format!("KMS, key `{key_arn}`: {}", fault.reason());
    if is_busy { SecretError::Busy(reason) } else { SecretError::Failed(reason) }
}

const fn spec(algorithm: SigningAlgorithm) -> SigningAlgorithmSpec {
    match algorithm {
        SigningAlgorithm::RS256 => SigningAlgorithmSpec::RsassaPkcs1V15Sha256,
        SigningAlgorithm::PS256 => SigningAlgorithmSpec::RsassaPssSha256,
        SigningAlgorithm::ES256 => SigningAlgorithmSpec::EcdsaSha256,
    }
}

#[async_trait]
impl SigningKeys for KmsSigningKeys {
    async fn sign(
        &self,
        key_arn: &str,
        algorithm: SigningAlgorithm,
        message: &[u8],
        provider: &ProviderName,
    ) -> Result<Vec<u8>, SecretError> {
        self.may_use(key_arn, provider).await?;
        let (kind, message) = if message.len() <= LONGEST_RAW {
            (MessageType::Raw, Blob::new(message))
        } else {
            let digest = digest::digest(&digest::SHA256, message);
            (MessageType::Digest, Blob::new(digest.as_ref()))
        };
        let sent = self
            .client()
            .sign()
            .key_id(key_arn)
            .signing_algorithm(spec(algorithm))
            .message_type(kind)
            .message(message)
            .send()
            .await
            .map_err(fault);
        let signature = match sent {
            Ok(answer) => answer.signature.map(Blob::into_inner).unwrap_or_default(),
            // KMS's words for a key of another kind.
            Err(fault)
                if fault.is("InvalidKeyUsageException")
                    || fault.is("ValidationException")
                    || fault.is("UnsupportedOperationException") =>
            {
                return Err(SecretError::Denied(format!(
                    "key `{key_arn}` does not sign {}: {}",
                    algorithm.as_str(),
                    fault.reason()
                )));
            }
            Err(fault) => return Err(failed(key_arn, fault)),
        };
        match algorithm {
            SigningAlgorithm::RS256 | SigningAlgorithm::PS256 => Ok(signature),
            SigningAlgorithm::ES256 => der::fixed_form(&signature).ok_or_else(|| {
                SecretError::Failed(format!("KMS, key `{key_arn}`: its signature is no ECDSA signature"))
            }),
        }
    }
}
