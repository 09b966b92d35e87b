//! Use cases on API-key credential providers.

use agent_identity_core::grant::{Action, Authorized, Role};
use agent_identity_core::port::StoredSecret;
use agent_identity_core::provider::{ApiKeyProvider, SecretReference, SecretSource};
use agent_identity_core::store::Consistency;
use agent_identity_core::tag::Tags;
use agent_identity_core::{Error, Id, ProviderName, Result, Secret};

use crate::Services;
use crate::directory::{Changed, NotWritten, same_record};
use crate::page::{Page, PageRequest};

/// A secret as a client gives it: to be kept by us, or a reference to one that its owner keeps.
#[derive(Clone, Debug)]
pub enum GivenSecret {
    /// The value; empty for a placeholder.
    Managed(Secret),
    /// Where it is.
    External(SecretReference),
}

/// Whether who is authorized may also name the secret that it names (D2).
pub(crate) fn may_name<A: Action>(
    authorized: &Authorized<'_, A>,
    secret: Option<&GivenSecret>,
) -> Result<()> {
    match secret {
        Some(GivenSecret::External(_)) => {
            authorized.principal().authorize_naming_secrets(A::OPERATION, Role::Admin)
        }
        Some(GivenSecret::Managed(_)) | None => Ok(()),
    }
}

/// Actions of an administrator on one provider.
macro_rules! on_provider {
    ($type:ty, $operation:literal) => {
        impl agent_identity_core::grant::Action for $type {
            const OPERATION: &'static str = $operation;

            fn role(&self) -> agent_identity_core::grant::Role {
                agent_identity_core::grant::Role::Admin
            }

            fn provider(&self) -> Option<&agent_identity_core::ProviderName> {
                Some(&self.name)
            }
        }
    };
}
pub(crate) use on_provider;

/// Makes an API-key provider.
#[derive(Clone, Debug)]
pub struct CreateApiKeyProvider {
    /// Its name.
    pub name: ProviderName,
    /// The key.
    pub secret: GivenSecret,
    /// Its tags.
    pub tags: Tags,
}
on_provider!(CreateApiKeyProvider, "CreateApiKeyCredentialProvider");

/// Reads an API-key provider.
#[derive(Clone, Debug)]
pub struct GetApiKeyProvider {
    /// Its name.
    pub name: ProviderName,
}
on_provider!(GetApiKeyProvider, "GetApiKeyCredentialProvider");

/// Replaces the key of an API-key provider.
#[derive(Clone, Debug)]
pub struct UpdateApiKeyProvider {
    /// Its name.
    pub name: ProviderName,
    /// The key.
    pub secret: GivenSecret,
}
on_provider!(UpdateApiKeyProvider, "UpdateApiKeyCredentialProvider");

/// Deletes an API-key provider.
#[derive(Clone, Debug)]
pub struct DeleteApiKeyProvider {
    /// Its name.
    pub name: ProviderName,
}
on_provider!(DeleteApiKeyProvider, "DeleteApiKeyCredentialProvider");

/// Lists API-key providers.
#[derive(Clone, Debug)]
pub struct ListApiKeyProviders {
    /// Which page.
    pub page: PageRequest,
}

impl Action for ListApiKeyProviders {
    const OPERATION: &'static str = "ListApiKeyCredentialProviders";

    fn role(&self) -> Role {
        Role::Admin
    }
}

impl Services {
    /// Makes an API-key provider with an id of its own.
    ///
    /// # Errors
    /// `Conflict` when the name is taken.
    pub async fn create_api_key_provider(
        &self,
        authorized: Authorized<'_, CreateApiKeyProvider>,
    ) -> Result<ApiKeyProvider> {
        may_name(&authorized, Some(&authorized.action().secret))?;
        let CreateApiKeyProvider { name, secret, tags } = authorized.into_action();
        let id = Id::random(&*self.ports.random);
        let secret = self.keep("apikey", &name, &id.to_string(), secret).await?;
        let now = self.now();
        let provider = ApiKeyProvider { id, name, secret, tags, created_at: now, updated_at: now };
        if let Err(failed) = self.create_named(&provider).await {
            return Err(self.unnamed(&provider.secret, failed).await);
        }
        Ok(provider)
    }

    /// Reads an API-key provider; never its key.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_api_key_provider(
        &self,
        authorized: Authorized<'_, GetApiKeyProvider>,
    ) -> Result<ApiKeyProvider> {
        let name = authorized.action().name.as_str();
        Ok(self.by_name::<ApiKeyProvider>(name, Consistency::Strong).await?.value)
    }

    /// Replaces the key of an API-key provider. The old one stays readable until the new one is on record.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when others keep writing.
    pub async fn update_api_key_provider(
        &self,
        authorized: Authorized<'_, UpdateApiKeyProvider>,
    ) -> Result<ApiKeyProvider> {
        may_name(&authorized, Some(&authorized.action().secret))?;
        let UpdateApiKeyProvider { name, secret } = authorized.into_action();
        let before = self.by_name::<ApiKeyProvider>(name.as_str(), Consistency::Strong).await?.value;
        let secret = self.keep("apikey", &name, &before.id.to_string(), secret).await?;
        let now = self.now();
        let updated = self
            .update_named(name.as_str(), |provider: &ApiKeyProvider| {
                same_record(before.id, provider.id)?;
                Ok(ApiKeyProvider { secret: secret.clone(), updated_at: now, ..provider.clone() })
            })
            .await;
        self.caches.api_key_providers.forget(name.as_str()).await;
        let Changed { before, after } = self.settle(updated, &secret).await?;
        self.supersede(&before.secret, &after.secret).await;
        Ok(after)
    }

    /// Deletes an API-key provider with its key.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_api_key_provider(
        &self,
        authorized: Authorized<'_, DeleteApiKeyProvider>,
    ) -> Result<()> {
        let name = authorized.action().name.as_str();
        let provider = self.delete_named::<ApiKeyProvider>(name).await?;
        self.caches.api_key_providers.forget(name).await;
        self.discard(&provider.secret).await;
        Ok(())
    }

    /// Lists API-key providers by name, those that the reader may see.
    ///
    /// # Errors
    /// `Validation` on `nextToken`.
    pub async fn list_api_key_providers(
        &self,
        authorized: Authorized<'_, ListApiKeyProviders>,
    ) -> Result<Page<ApiKeyProvider>> {
        let visible = |name: &str| {
            authorized.principal().allows(ListApiKeyProviders::OPERATION, Role::Admin, None, Some(name))
        };
        self.list_named(ListApiKeyProviders::OPERATION, &authorized.action().page, visible).await
    }

    /// Puts a given secret where it belongs. The managed secret's name holds the provider's id, so that a provider
    /// recreated under the same name shares nothing with the one before (D9).
    pub(crate) async fn keep(
        &self,
        sort: &str,
        name: &ProviderName,
        id: &str,
        given: GivenSecret,
    ) -> Result<SecretSource> {
        match given {
            GivenSecret::Managed(value) => {
                let secret = format!("bedrock-agentcore-identity!default/{sort}/{name}-{id}");
                Ok(SecretSource::Managed(self.ports.secrets.put(&secret, &value).await?))
            }
            GivenSecret::External(reference) => Ok(SecretSource::External(reference)),
        }
    }

    /// Removes a secret that no record names any more. A failure leaves a sealed value that nobody can reach: that is
    /// logged and not the caller's error, since what they asked for has happened.
    pub(crate) async fn discard(&self, source: &SecretSource) {
        if let SecretSource::Managed(StoredSecret { arn, .. }) = source
            && let Err(error) = self.ports.secrets.delete(arn).await
        {
            tracing::warn!(%arn, %error, "a secret that is no longer used could not be deleted");
        }
    }

    /// Removes the secret of a new record that could not be written. One that the record may name all the same stays.
    pub(crate) async fn unnamed(&self, new: &SecretSource, failed: NotWritten) -> Error {
        match new {
            SecretSource::Managed(stored) if failed.may_be_there => keep_in_doubt(stored, &failed.error),
            _ => self.discard(new).await,
        }
        failed.error
    }

    /// Removes the new secret again when the record that should name it could not be written. One that the record may name
    /// all the same stays.
    pub(crate) async fn settle<T>(
        &self,
        updated: Result<Changed<T>, NotWritten>,
        new: &SecretSource,
    ) -> Result<Changed<T>> {
        match (updated, new) {
            (Err(failed), SecretSource::Managed(stored)) => {
                if failed.may_be_there {
                    keep_in_doubt(stored, &failed.error);
                } else if let Err(error) = self.ports.secrets.remove_version(stored).await {
                    tracing::warn!(arn = %stored.arn, %error, "a secret version that no record names remains");
                }
                Err(failed.error)
            }
            (updated, _) => Ok(updated?),
        }
    }

    /// Removes what a new secret replaced.
    pub(crate) async fn supersede(&self, before: &SecretSource, after: &SecretSource) {
        match (before, after) {
            (SecretSource::Managed(old), SecretSource::Managed(new)) if old.arn == new.arn => {
                if old.version != new.version
                    && let Err(error) = self.ports.secrets.remove_version(old).await
                {
                    tracing::warn!(arn = %old.arn, %error, "the superseded version of a secret could not be removed");
                }
            }
            (old, new) if old != new => self.discard(old).await,
            _ => {}
        }
    }

    /// Has the value of an external secret read anew.
    pub(crate) async fn forget_external(&self, source: &SecretSource, provider: &ProviderName) {
        self.caches.external_secrets.forget(&cached_as(source, provider)).await;
    }

    /// The value of a provider's secret.
    pub(crate) async fn reveal(&self, source: &SecretSource, provider: &ProviderName) -> Result<Secret> {
        let name = cached_as(source, provider);
        let read = async {
            Ok(match source {
                SecretSource::Managed(stored) => self.ports.secrets.get(stored).await?,
                SecretSource::External(reference) => {
                    self.ports.secrets.get_external(reference, provider).await?
                }
            })
        };
        match source {
            SecretSource::Managed(_) => self.caches.secrets.get(&name, read).await,
            // Its owner may put another value under the same name at any time.
            SecretSource::External(_) => self.caches.external_secrets.get(&name, read).await,
        }
    }
}

/// How the value of a secret is called in memory.
fn cached_as(source: &SecretSource, provider: &ProviderName) -> String {
    match source {
        SecretSource::Managed(stored) => format!("{}@{}", stored.arn, stored.version),
        SecretSource::External(reference) => {
            format!("{provider}@{}@{}", reference.json_key, reference.secret_id)
        }
    }
}

/// Better a secret that nobody needs than a provider without one.
fn keep_in_doubt(stored: &StoredSecret, error: &Error) {
    let StoredSecret { arn, version } = stored;
    tracing::warn!(%arn, version, %error, "a secret version remains, since it is not known whether a record names it");
}
