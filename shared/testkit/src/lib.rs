//! For tests only: the ports of `core` in memory, and one contract suite for each port that has more than one adapter.
//!
//! What is *not* here: anything that a binary may link. An adapter names this crate in its dev-dependencies and runs
//! the suites with [`store_contract!`], [`wrapper_contract!`], [`secrets_contract!`] and [`signing_contract!`].

pub mod contract;

mod clock;
mod digest;
mod random;
mod sealer;
mod secrets;
mod signing;
mod store;

pub use clock::FixedClock;
pub use digest::Sha256;
pub use random::SeededRandom;
pub use sealer::TestSealer;
pub use secrets::MemorySecrets;
pub use signing::NoSigningKeys;
pub use store::{Calls, MemoryStore};
