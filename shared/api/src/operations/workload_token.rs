//! Workload access tokens on the wire.

use agent_identity_core::grant::Principal;
use agent_identity_core::name::UserId;
use agent_identity_core::{Secret, WorkloadName};
use agent_identity_service::workload_token::{
    IssueWorkloadToken, IssueWorkloadTokenForJwt, IssueWorkloadTokenForUserId,
};
use serde_json::{Value, json};

use super::authorize;
use crate::fields::Members;
use crate::{Api, Failure};

/// Longest user token that the model lets pass (`UserTokenType`); how much of it is looked at is the verifier's limit.
const MAX_USER_TOKEN: usize = 131_072;

/// `UserTokenType`, which is three parts of base64url, or any other bearer token (`b64token` of RFC 6750 §2.1): an agent's issuer may
/// write tokens that only it can read (ADR 0025).
pub(super) fn user_token(text: &str) -> Result<Secret, String> {
    if text.is_empty() || text.len() > MAX_USER_TOKEN {
        return Err(format!("must have 1 to {MAX_USER_TOKEN} characters"));
    }
    if !text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/=".contains(c)) {
        return Err("must be a token: letters, digits and -._~+/=".to_owned());
    }
    Ok(Secret::new(text))
}

fn answer(token: &Secret) -> Value {
    json!({ "workloadAccessToken": token.expose() })
}

fn workload(body: &Members) -> Option<WorkloadName> {
    body.required("workloadName", WorkloadName::parse)
}

pub(super) async fn issue(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let workload = body.finish(workload(&body))?;
    let action = authorize(principal, IssueWorkloadToken { workload })?;
    Ok(answer(&api.services.issue_workload_token(action).await?))
}

pub(super) async fn issue_for_jwt(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (workload, user_token) = (workload(&body), body.required("userToken", user_token));
    let action = (|| Some(IssueWorkloadTokenForJwt { workload: workload?, user_token: user_token? }))();
    let action = authorize(principal, body.finish(action)?)?;
    Ok(answer(&api.services.issue_workload_token_for_jwt(action).await?))
}

pub(super) async fn issue_for_user_id(
    api: &Api,
    principal: &Principal,
    body: Members,
) -> Result<Value, Failure> {
    let (workload, user_id) = (workload(&body), body.required("userId", UserId::parse));
    let action = (|| Some(IssueWorkloadTokenForUserId { workload: workload?, user_id: user_id? }))();
    let action = authorize(principal, body.finish(action)?)?;
    Ok(answer(&api.services.issue_workload_token_for_user_id(action).await?))
}
