//! `agent-identity authorizer check`.

use std::path::Path;
use std::process::ExitCode;

use agent_identity_core::grant::Principal;
use agent_identity_core::{Secret, WorkloadName};
use agent_identity_service::Services;
use agent_identity_service::authorizer::{ExplainToken, TokenExplained};
use comfy_table::Table;
use serde_json::{Value, json};

use super::MAX_BYTES;
use crate::{CommandError, CommandResult, input, output};

/// Says what each authorizer says of a token; a failure when none lets it pass.
///
/// # Errors
/// When the token cannot be read, or there is no such agent.
pub async fn run(
    services: &Services,
    admin: &Principal,
    agent: WorkloadName,
    token: &Path,
    json: bool,
) -> CommandResult<ExitCode> {
    let text = Secret::new(input::text_of(token, "--token", MAX_BYTES)?.trim());
    // `Authorization: Bearer …`, as people copy it.
    let token = match text.expose().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Secret::new(token.trim()),
        Some(_) => return Err(CommandError("--token holds more than a token".to_owned())),
        None => text,
    };
    let action = admin.authorize(ExplainToken { agent: agent.clone(), token })?;
    let explained = services.explain_token(action).await?;
    let passes = explained.iter().any(|it| it.passes);
    if json {
        let authorizers = Value::from_iter(explained.iter().map(shown));
        let all = json!({"agentId": agent, "passes": passes, "authorizers": authorizers});
        output::print(&all.to_string())?;
    } else if explained.is_empty() {
        output::print(&format!(
            "{agent} has no authorizer: API Gateway's authorizer lets nobody pass, and the deployment's trusted issuers decide elsewhere"
        ))?;
    } else {
        output::print(&table(&explained).to_string())?;
        output::print(if passes { "the token passes" } else { "the token does not pass" })?;
    }
    Ok(if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn table(explained: &[TokenExplained]) -> Table {
    let mut table = Table::new();
    table.set_header(["authorizer", "rule", "holds", "why"]);
    for it in explained {
        let name = it.authorizer.as_str();
        match &it.token {
            Ok(token) => {
                let user = format!("{} `{}` of {}", token.subject_claim, token.subject, token.issuer);
                table.add_row([name, "token", "yes", &user]);
            }
            Err((code, reason)) => {
                table.add_row([name, "token", "no", &format!("{reason} ({code})")]);
            }
        }
        for rule in &it.rules {
            let (holds, why) = if rule.holds { ("yes", "") } else { ("no", rule.denial.reason()) };
            table.add_row([name, &rule.rule, holds, why]);
        }
    }
    table
}

fn shown(it: &TokenExplained) -> Value {
    let token = match &it.token {
        Ok(token) => json!({
            "holds": true,
            "issuer": token.issuer,
            "subjectClaim": token.subject_claim,
            "subject": token.subject,
            "expiresAt": token.expires_at.as_seconds(),
        }),
        Err((code, reason)) => json!({"holds": false, "code": code, "reason": reason}),
    };
    let rules = Value::from_iter(it.rules.iter().map(|rule| {
        if rule.holds {
            json!({"rule": rule.rule, "holds": true})
        } else {
            json!({
                "rule": rule.rule,
                "holds": false,
                "code": rule.denial.as_str(),
                "reason": rule.denial.reason(),
            })
        }
    }));
    json!({"name": it.authorizer, "passes": it.passes, "token": token, "rules": rules})
}
