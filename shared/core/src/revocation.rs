//! Grants that are to end at their provider too: what is left of a connection that was destroyed here (RFC 7009).

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::connection::Connection;
use crate::flight::{LEASE_LIFE, backoff};
use crate::random::Random;
use crate::store::{Due, Key, Kind};
use crate::user::UserKey;
use crate::{Id, Timestamp};

/// How long a provider is asked to end a grant. After that its tokens are destroyed, and it is said that they were not revoked.
pub const REVOCATION_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// A grant that its provider is to be told has ended. It is made in the transaction that destroys the connection, so that no
/// crash forgets it, and gives nothing to anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The connection as it was; its tokens are sealed as they were.
    pub connection: Connection,
    /// Since when.
    pub since: Timestamp,
    /// How often it was in vain.
    #[serde(default)]
    pub failures: u32,
}

impl Revocation {
    /// Of this connection, from `now` on.
    pub const fn new(connection: Connection, now: Timestamp) -> Self {
        Self { connection, since: now, failures: 0 }
    }

    /// A place for it that nobody else has: a connection may be made and destroyed again before its provider has heard.
    pub fn key(user: UserKey, random: &dyn Random) -> Key {
        Key::of(Kind::Revocation, user.to_string(), Id::<Self>::random(random).to_string())
    }

    /// When the schedule looks at it: not while whoever made it may still be asking the provider.
    pub fn first_due(&self, key: &Key) -> Due {
        Due::of(key, self.since.plus(LEASE_LIFE))
    }

    /// It was in vain: until when it waits, by the provider's own word or by the failures so far. `None`: it has been tried for
    /// so long that it ends.
    pub fn failed(
        &self,
        now: Timestamp,
        retry_after: Option<Duration>,
        jitter: u8,
    ) -> Option<(Self, Timestamp)> {
        if now >= self.since.plus(REVOCATION_KEPT) {
            return None;
        }
        let failures = self.failures.saturating_add(1);
        // From the backoff's end at five minutes on, it doubles further, up to ten hours: nobody waits for it.
        let longer = 1 << self.failures.saturating_sub(9).min(7);
        let wait = retry_after.unwrap_or_else(|| backoff(self.failures, jitter) * longer);
        Some((Self { failures, ..self.clone() }, now.plus(wait)))
    }
}

/// What became of a grant at its provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// The provider says that its tokens are worth nothing any more.
    Revoked,
    /// The provider has no way to revoke it, as far as is known.
    Unsupported,
    /// It could not be done yet, and is tried again.
    Queued,
    /// It was not done, and nobody tries again.
    Failed,
}

impl Upstream {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Unsupported => "unsupported",
            Self::Queued => "queued",
            Self::Failed => "failed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::tests::{START as NOW, connection};

    #[test]
    fn it_is_tried_again_less_and_less_often_and_given_up_after_a_week() {
        let (mut now, mut revocation) = (NOW, Revocation::new(connection(600), NOW));
        let (mut tries, mut longest) = (0, Duration::ZERO);
        while let Some((failed, until)) = revocation.failed(now, None, 255) {
            assert!(until > now);
            longest = longest.max(until.since(now));
            (revocation, now, tries) = (failed, until, tries + 1);
        }
        assert!((20..100).contains(&tries), "{tries}");
        assert!(longest <= Duration::from_secs(12 * 3600), "{longest:?}");
        assert!(now.since(NOW) >= REVOCATION_KEPT && now.since(NOW) < 2 * REVOCATION_KEPT);
    }

    #[test]
    fn a_providers_own_word_counts() {
        let wait = Duration::from_secs(77);
        let (_, until) = Revocation::new(connection(600), NOW).failed(NOW, Some(wait), 0).unwrap();
        assert_eq!(until, NOW.plus(wait));
    }
}
