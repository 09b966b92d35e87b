//! Taking turns across processes: the lease and its takeover (D7), on top of `core::flight`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_identity_core::error::ErrorKind;
use agent_identity_core::flight::{InFlight, LEASE_LIFE, LEASE_RESERVE, Lease};
use agent_identity_core::record::{self, Stored};
use agent_identity_core::seal::SealError;
use agent_identity_core::store::{Condition, Consistency, Due, Key, StoreError};
use agent_identity_core::{Error, Result, Timestamp, encoding, random};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Services;

/// How often a loser looks at the winner's row: between one and two times this.
const POLL: Duration = Duration::from_millis(25);

/// How long a provider's answer is held out to a busy store.
const INSISTENCE: Duration = Duration::from_secs(60);

/// From so many watched leases on, those that nobody looked at for a while are forgotten, which only delays a takeover.
const WATCHED: usize = 10_000;

/// Whether a caller wants the turn.
pub(crate) enum Wish {
    /// No: the row already says what the caller needs.
    Settled,
    /// Yes, but not if it has to wait for somebody else.
    Eager,
    /// Yes, and it waits so long at most.
    Patient(Duration),
}

/// The outcome of asking for a turn.
pub(crate) enum Turn<R: InFlight> {
    /// The caller holds the lease, and its attempt is on record.
    Mine(Taken<R>),
    /// The row as it is (without the lease of a holder that is dead); there is nothing to do, or somebody else is doing it.
    Settled(Option<Stored<R>>),
    /// Somebody else has the turn, and the caller has waited long enough.
    Held,
}

/// What a client is told when it has waited long enough (D7: never a consent URL).
pub(crate) fn still_held() -> Error {
    Error::new(
        ErrorKind::Throttling,
        "another request is getting this token from the provider and has not finished; try again",
    )
}

/// A lease that this process holds, until it is dropped.
pub(crate) struct Taken<R: InFlight> {
    pub(crate) stored: Stored<R>,
    pub(crate) lease: Lease,
    terms: R::Terms,
    since: Duration,
    _flying: Flying,
}

/// Says that a lease of this process is alive, for as long as it lives.
struct Flying {
    watch: Arc<Mutex<Watched>>,
    owner: String,
}

impl Drop for Flying {
    fn drop(&mut self) {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).flying.remove(&self.owner);
    }
}

/// Leases of others, and for how long each was *watched* unchanged, on this process's own clock. A look counts for what went by
/// since the last one, but for a second at most: a process that was frozen has not watched.
#[derive(Default)]
pub(crate) struct LeaseWatch(Arc<Mutex<Watched>>);

#[derive(Default)]
struct Watched {
    /// Owners of the leases that this process holds.
    flying: HashSet<String>,
    others: HashMap<Key, Sighting>,
}

struct Sighting {
    lease: Lease,
    watched: Duration,
    last_look: Duration,
}

/// The most that one look counts for.
const LONGEST_LOOK: Duration = Duration::from_secs(1);

impl LeaseWatch {
    /// Whether the holder of this lease shows no sign of life any more.
    fn dead(&self, key: &Key, lease: &Lease, elapsed: Duration) -> bool {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.flying.contains(&lease.owner) {
            return false;
        }
        if let Some(sighting) = watched.others.get_mut(key)
            && sighting.lease == *lease
        {
            sighting.watched += elapsed.saturating_sub(sighting.last_look).min(LONGEST_LOOK);
            sighting.last_look = elapsed;
            return sighting.watched >= LEASE_LIFE;
        }
        if watched.others.len() >= WATCHED {
            watched.others.retain(|_, seen| elapsed.saturating_sub(seen.last_look) < 2 * LEASE_LIFE);
        }
        let sighting = Sighting { lease: lease.clone(), watched: Duration::ZERO, last_look: elapsed };
        watched.others.insert(key.clone(), sighting);
        false
    }

    /// This process holds a lease with this owner from now on.
    fn take(&self, key: &Key, owner: &str) -> Flying {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        watched.others.remove(key);
        watched.flying.insert(owner.to_owned());
        Flying { watch: Arc::clone(&self.0), owner: owner.to_owned() }
    }
}

/// An error that may be gone in a moment.
pub(crate) trait MayPass: std::fmt::Display {
    /// Whether it is of that kind.
    fn may_pass(&self) -> bool;
}

impl MayPass for StoreError {
    /// Also when a write may have been made: who writes again finds out, since the version has moved then.
    fn may_pass(&self) -> bool {
        !matches!(self, Self::Conflict(_))
    }
}

impl MayPass for SealError {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Busy(_))
    }
}

/// The due entry of a row with this record.
pub(crate) fn due<R: InFlight>(key: &Key, record: &R, terms: R::Terms, now: Timestamp) -> Option<Due> {
    record.due(terms, now).map(|at| Due::of(key, at))
}

impl Services {
    /// Asks for the turn on a row. `absent` makes the record where there is none; `wish` decides, on the row as it is
    /// each time, whether the turn is still wanted.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn turn<R>(
        &self,
        key: &Key,
        terms: R::Terms,
        absent: impl Fn() -> Option<R>,
        wish: impl Fn(Option<&R>, Timestamp) -> Wish,
    ) -> Result<Turn<R>>
    where
        R: InFlight + Serialize + DeserializeOwned + Clone,
    {
        let began = self.ports.clock.elapsed();
        loop {
            let mut found: Option<Stored<R>> =
                record::get(&*self.ports.store, key, Consistency::Strong).await?;
            let condition = found.as_ref().map_or(Condition::Absent, |row| Condition::Version(row.version));
            let since = self.ports.clock.elapsed();
            let held = match found.as_mut().map(|row| row.value.flight_mut()) {
                Some(flight) => match &flight.lease {
                    Some(lease) if self.watch.dead(key, lease, since) => {
                        flight.lease = None;
                        false
                    }
                    lease => lease.is_some(),
                },
                None => false,
            };
            let now = self.now();
            match wish(found.as_ref().map(|row| &row.value), now) {
                Wish::Settled => return Ok(Turn::Settled(found)),
                Wish::Eager if held => return Ok(Turn::Settled(found)),
                Wish::Patient(patience) if held => {
                    if since.saturating_sub(began) >= patience {
                        return Ok(Turn::Held);
                    }
                    let [jitter] = random::bytes::<1>(&*self.ports.random);
                    tokio::time::sleep(POLL + POLL.mul_f64(f64::from(jitter) / 255.0)).await;
                }
                Wish::Eager | Wish::Patient(_) => {
                    let Some(mut record) = found.map(|row| row.value).or_else(&absent) else {
                        return Ok(Turn::Settled(None));
                    };
                    let taking = encoding::hex(&random::bytes::<8>(&*self.ports.random));
                    let owner = format!("{}.{taking}", self.instance);
                    record.flight_mut().depart(&owner, now);
                    // Before the write: from then on other tasks of this process may see it.
                    let flying = self.watch.take(key, &owner);
                    let ends = record.row_ends();
                    let due = due(key, &record, terms, now);
                    let write = record::put(key.clone(), condition, &record, ends, due)?;
                    match self.ports.store.write(vec![write]).await {
                        Ok(()) => {}
                        Err(StoreError::Conflict(_)) => continue,
                        // An attempt that is on record counts, though nobody said so at first: it must not look like a crash.
                        Err(error) if self.is_stored_after(&error, key, &record).await => {}
                        Err(error) => return Err(error.into()),
                    }
                    let version = match condition {
                        Condition::Absent => 1,
                        Condition::Version(version) => version.saturating_add(1),
                    };
                    let Some(lease) = record.flight().lease.clone() else {
                        return Err(Error::internal("a departed flight has no lease"));
                    };
                    return Ok(Turn::Mine(Taken {
                        stored: Stored { key: key.clone(), version, value: record },
                        lease,
                        terms,
                        since,
                        _flying: flying,
                    }));
                }
            }
        }
    }

    /// Whether so much of the lease is left that a call may begin: asked right before the first byte, on a clock that
    /// counts suspend (D7).
    pub(crate) fn may_call<R: InFlight>(&self, taken: &Taken<R>) -> bool {
        self.ports.clock.elapsed().saturating_sub(taken.since) + LEASE_RESERVE <= LEASE_LIFE
    }

    /// Takes a step that keeps what a provider has answered. While the store is busy or does not answer, the step is taken again
    /// and again: the answer is nowhere else.
    ///
    /// # Errors
    /// Those of the step; one that may pass only after [`INSISTENCE`].
    pub(crate) async fn insist<T, E, F>(&self, step: impl Fn() -> F) -> Result<T, E>
    where
        E: MayPass,
        F: Future<Output = Result<T, E>>,
    {
        let began = self.ports.clock.elapsed();
        loop {
            match step().await {
                Err(error)
                    if error.may_pass() && self.ports.clock.elapsed().saturating_sub(began) < INSISTENCE =>
                {
                    tracing::warn!(%error, "a provider's answer waits to be stored; trying again");
                    tokio::time::sleep(POLL * 4).await;
                }
                other => return other,
            }
        }
    }

    /// Writes the outcome of a turn. `settle` changes the record; it may run again on a newer row, when something else
    /// about it was written meanwhile. It answers whether to write at all.
    ///
    /// # Errors
    /// Those of the store. An outcome that could not be written leaves the intent open.
    pub(crate) async fn land<R>(&self, taken: Taken<R>, settle: impl Fn(&mut R, Landing) -> bool) -> Result<R>
    where
        R: InFlight + Serialize + DeserializeOwned + Clone,
    {
        let Taken { mut stored, lease, terms, _flying, .. } = taken;
        loop {
            let landing =
                if stored.value.flight().holds(&lease) { Landing::Holding } else { Landing::Fenced };
            let mut record = stored.value.clone();
            if !settle(&mut record, landing) {
                return Ok(stored.value);
            }
            let due = due(&stored.key, &record, terms, self.now());
            let write = stored.replace(&record, record.row_ends(), due)?;
            match self.insist(|| self.ports.store.write(vec![write.clone()])).await {
                Ok(()) => return Ok(record),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let key = stored.key;
            let newer = self.insist(|| self.ports.store.get(&key, Consistency::Strong)).await?;
            stored = newer.as_ref().map(record::parse).transpose()?.ok_or_else(|| {
                Error::new(ErrorKind::Conflict, "the record was deleted while its token was being fetched")
            })?;
        }
    }
}

/// Whether the lease is still held when an outcome is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landing {
    /// It is.
    Holding,
    /// Somebody took it over, believing this process dead.
    Fenced,
}
