//! Getting an API key out of the vault.

use std::sync::Arc;

use agent_identity_core::grant::Principal;
use agent_identity_core::provider::ApiKeyProvider;
use agent_identity_core::store::Consistency;
use agent_identity_core::{Error, ProviderName, Result, Secret};

use crate::Services;
use crate::audit::note;
use crate::read_ahead::Wanted;
use crate::tags::provider_allows;
use crate::workload_token::reading;

reading!(ReadApiKey, "GetResourceApiKey");

impl Services {
    /// The API key of a provider, for the workload that the token names.
    ///
    /// # Errors
    /// `Unauthorized` for a bad workload access token, `AccessDenied`, `NotFound`, `Validation` when an external secret
    /// is missing or empty.
    pub async fn get_api_key(
        &self,
        principal: &Principal,
        workload_token: &Secret,
        provider: &ProviderName,
    ) -> Result<Secret> {
        note(|about| about.provider = Some(provider.clone()));
        let bearer = self.bearer(workload_token, Some(Wanted::ApiKey(provider))).await?;
        principal.authorize(ReadApiKey::by(&bearer, provider))?;
        bearer.alive(self.now())?;
        let record = self.live_api_key_provider(provider).await?;
        provider_allows(&record.tags, &record.name, &bearer.workload.name)?;
        self.api_key_of(&record).await
    }

    /// A provider as it was at most one cache life ago.
    pub(crate) async fn live_api_key_provider(&self, name: &ProviderName) -> Result<Arc<ApiKeyProvider>> {
        let name = name.as_str();
        let read =
            async { Ok(Arc::new(self.by_name::<ApiKeyProvider>(name, Consistency::Eventual).await?.value)) };
        self.caches.api_key_providers.get(name, read).await.inspect(|_| note(|about| about.found = true))
    }

    /// The key of a provider, for who may have it.
    pub(crate) async fn api_key_of(&self, record: &ApiKeyProvider) -> Result<Secret> {
        let provider = &record.name;
        let name = provider.as_str();
        let key = match self.reveal(&record.secret, &record.name).await {
            Ok(key) => key,
            // What was read from memory may name a version that another process has just replaced.
            Err(_superseded) => {
                self.caches.api_key_providers.forget(name).await;
                let record = self.by_name::<ApiKeyProvider>(name, Consistency::Strong).await?.value;
                self.reveal(&record.secret, &record.name).await?
            }
        };
        if key.is_empty() {
            return Err(Error::field(
                "resourceCredentialProviderName",
                format!(
                    "the provider `{provider}` has no API key yet; set it with UpdateApiKeyCredentialProvider"
                ),
            ));
        }
        Ok(key)
    }
}
