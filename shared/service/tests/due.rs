//! The scheduled refresh: what is due, who refreshes it, and what stays due (D3, D5, D7, D8, D9).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_identity_core::arn::Resource;
use agent_identity_core::connection::{Connection, Reason};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::port::Event;
use agent_identity_core::provider::Vendor;
use agent_identity_core::store::{Condition, Due, Key, Kind, Row, Store as _, Write};
use agent_identity_core::{ProviderName, Timestamp, WorkloadName};
use agent_identity_service::Services;
use agent_identity_service::due::{DueWork, Refreshed};
use agent_identity_service::oauth2_provider::{DeleteOauth2Provider, UpdateOauth2Provider};
use agent_identity_service::oauth2_token::Oauth2TokenAnswer;
use agent_identity_service::tags::TagResource;
use agent_identity_service::workload::DeleteWorkload;
use agent_identity_testkit::{Calls, FixedClock};
use tokio::sync::Notify;
use world::{AGENT, CALENDAR, Reply, World, config, request};

fn row(world: &World) -> Row {
    world.store.rows().into_iter().find(|row| row.key.kind == Kind::Connection).unwrap()
}

/// When the connection is due, in seconds from now.
fn due_in(world: &World) -> Option<i64> {
    row(world).due.map(|due| (due.at.as_millis() - world.now().as_millis()).div_euclid(1000))
}

fn pass(world: &World, seconds: u64) {
    world.clock.advance(Duration::from_secs(seconds));
}

async fn due(services: &Services) -> Vec<Key> {
    services.due_work(100).await.unwrap().into_iter().map(|due| due.key).collect()
}

const SEVEN_DAYS: i64 = 7 * 24 * 3600;

fn connection(world: &World) -> Connection {
    serde_json::from_slice(&row(world).bytes).unwrap()
}

/// One tick: finds what is due and refreshes it.
async fn tick(services: &Services) -> Vec<&'static str> {
    let mut outcomes = Vec::new();
    for key in due(services).await {
        outcomes.push(services.refresh_connection(&key).await.unwrap().as_str());
    }
    outcomes
}

#[tokio::test]
async fn a_connection_is_refreshed_before_its_token_ends_and_without_a_reader() {
    let (world, _) = World::connected(3600).await;
    assert_eq!(due_in(&world), Some(2700));
    pass(&world, 2699);
    assert!(tick(&world.services).await.is_empty());
    pass(&world, 1);
    world.provider.will(Reply::Tokens("second", 3600));
    assert_eq!(tick(&world.services).await, ["renewed"]);
    assert_eq!(due_in(&world), Some(2700));
    assert!(tick(&world.services).await.is_empty());
    let wat = world.later(301).await;
    assert_eq!(world.token(&wat).await.unwrap(), "access-second");
    assert_eq!(world.provider.seen("refresh_token"), ["refresh-first"]);
}

#[tokio::test]
async fn a_refresh_by_a_reader_moves_the_due_time_too() {
    let (world, _) = World::connected(600).await;
    assert_eq!(due_in(&world), Some(300));
    let wat = world.later(400).await;
    let key = due(&world.services).await.remove(0);
    world.provider.will(Reply::Tokens("second", 600));
    assert_eq!(world.token(&wat).await.unwrap(), "access-second");
    assert_eq!(due_in(&world), Some(300));
    let late = world.services.refresh_connection(&key).await.unwrap();
    assert!(matches!(late, Refreshed::NotDue), "a message that came after it: {late:?}");
}

#[tokio::test]
async fn two_ticks_at_once_in_two_processes_refresh_exactly_once() {
    let (world, _) = World::connected(600).await;
    pass(&world, 400);
    let other = world.another_process(2, &world.clock);
    let (key, same) = (due(&world.services).await.remove(0), due(&other).await.remove(0));
    assert_eq!(key, same);
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("second", Arc::clone(&gate)));
    let both =
        async { tokio::join!(world.services.refresh_connection(&key), other.refresh_connection(&same)) };
    let open = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(due(&other).await.is_empty(), "a third tick does not even see it");
        gate.notify_one();
    };
    let ((one, two), ()) = tokio::join!(both, open);
    let mut outcomes = [one.unwrap().as_str(), two.unwrap().as_str()];
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["not_due", "renewed"]);
    assert_eq!(world.provider.seen("refresh_token"), ["refresh-first"]);
}

#[tokio::test]
async fn a_message_that_comes_twice_refreshes_once() {
    let (world, _) = World::connected(600).await;
    pass(&world, 400);
    let key = due(&world.services).await.remove(0);
    world.provider.will(Reply::Tokens("second", 600));
    assert!(matches!(world.services.refresh_connection(&key).await.unwrap(), Refreshed::Renewed));
    world.store.take_calls();
    assert!(matches!(world.services.refresh_connection(&key).await.unwrap(), Refreshed::NotDue));
    assert_eq!(world.store.take_calls(), Calls { get: 1, ..Calls::default() });
    let nobody = Key::of(Kind::Connection, "nobody", "nothing");
    assert!(matches!(world.services.refresh_connection(&nobody).await.unwrap(), Refreshed::Gone));
}

#[tokio::test]
async fn d8_a_dead_grant_is_announced_once_and_its_refresh_token_destroyed_after_seven_days() {
    let (world, _) = World::connected(600).await;
    pass(&world, 400);
    world.provider.will(Reply::Error("invalid_grant"));
    assert_eq!(tick(&world.services).await, ["needs_consent"]);
    assert_eq!(due_in(&world), Some(SEVEN_DAYS));
    pass(&world, 1000);
    assert!(tick(&world.services).await.is_empty());
    let kept = connection(&world);
    pass(&world, u64::try_from(SEVEN_DAYS).unwrap() - 1000);
    assert_eq!(tick(&world.services).await, ["forgotten"]);
    let left = connection(&world);
    assert_eq!((kept.tokens.refreshable, left.tokens.refreshable), (true, false));
    assert_eq!((left.tokens.generation, &left.health), (kept.tokens.generation + 1, &kept.health));
    // `"refresh-first"` in JSON is gone from what is sealed (`null` came), and base64url is four for three.
    assert!(left.tokens.sealed.len() + 12 <= kept.tokens.sealed.len());
    assert_eq!(row(&world).due, None);
    let wat = world.wat(AGENT, "ada").await;
    let answer = world.get(&wat).await.unwrap();
    assert!(matches!(answer, Oauth2TokenAnswer::Consent { .. }), "{answer:?}");
    let events = world.events.0.lock().unwrap();
    assert!(matches!(events.as_slice(), [Event::NeedsConsent { reason: "invalid_grant", .. }]), "{events:?}");
}

#[tokio::test]
async fn trouble_moves_the_due_time_in_growing_steps() {
    let (world, _) = World::connected(3600).await;
    pass(&world, 3300);
    let mut waits = Vec::new();
    for trouble in [Reply::NotSent, Reply::Error("invalid_client"), Reply::NotSent, Reply::NotSent] {
        world.provider.will(trouble);
        let key = due(&world.services).await.remove(0);
        let Refreshed::PutOff { until: Some(until), .. } =
            world.services.refresh_connection(&key).await.unwrap()
        else {
            panic!("it was put off")
        };
        assert_eq!(row(&world).due.map(|due| due.at), Some(until));
        assert!(due(&world.services).await.is_empty());
        waits.push(until.since(world.now()));
        world.clock.set(until);
    }
    assert!(waits.first() < waits.last() && waits.iter().all(|wait| !wait.is_zero()), "{waits:?}");
    world.provider.will(Reply::Tokens("second", 3600));
    assert_eq!(tick(&world.services).await, ["renewed"]);
}

#[tokio::test]
async fn d5_after_a_lost_answer_a_rotating_provider_is_left_alone_until_the_token_ends() {
    let (world, _) = World::connected(600).await;
    pass(&world, 300);
    world.provider.will(Reply::Lost);
    assert_eq!(tick(&world.services).await, ["put_off"]);
    assert_eq!(due_in(&world), Some(300));
    pass(&world, 300);
    world.provider.will(Reply::Tokens("second", 600));
    assert_eq!(tick(&world.services).await, ["renewed"]);
    assert_eq!(world.provider.seen("refresh_token"), ["refresh-first", "refresh-first"]);
}

#[tokio::test]
async fn a_provider_whose_refresh_kills_the_access_token_is_asked_only_when_that_has_ended() {
    let world = World::new();
    world.create_workload(AGENT).await;
    let mut late = config("https://unused.example", "client", Some("s3cret"));
    let vendor = Vendor::ALL.iter().copied().find(|vendor| kills(*vendor) && has_endpoints(*vendor)).unwrap();
    (late.registration.vendor, late.registration.discovery) = (vendor, None);
    world.create_provider_with(CALENDAR, late).await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    world.provider.will(Reply::Tokens("first", 3600));
    world.complete(&session, "ada").await.unwrap();
    assert_eq!(due_in(&world), Some(3600));
}

fn kills(vendor: Vendor) -> bool {
    agent_identity_oauth::catalogue::facts(vendor).refresh_invalidates_prior
}

fn has_endpoints(vendor: Vendor) -> bool {
    agent_identity_oauth::catalogue::facts(vendor).endpoints.is_some()
}

#[tokio::test]
async fn d3_a_token_of_an_older_generation_is_never_sent_and_is_destroyed_after_seven_days() {
    let (world, _) = World::connected(600).await;
    let action = UpdateOauth2Provider {
        name: ProviderName::parse(CALENDAR).unwrap(),
        config: config("https://elsewhere.example", "client", Some("s3cret")),
    };
    world.services.update_oauth2_provider(world.admin.authorize(action).unwrap()).await.unwrap();
    pass(&world, 400);
    let key = due(&world.services).await.remove(0);
    let outcome = world.services.refresh_connection(&key).await.unwrap();
    assert!(matches!(outcome, Refreshed::NeedsConsent(Reason::ProviderChanged)), "{outcome:?}");
    assert!(world.provider.seen("refresh_token").is_empty());
    assert_eq!(due_in(&world), Some(SEVEN_DAYS));
    pass(&world, u64::try_from(SEVEN_DAYS).unwrap());
    assert_eq!(tick(&world.services).await, ["forgotten"]);
    let events = world.events.0.lock().unwrap();
    assert!(
        matches!(events.as_slice(), [Event::NeedsConsent { reason: "provider_changed", .. }]),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_loss_of_which_nobody_heard_is_announced_again_by_the_schedule() {
    let (world, _) = World::connected(600).await;
    pass(&world, 601);
    world.events.1.store(true, Ordering::SeqCst);
    world.provider.will(Reply::Error("invalid_grant"));
    assert_eq!(tick(&world.services).await, ["needs_consent"]);
    // As the row is, too, where the process died between the outcome and its announcement.
    assert_eq!(due_in(&world), Some(20));
    assert!(tick(&world.services).await.is_empty());
    for heard in [1, 2] {
        assert_eq!(world.events.0.lock().unwrap().len(), heard);
        pass(&world, 20);
        world.events.1.store(heard == 1, Ordering::SeqCst);
        assert_eq!(tick(&world.services).await, ["needs_consent"]);
    }
    assert_eq!((due_in(&world), world.events.0.lock().unwrap().len()), (Some(SEVEN_DAYS - 40), 3));
    assert!(tick(&world.services).await.is_empty());
    assert_eq!(world.provider.seen("refresh_token").len(), 1);
}

#[tokio::test]
async fn d9_connections_of_a_deleted_provider_or_workload_are_destroyed() {
    for workload in [false, true] {
        let (world, _) = World::connected(600).await;
        if workload {
            let action = DeleteWorkload { name: WorkloadName::parse(AGENT).unwrap() };
            world.services.delete_workload(world.admin.authorize(action).unwrap()).await.unwrap();
            world.create_workload(AGENT).await;
        } else {
            let action = DeleteOauth2Provider { name: ProviderName::parse(CALENDAR).unwrap() };
            world.services.delete_oauth2_provider(world.admin.authorize(action).unwrap()).await.unwrap();
            world.create_provider(CALENDAR).await;
        }
        pass(&world, 400);
        assert_eq!(tick(&world.services).await, ["orphaned"]);
        let kinds = [Kind::Connection, Kind::ConnectionEntry, Kind::Revocation];
        assert!(!world.store.rows().iter().any(|row| kinds.contains(&row.key.kind)), "it was destroyed");
        assert!(tick(&world.services).await.is_empty());
        assert!(world.provider.seen("refresh_token").is_empty());
    }
}

#[tokio::test]
async fn what_cannot_be_opened_or_read_does_not_stay_due() {
    // The user's own key is gone (D19): the tokens open no more, and the pauses grow.
    let (world, _) = World::connected(600).await;
    let shred = world.store.rows().into_iter().find(|row| row.key.kind == Kind::UserKey).unwrap();
    world.store.write(vec![Write::Delete { key: shred.key, version: shred.version }]).await.unwrap();
    pass(&world, 400);
    let other = world.another_process(2, &world.clock);
    assert_eq!(tick(&other).await, ["put_off"]);
    assert!(due_in(&world) >= Some(0) && due(&other).await.is_empty());

    // A row that is no connection.
    let broken = row(&world);
    let due_now = Some(Due::of(&broken.key, world.now()));
    let write = Write::Put {
        key: broken.key.clone(),
        condition: Condition::Version(broken.version),
        expires_at: None,
        due: due_now,
        bytes: b"{".to_vec(),
    };
    world.store.write(vec![write]).await.unwrap();
    assert_eq!(due(&other).await.len(), 1);
    assert_eq!(other.refresh_connection(&broken.key).await.unwrap_err().kind(), ErrorKind::Internal);
    let left = row(&world);
    assert_eq!((left.due, left.bytes.as_slice()), (None, &b"{"[..]), "and nothing of it is lost");
}

#[tokio::test(start_paused = true)]
async fn d7_a_holder_that_died_is_watched_out_by_one_message() {
    let (world, _) = World::connected(600).await;
    pass(&world, 601);
    let key = due(&world.services).await.remove(0);
    world.provider.will(Reply::Held("never", Arc::new(Notify::new())));
    let dead = tokio::time::timeout(Duration::from_millis(10), world.services.refresh_connection(&key)).await;
    assert!(dead.is_err() && world.provider.seen("refresh_token").len() == 1);
    let clock = Arc::new(FixedClock::at(world.now()));
    let other = world.another_process(2, &clock);
    assert!(due(&other).await.is_empty(), "a lease holds the entry off for its life");
    clock.advance(Duration::from_secs(20));
    world.clock.advance(Duration::from_secs(20));
    assert_eq!(due(&other).await.as_slice(), std::slice::from_ref(&key));
    let time = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(10)).await;
            clock.advance(Duration::from_millis(10));
        }
    });
    world.provider.will(Reply::Tokens("second", 600));
    assert!(matches!(other.refresh_connection(&key).await.unwrap(), Refreshed::Renewed));
    time.abort();
}

#[tokio::test(start_paused = true)]
async fn d5_a_dead_holder_of_a_rotating_token_that_is_still_valid_leaves_it_for_the_tokens_end() {
    let (world, _) = World::connected(600).await;
    pass(&world, 400);
    let key = due(&world.services).await.remove(0);
    world.provider.will(Reply::Held("never", Arc::new(Notify::new())));
    let dead = tokio::time::timeout(Duration::from_millis(10), world.services.refresh_connection(&key)).await;
    assert!(dead.is_err());
    assert_eq!(due_in(&world), Some(200), "nothing to do before: the old token may not be sent again");
    let other = world.another_process(2, &world.clock);
    pass(&world, 200);
    assert_eq!(due(&other).await, [key]);
}

#[tokio::test]
async fn what_a_tick_reads_depends_on_what_is_due_and_not_on_what_is_stored() {
    for stored in [10, 1000] {
        let (world, _) = World::connected(600).await;
        let (now, template) = (world.now(), row(&world));
        for index in 0..stored {
            let key = Key::of(Kind::Connection, format!("workload#user-{index}"), "provider#default");
            let at = if index < 5 { now } else { now.plus(Duration::from_secs(3600)) };
            let write = Write::Put {
                due: Some(Due::of(&key, at)),
                key,
                condition: Condition::Absent,
                expires_at: None,
                bytes: template.bytes.clone(),
            };
            world.store.write(vec![write]).await.unwrap();
        }
        world.store.take_calls();
        let found = due(&world.services).await;
        assert_eq!(world.store.take_calls(), Calls { due: 16, ..Calls::default() });
        assert_eq!(found.len(), 5);
    }
}

#[tokio::test]
async fn what_a_scheduled_refresh_costs() {
    let (world, _) = World::connected(600).await;
    pass(&world, 400);
    let key = due(&world.services).await.remove(0);
    world.store.take_calls();
    world.provider.will(Reply::Tokens("second", 600));
    world.services.refresh_connection(&key).await.unwrap();
    // The row, its workload and provider together, the row in the turn; the lease and the outcome.
    assert_eq!(world.store.take_calls(), Calls { get: 2, batch_get: 1, write: 2, ..Calls::default() });
}

#[tokio::test]
async fn a_tick_takes_no_more_of_a_shard_than_it_is_told_and_the_longest_due_first() {
    let (world, _) = World::connected(600).await;
    let row = row(&world);
    let (shard, version) = (row.due.unwrap().shard, row.version);
    let due_at = |seconds| Some(Due { shard, at: Timestamp::from_seconds(seconds) });
    for (sort, seconds) in [("later", 2), ("earlier", 1)] {
        let key = Key::of(Kind::Connection, "p", sort);
        let (condition, bytes) = (Condition::Absent, row.bytes.clone());
        world
            .store
            .write(vec![Write::Put { key, condition, expires_at: None, due: due_at(seconds), bytes }])
            .await
            .unwrap();
    }
    world.store.write(vec![Write::Delete { key: row.key, version }]).await.unwrap();
    let found = world.services.due_work(1).await.unwrap();
    assert_eq!(found.iter().map(|due| due.key.sort.as_str()).collect::<Vec<_>>(), ["earlier"]);
}

#[test]
fn the_message_of_a_due_connection_has_one_form() {
    let due = DueWork { key: Key::of(Kind::Connection, "w#u", "p#default") };
    let text = r##"{"version":1,"key":{"partition":"w#u","sort":"p#default"}}"##;
    assert_eq!(serde_json::to_string(&due).unwrap(), text);
    assert_eq!(serde_json::from_str::<DueWork>(text).unwrap(), due);
    let revocation = DueWork { key: Key::of(Kind::Revocation, "u", "r") };
    let text = r#"{"version":1,"key":{"kind":"revocation","partition":"u","sort":"r"}}"#;
    assert_eq!(serde_json::to_string(&revocation).unwrap(), text);
    assert_eq!(serde_json::from_str::<DueWork>(text).unwrap(), revocation);
    for wrong in [
        r#"{"version":2,"key":{"partition":"w","sort":"p"}}"#,
        r#"{"key":{"partition":"w","sort":"p"}}"#,
        r#"{"version":1,"key":{"partition":"w"}}"#,
        r#"{"version":1,"key":{"partition":"w","sort":"p","kind":"workload"}}"#,
        r#"{"version":1,"key":{"kind":"user-key","partition":"w","sort":"p"}}"#,
        r#"{"version":1,"key":{"partition":"w","sort":"p"},"more":1}"#,
        "{}",
    ] {
        assert!(serde_json::from_str::<DueWork>(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_grant_that_is_about_to_end_is_announced_once_however_often_the_bus_fails() {
    let world = World::new();
    world.create_workload(AGENT).await;
    let mut atlassian = config("https://provider.example", "client", Some("s3cret"));
    atlassian.registration.vendor = Vendor::Atlassian;
    atlassian.registration.discovery = None;
    world.create_provider_with(CALENDAR, atlassian).await;
    let session = world.consented(request(&world.wat(AGENT, "ada").await)).await;
    // An access token that outlives its grant: nothing else is due.
    world.provider.will(Reply::Tokens("first", 400 * 24 * 3600));
    world.complete(&session, "ada").await.unwrap();
    // Unused, the grant lives 90 days, and is announced a week before.
    pass(&world, 82 * 24 * 3600);
    assert!(tick(&world.services).await.is_empty());
    pass(&world, 24 * 3600);
    world.events.1.store(true, std::sync::atomic::Ordering::SeqCst);
    let due = world.services.due_work(100).await.unwrap();
    world.services.work_off(&due[0]).await.unwrap_err();
    world.events.1.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(tick(&world.services).await, ["end_announced"]);
    assert!(tick(&world.services).await.is_empty());
    let ends = world.now().plus(Duration::from_secs(7 * 24 * 3600));
    let events = world.events.0.lock().unwrap();
    let told = |event: &Event| matches!(event, Event::AboutToEnd { ends_at, .. } if *ends_at == ends);
    assert!(events.len() == 2 && events.iter().all(told), "at least once: {events:?}");
}

#[tokio::test]
async fn a_process_that_is_about_to_end_waits_for_nobody() {
    let (world, _) = World::connected(600).await;
    let wat = world.later(700).await;
    let (gate, holding) = world.refreshing(&wat, "second").await;
    let other = world.another_process(5, &world.clock);
    let waiting = {
        let (other, admin, wat) = (Arc::clone(&other), world.admin.clone(), wat.clone());
        tokio::spawn(async move { other.get_oauth2_token(&admin, request(&wat)).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    other.leave();
    let ended = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    assert_eq!(ended.unwrap().unwrap().unwrap_err().kind(), ErrorKind::Throttling);
    // What had begun goes on to its end, also in a process that ends.
    world.services.leave();
    gate.notify_one();
    assert!(matches!(holding.await.unwrap().unwrap(), Oauth2TokenAnswer::Token(_)));
}

/// Lets the schedule do its work for so many hours, at a provider that always refreshes; how often it did.
async fn scheduled(world: &World, hours: u64) -> usize {
    let before = world.provider.seen("refresh_token").len();
    for _ in 0..hours * 4 {
        pass(world, 900);
        world.provider.forget();
        world.provider.will(Reply::Tokens("kept", 3600));
        tick(&world.services).await;
        world.provider.forget();
    }
    world.provider.seen("refresh_token").len() - before
}

async fn keep_alive_days(world: &World, days: &str) {
    let action = TagResource {
        resource: Resource::Oauth2Provider(ProviderName::parse(CALENDAR).unwrap()),
        tags: [("agent-identity:keep-alive-days".to_owned(), days.to_owned())].into(),
    };
    world.services.tag_resource(world.admin.authorize(action).unwrap()).await.unwrap();
}

#[tokio::test]
async fn what_nobody_uses_is_kept_alive_only_as_long_as_its_policy_says() {
    let (mut world, _) = World::connected(3600).await;
    assert_eq!(scheduled(&world, 24 * 10).await, 240 * 4 / 3, "without a policy, for ever");
    keep_alive_days(&world, "2").await;
    // Two days since its last use, and one more, since the mark of that may be a day old. It was never marked, so that counts from here.
    world.services = world.another_process(2, &world.clock);
    let kept = scheduled(&world, 24 * 10).await;
    assert!((92..=97).contains(&kept), "{kept} in three days and not in ten");
    // A policy that was a mistake is mended: within a week it is kept alive again, though nobody asks for it.
    keep_alive_days(&world, "3650").await;
    world.services = world.another_process(3, &world.clock);
    assert!(scheduled(&world, 24 * 7).await > 0);
    keep_alive_days(&world, "2").await;
    world.services = world.another_process(4, &world.clock);
    scheduled(&world, 24 * 2).await;
    assert!(due_in(&world).unwrap() > 0, "it is looked at once a week, should its policy be changed");
    // Whoever asks for it gets it, and it is kept alive again.
    let wat = world.later(0).await;
    world.provider.will(Reply::Tokens("used", 3600));
    assert_eq!(world.token(&wat).await.unwrap(), "access-used");
    assert_eq!(due_in(&world), Some(2700));
    let kept = scheduled(&world, 24 * 10).await;
    assert!((92..=97).contains(&kept), "{kept}");
}

#[tokio::test]
async fn what_is_used_is_kept_alive_and_marked_once_a_day() {
    let (world, _) = World::connected(3600).await;
    keep_alive_days(&world, "1").await;
    let mut marks = std::collections::BTreeSet::new();
    for _ in 0..20 {
        assert!(scheduled(&world, 12).await >= 15, "it is refreshed all the time");
        for _ in 0..3 {
            let wat = world.later(0).await;
            world.token(&wat).await.unwrap();
        }
        marks.insert(connection(&world).used_at);
    }
    assert_eq!(marks.len(), 10, "in ten days");
}

#[tokio::test]
async fn an_answer_that_was_lost_is_brought_to_its_end_whatever_the_policy_says() {
    let (world, _) = World::connected(3600).await;
    keep_alive_days(&world, "1").await;
    // Marked with its first refresh, it is refreshed a last time two days later.
    scheduled(&world, 24 * 2).await;
    pass(&world, 2700);
    world.provider.will(Reply::Lost);
    assert_eq!(tick(&world.services).await, ["put_off"]);
    pass(&world, 24 * 3600);
    world.provider.will(Reply::Tokens("recovered", 3600));
    assert_eq!(tick(&world.services).await, ["renewed"]);
    assert!(due_in(&world).unwrap() > SEVEN_DAYS);
}
