//! Signing, for our own clients: the same canonical form from the other side.

use agent_identity_core::encoding::hex;
use agent_identity_core::{Secret, Timestamp};
use aws_lc_rs::hmac;
use http::{HeaderMap, HeaderValue, header};

use super::canonical::string_to_sign;
use super::claim::{X_AMZ_DATE, X_AMZ_SECURITY_TOKEN};
use super::key::KeyScope;
use super::{ALGORITHM, Service, SigV4Error, SignedRequest, TERMINATOR, date};

/// Whose signature it becomes, and for what.
#[derive(Clone, Copy, Debug)]
pub struct SigningCredentials<'a> {
    /// The access key.
    pub access_key_id: &'a str,
    /// What the signature is derived from.
    pub secret_access_key: &'a Secret,
    /// What goes with a temporary access key.
    pub session_token: Option<&'a Secret>,
    /// The region of the scope.
    pub region: &'a str,
    /// The service of the scope.
    pub service: Service,
}

/// Signs `request` and returns the headers to add to it: `authorization`, `x-amz-date` and, with a session token,
/// `x-amz-security-token`. Every header that the request already has is signed, so it must be sent unchanged; `host`
/// must be one of them.
///
/// # Errors
/// [`SigV4Error::IncompleteSignature`] when `host` is absent, the headers are signed already, or a credential cannot be
/// in a header.
pub fn sign(
    credentials: &SigningCredentials<'_>,
    request: &SignedRequest<'_>,
    now: Timestamp,
) -> Result<HeaderMap, SigV4Error> {
    if !request.headers.contains_key(header::HOST) {
        return Err(SigV4Error::incomplete("a request without the header `host` cannot be signed"));
    }
    for name in [header::AUTHORIZATION, X_AMZ_DATE, X_AMZ_SECURITY_TOKEN] {
        if request.headers.contains_key(&name) {
            return Err(SigV4Error::incomplete(format!("the request already has the header `{name}`")));
        }
    }
    let amz_date = date::format(now);
    let mut added = HeaderMap::new();
    added.insert(X_AMZ_DATE, header_value(&amz_date)?);
    if let Some(token) = credentials.session_token {
        let mut token = header_value(token.expose())?;
        token.set_sensitive(true);
        added.insert(X_AMZ_SECURITY_TOKEN, token);
    }

    let mut headers = request.headers.clone();
    headers.extend(added.clone());
    let mut signed_headers: Vec<&str> = headers.keys().map(header::HeaderName::as_str).collect();
    signed_headers.sort_unstable();
    let key_scope = KeyScope {
        secret_access_key: credentials.secret_access_key,
        day: amz_date.get(..8).unwrap_or_default(),
        region: credentials.region,
        service: credentials.service.as_str(),
    };
    let scope = format!("{}/{}/{}/{TERMINATOR}", key_scope.day, key_scope.region, key_scope.service);
    let text =
        string_to_sign(&SignedRequest { headers: &headers, ..*request }, &signed_headers, &amz_date, &scope);
    let signature = hex(hmac::sign(&key_scope.derive(), text.as_bytes()).as_ref());

    let mut authorization = header_value(&format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={}, Signature={signature}",
        credentials.access_key_id,
        signed_headers.join(";")
    ))?;
    authorization.set_sensitive(true);
    added.insert(header::AUTHORIZATION, authorization);
    Ok(added)
}

fn header_value(text: &str) -> Result<HeaderValue, SigV4Error> {
    HeaderValue::from_str(text)
        .map_err(|_| SigV4Error::incomplete("the credentials hold characters that no header can carry"))
}
