//! What the operating system gives: time and randomness; and SHA-256. For every binary, on a laptop and on Lambda.

use std::time::{Duration, SystemTime};

use agent_identity_core::port::Digest;
use agent_identity_core::random::Random;
use agent_identity_core::{Clock, Timestamp};
use aws_lc_rs::{digest, rand};
use rustix::time::{ClockId, clock_gettime};

/// The clocks of the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The clock that goes on while the machine sleeps (D7).
#[cfg(target_os = "linux")]
const WITH_SUSPEND: ClockId = ClockId::Boottime;
/// The clock that goes on while the machine sleeps (D7): on macOS that is this one.
#[cfg(not(target_os = "linux"))]
const WITH_SUSPEND: ClockId = ClockId::Monotonic;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the adapter that everybody else is told to use")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH.plus(since)
    }

    fn elapsed(&self) -> Duration {
        let time = clock_gettime(WITH_SUSPEND);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}

/// The randomness of aws-lc, seeded by the system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        if rand::fill(bytes).is_err() {
            // Every key, handle and nonce would be worthless: there is nothing to go on with.
            tracing::error!("the system gives no randomness");
            std::process::abort();
        }
    }
}

/// SHA-256 by aws-lc.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sha256;

impl Digest for Sha256 {
    fn sha256(&self, bytes: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        out
    }
}

#[cfg(test)]
mod tests {
    use agent_identity_core::encoding::hex;
    use agent_identity_core::random::bytes;

    use super::*;

    #[test]
    fn the_wall_clock_is_past_the_day_this_was_written() {
        assert!(SystemClock.now() > Timestamp::from_seconds(1_790_000_000));
    }

    #[test]
    fn d7_elapsed_time_goes_on() {
        let before = SystemClock.elapsed();
        std::thread::sleep(Duration::from_millis(5));
        assert!(SystemClock.elapsed() - before >= Duration::from_millis(5));
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(bytes::<32>(&SystemRandom), bytes::<32>(&SystemRandom));
    }

    #[test]
    fn aws_lc_is_built_without_jitter_entropy() {
        // It costs 50–200 ms at the first random byte of a process (docs/adr/0003).
        assert_eq!(option_env!("AWS_LC_SYS_NO_JITTER_ENTROPY"), Some("1"));
    }

    #[test]
    fn the_digest_of_abc_is_that_of_fips_180_4() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&Sha256.sha256(b"abc")), expected);
    }
}
