//! The keys of one authorizer (D16): what it needs secret of its own, without a key of the vault.

use serde::{Deserialize, Serialize};

use crate::Id;
use crate::encoding;
use crate::workload::Workload;

/// What a key of an authorizer is for. Separate purposes have separate keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyPurpose {
    /// Workload access tokens that the authorizer issues.
    Mint,
    /// The secret of the client as which an authorizer asks about tokens.
    Introspection,
}

impl KeyPurpose {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Mint, Self::Introspection];

    /// The purpose with this text form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str() == text)
    }

    /// The stable text form, used in encryption contexts, and so in the policies of roles.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mint => "authorizer-mint",
            Self::Introspection => "authorizer-introspection",
        }
    }
}

/// Marker of the id of an authorizer's key.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizerKeyId;

/// A key of one authorizer, as its record holds it: wrapped under a root key that is none of the vault's. It goes with the
/// authorizer, and what it has sealed opens no more then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorizerKey {
    /// Its id, new with each key.
    pub id: Id<AuthorizerKeyId>,
    /// Base64url of what the wrapper made.
    pub wrapped: String,
}

impl AuthorizerKey {
    /// A key as a wrapper has made it.
    pub fn new(id: Id<AuthorizerKeyId>, wrapped: &[u8]) -> Self {
        Self { id, wrapped: encoding::base64url(wrapped) }
    }
}

/// Whose key it is: with its purpose, what its wrapping is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyOwner {
    /// The workload that the authorizer is for.
    pub workload: Id<Workload>,
    /// What it is for.
    pub purpose: KeyPurpose,
}
