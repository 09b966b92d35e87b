//! Watching somebody else's lease (D7): no wall clock says that its holder is dead.

use std::time::Duration;

use super::{Lease, Limits};

/// A lease of somebody else, and for how long it was *watched* unchanged, on the watcher's own clock. A look counts for what
/// went by since the last one, but not for more than [`Limits::longest_look`]: who was frozen has not watched.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sighting {
    lease: Lease,
    watched: Duration,
    last_look: Duration,
}

impl Sighting {
    /// The first look at a lease.
    pub fn first(lease: &Lease, elapsed: Duration) -> Self {
        Self { lease: lease.clone(), watched: Duration::ZERO, last_look: elapsed }
    }

    /// Another look at the same row: a lease that has moved is watched from the start.
    pub fn look(&mut self, lease: &Lease, elapsed: Duration, limits: Limits) {
        if self.lease == *lease {
            self.watched += elapsed.saturating_sub(self.last_look).min(limits.longest_look);
            self.last_look = elapsed;
        } else {
            *self = Self::first(lease, elapsed);
        }
    }

    /// Whether the holder of this lease has shown no sign of life for as long as a lease lives.
    pub fn is_dead(&self, limits: Limits) -> bool {
        self.watched >= limits.lease_life
    }

    /// Which lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// For how long it was watched.
    pub fn watched(&self) -> Duration {
        self.watched
    }

    /// When it was looked at last.
    pub fn last_look(&self) -> Duration {
        self.last_look
    }
}

#[cfg(test)]
mod tests {
    use super::super::LIMITS;
    use super::*;

    fn lease(attempt: u64, heartbeat: u64) -> Lease {
        Lease { owner: "other".to_owned(), attempt, heartbeat }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_is_dead_when_it_was_watched_for_its_whole_life() {
        let mut sighting = Sighting::first(&lease(1, 0), seconds(100));
        for second in 101..120 {
            sighting.look(&lease(1, 0), seconds(second), LIMITS);
            assert!(!sighting.is_dead(LIMITS), "after {second}");
        }
        sighting.look(&lease(1, 0), seconds(120), LIMITS);
        assert!(sighting.is_dead(LIMITS));
    }

    #[test]
    fn two_looks_that_lie_far_apart_are_two_looks() {
        let mut sighting = Sighting::first(&lease(1, 0), seconds(100));
        sighting.look(&lease(1, 0), seconds(4000), LIMITS);
        assert_eq!(sighting.watched(), LIMITS.longest_look);
    }

    #[test]
    fn a_sign_of_life_begins_the_watch_anew() {
        for moved in [lease(2, 0), lease(1, 1)] {
            let mut sighting = Sighting::first(&lease(1, 0), seconds(100));
            sighting.look(&lease(1, 0), seconds(101), LIMITS);
            sighting.look(&moved, seconds(102), LIMITS);
            assert_eq!((sighting.watched(), sighting.last_look()), (Duration::ZERO, seconds(102)));
            assert_eq!(*sighting.lease(), moved);
        }
    }
}
