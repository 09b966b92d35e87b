//! Drives turns (`core::flight::turn`): reads and writes rows, waits, keeps time. It decides nothing about them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_identity_core::error::ErrorKind;
use agent_identity_core::flight::turn::{Asking, Holding, Landed, Landing, Look, Looked, Next, Taking};
use agent_identity_core::flight::watch::Sighting;
use agent_identity_core::flight::{InFlight, LEASE_LIFE, LIMITS, Lease};
use agent_identity_core::record::{self, Stored};
use agent_identity_core::seal::SealError;
use agent_identity_core::store::{Consistency, Due, Key, StoreError, Write};
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

/// A turn of this process, until it is dropped.
pub(crate) struct Taken<R: InFlight> {
    holding: Holding<R>,
    _flying: Flying,
}

impl<R: InFlight> Taken<R> {
    /// The row as it is under the lease.
    pub(crate) fn stored(&self) -> &Stored<R> {
        &self.holding.stored
    }
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

/// The leases that this process holds, and those of others that it watches (D7).
#[derive(Default)]
pub(crate) struct LeaseWatch(Arc<Mutex<Watched>>);

#[derive(Default)]
struct Watched {
    /// Owners of the leases that this process holds.
    flying: HashSet<String>,
    others: HashMap<Key, Sighting>,
}

impl LeaseWatch {
    /// Whether the holder of this lease shows no sign of life any more.
    fn dead(&self, key: &Key, lease: &Lease, elapsed: Duration) -> bool {
        let mut watched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.flying.contains(&lease.owner) {
            return false;
        }
        if let Some(sighting) = watched.others.get_mut(key) {
            sighting.look(lease, elapsed, LIMITS);
            return sighting.is_dead(LIMITS);
        }
        if watched.others.len() >= WATCHED {
            watched.others.retain(|_, seen| elapsed.saturating_sub(seen.last_look()) < 2 * LEASE_LIFE);
        }
        watched.others.insert(key.clone(), Sighting::first(lease, elapsed));
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
    /// Asks for the turn on a row, with so much patience. `absent` makes the record where there is none.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn turn<R>(
        &self,
        key: &Key,
        want: R::Want,
        terms: R::Terms,
        patience: Duration,
        absent: impl Fn() -> Option<R>,
    ) -> Result<Turn<R>>
    where
        R: InFlight + Serialize + DeserializeOwned,
    {
        let began = self.ports.clock.elapsed();
        let asking = Asking { want, terms, began, patience, limits: LIMITS };
        loop {
            let found: Option<Stored<R>> = record::get(&*self.ports.store, key, Consistency::Strong).await?;
            let elapsed = self.ports.clock.elapsed();
            let lease = found.as_ref().and_then(|row| row.value.flight().lease.as_ref());
            let holder_is_dead = lease.is_some_and(|lease| self.watch.dead(key, lease, elapsed));
            let owner = || {
                let taking = encoding::hex(&random::bytes::<8>(&*self.ports.random));
                format!("{}.{taking}", self.instance)
            };
            let look = Look { now: self.now(), elapsed, holder_is_dead, owner: &owner };
            match asking.look(key, found, &absent, look) {
                Looked::Settled(found) => return Ok(Turn::Settled(found)),
                Looked::Held => return Ok(Turn::Held),
                Looked::Wait if self.leaving.load(Ordering::Relaxed) => return Ok(Turn::Held),
                Looked::Wait => {
                    let [jitter] = random::bytes::<1>(&*self.ports.random);
                    tokio::time::sleep(POLL + POLL.mul_f64(f64::from(jitter) / 255.0)).await;
                }
                Looked::Take(taking) => {
                    if let Some(taken) = self.take(*taking).await? {
                        return Ok(Turn::Mine(taken));
                    }
                }
            }
        }
    }

    /// Writes a lease and its intent. `None`: somebody else was faster.
    async fn take<R>(&self, taking: Taking<R>) -> Result<Option<Taken<R>>>
    where
        R: InFlight + Serialize + DeserializeOwned,
    {
        let Stored { key, value, .. } = &taking.stored;
        // Before the write: from then on other tasks of this process may see it.
        let _flying = self.watch.take(key, &taking.lease().owner);
        let due = due(key, value, taking.terms(), self.now());
        let write = record::put(key.clone(), taking.condition, value, value.row_ends(), due)?;
        let holding = match self.ports.store.write(vec![write]).await {
            Ok(()) => taking.written(),
            Err(StoreError::Conflict(_)) => return Ok(None),
            Err(error @ StoreError::Busy(_)) => return Err(error.into()),
            Err(error @ StoreError::Failed(_)) => {
                let found = record::get(&*self.ports.store, key, Consistency::Strong).await;
                let Ok(found) = found else { return Err(error.into()) };
                taking.found_after(found.as_ref()).ok_or(error)?
            }
        };
        Ok(Some(Taken { holding, _flying }))
    }

    /// Whether so much of the lease is left that a call may begin: asked right before the first byte, on a clock that
    /// counts suspend (D7).
    pub(crate) fn may_call<R: InFlight>(&self, taken: &Taken<R>) -> bool {
        taken.holding.may_call(self.ports.clock.elapsed())
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

    /// Writes the outcome of a turn. `seal` puts what the provider gave into the record that is to have it.
    ///
    /// # Errors
    /// Those of the store and of sealing. An outcome that could not be written leaves the intent open.
    pub(crate) async fn land<R>(
        &self,
        taken: Taken<R>,
        outcome: R::Outcome,
        seal: impl Fn(&mut R) -> Result<()>,
    ) -> Result<Landed<R>>
    where
        R: InFlight + Serialize + DeserializeOwned,
    {
        let Taken { holding, _flying } = taken;
        let mut landing = holding.land(outcome);
        loop {
            let now = self.now();
            let [jitter] = random::bytes::<1>(&*self.ports.random);
            let record = match landing.settle(now, jitter) {
                Next::End(landed) => return Ok(landed),
                Next::Write { mut record, seals } => {
                    if seals {
                        seal(&mut record)?;
                    }
                    record
                }
            };
            let write = self.replacement(&landing, &record, now)?;
            landing.tries(&record);
            match self.insist(|| self.ports.store.write(vec![write.clone()])).await {
                Ok(()) => return Ok(landing.written(record)),
                Err(StoreError::Conflict(_)) => {}
                Err(error @ (StoreError::Busy(_) | StoreError::Failed(_))) => return Err(error.into()),
            }
            let key = &landing.stored.key;
            let newer = self.insist(|| self.ports.store.get(key, Consistency::Strong)).await?;
            let newer = newer.as_ref().map(record::parse).transpose()?.ok_or_else(|| {
                Error::new(ErrorKind::Conflict, "the record was deleted while its token was being fetched")
            })?;
            landing = match landing.found(newer) {
                Ok(landing) => landing,
                Err(landed) => return Ok(landed),
            };
        }
    }

    fn replacement<R>(&self, landing: &Landing<R>, record: &R, now: Timestamp) -> Result<Write>
    where
        R: InFlight + Serialize,
    {
        let due = due(&landing.stored.key, record, landing.terms, now);
        landing.stored.replace(record, record.row_ends(), due)
    }
}

/// For outcomes that seal nothing.
pub(crate) fn nothing<R>(_: &mut R) -> Result<()> {
    Ok(())
}
