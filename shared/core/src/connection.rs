//! Connections: what the vault keeps of a user's consent. What is done with it, and when, is [`crate::refresh`].

mod address;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::encoding;
use crate::flight::Flight;
use crate::name::{Label, Scope};
use crate::provider::Oauth2Provider;
use crate::secret::{Secret, sealed_form, sealed_form_option};
use crate::store::{Key, Kind};
use crate::user::UserKey;
use crate::workload::Workload;
use crate::{Id, Timestamp};

pub use address::{ConnectionAddress, ConnectionGroup};

/// A connection: tokens of one user at one provider, for one workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Connection {
    /// The workload.
    pub workload: Id<Workload>,
    /// The user.
    pub user: UserKey,
    /// The provider.
    pub provider: Id<Oauth2Provider>,
    /// Which account, and for which resources and audiences (see [`ConnectionTarget`]).
    pub target: String,
    /// RFC 8707 resources that the tokens were asked for. A refresh asks for them again (§2.2): a provider that is not told
    /// may give an access token for another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Audiences that the tokens were asked for, as the resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// Whose account at the provider it is, where the provider says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<Account>,
    /// The provider's generation when the tokens were obtained (D3).
    pub provider_generation: u32,
    /// Scopes that were asked for in the consent.
    pub asked: BTreeSet<Scope>,
    /// Scopes that the provider granted.
    pub granted: BTreeSet<Scope>,
    /// When the user consented: an absolute life of the grant began then. (Connections from before this was kept do not say.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consented_at: Option<Timestamp>,
    /// When its token was last asked for, to a day: kept where its provider has a policy that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
    /// The end of the grant that others were told of before it comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announced_end: Option<Timestamp>,
    /// The tokens.
    pub tokens: HeldTokens,
    /// Whether it works.
    pub health: Health,
    /// Who is refreshing it.
    pub flight: Flight,
}

/// An account at a provider, as its ID token names it (OpenID Connect Core §2): both together are one account, for ever.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Account {
    /// Who gave it: `iss`.
    pub issuer: String,
    /// Which: `sub`.
    pub subject: String,
}

impl Account {
    /// The label under which it is kept beside another account: one for each account.
    pub fn label(&self, digest: &dyn crate::port::Digest) -> Label {
        let framed = encoding::length_prefixed([self.issuer.as_bytes(), self.subject.as_bytes()]);
        let hex = encoding::hex(&digest.sha256(&framed));
        Label::of_account(hex.get(..16).unwrap_or(&hex))
    }
}

/// Tokens as they are at rest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HeldTokens {
    /// Moves only when tokens change; in the AAD; compared after `invalid_grant` (D19).
    pub generation: u64,
    /// When they were obtained.
    pub obtained_at: Timestamp,
    /// When the access token ends; `None` if nobody said.
    pub expires_at: Option<Timestamp>,
    /// Whether there is a refresh token.
    pub refreshable: bool,
    /// [`TokenMaterial`], sealed; base64url.
    pub sealed: String,
}

/// What is sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenMaterial {
    /// The access token.
    #[serde(rename = "a", serialize_with = "sealed_form")]
    pub access_token: Secret,
    /// The refresh token.
    #[serde(rename = "r", serialize_with = "sealed_form_option", default)]
    pub refresh_token: Option<Secret>,
}

/// Whether a connection works.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Health {
    /// As far as we know.
    Active,
    /// The user must consent again.
    NeedsConsent {
        /// Why: a stable code.
        reason: Reason,
        /// Since when.
        since: Timestamp,
        /// Whether others were told. Until then the row stays due, so that no grant is lost silently, not even by a crash
        /// between the write and the announcement. (Rows from before this was kept were announced at once.)
        #[serde(default = "told")]
        announced: bool,
    },
}

const fn told() -> bool {
    true
}

impl Health {
    /// The stable code of a connection's status.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Active => "ACTIVE",
            Self::NeedsConsent { .. } => "NEEDS_CONSENT",
        }
    }
}

/// Why a user must consent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The provider says that the grant is dead.
    InvalidGrant,
    /// The answer of a refresh was lost, and the provider no longer takes the old token (D5).
    LostRotation,
    /// The provider's registration changed since (D3).
    ProviderChanged,
    /// The access token ended and there is no refresh token.
    Expired,
    /// The vault key over its tokens was lost, and they with it (ADR 0036).
    KeyLost,
}

impl Reason {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidGrant => "invalid_grant",
            Self::LostRotation => "lost_rotation",
            Self::ProviderChanged => "provider_changed",
            Self::Expired => "expired",
            Self::KeyLost => "key_lost",
        }
    }
}

/// What a connection is for, besides workload, user and provider. AWS's API names neither accounts nor targets of
/// connections: a plain call uses the account labelled `default`, and `connectionLabel` is ours. Tokens for different `resources` or `audiences` are
/// different connections, since an access token for one is not one for the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionTarget<'a> {
    /// The account's label.
    pub label: &'a Label,
    /// RFC 8707 resources asked for.
    pub resources: &'a [String],
    /// Audiences asked for.
    pub audiences: &'a [String],
}

impl ConnectionTarget<'_> {
    /// The text form in keys and AADs: unambiguous, with the parameters in the order of their text.
    pub fn text(&self, digest: &dyn crate::port::Digest) -> String {
        if self.resources.is_empty() && self.audiences.is_empty() {
            return self.label.to_string();
        }
        let sorted = |list: &[String]| {
            let set: BTreeSet<&str> = list.iter().map(String::as_str).collect();
            encoding::length_prefixed(set.iter().map(|item| item.as_bytes()))
        };
        let framed = encoding::length_prefixed([&*sorted(self.resources), &*sorted(self.audiences)]);
        format!("{}#{}", self.label, encoding::hex(&digest.sha256(&framed)))
    }
}

impl Connection {
    /// Where the connection of these is stored.
    pub fn key(workload: Id<Workload>, user: UserKey, provider: Id<Oauth2Provider>, target: &str) -> Key {
        Key::of(Kind::Connection, format!("{workload}#{user}"), format!("{provider}#{target}"))
    }

    /// At which provider the connection of this key is.
    pub fn provider_of(key: &Key) -> Option<Id<Oauth2Provider>> {
        Id::parse(key.sort.split_once('#')?.0)
    }
}

#[cfg(test)]
pub(crate) mod tests;
