//! What API Gateway asks: the kind of answer that it takes, the token, and for which agent.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;

/// Where a caller may name the agent, when the header is among the identity sources.
const AGENT_HEADER: &str = "x-agent-id";

/// The path parameter, and the stage variable, that name the agent.
const AGENT_ID: &str = "agentId";

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    /// The form of the answer.
    pub form: Form,
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
    /// An IAM policy: REST API, WebSocket API, and HTTP API with payload 1.0. What is allowed is this resource.
    Policy {
        /// The resource.
        resource: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    version: Option<String>,
    r#type: Option<String>,
    authorization_token: Option<String>,
    method_arn: Option<String>,
    #[serde(default)]
    headers: Option<HashMap<String, String>>,
    identity_source: Option<Value>,
    #[serde(default)]
    path_parameters: Option<HashMap<String, String>>,
    #[serde(default)]
    stage_variables: Option<HashMap<String, String>>,
}

impl Request {
    /// Reads an event; `configured` is the agent that this authorizer is for.
    ///
    /// # Errors
    /// A stable code: then the answer is no.
    pub fn parse(event: Value, configured: Option<&str>) -> Result<Self, &'static str> {
        let event: Event = serde_json::from_value(event).map_err(|_hidden| "no_authorizer_event")?;
        match (event.version.as_deref(), event.r#type.as_deref()) {
            (None, Some("TOKEN")) => Self::of_token_event(event, configured),
            (Some("2.0"), Some("REQUEST")) => {
                let agent = event.agent(configured)?;
                Ok(Self { form: Form::Simple, token: event.authorization(), agent })
            }
            (None | Some("1.0"), Some("REQUEST")) => {
                let agent = event.agent(configured)?;
                let token = event.authorization();
                let arn = event.method_arn.ok_or("no_method_arn")?;
                // A policy may be cached for other routes: it is for more than this one only where the agent is fixed (D14).
                let resource = if configured.is_some() { whole_stage(&arn)? } else { arn };
                Ok(Self { form: Form::Policy { resource }, token, agent })
            }
            _ => Err("no_authorizer_event"),
        }
    }

    /// Such an event has nothing but the token, and its answer is cached by the token alone: the agent comes from the
    /// configuration only (D14).
    fn of_token_event(event: Event, configured: Option<&str>) -> Result<Self, &'static str> {
        let agent = configured.ok_or("no_agent")?.to_owned();
        let arn = event.method_arn.ok_or("no_method_arn")?;
        Ok(Self {
            form: Form::Policy { resource: whole_stage(&arn)? },
            token: event.authorization_token.unwrap_or_default(),
            agent,
        })
    }
}

impl Event {
    /// The `Authorization` header. API Gateway writes header names in several cases, and `sam local` in others.
    fn authorization(&self) -> String {
        self.header("authorization").unwrap_or_default().to_owned()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let headers = self.headers.as_ref()?;
        headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The one agent that is named; two that disagree are none. A header may name it only when it is an identity source:
    /// what API Gateway does not key its cache by must not decide.
    fn agent(&self, configured: Option<&str>) -> Result<String, &'static str> {
        let of = |map: &Option<HashMap<String, String>>| map.as_ref()?.get(AGENT_ID).cloned();
        let header = self.header(AGENT_HEADER).filter(|value| self.is_identity_source(value));
        let mut named = [
            configured.map(str::to_owned),
            of(&self.stage_variables),
            of(&self.path_parameters),
            header.map(str::to_owned),
        ]
        .into_iter()
        .flatten();
        let agent = named.next().ok_or("no_agent")?;
        if named.any(|other| other != agent) { Err("agents_disagree") } else { Ok(agent) }
    }

    /// Whether this value is among the identity sources: a list in payload 2.0, a text with commas in 1.0. A REST API does
    /// not say what its identity sources are.
    fn is_identity_source(&self, value: &str) -> bool {
        match &self.identity_source {
            Some(Value::Array(sources)) => sources.iter().any(|source| source.as_str() == Some(value)),
            Some(Value::String(sources)) => sources.split(',').any(|source| source.trim() == value),
            _ => false,
        }
    }
}

/// `arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/*` of a method's ARN.
fn whole_stage(arn: &str) -> Result<String, &'static str> {
    let mut parts = arn.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(api), Some(stage), Some(_)) if api.contains(":execute-api:") && !stage.is_empty() => {
            Ok(format!("{api}/{stage}/*"))
        }
        _ => Err("no_method_arn"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ARN: &str = "arn:aws:execute-api:us-east-1:123456789012:api/prod/GET/orders/1";

    fn token_event() -> Value {
        json!({"type": "TOKEN", "methodArn": ARN, "authorizationToken": "Bearer a.b.c"})
    }

    fn request_event() -> Value {
        json!({
            "version": "2.0", "type": "REQUEST",
            "headers": {"Authorization": "Bearer a.b.c", "x-agent-id": "support"},
            "identitySource": ["Bearer a.b.c", "support"],
        })
    }

    #[test]
    fn d14_a_token_event_takes_its_agent_from_the_configuration_only() {
        assert_eq!(Request::parse(token_event(), None), Err("no_agent"));
        let request = Request::parse(token_event(), Some("support")).unwrap();
        assert_eq!((request.agent.as_str(), request.token.as_str()), ("support", "Bearer a.b.c"));
        let resource = "arn:aws:execute-api:us-east-1:123456789012:api/prod/*".to_owned();
        assert_eq!(request.form, Form::Policy { resource });
    }

    #[test]
    fn d14_a_policy_for_an_agent_that_the_request_names_is_for_that_route_alone() {
        let event = json!({
            "type": "REQUEST", "methodArn": ARN, "headers": {"authorization": "Bearer a.b.c"},
            "pathParameters": {"agentId": "support"}, "stageVariables": null,
        });
        let request = Request::parse(event, None).unwrap();
        assert_eq!(request.form, Form::Policy { resource: ARN.to_owned() });
        assert_eq!(request.agent, "support");
    }

    #[test]
    fn d14_a_header_names_the_agent_only_as_an_identity_source() {
        assert_eq!(Request::parse(request_event(), None).unwrap().agent, "support");
        let mut event = request_event();
        event["identitySource"] = json!(["Bearer a.b.c"]);
        assert_eq!(Request::parse(event.clone(), None), Err("no_agent"));
        event["version"] = json!("1.0");
        event["methodArn"] = json!(ARN);
        event["identitySource"] = json!("Bearer a.b.c,support");
        assert_eq!(Request::parse(event, None).unwrap().agent, "support");
    }

    #[test]
    fn two_agents_that_disagree_are_none() {
        assert_eq!(Request::parse(request_event(), Some("other")), Err("agents_disagree"));
        let mut event = request_event();
        event["pathParameters"] = json!({"agentId": "third"});
        assert_eq!(Request::parse(event, None), Err("agents_disagree"));
        assert!(Request::parse(request_event(), Some("support")).is_ok());
    }

    #[test]
    fn what_is_no_authorizer_event_is_refused() {
        for event in [
            json!(null),
            json!([]),
            json!({}),
            json!({"type": "TOKEN"}),
            json!({"type": "REQUEST", "headers": {"authorization": 1}}),
            json!({"version": "3.0", "type": "REQUEST"}),
            json!({"type": "TOKEN", "methodArn": "nonsense", "authorizationToken": "x"}),
            json!({"type": "TOKEN", "methodArn": 7}),
        ] {
            assert!(Request::parse(event.clone(), Some("support")).is_err(), "{event}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_arn_is_read_without_a_panic(arn in "\\PC{0,60}") {
            if let Ok(resource) = whole_stage(&arn) {
                proptest::prop_assert!(resource.ends_with("/*"));
            }
        }
    }
}
