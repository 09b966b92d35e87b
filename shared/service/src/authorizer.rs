//! Use cases on authorizers: the inbound rules of agents.
//!
//! An authorizer stands under its agent's name, so that who has the name only can read all of them at once. It belongs to the
//! workload of that name all the same (D9): putting one writes the workload's row too, and deleting the workload deletes them,
//! each in one transaction, so that whichever of the two comes second sees the other.

use agent_identity_core::authorizer::{Authorizer, AuthorizerOptions, CustomJwtAuthorizer, MAX_AUTHORIZERS};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Action, Authorized, Role};
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::store::{Condition, Consistency, Kind, Query, StoreError};
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, Result, WorkloadName};

use crate::Services;
use crate::directory::ATTEMPTS;
use crate::page::{Page, PageRequest};

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

fn not_found(agent: &WorkloadName, name: &AuthorizerName) -> Error {
    Error::new(ErrorKind::NotFound, format!("the agent `{agent}` has no authorizer named `{name}`"))
}

impl Services {
    /// Makes an authorizer of an agent, or replaces it whole. Gives its version, which moves with each change. It holds
    /// everywhere within 30 seconds.
    ///
    /// # Errors
    /// `NotFound` for an unknown workload; `Quota` beyond [`MAX_AUTHORIZERS`]; `Conflict` when others keep writing.
    pub async fn put_authorizer(&self, authorized: Authorized<'_, PutAuthorizer>) -> Result<u64> {
        let PutAuthorizer { agent, name, configuration, options } = authorized.into_action();
        let key = Authorizer::key(&agent, &name);
        for _ in 0..ATTEMPTS {
            let workload = self.by_name::<Workload>(agent.as_str(), Consistency::Strong).await?;
            let others = self.authorizers_after(&agent, None, MAX_AUTHORIZERS).await?;
            let before = others.iter().find(|other| other.key == key);
            if before.is_none() && others.len() >= MAX_AUTHORIZERS {
                return Err(Error::new(
                    ErrorKind::Quota,
                    format!("an agent has at most {MAX_AUTHORIZERS} authorizers; delete one first"),
                ));
            }
            let now = self.now();
            let after = Authorizer {
                workload: workload.value.id,
                agent: agent.clone(),
                name: name.clone(),
                configuration: configuration.clone(),
                options: options.clone(),
                created_at: before.map_or(now, |before| before.value.created_at),
                updated_at: now,
            };
            let (condition, version) = match before {
                Some(before) => (Condition::Version(before.version), before.version.saturating_add(1)),
                None => (Condition::Absent, 1),
            };
            // The workload stays as it is; its row's version moves, and so a deletion that did not see this one begins again.
            let writes = vec![
                workload.replace(&workload.value, None, None)?,
                record::put(key.clone(), condition, &after, None, None)?,
            ];
            match self.ports.store.write(writes).await {
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    self.caches.agent_rules.forget(&agent).await;
                    return Ok(version);
                }
            }
        }
        Err(StoreError::Conflict(0).into())
    }

    /// Reads an authorizer, with its version.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_authorizer(
        &self,
        authorized: Authorized<'_, GetAuthorizer>,
    ) -> Result<Stored<Authorizer>> {
        let GetAuthorizer { agent, name } = authorized.action();
        self.authorizer(agent, name).await
    }

    /// Deletes an authorizer. **Without any, the agent is open again to whom the deployment trusts**; the authorizer function
    /// lets nobody pass then.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when others keep writing.
    pub async fn delete_authorizer(&self, authorized: Authorized<'_, DeleteAuthorizer>) -> Result<()> {
        let DeleteAuthorizer { agent, name } = authorized.action();
        for _ in 0..ATTEMPTS {
            let stored = self.authorizer(agent, name).await?;
            match self.ports.store.write(vec![stored.delete()]).await {
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
    ) -> Result<Page<Stored<Authorizer>>> {
        const OPERATION: &str = ListAuthorizers::OPERATION;
        let ListAuthorizers { agent, page } = authorized.action();
        self.id_of::<Workload>(agent.as_str(), Consistency::Strong).await?;
        let after = self.page_start(OPERATION, page).await?;
        let mut items = self.authorizers_after(agent, after, page.max_results.saturating_add(1)).await?;
        let more = items.len() > page.max_results;
        items.truncate(page.max_results);
        let next_token = match items.last() {
            Some(last) if more => Some(self.page_end(OPERATION, &last.key.sort).await?),
            _ => None,
        };
        Ok(Page { items, next_token })
    }

    async fn authorizer(&self, agent: &WorkloadName, name: &AuthorizerName) -> Result<Stored<Authorizer>> {
        let key = Authorizer::key(agent, name);
        let stored = record::get(&*self.ports.store, &key, Consistency::Strong).await?;
        stored.ok_or_else(|| not_found(agent, name))
    }

    async fn authorizers_after(
        &self,
        agent: &WorkloadName,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<Stored<Authorizer>>> {
        let query = Query { kind: Kind::Authorizer, partition: agent.as_str().to_owned(), after, limit };
        self.ports.store.query(query).await?.iter().map(record::parse).collect()
    }
}
