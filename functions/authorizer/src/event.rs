//! What API Gateway asks: the kind of answer that it takes, the token, and for which agent.

mod agent;
mod resource;
#[cfg(test)]
mod tests;
mod token;

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

use crate::settings::Settings;

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The form of the answer.
    pub form: Form,
    /// Who asks for which agent, or a stable code of what is wrong: then the answer is no.
    pub asked: Result<Asked, &'static str>,
}

/// Who asks for which agent.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The `Authorization` header as it came; empty when there is none.
    pub token: String,
    /// The agent.
    pub agent: String,
}

/// The form of the answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Form {
    /// `{"isAuthorized": …}`: HTTP API, payload 2.0.
    Simple,
    /// An IAM policy.
    Policy {
        /// What is allowed or denied.
        resource: String,
        /// Whether a failure with the message `Unauthorized` is 401, as a REST API, a WebSocket API and, with payload 1.0, an HTTP
        /// API have it. With payload 2.0 only the answers `no` and `yes` are documented.
        fails_as_401: bool,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    version: Option<String>,
    r#type: Option<String>,
    authorization_token: Option<String>,
    method_arn: Option<String>,
    route_arn: Option<String>,
    headers: Option<HashMap<String, String>>,
    multi_value_headers: Option<HashMap<String, Vec<String>>>,
    query_string_parameters: Option<HashMap<String, String>>,
    multi_value_query_string_parameters: Option<HashMap<String, Vec<String>>>,
    identity_source: Option<Value>,
    path_parameters: Option<HashMap<String, String>>,
    stage_variables: Option<HashMap<String, String>>,
}

impl Request {
    /// Reads an event.
    ///
    /// # Errors
    /// A stable code: then it cannot even be said in which form to say no.
    pub fn parse(event: Value, settings: &Settings) -> Result<Self, &'static str> {
        let event: Event = serde_json::from_value(event).map_err(|_hidden| "no_authorizer_event")?;
        match (event.version.as_deref(), event.r#type.as_deref()) {
            (None, Some("TOKEN")) => event.of_token(settings),
            (Some("2.0"), Some("REQUEST")) if !settings.answers_2_0_with_policy => {
                Ok(Self { form: Form::Simple, asked: event.asked(settings) })
            }
            (Some("2.0"), Some("REQUEST")) => event.with_policy(event.route_arn.as_deref(), false, settings),
            (None | Some("1.0"), Some("REQUEST")) => {
                event.with_policy(event.method_arn.as_deref(), true, settings)
            }
            _ => Err("no_authorizer_event"),
        }
    }
}

impl Event {
    /// Such an event has nothing but the token, and its answer is cached by the token alone: the agent comes from the
    /// configuration only (D14).
    fn of_token(self, settings: &Settings) -> Result<Request, &'static str> {
        let arn = self.method_arn.as_deref().ok_or("no_method_arn")?;
        let agent = settings.agent.clone().ok_or("no_agent");
        let resource = resource::allowed(arn, agent.as_deref().ok(), false, settings)?;
        let token = self.authorization_token.unwrap_or_default();
        let asked = agent.map(|agent| Asked { token, agent });
        Ok(Request { form: Form::Policy { resource, fails_as_401: true }, asked })
    }

    fn with_policy(
        &self,
        arn: Option<&str>,
        fails_as_401: bool,
        settings: &Settings,
    ) -> Result<Request, &'static str> {
        let asked = self.asked(settings);
        let agent = asked.as_ref().ok().map(|asked| asked.agent.as_str());
        let is_of_route = settings.agent.is_none() && self.path_agent().is_some();
        let resource = resource::allowed(arn.ok_or("no_method_arn")?, agent, is_of_route, settings)?;
        Ok(Request { form: Form::Policy { resource, fails_as_401 }, asked })
    }

    fn asked(&self, settings: &Settings) -> Result<Asked, &'static str> {
        Ok(Asked { agent: self.agent(settings)?, token: self.token(settings)? })
    }
}
