//! Shapes that several operations share, in and out.

use agent_identity_core::consent::SessionUri;
use agent_identity_core::provider::{SecretReference, SecretSource};
use agent_identity_core::tag::{
    ALLOWED_WORKLOADS, INJECTABLE_HOSTS, INTERSTITIAL, PREFIX, REFRESHES_PER_MINUTE, SHARED_CLIENT_TOKENS,
    Tags,
};
use agent_identity_core::tool::InjectableHosts;
use agent_identity_core::{Secret, WorkloadName};
use agent_identity_service::Services;
use agent_identity_service::api_key_provider::GivenSecret;
use agent_identity_service::page::PageRequest;
use serde_json::{Map, Value, json};

use crate::fields::{Members, one_of, secret, sized};

/// `TagsMap`.
pub(super) fn tags(body: &Members) -> Option<Tags> {
    let plain = |text: &str| {
        text.chars().all(|c| c.is_ascii_alphanumeric() || c.is_whitespace() || "._:/=+@-".contains(c))
    };
    let check = |key: &str, value: &str| {
        if !(1..=128).contains(&key.chars().count()) || !plain(key) {
            return Err("a key must have 1 to 128 characters and match [a-zA-Z0-9\\s._:/=+@-]*".to_owned());
        }
        if key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:")) {
            return Err(format!("`{key}` is reserved: keys that begin with `aws:` are AWS's own"));
        }
        if value.chars().count() > 256 || !plain(value) {
            return Err(format!(
                "the value of `{key}` must have at most 256 characters and match [a-zA-Z0-9\\s._:/=+@-]*"
            ));
        }
        match (key, value) {
            (INTERSTITIAL | SHARED_CLIENT_TOKENS, "true" | "false") => Ok(()),
            (INTERSTITIAL | SHARED_CLIENT_TOKENS, _) => {
                Err(format!("the value of `{key}` must be true or false"))
            }
            (INJECTABLE_HOSTS, hosts) => {
                let parsed = InjectableHosts::parse(hosts).map(drop);
                parsed.map_err(|wrong| {
                    format!("the value of `{key}` must be HOST[:PORT], separated by spaces: {wrong}")
                })
            }
            (ALLOWED_WORKLOADS, names) => {
                let parsed =
                    names.split_whitespace().try_for_each(|name| WorkloadName::parse(name).map(drop));
                parsed.map_err(|wrong| format!("the value of `{key}` must be names of workload identities, separated by spaces: a name {wrong}"))
            }
            (REFRESHES_PER_MINUTE, number) => match number.parse::<u32>() {
                Ok(1..) => Ok(()),
                _ => Err(format!("the value of `{key}` must be a number from 1 on")),
            },
            _ if key.starts_with(PREFIX) => {
                Err(format!("`{key}` is no setting: keys that begin with `{PREFIX}` are ours"))
            }
            _ => Ok(()),
        }
    };
    Some(body.text_map("tags", 50, check)?.unwrap_or_default())
}

/// What is answered where the user must consent first.
pub(super) fn consent(authorization_url: &Secret, session: &SessionUri) -> Value {
    json!({
        "authorizationUrl": authorization_url.expose(),
        "sessionUri": session.as_str(),
        "sessionStatus": "IN_PROGRESS",
    })
}

/// `nextToken` and `maxResults`.
pub(super) fn page(body: &Members, max: u64) -> Option<PageRequest> {
    let max_results = body.integer("maxResults", 1, max);
    let next_token = body.text("nextToken", sized(1, 4096));
    let max_results = usize::try_from(max_results?.unwrap_or(max)).ok()?;
    Some(PageRequest { max_results, next_token: next_token? })
}

#[derive(Clone, Copy)]
enum Source {
    Managed,
    External,
}

/// A secret, its source and its reference: `apiKey`, `apiKeySecretSource`, `apiKeySecretConfig` and the like. The inner
/// `None` means that the request mentions none of them.
pub(super) fn given_secret(
    body: &Members,
    value: &str,
    max: usize,
    source: &str,
    config: &str,
) -> Option<Option<GivenSecret>> {
    let given = body.text(value, secret(0, max));
    let wanted = body.text(source, one_of(&[("MANAGED", Source::Managed), ("EXTERNAL", Source::External)]));
    let reference = match body.object(config)? {
        None => None,
        Some(members) => {
            let secret_id = members.required("secretId", sized(1, 2048));
            let json_key = members.required("jsonKey", sized(1, 128));
            Some(SecretReference { secret_id: secret_id?, json_key: json_key? })
        }
    };
    match (wanted?, reference, given?) {
        (Some(Source::External), Some(reference), None) => Some(Some(GivenSecret::External(reference))),
        (Some(Source::External), Some(reference), Some(value)) if value.is_empty() => {
            Some(Some(GivenSecret::External(reference)))
        }
        (Some(Source::External), Some(_), Some(_)) => {
            body.wrong(value, format!("must not be given when {source} is EXTERNAL"));
            None
        }
        (Some(Source::External), None, _) => {
            body.wrong(config, format!("is required when {source} is EXTERNAL"));
            None
        }
        (_, Some(_), _) => {
            body.wrong(config, format!("is for {source} EXTERNAL only"));
            None
        }
        (_, None, Some(value)) => Some(Some(GivenSecret::Managed(value))),
        (_, None, None) => Some(None),
    }
}

/// Adds `…Arn`, `…JsonKey` and `…Source` of a secret to an answer.
pub(super) fn put_secret(
    answer: &mut Map<String, Value>,
    services: &Services,
    name: &str,
    source: &SecretSource,
) {
    answer.insert(format!("{name}Arn"), json!({ "secretArn": services.secret_arn(source) }));
    let kind = match source {
        SecretSource::Managed(_) => "MANAGED",
        SecretSource::External(reference) => {
            answer.insert(format!("{name}JsonKey"), json!(reference.json_key));
            "EXTERNAL"
        }
    };
    answer.insert(format!("{name}Source"), json!(kind));
}

/// An object from (name, value) pairs.
pub(super) fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The answer of a list: the entries under `name`, and `nextToken` where there is a next page.
pub(super) fn list(name: &str, items: Vec<Value>, next_token: Option<String>) -> Value {
    let mut answer = object([(name, json!(items))]);
    if let Some(next_token) = next_token {
        answer.insert("nextToken".to_owned(), json!(next_token));
    }
    Value::Object(answer)
}
