//! What the authorizer handed on: `requestContext.authorizer.lambda` of payload 2.0.

use serde_json::{Map, Value};

/// The header by which a caller chooses the agent, in the case of API Gateway; `sam local` has another.
const AGENT_HEADER: &str = "x-agent-id";

/// What may be shown to the caller. A workload access token, where the authorizer mints one, is for this function alone.
const SHOWN: [&str; 7] = ["agentId", "clientId", "expiresAt", "issuer", "scopes", "subject", "userId"];

/// The session, when it is for the agent that the request names and has not ended: a cached decision may be older than either.
pub fn verified(event: &Value, now_seconds: u64) -> Result<Value, &'static str> {
    let context = event.pointer("/requestContext/authorizer/lambda").and_then(Value::as_object);
    let context = context.ok_or("no authorizer stands before this route")?;
    let agent = context.get("agentId").and_then(Value::as_str).ok_or("the authorizer names no agent")?;
    let path = event.pointer("/pathParameters/agentId").and_then(Value::as_str);
    if [header(event, AGENT_HEADER), path].into_iter().flatten().any(|asked| asked != agent) {
        return Err("the session is another agent's");
    }
    let ends = context.get("expiresAt").and_then(seconds).ok_or("the authorizer names no end")?;
    if ends <= now_seconds {
        return Err("the session has ended");
    }
    let shown = SHOWN.iter().filter_map(|name| Some(((*name).to_owned(), context.get(*name)?.clone())));
    Ok(Value::Object(shown.collect::<Map<_, _>>()))
}

/// API Gateway may hand a number on as text.
fn seconds(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn header<'a>(event: &'a Value, name: &str) -> Option<&'a str> {
    let headers = event.get("headers")?.as_object()?;
    headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?.1.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(asked: &str, context: Value) -> Value {
        json!({
            "headers": { "X-Agent-Id": asked },
            "requestContext": { "authorizer": { "lambda": context } },
        })
    }

    #[test]
    fn a_session_is_shown_without_its_token() {
        let context =
            json!({ "agentId": "a", "expiresAt": 100, "subject": "u", "workloadAccessToken": "secret" });
        let shown = verified(&event("a", context), 99).unwrap();
        assert_eq!(shown, json!({ "agentId": "a", "expiresAt": 100, "subject": "u" }));
    }

    #[test]
    fn d14_agent_and_end_are_checked_again() {
        let good = json!({ "agentId": "a", "expiresAt": "100" });
        assert!(verified(&event("a", good.clone()), 99).is_ok());
        assert!(verified(&event("a", good.clone()), 100).is_err());
        assert!(verified(&event("b", good.clone()), 99).is_err());
        let mut elsewhere = event("a", good);
        elsewhere["pathParameters"] = json!({ "agentId": "b" });
        assert!(verified(&elsewhere, 99).is_err());
        assert!(verified(&event("a", json!({ "agentId": "a" })), 99).is_err());
        assert!(verified(&event("a", json!({ "expiresAt": 100 })), 99).is_err());
        assert!(verified(&json!({}), 99).is_err());
    }
}
