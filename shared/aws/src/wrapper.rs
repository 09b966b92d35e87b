//! The `KeyWrapper` port on KMS.

use std::collections::{BTreeSet, HashMap};
use std::sync::OnceLock;

use agent_identity_core::seal::{Key32, KeyWrapper, SealError};
use async_trait::async_trait;
use aws_sdk_kms::Client;
use aws_sdk_kms::primitives::Blob;

use crate::AwsConnection;
use crate::fault::{Fault, fault};

/// Wraps vault keys under a KMS key, with the context as encryption context: CloudTrail shows it, and the key's policy can
/// demand it.
pub struct KmsWrapper {
    connection: AwsConnection,
    key_id: String,
    former_key_ids: Vec<String>,
    client: OnceLock<Client>,
}

impl KmsWrapper {
    /// Wraps under `key_id` (a key's ARN, id or alias), and unwraps also what is still wrapped under `former_key_ids`: keys
    /// that were in use before, until every version is wrapped anew.
    pub fn new(connection: AwsConnection, key_id: String, former_key_ids: Vec<String>) -> Self {
        Self { connection, key_id, former_key_ids, client: OnceLock::new() }
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| self.connection.kms())
    }

    async fn decrypt(&self, key_id: &str, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Key32, Fault> {
        let answer = self
            .client()
            .decrypt()
            // Named, so that nobody who writes the table can have a key of theirs used instead.
            .key_id(key_id)
            .ciphertext_blob(Blob::new(wrapped))
            .set_encryption_context(Some(encryption_context(context)))
            .send()
            .await
            .map_err(fault)?;
        let plaintext = answer.plaintext.map(Blob::into_inner).unwrap_or_default();
        <[u8; 32]>::try_from(plaintext.as_slice()).map(Key32::new).map_err(|_length| Fault::Refused {
            code: "InvalidCiphertextException".to_owned(),
            message: "what was wrapped is not a key of 32 bytes".to_owned(),
        })
    }
}

fn encryption_context(context: &[(&str, &str)]) -> HashMap<String, String> {
    context.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn unavailable(fault: Fault) -> SealError {
    match fault {
        Fault::Busy(reason) => SealError::Busy(format!("KMS: {reason}")),
        Fault::Unknown(_) | Fault::Refused { .. } => {
            SealError::KeyUnavailable(format!("KMS: {}", fault.reason()))
        }
    }
}

/// Whether KMS says that this is not what it wrapped under this key and context.
fn is_broken(fault: &Fault) -> bool {
    fault.is("InvalidCiphertextException") || fault.is("IncorrectKeyException")
}

#[async_trait]
impl KeyWrapper for KmsWrapper {
    async fn wrap(&self, key: &Key32, context: &[(&str, &str)]) -> Result<Vec<u8>, SealError> {
        let answer = self
            .client()
            .encrypt()
            .key_id(&self.key_id)
            .plaintext(Blob::new(key.expose().as_slice()))
            .set_encryption_context(Some(encryption_context(context)))
            .send()
            .await
            .map_err(|error| unavailable(fault(error)))?;
        answer
            .ciphertext_blob
            .map(Blob::into_inner)
            .ok_or_else(|| SealError::KeyUnavailable("KMS gave no ciphertext".to_owned()))
    }

    fn key_name(&self) -> Option<&str> {
        Some(&self.key_id)
    }

    async fn rewrap(&self, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Option<Vec<u8>>, SealError> {
        match self.decrypt(&self.key_id, wrapped, context).await {
            Ok(_) => Ok(None),
            Err(Fault::Refused { .. }) => {
                let key = self.unwrap_key(wrapped, context).await?;
                self.wrap(&key, context).await.map(Some)
            }
            Err(fault) => Err(unavailable(fault)),
        }
    }

    /// A key that KMS does not know was deleted, for good: its waiting period of 7 to 30 days is over, in which it is there and refuses.
    async fn is_lost(
        &self,
        wrapped: &[u8],
        context: &[(&str, &str)],
        by: Option<&str>,
    ) -> Result<bool, SealError> {
        let named =
            std::iter::once(self.key_id.as_str()).chain(self.former_key_ids.iter().map(String::as_str));
        let keys: BTreeSet<&str> = named.chain(by).collect();
        let (mut is_gone, mut doubt) = (false, None);
        for key_id in keys {
            let suspect = by.is_none_or(|by| by == key_id);
            match self.decrypt(key_id, wrapped, context).await {
                Ok(_) => return Ok(false),
                // Of an alias it says no more than that the alias is gone.
                Err(fault) if suspect && fault.is("NotFoundException") && !key_id.contains("alias/") => {
                    is_gone = true;
                }
                // It did not wrap this.
                Err(fault) if is_broken(&fault) => {}
                Err(Fault::Refused { .. }) if !suspect => {}
                // Disabled, about to be deleted, not allowed, not reached: it may come back.
                Err(fault) => doubt = Some(fault),
            }
        }
        match doubt {
            Some(fault) => Err(unavailable(fault)),
            None if is_gone => Ok(true),
            None => Err(SealError::KeyUnavailable(
                "none of the KMS keys that are named has wrapped it, and none of them is gone; name the one that did as a former key"
                    .to_owned(),
            )),
        }
    }

    async fn unwrap_key(&self, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Key32, SealError> {
        let refused = match self.decrypt(&self.key_id, wrapped, context).await {
            Ok(key) => return Ok(key),
            Err(fault) => fault,
        };
        if matches!(refused, Fault::Refused { .. }) {
            for key_id in &self.former_key_ids {
                if let Ok(key) = self.decrypt(key_id, wrapped, context).await {
                    return Ok(key);
                }
            }
        }
        Err(if is_broken(&refused) { SealError::Broken } else { unavailable(refused) })
    }
}

#[cfg(test)]
mod tests {
    use aws_smithy_http_client::test_util::infallible_client_fn;
    use serde_json::{Value, json};

    use super::*;
    use crate::AwsSettings;

    /// KMS, as far as it says this of one key, and that any other did not wrap what it is shown.
    fn kms_that_says(code: &'static str, of: &'static str) -> AwsConnection {
        let http = infallible_client_fn(move |request| {
            let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            let code = if body["KeyId"] == of { code } else { "IncorrectKeyException" };
            let answer = json!({ "__type": code, "message": "as documented" }).to_string();
            http::Response::builder().status(400).body(answer).unwrap()
        });
        let settings =
            AwsSettings::from_environment(|name| (name == "AWS_REGION").then(|| "eu-west-1".to_owned()));
        AwsConnection::with_credentials(settings.unwrap(), http)
    }

    /// The errors of Decrypt (AWS KMS API reference), of the key that wrapped it.
    #[tokio::test]
    async fn only_a_key_that_is_not_there_is_lost() {
        for (code, lost) in [
            ("NotFoundException", true),
            ("DisabledException", false),
            ("KMSInvalidStateException", false),
            ("AccessDeniedException", false),
            ("KeyUnavailableException", false),
            ("InvalidGrantTokenException", false),
            ("InvalidCiphertextException", false),
            ("IncorrectKeyException", false),
        ] {
            for by in [None, Some("first")] {
                let former = vec!["first".to_owned()];
                let wrapper = KmsWrapper::new(kms_that_says(code, "first"), "second".to_owned(), former);
                let answer = wrapper.is_lost(&[1], &[], by).await;
                match answer {
                    Ok(true) => assert!(lost, "{code} {by:?}"),
                    Err(SealError::KeyUnavailable(_)) => assert!(!lost, "{code} {by:?}"),
                    other => panic!("{code} {by:?}: {other:?}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn that_an_alias_is_gone_says_nothing() {
        for alias in ["alias/vault", "arn:aws:kms:eu-west-1:123456789012:alias/vault"] {
            let former = vec![alias.to_owned()];
            let wrapper =
                KmsWrapper::new(kms_that_says("NotFoundException", alias), "second".to_owned(), former);
            for by in [None, Some(alias)] {
                let answer = wrapper.is_lost(&[1], &[], by).await;
                assert!(matches!(answer, Err(SealError::KeyUnavailable(_))), "{alias} {by:?}: {answer:?}");
            }
        }
    }

    #[tokio::test]
    async fn that_another_key_is_gone_says_nothing() {
        let former = vec!["first".to_owned(), "third".to_owned()];
        let wrapper =
            KmsWrapper::new(kms_that_says("NotFoundException", "third"), "second".to_owned(), former);
        let answer = wrapper.is_lost(&[1], &[], Some("first")).await;
        assert!(matches!(answer, Err(SealError::KeyUnavailable(_))), "{answer:?}");
    }
}
