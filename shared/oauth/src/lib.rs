//! Sans-IO OAuth 2 client: requests out, responses in; the provider catalogue as data.
//!
//! It builds authorization URLs and token requests and reads discovery documents and token responses, each provider's
//! way. What is *not* here: I/O, a clock, randomness, signatures, and any decision on when to ask a provider.

pub mod assertion;
pub mod authorize;
pub mod catalogue;
pub mod discovery;
mod endpoint;
mod error;
mod parameter;
pub mod revocation;
pub mod token;

pub use error::OauthError;
