//! What makes a configuration or a discovery document unusable.

/// Why there is no request, or no server to send it to. Says nothing of a provider's answer but which member is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OauthError {
    /// A URL from the configuration or from a discovery document is not an endpoint.
    #[error("the {what} {reason}")]
    Endpoint {
        /// Which one, as its RFC names it.
        what: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The endpoint's own query has a parameter that we send (RFC 6749 §3.1: none may appear twice).
    #[error("the query of the authorization_endpoint must not have the parameter `{name}`")]
    EndpointQuery {
        /// The parameter.
        name: String,
    },
    /// A tenant that Entra cannot have.
    #[error("the tenant id must be `common`, `organizations`, `consumers`, a GUID or a domain name")]
    Tenant,
    /// The vendor's endpoints differ by tenant and none are configured.
    #[error("`{vendor}` needs issuer, authorizationEndpoint and tokenEndpoint of its tenant")]
    EndpointsMissing {
        /// The vendor, as AWS names it.
        vendor: &'static str,
    },
    /// The vendor's endpoints are built in, and the configuration names others.
    #[error(
        "the endpoints of `{vendor}` are built in and cannot be configured; use CustomOauth2 for another server"
    )]
    EndpointsFixed {
        /// The vendor, as AWS names it.
        vendor: &'static str,
    },
    /// The server has no authorization endpoint: it gives client-credentials tokens only.
    #[error("the authorization server has no authorization_endpoint, so no user can consent there")]
    NoAuthorizationEndpoint,
    /// A discovery URL from which no issuer follows.
    #[error(
        "the discovery URL must be an issuer with `/.well-known/openid-configuration` or \
         `/.well-known/oauth-authorization-server` at its end, or between its host and path (RFC 8414 §3.1)"
    )]
    DiscoveryUrl,
    /// The discovery document did not come.
    #[error("the discovery document was answered with status {status}")]
    MetadataStatus {
        /// The status code.
        status: u16,
    },
    /// The discovery document is not a JSON object.
    #[error("the discovery document is not a JSON object")]
    MetadataNotJson,
    /// A required member of the discovery document is absent or not a text.
    #[error("the discovery document has no usable `{member}`")]
    MetadataMember {
        /// The member.
        member: &'static str,
    },
    /// The document speaks for another issuer than its URL (RFC 8414 §3.3, OpenID Connect Discovery §4.3).
    #[error("the discovery document's issuer is not `{expected}`, which its URL stands for")]
    IssuerMismatch {
        /// The issuer that the URL implies.
        expected: String,
    },
    /// A parameter of the caller's has a name that is ours (D24).
    #[error("the parameter `{name}` is sent by agent-identity itself and cannot be set")]
    ReservedParameter {
        /// The parameter.
        name: String,
    },
}
