//! The tags of resources on the wire. Their requests stand in path and query, and are read as if they stood in a body.

use std::collections::BTreeSet;

use agent_identity_core::arn::Resource;
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::Principal;
use agent_identity_core::{Error, tag};
use agent_identity_service::tags::{ListTagsForResource, TagResource, UntagResource};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::{authorize, read_object, shapes};
use crate::fields::{Members, sized};
use crate::{Api, Failure};

/// What stands before the ARN in a path.
pub(super) const PREFIX: &str = "/tags/";

/// The members of a request: `resourceArn` from its path, `tagKeys` from its query, and what is in its body.
pub(super) fn members(path: &str, query: Option<&str>, body: &[u8]) -> Result<Members, Failure> {
    let mut map = if body.is_empty() { Map::new() } else { read_object(body)?.into_map() };
    let arn = path.strip_prefix(PREFIX).unwrap_or_default();
    map.insert("resourceArn".to_owned(), json!(percent_decode_str(arn).decode_utf8_lossy()));
    let keys: Vec<Value> = query
        .into_iter()
        .flat_map(|query| query.split('&'))
        .filter_map(|pair| pair.strip_prefix("tagKeys="))
        .map(|key| json!(percent_decode_str(&key.replace('+', " ")).decode_utf8_lossy()))
        .collect();
    if !keys.is_empty() {
        map.insert("tagKeys".to_owned(), json!(keys));
    }
    Ok(Members::of_body(map))
}

fn resource(api: &Api, body: &Members) -> Result<Option<Resource>, Failure> {
    let Some(arn) = body.required("resourceArn", sized(1, 1011)) else { return Ok(None) };
    match api.services.config().place.parse(&arn) {
        Some(resource) => Ok(Some(resource)),
        None => Err(Error::new(
            ErrorKind::NotFound,
            "the ARN names no workload identity and no credential provider of this deployment",
        )
        .into()),
    }
}

pub(super) async fn tag(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let tags = shapes::tags(&body);
    if body.raw("tags").is_none() {
        body.missing("tags");
    }
    let resource = resource(api, &body)?;
    let action = (|| Some(TagResource { resource: resource?, tags: tags? }))();
    api.services.tag_resource(authorize(principal, body.finish(action)?)?).await?;
    Ok(Value::Null)
}

pub(super) async fn untag(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let keys = body.texts("tagKeys", sized(1, 128));
    if let Some(None) = keys {
        body.missing("tagKeys");
    }
    let resource = resource(api, &body)?;
    let keys = keys.flatten().map(|keys| keys.into_iter().collect::<BTreeSet<_>>());
    let action = (|| Some(UntagResource { resource: resource?, keys: keys? }))();
    api.services.untag_resource(authorize(principal, body.finish(action)?)?).await?;
    Ok(Value::Null)
}

pub(super) async fn list(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let resource = resource(api, &body)?;
    let action = resource.map(|resource| ListTagsForResource { resource });
    let tags: tag::Tags =
        api.services.list_tags_for_resource(authorize(principal, body.finish(action)?)?).await?;
    Ok(json!({ "tags": tags }))
}
