//! Adapters for one machine: SQLite, the master-key file, local secrets and signing keys, the system's clock and
//! randomness.
//!
//! What is *not* here: rules (they are in `core` and `service`), sealing (a `Sealer` is passed in), and anything that
//! talks to a network.

mod database;
mod directory;
mod master_key;
mod name;
mod secrets;
mod signing;
mod store;

pub use agent_identity_system::{Sha256, SystemClock, SystemRandom};
pub use database::{Database, OpenError};
pub use directory::{DirectoryError, lock as lock_directory, prepare as prepare_directory};
pub use master_key::{MasterKey, MasterKeyError};
pub use name::LocalName;
pub use secrets::LocalSecrets;
pub use signing::{LocalSigningKeys, SigningKeyEntry};
pub use store::SqliteStore;
