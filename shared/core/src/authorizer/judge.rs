//! All authorizers of an agent against one token: default deny, and one of them must pass.

use super::{Authorizer, Denial, MAX_AUTHORIZERS};
use crate::issuer::{
    TokenProfile, TokenRefused, TokenVerifier, TrustedIssuer, VerifiedClaims, default_subject_claim,
};
use crate::record;
use crate::store::{Kind, Query, Store};
use crate::{Result, Secret, WorkloadName};

/// The authorizers of one agent, ready to judge.
#[derive(Clone, Debug, Default)]
pub struct AgentRules {
    authorizers: Vec<Authorizer>,
    /// At the same places.
    pub(super) profiles: Vec<TokenProfile>,
}

/// A token that one of them lets pass.
#[derive(Clone, Debug)]
pub struct Passed<'a> {
    /// What it says.
    pub claims: VerifiedClaims,
    /// Which of them.
    pub authorizer: &'a Authorizer,
}

/// Why none of them does.
#[derive(Clone, Debug)]
pub enum Refused {
    /// The token is not genuine, not of an issuer that any of them names, or not valid now.
    Token(TokenRefused),
    /// The token is genuine, and not for this agent. Of several authorizers, the first one's reason.
    Denied(Denial),
}

impl AgentRules {
    /// From the authorizers. Who a user is must not depend on which way their token came in (D10): an issuer's subject claim is
    /// the one of its record among `issuers`, and `sub` where it has none.
    pub fn new(authorizers: Vec<Authorizer>, issuers: &[TrustedIssuer]) -> Self {
        let profile = |authorizer: &Authorizer| {
            let names = authorizer.configuration.discovery_url.issuers();
            let record = issuers.iter().find(|record| names.contains(&record.issuer));
            let claim = record.map_or_else(default_subject_claim, |record| record.subject_claim.clone());
            authorizer.profile(&claim)
        };
        let profiles = authorizers.iter().map(profile).collect();
        Self { authorizers, profiles }
    }

    /// Reads those of an agent, in one query that sees every write before it.
    ///
    /// # Errors
    /// Those of the store; `Internal` for a record that this release does not understand.
    pub async fn read(store: &dyn Store, agent: &WorkloadName, issuers: &[TrustedIssuer]) -> Result<Self> {
        let query = Query {
            kind: Kind::Authorizer,
            partition: agent.as_str().to_owned(),
            after: None,
            limit: MAX_AUTHORIZERS,
        };
        let rows = store.query(query).await?;
        let authorizers =
            rows.iter().map(|row| Ok(record::parse(row)?.value)).collect::<Result<Vec<Authorizer>>>()?;
        Ok(Self::new(authorizers, issuers))
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.authorizers.is_empty()
    }

    /// Lets a token pass, or not.
    ///
    /// # Errors
    /// [`Refused`].
    pub async fn judge(&self, verifier: &dyn TokenVerifier, token: &Secret) -> Result<Passed<'_>, Refused> {
        if self.is_empty() {
            return Err(Refused::Denied(Denial::NoAuthorizer));
        }
        let claims = verifier.verify_claims(token, &self.profiles).await.map_err(Refused::Token)?;
        let mut denial = None;
        for authorizer in claims.met.iter().filter_map(|place| self.authorizers.get(*place)) {
            match authorizer.check(&claims) {
                Ok(()) => return Ok(Passed { claims, authorizer }),
                Err(refusal) => {
                    denial.get_or_insert(refusal);
                }
            }
        }
        Err(Refused::Denied(denial.unwrap_or(Denial::NoAuthorizer)))
    }
}
