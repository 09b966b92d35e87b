//! What issuers said of late, by the digest of the question.
//!
//! Only tokens that an issuer called active are among the first thousand, so that invented ones push none of them out.

use std::collections::HashMap;
use std::time::Duration;

use agent_identity_core::Timestamp;
use agent_identity_core::issuer::{TokenProfile, TokenRefused, VerifiedClaims};

use super::{Question, Said};

/// How long an issuer's yes is good for: so long a revoked token may pass (docs/adr/0025).
pub(crate) const ANSWER_LIFE: Duration = Duration::from_secs(30);

/// How long its no is.
pub(super) const REFUSAL_LIFE: Duration = Duration::from_secs(10);

/// Tokens of either kind that are kept.
pub(super) const MAX_KNOWN: usize = 1000;

/// What was said, and when it was asked, by `Clock::elapsed`.
struct Kept<T> {
    said: T,
    asked_at: Duration,
}

/// What issuers said.
#[derive(Default)]
pub(super) struct Known {
    /// Kept until they end and beyond [`ANSWER_LIFE`]: that a token was active once says that nobody has made it up.
    active: HashMap<Question, Kept<VerifiedClaims>>,
    refused: HashMap<Question, Kept<TokenRefused>>,
}

impl Known {
    /// The answer, if it still is one: none that is for longer than the token is.
    pub(super) fn answer(
        &self,
        question: &Question,
        profile: &TokenProfile,
        now: Timestamp,
        elapsed: Duration,
    ) -> Option<Said> {
        let is_young = |asked_at: Duration, life| elapsed.saturating_sub(asked_at) < life;
        if let Some(kept) = self.active.get(question) {
            let token = &kept.said.token;
            let is_of_age = profile.max_age.is_none_or(|max_age| {
                token.issued_at.is_some_and(|at| now < at.plus(max_age).plus(profile.leeway))
            });
            let is_good = is_young(kept.asked_at, ANSWER_LIFE) && now < token.expires_at && is_of_age;
            return is_good.then(|| Ok(kept.said.clone()));
        }
        let kept = self.refused.get(question).filter(|kept| is_young(kept.asked_at, REFUSAL_LIFE))?;
        Some(Err(kept.said.clone()))
    }

    /// Whether the issuer has called it active before.
    pub(super) fn was_active(&self, question: &Question) -> bool {
        self.active.contains_key(question)
    }

    /// Keeps what was said. That nothing could be learned is not kept, and changes nothing.
    pub(super) fn keep(&mut self, question: Question, said: &Said, now: Timestamp, asked_at: Duration) {
        match said {
            Ok(claims) => {
                self.refused.remove(&question);
                let kept = Kept { said: claims.clone(), asked_at };
                put(&mut self.active, question, kept, |kept| now < kept.said.token.expires_at);
            }
            Err(refusal @ TokenRefused::Invalid { .. }) => {
                self.active.remove(&question);
                let kept = Kept { said: refusal.clone(), asked_at };
                let is_live = |kept: &Kept<_>| asked_at.saturating_sub(kept.asked_at) < REFUSAL_LIFE;
                put(&mut self.refused, question, kept, is_live);
            }
            Err(_) => {}
        }
    }
}

/// Puts one in; when there are too many, first what has ended goes, and then the oldest.
fn put<T>(
    map: &mut HashMap<Question, Kept<T>>,
    question: Question,
    kept: Kept<T>,
    is_live: impl Fn(&Kept<T>) -> bool,
) {
    if map.len() >= MAX_KNOWN && !map.contains_key(&question) {
        map.retain(|_, other| is_live(other));
        if map.len() >= MAX_KNOWN {
            let oldest = map.iter().min_by_key(|(_, kept)| kept.asked_at).map(|(question, _)| *question);
            oldest.and_then(|question| map.remove(&question));
        }
    }
    map.insert(question, kept);
}

#[cfg(test)]
mod tests {
    use agent_identity_core::issuer::VerifiedToken;

    use super::*;
    use crate::jwt::refusal::refused;

    fn question(number: usize) -> Question {
        let mut question = Question::default();
        question[..8].copy_from_slice(&number.to_be_bytes());
        question
    }

    fn claims(expires_at: i64) -> VerifiedClaims {
        VerifiedClaims {
            token: VerifiedToken {
                issuer: "https://idp.example".to_owned(),
                subject_claim: "sub".to_owned(),
                subject: "ada".to_owned(),
                expires_at: Timestamp::from_seconds(expires_at),
                issued_at: Some(Timestamp::from_seconds(0)),
                auth_time: None,
            },
            audiences: Vec::new(),
            client_id: None,
            authorized_party: None,
            scopes: Vec::new(),
            custom: Vec::new(),
            met: Vec::new(),
        }
    }

    fn profile(max_age: Option<u64>) -> TokenProfile {
        TokenProfile {
            issuers: Vec::new(),
            algorithms: Vec::new(),
            typ: None,
            subject_claim: "sub".to_owned(),
            leeway: Duration::ZERO,
            max_age: max_age.map(Duration::from_secs),
            claims: Vec::new(),
        }
    }

    /// What is known when both clocks say so many seconds.
    fn known_at(known: &Known, max_age: Option<u64>, seconds: u64) -> Option<bool> {
        let now = Timestamp::from_seconds(i64::try_from(seconds).unwrap());
        let said = known.answer(&question(1), &profile(max_age), now, Duration::from_secs(seconds));
        said.map(|said| said.is_ok())
    }

    fn keep(known: &mut Known, number: usize, said: &Said, seconds: u64) {
        let now = Timestamp::from_seconds(i64::try_from(seconds).unwrap());
        known.keep(question(number), said, now, Duration::from_secs(seconds));
    }

    #[test]
    fn a_yes_is_good_for_half_a_minute_and_never_beyond_the_token_or_its_age() {
        let mut known = Known::default();
        keep(&mut known, 1, &Ok(claims(1000)), 100);
        assert_eq!([129, 130].map(|at| known_at(&known, None, at)), [Some(true), None]);
        assert_eq!([109, 110].map(|at| known_at(&known, Some(110), at)), [Some(true), None]);
        keep(&mut known, 1, &Ok(claims(105)), 100);
        assert_eq!([104, 105].map(|at| known_at(&known, None, at)), [Some(true), None]);
        assert!(known.was_active(&question(1)), "it is not invented, all the same");
    }

    #[test]
    fn a_no_is_good_for_ten_seconds_and_takes_the_place_of_a_yes() {
        let mut known = Known::default();
        keep(&mut known, 1, &Ok(claims(1000)), 100);
        keep(&mut known, 1, &Err(refused("inactive", "x")), 101);
        assert_eq!([101, 110, 111].map(|at| known_at(&known, None, at)), [Some(false), Some(false), None]);
        assert!(!known.was_active(&question(1)));
        keep(&mut known, 1, &Ok(claims(1000)), 102);
        assert_eq!(known_at(&known, None, 103), Some(true));
    }

    #[test]
    fn no_answer_changes_nothing() {
        let mut known = Known::default();
        let nothing = Err(TokenRefused::IssuerUnavailable("x".to_owned()));
        keep(&mut known, 1, &nothing, 100);
        assert_eq!(known_at(&known, None, 100), None);
        keep(&mut known, 1, &Ok(claims(1000)), 100);
        keep(&mut known, 1, &nothing, 101);
        assert_eq!(known_at(&known, None, 101), Some(true));
    }

    #[test]
    fn a_crowd_of_invented_tokens_does_not_grow_it_and_pushes_no_genuine_one_out() {
        let mut known = Known::default();
        keep(&mut known, 1, &Ok(claims(1000)), 100);
        for number in 2..3 * MAX_KNOWN {
            keep(&mut known, number, &Err(refused("inactive", "x")), 100);
        }
        assert_eq!((known.active.len(), known.refused.len()), (1, MAX_KNOWN));
        assert_eq!(known_at(&known, None, 101), Some(true));
        for number in 2..MAX_KNOWN + 5 {
            keep(&mut known, number, &Ok(claims(1000)), 101);
        }
        assert_eq!(known.active.len(), MAX_KNOWN, "nor does one of genuine ones");
        keep(&mut known, 9999, &Ok(claims(3000)), 2000);
        assert_eq!(known.active.len(), 1, "what has ended goes first");
    }
}
