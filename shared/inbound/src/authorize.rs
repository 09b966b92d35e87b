//! The use case.

use std::sync::Arc;

use agent_identity_core::authorizer::{AgentRules, KeyOwner, KeyPurpose, Passed, Refused};
use agent_identity_core::denial::{Denied, UserDenials, denies};
use agent_identity_core::issuer::{TokenRefused, TokenVerifier, TrustedIssuer};
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::port::Digest;
use agent_identity_core::random::Random;
use agent_identity_core::seal::{AuthorizerKeys, SealError};
use agent_identity_core::store::{Consistency, Key, Kind, Store};
use agent_identity_core::user::{UserKey, UserName};
use agent_identity_core::wat::{MintedWat, WatClaims, WatUser};
use agent_identity_core::workload::Workload;
use agent_identity_core::{Clock, Id, Result, Secret, Timestamp, WorkloadName, encoding};
use serde::Serialize;

use crate::cache::RulesCache;
use crate::denials::Denials;
use crate::peek::Peeked;

/// Decides whether a token may speak to an agent. Keeps the rules of agents, and what stands against users, for
/// [`crate::RULES_LIFE`], so that a warm call reads nothing; safe to call at the same time from many tasks. The store should be one
/// that reads ahead: then the first call is one read.
pub struct AuthorizeRequest {
    store: Arc<dyn Store>,
    verifier: Arc<dyn TokenVerifier>,
    digest: Arc<dyn Digest>,
    clock: Arc<dyn Clock>,
    issuers: Vec<TrustedIssuer>,
    minting: Option<Minting>,
    cache: RulesCache,
    denials: Denials,
}

/// What it issues workload access tokens with.
pub struct Minting {
    /// The keys of authorizers.
    pub keys: Arc<dyn AuthorizerKeys>,
    /// Randomness, for their ids.
    pub random: Arc<dyn Random>,
}

/// Claims that name users, where the rules that say which are not known yet: the usual one, and Entra ID's.
const USUAL_SUBJECTS: [&str; 2] = ["sub", "oid"];

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
    /// A workload access token of the agent for the user, where the authorizer issues one.
    pub workload_token: Option<Secret>,
}

/// What the API behind the authorizer gets: flat, as API Gateway takes it. The one place where the token that it carries is shown.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionContext {
    /// As [`VerifiedSession::agent`].
    pub agent_id: WorkloadName,
    /// As [`VerifiedSession::user_key`].
    pub user_id: String,
    /// As [`VerifiedSession::issuer`].
    pub issuer: String,
    /// As [`VerifiedSession::subject`].
    pub subject: String,
    /// As [`VerifiedSession::scopes`], separated by spaces.
    pub scopes: String,
    /// As [`VerifiedSession::expires_at`], in seconds.
    pub expires_at: i64,
    /// As [`VerifiedSession::client_id`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// As [`VerifiedSession::workload_token`], in clear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_access_token: Option<String>,
}

impl VerifiedSession {
    /// As the API behind the authorizer gets it.
    pub fn context(self) -> SessionContext {
        SessionContext {
            agent_id: self.agent,
            user_id: self.user_key.to_string(),
            issuer: self.issuer,
            subject: self.subject,
            scopes: self.scopes.join(" "),
            expires_at: self.expires_at.as_seconds(),
            client_id: self.client_id,
            workload_access_token: self.workload_token.map(|token| token.expose().to_owned()),
        }
    }
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

impl Outcome {
    /// What the log says of a decision: its name, and why. Never the token or a claim.
    pub fn log_fields(&self) -> (&'static str, &str) {
        match self {
            Self::Allowed(_) => ("allowed", ""),
            Self::Unauthorized(code) => ("unauthorized", code),
            Self::Forbidden(code) => ("forbidden", code),
            Self::Unavailable(reason) => ("unavailable", reason),
        }
    }
}

impl AuthorizeRequest {
    /// `issuers` are the deployment's trusted issuers, of which only the subject claims count here: who is trusted for an
    /// agent, its authorizers say. Without `minting`, sessions carry no workload access token, whatever authorizers say.
    pub fn new(
        store: Arc<dyn Store>,
        verifier: Arc<dyn TokenVerifier>,
        digest: Arc<dyn Digest>,
        clock: Arc<dyn Clock>,
        issuers: Vec<TrustedIssuer>,
        minting: Option<Minting>,
    ) -> Self {
        Self {
            store,
            verifier,
            digest,
            clock,
            issuers,
            minting,
            cache: RulesCache::default(),
            denials: Denials::default(),
        }
    }

    /// Whether the bearer of `token` may speak to `agent`. Default deny.
    pub async fn authorize(&self, agent: &str, token: &Secret) -> Outcome {
        let Ok(agent) = WorkloadName::parse(agent) else {
            return Outcome::Unauthorized(NO_AUTHORIZER);
        };
        let rules = match self.rules(&agent, Some(token)).await {
            Ok(rules) => rules,
            Err(error) => return Outcome::Unavailable(error.to_string()),
        };
        if rules.is_empty() {
            return Outcome::Unauthorized(NO_AUTHORIZER);
        }
        match rules.judge(&*self.verifier, token).await {
            Ok(passed) => self.unless_denied(agent, &rules, passed).await,
            Err(Refused::Token(TokenRefused::Invalid { code, .. })) => Outcome::Unauthorized(code),
            Err(Refused::Token(TokenRefused::KeysUnavailable(reason))) => Outcome::Unavailable(reason),
            Err(Refused::Token(unavailable)) => Outcome::Unavailable(unavailable.to_string()),
            Err(Refused::Denied(denial)) => Outcome::Forbidden(denial.as_str()),
        }
    }

    /// The agent's rules from memory, or from the store: together with what else a genuine token will need. Nothing that a token
    /// says causes a read of its own.
    pub(crate) async fn rules(
        &self,
        agent: &WorkloadName,
        token: Option<&Secret>,
    ) -> Result<Arc<AgentRules>> {
        let now = self.clock.elapsed();
        if let Some(rules) = self.cache.get(agent, now) {
            return Ok(rules);
        }
        let key = AgentRules::key(agent);
        if let Some(token) = token {
            self.store.read_ahead(&self.rows_of(&key, token)).await;
        }
        let row = self.store.get(&key, Consistency::Eventual).await?;
        let rules = Arc::new(AgentRules::of_row(row.as_ref(), &self.issuers)?);
        self.cache.put(agent, &rules, now);
        Ok(rules)
    }

    /// The rules, the keys of the token's issuer, and what stands against its user.
    fn rows_of(&self, rules: &Key, token: &Secret) -> Vec<Key> {
        let mut keys = vec![rules.clone()];
        let peeked = Peeked::at(token.expose());
        let Some((peeked, issuer)) = peeked.as_ref().and_then(|it| Some((it, it.text("iss")?))) else {
            return keys;
        };
        keys.push(Key::single(Kind::Jwks, issuer));
        let configured = self.issuers.iter().map(|it| it.subject_claim.as_str());
        for claim in USUAL_SUBJECTS.into_iter().chain(configured) {
            if let Some(subject) = peeked.text(claim) {
                let user = self.user_key(issuer, claim, subject);
                if !self.denials.has(user, self.clock.elapsed()) {
                    keys.push(UserDenials::key(user));
                }
            }
        }
        keys
    }

    /// Who keeps all rules may still be banned (D15). It comes last: only a genuine token may cause a read.
    async fn unless_denied(&self, agent: WorkloadName, rules: &AgentRules, passed: Passed<'_>) -> Outcome {
        let token = &passed.claims.token;
        let user = self.user_key(&token.issuer, &token.subject_claim, &token.subject);
        let Some(workload) = rules.workload() else {
            return Outcome::Unauthorized(NO_AUTHORIZER);
        };
        let denials = match self.denials.of(&*self.store, user, self.clock.elapsed()).await {
            Ok(denials) => denials,
            Err(error) => return Outcome::Unavailable(error.to_string()),
        };
        match denies(denials.of(workload), token.issued_at, token.auth_time) {
            None => {}
            Some(denied @ Denied::Blocked) => return Outcome::Forbidden(denied.as_str()),
            Some(denied @ Denied::SignedOut) => return Outcome::Unauthorized(denied.as_str()),
        }
        match self.mint(&agent, workload, rules.epoch(), user, &passed).await {
            Ok(workload_token) => Outcome::Allowed(Self::session(agent, user, passed, workload_token)),
            Err(error) => Outcome::Unavailable(error.to_string()),
        }
    }

    /// The workload access token that the authorizer issues, if it does: as good as the user's token is now (D16, D20).
    async fn mint(
        &self,
        agent: &WorkloadName,
        workload: Id<Workload>,
        epoch: u32,
        user: UserKey,
        passed: &Passed<'_>,
    ) -> Result<Option<Secret>, SealError> {
        let (Some(minting), Some(key)) = (&self.minting, &passed.authorizer.minting_key) else {
            return Ok(None);
        };
        let token = &passed.claims.token;
        let user = WatUser {
            key: user,
            issuer: Some(token.issuer.clone()),
            expires_at: Some(token.expires_at),
            signed_in_at: token.signed_in_at(),
        };
        let claims = WatClaims::issue(&*minting.random, self.clock.now(), workload, epoch, Some(user));
        let plaintext =
            serde_json::to_vec(&claims).map_err(|error| SealError::KeyUnavailable(error.to_string()))?;
        let owner = KeyOwner { workload, purpose: KeyPurpose::Mint };
        let context = MintedWat::context(key.id, agent);
        let sealed = minting.keys.seal(owner, key, &context, &plaintext).await?;
        let minted = MintedWat { key: key.id, agent: agent.clone(), sealed: &sealed };
        Ok(Some(Secret::new(encoding::base64url(minted.to_bytes()))))
    }

    fn user_key(&self, issuer: &str, subject_claim: &str, subject: &str) -> UserKey {
        let name = UserName::Jwt {
            issuer: issuer.to_owned(),
            subject_claim: subject_claim.to_owned(),
            subject: subject.to_owned(),
        };
        name.key(&*self.digest)
    }

    fn session(
        agent: WorkloadName,
        user_key: UserKey,
        passed: Passed<'_>,
        workload_token: Option<Secret>,
    ) -> VerifiedSession {
        let Passed { claims, authorizer } = passed;
        let azp = claims.authorized_party.filter(|_| authorizer.options.azp_as_client);
        VerifiedSession {
            agent,
            authorizer: authorizer.name.clone(),
            user_key,
            issuer: claims.token.issuer,
            subject: claims.token.subject,
            scopes: claims.scopes,
            client_id: claims.client_id.or(azp),
            expires_at: claims.token.expires_at,
            workload_token,
        }
    }
}
