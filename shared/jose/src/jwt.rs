//! [`JwtVerifier`]: the profile that users' tokens must meet (RFC 8725, RFC 7519; design 9, D4, D20, D25).
//!
//! The order is fixed: size, structure, header, issuer and its record's header rules, key, signature, times, and then what
//! the issuer's record asks for. Nothing is fetched for an issuer that is not trusted, and nothing but the issuer is
//! believed before the signature is verified.

use std::sync::Arc;

use agent_identity_core::authorizer::Authorizer;
use agent_identity_core::http::HttpClient;
use agent_identity_core::issuer::{
    IssuerPolicy, LEEWAY, TokenProfile, TokenRefused, TokenVerifier, VerifiedClaims, VerifiedToken,
};
use agent_identity_core::seal::AuthorizerKeys;
use agent_identity_core::store::Store;
use agent_identity_core::workload::Workload;
use agent_identity_core::{Clock, Id, Secret};
use async_trait::async_trait;

use crate::keys::{Issuers, Lookup, SharedKeys, Sources, Wanted, is_issuer_url};
use crate::opaque::Introspector;

pub(crate) mod claims;
mod compact;
mod header;
pub(crate) mod members;
mod profile;
pub(crate) mod refusal;
pub(crate) mod rule;
#[cfg(test)]
mod tests;
pub(crate) mod times;

use claims::Claims;
use compact::Compact;
use header::Header;
use refusal::refused;
use rule::Rule;

/// Verifies users' tokens against the keys of their issuers, and asks issuers about tokens that are no JWTs.
pub struct JwtVerifier {
    issuers: Issuers,
    clock: Arc<dyn Clock>,
    http: Arc<dyn HttpClient>,
    introspector: Option<Introspector>,
}

impl JwtVerifier {
    /// Keeps keys in memory alone. Reads none yet. Must be used within a tokio runtime.
    pub fn new(http: Arc<dyn HttpClient>, clock: Arc<dyn Clock>) -> Self {
        Self::over(Sources { http, clock, shared: None })
    }

    /// Looks for keys in the store before it asks their issuer, and asks for an unknown one at most once in
    /// [`crate::COOL_DOWN`] for all processes on the store. `writes_keys` says whether this one may keep what it was told (D16).
    pub fn with_store(
        http: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
        store: Arc<dyn Store>,
        writes_keys: bool,
    ) -> Self {
        let shared = SharedKeys { store, clock: Arc::clone(&clock), writes_keys };
        Self::over(Sources { http, clock, shared: Some(shared) })
    }

    fn over(sources: Sources) -> Self {
        let (clock, http) = (Arc::clone(&sources.clock), Arc::clone(&sources.http));
        Self { issuers: Issuers::new(sources), clock, http, introspector: None }
    }

    /// With the keys that the secrets of introspecting authorizers are sealed under. Without them no issuer is asked about a token.
    #[must_use]
    pub fn introspecting(mut self, keys: Option<Arc<dyn AuthorizerKeys>>) -> Self {
        let (http, clock) = (Arc::clone(&self.http), Arc::clone(&self.clock));
        self.introspector = keys.map(|keys| Introspector::new(http, clock, keys));
        self
    }

    /// Verifies the signature with the issuer's key for it. `named` says that the rule lists the algorithm by name.
    async fn verify_signature(
        &self,
        token: &Compact<'_>,
        header: &Header<'_>,
        issuer: &str,
        is_trusted: bool,
        named: bool,
    ) -> Result<(), TokenRefused> {
        let wanted = Wanted { kid: header.kid.as_deref(), algorithm: header.algorithm, named };
        let (issuer, lookup) = self.issuers.key(issuer, is_trusted, wanted).await?;
        let key = match lookup {
            Lookup::Found(key) => key,
            Lookup::Unknown => {
                return Err(refused("unknown_key", "its issuer publishes no key for it"));
            }
            Lookup::OtherAlgorithm => {
                return Err(refused("key_algorithm", "the key that it names is for another algorithm"));
            }
            Lookup::Ambiguous => {
                return Err(refused(
                    "ambiguous_key",
                    "several of its issuer's keys fit; it must name one by `kid`",
                ));
            }
        };
        if !key.verifies(header.algorithm, token.signing_input, &token.signature()?) {
            return Err(refused("signature", "its signature does not verify"));
        }
        if !is_trusted && issuer.announce() {
            tracing::warn!(
                issuer = %issuer.name(),
                "accepted a token of an issuer that no configuration names; without any configuration every issuer is"
            );
        }
        Ok(())
    }
}

#[async_trait]
impl TokenVerifier for JwtVerifier {
    async fn verify(&self, token: &Secret, policy: &IssuerPolicy) -> Result<VerifiedToken, TokenRefused> {
        let token = Compact::parse(token.expose())?;
        let header = Header::parse(&token.header)?;
        let claims = Claims::parse(&token.payload, &Rule::subject_claims(policy))?;

        let mut rules = Rule::of_issuer(policy, &claims.issuer);
        if rules.is_empty() || !is_issuer_url(&claims.issuer) {
            return Err(refused("issuer", "its issuer is not trusted here"));
        }
        rules.retain(|rule| rule.accepts_type(header.typ.as_deref()));
        if rules.is_empty() {
            return Err(refused("typ", "its `typ` is not the one that is accepted from its issuer"));
        }
        rules.retain(|rule| rule.accepts_algorithm(header.algorithm));
        if rules.is_empty() {
            return Err(refused("algorithm", "its `alg` is not one that is accepted from its issuer"));
        }

        let is_trusted = rules.iter().any(Rule::is_record);
        let named = rules.iter().any(|rule| rule.names(header.algorithm));
        self.verify_signature(&token, &header, &claims.issuer, is_trusted, named).await?;
        times::check(&claims, self.clock.now(), LEEWAY, None)?;
        let (subject_claim, subject) = rule::check_any(&rules, &claims)?;
        Ok(VerifiedToken {
            issuer: claims.issuer.to_string(),
            subject_claim: subject_claim.to_owned(),
            subject: subject.to_owned(),
            expires_at: claims.expires_at,
            issued_at: claims.issued_at,
            auth_time: claims.auth_time,
        })
    }

    async fn verify_claims(
        &self,
        token: &Secret,
        profiles: &[TokenProfile],
    ) -> Result<VerifiedClaims, TokenRefused> {
        self.verify_profiles(token, profiles).await
    }

    async fn introspect(
        &self,
        token: &Secret,
        workload: Id<Workload>,
        authorizer: &Authorizer,
        profile: &TokenProfile,
    ) -> Result<VerifiedClaims, TokenRefused> {
        match &self.introspector {
            Some(introspector) => introspector.introspect(token, workload, authorizer, profile).await,
            None => {
                Err(TokenRefused::IssuerUnavailable("there is no root key for authorizers here".to_owned()))
            }
        }
    }
}
