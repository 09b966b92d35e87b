//! Authorizers on the wire: operations of ours, in the style of AWS's, with AWS's shape of the configuration.

use agent_identity_core::WorkloadName;
use agent_identity_core::authorizer::{Authorizer, AuthorizerOptions, CustomJwtAuthorizer, DiscoveryUrl};
use agent_identity_core::grant::Principal;
use agent_identity_core::issuer::Algorithm;
use agent_identity_core::name::AuthorizerName;
use agent_identity_service::authorizer::{DeleteAuthorizer, GetAuthorizer, ListAuthorizers, PutAuthorizer};
use serde_json::{Map, Value, json};

use super::authorize;
use super::shapes::{list as list_of, object, page};
use crate::fields::{Members, one_of, patterned, sized};
use crate::{Api, Failure};

/// Most authorizers on a page.
const MAX_PAGE: u64 = 20;

/// Longest audience or client id, in characters. The model has no bound.
const MAX_NAME: usize = 1024;

/// The most that clocks may be said to differ, in seconds: RFC 7519 §4.1.4 speaks of a few minutes.
const MAX_LEEWAY: u64 = 300;

/// The longest age of a token that can be asked for: a year, in seconds.
const MAX_AGE: u64 = 31_536_000;

/// Members of `customJWTAuthorizer` that AWS has and this release does not.
const LATER_RULES: [&str; 6] = [
    "advertisedScopeMapping",
    "allowedWorkloadConfiguration",
    "certificateConfigurations",
    "customClaims",
    "privateEndpoint",
    "privateEndpointOverrides",
];

/// Refuses every member but these: a rule that is misspelt, or not supported yet, must not be left out in silence.
fn only(members: &Members, known: &[&str], later: &[&str]) -> Option<()> {
    let mut all_known = Some(());
    let mut names = members.names();
    names.sort();
    for name in names {
        if later.contains(&name.as_str()) {
            members.wrong(&name, "is not supported yet");
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

/// The name of a claim: 1 to 255 characters, none of them invisible. Names with a namespace are URLs.
fn claim_name(text: &str) -> Result<String, String> {
    patterned(1, 255, |c| c.is_ascii_graphic(), "[\\x21-\\x7E]+")(text)
}

/// `authorizerConfiguration`.
fn configuration(body: &Members) -> Option<CustomJwtAuthorizer> {
    const RULES: [&str; 3] = ["allowedAudience", "allowedClients", "allowedScopes"];
    const KNOWN: [&str; 4] = ["discoveryUrl", "allowedAudience", "allowedClients", "allowedScopes"];
    let union = body.required_object("authorizerConfiguration")?;
    union.union(&["customJWTAuthorizer"])?;
    let members = union.required_object("customJWTAuthorizer")?;
    let known = only(&members, &KNOWN, &LATER_RULES);
    let discovery_url = members.required("discoveryUrl", DiscoveryUrl::parse);
    let allowed_audience = some(&members, "allowedAudience", sized(1, MAX_NAME));
    let allowed_clients = some(&members, "allowedClients", sized(1, MAX_NAME));
    let allowed_scopes = some(&members, "allowedScopes", scope);
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
    })
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
fn options(body: &Members) -> Option<AuthorizerOptions> {
    const KNOWN: [&str; 6] =
        ["leewaySeconds", "requiredTyp", "azpAsClient", "algorithms", "maxTokenAgeSeconds", "subjectClaim"];
    let Some(members) = body.object("options")? else {
        return Some(AuthorizerOptions::default());
    };
    let known = only(&members, &KNOWN, &["introspection"]);
    let leeway = members.integer("leewaySeconds", 0, MAX_LEEWAY);
    let required_typ =
        members.text("requiredTyp", patterned(1, 64, |c| c.is_ascii_graphic(), "[\\x21-\\x7E]+"));
    let azp_as_client = members.boolean("azpAsClient");
    let algorithms = some(&members, "algorithms", one_of(ALGORITHMS));
    let max_age = members.integer("maxTokenAgeSeconds", 1, MAX_AGE);
    let subject_claim = members.text("subjectClaim", claim_name);
    let seconds = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
    known?;
    Some(AuthorizerOptions {
        leeway_seconds: seconds(leeway?),
        required_typ: required_typ?,
        azp_as_client: azp_as_client?,
        algorithms: algorithms?,
        max_token_age_seconds: seconds(max_age?),
        subject_claim: subject_claim?,
    })
}

fn agent(body: &Members) -> Option<WorkloadName> {
    body.required("agentId", WorkloadName::parse)
}

fn name(body: &Members) -> Option<AuthorizerName> {
    body.required("name", AuthorizerName::parse)
}

fn summary(agent: &WorkloadName, authorizer: &Authorizer) -> Map<String, Value> {
    object([
        ("agentId", json!(agent)),
        ("name", json!(authorizer.name)),
        ("version", json!(authorizer.version)),
        ("createdTime", json!(authorizer.created_at.as_seconds_f64())),
        ("lastUpdatedTime", json!(authorizer.updated_at.as_seconds_f64())),
    ])
}

pub(super) async fn put(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (agent, name) = (agent(&body), name(&body));
    let (configuration, options) = (configuration(&body), options(&body));
    let action = (|| {
        Some(PutAuthorizer { agent: agent?, name: name?, configuration: configuration?, options: options? })
    })();
    let action = authorize(principal, body.finish(action)?)?;
    Ok(json!({ "version": api.services.put_authorizer(action).await? }))
}

pub(super) async fn get(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (agent, name) = (agent(&body), name(&body));
    let action = (|| Some(GetAuthorizer { agent: agent?, name: name? }))();
    let action = authorize(principal, body.finish(action)?)?;
    let agent = action.action().agent.clone();
    let authorizer = api.services.get_authorizer(action).await?;
    let mut answer = summary(&agent, &authorizer);
    answer.insert(
        "authorizerConfiguration".to_owned(),
        json!({ "customJWTAuthorizer": authorizer.configuration }),
    );
    answer.insert("options".to_owned(), json!(authorizer.options));
    Ok(Value::Object(answer))
}

pub(super) async fn delete(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (agent, name) = (agent(&body), name(&body));
    let action = (|| Some(DeleteAuthorizer { agent: agent?, name: name? }))();
    let action = authorize(principal, body.finish(action)?)?;
    api.services.delete_authorizer(action).await?;
    Ok(Value::Null)
}

pub(super) async fn list(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (agent, page) = (agent(&body), page(&body, MAX_PAGE));
    let action = (|| Some(ListAuthorizers { agent: agent?, page: page? }))();
    let action = authorize(principal, body.finish(action)?)?;
    let agent = action.action().agent.clone();
    let page = api.services.list_authorizers(action).await?;
    let items = page.items.iter().map(|authorizer| Value::Object(summary(&agent, authorizer))).collect();
    Ok(list_of("authorizers", items, page.next_token))
}
