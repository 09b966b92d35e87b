//! `Oauth2ProviderConfigInput`: one member for each kind of vendor.

use agent_identity_core::port::SigningAlgorithm;
use agent_identity_core::provider::{
    ClientAuthentication, ClientRegistration, ConfigMember, Discovery, PrivateKeyJwt, ServerMetadata, Vendor,
};
use agent_identity_service::oauth2_provider::GivenConfig;

use super::super::network::echoed;
use super::super::shapes::given_secret;
use super::METHODS;
use crate::fields::{Members, one_of, sized};

/// Longest client secret (`DefaultClientSecretType`).
const MAX_SECRET: usize = 2048;

/// Longest endpoint URL that is taken.
const MAX_URL: usize = 2048;

/// The configuration in a request, for the vendor that it names.
pub(super) fn given(body: &Members, vendor: Option<Vendor>) -> Option<GivenConfig> {
    let union = body.required_object("oauth2ProviderConfigInput");
    let (vendor, union) = (vendor?, union?);
    let member = vendor.config_member();
    let set = union.union(&ConfigMember::ALL.map(ConfigMember::as_str))?;
    if set != member.as_str() {
        union.wrong(set, format!("is not for {}, which takes {}", vendor.as_str(), member.as_str()));
        return None;
    }
    let config = union.required_object(set)?;
    match member {
        ConfigMember::Custom => custom(&config),
        ConfigMember::Included => included(&config, vendor),
        ConfigMember::Microsoft => {
            let tenant_id = config.text("tenantId", |text| {
                let tenant = sized(1, 2048)(text)?;
                let plain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
                if tenant.chars().all(plain) && !tenant.starts_with('.') {
                    Ok(tenant)
                } else {
                    Err("must be a tenant's id or domain, or one of common, organizations, consumers"
                        .to_owned())
                }
            });
            let named = named_client(&config, vendor, None);
            let (tenant_id, mut named) = (tenant_id?, named?);
            named.registration.tenant_id = tenant_id;
            Some(named)
        }
        _ => named_client(&config, vendor, None),
    }
}

/// A vendor that the catalogue knows: client id and secret.
fn named_client(config: &Members, vendor: Vendor, discovery: Option<Discovery>) -> Option<GivenConfig> {
    let client_id = config.required("clientId", sized(1, 256));
    let client_secret =
        given_secret(config, "clientSecret", MAX_SECRET, "clientSecretSource", "clientSecretConfig");
    Some(GivenConfig {
        registration: ClientRegistration { vendor, discovery, tenant_id: None, client_id: client_id? },
        client_secret: client_secret?,
        client_authentication: None,
        private_key_jwt: None,
        echoed: serde_json::Map::new(),
    })
}

/// `IncludedOauth2ProviderConfigInput`: vendors with a server for each tenant also name its endpoints.
fn included(config: &Members, vendor: Vendor) -> Option<GivenConfig> {
    let endpoint = |name| config.text(name, endpoint_url);
    let (issuer, authorization, token) =
        (endpoint("issuer"), endpoint("authorizationEndpoint"), endpoint("tokenEndpoint"));
    let (issuer, authorization, token) = (issuer?, authorization?, token?);
    let per_tenant = agent_identity_service::oauth2_provider::has_tenants(vendor);
    let given = issuer.is_some() || authorization.is_some() || token.is_some();
    if given && !per_tenant {
        for (name, value) in
            [("issuer", &issuer), ("authorizationEndpoint", &authorization), ("tokenEndpoint", &token)]
        {
            if value.is_some() {
                config.wrong(name, format!("is built in for {} and cannot be set", vendor.as_str()));
            }
        }
        return None;
    }
    let discovery = match (issuer, authorization, token) {
        (None, None, None) => None,
        (Some(issuer), None, None) => {
            Some(Discovery::Url(format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))))
        }
        (issuer, Some(authorization_endpoint), Some(token_endpoint)) => {
            Some(Discovery::Metadata(ServerMetadata {
                issuer: issuer.unwrap_or_default(),
                authorization_endpoint,
                token_endpoint,
                response_types: Vec::new(),
                token_endpoint_auth_methods: Vec::new(),
            }))
        }
        (_, None, Some(_)) => {
            config.wrong("authorizationEndpoint", "is required when tokenEndpoint is given");
            return None;
        }
        (_, Some(_), None) => {
            config.wrong("tokenEndpoint", "is required when authorizationEndpoint is given");
            return None;
        }
    };
    named_client(config, vendor, discovery)
}

/// `CustomOauth2ProviderConfigInput`.
fn custom(config: &Members) -> Option<GivenConfig> {
    let discovery =
        config.required_object("oauthDiscovery").and_then(|discovery| oauth_discovery(&discovery));
    let client_id = config.text("clientId", sized(0, 256));
    let client_secret =
        given_secret(config, "clientSecret", MAX_SECRET, "clientSecretSource", "clientSecretConfig");
    let method = config.text("clientAuthenticationMethod", |text| {
        if text == "AWS_IAM_ID_TOKEN_JWT" {
            return Err(
                "AWS_IAM_ID_TOKEN_JWT is not supported: it needs AWS STS; use PRIVATE_KEY_JWT".to_owned()
            );
        }
        one_of(METHODS)(text)
    });
    let jwt = match config.object("privateKeyJwtConfig") {
        None => None,
        Some(None) => Some(None),
        Some(Some(jwt)) => private_key_jwt(&jwt).map(Some),
    };
    let echoed = echoed(config);
    let (method, jwt) = (method?, jwt?);
    if method == Some(ClientAuthentication::PrivateKeyJwt) && jwt.is_none() {
        config.wrong("privateKeyJwtConfig", "is required when clientAuthenticationMethod is PRIVATE_KEY_JWT");
        return None;
    }
    if method != Some(ClientAuthentication::PrivateKeyJwt) && jwt.is_some() {
        config.wrong("privateKeyJwtConfig", "is for clientAuthenticationMethod PRIVATE_KEY_JWT only");
        return None;
    }
    Some(GivenConfig {
        registration: ClientRegistration {
            vendor: Vendor::Custom,
            discovery: Some(discovery?),
            tenant_id: None,
            client_id: client_id?.unwrap_or_default(),
        },
        client_secret: client_secret?,
        client_authentication: method,
        private_key_jwt: jwt,
        echoed: echoed?,
    })
}

/// `Oauth2Discovery`.
fn oauth_discovery(discovery: &Members) -> Option<Discovery> {
    match discovery.union(&["discoveryUrl", "authorizationServerMetadata"])? {
        "discoveryUrl" => discovery.required("discoveryUrl", discovery_url).map(Discovery::Url),
        _ => {
            const AUTH_METHODS: &[(&str, &str)] = &[
                ("client_secret_post", "client_secret_post"),
                ("client_secret_basic", "client_secret_basic"),
            ];
            let metadata = discovery.required_object("authorizationServerMetadata")?;
            let issuer = metadata.required("issuer", endpoint_url);
            let authorization = metadata.required("authorizationEndpoint", endpoint_url);
            let token = metadata.required("tokenEndpoint", endpoint_url);
            let response_types = metadata.texts("responseTypes", sized(0, 256));
            let methods = metadata.texts("tokenEndpointAuthMethods", one_of(AUTH_METHODS))?;
            if methods.as_ref().is_some_and(|methods| !(1..=2).contains(&methods.len())) {
                metadata.wrong("tokenEndpointAuthMethods", "must have 1 to 2 entries");
                return None;
            }
            Some(Discovery::Metadata(ServerMetadata {
                issuer: issuer?,
                authorization_endpoint: authorization?,
                token_endpoint: token?,
                response_types: response_types?.unwrap_or_default(),
                token_endpoint_auth_methods: methods
                    .unwrap_or_default()
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            }))
        }
    }
}

/// `PrivateKeyJwtConfig`.
fn private_key_jwt(jwt: &Members) -> Option<PrivateKeyJwt> {
    const ALGORITHMS: &[(&str, SigningAlgorithm)] = &[
        ("RS256", SigningAlgorithm::RS256),
        ("PS256", SigningAlgorithm::PS256),
        ("ES256", SigningAlgorithm::ES256),
    ];
    let key_arn = jwt.required_object("privateKeySource").and_then(|source| {
        source.union(&["kmsKeySource"])?;
        source.required_object("kmsKeySource")?.required("kmsKeyArn", kms_key_arn)
    });
    let algorithm = jwt.required("signingAlgorithm", one_of(ALGORITHMS));
    let claims = |name: &str, reserved: &'static [&'static str]| {
        let claims = jwt.text_map(name, 10, |claim, value| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_.:#-".contains(c);
            if !(1..=255).contains(&claim.len()) || !claim.chars().all(plain) {
                return Err("a claim's name must have 1 to 255 characters of [A-Za-z0-9_.:#-]".to_owned());
            }
            if reserved.contains(&claim) {
                return Err(format!("`{claim}` cannot be set"));
            }
            sized(1, 2048)(value).map(drop).map_err(|error| format!("the value of `{claim}` {error}"))
        })?;
        if claims.as_ref().is_some_and(std::collections::BTreeMap::is_empty) {
            jwt.wrong(name, "must have 1 to 10 entries");
        }
        Some(claims.unwrap_or_default())
    };
    let header_claims = claims("additionalHeaderClaims", &["alg", "typ"]);
    let payload_claims = claims("additionalPayloadClaims", &["iss", "sub", "jti", "exp", "iat", "nbf"]);
    Some(PrivateKeyJwt {
        key_arn: key_arn?,
        algorithm: algorithm?,
        header_claims: header_claims?,
        payload_claims: payload_claims?,
    })
}

/// `DiscoveryUrlType`: `[^\s?#]+/\.well-known/(openid-configuration|oauth-authorization-server)(/[^\s?#]+)?`
fn discovery_url(text: &str) -> Result<String, String> {
    const MARK: &str = "/.well-known/";
    let url = endpoint_url(text)?;
    let wrong = || {
        "must be …/.well-known/openid-configuration or …/.well-known/oauth-authorization-server".to_owned()
    };
    let (before, after) = url.split_once(MARK).ok_or_else(wrong)?;
    let document = after.split('/').next().unwrap_or_default();
    let known = matches!(document, "openid-configuration" | "oauth-authorization-server");
    if before.is_empty() || !known || url.contains(['?', '#']) || url.ends_with('/') {
        return Err(wrong());
    }
    Ok(url)
}

/// An absolute http or https URL without userinfo and fragment. (Whether it may be called is the egress guard's matter.)
fn endpoint_url(text: &str) -> Result<String, String> {
    let text = sized(1, MAX_URL)(text)?;
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must not contain white space or control characters".to_owned());
    }
    let url = url::Url::parse(&text).map_err(|_wrong| "must be an absolute URL".to_owned())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err("must be an http or https URL".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("must not contain userinfo or a fragment".to_owned());
    }
    Ok(text)
}

/// `KmsKeyArn`: `arn:aws(|-cn|-us-gov):kms:[a-zA-Z0-9-]*:[0-9]{12}:key/[a-zA-Z0-9-]{36}`
fn kms_key_arn(text: &str) -> Result<String, String> {
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        ["arn", "aws" | "aws-cn" | "aws-us-gov", "kms", region, account, key]
            if plain(region)
                && account.len() == 12
                && account.bytes().all(|byte| byte.is_ascii_digit())
                && key.strip_prefix("key/").is_some_and(|id| id.len() == 36 && plain(id)) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("must be the ARN of a KMS key, such as `agent-identity keys create` prints".to_owned()),
    }
}
