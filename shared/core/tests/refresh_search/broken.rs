//! Rules broken on purpose, one at a time: a search that finds nothing must be one that would have found these.

use agent_identity_core::refresh::RefreshTraits;

use super::world::Rule;
use super::{LONG_GRACE, ROTATING, STEADY};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The attempt is not on record before the call.
    NoIntent,
    /// A rotating provider's token is sent again while the access token is valid, outside a grace.
    ReplayWhileValid,
    /// A lease is taken over without having been watched.
    NoWatch,
    /// Rows are written without the condition that nobody wrote them since.
    NoCondition,
    /// `invalid_grant` ends the grant whatever the row says by then.
    LostRaceIsDead,
    /// What is left of the lease is not asked for before the call.
    NoReserve,
    /// A lost answer counts as if nothing had been sent.
    LostIsNotSent,
    /// The loss is on record as announced before it was.
    AnnouncedFirst,
    /// The holder's tokens are dropped where a fenced caller's came first.
    FirstTokensWin,
    /// Who lost a race leaves its lease in the row.
    LeaseLeft,
    /// A reader waits for whoever has the turn although the access token is valid.
    WaitWhileValid,
    /// Losers wait as long as it takes.
    NoPatience,
}

/// Each, the provider at which it shows, and what the search must find.
pub const ALL: [(Broken, RefreshTraits, Rule); 12] = [
    (Broken::NoIntent, ROTATING, Rule::SentTwice),
    (Broken::ReplayWhileValid, ROTATING, Rule::SentTwice),
    (Broken::NoWatch, STEADY, Rule::OneSender),
    (Broken::NoCondition, STEADY, Rule::Newest),
    (Broken::LostRaceIsDead, STEADY, Rule::NotDead),
    (Broken::NoReserve, STEADY, Rule::OneSender),
    (Broken::LostIsNotSent, ROTATING, Rule::SentTwice),
    (Broken::AnnouncedFirst, STEADY, Rule::Silent),
    (Broken::FirstTokensWin, LONG_GRACE, Rule::Newest),
    (Broken::LeaseLeft, STEADY, Rule::LeaseLeft),
    (Broken::WaitWhileValid, STEADY, Rule::ServeWhileValid),
    (Broken::NoPatience, STEADY, Rule::Answered),
];
