//! What an IAM policy is for. API Gateway keeps it and holds it against other routes too, so it names those of this agent and no
//! others (D14): a cache that is keyed too narrowly then denies instead of granting.

use crate::settings::{AGENT_PLACE, Settings};

/// Every route is the agent's own where no route says another.
const WHOLE_STAGE: &str = "*";

/// The ARN that a policy names: of the configured routes; else of the route that was asked for, where routes choose the agent; else of
/// the stage: then what chose the agent is the configuration, the stage itself, or in the key of the cache.
///
/// # Errors
/// A stable code.
pub(super) fn allowed(
    arn: &str,
    agent: Option<&str>,
    is_of_route: bool,
    settings: &Settings,
) -> Result<String, &'static str> {
    let mut parts = arn.splitn(3, '/');
    let (Some(api), Some(stage), Some(route)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("no_method_arn");
    };
    if api.split(':').nth(2) != Some("execute-api") || stage.is_empty() {
        return Err("no_method_arn");
    }
    // A name that is none passes nowhere, and must not become a pattern either.
    let agent = agent.filter(|name| !name.contains(is_wild));
    match (&settings.routes, agent) {
        (Some(routes), Some(agent)) => Ok(format!("{api}/{stage}/{}", routes.replace(AGENT_PLACE, agent))),
        (None, Some(_)) if !is_of_route => Ok([api, stage, WHOLE_STAGE].join("/")),
        // The caller wrote the path, and IAM would read these as patterns.
        _ if route.contains(is_wild) => Err("wildcard_in_path"),
        _ => Ok(arn.to_owned()),
    }
}

const fn is_wild(character: char) -> bool {
    matches!(character, '*' | '?')
}
