//! Use cases on the token vault as a whole: under which key its keys are wrapped.

use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Action, Authorized, Role};
use agent_identity_core::seal::{Purpose, SealError, Wrapping};
use agent_identity_core::{Error, Result, Timestamp};

use crate::Services;

/// Reads how the vault is kept.
#[derive(Clone, Debug)]
pub struct GetTokenVault;

/// Wraps the vault's keys anew.
#[derive(Clone, Debug)]
pub struct SetTokenVaultCmk {
    /// The ARN of the KMS key that is wanted; none for the deployment's own master key.
    pub kms_key_arn: Option<String>,
}

/// Makes new versions of the keys that seal what does not end by itself.
#[derive(Clone, Debug)]
pub struct RotateTokenVaultKeys;

/// Gives up what is lost with a KMS key that was deleted.
#[derive(Clone, Debug)]
pub struct ResetTokenVaultKeyMaterial;

macro_rules! on_vault {
    ($type:ty, $operation:literal) => {
        impl Action for $type {
            const OPERATION: &'static str = $operation;

            fn role(&self) -> Role {
                Role::Admin
            }
        }
    };
}
on_vault!(GetTokenVault, "GetTokenVault");
on_vault!(SetTokenVaultCmk, "SetTokenVaultCMK");
on_vault!(RotateTokenVaultKeys, "RotateTokenVaultKeys");

/// It gives up what is everybody's.
impl Action for ResetTokenVaultKeyMaterial {
    const OPERATION: &'static str = "ResetTokenVaultKeyMaterial";

    fn role(&self) -> Role {
        Role::Admin
    }

    fn concerns_all_workloads(&self) -> bool {
        true
    }

    fn concerns_all_providers(&self) -> bool {
        true
    }
}

/// How the vault is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenVault {
    /// The ARN of the KMS key over its keys; none for a master key of ours.
    pub kms_key_arn: Option<String>,
    /// When one of its keys was last wrapped.
    pub changed_at: Timestamp,
}

impl Services {
    /// How the vault is kept.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn get_token_vault(&self, _authorized: Authorized<'_, GetTokenVault>) -> Result<TokenVault> {
        Ok(self.token_vault(self.ports.sealer.wrapping().await?))
    }

    /// Wraps anew every vault key that is still wrapped under a former KMS key. The configuration says which key is the one of
    /// today, since every process must know it before the first value is sealed under it: what is asked for here must be that.
    /// No record is touched, and nobody's read fails meanwhile. Safe to repeat: it goes on where it was cut off.
    ///
    /// # Errors
    /// `Validation` when the deployment is not configured for that key; `Throttling`, `Internal` when a key does not unwrap.
    pub async fn set_token_vault_cmk(
        &self,
        authorized: Authorized<'_, SetTokenVaultCmk>,
    ) -> Result<TokenVault> {
        let wanted = authorized.action().kms_key_arn.as_deref();
        let configured = self.ports.sealer.wrapping_key();
        if wanted != configured {
            let cure = match configured {
                Some(arn) => format!(
                    "this deployment is configured for `{arn}`; to change that, deploy it with the parameter VaultKeyArn first"
                ),
                None => "this deployment keeps a master key of its own; KMS keys are for deployments on AWS"
                    .to_owned(),
            };
            return Err(Error::field("kmsConfiguration.kmsKeyArn", cure));
        }
        let wrapping = self.ports.sealer.rewrap_keys().await?;
        tracing::info!(rewrapped = wrapping.rewrapped, "the vault keys are wrapped under the configured key");
        Ok(self.token_vault(wrapping))
    }

    /// Goes on without the vault keys that a deleted KMS key had wrapped: they get new versions under the configured key, and what the
    /// lost ones have sealed is given up (ADR 0036). A user whose tokens that were must consent again, which is found, recorded and
    /// announced when they are asked for or due, or by the sweep ([`Services::reseal_token_vault`]).
    ///
    /// # Errors
    /// `Conflict` when no vault key is lost for good: all unwrap, or one does not and may come back; what the cure is.
    pub async fn reset_token_vault_key_material(
        &self,
        _authorized: Authorized<'_, ResetTokenVaultKeyMaterial>,
    ) -> Result<TokenVault> {
        let lost = match self.ports.sealer.give_up_lost_keys().await {
            Ok(0) => {
                return Err(Error::new(
                    ErrorKind::Conflict,
                    "no key of the vault is lost: nothing was reset. A reset is for when the KMS key over them was deleted",
                ));
            }
            Err(SealError::KeyUnavailable(reason)) => {
                return Err(Error::new(ErrorKind::Conflict, format!("nothing was reset: {reason}")));
            }
            answer => answer?,
        };
        tracing::warn!(lost, "versions of the vault keys are lost and were given up");
        Ok(self.token_vault(self.ports.sealer.wrapping().await?))
    }

    /// The versions of each vault key, oldest first; the last is current.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn vault_key_versions(
        &self,
        _authorized: Authorized<'_, GetTokenVault>,
    ) -> Result<Vec<(Purpose, Vec<u32>)>> {
        let mut versions = Vec::new();
        for purpose in Purpose::ALL {
            versions.push((purpose, self.ports.sealer.key_versions(purpose).await?));
        }
        Ok(versions)
    }

    /// Makes a new version current of each key that seals what does not end by itself, and says which. Nothing is resealed, and
    /// what older versions have sealed opens as before. Cut off, it leaves some keys with a new version and some without.
    ///
    /// # Errors
    /// Those of the store and of the key over the vault keys.
    pub async fn rotate_token_vault_keys(
        &self,
        _authorized: Authorized<'_, RotateTokenVaultKeys>,
    ) -> Result<Vec<(Purpose, u32)>> {
        let mut made = Vec::new();
        for purpose in Purpose::LASTING {
            let version = self.ports.sealer.rotate(purpose).await?;
            tracing::info!(purpose = purpose.as_str(), version, "a vault key has a new version");
            made.push((purpose, version));
        }
        Ok(made)
    }

    fn token_vault(&self, wrapping: Wrapping) -> TokenVault {
        TokenVault {
            kms_key_arn: self.ports.sealer.wrapping_key().map(str::to_owned),
            changed_at: wrapping.changed_at.unwrap_or_else(|| self.now()),
        }
    }
}
