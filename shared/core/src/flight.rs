//! One caller at a time, across processes: the lease, and the intent that is written before the call (D5, D7).
//!
//! Whoever wants to call a provider on behalf of a row first takes the row's lease by a conditional write, which also
//! records the attempt. Losers wait for the winner's row. What a crash left open is read from the intent. [`turn`] says in
//! which order, as states and what follows each; what a record does with an outcome is its own ([`InFlight::settle`]).

use std::fmt::Debug;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;

pub mod turn;
pub mod watch;

/// How long a lease lives without a sign of its holder: what comes before a call (3 s), the call, and the commit.
pub const LEASE_LIFE: Duration = Duration::from_secs(20);

/// What of a lease must be left right before the first byte is sent (D7): the call's own cap (10 s), and a commit to a store
/// that is busy (5 s).
pub const LEASE_RESERVE: Duration = Duration::from_secs(17);

/// How long a loser waits for the winner's row before it answers `ThrottlingException` (D7).
pub const LOSER_PATIENCE: Duration = Duration::from_secs(8);

/// The times that turns go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// How long a lease lives without a sign of its holder.
    pub lease_life: Duration,
    /// What of it must be left right before the first byte is sent.
    pub lease_reserve: Duration,
    /// The most that one look at another's lease counts for: a process that was frozen has not watched.
    pub longest_look: Duration,
}

/// Those of the product.
pub const LIMITS: Limits =
    Limits { lease_life: LEASE_LIFE, lease_reserve: LEASE_RESERVE, longest_look: Duration::from_secs(1) };

/// Who is calling, right now.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// The process instance, and this taking: never the same twice, so that a later lease is not taken for an earlier one.
    pub owner: String,
    /// Which attempt of this row it is; moves with every taking, so that it fences.
    pub attempt: u64,
    /// Moves while a long call goes on.
    pub heartbeat: u64,
}

/// A call that was about to be made and whose outcome is not known yet (write-ahead).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Intent {
    /// When it was first written: a provider's grace for a superseded token counts from here.
    pub since: Timestamp,
    /// How often the same token or code may have been sent.
    pub sends: u32,
}

/// Why the last call brought nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// The provider refused it, and not because of the grant.
    Refused,
    /// The provider asked to wait.
    Throttled,
    /// It was not sent: the provider was not to be reached, or suspended, or we could not prepare it.
    NotSent,
    /// No answer came that could be read: what became of it is not known (D5).
    NoAnswer,
}

impl Trouble {
    /// Its stable text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::NotSent => "not_sent",
            Self::NoAnswer => "no_answer",
        }
    }
}

/// The part of a row that keeps calls apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Flight {
    /// Attempts so far.
    #[serde(default)]
    pub attempts: u64,
    /// Who is calling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// What is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<Intent>,
    /// Not before this: the provider asked for it, or the last attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Failures in a row, for the backoff.
    #[serde(default)]
    pub failures: u32,
    /// Why the last of them failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
}

impl Flight {
    /// That of a record which takes the place of one with the flight `before`. Attempts go on counting: a lease of the new
    /// record is never one of the old.
    pub fn after(before: Option<&Self>) -> Self {
        Self { attempts: before.map_or(0, |flight| flight.attempts), ..Self::default() }
    }

    /// Takes the lease and records the attempt. The caller has checked that nobody holds it, or that it is dead.
    pub fn depart(&mut self, owner: &str, now: Timestamp) -> Lease {
        self.attempts = self.attempts.saturating_add(1);
        let lease = Lease { owner: owner.to_owned(), attempt: self.attempts, heartbeat: 0 };
        self.lease = Some(lease.clone());
        let sends = self.intent.as_ref().map_or(0, |intent| intent.sends);
        let since = self.intent.as_ref().map_or(now, |intent| intent.since);
        self.intent = Some(Intent { since, sends: sends.saturating_add(1) });
        lease
    }

    /// The call ended and its outcome is known: nothing is open any more.
    pub fn arrive(&mut self) {
        *self = Self { attempts: self.attempts, ..Self::default() };
    }

    /// The call was not made (no byte left): as if this attempt had not been, but for the wait.
    pub fn abort(&mut self, trouble: Trouble, retry_at: Option<Timestamp>) {
        self.lease = None;
        self.trouble = Some(trouble);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = retry_at;
        if let Some(intent) = &mut self.intent {
            intent.sends = intent.sends.saturating_sub(1);
            if intent.sends == 0 {
                self.intent = None;
            }
        }
    }

    /// The call was made and its outcome is unknown: the intent stays open (D5).
    pub fn lose(&mut self, retry_at: Option<Timestamp>) {
        self.lease = None;
        self.trouble = Some(Trouble::NoAnswer);
        self.failures = self.failures.saturating_add(1);
        self.retry_at = retry_at;
    }

    /// Whether this attempt still holds the lease.
    pub fn holds(&self, lease: &Lease) -> bool {
        self.lease.as_ref().is_some_and(|held| held.owner == lease.owner && held.attempt == lease.attempt)
    }
}

/// A record with a flight.
pub trait InFlight: Clone + PartialEq {
    /// What besides the record decides about its turns, and when its row is due.
    type Terms: Copy + Debug + Send + Sync;

    /// For what somebody asks for the turn.
    type Want: Copy + Debug + Send + Sync;

    /// What became of a call, as far as the row is concerned.
    type Outcome: Clone + Debug + Send + Sync;

    /// Whether somebody who finds the row so wants the turn. The lease of a holder that is dead is not there any more.
    fn wish(&self, want: Self::Want, terms: Self::Terms, now: Timestamp) -> Wish;

    /// What the outcome of a turn makes of the row. Not a holder's alone to say: who was fenced is asked too, and so is
    /// whoever finds another row than they left.
    fn settle(&self, turn: &Ended<'_, Self>) -> Settlement<Self>;

    /// When the row should be looked at without anybody asking for it, as things are at `now`; `None` for never.
    fn due(&self, terms: Self::Terms, now: Timestamp) -> Option<Timestamp>;

    /// Its flight.
    fn flight(&self) -> &Flight;

    /// Its flight, to change.
    fn flight_mut(&mut self) -> &mut Flight;

    /// When its row may go.
    fn row_ends(&self) -> Option<Timestamp>;
}

/// Whether a caller wants the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// No: the row already says what the caller needs.
    Settled,
    /// Yes, but not if it has to wait for somebody else.
    Eager,
    /// Yes, and it waits as long as its patience lasts.
    Patient,
}

/// A turn whose outcome is to be written.
#[derive(Debug)]
pub struct Ended<'a, R: InFlight> {
    /// The record as it was when the turn was taken.
    pub before: &'a R,
    /// Whether the lease is still held.
    pub landing: Landing,
    /// What became of the call.
    pub outcome: &'a R::Outcome,
    /// Now.
    pub now: Timestamp,
    /// How long to wait when nobody says otherwise: by the failures before.
    pub pause: Duration,
}

/// Whether the lease is still held when an outcome is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Landing {
    /// It is.
    Holding,
    /// Somebody took it over, believing this process dead; or the record was replaced.
    Fenced,
}

/// What is written of an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement<R> {
    /// This, with what the provider gave sealed into it.
    Keep(R),
    /// This.
    Note(R),
    /// Nothing: the row says it better.
    Leave,
}

/// How long to wait after `failures` failures in a row: doubling from one second to five minutes, and of that a share
/// between a half and the whole, chosen by `jitter` (a random byte), so that a herd spreads.
pub fn backoff(failures: u32, jitter: u8) -> Duration {
    let whole = Duration::from_secs(1 << failures.min(9)).min(Duration::from_secs(300));
    whole / 2 + whole.mul_f64(f64::from(jitter) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_000);

    #[test]
    fn the_attempt_is_on_record_before_the_call() {
        let mut flight = Flight::default();
        flight.depart("me", NOW);
        assert_eq!(flight.intent, Some(Intent { since: NOW, sends: 1 }));
        assert_eq!(flight.lease.as_ref().map(|lease| lease.attempt), Some(1));
    }

    #[test]
    fn d5_a_lost_answer_leaves_the_intent_open_and_a_second_send_is_counted() {
        let mut flight = Flight::default();
        flight.depart("me", NOW);
        flight.lose(None);
        assert!(flight.lease.is_none() && flight.intent.is_some());
        flight.depart("me", NOW.plus(Duration::from_secs(60)));
        assert_eq!(flight.intent, Some(Intent { since: NOW, sends: 2 }));
    }

    #[test]
    fn an_attempt_that_sent_nothing_is_not_counted() {
        let mut flight = Flight::default();
        flight.depart("me", NOW);
        flight.abort(Trouble::NotSent, None);
        assert_eq!((flight.intent, flight.failures), (None, 1));
    }

    #[test]
    fn a_new_holder_fences_the_old_one() {
        let mut flight = Flight::default();
        flight.depart("me", NOW);
        let mine = flight.lease.clone().unwrap();
        flight.depart("you", NOW);
        assert!(!flight.holds(&mine));
    }

    #[test]
    fn backoff_grows_and_stays_within_its_bounds() {
        assert!(backoff(0, 0) >= Duration::from_millis(500));
        assert!(backoff(3, 255) <= Duration::from_secs(8));
        assert!(backoff(60, 255) <= Duration::from_secs(300));
        assert!(backoff(60, 0) >= Duration::from_secs(150));
    }
}
