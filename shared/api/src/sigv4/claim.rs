//! What a request claims about its signer. Nothing here is proven yet.

use std::fmt;

use agent_identity_core::{Secret, Timestamp};
use http::{HeaderMap, HeaderName, header};
use percent_encoding::percent_decode_str;

use super::authorization::Authorization;
use super::{SigV4Error, SignedRequest, TERMINATOR, date};

pub(super) const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
pub(super) const X_AMZ_SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
pub(super) const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// CloudFront adds this one after the client has signed, in front of edge-optimised APIs. Nothing here reads it.
const ADDED_ON_THE_WAY: HeaderName = HeaderName::from_static("x-amz-cf-id");

/// Tokens of STS have 1 to 2 KiB.
const MAX_SESSION_TOKEN_BYTES: usize = 16 * 1024;

/// The service of a credential scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// What official clients sign for, on both planes.
    BedrockAgentcore,
    /// What API Gateway asks for, and what our own data file for botocore makes clients sign for.
    ExecuteApi,
}

impl Service {
    /// The name in a scope.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BedrockAgentcore => "bedrock-agentcore",
            Self::ExecuteApi => "execute-api",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::BedrockAgentcore, Self::ExecuteApi].into_iter().find(|service| service.as_str() == name)
    }
}

/// Who says to have signed a request, and over what. [`super::verify`] proves it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The access key.
    pub access_key_id: String,
    /// The region of the scope. Any is accepted: clients sign for the one that they are configured with.
    pub region: String,
    /// The service of the scope.
    pub service: Service,
    /// When it was signed.
    pub signed_at: Timestamp,
    /// The session token of a temporary access key. The caller compares it with the key's own.
    pub session_token: Option<Secret>,
    pub(super) amz_date: String,
    pub(super) signed_headers: Vec<String>,
    pub(super) signature: Signature,
}

impl Claim {
    /// `20260131`, the day that the signing key is for.
    pub(super) fn day(&self) -> &str {
        self.amz_date.get(..8).unwrap_or_default()
    }

    /// `20260131/eu-central-1/bedrock-agentcore/aws4_request`.
    pub(super) fn scope(&self) -> String {
        format!("{}/{}/{}/{TERMINATOR}", self.day(), self.region, self.service.as_str())
    }
}

/// A signature is good for five minutes to whoever reads it: no log shows it.
#[derive(Clone, Copy)]
pub(super) struct Signature(pub [u8; 32]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[signature]")
    }
}

/// Reads what `request` claims about its signer, and refuses signatures that leave out what has to be signed (D22).
///
/// # Errors
/// [`SigV4Error::MissingAuthenticationToken`] without a signature, [`SigV4Error::IncompleteSignature`] when it cannot be
/// read, [`SigV4Error::InvalidSignature`] when it is of a kind that is not accepted here.
pub fn parse(request: &SignedRequest<'_>) -> Result<Claim, SigV4Error> {
    if let Some(name) = request.raw_query.and_then(query_signature) {
        return Err(SigV4Error::incomplete(format!(
            "a signature in the query is not accepted: sign the headers instead of sending `{name}`"
        )));
    }
    let value = single(request.headers, &header::AUTHORIZATION)?
        .filter(|value| !value.is_empty())
        .ok_or(SigV4Error::MissingAuthenticationToken)?;
    let authorization = Authorization::parse(value)?;

    let service = Service::parse(authorization.service).ok_or_else(|| {
        SigV4Error::invalid(format!(
            "Credential should be scoped to correct service: '{}' or '{}'.",
            Service::BedrockAgentcore.as_str(),
            Service::ExecuteApi.as_str()
        ))
    })?;
    require_signed(request.headers, &authorization.signed_headers)?;

    let amz_date = single(request.headers, &X_AMZ_DATE)?.unwrap_or_default();
    let signed_at = date::parse(amz_date).ok_or_else(|| {
        SigV4Error::incomplete("X-Amz-Date must be in ISO-8601 'basic format': YYYYMMDD'T'HHMMSS'Z'")
    })?;
    if !amz_date.starts_with(authorization.date) {
        return Err(SigV4Error::invalid(format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{}', from '{amz_date}'.",
            authorization.date
        )));
    }
    refuse_unsigned_payload(request.headers)?;

    let session_token = single(request.headers, &X_AMZ_SECURITY_TOKEN)?;
    if session_token.is_some_and(|token| token.len() > MAX_SESSION_TOKEN_BYTES) {
        return Err(SigV4Error::incomplete(format!(
            "X-Amz-Security-Token is longer than {MAX_SESSION_TOKEN_BYTES} bytes"
        )));
    }

    Ok(Claim {
        access_key_id: authorization.access_key_id.to_owned(),
        region: authorization.region.to_owned(),
        service,
        signed_at,
        session_token: session_token.map(Secret::new),
        amz_date: amz_date.to_owned(),
        signed_headers: authorization.signed_headers.into_iter().map(str::to_owned).collect(),
        signature: Signature(authorization.signature),
    })
}

/// The one value of a header; two of them could be read differently by somebody else.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, SigV4Error> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() {
        return Err(SigV4Error::incomplete(format!("header `{name}` is sent more than once")));
    }
    first
        .map(|value| {
            value.to_str().map_err(|_| SigV4Error::incomplete(format!("header `{name}` is not plain ASCII")))
        })
        .transpose()
}

/// The name of a query parameter that belongs to a presigned request, as it is spelled there.
fn query_signature(query: &str) -> Option<String> {
    const NAMES: [&str; 6] = [
        "x-amz-algorithm",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    ];
    query.split('&').find_map(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8().ok()?;
        NAMES.iter().any(|known| name.eq_ignore_ascii_case(known)).then(|| name.into_owned())
    })
}

fn require_signed(headers: &HeaderMap, signed: &[&str]) -> Result<(), SigV4Error> {
    for required in [header::HOST, X_AMZ_DATE] {
        if !signed.contains(&required.as_str()) {
            return Err(SigV4Error::invalid(format!(
                "'{required}' must be a 'SignedHeader' in the AWS Authorization."
            )));
        }
    }
    if let Some(absent) = signed.iter().find(|name| !headers.contains_key(**name)) {
        return Err(SigV4Error::invalid(format!("header `{absent}` is signed but was not received")));
    }
    let unsigned = headers.keys().find(|name| {
        name.as_str().starts_with("x-amz-") && **name != ADDED_ON_THE_WAY && !signed.contains(&name.as_str())
    });
    match unsigned {
        Some(name) => Err(SigV4Error::invalid(format!(
            "There were headers present in the request which were not signed: {name}"
        ))),
        None => Ok(()),
    }
}

fn refuse_unsigned_payload(headers: &HeaderMap) -> Result<(), SigV4Error> {
    match single(headers, &X_AMZ_CONTENT_SHA256)? {
        Some(claimed) if claimed == "UNSIGNED-PAYLOAD" || claimed.starts_with("STREAMING-") => {
            Err(SigV4Error::invalid(
                "the payload must be signed: X-Amz-Content-SHA256 must be the hash of the whole body",
            ))
        }
        _ => Ok(()),
    }
}
