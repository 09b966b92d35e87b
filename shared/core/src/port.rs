//! The smaller ports: digests, secrets, signing keys, events, meters.

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::provider::{Oauth2Provider, SecretReference};
use crate::revocation::Upstream;
use crate::seal::SealError;
use crate::store::StoreError;
use crate::user::UserKey;
use crate::workload::Workload;
use crate::{Id, ProviderName, Secret, Timestamp};

/// SHA-256. A port only because `core` has no cryptography of its own.
pub trait Digest: Send + Sync {
    /// SHA-256 of `bytes`.
    fn sha256(&self, bytes: &[u8]) -> [u8; 32];
}

/// Why a secret or signing key is not to be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SecretError {
    /// There is none of this name or ARN, or no such field in it.
    #[error("{0}")]
    NotFound(String),
    /// It exists, but this provider may not use it (D2).
    #[error("{0}")]
    Denied(String),
    /// The store of secrets does not answer.
    #[error("the store of secrets failed: {0}")]
    Failed(String),
    /// It has too much to do. Try again.
    #[error("the store of secrets is busy: {0}")]
    Busy(String),
}

impl From<StoreError> for SecretError {
    /// For a store of secrets that keeps them where the rows are.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy(reason) => Self::Busy(reason),
            StoreError::Failed(reason) => Self::Failed(reason),
            StoreError::Conflict(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<SealError> for SecretError {
    /// For a store of secrets that seals them under the vault keys.
    fn from(error: SealError) -> Self {
        match error {
            SealError::Busy(reason) => Self::Busy(reason),
            SealError::Broken | SealError::Lost | SealError::KeyUnavailable(_) => {
                Self::Failed(error.to_string())
            }
        }
    }
}

/// Client secrets and API keys: few, changed by hand.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// Stores a new version of the managed secret `name` and returns its reference. Creates the secret when there is none.
    /// The versions before stay readable until [`SecretStore::remove_version`].
    ///
    /// # Errors
    /// [`SecretError::Failed`], [`SecretError::Busy`].
    async fn put(&self, name: &str, value: &Secret) -> Result<StoredSecret, SecretError>;

    /// The value of one version of a managed secret.
    ///
    /// # Errors
    /// [`SecretError`].
    async fn get(&self, stored: &StoredSecret) -> Result<Secret, SecretError>;

    /// Removes this one version of a managed secret, and no other: the record that named it now names another. (Never "all
    /// but the newest": two updates at once would remove each other's.) Removing what is not there is no error.
    ///
    /// # Errors
    /// [`SecretError::Failed`], [`SecretError::Busy`].
    async fn remove_version(&self, superseded: &StoredSecret) -> Result<(), SecretError>;

    /// Deletes a managed secret with all its versions. Deleting what is not there is no error.
    ///
    /// # Errors
    /// [`SecretError::Failed`], [`SecretError::Busy`].
    async fn delete(&self, arn: &str) -> Result<(), SecretError>;

    /// The value of a secret that somebody else keeps, if it may be used by this provider (D2). With a JSON key the secret
    /// must be a JSON object and the value the text under that key.
    ///
    /// # Errors
    /// [`SecretError`]; `NotFound` names what was asked for.
    async fn get_external(
        &self,
        reference: &SecretReference,
        provider: &ProviderName,
    ) -> Result<Secret, SecretError>;

    /// Where the secrets are sealed under our vault keys: seals under the current version what older ones have sealed, and says how many
    /// that were. Whoever reads meanwhile does not notice.
    ///
    /// # Errors
    /// [`SecretError::Failed`], [`SecretError::Busy`]; what was done stays done.
    async fn reseal(&self) -> Result<usize, SecretError> {
        Ok(0)
    }
}

/// Where a managed secret is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StoredSecret {
    /// Its ARN: a real one of Secrets Manager, or a synthetic one.
    pub arn: String,
    /// Its version.
    pub version: String,
}

/// Algorithms of `private_key_jwt` assertions (`contract.md` 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum SigningAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// ECDSA on P-256 with SHA-256.
    ES256,
}

impl SigningAlgorithm {
    /// The `alg` header value (RFC 7518 §3.1).
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::PS256 => "PS256",
            Self::ES256 => "ES256",
        }
    }
}

/// Private keys that sign client assertions and never leave their keeper: KMS, or the local store.
#[async_trait]
pub trait SigningKeys: Send + Sync {
    /// Signs `message` (hashing it first) with the key behind `key_arn`, if it may be used by this provider (D2). ECDSA
    /// signatures are the fixed-length form of RFC 7518 §3.4.
    ///
    /// # Errors
    /// [`SecretError`].
    async fn sign(
        &self,
        key_arn: &str,
        algorithm: SigningAlgorithm,
        message: &[u8],
        provider: &ProviderName,
    ) -> Result<Vec<u8>, SecretError>;

    /// The `kid` under which the public half of a key is registered, if its keeper gives it one (RFC 7515 §4.1.4).
    ///
    /// # Errors
    /// [`SecretError`], but that there is no such key is left to [`SigningKeys::sign`] to say.
    async fn key_id(&self, key_arn: &str) -> Result<Option<String>, SecretError> {
        let _no_name_of_its_own = key_arn;
        Ok(None)
    }

    /// As [`SecretStore::reseal`].
    ///
    /// # Errors
    /// The same.
    async fn reseal(&self) -> Result<usize, SecretError> {
        Ok(0)
    }
}

/// Signs how far the chains of the audit trail have come (D18).
#[async_trait]
pub trait HeadSigner: Send + Sync {
    /// The signature of `framed`.
    ///
    /// # Errors
    /// Why there is none.
    async fn sign(&self, framed: &[u8]) -> Result<Vec<u8>, String>;

    /// Whether `signature` is this signer's of `framed`.
    ///
    /// # Errors
    /// Why that cannot be said.
    async fn holds(&self, framed: &[u8], signature: &[u8]) -> Result<bool, String>;
}

/// Whose connection it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// The workload's id.
    pub workload: Id<Workload>,
    /// The provider's id.
    pub provider: Id<Oauth2Provider>,
    /// The user.
    pub user: UserKey,
}

/// What happened, for whoever must act on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A user must consent again.
    NeedsConsent {
        /// Whose connection.
        of: Party,
        /// Why: a stable code such as `invalid_grant`, `lost_rotation`, `provider_changed`.
        reason: &'static str,
        /// When.
        at: Timestamp,
    },
    /// A user has consented again, where that was needed.
    Recovered {
        /// Whose connection.
        of: Party,
        /// When.
        at: Timestamp,
    },
    /// A connection was destroyed, and this is what became of its grant at the provider.
    Revoked {
        /// Whose connection it was.
        of: Party,
        /// What became of it.
        upstream: Upstream,
        /// When.
        at: Timestamp,
    },
    /// A grant is about to end, although it works: its provider lets none live longer, or none that is not used.
    AboutToEnd {
        /// Whose connection.
        of: Party,
        /// When it ends.
        ends_at: Timestamp,
        /// When this was said.
        at: Timestamp,
    },
    /// The refreshes of a provider are suspended (D8).
    ProviderSuspended {
        /// The provider's id.
        provider: Id<Oauth2Provider>,
        /// Why: a stable code.
        reason: &'static str,
        /// When.
        at: Timestamp,
    },
}

impl Event {
    /// What happened, as a stable text: the `detail-type` of EventBridge.
    pub const fn what(&self) -> &'static str {
        match self {
            Self::NeedsConsent { .. } => "Connection Needs Consent",
            Self::Recovered { .. } => "Connection Recovered",
            Self::Revoked { .. } => "Connection Revoked",
            Self::AboutToEnd { .. } => "Connection About To End",
            Self::ProviderSuspended { .. } => "Provider Suspended",
        }
    }

    /// To whom and why, as a JSON object. Ids and stable codes: no name, no secret.
    pub fn detail(&self) -> Value {
        let (of, more, at) = match self {
            Self::NeedsConsent { of, reason, at } => (Ok(of), Some(("reason", json!(reason))), at),
            Self::Recovered { of, at } => (Ok(of), None, at),
            Self::Revoked { of, upstream, at } => (Ok(of), Some(("upstream", json!(upstream.as_str()))), at),
            Self::AboutToEnd { of, ends_at, at } => {
                (Ok(of), Some(("endsAt", json!(ends_at.as_seconds_f64()))), at)
            }
            Self::ProviderSuspended { provider, reason, at } => {
                (Err(provider), Some(("reason", json!(reason))), at)
            }
        };
        let mut detail = match of {
            Ok(Party { workload, provider, user }) => json!({
                "version": 1,
                "workloadId": workload.to_string(),
                "providerId": provider.to_string(),
                "userKey": user.to_string(),
            }),
            Err(provider) => json!({ "version": 1, "providerId": provider.to_string() }),
        };
        if let Value::Object(members) = &mut detail {
            members.extend(more.map(|(name, value)| (name.to_owned(), value)));
            members.insert("at".to_owned(), json!(at.as_seconds_f64()));
        }
        detail
    }
}

/// Tells others what happened.
#[async_trait]
pub trait Events: Send + Sync {
    /// Takes down one event, to be told soon. Never fails: what cannot be told is logged.
    fn emit(&self, event: Event);

    /// Tells one event, and waits until whoever passes it on has it. For who tells again what was not heard.
    ///
    /// # Errors
    /// Why it was not.
    async fn tell(&self, event: Event) -> Result<(), String> {
        self.emit(event);
        Ok(())
    }
}
