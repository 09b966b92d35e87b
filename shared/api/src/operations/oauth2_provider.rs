//! OAuth2 credential providers on the wire.

mod config;

use agent_identity_core::ProviderName;
use agent_identity_core::grant::Principal;
use agent_identity_core::provider::{
    ClientAuthentication, ConfigMember, Discovery, Oauth2Provider, PrivateKeyJwt, Vendor,
};
use agent_identity_service::oauth2_provider::{
    CreateOauth2Provider, DeleteOauth2Provider, GetOauth2Provider, ListOauth2Providers, UpdateOauth2Provider,
};
use serde_json::{Map, Value, json};

use super::authorize;
use super::shapes::{list as list_of, object, page, put_secret, tags};
use crate::fields::Members;
use crate::{Api, Failure};

/// Most OAuth2 providers on a page (`ListOauth2CredentialProvidersRequestMaxResultsInteger`).
const MAX_PAGE: u64 = 20;

fn vendor(body: &Members) -> Option<Vendor> {
    body.required("credentialProviderVendor", |text| {
        Vendor::parse(text).ok_or_else(|| {
            let all: Vec<&str> = Vendor::ALL.iter().map(|vendor| vendor.as_str()).collect();
            format!("must be one of {}", all.join(", "))
        })
    })
}

fn named(body: &Members) -> Result<ProviderName, Failure> {
    let name = body.required("name", ProviderName::parse);
    Ok(body.finish(name)?)
}

fn config_output(api: &Api, provider: &Oauth2Provider) -> Value {
    let member = provider.registration.vendor.config_member();
    let discovery = match api.services.described_discovery(provider) {
        Discovery::Url(url) => json!({ "discoveryUrl": url }),
        Discovery::Metadata(metadata) => json!({ "authorizationServerMetadata": metadata }),
    };
    let mut config = object([("oauthDiscovery", discovery)]);
    if !provider.registration.client_id.is_empty() {
        config.insert("clientId".to_owned(), json!(provider.registration.client_id));
    }
    if member == ConfigMember::Custom {
        config.extend(provider.echoed.clone());
        if let Some(method) = provider.client_authentication {
            config.insert("clientAuthenticationMethod".to_owned(), json!(method));
        }
        if let Some(jwt) = &provider.private_key_jwt {
            config.insert("privateKeyJwtConfig".to_owned(), private_key_jwt(jwt));
        }
    }
    json!({ member.as_str(): config })
}

fn private_key_jwt(jwt: &PrivateKeyJwt) -> Value {
    let mut config = object([
        ("privateKeySource", json!({ "kmsKeySource": { "kmsKeyArn": jwt.key_arn } })),
        ("signingAlgorithm", json!(jwt.algorithm)),
    ]);
    for (name, claims) in
        [("additionalHeaderClaims", &jwt.header_claims), ("additionalPayloadClaims", &jwt.payload_claims)]
    {
        if !claims.is_empty() {
            config.insert(name.to_owned(), json!(claims));
        }
    }
    Value::Object(config)
}

fn answer(api: &Api, provider: &Oauth2Provider) -> Map<String, Value> {
    let mut answer = object([
        ("name", json!(provider.name)),
        ("credentialProviderArn", json!(api.services.config().place.oauth2_provider(&provider.name))),
        ("callbackUrl", json!(api.services.callback_url(provider))),
        ("oauth2ProviderConfigOutput", config_output(api, provider)),
        ("status", json!("READY")),
    ]);
    put_secret(&mut answer, &api.services, "clientSecret", &provider.client_secret);
    answer
}

fn timed_answer(api: &Api, provider: &Oauth2Provider) -> Value {
    let mut answer = answer(api, provider);
    answer.extend(object([
        ("credentialProviderVendor", json!(provider.registration.vendor.as_str())),
        ("createdTime", json!(provider.created_at.as_seconds_f64())),
        ("lastUpdatedTime", json!(provider.updated_at.as_seconds_f64())),
    ]));
    Value::Object(answer)
}

pub(super) async fn create(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (name, tags) = (body.required("name", ProviderName::parse), tags(&body));
    let config = config::given(&body, vendor(&body));
    let action = (|| Some(CreateOauth2Provider { name: name?, config: config?, tags: tags? }))();
    let action = authorize(principal, body.finish(action)?)?;
    Ok(Value::Object(answer(api, &api.services.create_oauth2_provider(action).await?)))
}

pub(super) async fn get(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let action = authorize(principal, GetOauth2Provider { name: named(&body)? })?;
    Ok(timed_answer(api, &api.services.get_oauth2_provider(action).await?))
}

pub(super) async fn update(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let name = body.required("name", ProviderName::parse);
    let config = config::given(&body, vendor(&body));
    let action = (|| Some(UpdateOauth2Provider { name: name?, config: config? }))();
    let action = authorize(principal, body.finish(action)?)?;
    Ok(timed_answer(api, &api.services.update_oauth2_provider(action).await?))
}

pub(super) async fn delete(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let action = authorize(principal, DeleteOauth2Provider { name: named(&body)? })?;
    api.services.delete_oauth2_provider(action).await?;
    Ok(Value::Null)
}

pub(super) async fn list(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let page = page(&body, MAX_PAGE);
    let action = authorize(principal, ListOauth2Providers { page: body.finish(page)? })?;
    let page = api.services.list_oauth2_providers(action).await?;
    let place = &api.services.config().place;
    let items = page
        .items
        .iter()
        .map(|provider| {
            json!({
                "name": provider.name,
                "credentialProviderVendor": provider.registration.vendor.as_str(),
                "credentialProviderArn": place.oauth2_provider(&provider.name),
                "createdTime": provider.created_at.as_seconds_f64(),
                "lastUpdatedTime": provider.updated_at.as_seconds_f64(),
            })
        })
        .collect();
    Ok(list_of("credentialProviders", items, page.next_token))
}

/// `ClientAuthenticationMethodType`, as far as it is supported.
pub(super) const METHODS: &[(&str, ClientAuthentication)] = &[
    ("CLIENT_SECRET_BASIC", ClientAuthentication::Basic),
    ("CLIENT_SECRET_POST", ClientAuthentication::Post),
    ("PRIVATE_KEY_JWT", ClientAuthentication::PrivateKeyJwt),
];
