//! Refresh on read: leases, lost answers, dead grants (D3, D5, D7, D19).

mod world;

use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::Secret;
use agent_identity_core::error::ErrorKind;
use agent_identity_core::port::Event;
use agent_identity_service::oauth2_token::Oauth2TokenAnswer;
use agent_identity_testkit::FixedClock;
use tokio::sync::Notify;
use world::{Reply, World, get_from, refused, request};

#[tokio::test]
async fn a_fresh_token_is_served_and_one_that_ended_is_refreshed_once() {
    let (world, wat) = World::connected(600).await;
    assert_eq!(world.token(&wat).await.unwrap(), "access-first");
    let wat = world.later(601).await;
    world.provider.will(Reply::Tokens("second", 600));
    assert_eq!(world.token(&wat).await.unwrap(), "access-second");
    assert_eq!(world.token(&wat).await.unwrap(), "access-second");
    assert_eq!(world.provider.seen("refresh_token"), ["refresh-first"]);
    let wat = world.later(601).await;
    world.provider.will(Reply::Tokens("third", 600));
    assert_eq!(world.token(&wat).await.unwrap(), "access-third");
    assert_eq!(world.provider.seen("refresh_token"), ["refresh-first", "refresh-second"]);
}

#[tokio::test]
async fn a_hundred_readers_in_two_processes_make_one_call() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(601).await;
    world.provider.will(Reply::Tokens("second", 600));
    let other = world.another_process(2, &world.clock);
    let readers = (0..100).map(|number| {
        let services = Arc::clone(if number % 2 == 0 { &world.services } else { &other });
        let (admin, request) = (world.admin.clone(), request(&wat));
        tokio::spawn(async move { get_from(&services, &admin, request).await })
    });
    for reader in readers.collect::<Vec<_>>() {
        match reader.await.unwrap().unwrap() {
            Oauth2TokenAnswer::Token(token) => assert_eq!(token.expose(), "access-second"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.provider.seen("refresh_token").len(), 1);
}

#[tokio::test]
async fn while_the_access_token_is_valid_it_is_served_whatever_refresh_did() {
    for trouble in [
        Reply::Status(503),
        Reply::Lost,
        Reply::NotSent,
        Reply::Error("invalid_grant"),
        Reply::Error("invalid_client"),
    ] {
        let (world, _) = World::connected(600).await;
        let wat = world.later(400).await;
        world.provider.will(trouble);
        assert_eq!(world.token(&wat).await.unwrap(), "access-first");
        assert_eq!(world.token(&wat).await.unwrap(), "access-first", "and no second attempt follows at once");
    }
}

#[tokio::test]
async fn while_somebody_else_refreshes_a_token_that_is_still_valid_it_is_served_without_waiting() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(400).await;
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("second", Arc::clone(&gate)));
    let (services, admin, first) = (Arc::clone(&world.services), world.admin.clone(), request(&wat));
    let refreshing = tokio::spawn(async move { get_from(&services, &admin, first).await });
    while world.provider.seen("refresh_token").is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.token(&wat).await.unwrap(), "access-first");
    gate.notify_one();
    refreshing.await.unwrap().unwrap();
    assert_eq!(world.token(&wat).await.unwrap(), "access-second");
}

#[tokio::test]
async fn d5_after_a_lost_answer_the_old_token_is_replayed_exactly_once_and_then_the_loss_is_named() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(400).await;
    world.provider.will(Reply::Lost);
    assert_eq!(world.token(&wat).await.unwrap(), "access-first");
    let wat = world.later(201).await;
    world.provider.will(Reply::Error("invalid_grant"));
    assert!(matches!(world.get(&wat).await.unwrap(), Oauth2TokenAnswer::Consent { .. }));
    assert_eq!(world.provider.seen("refresh_token"), ["refresh-first", "refresh-first"]);
    let events = world.events.0.lock().unwrap();
    assert!(matches!(events.as_slice(), [Event::NeedsConsent { reason: "lost_rotation", .. }]), "{events:?}");
}

#[tokio::test]
async fn d5_an_outage_longer_than_the_token_ends_no_grant() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(601).await;
    world.provider.will(Reply::Lost);
    assert_eq!(refused(world.get(&wat).await).0, ErrorKind::Throttling);
    assert_eq!(refused(world.get(&wat).await).0, ErrorKind::Throttling, "paced: nothing is sent");
    assert_eq!(world.provider.seen("refresh_token").len(), 1);
    for _ in 0..5 {
        let wat = world.later(301).await;
        world.provider.will(Reply::Status(503));
        assert_eq!(refused(world.get(&wat).await).0, ErrorKind::Throttling);
    }
    let wat = world.later(301).await;
    world.provider.will(Reply::Tokens("second", 600));
    assert_eq!(world.token(&wat).await.unwrap(), "access-second");
    let events = world.events.0.lock().unwrap();
    assert!(events.iter().all(|event| matches!(event, Event::ProviderSuspended { .. })), "{events:?}");
}

#[tokio::test]
async fn a_dead_grant_leads_to_a_new_consent_and_is_announced() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(601).await;
    world.provider.will(Reply::Error("invalid_grant"));
    assert!(matches!(world.get(&wat).await.unwrap(), Oauth2TokenAnswer::Consent { .. }));
    let events = std::mem::take(&mut *world.events.0.lock().unwrap());
    assert!(matches!(events.as_slice(), [Event::NeedsConsent { reason: "invalid_grant", .. }]), "{events:?}");
    world.consent_again(&wat, "second").await;
    let events = std::mem::take(&mut *world.events.0.lock().unwrap());
    assert!(matches!(events.as_slice(), [Event::Recovered { .. }]), "{events:?}");
    // Where nothing was lost nothing is recovered.
    world.consent_again(&wat, "third").await;
    assert!(world.events.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_client_that_the_provider_refuses_is_the_providers_trouble_and_no_consent() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(601).await;
    world.provider.will(Reply::Error("invalid_client"));
    let (kind, message) = refused(world.get(&wat).await);
    assert_eq!(kind, ErrorKind::Validation);
    assert!(message.contains("invalid_client") && message.contains("calendar"), "{message}");
    let events = std::mem::take(&mut *world.events.0.lock().unwrap());
    assert!(
        matches!(events.as_slice(), [Event::ProviderSuspended { reason: "invalid_client", .. }]),
        "{events:?}"
    );
    let wat = world.later(10).await;
    world.provider.will(Reply::Tokens("second", 600));
    assert_eq!(world.token(&wat).await.unwrap(), "access-second");
}

#[tokio::test(start_paused = true)]
async fn d7_a_lease_is_taken_over_only_after_it_was_seen_unchanged_for_its_whole_life() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(601).await;
    // The first process dies in mid-call: its task is dropped, its lease and intent stay.
    world.provider.will(Reply::Held("never", Arc::new(Notify::new())));
    let dead = tokio::time::timeout(Duration::from_millis(10), world.get(&wat)).await;
    assert!(dead.is_err() && world.provider.seen("refresh_token").len() == 1);

    // Another process, whose wall clock is an hour ahead: that proves nothing.
    let clock = Arc::new(FixedClock::at(world.now().plus(Duration::from_secs(3600))));
    let other = world.another_process(2, &clock);
    let ticking = tick(&clock);
    let wat_there = world::wat_from(&other, &world.admin, world::AGENT, "ada").await;
    let (kind, message) = refused(get_from(&other, &world.admin, request(&wat_there)).await);
    assert_eq!(kind, ErrorKind::Throttling, "losers wait 8 s, then answer Throttling: {message}");
    assert_eq!(refused(get_from(&other, &world.admin, request(&wat_there)).await).0, ErrorKind::Throttling);
    world.provider.will(Reply::Tokens("second", 600));
    let taken = get_from(&other, &world.admin, request(&wat_there)).await.unwrap();
    assert!(matches!(taken, Oauth2TokenAnswer::Token(token) if token.expose() == "access-second"));
    assert!(clock_elapsed(&clock) >= Duration::from_secs(20));
    ticking.abort();
}

fn clock_elapsed(clock: &FixedClock) -> Duration {
    agent_identity_core::Clock::elapsed(clock)
}

/// Moves a clock as tokio's paused time moves.
fn tick(clock: &Arc<FixedClock>) -> tokio::task::JoinHandle<()> {
    let clock = Arc::clone(clock);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            clock.advance(Duration::from_millis(10));
        }
    })
}

#[tokio::test]
async fn a_holder_that_was_taken_over_does_not_overwrite_newer_tokens() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(601).await;
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("stale", Arc::clone(&gate)));
    let (services, admin, first) = (Arc::clone(&world.services), world.admin.clone(), request(&wat));
    let frozen = tokio::spawn(async move { get_from(&services, &admin, first).await });
    while world.provider.seen("refresh_token").is_empty() {
        tokio::task::yield_now().await;
    }
    // Somebody else has watched the lease die, refreshed, and committed newer tokens.
    let other = world.another_process(2, &world.clock);
    world.provider.will(Reply::Tokens("newer", 600));
    let clock = Arc::clone(&world.clock);
    let time = tokio::spawn(async move { World::awake_for(&clock, 60).await });
    let taken = loop {
        match get_from(&other, &world.admin, request(&wat)).await {
            Err(error) if error.kind() == ErrorKind::Throttling => {}
            other => break other.unwrap(),
        }
    };
    assert!(matches!(taken, Oauth2TokenAnswer::Token(token) if token.expose() == "access-newer"));
    time.abort();
    gate.notify_one();
    frozen.await.unwrap().unwrap();
    assert_eq!(world.token(&wat).await.unwrap(), "access-newer");
}

#[tokio::test]
async fn what_the_store_holds_of_tokens_is_sealed() {
    let (world, _) = World::connected(600).await;
    for row in world.store.rows() {
        let text = String::from_utf8_lossy(&row.bytes).into_owned();
        for secret in ["access-first", "refresh-first", "s3cret", "\"code\"", "\"ada\""] {
            assert!(!text.contains(secret), "a row of kind {:?} shows {secret}", row.key.kind);
        }
    }
}

/// Waits until the provider has seen so many refreshes.
async fn refreshes(world: &World, count: usize) {
    while world.provider.seen("refresh_token").len() < count {
        tokio::task::yield_now().await;
    }
}

fn spawn_get(
    world: &World,
    services: &Arc<agent_identity_service::Services>,
    wat: &agent_identity_core::Secret,
) -> tokio::task::JoinHandle<agent_identity_core::Result<Oauth2TokenAnswer>> {
    let (services, admin, request) = (Arc::clone(services), world.admin.clone(), request(wat));
    tokio::spawn(async move { get_from(&services, &admin, request).await })
}

#[tokio::test]
async fn d7_a_lease_of_a_later_connection_is_not_taken_for_one_that_was_watched_before() {
    let (world, _) = World::connected(600).await;
    let other = world.another_process(2, &world.clock);
    let wat = world.later(601).await;
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("second", Arc::clone(&gate)));
    let first = spawn_get(&world, &world.services, &wat);
    refreshes(&world, 1).await;
    let watching = spawn_get(&world, &other, &wat);
    tokio::time::sleep(Duration::from_millis(120)).await;
    gate.notify_one();
    first.await.unwrap().unwrap();
    watching.await.unwrap().unwrap();

    world.consent_again(&wat, "third").await;
    let wat = world.later(601).await;
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("fourth", Arc::clone(&gate)));
    let first = spawn_get(&world, &world.services, &wat);
    refreshes(&world, 2).await;
    let watching = spawn_get(&world, &other, &wat);
    tokio::time::sleep(Duration::from_millis(300)).await;
    gate.notify_one();
    first.await.unwrap().unwrap();
    watching.await.unwrap().unwrap();
    assert_eq!(world.provider.seen("refresh_token"), ["refresh-first", "refresh-third"]);
}

#[tokio::test]
async fn d7_a_process_that_was_frozen_has_not_watched_and_never_takes_over_its_own_lease() {
    let (world, _) = World::connected(600).await;
    let other = world.another_process(2, &world.clock);
    let wat = world.later(601).await;
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("second", Arc::clone(&gate)));
    let first = spawn_get(&world, &world.services, &wat);
    refreshes(&world, 1).await;
    let waiting = [spawn_get(&world, &world.services, &wat), spawn_get(&world, &other, &wat)];
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Everything stood still for a while: a look before and a look after are two looks, not twenty seconds of watching.
    world.clock.advance_elapsed(Duration::from_secs(7));
    tokio::time::sleep(Duration::from_millis(100)).await;
    gate.notify_one();
    first.await.unwrap().unwrap();
    for waiting in waiting {
        waiting.await.unwrap().unwrap();
    }
    assert_eq!(world.provider.seen("refresh_token").len(), 1);
}

#[tokio::test]
async fn a_provider_in_trouble_is_asked_again_in_growing_steps_and_not_at_every_read() {
    use agent_identity_core::provider::Vendor;
    let world = World::new();
    world.create_workload(world::AGENT).await;
    let mut google = world::config("https://unused.example", "client", Some("s3cret"));
    (google.registration.vendor, google.registration.discovery) = (Vendor::Google, None);
    world.create_provider_with(world::CALENDAR, google).await;
    let wat = world.wat(world::AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    world.provider.will(Reply::Tokens("first", 600));
    world.complete(&session, "ada").await.unwrap();
    let wat = world.later(400).await;
    world.provider.will(Reply::Status(503));
    for _ in 0..50 {
        assert_eq!(world.token(&wat).await.unwrap(), "access-first");
    }
    assert_eq!(world.provider.seen("refresh_token").len(), 1);
}

#[tokio::test]
async fn a_refresh_that_came_after_a_new_consent_serves_what_is_stored() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(601).await;
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("old-grant", Arc::clone(&gate)));
    let refreshing = spawn_get(&world, &world.services, &wat);
    refreshes(&world, 1).await;
    world.consent_again(&wat, "new-grant").await;
    gate.notify_one();
    let answer = refreshing.await.unwrap().unwrap();
    assert!(matches!(answer, Oauth2TokenAnswer::Token(token) if token.expose() == "access-new-grant"));
}

#[tokio::test]
async fn d19_a_refused_refresh_whose_tokens_moved_meanwhile_is_a_lost_race_and_no_dead_grant() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(601).await;
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::HeldError("invalid_grant", Arc::clone(&gate)));
    let refreshing = spawn_get(&world, &world.services, &wat);
    refreshes(&world, 1).await;
    world.consent_again(&wat, "sibling").await;
    gate.notify_one();
    let answer = refreshing.await.unwrap().unwrap();
    assert!(matches!(answer, Oauth2TokenAnswer::Token(token) if token.expose() == "access-sibling"));
    assert!(world.events.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn d19_without_the_users_own_key_nothing_of_theirs_opens() {
    use agent_identity_core::store::{Kind, Store as _, Write};
    let (world, _) = World::connected(600).await;
    let shred = world.store.rows().into_iter().find(|row| row.key.kind == Kind::UserKey).unwrap();
    world.store.write(vec![Write::Delete { key: shred.key, version: shred.version }]).await.unwrap();
    // Another process, which never had the key in memory.
    let other = world.another_process(2, &world.clock);
    let wat = world::wat_from(&other, &world.admin, world::AGENT, "ada").await;
    assert_eq!(refused(get_from(&other, &world.admin, request(&wat)).await).0, ErrorKind::Internal);
}

#[tokio::test]
async fn a_store_that_is_busy_when_the_answer_comes_does_not_lose_it() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(601).await;
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("second", Arc::clone(&gate)));
    let services = world.process_on_a_busy_store(5);
    let refreshing = spawn_get(&world, &services.0, &wat);
    refreshes(&world, 1).await;
    services.1.store(3, std::sync::atomic::Ordering::SeqCst);
    gate.notify_one();
    let answer = refreshing.await.unwrap().unwrap();
    assert!(matches!(answer, Oauth2TokenAnswer::Token(token) if token.expose() == "access-second"));
    assert_eq!(world.token(&wat).await.unwrap(), "access-second");
}

#[tokio::test]
async fn a_refresh_asks_for_the_resources_and_audiences_that_the_connection_is_for() {
    let world = World::with_calendar().await;
    let wanted = |wat: &Secret| {
        let mut wanted = request(wat);
        wanted.resources = vec!["https://api.example/a".to_owned()];
        wanted.audiences = vec!["https://audience.example".to_owned()];
        wanted
    };
    let session = world.consented(wanted(&world.wat(world::AGENT, "ada").await)).await;
    world.provider.will(Reply::Tokens("first", 600));
    world.complete(&session, "ada").await.unwrap();
    let wat = world.later(601).await;
    world.provider.will(Reply::Tokens("second", 600));
    let answer = get_from(&world.services, &world.admin, wanted(&wat)).await.unwrap();
    assert!(matches!(answer, Oauth2TokenAnswer::Token(token) if token.expose() == "access-second"));
    let requests = world.provider.requests.lock().unwrap();
    for (grant, sent) in ["authorization_code", "refresh_token"].iter().zip(&*requests) {
        let sent: Vec<_> =
            ["grant_type", "resource", "audience"].map(|name| sent.get(name).cloned().unwrap()).into();
        assert_eq!(sent, [*grant, "https://api.example/a", "https://audience.example"]);
    }
}

#[tokio::test]
async fn d13_a_refresh_that_gives_less_is_refused_at_once_and_names_what_is_missing() {
    let world = World::with_calendar().await;
    let both = |wat: &Secret| {
        let mut both = request(wat);
        both.scopes = world::scopes(&["read", "write"]);
        both
    };
    let session = world.consented(both(&world.wat(world::AGENT, "ada").await)).await;
    world.provider.will(Reply::Tokens("first", 60));
    world.complete(&session, "ada").await.unwrap();
    let wat = world.later(61).await;
    let mut poll = both(&wat);
    poll.session = Some(session);
    world.provider.will(Reply::Scoped("narrow", "read"));
    for request in [both(&wat), both(&wat), poll] {
        let (kind, text) = refused(get_from(&world.services, &world.admin, request).await);
        assert!(kind == ErrorKind::AccessDenied && text.contains("scopes write;"), "{text}");
    }
    assert_eq!(world.token(&wat).await.unwrap(), "access-narrow");
    assert_eq!(world.provider.seen("refresh_token").len(), 1);
}

#[tokio::test]
async fn d13_a_poll_whose_refresh_gives_less_is_refused_too() {
    let world = World::with_calendar().await;
    let mut both = request(&world.wat(world::AGENT, "ada").await);
    both.scopes = world::scopes(&["read", "write"]);
    let session = world.consented(both.clone()).await;
    world.provider.will(Reply::Tokens("first", 60));
    world.complete(&session, "ada").await.unwrap();
    (both.workload_token, both.session) = (world.later(61).await, Some(session));
    world.provider.will(Reply::Scoped("narrow", "read"));
    let (kind, text) = refused(get_from(&world.services, &world.admin, both).await);
    assert!(kind == ErrorKind::AccessDenied && text.contains("scopes write;"), "{text}");
}

#[tokio::test]
async fn d7_who_was_taken_over_and_then_refused_waits_for_who_took_over_and_sends_nobody_to_a_consent() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(601).await;
    let (late, early) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    world.provider.will(Reply::HeldError("invalid_grant", Arc::clone(&late)));
    let frozen = spawn_get(&world, &world.services, &wat);
    refreshes(&world, 1).await;
    // Somebody else watches the lease die and asks the provider too.
    let other = world.another_process(2, &world.clock);
    world.provider.will(Reply::Held("second", Arc::clone(&early)));
    let clock = Arc::clone(&world.clock);
    let time = tokio::spawn(async move { World::awake_for(&clock, 60).await });
    let (services, admin, first) = (Arc::clone(&other), world.admin.clone(), wat.clone());
    let taking_over = tokio::spawn(async move {
        loop {
            match get_from(&services, &admin, request(&first)).await {
                Err(error) if error.kind() == ErrorKind::Throttling => {}
                other => break other,
            }
        }
    });
    refreshes(&world, 2).await;
    time.abort();
    late.notify_one();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!frozen.is_finished(), "its own refusal says nothing: somebody else is asking");
    early.notify_one();
    for answer in [frozen, taking_over] {
        let answer = answer.await.unwrap().unwrap();
        assert!(matches!(answer, Oauth2TokenAnswer::Token(token) if token.expose() == "access-second"));
    }
    assert!(world.events.0.lock().unwrap().is_empty());
}
