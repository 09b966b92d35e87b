//! Whose fault it is (D8): what one connection's refresh says of its provider, and what that means for the others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod world;

use std::time::Duration;

use agent_identity_core::connection::{Connection, Health};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::port::Event;
use agent_identity_core::store::Kind;
use agent_identity_core::{ProviderName, Secret};
use agent_identity_service::oauth2_provider::UpdateOauth2Provider;
use agent_identity_service::oauth2_token::Oauth2TokenAnswer;
use world::{AGENT, CALENDAR, Reply, World, config, refused, request};

const USERS: [&str; 8] = ["ada", "bob", "cleo", "dan", "eve", "fay", "gus", "hal"];

/// A provider at which so many users have connections, whose access tokens live ten minutes.
async fn connected(users: usize) -> World {
    let world = World::with_calendar().await;
    for user in USERS.iter().take(users) {
        let session = world.consented(request(&world.wat(AGENT, user).await)).await;
        world.provider.will(Reply::Tokens("first", 600));
        world.complete(&session, user).await.unwrap();
    }
    world
}

async fn wat(world: &World, user: &str) -> Secret {
    world.wat(AGENT, user).await
}

async fn refusal(world: &World, user: &str) -> (ErrorKind, String) {
    refused(world.get(&wat(world, user).await).await)
}

fn sent(world: &World) -> usize {
    world.provider.seen("refresh_token").len()
}

fn pass(world: &World, seconds: u64) {
    world.clock.advance(Duration::from_secs(seconds));
}

#[tokio::test]
async fn d8_a_client_that_is_refused_is_not_sent_again_for_another_user_until_a_probe() {
    for code in ["invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope"] {
        let world = connected(2).await;
        pass(&world, 601);
        world.provider.will(Reply::Error(code));
        for user in ["ada", "bob", "bob"] {
            let (kind, message) = refusal(&world, user).await;
            assert!(message.contains(code) || kind == ErrorKind::Throttling, "{message}");
        }
        assert_eq!(sent(&world), 1, "{code}");
        pass(&world, 1);
        world.provider.will(Reply::Tokens("second", 600));
        assert_eq!(world.token(&wat(&world, "bob").await).await.unwrap(), "access-second");
        pass(&world, 1);
        world.provider.will(Reply::Tokens("third", 600));
        assert_eq!(world.token(&wat(&world, "ada").await).await.unwrap(), "access-third");
        let events = world.events.0.lock().unwrap();
        assert!(matches!(events.as_slice(), [Event::ProviderSuspended { .. }]), "{events:?}");
    }
}

#[tokio::test]
async fn d8_while_refreshes_are_suspended_valid_tokens_are_served() {
    let world = connected(2).await;
    pass(&world, 400);
    world.provider.will(Reply::Error("invalid_client"));
    for (before, user) in ["ada", "bob", "ada", "bob"].into_iter().enumerate() {
        let wat = wat(&world, user).await;
        world.store.take_calls();
        assert_eq!(world.token(&wat).await.unwrap(), "access-first");
        assert_eq!(world.store.take_calls().write, if before == 0 { 2 } else { 0 }, "no lease is taken");
    }
    assert_eq!(sent(&world), 1);
}

#[tokio::test]
async fn d8_a_change_of_the_configuration_resumes_at_once() {
    let world = connected(2).await;
    pass(&world, 601);
    world.provider.will(Reply::Error("invalid_client"));
    refusal(&world, "ada").await;
    refusal(&world, "bob").await;
    assert_eq!(sent(&world), 1);
    let action = UpdateOauth2Provider {
        name: ProviderName::parse(CALENDAR).unwrap(),
        config: config("https://provider.example", "client", Some("another")),
    };
    world.services.update_oauth2_provider(world.admin.authorize(action).unwrap()).await.unwrap();
    world.provider.will(Reply::Tokens("second", 600));
    assert_eq!(world.token(&wat(&world, "bob").await).await.unwrap(), "access-second");
}

#[tokio::test]
async fn d8_a_wave_of_dead_grants_is_held_and_ends_none() {
    let world = connected(8).await;
    pass(&world, 601);
    for user in &USERS[..5] {
        world.provider.will(Reply::Error("invalid_grant"));
        let answer = world.get(&wat(&world, user).await).await.unwrap();
        assert!(matches!(answer, Oauth2TokenAnswer::Consent { .. }), "{user}: {answer:?}");
    }
    world.provider.will(Reply::Error("invalid_grant"));
    for user in &USERS[5..] {
        assert_eq!(refusal(&world, user).await.0, ErrorKind::Throttling, "{user}");
    }
    assert_eq!(sent(&world), 6, "the rest are not even sent");
    let events = std::mem::take(&mut *world.events.0.lock().unwrap());
    let (suspended, lost): (Vec<_>, Vec<_>) =
        events.iter().partition(|event| matches!(event, Event::ProviderSuspended { .. }));
    assert!(matches!(suspended.as_slice(), [Event::ProviderSuspended { reason: "invalid_grant_wave", .. }]));
    assert_eq!(lost.len(), 5);
    let active =
        world.store.rows().iter().filter(|row| row.key.kind == Kind::Connection).fold(0, |active, row| {
            let connection: Connection = serde_json::from_slice(&row.bytes).unwrap();
            active + usize::from(connection.health == Health::Active)
        });
    assert_eq!(active, 3);
    pass(&world, 2);
    for user in &USERS[5..] {
        world.provider.will(Reply::Tokens("second", 600));
        assert_eq!(world.token(&wat(&world, user).await).await.unwrap(), "access-second", "{user}");
    }
    // The provider was wrong about the five, too, and somebody says so.
    let refused: Vec<_> = connections(&world).into_iter().filter(|it| it.health != Health::Active).collect();
    assert_eq!(refused.len(), 5);
    world.events.0.lock().unwrap().clear();
    for connection in refused {
        world.provider.will(Reply::Tokens("third", 600));
        let shown = world.services.retry_connection(&world.admin, &connection.address()).await.unwrap();
        assert_eq!(shown.health, Health::Active);
    }
    let recovered = std::mem::take(&mut *world.events.0.lock().unwrap());
    assert_eq!(recovered.iter().filter(|event| matches!(event, Event::Recovered { .. })).count(), 5);
    for user in &USERS[..5] {
        assert_eq!(world.token(&wat(&world, user).await).await.unwrap(), "access-third", "{user}");
    }
}

fn connections(world: &World) -> Vec<Connection> {
    let rows = world.store.rows().into_iter().filter(|row| row.key.kind == Kind::Connection);
    rows.map(|row| serde_json::from_slice(&row.bytes).unwrap()).collect()
}

#[tokio::test]
async fn d8_a_refused_grant_is_tried_again_when_somebody_says_so_for_seven_days() {
    let world = connected(1).await;
    let address = connections(&world)[0].address();
    let retry = async || world.services.retry_connection(&world.admin, &address).await;
    // One that works is left as it is.
    assert_eq!(retry().await.unwrap().health, Health::Active);
    assert_eq!(sent(&world), 0);
    pass(&world, 601);
    for again in 0..3 {
        world.provider.will(Reply::Error("invalid_grant"));
        if again == 0 {
            world.get(&wat(&world, "ada").await).await.unwrap();
        } else {
            let health = retry().await.unwrap().health;
            assert!(matches!(health, Health::NeedsConsent { .. }), "it is refused again: {health:?}");
        }
    }
    let needs = |world: &World| {
        let events = world.events.0.lock().unwrap();
        events.iter().filter(|event| matches!(event, Event::NeedsConsent { .. })).count()
    };
    assert_eq!((sent(&world), needs(&world)), (3, 1), "it is announced once");
    // The provider does not answer: it stands as before, since when it did.
    world.provider.will(Reply::NotSent);
    assert_eq!(retry().await.unwrap().health, connections(&world)[0].health);
    assert!(matches!(connections(&world)[0].health, Health::NeedsConsent { announced: true, .. }));
    // However often somebody asks, the provider's other connections are refreshed.
    for _ in 0..8 {
        world.provider.will(Reply::Error("invalid_grant"));
        retry().await.unwrap();
    }
    assert_eq!(world.events.0.lock().unwrap().len(), 1, "it is not suspended");
    pass(&world, 7 * 24 * 3600);
    for due in world.services.due_work(10).await.unwrap() {
        assert_eq!(world.services.work_off(&due).await.unwrap(), "forgotten");
    }
    let (kind, message) = refused(retry().await);
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(message.contains("only a new consent helps"), "{message}");
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_left_alone_after_five_silences() {
    let world = connected(8).await;
    pass(&world, 601);
    for user in &USERS[..5] {
        world.provider.will(Reply::NotSent);
        assert_eq!(refusal(&world, user).await.0, ErrorKind::Throttling);
    }
    // Nobody is asked to answer these.
    for user in &USERS[5..] {
        assert_eq!(refusal(&world, user).await.0, ErrorKind::Throttling);
    }
    pass(&world, 1);
    for user in &USERS[5..] {
        world.provider.will(Reply::Tokens("second", 600));
        assert_eq!(world.token(&wat(&world, user).await).await.unwrap(), "access-second");
    }
}

#[tokio::test]
async fn d8_what_is_due_of_a_suspended_provider_is_put_off_without_a_call() {
    let world = connected(3).await;
    pass(&world, 400);
    let due = world.services.due_work(100).await.unwrap();
    assert_eq!(due.len(), 3);
    world.provider.will(Reply::Error("invalid_client"));
    for (before, connection) in due.iter().enumerate() {
        world.store.take_calls();
        let outcome = world.services.refresh_connection(&connection.key).await.unwrap();
        assert_eq!(outcome.as_str(), "put_off");
        assert_eq!(world.store.take_calls().write, if before == 0 { 2 } else { 1 }, "no lease is taken");
    }
    assert_eq!(sent(&world), 1);
    assert!(world.services.due_work(100).await.unwrap().is_empty());
    pass(&world, 2);
    for connection in world.services.due_work(100).await.unwrap() {
        world.provider.will(Reply::Tokens("second", 600));
        let outcome = world.services.refresh_connection(&connection.key).await.unwrap();
        assert_eq!(outcome.as_str(), "renewed");
    }
    assert_eq!(sent(&world), 4);
}
