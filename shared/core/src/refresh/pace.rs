//! How fast the schedule refreshes connections of one provider: no more than its administrator says, so that what comes due
//! together does not look like an attack to the provider, and leaves room for those who wait for a token.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::Timestamp;

/// What a minute's worth may be spent at once.
const MINUTE: Duration = Duration::from_secs(60);

/// A bucket of one minute's refreshes, which fills steadily (the generic cell rate algorithm, ITU-T I.371).
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// When the bucket is full again.
    full_at: Timestamp,
}

impl Pace {
    /// Takes one of so many a minute: from when on it may be done, which is now while the bucket is not empty.
    pub fn take(&mut self, per_minute: NonZeroU32, now: Timestamp) -> Timestamp {
        let each = MINUTE / per_minute.get();
        let full_at = self.full_at.max(now).plus(each);
        self.full_at = full_at;
        full_at.minus(MINUTE).max(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_000_000).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_minutes_worth_goes_at_once_and_the_rest_at_the_pace() {
        let (mut pace, six) = (Pace::default(), NonZeroU32::new(6).unwrap());
        let taken: Vec<_> = (0..9).map(|_| pace.take(six, at(0))).collect();
        assert_eq!(taken, [vec![at(0); 6], vec![at(10), at(20), at(30)]].concat());
    }

    proptest::proptest! {
        #[test]
        fn no_minute_has_more_than_twice_what_was_said_and_no_hour_more_than_an_hour_and_a_minute_have(
            per_minute in 1_u32..50, steps in proptest::collection::vec((0_u64..40, 1_usize..60), 1..60),
        ) {
            let (mut committed, rate) = (Pace::default(), NonZeroU32::new(per_minute).unwrap());
            let (mut now, mut done) = (0, Vec::new());
            for (pause, wanted) in steps {
                now += pause;
                for _ in 0..wanted {
                    let mut next = committed;
                    if next.take(rate, at(now)) > at(now) {
                        break;
                    }
                    committed = next;
                    done.push(now);
                }
            }
            for (window, most) in [(60, 2), (3600, 61)] {
                for from in 0..=now {
                    let count = done.iter().filter(|it| (from..from + window).contains(*it)).count();
                    proptest::prop_assert!(count <= most * per_minute as usize, "{count} from {from}");
                }
            }
        }
    }
}
