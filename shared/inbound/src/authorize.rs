//! The use case.

use std::sync::Arc;

use agent_identity_core::authorizer::{AgentRules, Passed, Refused};
use agent_identity_core::issuer::{TokenRefused, TokenVerifier, TrustedIssuer};
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::port::Digest;
use agent_identity_core::store::Store;
use agent_identity_core::user::{UserKey, UserName};
use agent_identity_core::{Clock, Result, Secret, Timestamp, WorkloadName};

use crate::cache::RulesCache;

/// Decides whether a token may speak to an agent. Keeps the rules of agents for [`crate::RULES_LIFE`], so that a warm call
/// reads nothing; safe to call at the same time from many tasks.
pub struct AuthorizeRequest {
    store: Arc<dyn Store>,
    verifier: Arc<dyn TokenVerifier>,
    digest: Arc<dyn Digest>,
    clock: Arc<dyn Clock>,
    issuers: Vec<TrustedIssuer>,
    cache: RulesCache,
}

/// What an authorizer has let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedSession {
    /// The agent: the name of its workload.
    pub agent: WorkloadName,
    /// Which of the agent's authorizers.
    pub authorizer: AuthorizerName,
    /// The user, as the vault knows them (D10): the same as in a workload access token for this JWT.
    pub user_key: UserKey,
    /// The `iss` claim.
    pub issuer: String,
    /// The value of the claim that identifies the user at this issuer.
    pub subject: String,
    /// The token's scopes.
    pub scopes: Vec<String>,
    /// The `client_id` claim, or `azp` where the authorizer takes it for that.
    pub client_id: Option<String>,
    /// When the token ends; within the leeway that may be in the past. The backend rechecks it (D14).
    pub expires_at: Timestamp,
}

/// The decision. The codes are stable and for logs: the caller sees 401, 403 or 500, and no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Yes.
    Allowed(VerifiedSession),
    /// No: the token is not genuine, not valid now, or of nobody whom this agent knows. 401.
    Unauthorized(&'static str),
    /// No: the token is genuine, and not for this agent. 403.
    Forbidden(&'static str),
    /// It cannot be said now: the store, or the issuer's keys, are not to be had. The same token may pass later, so it is
    /// never a 401 (D25). The text is for the log.
    Unavailable(String),
}

/// The agent has no authorizer, or there is no such agent: nobody can tell which.
const NO_AUTHORIZER: &str = "no_authorizer";

impl AuthorizeRequest {
    /// `issuers` are the deployment's trusted issuers, of which only the subject claims count here: who is trusted for an
    /// agent, its authorizers say.
    pub fn new(
        store: Arc<dyn Store>,
        verifier: Arc<dyn TokenVerifier>,
        digest: Arc<dyn Digest>,
        clock: Arc<dyn Clock>,
        issuers: Vec<TrustedIssuer>,
    ) -> Self {
        Self { store, verifier, digest, clock, issuers, cache: RulesCache::default() }
    }

    /// Whether the bearer of `token` may speak to `agent`. Default deny.
    pub async fn authorize(&self, agent: &str, token: &Secret) -> Outcome {
        let Ok(agent) = WorkloadName::parse(agent) else {
            return Outcome::Unauthorized(NO_AUTHORIZER);
        };
        let rules = match self.rules(&agent).await {
            Ok(rules) => rules,
            Err(error) => return Outcome::Unavailable(error.to_string()),
        };
        if rules.is_empty() {
            return Outcome::Unauthorized(NO_AUTHORIZER);
        }
        match rules.judge(&*self.verifier, token).await {
            Ok(passed) => Outcome::Allowed(self.session(agent, passed)),
            Err(Refused::Token(TokenRefused::Invalid { code, .. })) => Outcome::Unauthorized(code),
            Err(Refused::Token(refusal @ TokenRefused::KeysUnavailable(_))) => {
                Outcome::Unavailable(refusal.to_string())
            }
            Err(Refused::Denied(denial)) => Outcome::Forbidden(denial.as_str()),
        }
    }

    /// The agent's rules from memory, or else by one get that sees every write before it.
    async fn rules(&self, agent: &WorkloadName) -> Result<Arc<AgentRules>> {
        let now = self.clock.elapsed();
        if let Some(rules) = self.cache.get(agent, now) {
            return Ok(rules);
        }
        let rules = Arc::new(AgentRules::read(&*self.store, agent, &self.issuers).await?);
        self.cache.put(agent, &rules, now);
        Ok(rules)
    }

    fn session(&self, agent: WorkloadName, passed: Passed<'_>) -> VerifiedSession {
        let Passed { claims, authorizer } = passed;
        let name = UserName::Jwt {
            issuer: claims.token.issuer.clone(),
            subject_claim: claims.token.subject_claim,
            subject: claims.token.subject.clone(),
        };
        let azp = claims.authorized_party.filter(|_| authorizer.options.azp_as_client);
        VerifiedSession {
            agent,
            authorizer: authorizer.name.clone(),
            user_key: UserKey::from_digest(self.digest.sha256(&name.framed())),
            issuer: claims.token.issuer,
            subject: claims.token.subject,
            scopes: claims.scopes,
            client_id: claims.client_id.or(azp),
            expires_at: claims.token.expires_at,
        }
    }
}
