//! The `SecretStore` port on Secrets Manager.
//!
//! A secret of ours has one staging label for each version that a record still names. Secrets Manager removes versions that
//! have no label, whenever it likes; so putting the label on keeps a version, and taking it off removes it.

use std::sync::{Arc, OnceLock};

use agent_identity_core::port::{SecretError, SecretStore, StoredSecret};
use agent_identity_core::provider::SecretReference;
use agent_identity_core::random::{self, Random};
use agent_identity_core::{ProviderName, Secret, encoding};
use async_trait::async_trait;
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::primitives::Blob;
use aws_sdk_secretsmanager::types::Tag;

use crate::AwsConnection;
use crate::fault::{Fault, fault};
use crate::signing::PROVIDER_TAG;

/// The label that Secrets Manager's own console and rotation look at.
const CURRENT: &str = "AWSCURRENT";

/// The tag of secrets that are ours, for whoever looks at the account.
const MANAGED_TAG: &str = "agent-identity:managed";

/// What stands for a secret of no characters, which Secrets Manager does not take: binary, as no text is.
const EMPTY: &[u8] = &[0];

/// For how many days a deleted secret can be restored by hand (`DeleteSecret`: 7 to 30).
const RECOVERY_WINDOW_DAYS: i64 = 7;

/// Client secrets and API keys in Secrets Manager.
pub struct SecretsManager {
    connection: AwsConnection,
    prefix: String,
    kms_key_id: Option<String>,
    random: Arc<dyn Random>,
    client: OnceLock<Client>,
}

impl SecretsManager {
    /// Secrets whose names begin with `prefix`, encrypted under `kms_key_id`, or under the account's own key for Secrets
    /// Manager.
    pub fn new(
        connection: AwsConnection,
        prefix: String,
        kms_key_id: Option<String>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { connection, prefix, kms_key_id, random, client: OnceLock::new() }
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| self.connection.secrets_manager())
    }

    /// The name in Secrets Manager, which takes letters, digits and `/_+=.@-` alone (`CreateSecret`, "Name").
    fn full_name(&self, name: &str) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
        let name: String = name.chars().map(|c| if plain(c) { c } else { '/' }).collect();
        format!("{}{name}", self.prefix)
    }

    async fn put_version(&self, name: &str, value: &Secret, version: &str) -> Result<StoredSecret, Fault> {
        let answer = self
            .client()
            .put_secret_value()
            .secret_id(name)
            // Becomes the version's id; a repetition makes no second version.
            .client_request_token(version)
            .set_secret_string((!value.is_empty()).then(|| value.expose().to_owned()))
            .set_secret_binary(value.is_empty().then(|| Blob::new(EMPTY)))
            .version_stages(label(version))
            .send()
            .await
            .map_err(fault)?;
        let arn = answer.arn.ok_or_else(|| Fault::Unknown("the answer has no ARN".to_owned()))?;
        // A first version is the current one by itself.
        if !answer.version_stages.unwrap_or_default().iter().any(|stage| stage == CURRENT) {
            self.make_current(&arn, version).await?;
        }
        Ok(StoredSecret { arn, version: version.to_owned() })
    }

    /// Moves the label of the current version. We read versions by their ids; it is for people, and so that a version that we
    /// no longer need does not stay for being current.
    async fn make_current(&self, arn: &str, version: &str) -> Result<(), Fault> {
        let described = self.client().describe_secret().secret_id(arn).send().await.map_err(fault)?;
        if described.deleted_date.is_some() {
            // Deleted a moment ago, by somebody who did not know of this version.
            self.restore(arn, Some(version)).await?;
        }
        let former = described
            .version_ids_to_stages
            .into_iter()
            .flatten()
            .find(|(_, stages)| stages.iter().any(|stage| stage == CURRENT))
            .map(|(former, _)| former)
            .filter(|former| former != version);
        let moved = self
            .client()
            .update_secret_version_stage()
            .secret_id(arn)
            .version_stage(CURRENT)
            .move_to_version_id(version)
            .set_remove_from_version_id(former)
            .send()
            .await
            .map_err(fault);
        match moved {
            // Another version became the current one at the same time.
            Err(fault) if fault.is("InvalidParameterException") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Makes the secret, without a version yet. That it is there already is no error: two may make it at once.
    async fn create(&self, name: &str, version: &str) -> Result<(), Fault> {
        let made = self
            .client()
            .create_secret()
            .name(name)
            .client_request_token(version)
            .set_kms_key_id(self.kms_key_id.clone())
            .tags(Tag::builder().key(MANAGED_TAG).value("true").build())
            .send()
            .await
            .map_err(fault);
        match made {
            Err(fault) if !fault.is("ResourceExistsException") => Err(fault),
            _ => Ok(()),
        }
    }

    /// Takes a deleted secret back into use, without any of its versions (D9) but for a new one.
    async fn restore(&self, name: &str, but: Option<&str>) -> Result<(), Fault> {
        self.client().restore_secret().secret_id(name).send().await.map_err(fault)?;
        let described = self.client().describe_secret().secret_id(name).send().await.map_err(fault)?;
        for (version, labels) in described.version_ids_to_stages.into_iter().flatten() {
            if labels.contains(&label(&version)) && but != Some(version.as_str()) {
                self.unlabel(name, &version).await?;
            }
        }
        Ok(())
    }

    /// Removes what an attempt that failed may have put: nobody is told of that version.
    async fn undo(&self, name: &str, version: &str, is_new: bool) {
        let stored = StoredSecret { arn: name.to_owned(), version: version.to_owned() };
        let undone = if is_new { self.delete(name).await } else { self.remove_version(&stored).await };
        if let Err(error) = undone {
            tracing::warn!(name, version, %error, "a secret version that could not be stored for certain remains");
        }
    }

    async fn unlabel(&self, secret: &str, version: &str) -> Result<(), Fault> {
        self.client()
            .update_secret_version_stage()
            .secret_id(secret)
            .version_stage(label(version))
            .remove_from_version_id(version)
            .send()
            .await
            .map(drop)
            .map_err(fault)
    }
}

/// The label that keeps a version.
fn label(version: &str) -> String {
    format!("agent-identity-{version}")
}

fn failed(secret: &str, fault: Fault) -> SecretError {
    let is_busy = matches!(fault, Fault::Busy(_));
    let reason = format!("Secrets Manager, secret `{secret}`: {}", fault.reason());
    if is_busy { SecretError::Busy(reason) } else { SecretError::Failed(reason) }
}

/// Whether it is not there, or deleted and only to be restored.
fn is_gone(fault: &Fault) -> bool {
    fault.is("ResourceNotFoundException") || fault.is("InvalidRequestException")
}

#[async_trait]
impl SecretStore for SecretsManager {
    async fn put(&self, name: &str, value: &Secret) -> Result<StoredSecret, SecretError> {
        let name = self.full_name(name);
        let version = encoding::hex(&random::bytes::<16>(&*self.random));
        let mut is_new = false;
        let stored = match self.put_version(&name, value, &version).await {
            Err(fault) if fault.is("ResourceNotFoundException") => {
                is_new = true;
                match self.create(&name, &version).await {
                    Ok(()) => self.put_version(&name, value, &version).await,
                    Err(fault) => Err(fault),
                }
            }
            Err(fault) if fault.is("InvalidRequestException") => match self.restore(&name, None).await {
                Ok(()) => self.put_version(&name, value, &version).await,
                Err(fault) => Err(fault),
            },
            other => other,
        };
        match stored {
            Ok(stored) => Ok(stored),
            Err(fault) => {
                self.undo(&name, &version, is_new).await;
                Err(failed(&name, fault))
            }
        }
    }

    async fn get(&self, stored: &StoredSecret) -> Result<Secret, SecretError> {
        let not_found = || SecretError::NotFound(format!("there is no secret `{}`", stored.arn));
        let read = self
            .client()
            .get_secret_value()
            .secret_id(&stored.arn)
            .version_id(&stored.version)
            .send()
            .await
            .map_err(fault);
        let answer = match read {
            Err(fault) if is_gone(&fault) => return Err(not_found()),
            other => other.map_err(|fault| failed(&stored.arn, fault))?,
        };
        // Without its label it is removed, though Secrets Manager may still have it.
        if !answer.version_stages().contains(&label(&stored.version)) {
            return Err(not_found());
        }
        let is_empty = answer.secret_binary.is_some_and(|binary| binary.as_ref() == EMPTY);
        let value = answer.secret_string.or_else(|| is_empty.then(String::new));
        value.map(Secret::new).ok_or_else(not_found)
    }

    async fn remove_version(&self, superseded: &StoredSecret) -> Result<(), SecretError> {
        match self.unlabel(&superseded.arn, &superseded.version).await {
            Err(fault) if !is_gone(&fault) && !fault.is("InvalidParameterException") => {
                Err(failed(&superseded.arn, fault))
            }
            _ => Ok(()),
        }
    }

    async fn delete(&self, arn: &str) -> Result<(), SecretError> {
        let deleted = self
            .client()
            .delete_secret()
            .secret_id(arn)
            .recovery_window_in_days(RECOVERY_WINDOW_DAYS)
            .send()
            .await
            .map_err(fault);
        match deleted {
            Err(fault) if !is_gone(&fault) => Err(failed(arn, fault)),
            _ => Ok(()),
        }
    }

    async fn get_external(
        &self,
        reference: &SecretReference,
        provider: &ProviderName,
    ) -> Result<Secret, SecretError> {
        let id = &reference.secret_id;
        let not_found = || SecretError::NotFound(format!("there is no secret `{id}`"));
        let denied = || {
            SecretError::Denied(format!(
                "secret `{id}` may not be used by provider `{provider}`: its owner must tag it {PROVIDER_TAG}={provider}"
            ))
        };
        let read = |fault: Fault| {
            if is_gone(&fault) {
                not_found()
            } else if fault.is("AccessDeniedException") {
                // The role of the function reaches tagged secrets alone.
                denied()
            } else {
                failed(id, fault)
            }
        };
        let described =
            self.client().describe_secret().secret_id(id).send().await.map_err(|error| read(fault(error)))?;
        let is_theirs = |tag: &Tag| tag.key() == Some(PROVIDER_TAG) && tag.value() == Some(provider.as_str());
        if !described.tags().iter().any(is_theirs) {
            return Err(denied());
        }
        // By the ARN that was looked at: a name may be taken over in between.
        let arn = described.arn.ok_or_else(not_found)?;
        let answer = self
            .client()
            .get_secret_value()
            .secret_id(arn)
            .send()
            .await
            .map_err(|error| read(fault(error)))?;
        let value = answer
            .secret_string
            .map(Secret::new)
            .ok_or_else(|| SecretError::NotFound(format!("secret `{id}` is binary, and a text is needed")))?;
        reference.select(value).ok_or_else(|| {
            SecretError::NotFound(format!("secret `{id}` has no text under `{}`", reference.json_key))
        })
    }
}
