//! A clock that moves only when it is told to.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use agent_identity_core::{Clock, Timestamp};

/// A clock whose wall time and elapsed time a test sets, together or apart.
#[derive(Debug)]
pub struct FixedClock {
    wall_millis: AtomicI64,
    elapsed_millis: AtomicI64,
}

impl FixedClock {
    /// A clock that stands at `now`, with nothing elapsed.
    pub const fn at(now: Timestamp) -> Self {
        Self { wall_millis: AtomicI64::new(now.as_millis()), elapsed_millis: AtomicI64::new(0) }
    }

    /// Moves both times forward, as real time does.
    pub fn advance(&self, by: Duration) {
        self.advance_elapsed(by);
        self.set(self.now().plus(by));
    }

    /// Moves the elapsed time alone: the wall clock was set back, or stands still.
    pub fn advance_elapsed(&self, by: Duration) {
        self.elapsed_millis.fetch_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Sets the wall time alone: it jumps, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.wall_millis.store(now.as_millis(), Ordering::SeqCst);
    }
}

impl Default for FixedClock {
    /// Stands at 2026-01-01T00:00:00Z.
    fn default() -> Self {
        Self::at(Timestamp::from_seconds(1_767_225_600))
    }
}

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.wall_millis.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.elapsed_millis.load(Ordering::SeqCst)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_may_jump_back_while_elapsed_time_does_not() {
        let clock = FixedClock::at(Timestamp::from_seconds(100));
        clock.advance(Duration::from_secs(5));
        clock.set(Timestamp::from_seconds(50));
        assert_eq!((clock.now().as_seconds(), clock.elapsed().as_secs()), (50, 5));
    }
}
