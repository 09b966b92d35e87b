//! P9: what a tick reads depends on what is due, its refreshes go out together, and two ticks at once send each token once.
//! Time is the runtime's own and stands still while anybody works, so that what is measured is the same on every machine.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::ProviderName;
use agent_identity_core::arn::Resource;
use agent_identity_core::store::{Condition, Due, Key, Kind, Store as _, Write};
use agent_identity_core::tag::REFRESHES_PER_MINUTE;
use agent_identity_service::Services;
use agent_identity_service::tags::TagResource;
use agent_identity_testkit::Calls;
use tokio::time::Instant;
use world::{AGENT, CALENDAR, Reply, Trouble, World, request};

/// How long the provider takes for an answer.
const ANSWER: Duration = Duration::from_millis(200);

/// The bound's own measure of how many may be on their way at once.
const TOGETHER: usize = 50;

/// A world in which so many users have connections that are due now, each with a refresh token of its own.
async fn all_due(users: usize) -> World {
    let world = World::with_calendar().await;
    for user in 0..users {
        let (user, tokens) = (format!("user-{user}"), format!("first-{user}").leak());
        let wat = world.wat(AGENT, &user).await;
        let session = world.consented(request(&wat)).await;
        world.provider.will(Reply::Tokens(tokens, 600));
        world.complete(&session, &user).await.unwrap();
    }
    world.clock.advance(Duration::from_secs(400));
    for _ in 0..users {
        world.provider.will(Reply::After(ANSWER, "second"));
    }
    world.provider.requests.lock().unwrap().clear();
    world.provider.slow.lock().unwrap().clear();
    world.store.take_calls();
    world
}

async fn tick(services: &Arc<Services>) -> usize {
    services.tick(|work| tokio::spawn(work)).await.unwrap()
}

/// The fewest requests that the provider had at once while more than the last [`TOGETHER`] were unanswered.
fn fewest_in_flight(answered: &[(Instant, Instant)]) -> usize {
    let moments: BTreeSet<Instant> = answered.iter().flat_map(|(from, to)| [*from, *to]).collect();
    moments
        .iter()
        .filter(|moment| answered.iter().filter(|(_, to)| to > moment).count() > TOGETHER)
        .map(|moment| answered.iter().filter(|(from, to)| from <= moment && moment < to).count())
        .min()
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn p9_the_provider_is_asked_by_many_at_once_until_hardly_any_are_left() {
    for users in [200_usize, 330] {
        let world = all_due(users).await;
        let began = Instant::now();
        assert_eq!(tick(&world.services).await, users);
        let took = began.elapsed();
        let waves = u32::try_from(users.div_ceil(TOGETHER)).unwrap();
        assert!(took * 4 <= ANSWER * waves * 5, "{users} took {took:?}");
        let answered = world.provider.slow.lock().unwrap().clone();
        assert_eq!(answered.len(), users);
        let fewest = fewest_in_flight(&answered);
        assert!(fewest >= 45, "{fewest} in flight");
    }
}

#[tokio::test(start_paused = true)]
async fn p9_two_ticks_at_once_send_each_token_exactly_once() {
    let users = 200;
    let world = all_due(users).await;
    // Whoever reads a row that is due is overtaken by the other before the lease is written.
    let (one, _) = world.process_in_trouble(2, Trouble::Overtaken);
    let (other, _) = world.process_in_trouble(3, Trouble::Overtaken);
    tokio::join!(tick(&one), tick(&other));
    let sent = world.provider.seen("refresh_token");
    let different: BTreeSet<&String> = sent.iter().collect();
    assert_eq!((sent.len(), different.len()), (users, users));
    assert_eq!(tick(&world.services).await, 0, "nothing is left");
}

#[tokio::test(start_paused = true)]
async fn p9_a_tick_reads_and_writes_the_same_whether_a_thousand_or_a_hundred_thousand_are_stored() {
    let due = 100;
    for stored in [1_000, 10_000, 100_000] {
        let world = all_due(due).await;
        let later = world.now().plus(Duration::from_secs(3600));
        for index in due..stored {
            let key = Key::of(Kind::Connection, format!("workload#user-{index}"), "provider#default");
            let write = Write::Put {
                due: Some(Due::of(&key, later)),
                key,
                condition: Condition::Absent,
                expires_at: None,
                bytes: b"{}".to_vec(),
            };
            world.store.write(vec![write]).await.unwrap();
        }
        world.store.take_calls();
        assert_eq!(tick(&world.services).await, due);
        // One look at each shard, and one at their provider; for each that is due what `what_a_scheduled_refresh_costs` says. There is no scan to count.
        let expected = Calls { due: 16, get: 200, batch_get: 101, write: 200, ..Calls::default() };
        assert_eq!(world.store.take_calls(), expected, "{stored} stored");
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_with_a_pace_is_asked_no_faster_and_what_is_over_is_in_nobodys_way() {
    let users = 30;
    let world = all_due(users).await;
    let resource = Resource::Oauth2Provider(ProviderName::parse(CALENDAR).unwrap());
    let tags = BTreeMap::from([(REFRESHES_PER_MINUTE.to_owned(), "6".to_owned())]);
    let action = TagResource { resource, tags };
    world.services.tag_resource(world.admin.authorize(action).unwrap()).await.unwrap();
    assert_eq!(tick(&world.services).await, 6);
    // Put off, and not only left: the tick has nothing to look at.
    world.store.take_calls();
    assert_eq!(tick(&world.services).await, 0);
    assert_eq!(world.store.take_calls(), Calls { due: 16, ..Calls::default() });
    let mut done = vec![6];
    for _ in 0..8 {
        world.clock.advance(Duration::from_secs(30));
        done.push(tick(&world.services).await);
    }
    assert_eq!(done, [6, 3, 3, 3, 3, 3, 3, 3, 3]);
    let sent = world.provider.seen("refresh_token");
    assert_eq!((sent.len(), sent.iter().collect::<BTreeSet<_>>().len()), (users, users), "each once");
}
