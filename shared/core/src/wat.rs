//! Workload access tokens: short-lived, opaque, opened without I/O (D20).

use std::time::Duration;

use serde::{Deserialize, Serialize};

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

impl WatClaims {
    /// When its user signed in (D15): as the JWT behind it says, and never later than when it was issued itself. Whoever vouches for
    /// a user does so at that moment.
    pub fn sign_in(&self) -> Option<Timestamp> {
        match self.issuer {
            Some(_) => self.signed_in_at.map(|at| at.min(self.issued_at)),
            None => Some(self.issued_at),
        }
    }
}
