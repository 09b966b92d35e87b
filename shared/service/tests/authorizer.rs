//! Authorizers belong to their workload, whatever happens at the same time (D9), and decide who may speak for a user (D4).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use agent_identity_core::WorkloadName;
use agent_identity_core::authorizer::{
    AgentAuthorizers, AuthorizerOptions, CustomJwtAuthorizer, MAX_AUTHORIZERS,
};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::issuer::{IssuerRecord, parse_trusted_issuers};
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::record;
use agent_identity_core::store::Kind;
use agent_identity_core::{Result, Secret};
use agent_identity_service::Services;
use agent_identity_service::authorizer::{DeleteAuthorizer, GetAuthorizer, ListAuthorizers, PutAuthorizer};
use agent_identity_service::page::PageRequest;
use agent_identity_service::workload::{CreateWorkload, DeleteWorkload, GetWorkload};
use agent_identity_service::workload_token::IssueWorkloadTokenForJwt;
use world::{AGENT, World, refused};

fn agent() -> WorkloadName {
    WorkloadName::parse(AGENT).unwrap()
}

fn named(name: &str) -> AuthorizerName {
    AuthorizerName::parse(name).unwrap()
}

fn rules(discovery_url: &str, audience: &str) -> CustomJwtAuthorizer {
    let rules = serde_json::json!({"discoveryUrl": discovery_url, "allowedAudience": [audience]});
    serde_json::from_value(rules).unwrap()
}

async fn put_in(world: &World, services: &Services, name: &str, audience: &str) -> Result<u64> {
    let url = "https://idp.example/.well-known/openid-configuration";
    let action = PutAuthorizer {
        agent: agent(),
        name: named(name),
        configuration: rules(url, audience),
        options: AuthorizerOptions::default(),
    };
    services.put_authorizer(world.admin.authorize(action).unwrap()).await
}

async fn put(world: &World, name: &str) -> Result<u64> {
    put_in(world, &world.services, name, "agents").await
}

async fn delete(world: &World, name: &str) -> Result<()> {
    let action = DeleteAuthorizer { agent: agent(), name: named(name) };
    world.services.delete_authorizer(world.admin.authorize(action).unwrap()).await
}

async fn list(
    world: &World,
    max_results: usize,
    next_token: Option<String>,
) -> (Vec<String>, Option<String>) {
    let page = PageRequest { max_results, next_token };
    let action = world.admin.authorize(ListAuthorizers { agent: agent(), page }).unwrap();
    let page = world.services.list_authorizers(action).await.unwrap();
    (page.items.iter().map(|it| it.name.as_str().to_owned()).collect(), page.next_token)
}

async fn delete_workload(world: &World, services: &Services) -> Result<()> {
    let action = DeleteWorkload { name: agent() };
    services.delete_workload(world.admin.authorize(action).unwrap()).await
}

fn authorizers(world: &World) -> usize {
    let rows = world.store.rows();
    let stored = rows.iter().filter(|row| row.key.kind == Kind::Authorizer);
    stored.map(|row| record::parse::<AgentAuthorizers>(row).unwrap().value.authorizers.len()).sum()
}

async fn with_agent() -> World {
    let world = World::new();
    world.create_workload(AGENT).await;
    world
}

#[tokio::test]
async fn putting_again_replaces_and_moves_the_version() {
    let world = with_agent().await;
    assert_eq!(put(&world, "people").await.unwrap(), 1);
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(put_in(&world, &world.services, "people", "others").await.unwrap(), 2);
    let action = GetAuthorizer { agent: agent(), name: named("people") };
    let found = world.services.get_authorizer(world.admin.authorize(action).unwrap()).await.unwrap();
    assert_eq!(
        (found.version, found.configuration.allowed_audience.as_slice()),
        (2, &["others".to_owned()][..])
    );
    assert!(found.updated_at > found.created_at);
    let workload = GetWorkload { name: agent() };
    let workload = world.services.get_workload(world.admin.authorize(workload).unwrap()).await.unwrap();
    let row = world.store.rows().into_iter().find(|row| row.key.kind == Kind::Authorizer).unwrap();
    assert_eq!(record::parse::<AgentAuthorizers>(&row).unwrap().value.workload, workload.id);
    assert_eq!(workload.updated_at, workload.created_at, "the workload itself did not change");
}

#[tokio::test]
async fn pages_join_and_what_is_deleted_is_gone() {
    let world = with_agent().await;
    for name in ["c", "a", "b"] {
        put(&world, name).await.unwrap();
    }
    let (first, next) = list(&world, 2, None).await;
    assert_eq!(first, ["a", "b"]);
    assert_eq!(list(&world, 2, next).await, (vec!["c".to_owned()], None));
    delete(&world, "b").await.unwrap();
    assert_eq!(refused(delete(&world, "b").await).0, ErrorKind::NotFound);
    assert_eq!(list(&world, 5, None).await.0, ["a", "c"]);
}

#[tokio::test]
async fn an_agent_has_ten_at_most_and_an_unknown_one_none() {
    let world = with_agent().await;
    for number in 0..MAX_AUTHORIZERS {
        put(&world, &format!("rule-{number}")).await.unwrap();
    }
    assert_eq!(refused(put(&world, "one-more").await).0, ErrorKind::Quota);
    put(&world, "rule-0").await.unwrap();
    delete(&world, "rule-1").await.unwrap();
    put(&world, "one-more").await.unwrap();
    delete_workload(&world, &world.services).await.unwrap();
    assert_eq!(refused(put(&world, "people").await).0, ErrorKind::NotFound);
    assert_eq!(authorizers(&world), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_limit_holds_when_many_put_at_once() {
    let world = Arc::new(with_agent().await);
    let puts: Vec<_> = (0..2 * MAX_AUTHORIZERS)
        .map(|number| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                loop {
                    match put(&world, &format!("rule-{number}")).await {
                        Err(error) if error.kind() == ErrorKind::Conflict => tokio::task::yield_now().await,
                        other => return other.is_ok(),
                    }
                }
            })
        })
        .collect();
    let mut made = 0;
    for put in puts {
        made += usize::from(put.await.unwrap());
    }
    assert_eq!((made, authorizers(&world)), (MAX_AUTHORIZERS, MAX_AUTHORIZERS));
}

#[tokio::test]
async fn d9_a_workload_made_anew_has_none_of_the_authorizers_before() {
    let world = with_agent().await;
    put(&world, "people").await.unwrap();
    delete_workload(&world, &world.services).await.unwrap();
    world.create_workload(AGENT).await;
    assert!(list(&world, 5, None).await.0.is_empty());
    assert_eq!(put(&world, "people").await.unwrap(), 1);
}

/// Deletes and remakes the workload while two others put authorizers, over and over: whatever is found afterwards belongs to
/// the workload that is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d9_not_even_in_a_race_does_an_authorizer_survive_its_workload() {
    let world = Arc::new(with_agent().await);
    let deletions = Arc::new(AtomicU32::new(0));
    let mut putting = Vec::new();
    for putter in 0..2 {
        let world = Arc::clone(&world);
        let deletions = Arc::clone(&deletions);
        let services = world.another_process(10 + putter, &world.clock);
        putting.push(tokio::spawn(async move {
            // A machine may run the putters first: they go on until enough was deleted between.
            let mut round = 0;
            while round < 300 || (round < 100_000 && deletions.load(Ordering::Relaxed) <= ENOUGH_DELETIONS) {
                round += 1;
                match put_in(&world, &services, &format!("p{putter}-{}", round % 4), "agents").await {
                    Ok(_) => {}
                    Err(error) => {
                        assert!(matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Conflict), "{error}")
                    }
                }
                tokio::task::yield_now().await;
            }
        }));
    }
    let other = world.another_process(20, &world.clock);
    while putting.iter().any(|task| !task.is_finished()) {
        match delete_workload(&world, &other).await {
            Ok(()) => _ = deletions.fetch_add(1, Ordering::Relaxed),
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
        let action = CreateWorkload { name: agent(), return_urls: Vec::new(), tags: BTreeMap::new() };
        let _exists_already = other.create_workload(world.admin.authorize(action).unwrap()).await;
        let living = living_workload(&world);
        for row in world.store.rows().iter().filter(|row| row.key.kind == Kind::Authorizer) {
            let of = serde_json::from_slice::<serde_json::Value>(&row.bytes).unwrap()["workload"].clone();
            // The workload may have gone since it was looked up; but only we delete it.
            assert_eq!(of, living, "an authorizer of a dead workload");
        }
        tokio::task::yield_now().await;
    }
    for task in putting {
        task.await.unwrap();
    }
    let deleted = deletions.load(Ordering::Relaxed);
    assert!(deleted > ENOUGH_DELETIONS, "{deleted}");
}

const ENOUGH_DELETIONS: u32 = 20;

fn living_workload(world: &World) -> serde_json::Value {
    let rows = world.store.rows();
    let entry = rows.iter().find(|row| row.key.kind == Kind::WorkloadName).unwrap();
    serde_json::from_slice(&entry.bytes).unwrap()
}

const LATER: u32 = 2_000_000_000;

async fn jwt_token(world: &World, services: &Services, jwt: &str) -> Result<Secret> {
    let action = IssueWorkloadTokenForJwt { workload: agent(), user_token: Secret::new(jwt) };
    services.issue_workload_token_for_jwt(world.admin.authorize(action).unwrap()).await
}

#[tokio::test]
async fn d4_when_a_workload_has_authorizers_one_of_them_must_pass() {
    let world = with_agent().await;
    let (good, other_audience, other_issuer) = (
        format!("https://idp.example|ada|{LATER}|agents"),
        format!("https://idp.example|ada|{LATER}|others"),
        format!("https://other.example|ada|{LATER}|agents"),
    );
    // This world trusts any issuer, as embedded mode without configuration does.
    for jwt in [&good, &other_audience, &other_issuer] {
        jwt_token(&world, &world.services, jwt).await.unwrap();
    }
    put(&world, "people").await.unwrap();
    jwt_token(&world, &world.services, &good).await.unwrap();
    for jwt in [&other_audience, &other_issuer] {
        let (kind, text) = refused(jwt_token(&world, &world.services, jwt).await);
        assert_eq!(kind, ErrorKind::Unauthorized);
        assert!(text.starts_with("the user token is not accepted: "), "{text}");
    }
    put_in(&world, &world.services, "more", "others").await.unwrap();
    jwt_token(&world, &world.services, &other_audience).await.unwrap();
    // Other workloads are not concerned.
    world.create_workload("other-agent").await;
    world.wat_for_jwt("other-agent", &other_issuer).await;
}

#[tokio::test]
async fn d4_authorizers_decide_alone_also_where_the_deployment_trusts_nobody() {
    let world = with_agent().await;
    let strict = world.process_that_trusts(5, Vec::new());
    let good = format!("https://idp.example|ada|{LATER}|agents");
    assert_eq!(refused(jwt_token(&world, &strict, &good).await).0, ErrorKind::Unauthorized);
    put(&world, "people").await.unwrap();
    jwt_token(&world, &strict, &good).await.unwrap();
}

#[tokio::test]
async fn d4_who_completes_a_consent_with_a_users_token_is_held_to_the_same_rules() {
    use agent_identity_service::consent::{CompleteConsent, UserIdentifier};
    let world = World::with_calendar().await;
    put(&world, "people").await.unwrap();
    let jwt = format!("https://idp.example|ada|{LATER}|agents");
    let wat = world.wat_for_jwt(AGENT, &jwt).await;
    let session = world.consented(world::request(&wat)).await;
    let complete = async |jwt: String| {
        let user = UserIdentifier::UserToken(Secret::new(jwt));
        let request = CompleteConsent { session: session.clone(), user };
        world.services.complete_consent(&world.admin, request).await
    };
    let other_audience = format!("https://idp.example|ada|{LATER}|others");
    assert_eq!(refused(complete(other_audience).await).0, ErrorKind::Unauthorized);
    world.provider.will(world::Reply::Tokens("first", 600));
    complete(jwt).await.unwrap();
    assert_eq!(world.token(&wat).await.unwrap(), "access-first");
}

#[tokio::test]
async fn rules_are_remembered_for_as_long_as_other_records_and_a_change_here_holds_at_once() {
    let world = with_agent().await;
    let warm = world.process_that_remembers(6, Duration::from_secs(30));
    let other_issuer = format!("https://other.example|ada|{LATER}|agents");
    jwt_token(&world, &warm, &other_issuer).await.unwrap();
    world.store.take_calls();
    jwt_token(&world, &warm, &other_issuer).await.unwrap();
    assert_eq!(world.store.take_calls(), agent_identity_testkit::Calls::default());
    put_in(&world, &warm, "people", "agents").await.unwrap();
    assert_eq!(refused(jwt_token(&world, &warm, &other_issuer).await).0, ErrorKind::Unauthorized);
}

/// Puts an authorizer of the issuer, whose users shall be known by this claim.
async fn put_claim(
    world: &World,
    services: &Services,
    agent: &str,
    url: &str,
    claim: Option<&str>,
) -> Result<u64> {
    let action = PutAuthorizer {
        agent: WorkloadName::parse(agent).unwrap(),
        name: named("people"),
        configuration: rules(url, "agents"),
        options: AuthorizerOptions {
            subject_claim: claim.map(str::to_owned),
            ..AuthorizerOptions::default()
        },
    };
    services.put_authorizer(world.admin.authorize(action).unwrap()).await
}

const OPENID: &str = "https://idp.example/.well-known/openid-configuration";
const OAUTH: &str = "https://idp.example/.well-known/oauth-authorization-server";

#[tokio::test]
async fn d10_the_first_authorizer_of_an_issuer_says_by_which_claim_its_users_are_known() {
    let world = with_agent().await;
    world.create_workload("other-agent").await;
    let services = &world.services;
    put_claim(&world, services, AGENT, OPENID, Some("oid")).await.unwrap();
    let row = world.store.rows().into_iter().find(|row| row.key.kind == Kind::Issuer).unwrap();
    let kept = record::parse::<IssuerRecord>(&row).unwrap().value;
    assert_eq!(
        (row.key, kept.issuer.as_str()),
        (IssuerRecord::key("https://idp.example/"), "https://idp.example")
    );
    assert_eq!((kept.subject_claim.as_str(), kept.discovery_url.as_str()), ("oid", OPENID));
    // Whoever comes later, for whichever agent and by whichever document of the issuer, is told so.
    for url in [OPENID, OAUTH] {
        let (kind, text) = refused(put_claim(&world, services, "other-agent", url, Some("sub")).await);
        assert_eq!(kind, ErrorKind::Validation);
        assert!(text.contains("options.subjectClaim: must be `oid`"), "{text}");
    }
    put_claim(&world, services, "other-agent", OAUTH, None).await.unwrap();
    let action = GetAuthorizer { agent: WorkloadName::parse("other-agent").unwrap(), name: named("people") };
    let found = services.get_authorizer(world.admin.authorize(action).unwrap()).await.unwrap();
    assert_eq!((found.subject_claim.as_str(), found.options.subject_claim), ("oid", None));
    // It outlives all its authorizers: there may be users.
    delete_workload(&world, services).await.unwrap();
    world.create_workload(AGENT).await;
    assert!(put_claim(&world, services, AGENT, OPENID, Some("sub")).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d10_two_that_name_an_issuer_at_once_do_not_both_decide() {
    for _ in 0..20 {
        let world = Arc::new(with_agent().await);
        world.create_workload("other-agent").await;
        let put = |agent: &'static str, claim: &'static str| {
            let world = Arc::clone(&world);
            tokio::spawn(async move {
                put_claim(&world, &world.services, agent, OPENID, Some(claim)).await.is_ok()
            })
        };
        let (one, other) = (put(AGENT, "oid"), put("other-agent", "sub"));
        assert!(one.await.unwrap() ^ other.await.unwrap(), "exactly one");
    }
}

#[tokio::test]
async fn d10_an_authorizer_that_disagrees_with_the_deployment_is_refused() {
    let world = with_agent().await;
    let issuer = "issuer=https://idp.example/,audience=a,subject-claim=oid";
    let strict = world.process_that_trusts(5, parse_trusted_issuers(issuer).unwrap());
    assert!(put_claim(&world, &strict, AGENT, OPENID, Some("sub")).await.is_err());
    put_claim(&world, &strict, AGENT, OPENID, None).await.unwrap();
    let other = "issuer=https://idp.example,audience=a";
    let later = world.process_that_trusts(6, parse_trusted_issuers(other).unwrap());
    let (_, text) = refused(put_claim(&world, &later, AGENT, OPENID, None).await);
    assert!(text.contains("known by `oid`") && text.contains("known by `sub`"), "{text}");
}

#[tokio::test]
async fn d10_rules_of_the_deployment_that_know_users_by_another_claim_let_nobody_in() {
    let world = with_agent().await;
    world.create_workload("other-agent").await;
    let good = format!("https://idp.example/|ada|{LATER}|agents");
    world.wat_for_jwt(AGENT, &good).await;
    put_claim(&world, &world.services, "other-agent", OPENID, Some("oid")).await.unwrap();
    let (kind, text) = refused(jwt_token(&world, &world.services, &good).await);
    assert_eq!(kind, ErrorKind::Unauthorized);
    assert!(text.contains("known by `oid`"), "{text}");
}

#[tokio::test]
async fn rules_that_are_too_large_together_are_a_quota() {
    let world = with_agent().await;
    let large = |name: &str| PutAuthorizer {
        agent: agent(),
        name: named(name),
        configuration: CustomJwtAuthorizer {
            allowed_clients: vec!["x".repeat(200_000)],
            ..rules(OPENID, "agents")
        },
        options: AuthorizerOptions::default(),
    };
    let put =
        async |name: &str| world.services.put_authorizer(world.admin.authorize(large(name)).unwrap()).await;
    put("one").await.unwrap();
    let (kind, text) = refused(put("two").await);
    assert_eq!(kind, ErrorKind::Quota);
    assert!(text.contains("358400 bytes together"), "{text}");
    put("one").await.unwrap();
}
