//! API-key credential providers on the wire.

use agent_identity_core::grant::Principal;
use agent_identity_core::provider::ApiKeyProvider;
use agent_identity_core::{ProviderName, Secret};
use agent_identity_service::api_key_provider::{
    CreateApiKeyProvider, DeleteApiKeyProvider, GetApiKeyProvider, GivenSecret, ListApiKeyProviders,
    UpdateApiKeyProvider,
};
use serde_json::{Map, Value, json};

use super::authorize;
use super::shapes::{given_secret, list as list_of, object, page, put_secret, tags};
use crate::fields::Members;
use crate::{Api, Failure};

/// Most API-key providers on a page (`MaxResults`).
const MAX_PAGE: u64 = 100;

/// Longest API key (`DefaultApiKeyType`).
const MAX_KEY: usize = 65_536;

fn secret(body: &Members) -> Option<GivenSecret> {
    let given = given_secret(body, "apiKey", MAX_KEY, "apiKeySecretSource", "apiKeySecretConfig")?;
    // Documented: create with a placeholder, set the key later.
    Some(given.unwrap_or_else(|| GivenSecret::Managed(Secret::new(""))))
}

fn named(body: &Members) -> Result<ProviderName, Failure> {
    let name = body.required("name", ProviderName::parse);
    Ok(body.finish(name)?)
}

fn answer(api: &Api, provider: &ApiKeyProvider) -> Map<String, Value> {
    let mut answer = object([
        ("name", json!(provider.name)),
        ("credentialProviderArn", json!(api.services.config().place.api_key_provider(&provider.name))),
    ]);
    put_secret(&mut answer, &api.services, "apiKeySecret", &provider.secret);
    answer
}

fn timed_answer(api: &Api, provider: &ApiKeyProvider) -> Value {
    let mut answer = answer(api, provider);
    answer.insert("createdTime".to_owned(), json!(provider.created_at.as_seconds_f64()));
    answer.insert("lastUpdatedTime".to_owned(), json!(provider.updated_at.as_seconds_f64()));
    Value::Object(answer)
}

pub(super) async fn create(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (name, secret, tags) = (body.required("name", ProviderName::parse), secret(&body), tags(&body));
    let action = (|| Some(CreateApiKeyProvider { name: name?, secret: secret?, tags: tags? }))();
    let action = authorize(principal, body.finish(action)?)?;
    Ok(Value::Object(answer(api, &api.services.create_api_key_provider(action).await?)))
}

pub(super) async fn get(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let action = authorize(principal, GetApiKeyProvider { name: named(&body)? })?;
    Ok(timed_answer(api, &api.services.get_api_key_provider(action).await?))
}

pub(super) async fn update(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (name, secret) = (body.required("name", ProviderName::parse), secret(&body));
    let action = (|| Some(UpdateApiKeyProvider { name: name?, secret: secret? }))();
    let action = authorize(principal, body.finish(action)?)?;
    Ok(timed_answer(api, &api.services.update_api_key_provider(action).await?))
}

pub(super) async fn delete(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let action = authorize(principal, DeleteApiKeyProvider { name: named(&body)? })?;
    api.services.delete_api_key_provider(action).await?;
    Ok(Value::Null)
}

pub(super) async fn list(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let page = page(&body, MAX_PAGE);
    let action = authorize(principal, ListApiKeyProviders { page: body.finish(page)? })?;
    let page = api.services.list_api_key_providers(action).await?;
    let place = &api.services.config().place;
    let items = page
        .items
        .iter()
        .map(|provider| {
            json!({
                "name": provider.name,
                "credentialProviderArn": place.api_key_provider(&provider.name),
                "createdTime": provider.created_at.as_seconds_f64(),
                "lastUpdatedTime": provider.updated_at.as_seconds_f64(),
            })
        })
        .collect();
    Ok(list_of("credentialProviders", items, page.next_token))
}
