//! Use cases on workload identities.

use agent_identity_core::grant::{Action, Authorized, Role};
use agent_identity_core::store::Consistency;
use agent_identity_core::tag::Tags;
use agent_identity_core::workload::{ReturnUrl, Workload};
use agent_identity_core::{Id, Result, WorkloadName};

use crate::Services;
use crate::page::{Page, PageRequest};

macro_rules! on_workload {
    ($type:ty, $operation:literal) => {
        impl Action for $type {
            const OPERATION: &'static str = $operation;

            fn role(&self) -> Role {
                Role::Admin
            }

            fn workload(&self) -> Option<&WorkloadName> {
                Some(&self.name)
            }
        }
    };
}

/// Makes a workload identity.
#[derive(Clone, Debug)]
pub struct CreateWorkload {
    /// Its name.
    pub name: WorkloadName,
    /// Where consents may return to.
    pub return_urls: Vec<ReturnUrl>,
    /// Its tags.
    pub tags: Tags,
}
on_workload!(CreateWorkload, "CreateWorkloadIdentity");

/// Reads a workload identity.
#[derive(Clone, Debug)]
pub struct GetWorkload {
    /// Its name.
    pub name: WorkloadName,
}
on_workload!(GetWorkload, "GetWorkloadIdentity");

/// Changes a workload identity.
#[derive(Clone, Debug)]
pub struct UpdateWorkload {
    /// Its name.
    pub name: WorkloadName,
    /// Replaces where consents may return to; `None` leaves that as it is.
    pub return_urls: Option<Vec<ReturnUrl>>,
}
on_workload!(UpdateWorkload, "UpdateWorkloadIdentity");

/// Deletes a workload identity.
#[derive(Clone, Debug)]
pub struct DeleteWorkload {
    /// Its name.
    pub name: WorkloadName,
}
on_workload!(DeleteWorkload, "DeleteWorkloadIdentity");

/// Lists workload identities.
#[derive(Clone, Debug)]
pub struct ListWorkloads {
    /// Which page.
    pub page: PageRequest,
}

impl Action for ListWorkloads {
    const OPERATION: &'static str = "ListWorkloadIdentities";

    fn role(&self) -> Role {
        Role::Admin
    }
}

impl Services {
    /// Makes a workload identity with an id of its own.
    ///
    /// # Errors
    /// `Conflict` when the name is taken.
    pub async fn create_workload(&self, authorized: Authorized<'_, CreateWorkload>) -> Result<Workload> {
        let CreateWorkload { name, return_urls, tags } = authorized.into_action();
        let now = self.now();
        let workload = Workload {
            id: Id::random(&*self.ports.random),
            name,
            return_urls,
            epoch: 1,
            tags,
            created_at: now,
            updated_at: now,
        };
        self.create_named(&workload).await?;
        Ok(workload)
    }

    /// Reads a workload identity.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_workload(&self, authorized: Authorized<'_, GetWorkload>) -> Result<Workload> {
        let name = &authorized.action().name;
        Ok(self.by_name::<Workload>(name.as_str(), Consistency::Strong).await?.value)
    }

    /// Changes a workload identity.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when others keep writing.
    pub async fn update_workload(&self, authorized: Authorized<'_, UpdateWorkload>) -> Result<Workload> {
        let UpdateWorkload { name, return_urls } = authorized.into_action();
        let now = self.now();
        let workload = self
            .update_named(name.as_str(), |workload: &Workload| {
                Ok(Workload {
                    return_urls: return_urls.clone().unwrap_or_else(|| workload.return_urls.clone()),
                    updated_at: now,
                    ..workload.clone()
                })
            })
            .await?
            .after;
        self.caches.workloads.forget(&workload.id).await;
        Ok(workload)
    }

    /// Deletes a workload identity with its authorizers. Its workload access tokens, connections and sessions are dead at
    /// once (D9).
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_workload(&self, authorized: Authorized<'_, DeleteWorkload>) -> Result<()> {
        let name = authorized.action().name.as_str();
        let workload = self.delete_named::<Workload>(name).await?;
        self.caches.workloads.forget(&workload.id).await;
        self.caches.workload_names.forget(name).await;
        self.caches.agent_rules.forget(&workload.name).await;
        Ok(())
    }

    /// Lists workload identities by name, those that the reader may see.
    ///
    /// # Errors
    /// `Validation` on `nextToken`.
    pub async fn list_workloads(&self, authorized: Authorized<'_, ListWorkloads>) -> Result<Page<Workload>> {
        let visible = |name: &str| {
            authorized.principal().allows(ListWorkloads::OPERATION, Role::Admin, Some(name), None)
        };
        self.list_named(ListWorkloads::OPERATION, &authorized.action().page, visible).await
    }
}
