//! How often a call is made again, and how long it takes to give up.

use std::time::Duration;

use agent_identity_core::random::{self, Random};
use tokio::time::Instant;

/// The first pause; each is at most twice the one before.
const FIRST: Duration = Duration::from_millis(25);

/// The longest pause.
const LONGEST: Duration = Duration::from_millis(800);

/// For how long a call is tried. A caller holds a lease meanwhile, of which 5 s are for this (`core::flight`).
const PATIENCE: Duration = Duration::from_secs(4);

/// The pauses between the attempts of one call, with full jitter, so that a crowd spreads.
pub(crate) struct Pace<'r> {
    random: &'r dyn Random,
    ceiling: Duration,
    end: Instant,
}

impl<'r> Pace<'r> {
    pub(crate) fn new(random: &'r dyn Random) -> Self {
        Self { random, ceiling: FIRST, end: Instant::now() + PATIENCE }
    }

    /// Waits before the next attempt; `false` when there shall be none.
    pub(crate) async fn again(&mut self) -> bool {
        let [share] = random::bytes::<1>(self.random);
        let pause = self.ceiling.mul_f64(f64::from(share) / 255.0);
        if Instant::now() + pause >= self.end {
            return false;
        }
        self.ceiling = (self.ceiling * 2).min(LONGEST);
        tokio::time::sleep(pause).await;
        true
    }
}
