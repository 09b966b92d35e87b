//! Domain types, pure rules and ports of `agent-identity`.
//!
//! Everything points here. What is *not* here: a runtime, HTTP, AWS, SQL, a clock or a source of randomness; those are
//! ports (traits) that the adapters implement and a binary composes.

pub mod access_key;
pub mod arn;
pub mod audit;
pub mod authorizer;
pub mod client_token;
pub mod clock;
pub mod connection;
pub mod consent;
pub mod denial;
pub mod encoding;
pub mod error;
pub mod flight;
pub mod grant;
pub mod http;
pub mod id;
pub mod issuer;
pub mod name;
pub mod port;
pub mod principal;
pub mod provider;
pub mod random;
pub mod record;
pub mod refresh;
pub mod revocation;
pub mod seal;
pub mod secret;
pub mod store;
pub mod tag;
pub mod tool;
pub mod usage;
pub mod user;
pub mod wat;
pub mod workload;

pub use clock::{Clock, Timestamp};
pub use error::{Error, Result};
pub use id::Id;
pub use name::{ProviderName, WorkloadName};
pub use secret::Secret;
