//! Use cases on authorizers: the inbound rules of agents.
//!
//! The authorizers of an agent are one row under its name, so that who has the name only reads all of them at once. They belong
//! to the workload of that name all the same (D9): putting one writes the workload's row too, and deleting the workload deletes
//! them, each in one transaction, so that whichever of the two comes second sees the other.

use agent_identity_core::authorizer::{
    AgentAuthorizers, AgentRules, Authorizer, AuthorizerKey, AuthorizerOptions, CustomJwtAuthorizer, Denial,
    Explained, KeyOwner, KeyPurpose, MAX_AUTHORIZERS, Protection, Rule,
};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Action, Authorized, Role};
use agent_identity_core::issuer::{
    IssuerRecord, TokenRefused, TrustedIssuer, VerifiedToken, settle_subject_claim,
};
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::seal::AuthorizerKeys;
use agent_identity_core::store::{Condition, Consistency, MAX_VALUE_BYTES, StoreError};
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, Id, Result, Secret, WorkloadName};

use crate::Services;
use crate::directory::ATTEMPTS;
use crate::page::{Page, PageRequest};

mod introspection;

macro_rules! on_agent {
    ($type:ty, $operation:literal) => {
        impl Action for $type {
            const OPERATION: &'static str = $operation;

            fn role(&self) -> Role {
                Role::Admin
            }

            fn workload(&self) -> Option<&WorkloadName> {
                Some(&self.agent)
            }
        }
    };
}

/// Makes or replaces an authorizer.
#[derive(Clone, Debug)]
pub struct PutAuthorizer {
    /// Whose.
    pub agent: WorkloadName,
    /// Its name among those of the agent.
    pub name: AuthorizerName,
    /// AWS's part.
    pub configuration: CustomJwtAuthorizer,
    /// Ours.
    pub options: AuthorizerOptions,
}
on_agent!(PutAuthorizer, "PutAuthorizer");

/// Reads an authorizer.
#[derive(Clone, Debug)]
pub struct GetAuthorizer {
    /// Whose.
    pub agent: WorkloadName,
    /// Its name.
    pub name: AuthorizerName,
}
on_agent!(GetAuthorizer, "GetAuthorizer");

/// Deletes an authorizer.
#[derive(Clone, Debug)]
pub struct DeleteAuthorizer {
    /// Whose.
    pub agent: WorkloadName,
    /// Its name.
    pub name: AuthorizerName,
}
on_agent!(DeleteAuthorizer, "DeleteAuthorizer");

/// Lists the authorizers of an agent.
#[derive(Clone, Debug)]
pub struct ListAuthorizers {
    /// Whose.
    pub agent: WorkloadName,
    /// Which page.
    pub page: PageRequest,
}
on_agent!(ListAuthorizers, "ListAuthorizers");

/// Asks what the authorizers of an agent say of a token.
#[derive(Clone, Debug)]
pub struct ExplainToken {
    /// Whose.
    pub agent: WorkloadName,
    /// The user's token.
    pub token: Secret,
}
on_agent!(ExplainToken, "ExplainToken");

/// What one authorizer says of a token.
#[derive(Clone, Debug)]
pub struct TokenExplained {
    /// The authorizer's name.
    pub authorizer: AuthorizerName,
    /// Whether it lets the token pass.
    pub passes: bool,
    /// What the token says, or the code and the reason of its refusal before any rule.
    pub token: Result<VerifiedToken, (&'static str, String)>,
    /// Its rules, in the order in which they are looked at.
    pub rules: Vec<RuleExplained>,
}

/// Whether a token keeps a rule.
#[derive(Clone, Debug)]
pub struct RuleExplained {
    /// The member of the configuration.
    pub rule: String,
    /// Whether it does.
    pub holds: bool,
    /// With what it is refused otherwise.
    pub denial: Denial,
}

/// Why an authorizer cannot have a key of its own here.
const fn no_root_key(purpose: KeyPurpose) -> &'static str {
    match purpose {
        KeyPurpose::Mint => {
            "needs a root key for authorizers, which this deployment does not have: deploy it with AuthorizerMintsWat=true"
        }
        KeyPurpose::Introspection => {
            "needs a root key for authorizers, which this deployment does not have: deploy it with AuthorizerIntrospects=true"
        }
    }
}

fn not_found(agent: &WorkloadName, name: &AuthorizerName) -> Error {
    Error::new(ErrorKind::NotFound, format!("the agent `{agent}` has no authorizer named `{name}`"))
}

impl Services {
    /// Makes an authorizer of an agent, or replaces it whole. Gives its version, which moves with each change. It holds
    /// everywhere within 30 seconds.
    ///
    /// # Errors
    /// `NotFound` for an unknown workload; `Validation` when the issuer's users are known by another claim, when another authorizer
    /// of the agent introspects already, and for what needs a root key where there is none; `Quota` beyond
    /// [`MAX_AUTHORIZERS`], or when all of them together are too large to be kept; `Conflict` when others keep writing.
    pub async fn put_authorizer(&self, authorized: Authorized<'_, PutAuthorizer>) -> Result<u64> {
        let PutAuthorizer { agent, name, configuration, mut options } = authorized.into_action();
        let client_secret = options.introspection.as_mut().and_then(|it| it.client_secret.take());
        let issuer = configuration.discovery_url.issuer();
        for (is_asked, purpose, field) in [
            (options.issues_workload_access_token, KeyPurpose::Mint, "options.issueWorkloadAccessToken"),
            (options.introspection.is_some(), KeyPurpose::Introspection, "options.introspection"),
        ] {
            if is_asked && !self.ports.authorizer_keys.as_ref().is_some_and(|keys| keys.is_for(purpose)) {
                return Err(Error::field(field, no_root_key(purpose)));
            }
        }
        for _ in 0..ATTEMPTS {
            let workload = self.by_name::<Workload>(agent.as_str(), Consistency::Strong).await?;
            let stored = self.authorizers(&agent).await?;
            let mut all = stored.as_ref().map_or_else(
                || AgentAuthorizers {
                    workload: workload.value.id,
                    epoch: workload.value.epoch,
                    authorizers: Vec::new(),
                },
                |stored| stored.value.clone(),
            );
            let before = all.get(&name);
            if before.is_none() && all.authorizers.len() >= MAX_AUTHORIZERS {
                return Err(Error::new(
                    ErrorKind::Quota,
                    format!("an agent has at most {MAX_AUTHORIZERS} authorizers; delete one first"),
                ));
            }
            let known = self.issuer_record(&issuer, Consistency::Strong).await?;
            let asked = options.subject_claim.as_deref();
            let subject_claim = settle_subject_claim(&issuer, known.as_ref(), self.trusted_issuers(), asked)
                .map_err(|message| Error::field("options.subjectClaim", message))?;
            // A key that is there stays: a change of other settings ends no token.
            let minting_key = match before.and_then(|before| before.minting_key.clone()) {
                _ if !options.issues_workload_access_token => None,
                Some(key) => Some(key),
                None => Some(self.create_authorizer_key(workload.value.id, KeyPurpose::Mint).await?),
            };
            introspection::only_one(&all, &name, &options)?;
            let introspection_secret = self
                .seal_client_secret(
                    workload.value.id,
                    &name,
                    options.introspection.as_ref(),
                    client_secret.as_ref(),
                )
                .await?;
            let now = self.now();
            let version = before.map_or(1, |before| before.version.saturating_add(1));
            let authorizer = Authorizer {
                name: name.clone(),
                version,
                subject_claim: subject_claim.clone(),
                configuration: configuration.clone(),
                options: options.clone(),
                minting_key,
                introspection_secret,
                created_at: before.map_or(now, |before| before.created_at),
                updated_at: now,
            };
            all.put(authorizer);
            let condition = stored.map_or(Condition::Absent, |stored| Condition::Version(stored.version));
            // The workload stays as it is; its row's version moves, and so a deletion that did not see this one begins again.
            let mut writes = vec![
                workload.replace(&workload.value, None, None)?,
                record::put(AgentAuthorizers::key(&agent), condition, &all, None, None).map_err(too_large)?,
            ];
            if known.is_none() {
                let made = IssuerRecord {
                    issuer: issuer.clone(),
                    subject_claim,
                    discovery_url: configuration.discovery_url.clone(),
                    created_at: now,
                };
                writes.push(record::create(IssuerRecord::key(&issuer), &made, None)?);
            }
            match self.ports.store.write(writes).await {
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    self.caches.agent_rules.forget(&agent).await;
                    self.caches.subject_claims.forget(issuer.as_str()).await;
                    return Ok(version);
                }
            }
        }
        Err(StoreError::Conflict(0).into())
    }

    /// Reads an authorizer.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_authorizer(&self, authorized: Authorized<'_, GetAuthorizer>) -> Result<Authorizer> {
        let GetAuthorizer { agent, name } = authorized.action();
        let stored = self.authorizers(agent).await?;
        let found = stored.as_ref().and_then(|stored| stored.value.get(name));
        found.cloned().ok_or_else(|| not_found(agent, name))
    }

    /// Deletes an authorizer. **Without any, the agent is open again to whom the deployment trusts**; the authorizer function
    /// lets nobody pass then.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when others keep writing.
    pub async fn delete_authorizer(&self, authorized: Authorized<'_, DeleteAuthorizer>) -> Result<()> {
        let DeleteAuthorizer { agent, name } = authorized.action();
        for _ in 0..ATTEMPTS {
            let stored = self.authorizers(agent).await?.filter(|stored| stored.value.get(name).is_some());
            let stored = stored.ok_or_else(|| not_found(agent, name))?;
            let mut left = stored.value.clone();
            left.authorizers.retain(|authorizer| authorizer.name != *name);
            let write = if left.authorizers.is_empty() {
                stored.delete()
            } else {
                stored.replace(&left, None, None)?
            };
            match self.ports.store.write(vec![write]).await {
                Err(StoreError::Conflict(_)) => {}
                Err(error) if !self.is_gone_after(&error, &stored.key).await => return Err(error.into()),
                _ => {
                    self.caches.agent_rules.forget(agent).await;
                    return Ok(());
                }
            }
        }
        Err(StoreError::Conflict(0).into())
    }

    /// Lists the authorizers of an agent by name.
    ///
    /// # Errors
    /// `NotFound` for an unknown workload; `Validation` on `nextToken`.
    pub async fn list_authorizers(
        &self,
        authorized: Authorized<'_, ListAuthorizers>,
    ) -> Result<Page<Authorizer>> {
        const OPERATION: &str = ListAuthorizers::OPERATION;
        let ListAuthorizers { agent, page } = authorized.action();
        self.id_of::<Workload>(agent.as_str(), Consistency::Strong).await?;
        let after = self.page_start(OPERATION, page).await?;
        let mut items = self.authorizers(agent).await?.map_or_else(Vec::new, |it| it.value.authorizers);
        items.retain(|item| after.as_deref().is_none_or(|after| item.name.as_str() > after));
        self.page_of(OPERATION, page, items, |item| item.name.as_str().to_owned()).await
    }

    /// What each authorizer of an agent says of a token, for who looks for the cause. Nothing is issued, and nobody is let in.
    ///
    /// # Errors
    /// `NotFound` for an unknown workload.
    pub async fn explain_token(
        &self,
        authorized: Authorized<'_, ExplainToken>,
    ) -> Result<Vec<TokenExplained>> {
        let ExplainToken { agent, token } = authorized.action();
        self.id_of::<Workload>(agent.as_str(), Consistency::Strong).await?;
        let rules =
            AgentRules::read(&*self.ports.store, agent, self.trusted_issuers(), Consistency::Strong).await?;
        let explained = rules.explain(&*self.ports.verifier, token).await;
        Ok(explained.into_iter().map(TokenExplained::from).collect())
    }

    /// The record of an issuer that some authorizer names.
    pub(crate) async fn issuer_record(
        &self,
        issuer: &str,
        consistency: Consistency,
    ) -> Result<Option<IssuerRecord>> {
        let stored = record::get(&*self.ports.store, &IssuerRecord::key(issuer), consistency).await?;
        Ok(stored.map(|stored: Stored<IssuerRecord>| stored.value))
    }

    /// The issuers that the deployment names, if it names any.
    pub(crate) fn trusted_issuers(&self) -> &[TrustedIssuer] {
        self.config.issuers.trusted()
    }

    async fn create_authorizer_key(
        &self,
        workload: Id<Workload>,
        purpose: KeyPurpose,
    ) -> Result<AuthorizerKey> {
        Ok(self.authorizer_keys()?.create(KeyOwner { workload, purpose }).await?)
    }

    /// How an agent is protected, for clients that have no token yet; `None` for one that has no authorizer, or is not there.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn protection(&self, agent: &WorkloadName) -> Result<Option<Protection>> {
        let stored: Option<Stored<AgentAuthorizers>> =
            record::get(&*self.ports.store, &AgentAuthorizers::key(agent), Consistency::Eventual).await?;
        Ok(stored.and_then(|stored| Protection::of(&stored.value.authorizers)))
    }

    fn authorizer_keys(&self) -> Result<&dyn AuthorizerKeys> {
        let keys = self.ports.authorizer_keys.as_deref();
        keys.ok_or_else(|| Error::internal("there is no root key for authorizers"))
    }

    async fn authorizers(&self, agent: &WorkloadName) -> Result<Option<Stored<AgentAuthorizers>>> {
        record::get(&*self.ports.store, &AgentAuthorizers::key(agent), Consistency::Strong).await
    }
}

impl From<Explained<'_>> for TokenExplained {
    fn from(explained: Explained<'_>) -> Self {
        let passes = explained.passes();
        let rule = |(rule, holds): (Rule<'_>, bool)| RuleExplained {
            rule: rule.to_string(),
            holds,
            denial: rule.denial(),
        };
        Self {
            authorizer: explained.authorizer.name.clone(),
            passes,
            rules: explained.rules.into_iter().map(rule).collect(),
            token: explained.token.map_err(|refused| match refused {
                TokenRefused::Invalid { code, reason } => (code, reason),
                unavailable @ TokenRefused::KeysUnavailable(_) => {
                    ("keys_unavailable", unavailable.to_string())
                }
                unavailable @ TokenRefused::IssuerUnavailable(_) => {
                    ("issuer_unavailable", unavailable.to_string())
                }
            }),
        }
    }
}

/// All authorizers of an agent are one row, and it has a size.
fn too_large(error: Error) -> Error {
    if error.kind() != ErrorKind::Validation {
        return error;
    }
    Error::new(
        ErrorKind::Quota,
        format!(
            "the authorizers of an agent have at most {MAX_VALUE_BYTES} bytes together, as stored; shorten their lists, or delete one"
        ),
    )
}
