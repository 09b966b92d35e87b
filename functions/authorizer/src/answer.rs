//! The answer in the form that API Gateway takes: allow with a flat context, deny, or fail with exactly `Unauthorized`.

use agent_identity_inbound::{Outcome, SessionContext};
use lambda_runtime::Diagnostic;
use serde::Serialize;

use crate::event::Form;

/// An answer, as API Gateway reads it.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// HTTP API, payload 2.0.
    #[serde(rename_all = "camelCase")]
    Simple {
        is_authorized: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        context: Option<Context>,
    },
    /// An IAM policy.
    #[serde(rename_all = "camelCase")]
    Policy { principal_id: String, policy_document: PolicyDocument, context: Context },
}

/// A policy of one statement.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyDocument {
    version: &'static str,
    statement: [Statement; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    action: &'static str,
    effect: &'static str,
    resource: String,
}

/// What the API behind it gets.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Context {
    Session(SessionContext),
    /// Where the answer is no.
    Nothing {},
}

/// The answer to a decision; no form is an event that could not be read.
///
/// # Errors
/// `Unauthorized`, which API Gateway turns into 401, and `Unavailable`, which it turns into 500: not the caller's fault. Neither is
/// cached.
pub fn answer(form: Option<Form>, outcome: Outcome) -> Result<Answer, Diagnostic> {
    match (form, outcome) {
        (_, Outcome::Unavailable(_)) => Err(failure("Unavailable")),
        (Some(Form::Simple), Outcome::Allowed(session)) => {
            Ok(Answer::Simple { is_authorized: true, context: Some(Context::Session(session.context())) })
        }
        // An HTTP API answers 403; a request without its identity sources does not come here and is 401.
        (Some(Form::Simple), Outcome::Unauthorized(_) | Outcome::Forbidden(_)) => {
            Ok(Answer::Simple { is_authorized: false, context: None })
        }
        (Some(Form::Policy { resource, .. }), Outcome::Allowed(session)) => {
            let context = session.context();
            Ok(policy(context.user_id.clone(), "Allow", resource, Context::Session(context)))
        }
        (None | Some(Form::Policy { fails_as_401: true, .. }), Outcome::Unauthorized(_)) => {
            Err(failure("Unauthorized"))
        }
        (Some(Form::Policy { resource, .. }), Outcome::Unauthorized(_) | Outcome::Forbidden(_)) => {
            Ok(policy("-".to_owned(), "Deny", resource, Context::Nothing {}))
        }
        (None, _) => Err(failure("Unauthorized")),
    }
}

fn failure(message: &str) -> Diagnostic {
    // API Gateway looks at the message, which must be exactly this.
    Diagnostic { error_type: message.to_owned(), error_message: message.to_owned() }
}

fn policy(principal_id: String, effect: &'static str, resource: String, context: Context) -> Answer {
    let statement = Statement { action: "execute-api:Invoke", effect, resource };
    let policy_document = PolicyDocument { version: "2012-10-17", statement: [statement] };
    Answer::Policy { principal_id, policy_document, context }
}

#[cfg(test)]
mod tests {
    use agent_identity_core::name::AuthorizerName;
    use agent_identity_core::user::UserKey;
    use agent_identity_core::{Timestamp, WorkloadName};
    use agent_identity_inbound::VerifiedSession;
    use serde_json::{Value, json};

    use super::*;

    fn session() -> VerifiedSession {
        VerifiedSession {
            agent: WorkloadName::parse("support").unwrap(),
            authorizer: AuthorizerName::parse("main").unwrap(),
            user_key: UserKey::from_digest([7; 32]),
            issuer: "https://idp.example".to_owned(),
            subject: "ada".to_owned(),
            scopes: vec!["a".to_owned(), "b".to_owned()],
            client_id: Some("app".to_owned()),
            expires_at: Timestamp::from_seconds(1_000),
            workload_token: None,
        }
    }

    fn with_policy(fails_as_401: bool) -> Form {
        Form::Policy { resource: "arn:x/prod/*".to_owned(), fails_as_401 }
    }

    fn answered(form: Form, outcome: Outcome) -> Result<Value, String> {
        let answer = answer(Some(form), outcome).map_err(|failure| failure.error_message)?;
        Ok(serde_json::to_value(answer).unwrap())
    }

    #[test]
    fn the_context_is_flat_and_says_who_for_whom_and_until_when() {
        let allowed = answered(Form::Simple, Outcome::Allowed(session())).unwrap();
        assert_eq!(
            allowed,
            json!({
                "isAuthorized": true,
                "context": {
                    "agentId": "support", "userId": "07".repeat(32), "issuer": "https://idp.example",
                    "subject": "ada", "scopes": "a b", "expiresAt": 1000, "clientId": "app",
                },
            })
        );
    }

    #[test]
    fn a_rest_api_answers_401_only_to_exactly_this_failure() {
        assert_eq!(
            answered(with_policy(true), Outcome::Unauthorized("expired")),
            Err("Unauthorized".to_owned())
        );
    }

    #[test]
    fn what_is_forbidden_is_denied_and_says_nothing_more() {
        let denied = answered(with_policy(true), Outcome::Forbidden("scope")).unwrap();
        assert_eq!(denied["policyDocument"]["Statement"][0]["Effect"], "Deny");
        assert_eq!(denied["context"], json!({}));
        assert_eq!(answered(Form::Simple, Outcome::Forbidden("scope")), Ok(json!({"isAuthorized": false})));
    }

    #[test]
    fn with_payload_2_0_every_no_is_an_answer() {
        let refused = answered(with_policy(false), Outcome::Unauthorized("expired")).unwrap();
        assert_eq!(refused["policyDocument"]["Statement"][0]["Effect"], "Deny");
        assert_eq!(
            answered(Form::Simple, Outcome::Unauthorized("expired")),
            Ok(json!({"isAuthorized": false}))
        );
    }

    #[test]
    fn what_cannot_be_decided_now_is_no_decision() {
        for form in [Form::Simple, with_policy(true), with_policy(false)] {
            let outcome = Outcome::Unavailable("the store is busy".to_owned());
            assert_eq!(answered(form, outcome), Err("Unavailable".to_owned()));
        }
    }

    #[test]
    fn an_allowing_policy_names_its_resource_and_no_other() {
        let allowed = answered(with_policy(true), Outcome::Allowed(session())).unwrap();
        let statement = &allowed["policyDocument"]["Statement"][0];
        assert_eq!((&statement["Effect"], &statement["Resource"]), (&json!("Allow"), &json!("arn:x/prod/*")));
    }
}
