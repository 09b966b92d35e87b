//! Use cases on the tags of workload identities and credential providers. Some tags are settings ([`agent_identity_core::tag`]).

use std::collections::BTreeSet;

use agent_identity_core::arn::Resource;
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Action, Authorized, Role};
use agent_identity_core::provider::{ApiKeyProvider, Oauth2Provider};
use agent_identity_core::store::Consistency;
use agent_identity_core::tag::{ALLOWED_WORKLOADS, INJECTABLE_HOSTS, Tags, allows_workload};
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, ProviderName, Result, WorkloadName};

use crate::Services;

/// Most tags of a resource (`TagsMap`).
pub const MAX_TAGS: usize = 50;

/// Adds tags to a resource, or changes them.
#[derive(Clone, Debug)]
pub struct TagResource {
    /// Of what.
    pub resource: Resource,
    /// Which.
    pub tags: Tags,
}

/// Takes tags from a resource.
#[derive(Clone, Debug)]
pub struct UntagResource {
    /// Of what.
    pub resource: Resource,
    /// The keys of which.
    pub keys: BTreeSet<String>,
}

/// Reads the tags of a resource.
#[derive(Clone, Debug)]
pub struct ListTagsForResource {
    /// Of what.
    pub resource: Resource,
}

macro_rules! on_resource {
    ($type:ty, $operation:literal) => {
        impl Action for $type {
            const OPERATION: &'static str = $operation;

            fn role(&self) -> Role {
                Role::Admin
            }

            fn workload(&self) -> Option<&WorkloadName> {
                match &self.resource {
                    Resource::Workload(name) => Some(name),
                    Resource::Oauth2Provider(_) | Resource::ApiKeyProvider(_) => None,
                }
            }

            fn provider(&self) -> Option<&ProviderName> {
                match &self.resource {
                    Resource::Workload(_) => None,
                    Resource::Oauth2Provider(name) | Resource::ApiKeyProvider(name) => Some(name),
                }
            }
        }
    };
}
on_resource!(TagResource, "TagResource");
on_resource!(UntagResource, "UntagResource");
on_resource!(ListTagsForResource, "ListTagsForResource");

/// D3: whoever may edit one provider must not be able to have its credentials sent elsewhere, or used by others.
fn may_change<'a, A: Action>(
    authorized: &Authorized<'_, A>,
    mut keys: impl Iterator<Item = &'a String>,
) -> Result<()> {
    let settles_where = keys.any(|key| key == INJECTABLE_HOSTS || key == ALLOWED_WORKLOADS);
    let principal = authorized.principal();
    if !settles_where || principal.allows_on_all_providers(A::OPERATION, Role::Admin) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AccessDenied,
        format!(
            "{} is not authorized to change where credentials go ({}): it takes the role admin on all providers",
            principal.name,
            A::OPERATION
        ),
    ))
}

/// Whether a provider with these tags is for this workload.
///
/// # Errors
/// `AccessDenied`.
pub(crate) fn provider_allows(tags: &Tags, provider: &ProviderName, workload: &WorkloadName) -> Result<()> {
    if allows_workload(tags, workload) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AccessDenied,
        format!("the credential provider `{provider}` is not for the workload identity `{workload}`"),
    ))
}

impl Services {
    /// Adds tags, or changes them. It holds everywhere within 30 seconds.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied`; `Validation` beyond [`MAX_TAGS`]; `Conflict` when others keep writing.
    pub async fn tag_resource(&self, authorized: Authorized<'_, TagResource>) -> Result<()> {
        may_change(&authorized, authorized.action().tags.keys())?;
        let TagResource { resource, tags } = authorized.into_action();
        self.change_tags(&resource, |all| all.extend(tags.clone())).await
    }

    /// Takes tags away. It holds everywhere within 30 seconds.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied`; `Conflict` when others keep writing.
    pub async fn untag_resource(&self, authorized: Authorized<'_, UntagResource>) -> Result<()> {
        may_change(&authorized, authorized.action().keys.iter())?;
        let UntagResource { resource, keys } = authorized.into_action();
        self.change_tags(&resource, |all| all.retain(|key, _| !keys.contains(key))).await
    }

    /// Reads the tags.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn list_tags_for_resource(
        &self,
        authorized: Authorized<'_, ListTagsForResource>,
    ) -> Result<Tags> {
        let strong = Consistency::Strong;
        Ok(match &authorized.action().resource {
            Resource::Workload(name) => self.by_name::<Workload>(name.as_str(), strong).await?.value.tags,
            Resource::Oauth2Provider(name) => {
                self.by_name::<Oauth2Provider>(name.as_str(), strong).await?.value.tags
            }
            Resource::ApiKeyProvider(name) => {
                self.by_name::<ApiKeyProvider>(name.as_str(), strong).await?.value.tags
            }
        })
    }

    async fn change_tags(&self, resource: &Resource, change: impl Fn(&mut Tags)) -> Result<()> {
        let changed = |tags: &Tags| {
            let mut tags = tags.clone();
            change(&mut tags);
            if tags.len() > MAX_TAGS {
                return Err(Error::field("tags", format!("a resource has at most {MAX_TAGS}")));
            }
            Ok(tags)
        };
        let updated_at = self.now();
        match resource {
            Resource::Workload(name) => {
                let change =
                    |it: &Workload| Ok(Workload { tags: changed(&it.tags)?, updated_at, ..it.clone() });
                let workload = self.update_named(name.as_str(), change).await?.after;
                self.caches.workloads.forget(&workload.id).await;
            }
            Resource::Oauth2Provider(name) => {
                let change = |it: &Oauth2Provider| {
                    Ok(Oauth2Provider { tags: changed(&it.tags)?, updated_at, ..it.clone() })
                };
                self.update_named(name.as_str(), change).await?;
                self.caches.oauth2_providers.forget(name.as_str()).await;
            }
            Resource::ApiKeyProvider(name) => {
                let change = |it: &ApiKeyProvider| {
                    Ok(ApiKeyProvider { tags: changed(&it.tags)?, updated_at, ..it.clone() })
                };
                self.update_named(name.as_str(), change).await?;
                self.caches.api_key_providers.forget(name.as_str()).await;
            }
        }
        Ok(())
    }
}
