//! The turn, as a machine without I/O. Each state is a type, what may happen in it are its methods, and what they return is
//! what to do next: a state has no event that is not meant for it. `docs/architecture.md` has the picture.
//!
//! [`Asking`] → look at the row → [`Taking`] → lease and intent are written → [`Holding`] → call → [`Landed`] ← write ←
//! [`Landing`]. Who drives it reads and writes rows, waits and calls; it decides nothing. `tests/refresh_search` in this crate
//! drives it through every order in which callers, crashes and lost answers can come.

use std::time::Duration;

use super::{Ended, InFlight, Lease, Limits, Settlement, Wish, backoff};
use crate::Timestamp;
use crate::record::Stored;
use crate::store::{Condition, Key};

/// Somebody asks for the turn on a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking<R: InFlight> {
    /// For what.
    pub want: R::Want,
    /// What besides the row decides.
    pub terms: R::Terms,
    /// When they began, on their own clock.
    pub began: Duration,
    /// How long they wait for somebody else.
    pub patience: Duration,
    /// The times that turns go by.
    pub limits: Limits,
}

/// A look at a row.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    /// The wall clock.
    pub now: Timestamp,
    /// The clock that counts suspend, read before a lease is written: it lives from here.
    pub elapsed: Duration,
    /// Whether the lease's holder shows no sign of life (`watch`).
    pub holder_is_dead: bool,
    /// Makes a name for a lease that nobody else uses, and that is used once. Most looks need none.
    pub owner: &'a (dyn Fn() -> String + Sync),
}

/// What to do after a look.
#[derive(Clone, Debug)]
pub enum Looked<R: InFlight> {
    /// There is nothing to do, or somebody else does it: the row (without the lease of a holder that is dead).
    Settled(Option<Stored<R>>),
    /// Somebody else has the turn, and the caller has waited long enough: `ThrottlingException`, never a consent (D7).
    Held,
    /// Somebody else has the turn. Look again in a moment.
    Wait,
    /// Nobody has it: write this.
    Take(Box<Taking<R>>),
}

/// A lease and an intent that are to be written.
#[derive(Clone, Debug)]
pub struct Taking<R: InFlight> {
    /// The row as it will be, under the version that it then has.
    pub stored: Stored<R>,
    /// On this condition.
    pub condition: Condition,
    lease: Lease,
    terms: R::Terms,
    since: Duration,
    limits: Limits,
}

/// The turn is the caller's, and its attempt is on record.
#[derive(Clone, Debug)]
pub struct Holding<R: InFlight> {
    /// The row.
    pub stored: Stored<R>,
    /// The lease.
    pub lease: Lease,
    /// What besides the row decides.
    pub terms: R::Terms,
    since: Duration,
    limits: Limits,
}

/// A turn whose call has ended, or was not made.
#[derive(Clone, Debug)]
pub struct Landing<R: InFlight> {
    /// The row as it was found last.
    pub stored: Stored<R>,
    /// What besides the row decides.
    pub terms: R::Terms,
    before: R,
    lease: Lease,
    outcome: R::Outcome,
    tried: Option<R>,
}

/// What to do with an outcome.
#[derive(Clone, Debug)]
pub enum Next<R: InFlight> {
    /// Write this record in place of [`Landing::stored`]. Where `seals`, what the provider gave is sealed into it first.
    Write {
        /// The record.
        record: R,
        /// Whether it is to have what the provider gave.
        seals: bool,
    },
    /// The turn has ended.
    End(Landed<R>),
}

/// A turn that has ended.
#[derive(Clone, Debug)]
pub struct Landed<R> {
    /// The row as it is stored now.
    pub stored: Stored<R>,
    /// Whether this turn wrote it so.
    pub wrote: bool,
}

impl<R: InFlight> Asking<R> {
    /// A look at the row, read consistently. `absent` is the record that is made where there is none.
    pub fn look(
        &self,
        key: &Key,
        mut found: Option<Stored<R>>,
        absent: impl FnOnce() -> Option<R>,
        look: Look<'_>,
    ) -> Looked<R> {
        let mut held = false;
        if let Some(row) = &mut found {
            let flight = row.value.flight_mut();
            if look.holder_is_dead {
                flight.lease = None;
            }
            held = flight.lease.is_some();
        }
        let wish = match &found {
            Some(row) => row.value.wish(self.want, self.terms, look.now),
            None => Wish::Patient,
        };
        match wish {
            Wish::Settled => Looked::Settled(found),
            Wish::Eager if held => Looked::Settled(found),
            Wish::Patient if held => {
                let waited = look.elapsed.saturating_sub(self.began);
                if waited >= self.patience { Looked::Held } else { Looked::Wait }
            }
            Wish::Eager | Wish::Patient => self.take(key, found, absent, look),
        }
    }

    fn take(
        &self,
        key: &Key,
        found: Option<Stored<R>>,
        absent: impl FnOnce() -> Option<R>,
        look: Look<'_>,
    ) -> Looked<R> {
        let (condition, version, record) = match found {
            Some(row) => (Condition::Version(row.version), row.version.saturating_add(1), Some(row.value)),
            None => (Condition::Absent, 1, absent()),
        };
        let Some(mut record) = record else { return Looked::Settled(None) };
        let lease = record.flight_mut().depart(&(look.owner)(), look.now);
        Looked::Take(Box::new(Taking {
            stored: Stored { key: key.clone(), version, value: record },
            condition,
            lease,
            terms: self.terms,
            since: look.elapsed,
            limits: self.limits,
        }))
    }
}

impl<R: InFlight> Taking<R> {
    /// It was written. (In conflict, somebody was faster: look again.)
    pub fn written(self) -> Holding<R> {
        let Self { stored, lease, terms, since, limits, .. } = self;
        Holding { stored, lease, terms, since, limits }
    }

    /// Nobody said whether it was written; this is what was found then. An attempt that is on record counts: it must not look
    /// like a crash. `None`: it was not written.
    pub fn found_after(self, found: Option<&Stored<R>>) -> Option<Holding<R>> {
        found.is_some_and(|found| found.value.flight().holds(&self.lease)).then(|| self.written())
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What besides the row decides.
    pub fn terms(&self) -> R::Terms {
        self.terms
    }

    /// Since when the lease lives, on the taker's clock.
    pub fn since(&self) -> Duration {
        self.since
    }
}

impl<R: InFlight> Holding<R> {
    /// Whether so much of the lease is left that a call may begin: asked right before the first byte (D7).
    pub fn may_call(&self, elapsed: Duration) -> bool {
        elapsed.saturating_sub(self.since) + self.limits.lease_reserve <= self.limits.lease_life
    }

    /// The call has ended, or was not made.
    pub fn land(self, outcome: R::Outcome) -> Landing<R> {
        let before = self.stored.value.clone();
        Landing { stored: self.stored, terms: self.terms, before, lease: self.lease, outcome, tried: None }
    }

    /// Since when the lease lives, on the holder's clock.
    pub fn since(&self) -> Duration {
        self.since
    }
}

impl<R: InFlight> Landing<R> {
    /// What the outcome makes of the row as it was found last. `jitter` is a random byte, for the pause.
    pub fn settle(&mut self, now: Timestamp, jitter: u8) -> Next<R> {
        let found = &self.stored.value;
        let landing =
            if found.flight().holds(&self.lease) { super::Landing::Holding } else { super::Landing::Fenced };
        let pause = backoff(self.before.flight().failures, jitter);
        let ended = Ended { before: &self.before, landing, outcome: &self.outcome, now, pause };
        let (record, seals) = match found.settle(&ended) {
            Settlement::Keep(record) => (record, true),
            Settlement::Note(record) => (record, false),
            Settlement::Leave => return Next::End(Landed { stored: self.stored.clone(), wrote: false }),
        };
        Next::Write { record, seals }
    }

    /// This is being written. What nobody answers is written again until it is in conflict with itself, at worst.
    pub fn tries(&mut self, record: &R) {
        self.tried = Some(record.clone());
    }

    /// It was written.
    pub fn written(self, record: R) -> Landed<R> {
        let Stored { key, version, .. } = self.stored;
        Landed { stored: Stored { key, version: version.saturating_add(1), value: record }, wrote: true }
    }

    /// It was in conflict, and this is the row now: perhaps as this turn wrote it.
    ///
    /// # Errors
    /// The turn has ended.
    pub fn found(mut self, found: Stored<R>) -> Result<Self, Landed<R>> {
        if self.tried.as_ref() == Some(&found.value) {
            return Err(Landed { stored: found, wrote: true });
        }
        self.stored = found;
        Ok(self)
    }

    /// What became of the call.
    pub fn outcome(&self) -> &R::Outcome {
        &self.outcome
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The record as it was when the turn was taken.
    pub fn before(&self) -> &R {
        &self.before
    }
}
