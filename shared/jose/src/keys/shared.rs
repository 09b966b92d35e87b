//! The tier that processes share: what an issuer published, and when it was last asked for a key that it had not (D16, D25).
//!
//! Times in rows are wall-clock times of whoever wrote them. Clocks of machines that keep time differ by seconds at most; one
//! that is wrong by more makes an issuer be asked more often, never the keys last longer or an issuer not be asked.

use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::store::{Condition, Consistency, Key, Kind, Row, Store, StoreError, Write};
use agent_identity_core::{Clock, Result, Timestamp, record};
use serde::{Deserialize, Serialize};

use super::fetch::Fetched;
use super::issuers::{COOL_DOWN, FRESH, MAX_STALE};
use super::jwk::Jwk;
use super::key_set::{KeySet, Published};

/// How long it stays written down that an issuer was asked: long enough for the scheduled prefetch to see it.
const NOTE_LIFE: Duration = Duration::from_secs(10 * 60);

/// A time that lies further in the future was written by a clock that is wrong.
const MAX_AHEAD: Duration = COOL_DOWN;

/// The rows of issuers' keys.
#[derive(Clone)]
pub(crate) struct SharedKeys {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whether this process may write keys; that it asked an issuer, any may (D16).
    pub(crate) writes_keys: bool,
}

/// What an issuer published, in its row.
#[derive(Deserialize, Serialize)]
struct KeysRow {
    issuer: String,
    jwks_uri: String,
    /// When the reading began.
    fetched_at: Timestamp,
    /// What may verify here, and of it what that takes.
    keys: Vec<Jwk>,
}

/// That an issuer was asked for a key that its row did not have.
#[derive(Deserialize, Serialize)]
struct CoolDownRow {
    asked_at: Timestamp,
}

/// Keys from a row.
pub(super) struct Found {
    pub(super) keys: KeySet,
    /// The names of the keys.
    pub(super) kids: Vec<Option<String>>,
    pub(super) fetched_at: Timestamp,
    /// How old they are.
    pub(super) age: Duration,
}

/// Whether the issuer may be asked.
pub(super) enum Claim {
    /// By this process, now.
    Mine,
    /// By none for so long: one has just asked.
    Theirs(Duration),
}

/// The row of an issuer's keys.
pub(super) fn keys_of(issuer: &str) -> Key {
    Key::single(Kind::Jwks, issuer)
}

/// The row that says when it was asked.
pub(super) fn cool_down_of(issuer: &str) -> Key {
    Key::single(Kind::JwksCoolDown, issuer)
}

/// What must be true of the row in order to replace what was read there.
pub(super) fn as_read(row: Option<&Row>) -> Condition {
    row.map_or(Condition::Absent, |row| Condition::Version(row.version))
}

/// The keys in an issuer's row, if it is one: a row is held to what an issuer is held to.
pub(super) fn parse_keys(row: &Row, now: Timestamp) -> Option<Found> {
    let usable = || {
        let value: KeysRow = serde_json::from_slice(&row.bytes).ok()?;
        let kids = value.keys.iter().map(|jwk| jwk.kid.clone()).collect();
        let keys = Published::of(value.keys.into_iter().map(Some)).ok()?.keys;
        let age = age(value.fetched_at, now);
        (value.issuer == row.key.partition).then_some(Found { keys, kids, fetched_at: value.fetched_at, age })
    };
    let found = usable();
    if found.is_none() {
        tracing::error!(
            issuer = row.key.partition,
            "the row of an issuer's keys is broken; it is passed over"
        );
    }
    found
}

/// When the issuer was last asked for an unknown key, unless a clock was wrong then.
pub(super) fn parse_asked_at(row: &Row, now: Timestamp) -> Option<Timestamp> {
    let asked_at = serde_json::from_slice::<CoolDownRow>(&row.bytes).ok()?.asked_at;
    (asked_at <= now.plus(MAX_AHEAD)).then_some(asked_at)
}

/// The write that keeps what an issuer said.
pub(super) fn put_keys(fetched: Fetched, fetched_at: Timestamp, condition: Condition) -> Result<Write> {
    let Fetched { issuer, jwks_uri, published } = fetched;
    let key = keys_of(&issuer);
    let value = KeysRow { issuer, jwks_uri, fetched_at, keys: published.jwks };
    record::put(key, condition, &value, Some(fetched_at.plus(MAX_STALE)), None)
}

fn age(fetched_at: Timestamp, now: Timestamp) -> Duration {
    // Of a set from the future nobody knows the age: it is served, and asked for again.
    if fetched_at > now.plus(MAX_AHEAD) { FRESH } else { now.since(fetched_at) }
}

impl SharedKeys {
    /// The issuer's row. May miss a write of the last second, and may have been read ahead.
    pub(super) async fn read(&self, issuer: &str) -> Result<Option<Row>, StoreError> {
        self.store.get(&keys_of(issuer), Consistency::Eventual).await
    }

    /// Asks whether the issuer may be asked for a key that its row does not have: once in [`COOL_DOWN`], by one process. Where
    /// the store cannot say, it may: each process has its own cool-down still.
    pub(super) async fn claim(&self, issuer: &str) -> Claim {
        match self.try_claim(issuer).await {
            Ok(claim) => claim,
            Err(error) => {
                tracing::warn!(issuer, %error, "it cannot be written down that an issuer is asked for its keys");
                Claim::Mine
            }
        }
    }

    async fn try_claim(&self, issuer: &str) -> Result<Claim> {
        let key = cool_down_of(issuer);
        let row = self.store.get(&key, Consistency::Strong).await?;
        let now = self.clock.now();
        let asked_at = row.as_ref().and_then(|row| parse_asked_at(row, now));
        if let Some(left) =
            asked_at.and_then(|at| COOL_DOWN.checked_sub(now.since(at))).filter(|it| !it.is_zero())
        {
            return Ok(Claim::Theirs(left));
        }
        let note = CoolDownRow { asked_at: now };
        let write = record::put(key, as_read(row.as_ref()), &note, Some(now.plus(NOTE_LIFE)), None)?;
        match self.store.write(vec![write]).await {
            Ok(()) => Ok(Claim::Mine),
            Err(StoreError::Conflict(_)) => Ok(Claim::Theirs(COOL_DOWN)),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps what an issuer said, unless somebody else wrote its row meanwhile.
    pub(super) async fn keep(
        &self,
        fetched: Fetched,
        fetched_at: Timestamp,
        condition: Condition,
    ) -> Result<()> {
        match self.store.write(vec![put_keys(fetched, fetched_at, condition)?]).await {
            Ok(()) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
