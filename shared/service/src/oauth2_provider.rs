//! Use cases on OAuth2 credential providers.

use agent_identity_core::grant::{Action, Authorized, Role};
use agent_identity_core::provider::{
    ClientAuthentication, ClientRegistration, Discovery, Oauth2Provider, PrivateKeyJwt, SecretSource, Vendor,
};
use agent_identity_core::store::Consistency;
use agent_identity_core::tag::Tags;
use agent_identity_core::{Id, ProviderName, Result, Secret};
use agent_identity_oauth::catalogue;
use agent_identity_oauth::discovery::described_discovery;

use crate::Services;
use crate::api_key_provider::{GivenSecret, may_name, on_provider};
use crate::directory::{Changed, same_record};
use crate::page::{Page, PageRequest};

/// A provider's configuration as a client gives it.
#[derive(Clone, Debug)]
pub struct GivenConfig {
    /// Vendor, endpoints, client id.
    pub registration: ClientRegistration,
    /// The client secret; `None` when the request does not mention one.
    pub client_secret: Option<GivenSecret>,
    /// How the client proves itself.
    pub client_authentication: Option<ClientAuthentication>,
    /// For `PRIVATE_KEY_JWT`.
    pub private_key_jwt: Option<PrivateKeyJwt>,
    /// Members that are stored and answered as given.
    pub echoed: serde_json::Map<String, serde_json::Value>,
}

/// Makes an OAuth2 provider.
#[derive(Clone, Debug)]
pub struct CreateOauth2Provider {
    /// Its name.
    pub name: ProviderName,
    /// Its configuration.
    pub config: GivenConfig,
    /// Its tags.
    pub tags: Tags,
}
on_provider!(CreateOauth2Provider, "CreateOauth2CredentialProvider");

/// Reads an OAuth2 provider.
#[derive(Clone, Debug)]
pub struct GetOauth2Provider {
    /// Its name.
    pub name: ProviderName,
}
on_provider!(GetOauth2Provider, "GetOauth2CredentialProvider");

/// Replaces the configuration of an OAuth2 provider.
#[derive(Clone, Debug)]
pub struct UpdateOauth2Provider {
    /// Its name.
    pub name: ProviderName,
    /// Its configuration, whole.
    pub config: GivenConfig,
}
on_provider!(UpdateOauth2Provider, "UpdateOauth2CredentialProvider");

/// Deletes an OAuth2 provider.
#[derive(Clone, Debug)]
pub struct DeleteOauth2Provider {
    /// Its name.
    pub name: ProviderName,
}
on_provider!(DeleteOauth2Provider, "DeleteOauth2CredentialProvider");

/// Lists OAuth2 providers.
#[derive(Clone, Debug)]
pub struct ListOauth2Providers {
    /// Which page.
    pub page: PageRequest,
}

impl Action for ListOauth2Providers {
    const OPERATION: &'static str = "ListOauth2CredentialProviders";

    fn role(&self) -> Role {
        Role::Admin
    }
}

impl Services {
    /// Makes an OAuth2 provider with an id, and so a callback URL, of its own. Needs no network.
    ///
    /// # Errors
    /// `Conflict` when the name is taken.
    pub async fn create_oauth2_provider(
        &self,
        authorized: Authorized<'_, CreateOauth2Provider>,
    ) -> Result<Oauth2Provider> {
        may_name_all(&authorized, &authorized.action().config)?;
        let CreateOauth2Provider { name, config, tags } = authorized.into_action();
        let id = Id::random(&*self.ports.random);
        let given = config.client_secret.unwrap_or_else(placeholder);
        let client_secret = self.keep("oauth2", &name, &id.to_string(), given).await?;
        let now = self.now();
        let provider = Oauth2Provider {
            id,
            name,
            registration: config.registration,
            generation: 1,
            client_secret,
            client_authentication: config.client_authentication,
            private_key_jwt: config.private_key_jwt,
            echoed: config.echoed,
            tags,
            created_at: now,
            updated_at: now,
        };
        if let Err(failed) = self.create_named(&provider).await {
            return Err(self.unnamed(&provider.client_secret, failed).await);
        }
        Ok(provider)
    }

    /// Reads an OAuth2 provider; never its secret.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_oauth2_provider(
        &self,
        authorized: Authorized<'_, GetOauth2Provider>,
    ) -> Result<Oauth2Provider> {
        let name = authorized.action().name.as_str();
        Ok(self.by_name::<Oauth2Provider>(name, Consistency::Strong).await?.value)
    }

    /// Replaces the configuration of an OAuth2 provider. Another vendor, endpoint, tenant or client id starts a new
    /// generation (D3): connections of the one before need a new consent. A request that mentions no secret keeps the one
    /// that is there, unless the registration changes: then the secret must be given anew, so that nobody who may edit a
    /// provider but does not know its secret can have it sent elsewhere.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when others keep writing.
    pub async fn update_oauth2_provider(
        &self,
        authorized: Authorized<'_, UpdateOauth2Provider>,
    ) -> Result<Oauth2Provider> {
        may_name_all(&authorized, &authorized.action().config)?;
        let UpdateOauth2Provider { name, config } = authorized.into_action();
        let found = self.by_name::<Oauth2Provider>(name.as_str(), Consistency::Strong).await?.value;
        let redirected = found.registration != config.registration;
        let new_secret = match config.client_secret.clone() {
            Some(given) => Some(self.keep("oauth2", &name, &found.id.to_string(), given).await?),
            None if redirected => {
                Some(self.keep("oauth2", &name, &found.id.to_string(), placeholder()).await?)
            }
            None => None,
        };
        let now = self.now();
        let updated = self
            .update_named(name.as_str(), |provider: &Oauth2Provider| {
                same_record(found.id, provider.id)?;
                if new_secret.is_none() {
                    // What "no secret mentioned" means was decided on the registration as found.
                    same_registration(&found, provider)?;
                }
                let changed = provider.registration != config.registration;
                Ok(Oauth2Provider {
                    registration: config.registration.clone(),
                    generation: if changed {
                        provider.generation.saturating_add(1)
                    } else {
                        provider.generation
                    },
                    client_secret: new_secret.clone().unwrap_or_else(|| provider.client_secret.clone()),
                    client_authentication: config.client_authentication,
                    private_key_jwt: config.private_key_jwt.clone(),
                    echoed: config.echoed.clone(),
                    updated_at: now,
                    ..provider.clone()
                })
            })
            .await;
        self.caches.oauth2_providers.forget(name.as_str()).await;
        let updated = match &new_secret {
            Some(secret) => self.settle(updated, secret).await,
            None => Ok(updated?),
        };
        let Changed { before, after } = updated?;
        self.supersede(&before.client_secret, &after.client_secret).await;
        Ok(after)
    }

    /// Deletes an OAuth2 provider with its secret. Its connections are dead at once (D9).
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_oauth2_provider(
        &self,
        authorized: Authorized<'_, DeleteOauth2Provider>,
    ) -> Result<()> {
        let name = authorized.action().name.as_str();
        let provider = self.delete_named::<Oauth2Provider>(name).await?;
        self.caches.oauth2_providers.forget(name).await;
        self.discard(&provider.client_secret).await;
        Ok(())
    }

    /// Lists OAuth2 providers by name, those that the reader may see.
    ///
    /// # Errors
    /// `Validation` on `nextToken`.
    pub async fn list_oauth2_providers(
        &self,
        authorized: Authorized<'_, ListOauth2Providers>,
    ) -> Result<Page<Oauth2Provider>> {
        let visible = |name: &str| {
            authorized.principal().allows(ListOauth2Providers::OPERATION, Role::Admin, None, Some(name))
        };
        self.list_named(ListOauth2Providers::OPERATION, &authorized.action().page, visible).await
    }

    /// The provider's `oauthDiscovery` as its answers show it: given, or the catalogue's.
    pub fn described_discovery(&self, provider: &Oauth2Provider) -> Discovery {
        described_discovery(&provider.registration)
    }

    /// The ARN that stands for a provider's secret on the wire.
    pub fn secret_arn(&self, source: &SecretSource) -> String {
        match source {
            SecretSource::Managed(stored) => stored.arn.clone(),
            SecretSource::External(reference) if reference.secret_id.starts_with("arn:") => {
                reference.secret_id.clone()
            }
            SecretSource::External(reference) => self.config.place.secret(&reference.secret_id),
        }
    }
}

/// Whether who is authorized may also name the secret and the key of this configuration (D2).
fn may_name_all<A: Action>(authorized: &Authorized<'_, A>, config: &GivenConfig) -> Result<()> {
    may_name(authorized, config.client_secret.as_ref())?;
    match config.private_key_jwt {
        Some(_) => authorized.principal().authorize_naming_secrets(A::OPERATION, Role::Admin),
        None => Ok(()),
    }
}

fn placeholder() -> GivenSecret {
    GivenSecret::Managed(Secret::new(""))
}

fn same_registration(found: &Oauth2Provider, now: &Oauth2Provider) -> Result<()> {
    if found.registration == now.registration {
        return Ok(());
    }
    Err(agent_identity_core::store::StoreError::Conflict(0).into())
}

/// Whether a vendor of the catalogue has a server for each tenant, so that a provider must name its endpoints.
pub fn has_tenants(vendor: Vendor) -> bool {
    vendor != Vendor::Custom && catalogue::facts(vendor).endpoints.is_none()
}
