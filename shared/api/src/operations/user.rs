//! Bans on the wire (D15): operations of ours, in the style of AWS's.

use agent_identity_core::WorkloadName;
use agent_identity_core::grant::Principal;
use agent_identity_core::name::UserId;
use agent_identity_service::denial::{Ban, BlockUser, NamedUser, SignOutUser, UnblockUser};
use serde_json::{Map, Value, json};

use super::authorize;
use crate::fields::{Members, sized};
use crate::{Api, Failure};

/// Longest issuer and subject, in characters: what a token may have (`jose`).
const MAX_NAME: usize = 1024;

/// The user: an issuer and their subject there, or an id that callers vouch for.
pub(super) fn user(body: &Members) -> Option<NamedUser> {
    match named_user(body)? {
        Some(user) => Some(user),
        None => {
            body.wrong("issuer", "is required, with subject, unless userId names the user");
            body.wrong("subject", "is required, with issuer, unless userId names the user");
            None
        }
    }
}

/// The same where nobody need be named.
pub(super) fn named_user(body: &Members) -> Option<Option<NamedUser>> {
    let issuer = body.text("issuer", sized(1, MAX_NAME));
    let subject = body.text("subject", sized(1, MAX_NAME));
    let user_id = body.text("userId", UserId::parse);
    match (issuer?, subject?, user_id?) {
        (None, None, None) => Some(None),
        (Some(issuer), Some(subject), None) => Some(Some(NamedUser::Jwt { issuer, subject })),
        (None, None, Some(user_id)) => Some(Some(NamedUser::UserId(user_id))),
        (_, _, Some(_)) => {
            body.wrong("userId", "names the user alone; leave out issuer and subject, or userId");
            None
        }
        (issuer, subject, None) => {
            if issuer.is_none() {
                body.wrong("issuer", "is required, with subject, unless userId names the user");
            }
            if subject.is_none() {
                body.wrong("subject", "is required, with issuer, unless userId names the user");
            }
            None
        }
    }
}

/// For whom the ban holds, and whom it is about.
fn ban(body: &Members) -> Option<(Option<WorkloadName>, NamedUser)> {
    let (agent, user) = (body.text("agentId", WorkloadName::parse), user(body));
    Some((agent?, user?))
}

fn answer(ban: Ban) -> Value {
    let mut members = Map::new();
    members.insert("blocked".to_owned(), json!(ban.denial.blocked));
    if let Some(from) = ban.denial.not_before {
        members.insert("notBefore".to_owned(), json!(from.as_seconds_f64()));
    }
    if let Some(claim) = ban.subject_claim {
        members.insert("subjectClaim".to_owned(), json!(claim));
    }
    Value::Object(members)
}

pub(super) async fn block(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (agent, user) = body.finish(ban(&body))?;
    let action = authorize(principal, BlockUser { agent, user })?;
    Ok(answer(api.services.block_user(action).await?))
}

pub(super) async fn unblock(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (agent, user) = body.finish(ban(&body))?;
    let action = authorize(principal, UnblockUser { agent, user })?;
    Ok(answer(api.services.unblock_user(action).await?))
}

pub(super) async fn sign_out(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let (agent, user) = body.finish(ban(&body))?;
    let action = authorize(principal, SignOutUser { agent, user })?;
    Ok(answer(api.services.sign_out_user(action).await?))
}
