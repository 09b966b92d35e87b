//! The public keys of issuers: found by discovery, parsed once, kept for a bounded time in memory and, where there is a store,
//! for all processes (design 9, docs/adr/0023).

mod fetch;
mod issuer;
mod issuer_url;
mod issuers;
mod jwk;
mod key_set;
mod prefetch;
mod roca;
mod shared;
mod sources;
#[cfg(test)]
mod tests;

pub(crate) use issuer_url::is_issuer_url;
pub(crate) use issuers::Issuers;
pub use issuers::{COOL_DOWN, FRESH, MAX_ISSUERS, MAX_STALE};
pub(crate) use jwk::{MAX_KID, algorithm};
pub(crate) use key_set::{Lookup, Wanted};
pub use prefetch::{KeyPrefetch, PREFETCH_EVERY, Renewed};
pub(crate) use shared::SharedKeys;
pub(crate) use sources::Sources;
