//! The proof of a claim.

use std::time::Duration;

use agent_identity_core::{Secret, Timestamp};
use aws_lc_rs::hmac;

use super::canonical::{sha256_hex, string_to_sign};
use super::claim::{X_AMZ_CONTENT_SHA256, single};
use super::key::{KeyScope, SigningKeyCache};
use super::{Claim, SigV4Error, SignedRequest, date};

/// How far the signer's clock may be from ours, in either direction.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// Proves that the holder of `secret_access_key` signed exactly this request, within [`MAX_CLOCK_SKEW`] of `now`.
/// `claim` is what [`super::parse`] read from the same request.
///
/// # Errors
/// [`SigV4Error::InvalidSignature`] when the signature is too old, not yet current, of another body, or wrong.
pub fn verify(
    claim: &Claim,
    request: &SignedRequest<'_>,
    secret_access_key: &Secret,
    now: Timestamp,
    keys: &SigningKeyCache,
) -> Result<(), SigV4Error> {
    verify_time(claim, now)?;
    if let Some(claimed) = single(request.headers, &X_AMZ_CONTENT_SHA256)?
        && claimed != sha256_hex(request.body)
    {
        return Err(SigV4Error::invalid(
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        ));
    }
    let text = string_to_sign(request, &claim.signed_headers, &claim.amz_date, &claim.scope());
    let scope = KeyScope {
        secret_access_key,
        day: claim.day(),
        region: &claim.region,
        service: claim.service.as_str(),
    };
    // `hmac::verify` compares in constant time.
    if keys.prove(scope, |key| hmac::verify(key, text.as_bytes(), &claim.signature.0).is_ok()) {
        Ok(())
    } else {
        Err(SigV4Error::invalid(
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details.",
        ))
    }
}

fn verify_time(claim: &Claim, now: Timestamp) -> Result<(), SigV4Error> {
    let (earliest, latest) = (now.minus(MAX_CLOCK_SKEW), now.plus(MAX_CLOCK_SKEW));
    if claim.signed_at < earliest {
        Err(SigV4Error::invalid(format!(
            "Signature expired: {} is now earlier than {} ({} - 5 min.)",
            claim.amz_date,
            date::format(earliest),
            date::format(now)
        )))
    } else if claim.signed_at > latest {
        Err(SigV4Error::invalid(format!(
            "Signature not yet current: {} is still later than {} ({} + 5 min.)",
            claim.amz_date,
            date::format(latest),
            date::format(now)
        )))
    } else {
        Ok(())
    }
}
