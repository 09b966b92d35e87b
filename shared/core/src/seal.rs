//! The ports for sealing, and what a sealed value is bound to (D19).

use async_trait::async_trait;

use crate::Timestamp;
use crate::authorizer::{AuthorizerKey, KeyOwner, KeyPurpose};
use crate::encoding;
use crate::store::{Key, StoreError};

/// What a vault key is for. Separate purposes have separate keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// User keys and client-credentials tokens.
    Vault,
    /// Workload access tokens.
    Wat,
    /// The `state` of a consent and what else its browser carries.
    Consent,
    /// Page tokens of lists.
    Page,
    /// Managed secrets and signing keys, where the store of secrets is ours.
    Secret,
    /// Secrets of access keys.
    AccessKey,
}

impl Purpose {
    /// The stable text form, used in encryption contexts and stored keys.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vault => "vault",
            Self::Wat => "wat",
            Self::Consent => "consent",
            Self::Page => "page",
            Self::Secret => "secret",
            Self::AccessKey => "access-key",
        }
    }

    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Vault, Self::Wat, Self::Consent, Self::Page, Self::Secret, Self::AccessKey];

    /// Those that seal what does not end by itself.
    pub const LASTING: [Self; 3] = [Self::Vault, Self::Secret, Self::AccessKey];
}

/// What a sealed value is and whose: authenticated, not stored, so that a ciphertext moved elsewhere does not open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context(Vec<u8>);

impl Context {
    /// From a label of what the value is, and the fields that say whose, unambiguously framed.
    pub fn new<'a>(what: &'a str, fields: impl IntoIterator<Item = &'a [u8]>) -> Self {
        Self(encoding::length_prefixed(std::iter::once(what.as_bytes()).chain(fields)))
    }

    /// The framed bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why a value could not be sealed or opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SealError {
    /// It was not sealed by us for this purpose and context, or was changed since. Deliberately says no more.
    #[error("the sealed value does not open")]
    Broken,
    /// The vault key that sealed it is lost, and the vault was reset since: it will never open (ADR 0036).
    #[error("the vault key that sealed the value is lost")]
    Lost,
    /// The key is not to be had now (the store or the key service does not answer).
    #[error("the vault key is not available: {0}")]
    KeyUnavailable(String),
    /// The key is not to be had now, because the store or the key service has too much to do. Try again.
    #[error("the vault key cannot be read now: {0}")]
    Busy(String),
}

impl From<StoreError> for SealError {
    /// The vault keys are rows: what the store says of them.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy(reason) => Self::Busy(reason),
            StoreError::Conflict(_) | StoreError::Failed(_) => Self::KeyUnavailable(error.to_string()),
        }
    }
}

/// A 32-byte key that is wiped when dropped and never shown.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
pub struct Key32([u8; 32]);

impl Key32 {
    /// From its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the cipher.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Key32 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[key]")
    }
}

/// Seals small values under the versioned vault keys. Made by `jose`.
#[async_trait]
pub trait Sealer: Send + Sync {
    /// Seals `plaintext` under the current key of `purpose`, bound to `context`.
    ///
    /// # Errors
    /// [`SealError::KeyUnavailable`], [`SealError::Busy`].
    async fn seal(&self, purpose: Purpose, context: &Context, plaintext: &[u8])
    -> Result<Vec<u8>, SealError>;

    /// Opens what [`Sealer::seal`] made, by whichever key version it names. Costs no I/O while that key is cached.
    ///
    /// # Errors
    /// [`SealError`].
    async fn open(
        &self,
        purpose: Purpose,
        context: &Context,
        sealed: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, SealError>;

    /// The row that must be read before a value opens which the key version that `sealed` names has sealed for `purpose`; none
    /// when that key is in memory, or when it cannot be said. For whoever reads several rows at once.
    fn unread_key(&self, _purpose: Purpose, _sealed: &[u8]) -> Option<Key> {
        None
    }

    /// The version of the vault key that `sealed` names; none where there are no versions, or it is no such value. Does not say
    /// that the value opens.
    fn key_version(&self, _sealed: &[u8]) -> Option<u32> {
        None
    }

    /// Makes a new version of this purpose's key current and returns its number. What older versions sealed still opens. Other
    /// processes seal under the version before until they ask again, and open the new one at once.
    ///
    /// # Errors
    /// [`SealError::KeyUnavailable`], [`SealError::Busy`]; nothing has changed then, or the new version is there.
    async fn rotate(&self, _purpose: Purpose) -> Result<u32, SealError> {
        Err(SealError::KeyUnavailable("these keys have no versions".to_owned()))
    }

    /// The versions of this purpose's key, oldest first, as they are stored now: what is sealed by this process from now on is
    /// sealed under the last of them, or a later one.
    ///
    /// # Errors
    /// [`SealError::KeyUnavailable`], [`SealError::Busy`].
    async fn key_versions(&self, _purpose: Purpose) -> Result<Vec<u32>, SealError> {
        Ok(Vec::new())
    }

    /// The key over all vault keys, where it has a name.
    fn wrapping_key(&self) -> Option<&str> {
        None
    }

    /// Wraps anew every vault key that a former key of the wrapper still wraps; what they have sealed stays as it is. Begun
    /// again after a failure, it goes on. No read or write of others fails meanwhile.
    ///
    /// # Errors
    /// [`SealError::KeyUnavailable`], also when a key unwraps under none that is known; [`SealError::Busy`].
    async fn rewrap_keys(&self) -> Result<Wrapping, SealError> {
        self.wrapping().await
    }

    /// Puts on record which versions of the vault keys are lost for ever, and makes a new version of each key whose current one is;
    /// how many were found lost. What a lost version has sealed is [`SealError::Lost`] from then on. Looks at all of them before
    /// anything is changed; begun again after a failure, it goes on.
    ///
    /// # Errors
    /// [`SealError::KeyUnavailable`] when of some version it cannot be said that it is lost, or no new one can be made;
    /// [`SealError::Busy`].
    async fn give_up_lost_keys(&self) -> Result<usize, SealError> {
        Ok(0)
    }

    /// How the vault keys are wrapped.
    ///
    /// # Errors
    /// [`SealError::KeyUnavailable`], [`SealError::Busy`].
    async fn wrapping(&self) -> Result<Wrapping, SealError> {
        Ok(Wrapping::default())
    }

    /// Seals under a key that the caller holds (a user's own key, D19), bound to `context`.
    fn seal_with(&self, key: &Key32, context: &Context, plaintext: &[u8]) -> Vec<u8>;

    /// Opens what [`Sealer::seal_with`] made.
    ///
    /// # Errors
    /// [`SealError::Broken`].
    fn open_with(
        &self,
        key: &Key32,
        context: &Context,
        sealed: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, SealError>;
}

/// How the vault keys are wrapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wrapping {
    /// How many of them a call has wrapped anew.
    pub rewrapped: usize,
    /// When one of them was last wrapped; none where there are none.
    pub changed_at: Option<Timestamp>,
}

/// Wraps the vault keys: a KMS key, or a local master key.
#[async_trait]
pub trait KeyWrapper: Send + Sync {
    /// Wraps 32 bytes under an encryption context, which is authenticated and not stored.
    ///
    /// # Errors
    /// [`SealError::KeyUnavailable`], [`SealError::Busy`].
    async fn wrap(&self, key: &Key32, context: &[(&str, &str)]) -> Result<Vec<u8>, SealError>;

    /// Unwraps what [`KeyWrapper::wrap`] made under the same context.
    ///
    /// # Errors
    /// [`SealError::Broken`] for another context, another wrapper, or changed bytes; `KeyUnavailable`, `Busy`.
    async fn unwrap_key(&self, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Key32, SealError>;

    /// Its key, where that has a name.
    fn key_name(&self) -> Option<&str> {
        None
    }

    /// Whether what was wrapped will never unwrap again, since the key that did it exists no more: `by`, where that was kept.
    /// Never said of a key that is disabled, about to be deleted, or out of reach.
    ///
    /// # Errors
    /// [`SealError::KeyUnavailable`] when it does not unwrap now and that cannot be said; [`SealError::Busy`].
    async fn is_lost(
        &self,
        wrapped: &[u8],
        context: &[(&str, &str)],
        by: Option<&str>,
    ) -> Result<bool, SealError> {
        let _no_key_has_a_name = by;
        match self.unwrap_key(wrapped, context).await {
            Ok(_) => Ok(false),
            Err(SealError::Broken) => Err(SealError::KeyUnavailable(
                "it does not unwrap under the key that there is; restore the right one".to_owned(),
            )),
            Err(error) => Err(error),
        }
    }

    /// Wraps under the key of today what a former one has wrapped; none where there is nothing to do.
    ///
    /// # Errors
    /// As [`KeyWrapper::unwrap_key`].
    async fn rewrap(&self, _wrapped: &[u8], _context: &[(&str, &str)]) -> Result<Option<Vec<u8>>, SealError> {
        Ok(None)
    }
}

/// Keys of authorizers, under a root key that is none of the vault's (D16): the authorizer function has this and no [`Sealer`].
/// Made by `jose`.
#[async_trait]
pub trait AuthorizerKeys: Send + Sync {
    /// Whether keys of this purpose may be made here.
    fn is_for(&self, purpose: KeyPurpose) -> bool;

    /// A new key.
    ///
    /// # Errors
    /// [`SealError::KeyUnavailable`], [`SealError::Busy`].
    async fn create(&self, owner: KeyOwner) -> Result<AuthorizerKey, SealError>;

    /// Seals `plaintext` under such a key, bound to `context`. Costs no I/O while the key is cached.
    ///
    /// # Errors
    /// [`SealError::KeyUnavailable`], also for a key of another owner or root key; [`SealError::Busy`].
    async fn seal(
        &self,
        owner: KeyOwner,
        key: &AuthorizerKey,
        context: &Context,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError>;

    /// Opens what [`AuthorizerKeys::seal`] made.
    ///
    /// # Errors
    /// [`SealError`].
    async fn open(
        &self,
        owner: KeyOwner,
        key: &AuthorizerKey,
        context: &Context,
        sealed: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, SealError>;
}
