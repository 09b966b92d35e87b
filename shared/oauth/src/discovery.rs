//! Authorization servers: where their endpoints are, and what they say of themselves.

mod known;
mod metadata;

use agent_identity_core::provider::{ClientRegistration, Discovery, ServerMetadata};
use serde::{Deserialize, Serialize};

use crate::catalogue;
use crate::{OauthError, endpoint};

pub(crate) use known::method_name;
pub use known::{described_discovery, known_server};
pub use metadata::{metadata_request, parse_metadata};

/// An authorization server (RFC 8414 §2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `issuer`; `None` where it is not known, or differs by user.
    pub issuer: Option<String>,
    /// `authorization_endpoint`; empty where the server has none.
    pub authorization_endpoint: String,
    /// `token_endpoint`.
    pub token_endpoint: String,
    /// Where refreshes go, if not to the token endpoint.
    pub refresh_endpoint: Option<String>,
    /// `revocation_endpoint` (RFC 7009); `None` where the server has none, as far as is known.
    #[serde(default)]
    pub revocation_endpoint: Option<String>,
    /// `token_endpoint_auth_methods_supported`; empty where the server does not say.
    pub token_endpoint_auth_methods: Vec<String>,
    /// `code_challenge_methods_supported`; `None` where the server does not say.
    pub code_challenge_methods: Option<Vec<String>>,
    /// `authorization_response_iss_parameter_supported` (RFC 9207 §3): its answers without `iss` are refused.
    pub iss_parameter: bool,
}

/// Where a server's description comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerSource {
    /// From the catalogue or the configuration.
    Known(Server),
    /// From this document, see [`metadata_request`] and [`parse_metadata`].
    Discover {
        /// Its URL.
        url: String,
    },
}

/// Where the description of a client's server comes from. Also the check of a configuration that needs no network.
///
/// # Errors
/// [`OauthError`]: endpoints are missing, unusable, or given where they are built in.
pub fn server_source(registration: &ClientRegistration) -> Result<ServerSource, OauthError> {
    let vendor = registration.vendor;
    match (&catalogue::facts(vendor).endpoints, &registration.discovery) {
        (Some(_), None) => known_server(vendor, registration.tenant_id.as_deref()).map(ServerSource::Known),
        (Some(_), Some(_)) => Err(OauthError::EndpointsFixed { vendor: vendor.as_str() }),
        (None, Some(Discovery::Url(url))) => {
            metadata::implied_issuer(url)?;
            Ok(ServerSource::Discover { url: url.clone() })
        }
        (None, Some(Discovery::Metadata(metadata))) => configured(metadata).map(ServerSource::Known),
        (None, None) => Err(OauthError::EndpointsMissing { vendor: vendor.as_str() }),
    }
}

fn configured(metadata: &ServerMetadata) -> Result<Server, OauthError> {
    // A server for client credentials alone has no authorization endpoint (RFC 8414 §2).
    if !metadata.authorization_endpoint.is_empty() {
        endpoint::parse("authorization_endpoint", &metadata.authorization_endpoint)?;
    }
    endpoint::parse("token_endpoint", &metadata.token_endpoint)?;
    Ok(Server {
        issuer: Some(metadata.issuer.clone()).filter(|issuer| !issuer.is_empty()),
        authorization_endpoint: metadata.authorization_endpoint.clone(),
        token_endpoint: metadata.token_endpoint.clone(),
        refresh_endpoint: None,
        revocation_endpoint: None,
        token_endpoint_auth_methods: metadata.token_endpoint_auth_methods.clone(),
        code_challenge_methods: None,
        iss_parameter: false,
    })
}

#[cfg(test)]
mod tests;
