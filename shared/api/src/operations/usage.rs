//! Usage on the wire: an operation of ours, in the style of AWS's.

use agent_identity_core::audit::Day;
use agent_identity_core::grant::Principal;
use agent_identity_core::usage::{Counts, Used};
use agent_identity_core::{ProviderName, WorkloadName};
use agent_identity_service::usage::GetUsage;
use serde_json::{Value, json};

use super::authorize;
use super::shapes::{list, page};
use crate::fields::Members;
use crate::{Api, Failure};

/// Most lines on a page.
const MAX_PAGE: u64 = 1000;

pub(super) async fn get(api: &Api, principal: &Principal, body: Members) -> Result<Value, Failure> {
    let workload = body.text("workloadName", WorkloadName::parse);
    let provider = body.text("providerName", ProviderName::parse);
    let (from, to) = (body.text("from", Day::parse), body.text("to", Day::parse));
    let page = page(&body, MAX_PAGE);
    let action =
        (|| Some(GetUsage { workload: workload?, provider: provider?, from: from?, to: to?, page: page? }))();
    let action = authorize(principal, body.finish(action)?)?;
    let found = api.services.get_usage(action).await?;
    let items = found.items.iter().map(shown_usage);
    Ok(list("usage", items.collect(), found.next_token))
}

/// A line as GetUsage shows it.
pub fn shown_usage(used: &Used) -> Value {
    let Counts { given, waiting, refused } = used.counts;
    json!({
        "workloadName": used.of.workload,
        "providerName": used.of.provider,
        "path": used.of.path,
        "given": given,
        "waiting": waiting,
        "refused": refused,
    })
}
