//! Authorizers on the wire: operations of ours, in the style of AWS's, with AWS's shape of the configuration.

mod configuration;

use agent_identity_core::authorizer::{Authorizer, AuthorizerOptions, CustomJwtAuthorizer};
use agent_identity_core::grant::Principal;
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::{Error, WorkloadName};
use agent_identity_service::authorizer::{DeleteAuthorizer, GetAuthorizer, ListAuthorizers, PutAuthorizer};
use serde_json::{Map, Value, json};

use self::configuration::{configuration, options};
use super::authorize;
use super::shapes::{list as list_of, object, page};
use crate::fields::Members;
use crate::{Api, Failure};

/// Most authorizers on a page.
const MAX_PAGE: u64 = 20;

/// Reads the configuration of an authorizer, and the options beside it, by the rules of PutAuthorizer: for who stores it otherwise.
///
/// # Errors
/// `Validation`, with every member that is wrong.
pub fn parse_authorizer(
    members: Map<String, Value>,
) -> Result<(CustomJwtAuthorizer, AuthorizerOptions), Error> {
    let body = Members::of_body(members);
    let (configuration, options) = (configuration(&body), options(&body));
    let read = (|| Some((configuration?, options?)))();
    body.finish(read)
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
    answer.insert("subjectClaim".to_owned(), json!(authorizer.subject_claim));
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
