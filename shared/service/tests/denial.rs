//! Bans hold now, and not when tokens end (D15): at every use of a user's token, where one is issued, where a consent is completed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod world;

use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Action, Authorized, Grant, Principal};
use agent_identity_core::name::UserId;
use agent_identity_core::store::Kind;
use agent_identity_core::{Result, Secret, WorkloadName};
use agent_identity_service::consent::{CompleteConsent, UserIdentifier};
use agent_identity_service::denial::{Ban, BlockUser, NamedUser, SignOutUser, UnblockUser};
use agent_identity_service::oauth2_token::{Flow, Oauth2TokenRequest};
use agent_identity_service::workload_token::IssueWorkloadTokenForJwt;
use agent_identity_service::{Config, Services};
use world::{AGENT, Reply, Trouble, World, get_from, refused, request, wat_from};

const ISSUER: &str = "https://idp.example";
const LATER: u32 = 2_000_000_000;

fn ada() -> NamedUser {
    NamedUser::UserId(UserId::parse("ada").unwrap())
}

fn agent(name: &str) -> Option<WorkloadName> {
    Some(WorkloadName::parse(name).unwrap())
}

fn may<A: Action>(world: &World, action: A) -> Authorized<'_, A> {
    world.admin.authorize(action).unwrap_or_else(|error| panic!("{error}"))
}

async fn block(world: &World, of: Option<WorkloadName>, user: NamedUser) -> Ban {
    world.services.block_user(may(world, BlockUser { agent: of, user })).await.unwrap()
}

async fn unblock(world: &World, of: Option<WorkloadName>, user: NamedUser) -> Ban {
    world.services.unblock_user(may(world, UnblockUser { agent: of, user })).await.unwrap()
}

async fn sign_out(world: &World, of: Option<WorkloadName>, user: NamedUser) -> Ban {
    world.services.sign_out_user(may(world, SignOutUser { agent: of, user })).await.unwrap()
}

/// A world in which `ada` has a connection, and her token.
async fn connected() -> (World, Secret) {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    world.provider.will(Reply::Tokens("first", 36_000));
    world.complete(&session, "ada").await.unwrap();
    (world, wat)
}

#[tokio::test]
async fn d15_a_blocked_user_has_nothing_until_they_are_unblocked_and_others_have_everything() {
    let (world, wat) = connected().await;
    let others = world.wat(AGENT, "bob").await;
    assert!(block(&world, None, ada()).await.denial.blocked);
    let told = refused(world.get(&wat).await);
    assert_eq!(told, (ErrorKind::AccessDenied, "the user is blocked".to_owned()));
    let machine = Oauth2TokenRequest { flow: Flow::M2m, ..request(&wat) };
    assert_eq!(refused(get_from(&world.services, &world.admin, machine).await).0, ErrorKind::AccessDenied);
    let key = agent_identity_core::ProviderName::parse("none").unwrap();
    let key = world.services.get_api_key(&world.admin, &wat, &key).await;
    assert_eq!(refused(key), told, "before anything else is looked at");
    world.get(&others).await.unwrap();
    assert!(!unblock(&world, None, ada()).await.denial.blocked);
    assert_eq!(world.token(&wat).await.unwrap(), "access-first");
    assert!(!world.store.rows().iter().any(|row| row.key.kind == Kind::Denial), "nothing is kept of nothing");
}

#[tokio::test]
async fn d15_a_ban_for_one_agent_is_none_for_another() {
    let (world, wat) = connected().await;
    world.create_workload("other-agent").await;
    block(&world, agent("other-agent"), ada()).await;
    world.get(&wat).await.unwrap();
    let other = world.services.issue_workload_token_for_user_id(may(
        &world,
        agent_identity_service::workload_token::IssueWorkloadTokenForUserId {
            workload: agent("other-agent").unwrap(),
            user_id: UserId::parse("ada").unwrap(),
        },
    ));
    assert_eq!(refused(other.await).0, ErrorKind::AccessDenied, "none is issued either");
    block(&world, agent(AGENT), ada()).await;
    unblock(&world, None, ada()).await;
    assert!(world.get(&wat).await.is_err(), "a ban for all is another one");
    let unknown = BlockUser { agent: agent("nobody-made-this"), user: ada() };
    assert_eq!(refused(world.services.block_user(may(&world, unknown)).await).0, ErrorKind::NotFound);
}

#[tokio::test]
async fn d15_a_signed_out_users_tokens_are_dead_and_those_of_a_new_sign_in_are_not() {
    let (world, wat) = connected().await;
    let ban = sign_out(&world, None, ada()).await;
    assert_eq!(ban.denial.not_before, Some(agent_identity_core::Clock::now(&*world.clock)));
    let (kind, text) = refused(world.get(&wat).await);
    assert_eq!(
        (kind, text.as_str()),
        (ErrorKind::Unauthorized, "the user was signed out and must sign in again")
    );
    world.clock.advance(Duration::from_millis(1));
    let again = world.wat(AGENT, "ada").await;
    assert_eq!(world.token(&again).await.unwrap(), "access-first", "no grant was lost");
    assert!(world.get(&wat).await.is_err());
    unblock(&world, None, ada()).await;
    assert!(world.get(&wat).await.is_err(), "a sign-out is not taken back");
}

/// A JWT of `ada`, with when she signed in.
fn jwt(issuer: &str, signed_in_at: Option<i64>) -> String {
    let at = signed_in_at.map_or_else(String::new, |at| at.to_string());
    format!("{issuer}|ada|{LATER}|agents|@{at}")
}

async fn for_jwt(services: &Services, admin: &Principal, jwt: &str) -> Result<Secret> {
    let action = IssueWorkloadTokenForJwt {
        workload: WorkloadName::parse(AGENT).unwrap(),
        user_token: Secret::new(jwt),
    };
    services.issue_workload_token_for_jwt(admin.authorize(action).unwrap()).await
}

fn of_issuer(issuer: &str) -> NamedUser {
    NamedUser::Jwt { issuer: issuer.to_owned(), subject: "ada".to_owned() }
}

#[tokio::test]
async fn d15_a_jwt_of_an_earlier_sign_in_opens_nothing() {
    let (world, _) = connected().await;
    let now = agent_identity_core::Clock::now(&*world.clock).as_seconds();
    let ask = async |signed_in_at| for_jwt(&world.services, &world.admin, &jwt(ISSUER, signed_in_at)).await;
    ask(None).await.unwrap();
    let ban = sign_out(&world, None, of_issuer(ISSUER)).await;
    assert_eq!(ban.subject_claim.as_deref(), Some("sub"));
    assert_eq!(refused(ask(Some(now)).await).0, ErrorKind::Unauthorized);
    assert_eq!(refused(ask(None).await).0, ErrorKind::Unauthorized, "nobody knows when they signed in");
    ask(Some(now + 1)).await.unwrap();
}

#[tokio::test]
async fn d15_with_and_without_a_slash_the_user_of_an_issuer_is_one() {
    for (banned, token) in [(ISSUER, "https://idp.example/"), ("https://idp.example/", ISSUER)] {
        let (world, _) = connected().await;
        block(&world, None, of_issuer(banned)).await;
        let refusal = refused(for_jwt(&world.services, &world.admin, &jwt(token, None)).await);
        assert_eq!(refusal.0, ErrorKind::AccessDenied, "{banned}");
        unblock(&world, None, of_issuer(token)).await;
        for_jwt(&world.services, &world.admin, &jwt(banned, None)).await.unwrap();
    }
}

#[tokio::test]
async fn d15_a_process_that_has_not_heard_of_a_sign_out_issues_nothing_that_outlives_it() {
    let (world, _) = connected().await;
    let stale = world.process_that_remembers(9, Duration::from_secs(30));
    let now = agent_identity_core::Clock::now(&*world.clock).as_seconds();
    let old = jwt(ISSUER, Some(now - 10));
    for_jwt(&stale, &world.admin, &old).await.unwrap();
    sign_out(&world, None, of_issuer(ISSUER)).await;
    world.clock.advance(Duration::from_secs(5));
    let minted_since = for_jwt(&stale, &world.admin, &old).await.unwrap();
    let elsewhere = get_from(&world.services, &world.admin, request(&minted_since)).await;
    assert_eq!(refused(elsewhere).0, ErrorKind::Unauthorized);
    world.clock.advance(Duration::from_secs(25));
    assert!(
        get_from(&stale, &world.admin, request(&minted_since)).await.is_err(),
        "within 30 seconds here too"
    );
}

#[tokio::test]
async fn d15_a_ban_holds_in_every_process_within_thirty_seconds_and_at_once_in_its_own() {
    let (world, wat) = connected().await;
    let other = world.process_that_remembers(9, Duration::from_secs(30));
    get_from(&other, &world.admin, request(&wat)).await.unwrap();
    block(&world, None, ada()).await;
    world.clock.advance(Duration::from_secs(29));
    get_from(&other, &world.admin, request(&wat)).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(refused(get_from(&other, &world.admin, request(&wat)).await).0, ErrorKind::AccessDenied);
    // A process bans, and knows.
    get_from(&other, &world.admin, request(&world.wat(AGENT, "bob").await)).await.unwrap();
    let bob = NamedUser::UserId(UserId::parse("bob").unwrap());
    other.block_user(may(&world, BlockUser { agent: None, user: bob })).await.unwrap();
    let wat = world.services.issue_workload_token(may(
        &world,
        agent_identity_service::workload_token::IssueWorkloadToken { workload: agent(AGENT).unwrap() },
    ));
    wat.await.unwrap();
    let action = agent_identity_service::workload_token::IssueWorkloadTokenForUserId {
        workload: agent(AGENT).unwrap(),
        user_id: UserId::parse("bob").unwrap(),
    };
    assert!(other.issue_workload_token_for_user_id(may(&world, action)).await.is_err());
}

#[tokio::test]
async fn d15_a_blocked_user_completes_no_consent_and_the_code_is_not_sent() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    block(&world, agent(AGENT), ada()).await;
    assert_eq!(refused(world.complete(&session, "ada").await).0, ErrorKind::AccessDenied);
    assert!(world.provider.requests.lock().unwrap().is_empty());
    unblock(&world, agent(AGENT), ada()).await;
    world.provider.will(Reply::Tokens("first", 600));
    world.complete(&session, "ada").await.unwrap();
}

#[tokio::test]
async fn d15_a_consent_that_began_before_a_sign_out_is_not_completed() {
    let world = World::with_calendar().await;
    let old = for_jwt(&world.services, &world.admin, &jwt(ISSUER, None)).await.unwrap();
    let session = world.consented(request(&old)).await;
    sign_out(&world, None, of_issuer(ISSUER)).await;
    let now = agent_identity_core::Clock::now(&*world.clock).as_seconds();
    for signed_in_at in [None, Some(now - 1), Some(now + 1)] {
        let user = UserIdentifier::UserToken(Secret::new(jwt(ISSUER, signed_in_at)));
        let request = CompleteConsent { session: session.clone(), user };
        let refusal = refused(world.services.complete_consent(&world.admin, request).await);
        assert_eq!(refusal.0, ErrorKind::Unauthorized);
    }
}

#[tokio::test]
async fn d15_while_the_store_is_away_an_answer_is_good_for_five_minutes_and_then_nobody_is_let_in() {
    let (world, _) = connected().await;
    let (process, away) = world.process_in_trouble(9, Trouble::NoDenials);
    let config = Config { record_cache: Duration::from_secs(30), ..process.config().clone() };
    let process = Services::new(process.ports().clone(), config);
    let wat = wat_from(&process, &world.admin, AGENT, "ada").await;
    away.store(1, Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(299));
    get_from(&process, &world.admin, request(&wat)).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(refused(get_from(&process, &world.admin, request(&wat)).await).0, ErrorKind::Throttling);
    away.store(0, Ordering::SeqCst);
    get_from(&process, &world.admin, request(&wat)).await.unwrap();
    let unknown = wat_from(&world.services, &world.admin, AGENT, "bob").await;
    away.store(1, Ordering::SeqCst);
    assert!(get_from(&process, &world.admin, request(&unknown)).await.is_err(), "nothing is known of them");
}

#[tokio::test]
async fn d15_a_ban_is_by_whichever_claim_the_users_of_the_issuer_are_known() {
    let (world, _) = connected().await;
    let text = "issuer=https://idp.example/,audience=a,subject-claim=oid";
    let strict =
        world.process_that_trusts(5, agent_identity_core::issuer::parse_trusted_issuers(text).unwrap());
    let ban =
        strict.block_user(may(&world, BlockUser { agent: None, user: of_issuer(ISSUER) })).await.unwrap();
    assert_eq!(ban.subject_claim.as_deref(), Some("oid"));
    assert_eq!(world.store.rows().iter().filter(|row| row.key.kind == Kind::Denial).count(), 2);
}

#[tokio::test]
async fn d1_a_ban_for_all_takes_a_grant_on_all() {
    let (world, _) = connected().await;
    let grant = Grant::parse(&format!("admin workload={AGENT}")).unwrap();
    let narrow = Principal { name: "access-key/narrow".to_owned(), grants: vec![grant] };
    assert!(narrow.authorize(SignOutUser { agent: None, user: ada() }).is_err());
    assert!(narrow.authorize(SignOutUser { agent: agent("other-agent"), user: ada() }).is_err());
    let own = narrow.authorize(SignOutUser { agent: agent(AGENT), user: ada() }).unwrap();
    world.services.sign_out_user(own).await.unwrap();
}
