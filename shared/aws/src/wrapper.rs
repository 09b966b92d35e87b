//! The `KeyWrapper` port on KMS.

use std::collections::HashMap;
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

impl KmsWrapper {
    /// Whether this is `arn:PARTITION:kms:REGION:ACCOUNT:key/ID` of the region that is asked.
    fn is_key_of_this_region(&self, name: &str) -> bool {
        let region = self.client().config().region().map(ToString::to_string);
        let parts: Vec<&str> = name.splitn(6, ':').collect();
        matches!(parts.as_slice(), ["arn", _, "kms", of, _, key]
            if key.starts_with("key/") && region.as_deref() == Some(*of))
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

    /// A key of this region that KMS does not know was deleted, for good: its waiting period of 7 to 30 days is over, in which it is there
    /// and refuses. Of a key of another region, of an alias, and where nobody kept which key it was, `NotFoundException` says nothing.
    async fn is_lost(
        &self,
        wrapped: &[u8],
        context: &[(&str, &str)],
        by: Option<&str>,
    ) -> Result<bool, SealError> {
        for key_id in std::iter::once(&self.key_id).chain(&self.former_key_ids) {
            match self.decrypt(key_id, wrapped, context).await {
                Ok(_) => return Ok(false),
                // Whether it is this one that wrapped it is asked below.
                Err(Fault::Refused { .. }) => {}
                Err(fault) => return Err(unavailable(fault)),
            }
        }
        let Some(by) = by else {
            return Err(SealError::KeyUnavailable(
                "none of the KMS keys that are named unwraps it, and which one wrapped it is not on record"
                    .to_owned(),
            ));
        };
        if !self.is_key_of_this_region(by) {
            return Err(SealError::KeyUnavailable(format!(
                "it was wrapped by `{by}`, which is not the ARN of a key of this region, so that nobody can say here that it is gone"
            )));
        }
        match self.decrypt(by, wrapped, context).await {
            Ok(_) => Ok(false),
            Err(fault) if fault.is("NotFoundException") => Ok(true),
            // Disabled, about to be deleted, not allowed, not reached: it may come back.
            Err(fault) => Err(unavailable(fault)),
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

    const FIRST: &str = "arn:aws:kms:eu-west-1:123456789012:key/11111111-1111-4111-8111-111111111111";

    async fn lost(code: &'static str, by: Option<&'static str>) -> Result<bool, SealError> {
        let former = by.map(str::to_owned).into_iter().collect();
        let kms = kms_that_says(code, by.unwrap_or(FIRST));
        KmsWrapper::new(kms, "second".to_owned(), former).is_lost(&[1], &[], by).await
    }

    /// The errors of Decrypt (AWS KMS API reference), of the key that wrapped it.
    #[tokio::test]
    async fn only_a_key_that_is_not_there_is_lost() {
        assert!(lost("NotFoundException", Some(FIRST)).await.unwrap());
        for code in [
            "DisabledException",
            "KMSInvalidStateException",
            "AccessDeniedException",
            "KeyUnavailableException",
            "InvalidGrantTokenException",
            "InvalidCiphertextException",
            "IncorrectKeyException",
        ] {
            let answer = lost(code, Some(FIRST)).await;
            assert!(matches!(answer, Err(SealError::KeyUnavailable(_))), "{code}: {answer:?}");
        }
    }

    /// KMS says `NotFoundException` of them although the key may be there.
    #[tokio::test]
    async fn an_alias_a_key_of_another_region_and_one_that_nobody_named_are_never_lost() {
        for by in [
            None,
            Some("alias/vault"),
            Some("11111111-1111-4111-8111-111111111111"),
            Some("arn:aws:kms:eu-west-1:123456789012:alias/vault"),
            Some("arn:aws:kms:us-east-1:123456789012:key/11111111-1111-4111-8111-111111111111"),
        ] {
            let answer = lost("NotFoundException", by).await;
            assert!(matches!(answer, Err(SealError::KeyUnavailable(_))), "{by:?}: {answer:?}");
        }
    }

    #[tokio::test]
    async fn that_another_key_is_gone_says_nothing() {
        let former = vec![FIRST.to_owned(), "third".to_owned()];
        let wrapper =
            KmsWrapper::new(kms_that_says("NotFoundException", "third"), "second".to_owned(), former);
        let answer = wrapper.is_lost(&[1], &[], Some(FIRST)).await;
        assert!(matches!(answer, Err(SealError::KeyUnavailable(_))), "{answer:?}");
    }
}
