//! `authorizerConfiguration` and `options`: AWS's shape of the rules, and what it has no member for.

use agent_identity_core::authorizer::{
    AllowedWorkloadConfiguration, AuthorizerOptions, AuthorizingClaimMatchValue, ClaimMatchOperator,
    ClaimMatchValue, ClaimValueType, CustomClaim, CustomJwtAuthorizer, DiscoveryUrl, HostingEnvironment,
    Introspection, IntrospectionAuthentication, IntrospectionEndpoint, MAX_LEEWAY,
};
use agent_identity_core::issuer::Algorithm;
use agent_identity_core::{Secret, WorkloadName};

use crate::fields::{Members, one_of, patterned, sized};

/// Longest audience or client id, in characters. The model has no bound.
const MAX_NAME: usize = 1024;

/// The longest id of a client that asks about tokens, in characters, as of a provider's client.
const MAX_CLIENT_ID: usize = 256;

/// And its longest secret.
const MAX_CLIENT_SECRET: usize = 2048;

/// Most custom claims. The model has no bound.
const MAX_CLAIMS: usize = 50;

/// The longest age of a token that can be asked for: a year, in seconds.
const MAX_AGE: u64 = 31_536_000;

/// Of `customJWTAuthorizer`, those of which AWS asks for one.
const RULES: [&str; 4] = ["allowedAudience", "allowedClients", "allowedScopes", "customClaims"];

const KNOWN: [&str; 7] = [
    "discoveryUrl",
    "allowedAudience",
    "allowedClients",
    "allowedScopes",
    "customClaims",
    "advertisedScopeMapping",
    "allowedWorkloadConfiguration",
];

/// Members of `customJWTAuthorizer` that say how AWS reaches an issuer inside a VPC.
const PRIVATE: [&str; 3] = ["certificateConfigurations", "privateEndpoint", "privateEndpointOverrides"];
const PRIVATE_REFUSED: &str = "is not supported: an issuer is reached over the public internet, or where the deployment allows \
     egress to, with the roots that the deployment adds";

/// Refuses every member but these: a rule that is misspelt, or not supported, must not be left out in silence.
fn only(members: &Members, known: &[&str], unsupported: &[&str], why: &str) -> Option<()> {
    let mut all_known = Some(());
    let mut names = members.names();
    names.sort();
    for name in names {
        if unsupported.contains(&name.as_str()) {
            members.wrong(&name, why);
            all_known = None;
        } else if !known.contains(&name.as_str()) {
            let short: String = name.chars().take(64).collect();
            members.wrong(&short, format!("is not known; the members are {}", known.join(", ")));
            all_known = None;
        }
    }
    all_known
}

/// A list that has at least one entry where it is there.
fn some<T>(members: &Members, name: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<Vec<T>> {
    match members.texts(name, parse)? {
        Some(list) if list.is_empty() => {
            members.wrong(name, "must have at least one entry; leave it out to have no such rule");
            None
        }
        list => Some(list.unwrap_or_default()),
    }
}

/// `AllowedScopeType`: 1 to 255 characters of RFC 6749 §3.3.
fn scope(text: &str) -> Result<String, String> {
    let allowed = |c| matches!(c, '\x21' | '\x23'..='\x5b' | '\x5d'..='\x7e');
    patterned(1, 255, allowed, "[\\x21\\x23-\\x5B\\x5D-\\x7E]+")(text)
}

/// `InboundTokenClaimNameType`, whose `.-:` is a range in AWS's pattern: a name with a namespace is a URL.
fn claim_name(text: &str) -> Result<String, String> {
    patterned(1, 255, |c| c.is_ascii_alphanumeric() || "_.:/-".contains(c), "[A-Za-z0-9_.:/-]+")(text)
}

/// `MatchValueString`.
fn match_value(text: &str) -> Result<String, String> {
    patterned(1, 255, |c| c.is_ascii_alphanumeric() || "_.-".contains(c), "[A-Za-z0-9_.-]+")(text)
}

/// `authorizerConfiguration`.
pub(super) fn configuration(body: &Members) -> Option<CustomJwtAuthorizer> {
    let union = body.required_object("authorizerConfiguration")?;
    union.union(&["customJWTAuthorizer"])?;
    let members = union.required_object("customJWTAuthorizer")?;
    let known = only(&members, &KNOWN, &PRIVATE, PRIVATE_REFUSED);
    let discovery_url = members.required("discoveryUrl", DiscoveryUrl::parse);
    let allowed_audience = some(&members, "allowedAudience", sized(1, MAX_NAME));
    let allowed_clients = some(&members, "allowedClients", sized(1, MAX_NAME));
    let allowed_scopes = some(&members, "allowedScopes", scope);
    let custom_claims = custom_claims(&members);
    let advertised = advertised(&members, allowed_scopes.as_deref());
    let workloads = allowed_workloads(&members);
    if RULES.iter().all(|rule| members.raw(rule).is_none()) {
        union.wrong("customJWTAuthorizer", format!("must have at least one of {}", RULES.join(", ")));
        return None;
    }
    known?;
    Some(CustomJwtAuthorizer {
        discovery_url: discovery_url?,
        allowed_audience: allowed_audience?,
        allowed_clients: allowed_clients?,
        allowed_scopes: allowed_scopes?,
        custom_claims: custom_claims?,
        advertised_scope_mapping: advertised?,
        allowed_workload_configuration: workloads?,
    })
}

fn custom_claims(members: &Members) -> Option<Vec<CustomClaim>> {
    let Some(entries) = members.objects("customClaims", 1, MAX_CLAIMS)? else {
        return Some(Vec::new());
    };
    // All of them, so that every wrong one is named.
    let claims: Vec<_> = entries.iter().map(custom_claim).collect();
    claims.into_iter().collect()
}

fn custom_claim(members: &Members) -> Option<CustomClaim> {
    const TYPES: &[(&str, ClaimValueType)] =
        &[("STRING", ClaimValueType::Text), ("STRING_ARRAY", ClaimValueType::Texts)];
    const MEMBERS: [&str; 3] =
        ["inboundTokenClaimName", "inboundTokenClaimValueType", "authorizingClaimMatchValue"];
    let known = only(members, &MEMBERS, &[], "");
    let name = members.required("inboundTokenClaimName", claim_name);
    let kind = members.required("inboundTokenClaimValueType", one_of(TYPES));
    let wanted = members.required_object("authorizingClaimMatchValue").and_then(|it| matching(&it, kind));
    known?;
    Some(CustomClaim {
        inbound_token_claim_name: name?,
        inbound_token_claim_value_type: kind?,
        authorizing_claim_match_value: wanted?,
    })
}

/// `authorizingClaimMatchValue`, for a claim of this form: what both readings of AWS's documentation allow, and no more.
fn matching(members: &Members, kind: Option<ClaimValueType>) -> Option<AuthorizingClaimMatchValue> {
    use ClaimMatchOperator::{Contains, ContainsAny, Equals};
    const OPERATORS: &[(&str, ClaimMatchOperator)] =
        &[("EQUALS", Equals), ("CONTAINS", Contains), ("CONTAINS_ANY", ContainsAny)];
    let known = only(members, &["claimMatchValue", "claimMatchOperator"], &[], "");
    let operator = members.required("claimMatchOperator", one_of(OPERATORS));
    let value = members.required_object("claimMatchValue").and_then(|value| {
        match value.union(&["matchValueString", "matchValueStringList"])? {
            "matchValueString" => {
                value.required("matchValueString", match_value).map(ClaimMatchValue::MatchValueString)
            }
            _ => some(&value, "matchValueStringList", match_value).map(ClaimMatchValue::MatchValueStringList),
        }
    });
    known?;
    let (operator, value, kind) = (operator?, value?, kind?);
    if !kind.admits(operator) {
        let may = match kind {
            ClaimValueType::Text => "EQUALS or CONTAINS for a STRING",
            ClaimValueType::Texts => "CONTAINS or CONTAINS_ANY for a STRING_ARRAY",
        };
        members.wrong("claimMatchOperator", format!("must be {may}"));
        return None;
    }
    let takes_list = operator == ContainsAny;
    if takes_list != matches!(value, ClaimMatchValue::MatchValueStringList(_)) {
        let member = if takes_list { "matchValueStringList" } else { "matchValueString" };
        members.wrong("claimMatchValue", format!("must be a {member} for this claimMatchOperator"));
        return None;
    }
    Some(AuthorizingClaimMatchValue { claim_match_value: value, claim_match_operator: operator })
}

/// `advertisedScopeMapping`: what is advertised in the place of a scope must be about a scope that is asked for.
fn advertised(
    members: &Members,
    allowed_scopes: Option<&[String]>,
) -> Option<std::collections::BTreeMap<String, String>> {
    const NAME: &str = "advertisedScopeMapping";
    let check = |key: &str, value: &str| {
        scope(key).and_then(|_| scope(value)).map(drop)?;
        match allowed_scopes {
            Some(allowed) if !allowed.iter().any(|scope| scope == key) => {
                Err(format!("has the key `{key}`, which is not in allowedScopes"))
            }
            _ => Ok(()),
        }
    };
    match members.text_map(NAME, 50, check)? {
        Some(mapping) if mapping.is_empty() => {
            members.wrong(
                NAME,
                "must have at least one entry; leave it out to advertise the scopes as they are",
            );
            None
        }
        mapping => Some(mapping.unwrap_or_default()),
    }
}

/// `allowedWorkloadConfiguration`.
fn allowed_workloads(members: &Members) -> Option<Option<AllowedWorkloadConfiguration>> {
    const MEMBERS: [&str; 2] = ["hostingEnvironments", "workloadIdentities"];
    let Some(members) = members.object("allowedWorkloadConfiguration")? else {
        return Some(None);
    };
    let known = only(&members, &MEMBERS, &[], "");
    let environments = match members.objects("hostingEnvironments", 1, 10)? {
        Some(entries) => {
            let arns: Vec<_> = entries
                .iter()
                .map(|entry| {
                    let known = only(entry, &["arn"], &[], "");
                    let arn = entry.required("arn", sized(20, 1011));
                    known.and(arn)
                })
                .collect();
            arns.into_iter().map(|arn| Some(HostingEnvironment { arn: arn? })).collect()
        }
        None => Some(Vec::new()),
    };
    let name = |text: &str| WorkloadName::parse(text).map(String::from);
    let workloads = some(&members, "workloadIdentities", name);
    if workloads.as_ref().is_some_and(|names| names.len() > 10) {
        members.wrong("workloadIdentities", "must have at most 10 entries");
        return None;
    }
    known?;
    let (hosting_environments, workload_identities) = (environments?, workloads?);
    Some(Some(AllowedWorkloadConfiguration { hosting_environments, workload_identities }))
}

const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// `options`.
pub(super) fn options(body: &Members) -> Option<AuthorizerOptions> {
    const KNOWN: [&str; 8] = [
        "leewaySeconds",
        "requiredTyp",
        "azpAsClient",
        "algorithms",
        "maxTokenAgeSeconds",
        "subjectClaim",
        "issueWorkloadAccessToken",
        "introspection",
    ];
    let Some(members) = body.object("options")? else {
        return Some(AuthorizerOptions::default());
    };
    let known = only(&members, &KNOWN, &[], "");
    let leeway = members.integer("leewaySeconds", 0, MAX_LEEWAY.as_secs());
    let required_typ =
        members.text("requiredTyp", patterned(1, 64, |c| c.is_ascii_graphic(), "[\\x21-\\x7E]+"));
    let azp_as_client = members.boolean("azpAsClient");
    let algorithms = some(&members, "algorithms", one_of(ALGORITHMS));
    let max_age = members.integer("maxTokenAgeSeconds", 1, MAX_AGE);
    let subject_claim = members.text("subjectClaim", claim_name);
    let issues = members.boolean("issueWorkloadAccessToken");
    let introspection = introspection(&members);
    let seconds = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
    known?;
    Some(AuthorizerOptions {
        leeway_seconds: seconds(leeway?),
        required_typ: required_typ?,
        azp_as_client: azp_as_client?,
        algorithms: algorithms?,
        max_token_age_seconds: seconds(max_age?),
        subject_claim: subject_claim?,
        issues_workload_access_token: issues?,
        introspection: introspection?,
    })
}

/// `options.introspection`.
fn introspection(options: &Members) -> Option<Option<Introspection>> {
    const MEMBERS: [&str; 4] = ["endpoint", "clientId", "clientSecret", "clientAuthentication"];
    const WAYS: &[(&str, IntrospectionAuthentication)] = &[
        ("client_secret_basic", IntrospectionAuthentication::Basic),
        ("client_secret_post", IntrospectionAuthentication::Post),
    ];
    let Some(members) = options.object("introspection")? else {
        return Some(None);
    };
    let known = only(&members, &MEMBERS, &[], "");
    let endpoint = members.required("endpoint", IntrospectionEndpoint::parse);
    let client_id = members.required("clientId", visible(MAX_CLIENT_ID));
    let client_secret =
        members.required("clientSecret", |text| visible(MAX_CLIENT_SECRET)(text).map(Secret::new));
    let client_authentication = members.text("clientAuthentication", one_of(WAYS));
    known?;
    Some(Some(Introspection {
        endpoint: endpoint?,
        client_id: client_id?,
        client_authentication: client_authentication?.unwrap_or_default(),
        client_secret: Some(client_secret?),
    }))
}

/// A client's id or secret: `VSCHAR` of RFC 6749, appendix A.
fn visible(longest: usize) -> impl Fn(&str) -> Result<String, String> {
    patterned(1, longest, |c| matches!(c, ' '..='~'), "[\\x20-\\x7E]+")
}
