//! Deleting connections: destroyed here at once, whatever the provider does, and the provider told until it has heard.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::connection::ConnectionAddress;
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Grant, Principal};
use agent_identity_core::name::UserId;
use agent_identity_core::port::Event;
use agent_identity_core::provider::Vendor;
use agent_identity_core::record;
use agent_identity_core::revocation::{REVOCATION_KEPT, Upstream};
use agent_identity_core::store::Kind;
use agent_identity_core::{ProviderName, Secret, WorkloadName};
use agent_identity_service::Services;
use agent_identity_service::consent::{CompleteConsent, UserIdentifier};
use agent_identity_service::denial::NamedUser;
use agent_identity_service::oauth2_provider::{DeleteOauth2Provider, GivenConfig};
use agent_identity_service::oauth2_token::Oauth2TokenAnswer;
use agent_identity_service::revocation::{Deleted, OffboardUser, Offboarded};
use agent_identity_service::workload::DeleteWorkload;
use tokio::sync::Notify;
use world::{AGENT, CALENDAR, Reply, Trouble, World, config, request};

/// A vendor whose catalogue entry has a revocation endpoint.
fn revocable() -> GivenConfig {
    let mut google = config("https://provider.example", "client", Some("s3cret"));
    google.registration.vendor = Vendor::Google;
    google.registration.discovery = None;
    google
}

/// A connection of `ada` at a provider that revokes, whose access token lives so many seconds.
async fn connected(seconds: u64) -> (World, Secret) {
    let world = World::new();
    world.create_workload(AGENT).await;
    world.create_provider_with(CALENDAR, revocable()).await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    world.provider.will(Reply::Tokens("first", seconds));
    world.complete(&session, "ada").await.unwrap();
    (world, wat)
}

fn of_kind(world: &World, kind: Kind) -> usize {
    world.store.rows().iter().filter(|row| row.key.kind == kind).count()
}

fn address(world: &World) -> ConnectionAddress {
    let row = world.store.rows().into_iter().find(|row| row.key.kind == Kind::ConnectionEntry).unwrap();
    record::parse(&row).unwrap().value
}

async fn delete(world: &World) -> Deleted {
    world.services.delete_connection(&world.admin, &address(world)).await.unwrap()
}

fn told(world: &World) -> Vec<Upstream> {
    let events = world.events.0.lock().unwrap();
    let told = events.iter().filter_map(|event| match event {
        Event::Revoked { upstream, .. } => Some(*upstream),
        _ => None,
    });
    told.collect()
}

/// Nothing of the connection is left, and what remains to be said to its provider is this much.
fn assert_destroyed(world: &World, pending: usize) {
    let left = [Kind::Connection, Kind::ConnectionEntry].map(|kind| of_kind(world, kind));
    assert_eq!((left, of_kind(world, Kind::Revocation)), ([0, 0], pending));
}

async fn tick(services: &Services) -> Vec<&'static str> {
    let mut outcomes = Vec::new();
    for due in services.due_work(100).await.unwrap() {
        outcomes.push(services.work_off(&due).await.unwrap());
    }
    outcomes
}

fn pass(world: &World, seconds: u64) {
    world.clock.advance(Duration::from_secs(seconds));
}

#[tokio::test]
async fn a_deleted_connection_gives_nothing_and_both_its_tokens_are_revoked() {
    let (world, wat) = connected(600).await;
    world.provider.will(Reply::Status(200));
    world.provider.will(Reply::Status(200));
    let deleted = delete(&world).await;
    assert_eq!((deleted.upstream, deleted.reason), (Upstream::Revoked, None));
    assert_eq!(world.provider.seen("token"), ["refresh-first", "access-first"]);
    assert_eq!(world.provider.seen("token_type_hint"), ["refresh_token", "access_token"]);
    assert_destroyed(&world, 0);
    assert_eq!(told(&world), [Upstream::Revoked]);
    assert!(matches!(world.get(&wat).await.unwrap(), Oauth2TokenAnswer::Consent { .. }));
    // Again, there is none.
    let again = world.services.delete_connection(&world.admin, &deleted.address).await;
    assert_eq!(again.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_provider_that_does_not_hear_is_told_again_and_meanwhile_nothing_is_left_here() {
    let (world, _) = connected(600).await;
    world.provider.will(Reply::NotSent);
    let deleted = delete(&world).await;
    assert_eq!(deleted.upstream, Upstream::Queued);
    assert!(deleted.reason.unwrap().contains(CALENDAR));
    assert_destroyed(&world, 1);
    assert!(told(&world).is_empty() && tick(&world.services).await.is_empty());
    for trouble in [Reply::Lost, Reply::Status(503), Reply::Status(429), Reply::Error("invalid_client")] {
        pass(&world, 400);
        world.provider.will(trouble);
        assert_eq!(tick(&world.services).await, ["queued"]);
    }
    pass(&world, 400);
    // The access token has ended meanwhile.
    world.provider.will(Reply::Error("invalid_token"));
    assert_eq!(tick(&world.services).await, ["revoked"]);
    assert_destroyed(&world, 0);
    assert_eq!(told(&world), [Upstream::Revoked]);
    assert!(tick(&world.services).await.is_empty());
}

#[tokio::test]
async fn a_crash_while_the_provider_is_told_forgets_nothing() {
    let (world, _) = connected(3600).await;
    world.provider.will(Reply::Held("never", Arc::new(Notify::new())));
    let dead = tokio::time::timeout(Duration::from_millis(20), delete(&world)).await;
    assert!(dead.is_err());
    assert_destroyed(&world, 1);
    let other = world.another_process(2, &world.clock);
    assert!(tick(&other).await.is_empty(), "who made it may still be at it");
    pass(&world, 30);
    world.provider.will(Reply::Status(200));
    world.provider.will(Reply::Status(200));
    assert_eq!(tick(&other).await, ["revoked"]);
    assert_destroyed(&world, 0);
    assert_eq!(told(&world), [Upstream::Revoked]);
}

#[tokio::test]
async fn what_a_refresh_brings_for_a_deleted_connection_is_revoked_too() {
    let (world, _) = connected(600).await;
    let wat = world.later(700).await;
    let (gate, reading) = world.refreshing(&wat, "second").await;
    world.provider.will(Reply::Status(200));
    assert_eq!(delete(&world).await.upstream, Upstream::Revoked);
    assert_destroyed(&world, 0);
    gate.notify_one();
    assert_eq!(reading.await.unwrap().unwrap_err().kind(), ErrorKind::Conflict);
    assert_destroyed(&world, 1);
    pass(&world, 30);
    world.provider.will(Reply::Status(200));
    world.provider.will(Reply::Status(200));
    assert_eq!(tick(&world.services).await, ["revoked"]);
    assert_eq!(world.provider.seen("token"), ["refresh-first", "refresh-second", "access-second"]);
    assert_destroyed(&world, 0);
}

#[tokio::test]
async fn what_a_refresh_brings_for_a_deleted_connection_is_not_for_the_one_that_came_after() {
    let (world, _) = connected(600).await;
    let wat = world.later(700).await;
    let (gate, reading) = world.refreshing(&wat, "old").await;
    world.provider.will(Reply::Status(200));
    delete(&world).await;
    let session = world.consented(request(&wat)).await;
    world.provider.will(Reply::Tokens("new", 600));
    world.complete(&session, "ada").await.unwrap();
    gate.notify_one();
    reading.await.unwrap().ok();
    assert_eq!(world.token(&wat).await.unwrap(), "access-new");
    let wat = world.later(700).await;
    world.provider.will(Reply::Tokens("newer", 600));
    assert_eq!(world.token(&wat).await.unwrap(), "access-newer");
    assert_eq!(world.provider.seen("refresh_token"), ["refresh-first", "refresh-new"]);
}

#[tokio::test]
async fn what_cannot_be_revoked_is_said() {
    // No way is known.
    let (world, _) = World::connected(600).await;
    let deleted = delete(&world).await;
    assert_eq!(deleted.upstream, Upstream::Unsupported);
    assert!(deleted.reason.is_some() && world.provider.seen("token").is_empty());
    assert_destroyed(&world, 0);

    // The provider refuses for good.
    let (world, _) = connected(600).await;
    world.provider.will(Reply::Error("invalid_request"));
    world.provider.will(Reply::Error("invalid_request"));
    let deleted = delete(&world).await;
    assert_eq!(deleted.upstream, Upstream::Failed);
    assert!(deleted.reason.unwrap().contains("invalid_request"));
    assert_destroyed(&world, 0);
    assert_eq!(told(&world), [Upstream::Failed]);

    // The provider does not revoke refresh tokens.
    let (world, _) = connected(600).await;
    world.provider.will(Reply::Error("unsupported_token_type"));
    world.provider.will(Reply::Status(200));
    assert_eq!(delete(&world).await.upstream, Upstream::Unsupported);

    // D3: it was changed since, and its tokens are sent nowhere else.
    let (world, _) = connected(600).await;
    let address = address(&world);
    let mut changed = revocable();
    changed.registration.client_id = "another-client".to_owned();
    world.update_provider(CALENDAR, changed).await;
    let deleted = world.services.delete_connection(&world.admin, &address).await.unwrap();
    assert_eq!(deleted.upstream, Upstream::Failed);
    assert!(deleted.reason.unwrap().contains("provider_changed") && world.provider.seen("token").is_empty());
    assert_destroyed(&world, 0);
}

#[tokio::test]
async fn after_a_week_it_ends_and_that_is_said() {
    let (world, _) = connected(600).await;
    world.provider.will(Reply::NotSent);
    assert_eq!(delete(&world).await.upstream, Upstream::Queued);
    pass(&world, REVOCATION_KEPT.as_secs());
    world.provider.will(Reply::NotSent);
    assert_eq!(tick(&world.services).await, ["failed"]);
    assert_destroyed(&world, 0);
    assert_eq!(told(&world), [Upstream::Failed]);
}

#[tokio::test]
async fn others_are_told_although_the_bus_was_out_of_reach() {
    let (world, _) = connected(600).await;
    world.events.1.store(true, std::sync::atomic::Ordering::SeqCst);
    world.provider.will(Reply::Status(200));
    world.provider.will(Reply::Status(200));
    assert_eq!(delete(&world).await.upstream, Upstream::Revoked);
    assert_destroyed(&world, 1);
    world.events.1.store(false, std::sync::atomic::Ordering::SeqCst);
    pass(&world, 30);
    world.provider.will(Reply::Status(200));
    world.provider.will(Reply::Status(200));
    assert_eq!(tick(&world.services).await, ["revoked"]);
    assert_destroyed(&world, 0);
    assert_eq!(told(&world).len(), 2, "at least once");
}

#[tokio::test]
async fn a_store_in_trouble_leaves_it_whole_or_destroyed() {
    for trouble in [Trouble::Busy, Trouble::LostRequest, Trouble::LostAnswer] {
        let (world, _) = connected(600).await;
        let (services, left) = world.process_in_trouble(7, trouble);
        let address = address(&world);
        left.store(1, std::sync::atomic::Ordering::SeqCst);
        services.delete_connection(&world.admin, &address).await.unwrap_err();
        let whole = of_kind(&world, Kind::Connection) == 1;
        assert_eq!(whole, trouble != Trouble::LostAnswer, "{trouble:?}");
        assert_eq!(of_kind(&world, Kind::ConnectionEntry), if whole { 3 } else { 0 });
        assert_eq!(of_kind(&world, Kind::Revocation), usize::from(!whole));
    }
}

#[tokio::test]
async fn d9_the_grants_of_a_deleted_workload_are_revoked_and_those_of_a_deleted_provider_destroyed() {
    let (world, _) = connected(600).await;
    let name = WorkloadName::parse(AGENT).unwrap();
    let action = world.admin.authorize(DeleteWorkload { name }).unwrap();
    world.services.delete_workload(action).await.unwrap();
    pass(&world, 400);
    world.provider.will(Reply::Status(200));
    world.provider.will(Reply::Status(200));
    assert_eq!(tick(&world.services).await, ["orphaned"]);
    assert_eq!(world.provider.seen("token"), ["refresh-first", "access-first"]);
    assert_destroyed(&world, 0);

    let (world, _) = connected(600).await;
    let name = ProviderName::parse(CALENDAR).unwrap();
    let action = world.admin.authorize(DeleteOauth2Provider { name }).unwrap();
    world.services.delete_oauth2_provider(action).await.unwrap();
    pass(&world, 400);
    assert_eq!(tick(&world.services).await, ["orphaned"]);
    assert_destroyed(&world, 0);
    assert_eq!(told(&world), [Upstream::Failed]);
}

#[tokio::test]
async fn d1_only_who_manages_both_its_workload_and_its_provider_deletes_it() {
    let (world, _) = connected(600).await;
    let address = address(&world);
    for grant in ["admin workload=other", "admin provider=other", "mint-jwt,mint-userid,use,read"] {
        let grants = vec![Grant::parse(grant).unwrap()];
        let somebody = Principal { name: "access-key/somebody".to_owned(), grants };
        let refused = world.services.delete_connection(&somebody, &address).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AccessDenied, "{grant}");
    }
    assert_eq!(of_kind(&world, Kind::Connection), 1);
}

async fn offboard(world: &World, user: &str) -> Offboarded {
    let user = NamedUser::UserId(UserId::parse(user).unwrap());
    world.services.offboard_user(world.admin.authorize(OffboardUser { user }).unwrap()).await.unwrap()
}

#[tokio::test]
async fn who_is_offboarded_is_let_in_no_more_and_has_no_connection_left() {
    let (world, wat) = connected(600).await;
    let bob = world.wat(AGENT, "bob").await;
    let session = world.consented(request(&bob)).await;
    world.provider.will(Reply::Tokens("bobs", 600));
    world.complete(&session, "bob").await.unwrap();
    world.provider.will(Reply::Status(200));
    world.provider.will(Reply::Lost);
    let gone = offboard(&world, "ada").await;
    assert!(gone.ban.denial.blocked && gone.complete);
    let [deleted] = &*gone.deleted else { panic!("{:?}", gone.deleted) };
    assert_eq!(deleted.upstream, Upstream::Queued, "its access token may live");
    assert_eq!((of_kind(&world, Kind::Connection), of_kind(&world, Kind::Revocation)), (1, 1));
    assert_eq!(world.get(&wat).await.unwrap_err().kind(), ErrorKind::AccessDenied);
    assert_eq!(world.token(&bob).await.unwrap(), "access-bobs");
    // Again, there is nothing left to do.
    let again = offboard(&world, "ada").await;
    assert!(again.deleted.is_empty() && again.complete);
    // D1: it is about all workloads and all providers.
    for less in
        [format!("admin workload={AGENT}"), format!("admin provider={CALENDAR}"), "mint-jwt".to_owned()]
    {
        let narrow =
            Principal { name: "access-key/narrow".to_owned(), grants: vec![Grant::parse(&less).unwrap()] };
        let user = NamedUser::UserId(UserId::parse("ada").unwrap());
        assert_eq!(
            narrow.authorize(OffboardUser { user }).unwrap_err().kind(),
            ErrorKind::AccessDenied,
            "{less}"
        );
    }
}

#[tokio::test]
async fn d15_a_consent_that_is_being_completed_while_its_user_is_offboarded_makes_no_connection() {
    let (world, wat) = connected(600).await;
    let mut again = request(&wat);
    again.force_authentication = true;
    let session = world.consented(again).await;
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("late", Arc::clone(&gate)));
    // Another process, which may have in memory that the user is let in.
    let services = world.process_that_remembers(9, Duration::from_secs(30));
    let completing = {
        let (admin, user) = (world.admin.clone(), UserIdentifier::UserId(UserId::parse("ada").unwrap()));
        tokio::spawn(
            async move { services.complete_consent(&admin, CompleteConsent { session, user }).await },
        )
    };
    while world.provider.seen("code").len() < 2 {
        tokio::task::yield_now().await;
    }
    world.provider.will(Reply::Status(200));
    world.provider.will(Reply::Status(200));
    assert_eq!(offboard(&world, "ada").await.deleted.len(), 1);
    gate.notify_one();
    assert_eq!(completing.await.unwrap().unwrap_err().kind(), ErrorKind::AccessDenied);
    assert_destroyed(&world, 1);
    pass(&world, 30);
    world.provider.will(Reply::Status(200));
    world.provider.will(Reply::Status(200));
    assert_eq!(tick(&world.services).await, ["revoked"]);
    assert_eq!(
        world.provider.seen("token"),
        ["refresh-first", "access-first", "refresh-late", "access-late"]
    );
}

/// At whatever moment of a completion the user is offboarded, no connection is left: what was there is found, and what comes
/// after the ban is not made.
#[tokio::test]
async fn d15_however_an_offboarding_falls_into_a_completion_no_connection_is_left() {
    let (mut found, mut prevented) = (0, 0);
    for moment in 0..60 {
        let world = World::new();
        world.create_workload(AGENT).await;
        world.create_provider_with(CALENDAR, revocable()).await;
        let session = world.consented(request(&world.wat(AGENT, "ada").await)).await;
        for reply in [Reply::Tokens("first", 600), Reply::Status(200), Reply::Status(200)] {
            world.provider.will(reply);
        }
        // Others run between each read and what follows from it.
        let (services, _) = world.process_in_trouble(3, Trouble::Overtaken);
        let user = UserIdentifier::UserId(UserId::parse("ada").unwrap());
        let complete = services.complete_consent(&world.admin, CompleteConsent { session, user });
        let leave = async {
            for _ in 0..moment {
                tokio::task::yield_now().await;
            }
            offboard(&world, "ada").await.deleted.len()
        };
        let (completed, deleted) = tokio::join!(biased; complete, leave);
        assert_eq!(of_kind(&world, Kind::Connection), 0, "moment {moment}: {completed:?}");
        found += deleted;
        prevented += usize::from(completed.is_err());
    }
    assert!(found > 0 && prevented > 1, "{found} found, {prevented} prevented");
}
