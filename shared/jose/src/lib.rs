//! Cryptography that the use cases stand on: the verification of users' tokens, and the sealing of everything kept. Tokens that only
//! their issuer can read it is asked about.
//!
//! What is *not* here: sockets (keys of issuers come through the `HttpClient` port), master keys (they stay behind the
//! `KeyWrapper` port), and decisions about who may do what.

mod jwt;
mod keys;
mod opaque;
mod seal;

pub use jwt::JwtVerifier;
pub use keys::{COOL_DOWN, FRESH, KeyPrefetch, MAX_ISSUERS, MAX_STALE, PREFETCH_EVERY, Renewed};
pub use seal::{KEY_LIFE, RootedAuthorizerKeys, VaultSealer};
