//! Presets: the rules for one identity provider, from what a person has at hand (ADR 0021).
//!
//! Each knows the traps of its provider. They are pure, and ask for nothing: what they make is an ordinary authorizer, which can be
//! read, changed and stored like any other.

use super::{AuthorizerOptions, CustomClaim, CustomJwtAuthorizer, DiscoveryUrl};

/// What a preset makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// AWS's part.
    pub configuration: CustomJwtAuthorizer,
    /// Ours.
    pub options: AuthorizerOptions,
}

/// Which of a provider's two versions of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntraVersion {
    /// `requestedAccessTokenVersion` null or 1 in the API's manifest: the usual one for an API of one's own, unless changed.
    V1,
    /// `requestedAccessTokenVersion` 2.
    V2,
}

/// What is known about an identity provider. Every list of audiences or clients is of those that may pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Preset {
    /// Amazon Cognito user pools, access tokens.
    ///
    /// Trap: access tokens have **no `aud`**; the app client is in `client_id`, so that `allowedAudience` would refuse all. An id
    /// token has its client in `aud` and no `client_id`; `token_use=access` keeps it out all the same
    /// (docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-the-access-token.html, D25).
    Cognito {
        /// The pool's region, such as `eu-west-1`.
        region: String,
        /// The pool's id, such as `eu-west-1_AbCdEfGhI`.
        user_pool: String,
        /// App client ids.
        clients: Vec<String>,
    },
    /// Okta, a custom authorization server.
    ///
    /// Traps: the client is in **`cid`**, of which `allowedClients` knows nothing, so that it is a custom claim; scopes are a list in
    /// `scp`; **`sub` is the user's login**, which another may have later: users are known by `uid`, their id. Tokens of the *org*
    /// authorization server (without `/oauth2/ID`) are for Okta's own APIs and nobody else may verify them, so that an id is
    /// needed (developer.okta.com/docs/concepts/auth-servers, …/docs/api/openapi/okta-oauth/guides/overview). An id token has its
    /// client in `aud`, and neither `cid` nor `uid`.
    Okta {
        /// The org's domain, such as `dev-123.okta.com`.
        domain: String,
        /// The id of the authorization server; `default` for the one that is there.
        authorization_server: String,
        /// Audiences of the authorization server, such as `api://default`.
        audiences: Vec<String>,
        /// The client id, if one client only may pass: a custom claim has one value.
        client: Option<String>,
    },
    /// Microsoft Entra ID, one tenant.
    ///
    /// Traps: which **version** a token has, the API's manifest says and not the endpoint; v1 has another issuer
    /// (`https://sts.windows.net/TENANT/`, with the slash), its audience is the App ID URI, and its client is in `appid`; v2's
    /// audience is the API's client id, and its client is in `azp`. **`sub` is another one for each app**: users are known by `oid`,
    /// which is unique within a tenant only, so that `tid` must be the tenant's. The signing keys are those of all tenants, so that
    /// neither `common` nor `organizations` will do (learn.microsoft.com/entra/identity-platform/access-tokens,
    /// …/access-token-claims-reference). Where one app is client and API, its **id tokens have the API's audience**; they have neither
    /// client nor scope, so that one of the two must be asked for.
    Entra {
        /// The tenant's id, a GUID.
        tenant: String,
        /// Of the tokens.
        version: EntraVersion,
        /// Audiences: the API's client id (v2), its App ID URI such as `api://…` (v1).
        audiences: Vec<String>,
        /// The client id of the app that calls, if one only may pass.
        client: Option<String>,
    },
    /// Auth0, access tokens of an API.
    ///
    /// Traps: `iss` ends with a **slash**; without an `audience` in its request a client gets an opaque token; the client is in
    /// `azp`. An id token has the client's id for its audience, and is kept out by that of the API
    /// (auth0.com/docs/secure/tokens/access-tokens/access-token-profiles).
    Auth0 {
        /// The tenant's domain, or its custom domain, such as `example.eu.auth0.com`.
        domain: String,
        /// Identifiers of APIs.
        audiences: Vec<String>,
        /// Client ids.
        clients: Vec<String>,
    },
    /// Any provider with OpenID Connect Discovery or RFC 8414 metadata.
    ///
    /// Traps: an issuer alone lets every client of it pass, so that an audience or a client is needed (D4); and an **id token** has a
    /// client's id for its audience, and often its `azp`: name audiences of APIs. Without any, a client is looked for in `client_id`
    /// alone, which access tokens have (RFC 9068 §2.2) and id tokens do not.
    Oidc {
        /// The issuer's URL, or that of its metadata.
        issuer: String,
        /// Audiences.
        audiences: Vec<String>,
        /// Client ids.
        clients: Vec<String>,
    },
}

/// A name and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// The preset's name.
    pub name: &'static str,
    /// The provider.
    pub provider: &'static str,
    /// What it is made from.
    pub takes: &'static str,
    /// What people stumble over.
    pub traps: &'static str,
}

/// All presets.
pub const PRESETS: [About; 5] = [
    About {
        name: "cognito",
        provider: "Amazon Cognito user pool",
        takes: "--region, --user-pool, --client (one or more)",
        traps: "access tokens have no aud: clients are compared, and token_use must be access",
    },
    About {
        name: "okta",
        provider: "Okta, custom authorization server",
        takes: "--domain, --authorization-server (or `default`), --audience, and --client for one client alone",
        traps: "the client is in cid; sub is a login, so users are known by uid; tokens of the org authorization server cannot be verified by others",
    },
    About {
        name: "entra",
        provider: "Microsoft Entra ID, one tenant",
        takes: "--tenant, --entra-version v1|v2, --audience, and --client (one) or --scope",
        traps: "the API's manifest says which version; sub is another for each app, so users are known by oid, with tid checked",
    },
    About {
        name: "auth0",
        provider: "Auth0",
        takes: "--domain, --audience, and --client (any number)",
        traps: "the issuer ends with a slash; the client is in azp; no audience in the client's request gives an opaque token",
    },
    About {
        name: "oidc",
        provider: "any OpenID Connect provider",
        takes: "--issuer, --audience or --client (one or more)",
        traps: "an id token has the client's id for its audience: name audiences of APIs",
    },
];

impl Preset {
    /// The authorizer, which asks for all of these scopes too.
    ///
    /// # Errors
    /// The text says what is wrong with which part.
    pub fn make(&self, scopes: &[String]) -> Result<Made, String> {
        let mut made = match self {
            Self::Cognito { region, user_pool, clients } => cognito(region, user_pool, clients),
            Self::Okta { domain, authorization_server, audiences, client } => {
                okta(domain, authorization_server, audiences, client.as_deref())
            }
            Self::Entra { client: None, .. } if scopes.is_empty() => {
                Err("--client or --scope is needed: id tokens of an app that is an API too have its audience"
                    .to_owned())
            }
            Self::Entra { tenant, version, audiences, client } => {
                entra(tenant, *version, audiences, client.as_deref())
            }
            Self::Auth0 { domain, audiences, clients } => auth0(domain, audiences, clients),
            Self::Oidc { issuer, audiences, clients } => oidc(issuer, audiences, clients),
        }?;
        made.configuration.allowed_scopes = scopes.to_vec();
        Ok(made)
    }
}

fn cognito(region: &str, user_pool: &str, clients: &[String]) -> Result<Made, String> {
    check("the region", region, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')?;
    check("the user pool", user_pool, |c| c.is_ascii_alphanumeric() || "-_".contains(c))?;
    if user_pool.strip_prefix(region).is_none_or(|rest| !rest.starts_with('_')) {
        return Err(format!(
            "the user pool `{user_pool}` is not one of {region}: its id begins with its region"
        ));
    }
    some("--client", clients)?;
    // The partition of China has domains of its own.
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let mut made = at(&format!("https://cognito-idp.{region}.{suffix}/{user_pool}"))?;
    made.configuration.allowed_clients = clients.to_vec();
    made.configuration.custom_claims = vec![CustomClaim::equals("token_use", "access")];
    Ok(made)
}

fn okta(domain: &str, server: &str, audiences: &[String], client: Option<&str>) -> Result<Made, String> {
    host(domain)?;
    check("the authorization server", server, |c| c.is_ascii_alphanumeric())?;
    some("--audience", audiences)?;
    let mut made = at(&format!("https://{domain}/oauth2/{server}"))?;
    made.configuration.allowed_audience = audiences.to_vec();
    made.configuration.custom_claims = client.map(|id| CustomClaim::equals("cid", id)).into_iter().collect();
    made.options.subject_claim = Some("uid".to_owned());
    Ok(made)
}

fn entra(
    tenant: &str,
    version: EntraVersion,
    audiences: &[String],
    client: Option<&str>,
) -> Result<Made, String> {
    let is_guid = tenant.len() == 36
        && tenant.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        });
    if !is_guid {
        return Err(format!(
            "the tenant `{tenant}` is no tenant id: it is a GUID in small letters, and neither a domain nor `common`"
        ));
    }
    some("--audience", audiences)?;
    let (issuer, claim) = match version {
        EntraVersion::V1 => (format!("https://sts.windows.net/{tenant}"), "appid"),
        EntraVersion::V2 => (format!("https://login.microsoftonline.com/{tenant}/v2.0"), "azp"),
    };
    let mut made = at(&issuer)?;
    made.configuration.allowed_audience = audiences.to_vec();
    made.configuration.custom_claims = std::iter::once(CustomClaim::equals("tid", tenant))
        .chain(client.map(|id| CustomClaim::equals(claim, id)))
        .collect();
    made.options.subject_claim = Some("oid".to_owned());
    Ok(made)
}

fn auth0(domain: &str, audiences: &[String], clients: &[String]) -> Result<Made, String> {
    host(domain)?;
    some("--audience", audiences)?;
    let mut made = at(&format!("https://{domain}"))?;
    made.configuration.allowed_audience = audiences.to_vec();
    made.configuration.allowed_clients = clients.to_vec();
    made.options.azp_as_client = !clients.is_empty();
    Ok(made)
}

fn oidc(issuer: &str, audiences: &[String], clients: &[String]) -> Result<Made, String> {
    if audiences.is_empty() && clients.is_empty() {
        return Err(
            "an issuer is not enough: say which tokens are for you, with --audience or --client".to_owned()
        );
    }
    let mut made = if issuer.contains("/.well-known/") {
        of(DiscoveryUrl::parse(issuer).map_err(|wrong| format!("the issuer's URL {wrong}"))?)
    } else {
        at(issuer.strip_suffix('/').unwrap_or(issuer))?
    };
    made.configuration.allowed_audience = audiences.to_vec();
    made.configuration.allowed_clients = clients.to_vec();
    made.options.azp_as_client = !clients.is_empty() && !audiences.is_empty();
    Ok(made)
}

/// For the issuer with this URL.
fn at(issuer: &str) -> Result<Made, String> {
    let url = format!("{issuer}/.well-known/openid-configuration");
    DiscoveryUrl::parse(&url)
        .map(of)
        .map_err(|_wrong| format!("`{issuer}` is no issuer's URL: it is https://HOST[/PATH]"))
}

fn of(discovery_url: DiscoveryUrl) -> Made {
    let configuration = CustomJwtAuthorizer {
        discovery_url,
        allowed_audience: Vec::new(),
        allowed_clients: Vec::new(),
        allowed_scopes: Vec::new(),
        custom_claims: Vec::new(),
        advertised_scope_mapping: std::collections::BTreeMap::new(),
        allowed_workload_configuration: None,
    };
    Made { configuration, options: AuthorizerOptions::default() }
}

fn check(what: &str, text: &str, allowed: impl Fn(char) -> bool) -> Result<(), String> {
    if !text.is_empty() && text.chars().all(allowed) {
        return Ok(());
    }
    Err(format!("{what} `{text}` is none"))
}

fn host(domain: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    check("the domain", domain, allowed)
        .map_err(|wrong| format!("{wrong}: it is a host in small letters, without https://"))
}

fn some(flag: &str, list: &[String]) -> Result<(), String> {
    if list.iter().any(String::is_empty) || list.is_empty() {
        return Err(format!("{flag} is needed, and not an empty one: an issuer is not enough"));
    }
    Ok(())
}
