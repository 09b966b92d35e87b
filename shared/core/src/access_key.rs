//! Access keys of our own: a principal each, with its grants (D1).

use serde::{Deserialize, Serialize};

use crate::grant::Principal;
use crate::{Secret, Timestamp};

/// An access key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessKey {
    /// The public half: 20 characters, like AWS's.
    pub id: String,
    /// Who signs with it, and what they may do.
    pub principal: Principal,
    /// The secret half, and the session token of a temporary key; sealed; base64url.
    pub sealed: String,
    /// Whether it is the pair that `serve` made for itself: good on loopback only (D21).
    pub loopback_only: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends, for temporary keys.
    pub expires_at: Option<Timestamp>,
}

/// The secrets of an access key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccessKeySecrets {
    /// What signatures are derived from.
    #[serde(serialize_with = "crate::secret::sealed_form")]
    pub secret_access_key: Secret,
    /// What a temporary key's requests must carry as well.
    #[serde(serialize_with = "crate::secret::sealed_form_option", default)]
    pub session_token: Option<Secret>,
}
