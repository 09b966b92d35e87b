//! Randomness that a test can repeat.

use std::sync::atomic::{AtomicU64, Ordering};

use agent_identity_core::encoding::length_prefixed;
use agent_identity_core::port::Digest as _;
use agent_identity_core::random::Random;

use crate::Sha256;

/// Bytes that look random and are the same for the same seed and the same order of calls: SHA-256 of (seed, counter).
#[derive(Debug, Default)]
pub struct SeededRandom {
    seed: u64,
    counter: AtomicU64,
}

impl SeededRandom {
    /// From a seed.
    pub const fn new(seed: u64) -> Self {
        Self { seed, counter: AtomicU64::new(0) }
    }
}

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            let counter = self.counter.fetch_add(1, Ordering::SeqCst);
            let block =
                Sha256.sha256(&length_prefixed([&self.seed.to_be_bytes()[..], &counter.to_be_bytes()[..]]));
            for (to, from) in chunk.iter_mut().zip(block) {
                *to = from;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_identity_core::random::bytes;

    use super::*;

    #[test]
    fn one_seed_gives_one_sequence_and_another_seed_another() {
        let (a, b, c) = (SeededRandom::new(1), SeededRandom::new(1), SeededRandom::new(2));
        let first: [u8; 40] = bytes(&a);
        assert_eq!(first, bytes(&b));
        assert_ne!(first, bytes(&c));
        assert_ne!(first, bytes(&a), "the sequence goes on");
    }
}
