//! Times in tokens: their form (RFC 7519 §2), and whether the token is valid now.

use std::fmt;
use std::time::Duration;

use agent_identity_core::Timestamp;
use agent_identity_core::issuer::TokenRefused;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::claims::Claims;
use super::members::AnyValue;
use super::refusal::refused;

/// The end of the year 9999, in seconds: beyond it a date is a mistake, most often milliseconds.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Seconds since the epoch, whole or with a fraction. Neither text, nor negative, nor beyond all reason.
pub(crate) struct NumericDate(pub(crate) Timestamp);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = NumericDate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds since the epoch")
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<NumericDate, E> {
                self.visit_f64(seconds as f64)
            }

            fn visit_f64<E: Error>(self, seconds: f64) -> Result<NumericDate, E> {
                instant(seconds).map(NumericDate).ok_or_else(|| E::custom("out of range"))
            }
        }

        deserializer.deserialize_any(Number)
    }
}

fn instant(seconds: f64) -> Option<Timestamp> {
    (0.0..=LAST_SECOND).contains(&seconds).then(|| Timestamp::from_millis((seconds * 1000.0) as i64))
}

/// When the user signed in, by an `auth_time`. Some issuers write it as text (AD FS): what cannot be read was before everything
/// else, so that whoever was signed out since is not let in by it (D15).
pub(super) fn sign_in(auth_time: &AnyValue<'_>) -> Timestamp {
    match auth_time {
        AnyValue::Number(seconds) => instant(*seconds).unwrap_or(Timestamp::EPOCH),
        _ => Timestamp::EPOCH,
    }
}

/// Whether the token is valid at `now`, and no older than `max_age`.
pub(crate) fn check(
    claims: &Claims<'_>,
    now: Timestamp,
    leeway: Duration,
    max_age: Option<Duration>,
) -> Result<(), TokenRefused> {
    if now >= claims.expires_at.plus(leeway) {
        return Err(refused("expired", "it has expired"));
    }
    let horizon = now.plus(leeway);
    if claims.not_before.is_some_and(|from| from > horizon) {
        return Err(refused("not_yet_valid", "its `nbf` is in the future"));
    }
    if claims.issued_at.is_some_and(|at| at > horizon) {
        return Err(refused("issued_in_future", "its `iat` is in the future"));
    }
    match (max_age, claims.issued_at) {
        (Some(_), None) => Err(refused("age_unknown", "it has no `iat`, and its age matters here")),
        (Some(max_age), Some(issued_at)) if now >= issued_at.plus(max_age).plus(leeway) => {
            Err(refused("too_old", "it was issued too long ago"))
        }
        _ => Ok(()),
    }
}
