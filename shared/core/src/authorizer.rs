//! Authorizers: whose tokens may speak to one agent (`design.md` 9, D4).
//!
//! The configuration is AWS's `customJWTAuthorizer`, held as it is. An agent may have several authorizers; a token must pass
//! one of them. Within one, **everything that is configured must hold**.

mod custom_claim;
mod discovery_url;
mod introspection;
mod judge;
mod key;
pub mod preset;
mod resource;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::issuer::{Algorithm, LEEWAY, TokenProfile, VerifiedClaims, default_subject_claim};
use crate::name::AuthorizerName;
use crate::store::{Key, Kind};
use crate::workload::Workload;
use crate::{Id, Timestamp, WorkloadName};

pub use custom_claim::{
    AuthorizingClaimMatchValue, ClaimMatchOperator, ClaimMatchValue, ClaimValueType, CustomClaim,
};
pub use discovery_url::DiscoveryUrl;
pub use introspection::{
    Introspection, IntrospectionAuthentication, IntrospectionEndpoint, IntrospectionSecret,
};
pub use judge::{AgentRules, Explained, Passed, Refused};
pub use key::{AuthorizerKey, AuthorizerKeyId, KeyOwner, KeyPurpose};
pub use resource::Protection;

/// Most authorizers of one agent: they are read, and judged, together.
pub const MAX_AUTHORIZERS: usize = 10;

/// The authorizers of one agent, as they are stored: in one row, so that who has the agent's name only reads them in one get,
/// or beside other rows in one batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentAuthorizers {
    /// The workload that they are for: a workload made anew under the name inherits nothing (D9).
    pub workload: Id<Workload>,
    /// The workload's epoch, which goes into the workload access tokens that they issue. Whatever moves it, moves it here too.
    pub epoch: u32,
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

/// The most that clocks may be said to differ: RFC 7519 §4.1.4 speaks of a few minutes.
pub const MAX_LEEWAY: Duration = Duration::from_secs(300);

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
    /// What it seals the workload access tokens with that it issues ([`AuthorizerOptions::issues_workload_access_token`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minting_key: Option<AuthorizerKey>,
    /// The client's secret of [`AuthorizerOptions::introspection`], sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection_secret: Option<IntrospectionSecret>,
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
    /// All of which must hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub custom_claims: Vec<CustomClaim>,
    /// By which names clients are told to ask for the scopes (RFC 9728 §2, RFC 6750 §3): from an allowed scope to what is
    /// advertised in its place. No rule.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub advertised_scope_mapping: BTreeMap<String, String>,
    /// Which workloads may call. No user's token proves that, so nothing passes it yet (ADR 0021).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_workload_configuration: Option<AllowedWorkloadConfiguration>,
}

impl CustomJwtAuthorizer {
    /// Whether at least one of the rules is there of which AWS asks for one: an issuer alone is not enough (D4).
    pub const fn has_rule(&self) -> bool {
        !(self.allowed_audience.is_empty()
            && self.allowed_clients.is_empty()
            && self.allowed_scopes.is_empty()
            && self.custom_claims.is_empty())
    }
}

/// `allowedWorkloadConfiguration`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AllowedWorkloadConfiguration {
    /// Where they run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosting_environments: Vec<HostingEnvironment>,
    /// Their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub workload_identities: Vec<String>,
}

/// An entry of `hostingEnvironments`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostingEnvironment {
    /// Its ARN.
    pub arn: String,
}

/// What AWS's shape has no member for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizerOptions {
    /// In place of [`LEEWAY`]; [`MAX_LEEWAY`] at most.
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
    /// Whether the verified session carries a workload access token of the agent for the user, so that the API behind the
    /// authorizer can go straight to the data plane.
    #[serde(default, rename = "issueWorkloadAccessToken", skip_serializing_if = "std::ops::Not::not")]
    pub issues_workload_access_token: bool,
    /// Whom to ask about tokens that are no JWTs; nobody where it is not set, and then they do not pass. One authorizer of an agent
    /// at most has it: a bearer token must not be shown to an issuer that it is not of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection: Option<Introspection>,
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
    /// It lacks a claim, or the claim is of another form or says something else.
    Claim,
    /// Only some workloads may call, and a user's token proves none.
    Workload,
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
            Self::Claim => "claim",
            Self::Workload => "workload",
        }
    }

    /// What is wrong, for who may know.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::NoAuthorizer => "the agent has no authorizer",
            Self::NoRule => "the authorizer names neither an audience nor a client nor a scope nor a claim",
            Self::Audience => "its `aud` is none that the authorizer allows",
            Self::Client => "its client is none that the authorizer allows",
            Self::Scope => "it lacks a scope that the authorizer asks for",
            Self::Claim => {
                "a claim that the authorizer asks for is missing, of another form, or says something else"
            }
            Self::Workload => "the authorizer lets only some workloads call, and a user's token proves none",
        }
    }
}

/// One of the rules of an authorizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule<'a> {
    /// `allowedAudience`.
    Audience,
    /// `allowedClients`.
    Client,
    /// `allowedScopes`.
    Scope,
    /// An entry of `customClaims`.
    Claim(&'a CustomClaim),
    /// `allowedWorkloadConfiguration`.
    Workload,
}

impl Rule<'_> {
    /// What a token is refused with that breaks it.
    pub const fn denial(self) -> Denial {
        match self {
            Self::Audience => Denial::Audience,
            Self::Client => Denial::Client,
            Self::Scope => Denial::Scope,
            Self::Claim(_) => Denial::Claim,
            Self::Workload => Denial::Workload,
        }
    }
}

/// The member of `customJWTAuthorizer` that it is.
impl fmt::Display for Rule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audience => f.write_str("allowedAudience"),
            Self::Client => f.write_str("allowedClients"),
            Self::Scope => f.write_str("allowedScopes"),
            Self::Claim(claim) => write!(f, "customClaims {}", claim.inbound_token_claim_name),
            Self::Workload => f.write_str("allowedWorkloadConfiguration"),
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
            leeway: self.options.leeway_seconds.map_or(LEEWAY, seconds).min(MAX_LEEWAY),
            max_age: self.options.max_token_age_seconds.map(seconds),
            claims: self
                .configuration
                .custom_claims
                .iter()
                .map(|it| it.inbound_token_claim_name.clone())
                .collect(),
        }
    }

    /// What is configured, in the fixed order in which it is looked at.
    pub fn rules(&self) -> impl Iterator<Item = Rule<'_>> {
        let rules = &self.configuration;
        [
            (!rules.allowed_audience.is_empty()).then_some(Rule::Audience),
            (!rules.allowed_clients.is_empty()).then_some(Rule::Client),
            (!rules.allowed_scopes.is_empty()).then_some(Rule::Scope),
        ]
        .into_iter()
        .flatten()
        .chain(rules.custom_claims.iter().map(Rule::Claim))
        .chain(rules.allowed_workload_configuration.as_ref().map(|_| Rule::Workload))
    }

    /// Whether verified claims keep one rule.
    pub fn holds(&self, rule: Rule<'_>, claims: &VerifiedClaims) -> bool {
        let rules = &self.configuration;
        match rule {
            Rule::Audience => claims.audiences.iter().any(|it| rules.allowed_audience.contains(it)),
            Rule::Client => self.is_for_client(claims),
            Rule::Scope => rules.allowed_scopes.iter().all(|scope| claims.scopes.contains(scope)),
            Rule::Claim(claim) => claim.holds(claims),
            // Which workloads an agent was called by, one after the other, no user's token says.
            Rule::Workload => false,
        }
    }

    /// The rules on verified claims, in their fixed order: audience, client, scope, claims, workload.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self, claims: &VerifiedClaims) -> Result<(), Denial> {
        if !self.configuration.has_rule() {
            return Err(Denial::NoRule);
        }
        match self.rules().find(|rule| !self.holds(*rule, claims)) {
            Some(broken) => Err(broken.denial()),
            None => Ok(()),
        }
    }

    /// Whether every client that the token names is allowed: `client_id` and `azp` that differ are not ours to choose from.
    fn is_for_client(&self, claims: &VerifiedClaims) -> bool {
        let azp = claims.authorized_party.as_ref().filter(|_| self.options.azp_as_client);
        let mut named = claims.client_id.iter().chain(azp).peekable();
        named.peek().is_some() && named.all(|client| self.configuration.allowed_clients.contains(client))
    }
}
