//! Connections on the wire: operations of ours, in the style of AWS's.

use agent_identity_core::connection::{ConnectionAddress, Health};
use agent_identity_core::grant::Principal;
use agent_identity_core::{ProviderName, Timestamp, WorkloadName};
use agent_identity_service::connection::{ConnectionShown, ListConnections};
use agent_identity_service::revocation::{Deleted, OffboardUser};
use serde_json::{Map, Value, json};

use super::authorize;
use super::shapes::{list as list_of, page};
use super::user::{named_user, user};
use crate::fields::Members;
use crate::{Api, Failure};

/// Most connections on a page.
const MAX_PAGE: u64 = 100;

fn address(body: &Members) -> Option<ConnectionAddress> {
    body.required("connectionId", |text| {
        ConnectionAddress::parse(text).ok_or_else(|| "is not the id of a connection".to_owned())
    })
}

fn shown(connection: &ConnectionShown) -> Value {
    let ConnectionShown { address, health, .. } = connection;
    let mut members = Map::new();
    let mut put = |name: &str, value: Value| members.insert(name.to_owned(), value);
    put("connectionId", json!(address.to_string()));
    put("userKey", json!(address.user));
    put("label", json!(address.label()));
    put("scopes", json!(connection.granted));
    put("requestedScopes", json!(connection.asked));
    put("obtainedTime", json!(connection.obtained_at.as_seconds_f64()));
    put("refreshable", json!(connection.refreshable));
    put("failures", json!(connection.failures));
    let time = |at: Timestamp| json!(at.as_seconds_f64());
    put("status", json!(health.as_str()));
    if let Health::NeedsConsent { reason, since, .. } = health {
        put("statusReason", json!(reason.as_str()));
        put("statusTime", time(*since));
    }
    for (name, value) in [
        ("workloadName", connection.workload.as_ref().map(|name| json!(name))),
        ("account", connection.account.as_ref().map(|account| json!(account.subject))),
        ("providerName", connection.provider.as_ref().map(|name| json!(name))),
        ("resources", (!connection.resources.is_empty()).then(|| json!(connection.resources))),
        ("audiences", (!connection.audiences.is_empty()).then(|| json!(connection.audiences))),
        ("expiresTime", connection.expires_at.map(time)),
        ("nextRefreshTime", connection.next_refresh_at.map(time)),
        ("lastError", connection.last_error.map(|trouble| json!(trouble.as_str()))),
    ] {
        value.map(|value| put(name, value));
    }
    Value::Object(members)
}

pub(super) async fn list(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let workload = body.text("workloadName", WorkloadName::parse);
    let provider = body.text("providerName", ProviderName::parse);
    let (user, page) = (named_user(&body), page(&body, MAX_PAGE));
    let action =
        (|| Some(ListConnections { workload: workload?, user: user?, provider: provider?, page: page? }))();
    let action = authorize(principal, body.finish(action)?)?;
    let page = api.services.list_connections(action).await?;
    Ok(list_of("connections", page.items.iter().map(shown).collect(), page.next_token))
}

fn ended(deleted: &Deleted) -> Map<String, Value> {
    let Deleted { upstream, reason, .. } = deleted;
    let mut members = Map::new();
    members.insert("local".to_owned(), json!("destroyed"));
    members.insert("upstream".to_owned(), json!(upstream.as_str()));
    members.extend(reason.as_ref().map(|reason| ("reason".to_owned(), json!(reason))));
    members
}

pub(super) async fn delete(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let address = body.finish(address(&body))?;
    Ok(Value::Object(ended(&api.services.delete_connection(principal, &address).await?)))
}

pub(super) async fn offboard(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let user = body.finish(user(&body))?;
    let action = authorize(principal, OffboardUser { user })?;
    let gone = api.services.offboard_user(action).await?;
    let of = |deleted: &Deleted| {
        let mut members = ended(deleted);
        members.insert("connectionId".to_owned(), json!(deleted.address.to_string()));
        Value::Object(members)
    };
    let connections: Vec<Value> = gone.deleted.iter().map(of).collect();
    Ok(json!({ "connections": connections, "complete": gone.complete }))
}

pub(super) async fn get(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let address = body.finish(address(&body))?;
    Ok(shown(&api.services.get_connection(principal, &address).await?))
}

pub(super) async fn retry(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let address = body.finish(address(&body))?;
    Ok(shown(&api.services.retry_connection(principal, &address).await?))
}
