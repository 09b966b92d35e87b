//! Workload access tokens: short-lived, opaque, opened without I/O (D20).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::authorizer::AuthorizerKeyId;
use crate::name::WorkloadName;
use crate::random::Random;
use crate::seal::Context;
use crate::user::UserKey;
use crate::workload::Workload;
use crate::{Id, Timestamp};

/// How long a workload access token lives.
pub const WAT_LIFE: Duration = Duration::from_secs(15 * 60);

/// Marker of a workload access token's id (`jti`).
#[derive(Clone, Copy, Debug)]
pub struct WatId;

/// What a workload access token says, sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatClaims {
    /// Its id.
    #[serde(rename = "j")]
    pub id: Id<WatId>,
    /// The workload.
    #[serde(rename = "w")]
    pub workload: Id<Workload>,
    /// The workload's epoch when it was issued: bumping it ends the token.
    #[serde(rename = "p")]
    pub epoch: u32,
    /// The user; `None` for a token of the workload alone.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserKey>,
    /// The issuer that vouched for the user, if a JWT did.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// When it was issued.
    #[serde(rename = "i")]
    pub issued_at: Timestamp,
    /// When it ends.
    #[serde(rename = "e")]
    pub expires_at: Timestamp,
    /// When the inbound JWT ends: past it, the token may only poll consent sessions that it started (D20).
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub jwt_expires_at: Option<Timestamp>,
    /// When the user signed in, as the JWT behind it says: its `auth_time`, or else its `iat` (D15).
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub signed_in_at: Option<Timestamp>,
    /// Handle of the sealed inbound JWT, where one is kept.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub jwt_handle: Option<String>,
}

/// The user of a workload access token that is to be issued.
#[derive(Clone, Debug)]
pub struct WatUser {
    /// Who.
    pub key: UserKey,
    /// The issuer of their JWT, if one proves who they are.
    pub issuer: Option<String>,
    /// When that JWT ends.
    pub expires_at: Option<Timestamp>,
    /// When they signed in, as far as their JWT says (D15); when they are vouched for, if there is none.
    pub signed_in_at: Option<Timestamp>,
}

impl WatClaims {
    /// Of a token that is issued now.
    pub fn issue(
        random: &dyn Random,
        now: Timestamp,
        workload: Id<Workload>,
        epoch: u32,
        user: Option<WatUser>,
    ) -> Self {
        let (key, issuer, jwt_expires_at, signed_in_at) = match user {
            Some(user) => (Some(user.key), user.issuer, user.expires_at, user.signed_in_at),
            None => (None, None, None, None),
        };
        Self {
            id: Id::random(random),
            workload,
            epoch,
            user: key,
            issued_at: now,
            expires_at: now.plus(WAT_LIFE),
            jwt_expires_at,
            // What a process that has not heard of a sign-out yet issues, ends by it all the same.
            signed_in_at: signed_in_at.filter(|_| issuer.is_some()),
            issuer,
            jwt_handle: None,
        }
    }

    /// When its user signed in (D15): as the JWT behind it says, and never later than when it was issued itself. Whoever vouches for
    /// a user does so at that moment.
    pub fn sign_in(&self) -> Option<Timestamp> {
        match self.issuer {
            Some(_) => self.signed_in_at.map(|at| at.min(self.issued_at)),
            None => Some(self.issued_at),
        }
    }
}

/// A workload access token that an authorizer has issued, sealed (D16): it says in clear which of whose keys opens it.
/// ```text
/// 3 | the key's id (16) | length of the agent's name (1) | the agent's name | sealed
/// ```
/// The number says that it is none that the vault has sealed. Agent and key are bound into the seal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MintedWat<'a> {
    /// Which of the agent's keys.
    pub key: Id<AuthorizerKeyId>,
    /// Whose: the token is good for this workload alone.
    pub agent: WorkloadName,
    /// The sealed claims.
    pub sealed: &'a [u8],
}

/// Begins a token that an authorizer has issued.
const MINTED: u8 = 3;

impl<'a> MintedWat<'a> {
    /// What a token says of itself; `None` for one that no authorizer has issued.
    pub fn parse(token: &'a [u8]) -> Option<Self> {
        let rest = token.strip_prefix(&[MINTED])?;
        let (key, rest) = rest.split_first_chunk::<16>()?;
        let (length, rest) = rest.split_first()?;
        let (agent, sealed) = rest.split_at_checked(usize::from(*length))?;
        let agent = WorkloadName::parse(std::str::from_utf8(agent).ok()?).ok()?;
        Some(Self { key: Id::from_bytes(*key), agent, sealed })
    }

    /// The token's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let name = self.agent.as_str().as_bytes();
        // A name has at most 255 ASCII characters.
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        [&[MINTED], self.key.as_bytes().as_slice(), &[length], name, self.sealed].concat()
    }

    /// What its claims are sealed for.
    pub fn context(key: Id<AuthorizerKeyId>, agent: &WorkloadName) -> Context {
        Context::new(
            "workload access token of an authorizer",
            [key.as_bytes().as_slice(), agent.as_str().as_bytes()],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_token_says_whose_it_is_and_nothing_else_does() {
        let agent = WorkloadName::parse("support-agent").unwrap();
        let minted = MintedWat { key: Id::from_bytes([7; 16]), agent, sealed: b"sealed" };
        let bytes = minted.to_bytes();
        assert_eq!(MintedWat::parse(&bytes), Some(minted));
        for cut in 0..bytes.len() - b"sealed".len() {
            assert_eq!(MintedWat::parse(&bytes[..cut]), None, "{cut}");
        }
        for first in [0, 1, 2, 4, 255] {
            let mut other = bytes.clone();
            other[0] = first;
            assert_eq!(MintedWat::parse(&other), None, "{first}");
        }
        let mut unnamed = bytes;
        unnamed[17] = 0;
        assert_eq!(MintedWat::parse(&unnamed), None, "an agent has a name");
    }
}
