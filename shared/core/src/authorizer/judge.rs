//! All authorizers of an agent against one token: default deny, and one of them must pass.

use super::{AgentAuthorizers, Authorizer, AuthorizerKey, AuthorizerKeyId, Denial, Rule};
use crate::issuer::{
    TokenProfile, TokenRefused, TokenVerifier, TrustedIssuer, VerifiedClaims, VerifiedToken, has_jwt_form,
    without_slash,
};
use crate::record;
use crate::store::{Consistency, Key, Row, Store};
use crate::workload::Workload;
use crate::{Id, Result, Secret, WorkloadName};

/// The authorizers of one agent, ready to judge.
#[derive(Clone, Debug, Default)]
pub struct AgentRules {
    workload: Option<Id<Workload>>,
    epoch: u32,
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

/// What one authorizer says of a token, rule by rule.
#[derive(Clone, Debug)]
pub struct Explained<'a> {
    /// Which of them.
    pub authorizer: &'a Authorizer,
    /// Whether the token is genuine, of its issuer and valid now: only then do rules count.
    pub token: Result<VerifiedToken, TokenRefused>,
    /// Its rules in their order, and whether each holds.
    pub rules: Vec<(Rule<'a>, bool)>,
}

impl Explained<'_> {
    /// Whether it lets the token pass.
    pub fn passes(&self) -> bool {
        self.token.is_ok()
            && self.authorizer.configuration.has_rule()
            && self.rules.iter().all(|(_, holds)| *holds)
    }
}

impl AgentRules {
    /// From the authorizers. Who a user is must not depend on which way their token came in (D10): where the deployment has a
    /// record of the issuer among `issuers` that names another claim than the authorizer, no token passes it.
    pub fn new(authorizers: AgentAuthorizers, issuers: &[TrustedIssuer]) -> Self {
        let AgentAuthorizers { workload, epoch, authorizers } = authorizers;
        let profile = |authorizer: &Authorizer| {
            let mut profile = authorizer.profile();
            let differs = |record: &TrustedIssuer| {
                without_slash(&record.issuer) == authorizer.configuration.discovery_url.issuer()
                    && record.subject_claim != profile.subject_claim
            };
            if issuers.iter().any(differs) {
                profile.issuers.clear();
            }
            profile
        };
        let profiles = authorizers.iter().map(profile).collect();
        Self { workload: Some(workload), epoch, authorizers, profiles }
    }

    /// The row to read them from.
    pub fn key(agent: &WorkloadName) -> Key {
        AgentAuthorizers::key(agent)
    }

    /// From the row of [`AgentRules::key`]; without one the agent has none.
    ///
    /// # Errors
    /// `Internal` for a record that this release does not understand.
    pub fn of_row(row: Option<&Row>, issuers: &[TrustedIssuer]) -> Result<Self> {
        match row {
            Some(row) => Ok(Self::new(record::parse(row)?.value, issuers)),
            None => Ok(Self::default()),
        }
    }

    /// Reads those of an agent, in one get.
    ///
    /// # Errors
    /// Those of the store, and of [`AgentRules::of_row`].
    pub async fn read(
        store: &dyn Store,
        agent: &WorkloadName,
        issuers: &[TrustedIssuer],
        consistency: Consistency,
    ) -> Result<Self> {
        let row = store.get(&Self::key(agent), consistency).await?;
        Self::of_row(row.as_ref(), issuers)
    }

    /// The workload that they are for; `None` where there are none.
    pub const fn workload(&self) -> Option<Id<Workload>> {
        self.workload
    }

    /// The epoch of that workload.
    pub const fn epoch(&self) -> u32 {
        self.epoch
    }

    /// All of them, by name.
    pub fn authorizers(&self) -> &[Authorizer] {
        &self.authorizers
    }

    /// The key with this id with which one of them seals workload access tokens.
    pub fn minting_key(&self, id: Id<AuthorizerKeyId>) -> Option<&AuthorizerKey> {
        self.authorizers
            .iter()
            .filter_map(|authorizer| authorizer.minting_key.as_ref())
            .find(|key| key.id == id)
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
        let verified = match self.asking(token) {
            Some(place) => self.introspect(verifier, token, place).await,
            None => verifier.verify_claims(token, &self.profiles).await,
        };
        let claims = verified.map_err(Refused::Token)?;
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

    /// The place of the authorizer whose issuer is asked about this token, because nobody else can read it. A JWT is shown to
    /// nobody; nor is any token where it cannot be said of which of two issuers it is, which no release writes.
    fn asking(&self, token: &Secret) -> Option<usize> {
        let asks = |authorizer: &Authorizer| authorizer.options.introspection.is_some();
        let place = self.authorizers.iter().position(asks)?;
        let is_alone = self.authorizers.iter().filter(|it| asks(it)).count() == 1;
        (is_alone && !has_jwt_form(token.expose())).then_some(place)
    }

    async fn introspect(
        &self,
        verifier: &dyn TokenVerifier,
        token: &Secret,
        place: usize,
    ) -> Result<VerifiedClaims, TokenRefused> {
        let (Some(workload), Some(authorizer), Some(profile)) =
            (self.workload, self.authorizers.get(place), self.profiles.get(place))
        else {
            return Err(TokenRefused::IssuerUnavailable("there is no such authorizer".to_owned()));
        };
        let claims = verifier.introspect(token, workload, authorizer, profile).await?;
        Ok(VerifiedClaims { met: vec![place], ..claims })
    }

    /// What each of them says of a token, for who looks for the cause.
    pub async fn explain(&self, verifier: &dyn TokenVerifier, token: &Secret) -> Vec<Explained<'_>> {
        let mut all = Vec::new();
        let asking = self.asking(token);
        for (place, (authorizer, profile)) in self.authorizers.iter().zip(&self.profiles).enumerate() {
            let verified = if profile.issuers.is_empty() {
                Err(TokenRefused::Invalid {
                    code: "subject_claim",
                    reason: "the deployment's trusted issuers name another claim for the users of its issuer"
                        .to_owned(),
                })
            } else if asking == Some(place) {
                self.introspect(verifier, token, place).await
            } else {
                verifier.verify_claims(token, std::slice::from_ref(profile)).await
            };
            let (token, rules) = match verified {
                Ok(claims) => {
                    let rules =
                        authorizer.rules().map(|rule| (rule, authorizer.holds(rule, &claims))).collect();
                    (Ok(claims.token), rules)
                }
                Err(refused) => (Err(refused), Vec::new()),
            };
            all.push(Explained { authorizer, token, rules });
        }
        all
    }
}
