//! Who signed a request: SigV4 with access keys of our own, or whom API Gateway has verified ([`iam`]).

pub(crate) mod iam;

use std::sync::Arc;

use agent_identity_core::grant::Principal;
use agent_identity_service::Services;
use async_trait::async_trait;
use http::{HeaderMap, StatusCode};

use crate::failure::Failure;
use crate::sigv4::{self, SigV4Error, SignedRequest, SigningKeyCache};
use iam::GatewayCaller;

/// Says who a request is from. `gateway` is whom API Gateway has verified, where there is one in front.
#[async_trait]
pub trait Authenticate: Send + Sync {
    /// Refuses by the headers alone what nobody could have signed; called before the body is read.
    ///
    /// # Errors
    /// The failure to answer with.
    async fn admit(
        &self,
        request: &SignedRequest<'_>,
        gateway: Option<&GatewayCaller>,
    ) -> Result<(), Failure>;

    /// The principal behind a request.
    ///
    /// # Errors
    /// The failure to answer with.
    async fn authenticate(
        &self,
        request: &SignedRequest<'_>,
        gateway: Option<&GatewayCaller>,
    ) -> Result<Principal, Failure>;
}

/// SigV4 over the bytes received, with the access keys in the store.
pub struct AccessKeys {
    services: Arc<Services>,
    loopback_keys: bool,
    signing_keys: SigningKeyCache,
}

impl AccessKeys {
    /// `loopback_keys` says whether keys that are good on loopback only are taken at all (D21).
    pub fn new(services: Arc<Services>, loopback_keys: bool) -> Self {
        Self { services, loopback_keys, signing_keys: SigningKeyCache::default() }
    }
}

/// Headers that only a proxy sets, besides `Forwarded` and `X-Forwarded-*`: then the peer's address says nothing about who is
/// asking (D21).
const FORWARDED: [&str; 5] = ["cf-connecting-ip", "true-client-ip", "via", "x-original-host", "x-real-ip"];

fn forwarded(headers: &HeaderMap) -> bool {
    headers
        .keys()
        .map(http::HeaderName::as_str)
        .any(|name| name == "forwarded" || name.starts_with("x-forwarded") || FORWARDED.contains(&name))
}

fn unrecognized(message: &str) -> Failure {
    Failure::new("UnrecognizedClientException", StatusCode::FORBIDDEN, message)
}

#[async_trait]
impl Authenticate for AccessKeys {
    async fn admit(&self, request: &SignedRequest<'_>, _: Option<&GatewayCaller>) -> Result<(), Failure> {
        let claim = sigv4::parse(request)?;
        match self.services.access_key(&claim.access_key_id).await? {
            Some(_) => Ok(()),
            None => Err(SigV4Error::UnrecognizedClient.into()),
        }
    }

    async fn authenticate(
        &self,
        request: &SignedRequest<'_>,
        _: Option<&GatewayCaller>,
    ) -> Result<Principal, Failure> {
        // Looked up again: the body may have taken its time, and the key may be revoked since.
        let claim = sigv4::parse(request)?;
        let now = self.services.ports().clock.now();
        let invalid = || unrecognized("The security token included in the request is invalid.");
        let key = self.services.access_key(&claim.access_key_id).await?.ok_or_else(invalid)?;
        match (&key.secrets.session_token, &claim.session_token) {
            (None, None) => {}
            (Some(expected), Some(given)) if expected == given => {}
            _ => return Err(invalid()),
        }
        sigv4::verify(&claim, request, &key.secrets.secret_access_key, now, &self.signing_keys)?;
        if key.key.expires_at.is_some_and(|end| now >= end) {
            return Err(SigV4Error::ExpiredToken.into());
        }
        if key.key.loopback_only && (!self.loopback_keys || forwarded(request.headers)) {
            return Err(unrecognized(
                "the default access key is for direct calls on loopback only; make one with `agent-identity access-keys create`",
            ));
        }
        Ok(key.key.principal.clone())
    }
}
