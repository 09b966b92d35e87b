//! Client-credentials tokens: what the vault keeps of an agent's own tokens, and what is done with it. They belong to no user.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::connection::HeldTokens;
use crate::flight::{Ended, Flight, InFlight, Landing, Settlement, Trouble, Wish};
use crate::refresh::{Decision, RefreshTraits};

/// How long a row outlives its token.
const ROW_AFTERLIFE: Duration = Duration::from_secs(3600);

/// A token of no user costs nothing to fetch again, and supersedes none.
const TRAITS: RefreshTraits = RefreshTraits { rotates: false, grace: None, kills_access_token: false };

/// A client-credentials token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientToken {
    /// The tokens; `None` while the first are being fetched.
    pub tokens: Option<HeldTokens>,
    /// When the row may go: a while after the token ended.
    pub row_ends: Timestamp,
    /// Who is fetching.
    pub flight: Flight,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A token came.
    Token(HeldTokens),
    /// None came. Whoever asks next waits so long, or not at all.
    Failed(Option<Duration>),
}

impl ClientToken {
    /// The row in which the first token is fetched.
    pub fn first(now: Timestamp) -> Self {
        Self { tokens: None, row_ends: now.plus(ROW_AFTERLIFE), flight: Flight::default() }
    }

    /// What a read at `now` does with this token.
    pub fn decide(&self, now: Timestamp) -> Decision {
        let (fresh, valid) =
            self.tokens.as_ref().map_or((false, false), |held| (held.fresh(now, TRAITS), held.valid(now)));
        match self.flight.retry_at {
            _ if fresh => Decision::Serve,
            Some(at) if at > now && valid => Decision::Serve,
            Some(at) if at > now => Decision::Wait(at),
            Some(_) | None if valid => Decision::RefreshOrServe,
            Some(_) | None => Decision::Refresh,
        }
    }
}

impl InFlight for ClientToken {
    type Terms = ();
    /// The generation that the API which it is for has refused although it is valid; none for a token.
    type Want = Option<u64>;
    type Outcome = Outcome;

    fn wish(&self, refused: Option<u64>, (): (), now: Timestamp) -> Wish {
        if let Some(refused) = refused {
            let is_refused = self.tokens.as_ref().is_some_and(|held| held.generation == refused);
            let may_ask = self.flight.retry_at.is_none_or(|at| at <= now);
            return if is_refused && may_ask { Wish::Patient } else { Wish::Settled };
        }
        match self.decide(now) {
            Decision::Refresh => Wish::Patient,
            Decision::RefreshOrServe => Wish::Eager,
            Decision::Serve | Decision::Wait(_) | Decision::Consent(_) => Wish::Settled,
        }
    }

    /// Who was fenced leaves the row alone.
    fn settle(&self, turn: &Ended<'_, Self>) -> Settlement<Self> {
        let mut settled = self.clone();
        match (turn.landing, turn.outcome) {
            (Landing::Fenced, Outcome::Token(_) | Outcome::Failed(_)) => return Settlement::Leave,
            (Landing::Holding, Outcome::Token(held)) => {
                settled.row_ends = held.expires_at.unwrap_or(held.obtained_at).plus(ROW_AFTERLIFE);
                settled.tokens = Some(held.clone());
                settled.flight.arrive();
            }
            (Landing::Holding, Outcome::Failed(wait)) => {
                // Whoever asked was told why, and nobody else looks.
                settled.flight.abort(Trouble::NotSent, wait.map(|wait| turn.now.plus(wait)));
            }
        }
        Settlement::Note(settled)
    }

    /// Nobody waits for a token of no user: it is fetched when it is asked for.
    fn due(&self, (): (), _: Timestamp) -> Option<Timestamp> {
        None
    }

    fn flight(&self) -> &Flight {
        &self.flight
    }

    fn flight_mut(&mut self) -> &mut Flight {
        &mut self.flight
    }

    fn row_ends(&self) -> Option<Timestamp> {
        Some(self.row_ends)
    }
}
