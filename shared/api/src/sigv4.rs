//! AWS Signature Version 4 over the bytes received: who signed this request, and did they?
//!
//! Pure: no I/O and no clock. [`parse`] reads what the request claims, the caller looks the claimed access key up, and
//! [`verify`] proves the claim with the key's secret. [`sign`] is the same computation from the other side, for our own
//! clients. What is *not* here: access keys, session tokens and their ends are records of the caller, who answers
//! [`SigV4Error::UnrecognizedClient`] and [`SigV4Error::ExpiredToken`] for them.
//!
//! Only header signatures are accepted, over `host`, `x-amz-date`, every other `x-amz-*` header and the whole body (D22).

mod authorization;
mod canonical;
mod claim;
mod date;
mod error;
mod key;
mod sign;
#[cfg(test)]
mod tests;
mod verify;

pub use claim::{Claim, Service, parse};
pub use error::SigV4Error;
pub use key::SigningKeyCache;
pub use sign::{SigningCredentials, sign};
pub use verify::{MAX_CLOCK_SKEW, verify};

/// The one algorithm: HMAC-SHA256 with a key derived per day, region and service.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What ends every credential scope.
const TERMINATOR: &str = "aws4_request";

/// A request as it came in (or is about to go out), nothing decoded.
#[derive(Clone, Copy)]
pub struct SignedRequest<'a> {
    /// The method, as received.
    pub method: &'a str,
    /// The path, still percent-encoded.
    pub raw_path: &'a str,
    /// The query after `?`, still percent-encoded.
    pub raw_query: Option<&'a str>,
    /// All headers.
    pub headers: &'a http::HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}
