//! Which agent is meant.

use std::collections::HashMap;

use serde_json::Value;

use super::Event;
use crate::settings::Settings;

/// Where a caller may name the agent, when the header is among the identity sources.
const AGENT_HEADER: &str = "x-agent-id";

/// The path parameter, and the stage variable, that name the agent.
const AGENT_ID: &str = "agentId";

impl Event {
    /// The one agent that is named; two that disagree are none. A header may name it only when it is an identity source:
    /// what API Gateway does not key its cache by must not decide (D14).
    pub(super) fn agent(&self, settings: &Settings) -> Result<String, &'static str> {
        let header = self.one_header(AGENT_HEADER)?.filter(|value| self.is_identity_source(value, settings));
        let mut named = [
            settings.agent.clone(),
            agent_in(self.stage_variables.as_ref()).map(str::to_owned),
            self.path_agent().map(str::to_owned),
            header.map(str::to_owned),
        ]
        .into_iter()
        .flatten();
        let agent = named.next().ok_or("no_agent")?;
        if named.any(|other| other != agent) { Err("agents_disagree") } else { Ok(agent) }
    }

    /// The one that the path names.
    pub(super) fn path_agent(&self) -> Option<&str> {
        agent_in(self.path_parameters.as_ref())
    }

    /// Whether the agent's header, which has this value, is an identity source. The configuration says so; where it says nothing an
    /// HTTP API's event does, by values: a list in payload 2.0, a text with commas in 1.0. REST and WebSocket APIs do not say.
    fn is_identity_source(&self, value: &str, settings: &Settings) -> bool {
        if let Some(sources) = &settings.identity_sources {
            return sources.has_header(AGENT_HEADER);
        }
        match &self.identity_source {
            Some(Value::Array(sources)) => sources.iter().any(|source| source.as_str() == Some(value)),
            Some(Value::String(sources)) => sources.split(',').any(|source| source.trim() == value),
            _ => false,
        }
    }

    /// The value of a header, by its name in lower case. API Gateway writes names in several cases, and `sam local` in others. A
    /// REST API hands on the last of several values in one place and all in another: which of them counted would depend on who
    /// reads.
    ///
    /// # Errors
    /// When there are several.
    pub(super) fn one_header(&self, name: &str) -> Result<Option<&str>, &'static str> {
        let is_it = |key: &String| key.eq_ignore_ascii_case(name);
        let mut values = self.headers.iter().flatten().filter(|(key, _)| is_it(key)).map(|(_, value)| value);
        let many = self.multi_value_headers.iter().flatten().filter(|(key, _)| is_it(key));
        if values.clone().count() > 1 || many.map(|(_, values)| values.len()).sum::<usize>() > 1 {
            return Err("repeated_header");
        }
        Ok(values.next().map(String::as_str))
    }
}

fn agent_in(map: Option<&HashMap<String, String>>) -> Option<&str> {
    map?.get(AGENT_ID).map(String::as_str)
}
