//! Workload identities on the wire.

use agent_identity_core::WorkloadName;
use agent_identity_core::grant::Principal;
use agent_identity_core::workload::{ReturnUrl, Workload};
use agent_identity_service::workload::{
    CreateWorkload, DeleteWorkload, GetWorkload, ListWorkloads, UpdateWorkload,
};
use serde_json::{Map, Value, json};

use super::authorize;
use super::shapes::{list as list_of, object, page, tags};
use crate::fields::Members;
use crate::{Api, Failure};

/// Most workload identities on a page (`ListWorkloadIdentitiesRequestMaxResultsInteger`).
const MAX_PAGE: u64 = 20;

fn return_urls(body: &Members) -> Option<Option<Vec<ReturnUrl>>> {
    body.texts("allowedResourceOauth2ReturnUrls", ReturnUrl::parse)
}

fn named(body: &Members) -> Result<WorkloadName, Failure> {
    let name = body.required("name", WorkloadName::parse);
    Ok(body.finish(name)?)
}

fn answer(api: &Api, workload: &Workload) -> Map<String, Value> {
    object([
        ("name", json!(workload.name)),
        ("workloadIdentityArn", json!(api.services.config().place.workload(&workload.name))),
        ("allowedResourceOauth2ReturnUrls", json!(workload.return_urls)),
    ])
}

fn timed_answer(api: &Api, workload: &Workload) -> Value {
    let mut answer = answer(api, workload);
    answer.insert("createdTime".to_owned(), json!(workload.created_at.as_seconds_f64()));
    answer.insert("lastUpdatedTime".to_owned(), json!(workload.updated_at.as_seconds_f64()));
    Value::Object(answer)
}

pub(super) async fn create(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (name, urls, tags) = (body.required("name", WorkloadName::parse), return_urls(&body), tags(&body));
    let action =
        (|| Some(CreateWorkload { name: name?, return_urls: urls?.unwrap_or_default(), tags: tags? }))();
    let action = authorize(principal, body.finish(action)?)?;
    Ok(Value::Object(answer(api, &api.services.create_workload(action).await?)))
}

pub(super) async fn get(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let action = authorize(principal, GetWorkload { name: named(&body)? })?;
    Ok(timed_answer(api, &api.services.get_workload(action).await?))
}

pub(super) async fn update(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (name, urls) = (body.required("name", WorkloadName::parse), return_urls(&body));
    let action = (|| Some(UpdateWorkload { name: name?, return_urls: urls? }))();
    let action = authorize(principal, body.finish(action)?)?;
    Ok(timed_answer(api, &api.services.update_workload(action).await?))
}

pub(super) async fn delete(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let action = authorize(principal, DeleteWorkload { name: named(&body)? })?;
    api.services.delete_workload(action).await?;
    Ok(Value::Null)
}

pub(super) async fn list(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let page = page(&body, MAX_PAGE);
    let action = authorize(principal, ListWorkloads { page: body.finish(page)? })?;
    let page = api.services.list_workloads(action).await?;
    let place = &api.services.config().place;
    let items = page
        .items
        .iter()
        .map(|workload| json!({ "name": workload.name, "workloadIdentityArn": place.workload(&workload.name) }))
        .collect();
    Ok(list_of("workloadIdentities", items, page.next_token))
}
