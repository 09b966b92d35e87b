//! Getting credentials, and completing a consent, on the wire.

use std::collections::BTreeSet;

use agent_identity_core::consent::SessionUri;
use agent_identity_core::grant::Principal;
use agent_identity_core::name::{Label, Scope, UserId};
use agent_identity_core::workload::ReturnUrl;
use agent_identity_core::{ProviderName, Secret};
use agent_identity_service::consent::{CompleteConsent, UserIdentifier};
use agent_identity_service::oauth2_token::{Flow, Oauth2TokenAnswer, Oauth2TokenRequest};
use serde_json::{Value, json};

use super::shapes::consent;
use super::workload_token::user_token;
use crate::fields::{Members, one_of, patterned, secret, sized};
use crate::{Api, Failure};

/// Longest workload access token (`WorkloadIdentityTokenType`).
const MAX_WORKLOAD_TOKEN: usize = 131_072;

pub(super) fn workload_token(body: &Members) -> Option<Secret> {
    body.required("workloadIdentityToken", secret(1, MAX_WORKLOAD_TOKEN))
}

fn provider(body: &Members) -> Option<ProviderName> {
    body.required("resourceCredentialProviderName", ProviderName::parse)
}

/// Which of the user's accounts at a provider: ours.
pub(super) fn label(body: &Members) -> Option<Label> {
    Some(body.text("connectionLabel", Label::parse)?.unwrap_or_default())
}

/// The members of `GetResourceOauth2TokenRequest`.
fn oauth2_token_request(body: &Members) -> Option<Oauth2TokenRequest> {
    const FLOWS: &[(&str, Flow)] = &[
        ("USER_FEDERATION", Flow::UserFederation),
        ("M2M", Flow::M2m),
        ("ON_BEHALF_OF_TOKEN_EXCHANGE", Flow::OnBehalfOf),
    ];
    let workload_token = workload_token(body);
    let provider = provider(body);
    let scopes = body.texts("scopes", Scope::parse);
    if let Some(None) = scopes {
        body.missing("scopes");
    }
    let flow = body.required("oauth2Flow", one_of(FLOWS));
    let label = label(body);
    let session = body.text("sessionUri", SessionUri::parse);
    let return_url = body.text("resourceOauth2ReturnUrl", ReturnUrl::parse);
    let force_authentication = body.boolean("forceAuthentication");
    let custom_parameters = body.text_map("customParameters", 100, |name, value| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        patterned(1, 256, plain, "[a-zA-Z0-9\\-_\\.]+")(name).map_err(|error| format!("a name {error}"))?;
        sized(1, 2048)(value).map_err(|error| format!("the value of `{name}` {error}"))?;
        Ok(())
    });
    let custom_state = body.text("customState", secret(1, 4096));
    let resources = body.texts("resources", sized(1, 2048));
    let audiences = body.texts("audiences", sized(1, 2048));
    Some(Oauth2TokenRequest {
        workload_token: workload_token?,
        provider: provider?,
        scopes: scopes??.into_iter().collect::<BTreeSet<_>>(),
        flow: flow?,
        label: label?,
        session: session?,
        return_url: return_url?,
        force_authentication: force_authentication?,
        custom_parameters: custom_parameters?.unwrap_or_default(),
        custom_state: custom_state?,
        resources: resources?.unwrap_or_default(),
        audiences: audiences?.unwrap_or_default(),
    })
}

pub(super) async fn oauth2_token(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let request = body.finish(oauth2_token_request(&body))?;
    // Absent members are left out: the Python SDK asks whether `accessToken` is there, not whether it is null.
    Ok(match api.services.get_oauth2_token(principal, request).await? {
        Oauth2TokenAnswer::Token(token) => json!({ "accessToken": token.expose() }),
        Oauth2TokenAnswer::Consent { authorization_url, session } => consent(&authorization_url, &session),
        Oauth2TokenAnswer::InProgress(session) => {
            json!({ "sessionUri": session.as_str(), "sessionStatus": "IN_PROGRESS" })
        }
    })
}

pub(super) async fn api_key(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (token, provider) = (workload_token(&body), provider(&body));
    let (token, provider) = body.finish((|| Some((token?, provider?)))())?;
    let key = api.services.get_api_key(principal, &token, &provider).await?;
    Ok(json!({ "apiKey": key.expose() }))
}

pub(super) async fn complete(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let session = body.required("sessionUri", SessionUri::parse);
    let user = body.required_object("userIdentifier").and_then(|user| {
        match user.union(&["userToken", "userId"])? {
            "userToken" => user.required("userToken", user_token).map(UserIdentifier::UserToken),
            _ => user.required("userId", UserId::parse).map(UserIdentifier::UserId),
        }
    });
    let request = body.finish((|| Some(CompleteConsent { session: session?, user: user? }))())?;
    api.services.complete_consent(principal, request).await?;
    Ok(json!({}))
}
