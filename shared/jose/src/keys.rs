//! The public keys of issuers: found by discovery, parsed once, kept for a bounded time.

mod fetch;
mod issuer_url;
mod issuers;
mod jwk;
mod key_set;
mod roca;
#[cfg(test)]
mod tests;

pub(crate) use issuer_url::is_issuer_url;
pub(crate) use issuers::Issuers;
pub use issuers::{COOL_DOWN, FRESH, MAX_ISSUERS, MAX_STALE};
pub(crate) use jwk::{MAX_KID, algorithm};
pub(crate) use key_set::{Lookup, Wanted};
