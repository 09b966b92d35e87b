//! Banning a user now, and not when their tokens end (D15).
//!
//! There are two records at most that concern a user of a workload: one for the workload, one for all workloads. Whoever is
//! about to believe a token reads both ([`keys`]) and asks [`denies`].

use serde::{Deserialize, Serialize};

use crate::record;
use crate::store::{Key, Kind, Row};
use crate::user::UserKey;
use crate::workload::Workload;
use crate::{Id, Result, Timestamp};

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
    /// Where it is stored: for one workload, or for all.
    pub fn key(user: UserKey, workload: Option<Id<Workload>>) -> Key {
        let sort = workload.map_or_else(|| ALL_WORKLOADS.to_owned(), |workload| workload.to_string());
        Key::of(Kind::Denial, user.to_string(), sort)
    }

    /// Whether nothing stands against them.
    pub const fn is_nothing(&self) -> bool {
        !self.blocked && self.not_before.is_none()
    }
}

/// The rows that concern a user of a workload.
pub fn keys(user: UserKey, workload: Id<Workload>) -> [Key; 2] {
    [UserDenial::key(user, Some(workload)), UserDenial::key(user, None)]
}

/// What is in those rows.
///
/// # Errors
/// `Internal` for a record that this release does not understand: the user must not be let in.
pub fn of_rows<'a>(rows: impl IntoIterator<Item = Option<&'a Row>>) -> Result<Vec<UserDenial>> {
    rows.into_iter().flatten().map(|row| Ok(record::parse(row)?.value)).collect()
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

    #[test]
    fn d15_a_user_against_whom_nothing_stands_is_let_in() {
        assert_eq!(denies([], None, None), None);
        assert_eq!(denies([&UserDenial::default()], None, None), None);
    }

    #[test]
    fn d15_a_blocked_user_is_not_let_in_whenever_they_signed_in() {
        let blocked = UserDenial { blocked: true, not_before: None };
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
            key: UserDenial::key(UserKey::from_digest([1; 32]), None),
            version: 1,
            expires_at: None,
            due: None,
            bytes: bytes.as_bytes().to_vec(),
        };
        assert_eq!(of_rows([None, Some(&row(r#"{"blocked":true}"#))]).unwrap().len(), 1);
        assert!(of_rows([Some(&row(r#"{"blocked":false,"only_from":"10.0.0.0/8"}"#))]).is_err());
    }

    #[test]
    fn the_rows_of_a_user_are_one_for_the_workload_and_one_for_all() {
        let [one, all] = keys(UserKey::from_digest([1; 32]), Id::from_bytes([2; 16]));
        assert_eq!(
            (one.partition.as_str(), one.sort.as_str()),
            ("01".repeat(32).as_str(), "02".repeat(16).as_str())
        );
        assert_eq!((all.partition, all.sort.as_str()), (one.partition, "*"));
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
