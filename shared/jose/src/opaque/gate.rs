//! What keeps tokens that somebody makes up from becoming a flood at an endpoint (RFC 7662 §4).
//!
//! Tokens that nobody knows are let through as long as a bucket has something in it; an answer that a token is active gives back what
//! was taken, so that genuine tokens may come in any number. Tokens that were active before have a way of their own, which
//! invented ones cannot fill.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

/// So many tokens that turn out to be none are asked about at once.
pub(super) const BURST: u32 = 50;

/// And so many a second after that.
pub(super) const REFILL: u32 = 5;

/// Requests that are under way for tokens that nobody knows, and as many again for others.
pub(super) const IN_FLIGHT: usize = 8;

/// How long a token waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Endpoints that are kept in mind; others begin with a full bucket.
const MAX_ENDPOINTS: usize = 1000;

/// The gates of all endpoints.
#[derive(Default)]
pub(super) struct Gates(HashMap<String, Arc<Gate>>);

impl Gates {
    /// The gate of an endpoint.
    pub(super) fn of(&mut self, endpoint: &str, now: Duration) -> Arc<Gate> {
        if self.0.len() >= MAX_ENDPOINTS && !self.0.contains_key(endpoint) {
            self.0.retain(|_, gate| Arc::strong_count(gate) > 1 || !gate.is_full(now));
        }
        let gate = self.0.entry(endpoint.to_owned()).or_insert_with(|| Arc::new(Gate::new(now)));
        Arc::clone(gate)
    }
}

/// One endpoint's.
pub(super) struct Gate {
    bucket: Mutex<Bucket>,
    unknown: Semaphore,
    known: Semaphore,
}

/// What is in it at a time of `Clock::elapsed`.
#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Duration,
}

impl Bucket {
    fn filled(self, now: Duration) -> Self {
        let more = now.saturating_sub(self.at).as_secs_f64() * f64::from(REFILL);
        Self { left: (self.left + more).min(f64::from(BURST)), at: now }
    }
}

impl Gate {
    fn new(now: Duration) -> Self {
        Self {
            bucket: Mutex::new(Bucket { left: f64::from(BURST), at: now }),
            unknown: Semaphore::new(IN_FLIGHT),
            known: Semaphore::new(IN_FLIGHT),
        }
    }

    fn with_bucket<T>(&self, change: impl FnOnce(&mut Bucket) -> T) -> T {
        change(&mut self.bucket.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_full(&self, now: Duration) -> bool {
        self.with_bucket(|bucket| bucket.filled(now).left >= f64::from(BURST))
    }

    /// Takes one for a token that nobody knows, if there is one.
    pub(super) fn lets_through(&self, now: Duration) -> bool {
        self.with_bucket(|bucket| {
            *bucket = bucket.filled(now);
            let is_enough = bucket.left >= 1.0;
            if is_enough {
                bucket.left -= 1.0;
            }
            is_enough
        })
    }

    /// The token is genuine.
    pub(super) fn give_back(&self) {
        self.with_bucket(|bucket| bucket.left = (bucket.left + 1.0).min(f64::from(BURST)));
    }

    /// A turn to ask, for as long as it is held; none when it does not come soon.
    pub(super) async fn slot(&self, is_known: bool) -> Option<SemaphorePermit<'_>> {
        let way = if is_known { &self.known } else { &self.unknown };
        tokio::time::timeout(PATIENCE, way.acquire()).await.ok()?.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn passed(gate: &Gate, at: Duration) -> u32 {
        (0..1000).map(|_| u32::from(gate.lets_through(at))).sum()
    }

    #[test]
    fn a_flood_is_let_through_for_a_moment_and_then_by_drops() {
        let gate = Gate::new(NOW);
        assert_eq!(passed(&gate, NOW), BURST);
        assert_eq!(passed(&gate, NOW + Duration::from_millis(100)), 0);
        assert_eq!(passed(&gate, NOW + Duration::from_secs(1)), REFILL);
        assert_eq!(passed(&gate, NOW + Duration::from_secs(3600)), BURST, "it does not fill beyond its rim");
    }

    #[test]
    fn genuine_tokens_cost_nothing() {
        let gate = Gate::new(NOW);
        for _ in 0..1000 {
            assert!(gate.lets_through(NOW));
            gate.give_back();
        }
        assert_eq!(passed(&gate, NOW), BURST);
    }

    #[test]
    fn endpoints_have_gates_of_their_own_and_those_at_rest_are_forgotten() {
        let mut gates = Gates::default();
        assert_eq!(passed(&gates.of("busy", NOW), NOW), BURST);
        assert_eq!(passed(&gates.of("busy", NOW), NOW), 0);
        for number in 0..MAX_ENDPOINTS + 5 {
            assert!(gates.of(&format!("other-{number}"), NOW).is_full(NOW));
        }
        assert!(gates.0.len() <= MAX_ENDPOINTS);
        assert_eq!(passed(&gates.of("busy", NOW), NOW), 0, "and no other");
    }

    #[tokio::test(start_paused = true)]
    async fn few_ask_at_once_and_invented_tokens_do_not_take_the_turns_of_known_ones() {
        let gate = Gate::new(NOW);
        let mut held = Vec::new();
        for _ in 0..IN_FLIGHT {
            held.push(gate.slot(false).await.unwrap());
        }
        assert!(gate.slot(false).await.is_none());
        assert!(gate.slot(true).await.is_some());
        held.pop();
        assert!(gate.slot(false).await.is_some());
    }
}
