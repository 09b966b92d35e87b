//! What an outcome makes of a connection's row, and what it means to whoever had the turn.

use super::{Answer, Decision, Outcome, PARKED, RefreshTerms, Renewal, Verdict, Want, needs_consent};
use crate::Timestamp;
use crate::connection::{Connection, Health, HeldTokens, Reason};
use crate::flight::turn::Landed;
use crate::flight::{Ended, Flight, InFlight, LEASE_LIFE, Landing, Settlement, Trouble, Wish};

impl Connection {
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
                if self.flight.lease.is_some()
                    || self.refresh_due(terms, now).is_some_and(|at| at <= now) =>
            {
                Wish::Patient
            }
            (Want::Replace(refused), _) if self.may_replace(refused, terms, now) => Wish::Patient,
            (Want::Schedule | Want::Replace(_), Decision::Refresh | Decision::RefreshOrServe)
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
            (Landing::Holding, outcome @ (Outcome::Refused | Outcome::NotSent)) => {
                let retry_at = turn.now.plus(turn.pause);
                let sent = matches!(outcome, Outcome::Refused);
                let trouble = if sent { Trouble::Refused } else { Trouble::NotSent };
                Settlement::Note(self.with_flight(|flight| flight.abort(trouble, Some(retry_at))))
            }
            (Landing::Holding, Outcome::Throttled(after)) => {
                let retry_at = turn.now.plus(after.unwrap_or(turn.pause));
                Settlement::Note(self.with_flight(|flight| flight.abort(Trouble::Throttled, Some(retry_at))))
            }
            (Landing::Holding, Outcome::Unknown) => {
                let retry_at = turn.now.plus(turn.pause);
                Settlement::Note(self.with_flight(|flight| flight.lose(Some(retry_at))))
            }
        }
    }

    /// When the scheduled refresh should look at it: when it is to be refreshed, or when its end is to be announced. It agrees with [`Connection::decide`]: from then on, and not before, a
    /// read would refresh. But where a refresh kills the access token before it, nobody's token is ended unasked: then it is
    /// the token's own end. What is still to be announced is looked at when whoever found it should have done that; a dead
    /// grant, when its refresh token is to be destroyed.
    fn due(&self, terms: RefreshTerms, now: Timestamp) -> Option<Timestamp> {
        let notice = self.end_notice(terms).map(|(from, _)| from);
        self.refresh_due(terms, now).into_iter().chain(notice).min()
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

impl Connection {
    fn refresh_due(&self, terms: RefreshTerms, now: Timestamp) -> Option<Timestamp> {
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
        if self.is_given_up(terms.keep_alive, at) {
            return Some(at.max(now).plus(PARKED));
        }
        // Whoever holds the lease moves the entry when the call has ended. This is for when they never do.
        Some(if self.flight.lease.is_some() { at.max(now.plus(LEASE_LIFE)) } else { at })
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
