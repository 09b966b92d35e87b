//! Authorizers: whose tokens may speak to one agent (`design.md` 9, D4).
//!
//! The configuration is AWS's `customJWTAuthorizer`, held as it is. An agent may have several authorizers; a token must pass
//! one of them. Within one, **everything that is configured must hold**.

mod discovery_url;
mod judge;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::issuer::{Algorithm, LEEWAY, TokenProfile, VerifiedClaims, default_subject_claim};
use crate::name::AuthorizerName;
use crate::store::{Key, Kind};
use crate::workload::Workload;
use crate::{Id, Timestamp, WorkloadName};

pub use discovery_url::DiscoveryUrl;
pub use judge::{AgentRules, Passed, Refused};

/// Most authorizers of one agent: they are read, and judged, together.
pub const MAX_AUTHORIZERS: usize = 10;

/// The authorizers of one agent, as they are stored: in one row, so that who has the agent's name only reads them in one get,
/// or beside other rows in one batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentAuthorizers {
    /// The workload that they are for: a workload made anew under the name inherits nothing (D9).
    pub workload: Id<Workload>,
    /// One at least, by name.
    pub authorizers: Vec<Authorizer>,
}

impl AgentAuthorizers {
    /// Where those of an agent are stored.
    pub fn key(agent: &WorkloadName) -> Key {
        Key::single(Kind::Authorizer, agent.as_str())
    }

    /// The one with this name.
    pub fn get(&self, name: &AuthorizerName) -> Option<&Authorizer> {
        self.authorizers.iter().find(|authorizer| authorizer.name == *name)
    }

    /// Puts one in the place of the one with its name, or among the others.
    pub fn put(&mut self, authorizer: Authorizer) {
        self.authorizers.retain(|other| other.name != authorizer.name);
        let place = self.authorizers.partition_point(|other| other.name < authorizer.name);
        self.authorizers.insert(place, authorizer);
    }
}

/// One authorizer of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorizer {
    /// Its name among those of the agent.
    pub name: AuthorizerName,
    /// Moves by one with each change; the first is 1.
    pub version: u64,
    /// The claim that names the users of its issuer (D10), as the issuer's record has it.
    #[serde(default = "default_subject_claim")]
    pub subject_claim: String,
    /// AWS's part.
    pub configuration: CustomJwtAuthorizer,
    /// Ours.
    pub options: AuthorizerOptions,
    /// When it was first stored.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// `customJWTAuthorizer`, as far as it is supported. A member that a later release adds makes this one refuse the record:
/// a rule that is not understood must not be left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CustomJwtAuthorizer {
    /// Whose tokens.
    pub discovery_url: DiscoveryUrl,
    /// Of which the `aud` claim must have one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_audience: Vec<String>,
    /// Of which the `client_id` claim must be one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_clients: Vec<String>,
    /// Of which the token must have **all**. AWS does not say whether all or any; this is the one that fails closed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_scopes: Vec<String>,
}

/// What AWS's shape has no member for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizerOptions {
    /// In place of [`LEEWAY`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leeway_seconds: Option<u32>,
    /// The `typ` header that a token must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub required_typ: Option<String>,
    /// Whether `azp` names the client too: for issuers that write no `client_id`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub azp_as_client: bool,
    /// Accepted algorithms; empty means every [`Algorithm`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<Algorithm>,
    /// How long after its `iat` a token is good, at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_token_age_seconds: Option<u32>,
    /// The claim that names the users of the issuer (D10), where it is another than `sub`. It is the issuer's rather than this
    /// authorizer's: whoever names the issuer first decides it, and nobody changes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject_claim: Option<String>,
}

/// Why a genuine token may not speak to this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The agent has no authorizer: default deny.
    NoAuthorizer,
    /// The authorizer has no rule, which no release writes: default deny.
    NoRule,
    /// None of its audiences is allowed.
    Audience,
    /// Its client is not allowed, or it names none.
    Client,
    /// It lacks a scope.
    Scope,
}

impl Denial {
    /// The stable code, for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoAuthorizer => "no_authorizer",
            Self::NoRule => "no_rule",
            Self::Audience => "audience",
            Self::Client => "client",
            Self::Scope => "scope",
        }
    }

    /// What is wrong, for who may know.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoAuthorizer => "the agent has no authorizer",
            Self::NoRule => "the authorizer names neither an audience nor a client nor a scope",
            Self::Audience => "its `aud` is none that the authorizer allows",
            Self::Client => "its client is none that the authorizer allows",
            Self::Scope => "it lacks a scope that the authorizer asks for",
        }
    }
}

impl Authorizer {
    /// What a token must be before [`Authorizer::check`].
    pub fn profile(&self) -> TokenProfile {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        TokenProfile {
            issuers: self.configuration.discovery_url.issuers().to_vec(),
            algorithms: self.options.algorithms.clone(),
            typ: self.options.required_typ.clone(),
            subject_claim: self.subject_claim.clone(),
            leeway: self.options.leeway_seconds.map_or(LEEWAY, seconds),
            max_age: self.options.max_token_age_seconds.map(seconds),
        }
    }

    /// The rules on verified claims, in their fixed order: audience, client, scope.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self, claims: &VerifiedClaims) -> Result<(), Denial> {
        let CustomJwtAuthorizer { allowed_audience, allowed_clients, allowed_scopes, .. } =
            &self.configuration;
        if allowed_audience.is_empty() && allowed_clients.is_empty() && allowed_scopes.is_empty() {
            return Err(Denial::NoRule);
        }
        let has_audience = claims.audiences.iter().any(|audience| allowed_audience.contains(audience));
        if !allowed_audience.is_empty() && !has_audience {
            return Err(Denial::Audience);
        }
        if !allowed_clients.is_empty() && !self.is_for_client(claims) {
            return Err(Denial::Client);
        }
        if !allowed_scopes.iter().all(|scope| claims.scopes.contains(scope)) {
            return Err(Denial::Scope);
        }
        Ok(())
    }

    /// Whether every client that the token names is allowed: `client_id` and `azp` that differ are not ours to choose from.
    fn is_for_client(&self, claims: &VerifiedClaims) -> bool {
        let azp = claims.authorized_party.as_ref().filter(|_| self.options.azp_as_client);
        let mut named = claims.client_id.iter().chain(azp).peekable();
        named.peek().is_some() && named.all(|client| self.configuration.allowed_clients.contains(client))
    }
}
