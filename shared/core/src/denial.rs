//! Banning a user now, and not when their tokens end (D15).
//!
//! There are two records at most that concern a user of a workload: one for the workload, one for all workloads. They are in one
//! row of the user, so that the authorizer can read it beside the agent's rules, which tell it the workload's id (P3). Whoever is
//! about to believe a token reads it and asks [`denies`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::record;
use crate::store::{Key, Kind, Row};
use crate::user::UserKey;
use crate::workload::Workload;
use crate::{Id, Result, Timestamp};

/// How old an answer may be that cannot be renewed, before nobody is let in on it (D15).
pub const MAX_AGE: Duration = Duration::from_secs(300);

/// In the place of a workload's id: all of them.
const ALL_WORKLOADS: &str = "*";

/// What stands against a user, for one workload or all. A record that a later release extends is refused by this one: a ban that is
/// not understood must not be left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserDenial {
    /// Whether they are let in at all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blocked: bool,
    /// Who signed in then or before must sign in again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
}

impl UserDenial {
    /// Whether nothing stands against them.
    pub const fn is_nothing(&self) -> bool {
        !self.blocked && self.not_before.is_none()
    }
}

/// All that stands against a user, by workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserDenials(BTreeMap<String, UserDenial>);

impl UserDenials {
    /// Where it is stored.
    pub fn key(user: UserKey) -> Key {
        Key::single(Kind::Denial, user.to_string())
    }

    /// What is in that row.
    ///
    /// # Errors
    /// `Internal` for a record that this release does not understand: the user must not be let in.
    pub fn of_row(row: Option<&Row>) -> Result<Self> {
        row.map_or_else(|| Ok(Self::default()), |row| Ok(record::parse(row)?.value))
    }

    /// What concerns the user of this workload.
    pub fn of(&self, workload: Id<Workload>) -> impl Iterator<Item = &UserDenial> {
        [workload.to_string().as_str(), ALL_WORKLOADS].map(|name| self.0.get(name)).into_iter().flatten()
    }

    /// Changes what stands for one workload, or for all, and says what does then.
    pub fn change(
        &mut self,
        workload: Option<Id<Workload>>,
        change: impl FnOnce(UserDenial) -> UserDenial,
    ) -> UserDenial {
        let name = workload.map_or_else(|| ALL_WORKLOADS.to_owned(), |workload| workload.to_string());
        let after = change(self.0.remove(&name).unwrap_or_default());
        if !after.is_nothing() {
            self.0.insert(name, after.clone());
        }
        after
    }

    /// Whether nothing stands against them anywhere.
    pub fn is_nothing(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a user is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// They are blocked.
    Blocked,
    /// They were signed out since they signed in, or nobody knows when they did.
    SignedOut,
}

impl Denied {
    /// The stable code, for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "user_blocked",
            Self::SignedOut => "user_signed_out",
        }
    }

    /// What is wrong, for the caller.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Blocked => "the user is blocked",
            Self::SignedOut => "the user was signed out and must sign in again",
        }
    }
}

/// Whether the records let nobody in whose token was issued and who signed in at these times. A sign-out is compared with
/// `auth_time`, or else with `iat`: a token that was refreshed since is of the same sign-in. Without either it is denied. Tokens
/// have seconds, so that whoever signs in within the second of a sign-out may have to do it twice.
pub fn denies<'a>(
    records: impl IntoIterator<Item = &'a UserDenial>,
    issued_at: Option<Timestamp>,
    auth_time: Option<Timestamp>,
) -> Option<Denied> {
    let signed_in_at = auth_time.or(issued_at);
    let mut denied = None;
    for record in records {
        if record.blocked {
            return Some(Denied::Blocked);
        }
        if record.not_before.is_some_and(|from| signed_in_at.is_none_or(|at| at <= from)) {
            denied = Some(Denied::SignedOut);
        }
    }
    denied
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp::from_seconds(seconds))
    }

    fn signed_out(seconds: i64) -> UserDenial {
        UserDenial { blocked: false, not_before: at(seconds) }
    }

    fn blocked() -> UserDenial {
        UserDenial { blocked: true, not_before: None }
    }

    #[test]
    fn d15_a_user_against_whom_nothing_stands_is_let_in() {
        assert_eq!(denies([], None, None), None);
        assert_eq!(denies([&UserDenial::default()], None, None), None);
    }

    #[test]
    fn d15_a_blocked_user_is_not_let_in_whenever_they_signed_in() {
        let blocked = blocked();
        assert_eq!(denies([&UserDenial::default(), &blocked], at(100), at(100)), Some(Denied::Blocked));
        assert_eq!(denies([&signed_out(1), &blocked], at(0), None), Some(Denied::Blocked));
    }

    #[test]
    fn d15_who_signed_in_before_they_were_signed_out_is_not_let_in() {
        assert_eq!(denies([&signed_out(100)], at(99), None), Some(Denied::SignedOut));
        assert_eq!(denies([&signed_out(100)], at(100), None), Some(Denied::SignedOut));
        assert_eq!(denies([&signed_out(100)], at(101), None), None);
        assert_eq!(denies([&signed_out(100), &signed_out(102)], at(101), None), Some(Denied::SignedOut));
    }

    #[test]
    fn d15_a_token_that_was_refreshed_since_is_of_the_same_sign_in() {
        assert_eq!(denies([&signed_out(100)], at(200), at(50)), Some(Denied::SignedOut));
        assert_eq!(denies([&signed_out(100)], at(50), at(200)), None);
    }

    #[test]
    fn d15_without_any_time_a_signed_out_user_is_not_let_in() {
        assert_eq!(denies([&signed_out(0)], None, None), Some(Denied::SignedOut));
    }

    #[test]
    fn d15_a_record_that_is_not_understood_is_not_left_out() {
        let row = |bytes: &str| Row {
            key: UserDenials::key(UserKey::from_digest([1; 32])),
            version: 1,
            expires_at: None,
            due: None,
            bytes: bytes.as_bytes().to_vec(),
        };
        assert!(!UserDenials::of_row(Some(&row(r#"{"*":{"blocked":true}}"#))).unwrap().is_nothing());
        let newer = row(r#"{"*":{"blocked":false,"only_from":"10.0.0.0/8"}}"#);
        assert!(UserDenials::of_row(Some(&newer)).is_err());
        assert!(UserDenials::of_row(None).unwrap().is_nothing());
    }

    #[test]
    fn a_user_of_a_workload_is_concerned_by_what_is_for_it_and_for_all() {
        let (one, other) = (Id::from_bytes([1; 16]), Id::from_bytes([2; 16]));
        let mut denials = UserDenials::default();
        denials.change(Some(one), |_| signed_out(1));
        assert_eq!(denials.change(None, |before| UserDenial { blocked: true, ..before }), blocked());
        assert_eq!(denials.of(one).collect::<Vec<_>>(), [&signed_out(1), &blocked()]);
        assert_eq!(denials.of(other).collect::<Vec<_>>(), [&blocked()]);
        denials.change(None, |_| UserDenial::default());
        denials.change(Some(one), |_| UserDenial::default());
        assert!(denials.is_nothing());
    }

    proptest! {
        /// More that stands against a user never lets them in.
        #[test]
        fn d15_a_further_record_never_lets_anybody_in(
            records in proptest::collection::vec((any::<bool>(), proptest::option::of(0_i64..5)), 0..3),
            more in (any::<bool>(), proptest::option::of(0_i64..5)), iat in proptest::option::of(0_i64..5),
            auth in proptest::option::of(0_i64..5),
        ) {
            let made = |(blocked, from): (bool, Option<i64>)| UserDenial { blocked, not_before: from.and_then(at) };
            let mut records: Vec<_> = records.into_iter().map(made).collect();
            let (iat, auth) = (iat.and_then(at), auth.and_then(at));
            let before = denies(&records, iat, auth).is_some();
            records.push(made(more));
            prop_assert!(!before || denies(&records, iat, auth).is_some());
        }
    }
}
