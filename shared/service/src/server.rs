//! The endpoints of a provider's authorization server: known, or discovered when first needed.

use std::sync::Arc;

use agent_identity_core::error::ErrorKind;
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::{Error, Result};
use agent_identity_oauth::discovery::{
    Server, ServerSource, metadata_request, parse_metadata, server_source,
};

use crate::Services;
use crate::token_call::out_of_reach;

impl Services {
    /// The provider's authorization server.
    ///
    /// # Errors
    /// `Validation` when the configuration or the discovery document is not usable; `Throttling` when the document
    /// cannot be read now.
    pub(crate) async fn server(&self, provider: &Oauth2Provider) -> Result<Arc<Server>> {
        match server_source(&provider.registration).map_err(|error| misconfigured(provider, &error))? {
            ServerSource::Known(server) => Ok(Arc::new(server)),
            ServerSource::Discover { url } => {
                let read = async {
                    let response = self
                        .ports
                        .http
                        .send(metadata_request(&url))
                        .await
                        .map_err(|error| out_of_reach(provider, error))?;
                    if response.status >= 500 {
                        return Err(Error::new(
                            ErrorKind::Throttling,
                            format!("the discovery document of `{}` cannot be read now", provider.name),
                        )
                        .with_detail(format!("status {} from {url}", response.status)));
                    }
                    parse_metadata(&url, &response)
                        .map(Arc::new)
                        .map_err(|error| misconfigured(provider, &error))
                };
                self.caches.servers.get(&url, read).await
            }
        }
    }
}

/// The provider's configuration is what is wrong.
pub(crate) fn misconfigured(provider: &Oauth2Provider, why: &impl std::fmt::Display) -> Error {
    Error::field(
        "resourceCredentialProviderName",
        format!("the credential provider `{}` cannot be used as it is configured: {why}", provider.name),
    )
}
