//! What this authorizer is told of the APIs that it stands before, as far as their events do not say it.

use lambda_runtime::Error;

/// How this authorizer is attached. An event does not tell all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `AGENT_IDENTITY_AGENT`: the one agent that it decides for.
    pub agent: Option<String>,
    /// `AGENT_IDENTITY_RESPONSE=policy`: an HTTP API with payload 2.0 takes IAM policies, and not simple responses.
    pub answers_2_0_with_policy: bool,
    /// `AGENT_IDENTITY_IDENTITY_SOURCES`, as they are configured in API Gateway.
    pub identity_sources: Option<IdentitySources>,
    /// `AGENT_IDENTITY_ROUTES`: what a policy allows, as `METHOD/path` after the stage, `*` for anything and `{agentId}` for
    /// the agent.
    pub routes: Option<String>,
}

/// The parts of a request that API Gateway keys its cache by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentitySources {
    headers: Vec<String>,
    parameters: Vec<String>,
}

impl Settings {
    /// # Errors
    /// When a variable is not what it must be.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let agent = get("AGENT_IDENTITY_AGENT");
        let answers_2_0_with_policy = match get("AGENT_IDENTITY_RESPONSE").as_deref() {
            None | Some("simple") => false,
            Some("policy") => true,
            Some(_) => return Err("AGENT_IDENTITY_RESPONSE must be `simple` or `policy`".into()),
        };
        let routes = get("AGENT_IDENTITY_ROUTES");
        if agent.is_none() && routes.as_ref().is_some_and(|pattern| !pattern.contains(AGENT_PLACE)) {
            return Err(
                "AGENT_IDENTITY_ROUTES must contain `{agentId}` where AGENT_IDENTITY_AGENT names no agent: \
                        one agent's policy would be good for the routes of all"
                    .into(),
            );
        }
        let identity_sources =
            get("AGENT_IDENTITY_IDENTITY_SOURCES").map(|text| IdentitySources::parse(&text));
        Ok(Self { agent, answers_2_0_with_policy, identity_sources, routes })
    }
}

/// Where the agent's name goes in a pattern of routes.
pub const AGENT_PLACE: &str = "{agentId}";

impl IdentitySources {
    /// Of a list with commas, each entry in the form of any kind of API: `method.request.header.Authorization`,
    /// `route.request.querystring.token`, `$request.header.x-agent-id`. What is neither is a source too, and of no use here.
    fn parse(text: &str) -> Self {
        let mut sources = Self::default();
        for entry in text.split(',').map(str::trim) {
            if let Some((_, name)) = entry.split_once("request.header.") {
                sources.headers.push(name.to_ascii_lowercase());
            } else if let Some((_, name)) = entry.split_once("request.querystring.") {
                sources.parameters.push(name.to_owned());
            }
        }
        sources
    }

    /// Whether this header is one; `name` in lower case.
    pub fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|header| header == name)
    }

    /// The query parameters.
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Settings::from_environment(get).map_err(|error| error.to_string())
    }

    #[test]
    fn identity_sources_are_read_in_the_form_of_every_kind_of_api() {
        for text in [
            "method.request.header.Authorization, method.request.header.X-Agent-Id,method.request.querystring.token",
            "route.request.header.X-Agent-Id,route.request.querystring.token",
            "$request.header.x-agent-id,$request.querystring.token,$context.routeKey",
        ] {
            let sources = IdentitySources::parse(text);
            assert!(sources.has_header("x-agent-id") && !sources.has_header("x-other"), "{text}");
            assert_eq!(sources.parameters(), ["token"], "{text}");
        }
    }

    #[test]
    fn d14_a_pattern_of_routes_that_does_not_tell_agents_apart_does_not_start() {
        assert!(
            settings(&[("AGENT_IDENTITY_ROUTES", "*/agents/*")])
                .unwrap_err()
                .contains("AGENT_IDENTITY_ROUTES")
        );
        assert!(settings(&[("AGENT_IDENTITY_ROUTES", "*/agents/{agentId}/*")]).is_ok());
        assert!(settings(&[("AGENT_IDENTITY_ROUTES", "GET/*"), ("AGENT_IDENTITY_AGENT", "support")]).is_ok());
    }

    #[test]
    fn the_form_of_the_response_is_one_of_two() {
        assert!(
            settings(&[("AGENT_IDENTITY_RESPONSE", "yes")]).unwrap_err().contains("AGENT_IDENTITY_RESPONSE")
        );
        assert!(settings(&[("AGENT_IDENTITY_RESPONSE", "policy")]).unwrap().answers_2_0_with_policy);
        assert_eq!(settings(&[("AGENT_IDENTITY_RESPONSE", "simple")]), Ok(Settings::default()));
    }
}
