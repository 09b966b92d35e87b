//! The refresh of a connection: what a read, a scheduled look and an outcome make of its row, and what is to be done then.
//! Pure: rows, events and times in, rows and commands out. The order of things is [`crate::flight::turn`]; the rules are here.
//!
//! | state of a row | is | leaves it by |
//! |---|---|---|
//! | fresh | active, before its margin | time |
//! | ripe | active, in its margin; the access token is served when refresh fails | a turn |
//! | ended | active, the access token has ended | a turn |
//! | flying | somebody has the lease; the attempt is on record | an outcome, or a takeover (D7) |
//! | open | no lease, but an intent: an answer was lost (D5) | a turn, when D5 allows the same token to be sent again |
//! | waiting | `retry_at` is to come | time |
//! | needs consent, unannounced | the grant is dead; the access token is served to its end | the announcement, and then only a new consent |

use std::collections::BTreeSet;
use std::time::Duration;

use crate::Timestamp;
use crate::connection::{Connection, Health, HeldTokens, Reason};
use crate::flight::turn::Landed;
use crate::flight::{Ended, Flight, InFlight, LEASE_LIFE, Landing, Settlement, Wish};
use crate::name::Scope;

pub mod standing;

/// What of a provider's behaviour decides about refreshing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTraits {
    /// Whether a refresh may replace the refresh token; unknown counts as yes.
    pub rotates: bool,
    /// How long a superseded refresh token is still taken, where that is known.
    pub grace: Option<Duration>,
    /// Whether a refresh kills the access token before it: then it is done late.
    pub kills_access_token: bool,
}

/// What of a provider decides about refreshing its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTerms {
    /// The provider's generation (D3).
    pub generation: u32,
    /// How its refreshes behave.
    pub traits: RefreshTraits,
}

/// How early a token is refreshed, at most.
pub const MARGIN: Duration = Duration::from_secs(300);

/// How early where a refresh kills the access token before it.
pub const LATE_MARGIN: Duration = Duration::from_secs(10);

/// How long the refresh token of a dead grant is kept, sealed (D8): a provider that answered `invalid_grant` by mistake has ended
/// no grant until then.
pub const DEAD_GRANT_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// For what somebody asks for the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// A token.
    Read,
    /// That what is due is done. Nobody waits for the token.
    Schedule,
}

/// What a read does with tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve the access token as it is.
    Serve,
    /// Refresh; should that not succeed, serve the access token, which is still valid.
    RefreshOrServe,
    /// Refresh: the access token has ended.
    Refresh,
    /// An attempt failed a moment ago: say so, and when to come back.
    Wait(Timestamp),
    /// Only a new consent helps.
    Consent(Reason),
}

/// What became of a call (D5, D8).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Tokens came.
    Tokens(Renewal),
    /// `invalid_grant` (RFC 6749 §5.2): the provider says that the refresh token is no good.
    GrantRefused,
    /// Any other refusal: the provider did nothing.
    Refused,
    /// The provider asks to wait (429, `Retry-After`); it did nothing.
    Throttled(Option<Duration>),
    /// No byte left.
    NotSent,
    /// It may or may not have happened.
    Unknown,
}

/// What of new tokens is not secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Renewal {
    /// When the provider was asked: their life began then at the earliest.
    pub asked_at: Timestamp,
    /// When the access token ends; `None` if nobody said.
    pub expires_at: Option<Timestamp>,
    /// What the provider granted.
    pub granted: BTreeSet<Scope>,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The connection has the tokens that came.
    Renewed,
    /// Tokens came, but somebody had stored others that count: a new consent, or a later attempt.
    Superseded,
    /// The grant is dead, which is on record and must be announced.
    Dead(Reason),
    /// The provider refused, and by then somebody else had newer tokens, or the lease (D19). What they find counts.
    Overtaken,
    /// It has the tokens that it had.
    Failed,
}

/// What a reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The connection's access token.
    Serve,
    /// Whatever somebody else finds: ask again.
    Again,
    /// Nothing: only a new consent helps.
    Consent(Reason),
    /// Nothing yet: an attempt failed a moment ago.
    Wait(Timestamp),
    /// Nothing now.
    Unavailable,
}

impl HeldTokens {
    /// Whether the access token can be used at `now`.
    pub fn valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// How early these tokens are refreshed: min(configured, lifetime / 2), so that short-lived tokens are not refreshed on
    /// every read.
    pub fn margin(&self, traits: RefreshTraits) -> Duration {
        let configured = if traits.kills_access_token { LATE_MARGIN } else { MARGIN };
        match self.expires_at {
            Some(end) => configured.min(end.since(self.obtained_at) / 2),
            None => Duration::ZERO,
        }
    }

    pub(crate) fn fresh(&self, now: Timestamp, traits: RefreshTraits) -> bool {
        self.expires_at.is_none_or(|end| now < end.minus(self.margin(traits)))
    }
}

impl RefreshTraits {
    /// D5: whether a refresh token whose last answer was lost may be sent again while the access token is valid. A provider
    /// that does not rotate is asked freely; one that does, within its grace; any other only from the access token's end on,
    /// and then paced (docs/adr/0013).
    fn may_replay(self, flight: &Flight, now: Timestamp) -> bool {
        let Some(intent) = &flight.intent else { return true };
        !self.rotates || self.grace.is_some_and(|grace| now < intent.since.plus(grace))
    }
}

impl Connection {
    /// What a read at `now` does with this connection.
    pub fn decide(&self, now: Timestamp, terms: RefreshTerms) -> Decision {
        let RefreshTerms { generation, traits } = terms;
        if self.provider_generation != generation {
            return Decision::Consent(Reason::ProviderChanged);
        }
        if self.tokens.fresh(now, traits) {
            return Decision::Serve;
        }
        let valid = self.tokens.valid(now);
        if let Health::NeedsConsent { reason, .. } = self.health {
            return if valid { Decision::Serve } else { Decision::Consent(reason) };
        }
        if !self.tokens.refreshable {
            return if valid { Decision::Serve } else { Decision::Consent(Reason::Expired) };
        }
        if valid && self.flight.lease.is_none() && !traits.may_replay(&self.flight, now) {
            return Decision::Serve;
        }
        match self.flight.retry_at {
            Some(at) if at > now && !valid => Decision::Wait(at),
            Some(at) if at > now => Decision::Serve,
            Some(_) | None if valid => Decision::RefreshOrServe,
            Some(_) | None => Decision::Refresh,
        }
    }

    /// What a reader gets who did not have the turn.
    pub fn answer(&self, now: Timestamp, terms: RefreshTerms) -> Answer {
        match self.decide(now, terms) {
            Decision::Serve | Decision::RefreshOrServe => Answer::Serve,
            Decision::Consent(reason) => Answer::Consent(reason),
            Decision::Wait(at) => Answer::Wait(at),
            Decision::Refresh => Answer::Unavailable,
        }
    }

    /// Why its user must consent again, if that is still to be announced.
    pub fn unannounced(&self) -> Option<Reason> {
        match self.health {
            Health::NeedsConsent { reason, announced: false, .. } => Some(reason),
            Health::NeedsConsent { announced: true, .. } | Health::Active => None,
        }
    }

    /// It was announced.
    #[must_use]
    pub fn announced(&self) -> Self {
        let mut told = self.clone();
        if let Health::NeedsConsent { announced, .. } = &mut told.health {
            *announced = true;
        }
        told
    }

    /// When its refresh token is to be destroyed (D8).
    pub fn forgotten_at(&self) -> Option<Timestamp> {
        match self.health {
            Health::NeedsConsent { since, announced: true, .. } if self.tokens.refreshable => {
                Some(since.plus(DEAD_GRANT_KEPT))
            }
            Health::NeedsConsent { .. } | Health::Active => None,
        }
    }

    /// Without its refresh token: what remains is sealed anew, for the next generation.
    #[must_use]
    pub fn without_refresh_token(&self) -> Self {
        let mut forgotten = self.clone();
        forgotten.tokens.generation = self.tokens.generation.saturating_add(1);
        forgotten.tokens.refreshable = false;
        forgotten.tokens.sealed.clear();
        forgotten
    }

    /// Whether its tokens are of another generation of its provider, which is still to be found out (D3).
    pub fn is_of_a_changed_provider(&self, terms: RefreshTerms) -> bool {
        self.provider_generation != terms.generation && self.health == Health::Active
    }

    /// D3: its tokens are of an older generation of its provider, and are never sent anywhere.
    #[must_use]
    pub fn of_a_changed_provider(&self, now: Timestamp) -> Self {
        Self { health: needs_consent(Reason::ProviderChanged, now), ..self.clone() }
    }

    fn renewed(&self, renewal: &Renewal) -> Self {
        let mut renewed = self.clone();
        renewed.tokens = HeldTokens {
            generation: self.tokens.generation.saturating_add(1),
            obtained_at: renewal.asked_at,
            expires_at: renewal.expires_at,
            refreshable: true,
            sealed: String::new(),
        };
        renewed.granted.clone_from(&renewal.granted);
        renewed.health = Health::Active;
        renewed
    }

    fn with_flight(&self, change: impl FnOnce(&mut Flight)) -> Self {
        let mut changed = self.clone();
        change(&mut changed.flight);
        changed
    }
}

const fn needs_consent(reason: Reason, since: Timestamp) -> Health {
    Health::NeedsConsent { reason, since, announced: false }
}

impl InFlight for Connection {
    type Terms = RefreshTerms;
    type Want = Want;
    type Outcome = Outcome;

    fn wish(&self, want: Want, terms: RefreshTerms, now: Timestamp) -> Wish {
        match (want, self.decide(now, terms)) {
            (Want::Read, Decision::Refresh) => Wish::Patient,
            (Want::Read, Decision::RefreshOrServe) => Wish::Eager,
            // A lease moves the due time; who holds it may be dead, and is watched.
            (Want::Schedule, Decision::Refresh | Decision::RefreshOrServe)
                if self.flight.lease.is_some() || self.due(terms, now).is_some_and(|at| at <= now) =>
            {
                Wish::Patient
            }
            (Want::Schedule, Decision::Refresh | Decision::RefreshOrServe)
            | (_, Decision::Serve | Decision::Wait(_) | Decision::Consent(_)) => Wish::Settled,
        }
    }

    /// Who holds the lease has made the latest call of this grant, so that what they bring is the newest: a fenced holder's
    /// tokens, if they came first, are of an earlier call. Who was fenced brings tokens only where none came since, and
    /// nothing else: a refusal says nothing then (D19).
    fn settle(&self, turn: &Ended<'_, Self>) -> Settlement<Self> {
        let moved = self.tokens.generation != turn.before.tokens.generation;
        match (turn.landing, turn.outcome) {
            (Landing::Holding, Outcome::Tokens(renewal)) => {
                let mut renewed = self.renewed(renewal);
                renewed.flight.arrive();
                Settlement::Keep(renewed)
            }
            (Landing::Fenced, Outcome::Tokens(renewal)) if !moved => {
                let mut renewed = self.renewed(renewal);
                // What is open concerns the token before these, unless somebody is calling now: they find the generation
                // moved when they are refused, and serve these.
                if renewed.flight.lease.is_none() {
                    renewed.flight.arrive();
                }
                Settlement::Keep(renewed)
            }
            (
                Landing::Fenced,
                Outcome::Tokens(_)
                | Outcome::GrantRefused
                | Outcome::Refused
                | Outcome::Throttled(_)
                | Outcome::NotSent
                | Outcome::Unknown,
            ) => Settlement::Leave,
            // A lost race: there are newer tokens, of which nothing is open.
            (
                Landing::Holding,
                Outcome::GrantRefused
                | Outcome::Refused
                | Outcome::Throttled(_)
                | Outcome::NotSent
                | Outcome::Unknown,
            ) if moved => Settlement::Note(self.with_flight(Flight::arrive)),
            (Landing::Holding, Outcome::GrantRefused) => {
                let replayed = turn.before.flight.intent.as_ref().is_some_and(|intent| intent.sends > 1);
                let reason = if replayed { Reason::LostRotation } else { Reason::InvalidGrant };
                let mut dead = self.with_flight(Flight::arrive);
                dead.health = needs_consent(reason, turn.now);
                Settlement::Note(dead)
            }
            (Landing::Holding, Outcome::Refused | Outcome::NotSent) => {
                let retry_at = turn.now.plus(turn.pause);
                Settlement::Note(self.with_flight(|flight| flight.abort(Some(retry_at))))
            }
            (Landing::Holding, Outcome::Throttled(after)) => {
                let retry_at = turn.now.plus(after.unwrap_or(turn.pause));
                Settlement::Note(self.with_flight(|flight| flight.abort(Some(retry_at))))
            }
            (Landing::Holding, Outcome::Unknown) => {
                let retry_at = turn.now.plus(turn.pause);
                Settlement::Note(self.with_flight(|flight| flight.lose(Some(retry_at))))
            }
        }
    }

    /// When the scheduled refresh should look at it. It agrees with [`Connection::decide`]: from then on, and not before, a
    /// read would refresh. But where a refresh kills the access token before it, nobody's token is ended unasked: then it is
    /// the token's own end. What is still to be announced is looked at when whoever found it should have done that; a dead
    /// grant, when its refresh token is to be destroyed.
    fn due(&self, terms: RefreshTerms, now: Timestamp) -> Option<Timestamp> {
        if let Health::NeedsConsent { since, announced: false, .. } = self.health {
            return Some(since.plus(LEASE_LIFE));
        }
        if let Some(at) = self.forgotten_at() {
            return Some(at);
        }
        let end = self.tokens.expires_at?;
        let refreshable = self.tokens.refreshable
            && self.health == Health::Active
            && self.provider_generation == terms.generation;
        if !refreshable {
            return None;
        }
        let traits = terms.traits;
        let ripe = if traits.kills_access_token { end } else { end.minus(self.tokens.margin(traits)) };
        let mut at = self.flight.retry_at.map_or(ripe, |retry_at| ripe.max(retry_at));
        if !traits.may_replay(&self.flight, at.max(now)) {
            at = at.max(end);
        }
        // Whoever holds the lease moves the entry when the call has ended. This is for when they never do.
        Some(if self.flight.lease.is_some() { at.max(now.plus(LEASE_LIFE)) } else { at })
    }

    fn flight(&self) -> &Flight {
        &self.flight
    }

    fn flight_mut(&mut self) -> &mut Flight {
        &mut self.flight
    }

    fn row_ends(&self) -> Option<Timestamp> {
        None
    }
}

impl Outcome {
    /// What a turn with this outcome came to.
    pub fn verdict(&self, landed: &Landed<Connection>) -> Verdict {
        match self {
            Self::Tokens(_) if landed.wrote => Verdict::Renewed,
            Self::Tokens(_) => Verdict::Superseded,
            Self::GrantRefused => match landed.stored.value.health {
                Health::NeedsConsent { reason, .. } if landed.wrote => Verdict::Dead(reason),
                Health::NeedsConsent { .. } | Health::Active => Verdict::Overtaken,
            },
            Self::Refused | Self::Throttled(_) | Self::NotSent | Self::Unknown => Verdict::Failed,
        }
    }
}

impl Verdict {
    /// What a reader gets whose turn came to this: while the access token is valid it is served.
    pub fn answer(self, stored: &Connection, now: Timestamp) -> Answer {
        match self {
            Self::Renewed | Self::Superseded => Answer::Serve,
            Self::Overtaken => Answer::Again,
            Self::Dead(_) | Self::Failed if stored.tokens.valid(now) => Answer::Serve,
            Self::Dead(reason) => Answer::Consent(reason),
            Self::Failed => Answer::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests;
