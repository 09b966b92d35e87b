//! Which tokens an agent's rules show to the issuer, and what they make of the answer.

use agent_identity_core::authorizer::{AgentAuthorizers, AgentRules, Denial, Refused};
use agent_identity_core::issuer::TrustedIssuer;

use super::*;
use crate::JwtVerifier;

const JWT: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lkcC5leGFtcGxlIn0.AAAA";

impl World {
    fn rules(&self, authorizers: Vec<Authorizer>, issuers: &[TrustedIssuer]) -> AgentRules {
        AgentRules::new(AgentAuthorizers { workload: WORKLOAD, epoch: 0, authorizers }, issuers)
    }

    fn verifier(&self) -> JwtVerifier {
        JwtVerifier::new(self.endpoint.clone(), self.clock.clone()).introspecting(Some(self.keys.clone()))
    }

    /// Who passes, or with what they are refused.
    async fn judged(&self, rules: &AgentRules, token: &str) -> Result<String, &'static str> {
        match rules.judge(&self.verifier(), &Secret::new(token)).await {
            Ok(passed) => Ok(passed.claims.token.subject),
            Err(Refused::Token(refusal)) => Err(code(&refusal)),
            Err(Refused::Denied(denial)) => Err(denial.as_str()),
        }
    }
}

/// One that asks nobody.
fn silent(authorizer: &Authorizer, name: &str) -> Authorizer {
    let mut made = authorizer.clone();
    made.name = AuthorizerName::parse(name).unwrap();
    (made.options.introspection, made.introspection_secret) = (None, None);
    made
}

#[tokio::test]
async fn the_rules_decide_on_what_the_issuer_says() {
    let both = json!({"allowedClients": ["front-end"], "allowedScopes": ["chat.write"]});
    let world = World::with(both, json!({})).await;
    let rules = world.rules(vec![world.authorizer.clone()], &[]);
    assert_eq!(world.judged(&rules, TOKEN).await, Ok("ada".to_owned()));
    for (changes, denial) in [
        (json!({"client_id": "other"}), Denial::Client),
        (json!({"client_id": null}), Denial::Client),
        (json!({"scope": "profile"}), Denial::Scope),
        (json!({"scope": null}), Denial::Scope),
    ] {
        world.endpoint.says("other", 200, world.active(&changes).to_string());
        assert_eq!(world.judged(&rules, "other").await, Err(denial.as_str()), "{changes}");
    }
}

#[tokio::test]
async fn a_jwt_is_shown_to_nobody() {
    let world = World::new().await;
    let rules = world.rules(vec![world.authorizer.clone()], &[]);
    world.endpoint.says(JWT, 200, world.active(&json!({})).to_string());
    for token in [JWT, "eyJhbGciOiJub25lIn0.e30.", "e30=.e30.AAAA"] {
        assert!(world.judged(&rules, token).await.is_err(), "{token}");
    }
    assert_eq!(world.endpoint.take_asked(), 0);
}

#[tokio::test]
async fn without_an_authorizer_that_asks_nobody_is_asked() {
    let world = World::new().await;
    let rules = world.rules(vec![silent(&world.authorizer, "people")], &[]);
    assert_eq!(world.judged(&rules, TOKEN).await, Err("structure"));
    let mut other = world.authorizer.clone();
    other.name = AuthorizerName::parse("others").unwrap();
    let two = world.rules(vec![world.authorizer.clone(), other], &[]);
    assert_eq!(
        world.judged(&two, TOKEN).await,
        Err("structure"),
        "of which of two issuers it is nobody knows"
    );
    let keyless = JwtVerifier::new(world.endpoint.clone(), world.clock.clone());
    let rules = world.rules(vec![world.authorizer.clone()], &[]);
    let refused = rules.judge(&keyless, &Secret::new(TOKEN)).await.unwrap_err();
    assert!(matches!(refused, Refused::Token(TokenRefused::IssuerUnavailable(_))));
    assert_eq!(world.endpoint.take_asked(), 0);
}

#[tokio::test]
async fn rules_of_another_authorizer_are_not_mixed_in() {
    let world = World::new().await;
    let mut lax = silent(&world.authorizer, "lax");
    lax.configuration.allowed_clients = vec!["other".to_owned()];
    let rules = world.rules(vec![lax, world.authorizer.clone()], &[]);
    let passed = rules.judge(&world.verifier(), &Secret::new(TOKEN)).await.unwrap();
    assert_eq!((passed.authorizer.name.as_str(), passed.claims.met), ("people", vec![1]));
    world.endpoint.says("other", 200, world.active(&json!({"client_id": "other"})).to_string());
    assert_eq!(world.judged(&rules, "other").await, Err("client"));
}

#[tokio::test]
async fn d10_where_the_deployment_knows_users_by_another_claim_nobody_is_asked() {
    let world = World::new().await;
    let record = TrustedIssuer {
        issuer: ISSUER.to_owned(),
        audiences: Vec::new(),
        clients: Vec::new(),
        algorithms: Vec::new(),
        typ: None,
        subject_claim: "oid".to_owned(),
    };
    let rules = world.rules(vec![world.authorizer.clone()], &[record]);
    assert_eq!(world.judged(&rules, TOKEN).await, Err("issuer"));
    assert_eq!(world.endpoint.take_asked(), 0);
}

#[tokio::test]
async fn who_looks_for_the_cause_is_told_by_each_authorizer() {
    let world =
        World::with(json!({"allowedClients": ["front-end"], "allowedScopes": ["admin"]}), json!({})).await;
    let rules = world.rules(vec![silent(&world.authorizer, "jwts"), world.authorizer.clone()], &[]);
    let verifier = world.verifier();
    let explained = rules.explain(&verifier, &Secret::new(TOKEN)).await;
    let [jwts, people] = explained.as_slice() else { panic!("two") };
    assert_eq!(jwts.token.as_ref().map_err(code).unwrap_err(), "structure");
    let holds: Vec<_> = people.rules.iter().map(|(rule, holds)| (rule.to_string(), *holds)).collect();
    assert_eq!(holds, [("allowedClients".to_owned(), true), ("allowedScopes".to_owned(), false)]);
    assert_eq!((people.token.is_ok(), people.passes()), (true, false));
}
