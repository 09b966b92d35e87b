//! Servers of the catalogue, and the variable that some of their URLs have.

use agent_identity_core::provider::{
    ClientAuthentication, ClientRegistration, Discovery, ServerMetadata, Vendor,
};

use super::Server;
use crate::OauthError;
use crate::catalogue::{self, Endpoints};

/// Entra's tenant for accounts of any organisation, and personal ones.
const ANY_TENANT: &str = "common";

/// The variable in the catalogue's URLs. A template is an open door to other hosts and paths, so that this is the only
/// one, and [`tenant`] says what it may become.
const VARIABLE: &str = "{tenant}";

/// The server of a vendor whose endpoints the catalogue has. `tenant_id` is Entra's and of no matter to others.
///
/// # Errors
/// [`OauthError::Tenant`]; [`OauthError::EndpointsMissing`] for a vendor whose endpoints differ by tenant.
pub fn known_server(vendor: Vendor, tenant_id: Option<&str>) -> Result<Server, OauthError> {
    let facts = catalogue::facts(vendor);
    let Some(endpoints) = &facts.endpoints else {
        return Err(OauthError::EndpointsMissing { vendor: vendor.as_str() });
    };
    let tenant = tenant(tenant_id)?;
    let fill = |template: &str| template.replace(VARIABLE, tenant);
    Ok(Server {
        issuer: endpoints
            .issuer
            .as_deref()
            // Which tenant's issuer it is follows from its GUID alone: any other name stands for users of many, or is an alias.
            .filter(|issuer| !issuer.contains(VARIABLE) || is_guid(tenant))
            .map(fill),
        authorization_endpoint: fill(&endpoints.authorization_endpoint),
        token_endpoint: fill(&endpoints.token_endpoint),
        refresh_endpoint: endpoints.refresh_endpoint.as_deref().map(fill),
        revocation_endpoint: facts.revocation_endpoint.clone(),
        token_endpoint_auth_methods: facts
            .client_authentication
            .map(method_name)
            .into_iter()
            .map(str::to_owned)
            .collect(),
        code_challenge_methods: None,
        iss_parameter: false,
    })
}

/// What answers to clients say of a provider's server (`oauthDiscovery`): what was configured, or what the catalogue has.
/// Empty texts where neither says anything.
pub fn described_discovery(registration: &ClientRegistration) -> Discovery {
    if let Some(discovery) = &registration.discovery {
        return discovery.clone();
    }
    let endpoints = catalogue::facts(registration.vendor).endpoints.as_ref();
    let tenant = tenant(registration.tenant_id.as_deref()).unwrap_or(ANY_TENANT);
    if let Some(url) = endpoints.and_then(|endpoints| endpoints.discovery_url.as_deref()) {
        return Discovery::Url(url.replace(VARIABLE, tenant));
    }
    let server = known_server(registration.vendor, Some(tenant)).ok();
    Discovery::Metadata(match (server, endpoints) {
        (Some(server), Some(endpoints)) => ServerMetadata {
            issuer: server.issuer.unwrap_or_else(|| origin(endpoints)),
            authorization_endpoint: server.authorization_endpoint,
            token_endpoint: server.token_endpoint,
            response_types: vec!["code".to_owned()],
            token_endpoint_auth_methods: server.token_endpoint_auth_methods,
        },
        _ => ServerMetadata {
            issuer: String::new(),
            authorization_endpoint: String::new(),
            token_endpoint: String::new(),
            response_types: Vec::new(),
            token_endpoint_auth_methods: Vec::new(),
        },
    })
}

/// What stands for the issuer of a vendor that has none, since the wire wants one.
fn origin(endpoints: &Endpoints) -> String {
    url::Url::parse(&endpoints.authorization_endpoint)
        .map(|url| url.origin().ascii_serialization())
        .unwrap_or_default()
}

/// The name of an authentication method in metadata (RFC 8414 §2).
pub(crate) fn method_name(method: ClientAuthentication) -> &'static str {
    match method {
        ClientAuthentication::Basic => "client_secret_basic",
        ClientAuthentication::Post => "client_secret_post",
        ClientAuthentication::PrivateKeyJwt => "private_key_jwt",
    }
}

/// A tenant that is safe as a path segment: `common`, `organizations`, `consumers`, a GUID, or a domain name.
fn tenant(id: Option<&str>) -> Result<&str, OauthError> {
    let id = id.unwrap_or(ANY_TENANT);
    let class = ["common", "organizations", "consumers"].contains(&id);
    if class || is_guid(id) || is_domain(id) { Ok(id) } else { Err(OauthError::Tenant) }
}

fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b == b'-' || b.is_ascii_alphanumeric())
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(label)
}
