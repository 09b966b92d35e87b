//! Usage: how often credentials were asked for, by workload, provider and path. Counters, and no record of who asked: that is the
//! audit trail's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::audit::{Day, OK};
use crate::store::{Key, Kind};

/// By which path a credential went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UsagePath {
    /// To the caller.
    Direct,
    /// Into a tool's request: the caller never had it.
    Gateway,
}

impl UsagePath {
    /// The path of an operation; `None` for one that is no request for a provider's credential.
    pub fn of(operation: &str) -> Option<Self> {
        match operation {
            "GetResourceOauth2Token" | "GetResourceApiKey" => Some(Self::Direct),
            "InvokeTool" => Some(Self::Gateway),
            _ => None,
        }
    }

    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Gateway => "gateway",
        }
    }
}

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// A credential was given, or used.
    pub given: u64,
    /// The user had to consent first, or had not yet.
    pub waiting: u64,
    /// None was given.
    pub refused: u64,
}

impl Counts {
    /// One request more, with this outcome as the audit trail has it; `waiting` are the outcomes of who waits for a consent.
    pub fn count(&mut self, outcome: &str, waiting: &[&str]) {
        let what = match outcome {
            OK => &mut self.given,
            outcome if waiting.contains(&outcome) => &mut self.waiting,
            _ => &mut self.refused,
        };
        *what = what.saturating_add(1);
    }

    /// Those of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            given: self.given.saturating_add(other.given),
            waiting: self.waiting.saturating_add(other.waiting),
            refused: self.refused.saturating_add(other.refused),
        }
    }

    /// What came after `earlier`, which these have grown from.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Self {
        Self {
            given: self.given.saturating_sub(earlier.given),
            waiting: self.waiting.saturating_sub(earlier.waiting),
            refused: self.refused.saturating_sub(earlier.refused),
        }
    }
}

/// What is counted apart. A name is empty where the request was refused before it was known, or where there is none.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UsageOf {
    /// The workload.
    pub workload: String,
    /// The provider.
    pub provider: String,
    /// The path.
    pub path: UsagePath,
}

/// A line of a list of usage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Of what.
    #[serde(flatten)]
    pub of: UsageOf,
    /// How often.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Where a process keeps what it has counted on a day. `name` is its own, and no other process writes there.
pub fn key(day: Day, name: &str) -> Key {
    Key::of(Kind::Usage, day.undivided(), name)
}

/// Adds up lists, in their order.
#[derive(Clone, Debug, Default)]
pub struct Total(BTreeMap<UsageOf, Counts>);

impl Total {
    /// Adds a list.
    pub fn add(&mut self, used: impl IntoIterator<Item = Used>) {
        for Used { of, counts } in used {
            let sum = self.0.entry(of).or_default();
            *sum = sum.plus(counts);
        }
    }

    /// The sums.
    pub fn into_list(self) -> impl Iterator<Item = Used> {
        self.0.into_iter().map(|(of, counts)| Used { of, counts })
    }
}
