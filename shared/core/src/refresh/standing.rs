//! How a provider stands (D8): whether its refreshes go on, as far as one process knows. Pure, as all of [`super`].
//!
//! | state | is | leaves it by |
//! |---|---|---|
//! | working | refreshes go on; silence in a row and `invalid_grant` are counted | too much of either, a refusal of the client, a wait asked for |
//! | stopped | none goes on until a time: backoff with jitter, or `Retry-After` | that time; a change of the provider's configuration |
//! | half open | one goes on, as a probe; the others wait | its answer; without one, [`PROBE`] |

use std::collections::VecDeque;
use std::time::Duration;

use crate::Timestamp;
use crate::flight::backoff;

/// So many calls in a row without an answer stop the others: then each would wait for a time-out.
pub const SILENCES: u32 = 5;

/// For how long a probe is waited for: a call and what comes before and after it.
pub const PROBE: Duration = Duration::from_secs(20);

/// Over which time `invalid_grant` is counted.
pub const WINDOW: Duration = Duration::from_secs(600);

/// So many of them are believed whatever the share.
const BELIEVED: u32 = 5;

/// The window is counted in pieces of this.
const PIECE: Duration = Duration::from_secs(60);

/// What a call said of the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Tokens.
    Tokens,
    /// `invalid_grant`: the grant's fault, if not too many say so at once.
    GrantRefused,
    /// `invalid_client`, `unauthorized_client`, `unsupported_grant_type`, `invalid_scope`: no refresh of this provider can
    /// succeed. With the code.
    ClientRefused(&'static str),
    /// Another refusal: the request's fault.
    RequestRefused,
    /// A wait was asked for (429, `Retry-After`).
    Throttled(Option<Duration>),
    /// Nothing usable, or no byte left.
    Silence,
}

/// Why refreshes are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The provider refuses the client, with this code.
    Client(&'static str),
    /// It answered `invalid_grant` to more than can be believed.
    Wave,
    /// It asked to wait.
    Throttled,
    /// It does not answer.
    Silent,
}

impl Cause {
    /// The stable code, for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client(code) => code,
            Self::Wave => "invalid_grant_wave",
            Self::Throttled => "throttled",
            Self::Silent => "no_answer",
        }
    }
}

/// Refreshes are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Why.
    pub cause: Cause,
    /// Until when.
    pub until: Timestamp,
    /// Probes that failed, for the backoff.
    failures: u32,
    /// Whether one is under way.
    probing: bool,
}

/// What to make of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    /// It is what it says.
    Believed,
    /// An `invalid_grant` that ends no grant: one of a wave.
    Held,
}

/// How a provider stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When the provider was changed last: another configuration begins anew.
    configured_at: Timestamp,
    stop: Option<Stop>,
    silences: u32,
    /// (Begin, answers, of these `invalid_grant`.)
    pieces: VecDeque<(Timestamp, u32, u32)>,
}

impl Standing {
    /// A provider with the configuration of then, of which nothing is known.
    pub const fn new(configured_at: Timestamp) -> Self {
        Self { configured_at, stop: None, silences: 0, pieces: VecDeque::new() }
    }

    /// Forgets all, if the configuration is another one by now.
    pub fn of(&mut self, configured_at: Timestamp) -> &mut Self {
        if self.configured_at != configured_at {
            *self = Self::new(configured_at);
        }
        self
    }

    /// Why not all is well, whether or not a probe may be sent.
    pub const fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Why nothing may be sent now, if so.
    pub fn stopped(&self, now: Timestamp) -> Option<Stop> {
        self.stop.filter(|stop| now < stop.until)
    }

    /// Somebody is about to send. Behind a stop they are its probe, and the others go on waiting.
    ///
    /// # Errors
    /// Nothing may be sent.
    pub fn send(&mut self, now: Timestamp) -> Result<(), Stop> {
        if let Some(stop) = self.stopped(now) {
            return Err(stop);
        }
        if let Some(stop) = &mut self.stop {
            (stop.until, stop.probing) = (now.plus(PROBE), true);
        }
        Ok(())
    }

    /// A call has ended. `jitter` is a random byte.
    pub fn hears(&mut self, heard: Heard, now: Timestamp, jitter: u8) -> Judgement {
        match heard {
            Heard::Tokens | Heard::RequestRefused => {
                self.count(now, 0);
                self.silences = 0;
                self.resumes(now);
            }
            Heard::GrantRefused => {
                self.silences = 0;
                self.count(now, 1);
                if self.is_wave(now) {
                    self.stops(Cause::Wave, None, now, jitter);
                    return Judgement::Held;
                }
                // Who says that has taken the client for who it is.
                self.resumes(now);
            }
            Heard::ClientRefused(code) => {
                self.silences = 0;
                self.stops(Cause::Client(code), None, now, jitter);
            }
            Heard::Throttled(after) => {
                self.silences = 0;
                self.stops(Cause::Throttled, after, now, jitter);
            }
            Heard::Silence => {
                self.silences = self.silences.saturating_add(1);
                // A probe that nobody answers says nothing new of why there was one.
                match self.stop.map(|stop| stop.cause) {
                    Some(cause) => self.stops(cause, None, now, jitter),
                    None if self.silences >= SILENCES => self.stops(Cause::Silent, None, now, jitter),
                    None => {}
                }
            }
        }
        Judgement::Believed
    }

    /// An answer that shows that refreshes go on. From a call that was under way when the stop began, it does not say that the
    /// wait is over, nor that a wave is.
    fn resumes(&mut self, now: Timestamp) {
        self.stop = self.stop.filter(|stop| {
            let waits = matches!(stop.cause, Cause::Throttled | Cause::Wave);
            waits && !stop.probing && now < stop.until
        });
    }

    /// Calls that were under way when the stop began do not lengthen it.
    fn stops(&mut self, cause: Cause, after: Option<Duration>, now: Timestamp, jitter: u8) {
        let before = self.stop.filter(|stop| stop.cause == cause);
        if let Some(stop) = before.filter(|stop| !stop.probing && now < stop.until) {
            let until = after.map_or(stop.until, |after| stop.until.max(now.plus(after)));
            self.stop = Some(Stop { until, ..stop });
            return;
        }
        let failures = before.map_or(0, |stop| stop.failures.saturating_add(1));
        let until = now.plus(after.unwrap_or_else(|| backoff(failures, jitter)));
        self.stop = Some(Stop { cause, until, failures, probing: false });
    }

    fn count(&mut self, now: Timestamp, refused: u32) {
        while self.pieces.front().is_some_and(|(begin, ..)| now.since(*begin) >= WINDOW) {
            self.pieces.pop_front();
        }
        match self.pieces.back_mut().filter(|(begin, ..)| now.since(*begin) < PIECE) {
            Some((_, answers, dead)) => {
                *answers = answers.saturating_add(1);
                *dead = dead.saturating_add(refused);
            }
            None => self.pieces.push_back((now, 1, refused)),
        }
    }

    /// More than max(5, 20 %) of the answers of 10 minutes.
    fn is_wave(&self, now: Timestamp) -> bool {
        let recent = self.pieces.iter().filter(|(begin, ..)| now.since(*begin) < WINDOW);
        let (answers, dead) = recent.fold((0_u32, 0_u32), |(answers, dead), (_, more, of_these)| {
            (answers.saturating_add(*more), dead.saturating_add(*of_these))
        });
        dead > BELIEVED.max(answers / 5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_seconds(1_000_000);
    const CLIENT: Heard = Heard::ClientRefused("invalid_client");

    fn at(seconds: u64) -> Timestamp {
        START.plus(Duration::from_secs(seconds))
    }

    fn working() -> Standing {
        Standing::new(START)
    }

    #[test]
    fn d8_a_refused_client_stops_all_until_one_probe_was_answered() {
        let mut standing = working();
        standing.hears(CLIENT, at(0), 255);
        let stop = standing.stopped(at(0)).unwrap();
        assert_eq!((stop.cause, stop.until), (Cause::Client("invalid_client"), at(1)));
        assert_eq!(standing.send(at(0)), Err(stop));
        assert_eq!(standing.send(at(1)), Ok(()), "the probe");
        assert!(standing.send(at(2)).is_err(), "the others wait for it");
        standing.hears(CLIENT, at(2), 255);
        assert_eq!(standing.stopped(at(2)).unwrap().until, at(4), "and longer each time");
        assert_eq!(standing.send(at(4)), Ok(()));
        standing.hears(Heard::Tokens, at(5), 255);
        assert_eq!((standing.send(at(5)), standing.send(at(5))), (Ok(()), Ok(())));
    }

    #[test]
    fn d8_a_change_of_the_configuration_resumes() {
        let mut standing = working();
        standing.hears(CLIENT, at(0), 255);
        assert!(standing.of(START).send(at(0)).is_err());
        assert_eq!(standing.of(at(5)).send(at(0)), Ok(()));
    }

    #[test]
    fn a_probe_of_which_nothing_is_heard_is_not_waited_for_for_ever() {
        let mut standing = working();
        standing.hears(CLIENT, at(0), 255);
        standing.send(at(1)).unwrap();
        assert!(standing.send(at(20)).is_err());
        assert_eq!(standing.send(at(21)), Ok(()));
    }

    #[test]
    fn calls_that_were_under_way_neither_lengthen_a_stop_nor_end_a_wait() {
        let mut standing = working();
        for _ in 0..50 {
            standing.hears(CLIENT, at(0), 255);
        }
        assert_eq!(standing.stopped(at(0)).unwrap().until, at(1));
        let mut waiting = working();
        waiting.hears(Heard::Throttled(Some(Duration::from_secs(90))), at(0), 0);
        waiting.hears(Heard::Tokens, at(1), 0);
        waiting.hears(Heard::Throttled(Some(Duration::from_secs(30))), at(2), 0);
        assert_eq!(waiting.stopped(at(2)).unwrap().until, at(90));
    }

    #[test]
    fn silence_stops_only_where_it_goes_on() {
        let mut standing = working();
        for _ in 0..3 {
            for _ in 1..SILENCES {
                standing.hears(Heard::Silence, at(0), 0);
            }
            assert_eq!(standing.send(at(0)), Ok(()));
            standing.hears(Heard::RequestRefused, at(0), 0);
        }
        for _ in 0..SILENCES {
            standing.hears(Heard::Silence, at(0), 0);
        }
        assert_eq!(standing.stopped(at(0)).map(|stop| stop.cause), Some(Cause::Silent));
    }

    #[test]
    fn who_asks_to_wait_is_left_alone_for_so_long() {
        let mut standing = working();
        standing.hears(Heard::Throttled(Some(Duration::from_secs(90))), at(0), 0);
        assert!(standing.send(at(89)).is_err());
        assert_eq!(standing.send(at(90)), Ok(()));
    }

    #[test]
    fn d8_dead_grants_are_believed_up_to_five_or_a_fifth_and_a_wave_is_held() {
        let mut few = working();
        let judged: Vec<_> = (0..7).map(|_| few.hears(Heard::GrantRefused, at(0), 0)).collect();
        assert_eq!(judged[..5], [Judgement::Believed; 5]);
        assert_eq!(judged[5..], [Judgement::Held; 2]);
        assert_eq!(few.stopped(at(0)).map(|stop| stop.cause), Some(Cause::Wave));

        let mut many = working();
        for _ in 0..400 {
            many.hears(Heard::Tokens, at(0), 0);
        }
        let believed = (0..200)
            .take_while(|_| many.hears(Heard::GrantRefused, at(30), 0) == Judgement::Believed)
            .count();
        assert_eq!(believed, 100, "of 500 answers");
    }

    #[test]
    fn d8_a_wave_is_over_when_ten_minutes_have_passed_or_grants_live() {
        let mut standing = working();
        for _ in 0..6 {
            standing.hears(Heard::GrantRefused, at(0), 0);
        }
        standing.send(at(10)).unwrap();
        standing.hears(Heard::Tokens, at(11), 0);
        assert_eq!(standing.send(at(11)), Ok(()), "the probe's grant lives");
        assert_eq!(standing.hears(Heard::GrantRefused, at(12), 0), Judgement::Held, "six of eight were");
        assert_eq!(standing.hears(Heard::GrantRefused, at(611), 0), Judgement::Believed);
    }
}
