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
use crate::flight::Flight;
use crate::name::Scope;

pub mod pace;
mod settle;
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

/// How long a provider lets a grant live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GrantLife {
    /// Unused, where that is known.
    pub idle: Option<Duration>,
    /// Whatever is done with it, where that is known.
    pub absolute: Option<Duration>,
}

/// What of a provider decides about refreshing its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTerms {
    /// The provider's generation (D3).
    pub generation: u32,
    /// How its refreshes behave.
    pub traits: RefreshTraits,
    /// How long its grants live.
    pub life: GrantLife,
    /// For how long after its last use the schedule keeps a connection alive; for ever, if that is not said.
    pub keep_alive: Option<Duration>,
}

/// How early a token is refreshed, at most: a provider that is down for ten minutes, and a pause of up to five between two tries, are
/// over before a token of an hour ends (`service/tests/drills.rs`).
pub const MARGIN: Duration = Duration::from_secs(15 * 60);

/// How early where a refresh kills the access token before it.
pub const LATE_MARGIN: Duration = Duration::from_secs(10);

/// How long the refresh token of a dead grant is kept, sealed (D8): a provider that answered `invalid_grant` by mistake has ended
/// no grant until then.
pub const DEAD_GRANT_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long before a grant ends that is said, at most. A short-lived one is halfway then.
pub const END_NOTICE: Duration = Duration::from_secs(7 * 24 * 3600);

/// How old the mark of a connection's last use may be while it is used: a write a day, and not one a read.
pub const USE_MARKED_EVERY: Duration = Duration::from_secs(24 * 3600);

/// How long a connection that its policy has given up rests until it is looked at again: a policy may be changed.
pub const PARKED: Duration = Duration::from_secs(7 * 24 * 3600);

/// For what somebody asks for the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Want {
    /// A token.
    Read,
    /// That what is due is done. Nobody waits for the token.
    Schedule,
    /// Another token than that of this generation, which the API that it is for has refused although it is valid.
    Replace(u64),
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
        let RefreshTerms { generation, traits, .. } = terms;
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

    /// Whether the tokens of this generation may be replaced before they end: they are still there, they can be, and D5 allows the
    /// refresh token to be sent.
    pub(crate) fn may_replace(&self, refused: u64, terms: RefreshTerms, now: Timestamp) -> bool {
        self.tokens.generation == refused
            && self.tokens.refreshable
            && self.health == Health::Active
            && self.provider_generation == terms.generation
            && self.flight.retry_at.is_none_or(|at| at <= now)
            && (self.flight.lease.is_some() || terms.traits.may_replay(&self.flight, now))
    }

    /// When its grant ends although it works, and from when on that is to be said: what comes first of its absolute end, and its end
    /// if nobody refreshes it.
    fn grant_end(&self, life: GrantLife) -> Option<(Timestamp, Timestamp)> {
        let ends = |from: Timestamp, life: Duration| {
            let end = from.plus(life);
            (end, end.minus(END_NOTICE.min(life / 2)))
        };
        let idle = life.idle.map(|life| ends(self.tokens.obtained_at, life));
        let absolute = self.consented_at.zip(life.absolute).map(|(from, life)| ends(from, life));
        idle.into_iter().chain(absolute).min()
    }

    /// When others are to be told that its grant is about to end, if they were not told of that end, and which it is.
    pub fn end_notice(&self, terms: RefreshTerms) -> Option<(Timestamp, Timestamp)> {
        let works = self.health == Health::Active
            && self.tokens.refreshable
            && self.provider_generation == terms.generation;
        let (end, from) = self.grant_end(terms.life).filter(|_| works)?;
        (self.announced_end != Some(end)).then_some((from, end))
    }

    /// That its grant ends then was announced.
    #[must_use]
    pub fn with_announced_end(&self, end: Timestamp) -> Self {
        Self { announced_end: Some(end), ..self.clone() }
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

    /// As it stands when somebody says that its provider was wrong to refuse its grant (D8): as far as we know, it works. None where the
    /// provider refused none, or nothing is left to ask with.
    pub fn revived(&self, terms: RefreshTerms) -> Option<Self> {
        // Not one whose rotation was lost: that the provider refuses the token before is right, and D5 sends it once more and no oftener.
        let refused = matches!(self.health, Health::NeedsConsent { reason: Reason::InvalidGrant, .. });
        let may_ask = self.tokens.refreshable && self.provider_generation == terms.generation;
        (refused && may_ask).then(|| Self { health: Health::Active, ..self.clone() })
    }

    /// As it stands when the vault key over its tokens is lost: they are no more.
    #[must_use]
    pub fn with_lost_tokens(&self, now: Timestamp) -> Self {
        let mut lost = self.without_refresh_token();
        lost.tokens.expires_at = Some(now);
        lost.health = needs_consent(Reason::KeyLost, now);
        lost.flight.arrive();
        lost
    }

    /// As it is when somebody uses it at `now`, where its provider has a policy for what nobody uses; none where the mark is young enough.
    pub fn used(&self, terms: RefreshTerms, now: Timestamp) -> Option<Self> {
        let is_young = |at: Timestamp| now < at.plus(USE_MARKED_EVERY);
        (terms.keep_alive.is_some() && !self.used_at.is_some_and(is_young))
            .then(|| Self { used_at: Some(now), ..self.clone() })
    }

    /// Whether nobody will have used it for longer than its policy keeps it alive, at a time when the schedule would refresh it. What
    /// is under way, or whose outcome is open, is brought to its end.
    fn is_given_up(&self, keep_alive: Option<Duration>, at: Timestamp) -> bool {
        let is_at_rest = self.flight.lease.is_none() && self.flight.intent.is_none();
        // The mark is a day old at most while it is used.
        let ends = |used: Timestamp, life: Duration| used.plus(life).plus(USE_MARKED_EVERY);
        is_at_rest && self.used_at.zip(keep_alive).is_some_and(|(used, life)| at > ends(used, life))
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
}

const fn needs_consent(reason: Reason, since: Timestamp) -> Health {
    Health::NeedsConsent { reason, since, announced: false }
}

#[cfg(test)]
mod tests;
