//! Usage: what is counted adds up, whatever becomes of writes.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_identity_core::audit::Day;
use agent_identity_core::store::{Kind, MAX_VALUE_BYTES, Store};
use agent_identity_core::usage::{Counts, Used};
use agent_identity_core::{ProviderName, WorkloadName};
use agent_identity_service::audit::{About, CONSENT, Kept, Life, Signing, Terms, Trail, about};
use agent_identity_testkit::{SeededRandom, Sha256};
use proptest::prelude::*;
use world::{Trouble, World};

const NOW: Duration = Duration::ZERO;

fn trail(world: &World, store: Arc<dyn Store>, seed: u64) -> Trail {
    let terms = Terms {
        kept: Kept::Lines,
        life: Life::Long,
        signing: Signing::Scheduled(None),
        days: 30,
        usage_metrics: true,
    };
    Trail::new(store, Arc::new(Sha256), Arc::new(SeededRandom::new(seed)), world.clock.clone(), terms)
}

async fn ask(
    trail: &Trail,
    operation: &str,
    workload: &str,
    answer: Option<&'static str>,
    error: Option<&str>,
) {
    let who = About {
        workload: WorkloadName::parse(workload).ok(),
        provider: ProviderName::parse("weather").ok(),
        found: true,
        answer,
        ..About::new("access-key/test", operation)
    };
    about(who, trail.credential(error)).await.unwrap();
}

/// One that is given.
async fn get(trail: &Trail, workload: &str) {
    ask(trail, "GetResourceApiKey", workload, None, None).await;
}

async fn list(trail: &Trail, days: &[Day]) -> Vec<Used> {
    trail.usage(days.iter().copied()).await.unwrap().into_list().collect()
}

async fn given(trail: &Trail, days: &[Day]) -> u64 {
    list(trail, days).await.iter().map(|used| used.counts.given).sum()
}

fn rows(world: &World) -> usize {
    world.store.rows().iter().filter(|row| row.key.kind == Kind::Usage).count()
}

#[tokio::test]
async fn each_request_for_a_credential_is_counted_by_workload_provider_and_path() {
    let world = World::new();
    let trail = trail(&world, world.store.clone(), 1);
    let today = [trail.today()];
    get(&trail, "agent-a").await;
    get(&trail, "agent-a").await;
    ask(&trail, "GetResourceOauth2Token", "agent-a", Some(CONSENT), None).await;
    ask(&trail, "GetResourceOauth2Token", "agent-a", None, Some("AccessDeniedException")).await;
    ask(&trail, "InvokeTool", "agent-a", None, None).await;
    // A workload access token is no credential of a provider.
    ask(&trail, "GetWorkloadAccessToken", "agent-a", None, None).await;
    get(&trail, "agent-b").await;
    let found: Vec<_> = list(&trail, &today)
        .await
        .into_iter()
        .map(|used| (used.of.workload, used.of.path.as_str(), used.counts))
        .collect();
    let counts = |given, waiting, refused| Counts { given, waiting, refused };
    assert_eq!(
        found,
        [
            ("agent-a".to_owned(), "direct", counts(2, 1, 1)),
            ("agent-a".to_owned(), "gateway", counts(1, 0, 0)),
            ("agent-b".to_owned(), "direct", counts(1, 0, 0)),
        ]
    );
    assert!(list(&trail, &[Day::from_number(today[0].number() - 1)]).await.is_empty());
}

#[tokio::test]
async fn a_provider_that_nobody_has_found_is_counted_by_no_name() {
    let world = World::new();
    let trail = trail(&world, world.store.clone(), 1);
    for number in 0..100 {
        let provider = ProviderName::parse(&format!("invented-{number}")).ok();
        let who = About { provider, ..About::new("access-key/test", "GetResourceApiKey") };
        about(who, trail.credential(Some("ResourceNotFoundException"))).await.unwrap();
    }
    let found = list(&trail, &[trail.today()]).await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].of.provider.as_str(), found[0].counts.refused), ("", 100));
}

#[tokio::test]
async fn a_row_of_the_longest_names_is_one_that_can_be_kept() {
    let world = World::new();
    let counting = trail(&world, world.store.clone(), 1);
    for number in 0..2000 {
        get(&counting, &format!("{number:0>255}")).await;
    }
    counting.write_usage(NOW).await;
    let rows: Vec<usize> = world
        .store
        .rows()
        .iter()
        .filter(|row| row.key.kind == Kind::Usage)
        .map(|row| row.bytes.len())
        .collect();
    assert!(rows.len() > 1 && rows.iter().all(|bytes| *bytes < MAX_VALUE_BYTES), "{rows:?}");
    assert_eq!(given(&trail(&world, world.store.clone(), 2), &[counting.today()]).await, 2000);
}

#[tokio::test]
async fn what_cannot_be_put_on_record_was_not_given() {
    let world = World::new();
    let (store, left) = world.store_in_trouble(Trouble::Busy);
    let terms = Terms {
        kept: Kept::Rows,
        life: Life::Long,
        signing: Signing::Scheduled(None),
        days: 30,
        usage_metrics: false,
    };
    let trail =
        Trail::new(store, Arc::new(Sha256), Arc::new(SeededRandom::new(1)), world.clock.clone(), terms);
    left.store(1, Ordering::SeqCst);
    let who = || About { found: true, ..About::new("access-key/test", "GetResourceApiKey") };
    assert!(about(who(), trail.credential(None)).await.is_err());
    about(who(), trail.credential(None)).await.unwrap();
    let found = list(&trail, &[trail.today()]).await;
    assert_eq!((found[0].counts.given, found[0].counts.refused), (1, 1));
}

#[tokio::test]
async fn what_several_processes_have_counted_adds_up_and_is_written_in_time() {
    let world = World::new();
    let (one, other) = (trail(&world, world.store.clone(), 1), trail(&world, world.store.clone(), 2));
    let today = [one.today()];
    get(&one, "agent-a").await;
    one.write_usage(Duration::from_secs(60)).await;
    assert_eq!(rows(&world), 0, "it has not waited for a minute");
    world.clock.advance(Duration::from_secs(60));
    get(&other, "agent-a").await;
    one.write_usage(Duration::from_secs(60)).await;
    other.write_usage(Duration::from_secs(60)).await;
    assert_eq!(rows(&world), 1);
    get(&one, "agent-a").await;
    assert_eq!(given(&one, &today).await, 2, "its own, written or not, once");
    assert_eq!(given(&other, &today).await, 2, "the written one, and its own");
    for trail in [&one, &other] {
        trail.write_usage(NOW).await;
        trail.write_usage(NOW).await;
    }
    assert_eq!(rows(&world), 2);
    let late = trail(&world, world.store.clone(), 3);
    assert_eq!(given(&late, &today).await, 3);
}

#[tokio::test]
async fn a_write_in_trouble_loses_nothing_and_counts_nothing_twice() {
    for trouble in [Trouble::Busy, Trouble::LostRequest, Trouble::LostAnswer, Trouble::Silence] {
        for before in [false, true] {
            let world = World::new();
            let (store, left) = world.store_in_trouble(trouble);
            let counting = trail(&world, store, 1);
            let today = [counting.today()];
            get(&counting, "agent-a").await;
            if before {
                left.store(0, Ordering::SeqCst);
                counting.write_usage(NOW).await;
                get(&counting, "agent-a").await;
            }
            left.store(1, Ordering::SeqCst);
            counting.write_usage(NOW).await;
            get(&counting, "agent-a").await;
            left.store(0, Ordering::SeqCst);
            counting.write_usage(NOW).await;
            let expected = if before { 3 } else { 2 };
            let reading = trail(&world, world.store.clone(), 2);
            assert_eq!(given(&reading, &today).await, expected, "{trouble:?} {before}");
            assert_eq!(given(&counting, &today).await, expected, "{trouble:?} {before}");
        }
    }
}

#[tokio::test]
async fn a_day_that_has_ended_is_written_as_that_day() {
    let world = World::new();
    let counting = trail(&world, world.store.clone(), 1);
    let first = counting.today();
    get(&counting, "agent-a").await;
    world.clock.advance(Duration::from_secs(24 * 3600));
    get(&counting, "agent-a").await;
    get(&counting, "agent-a").await;
    let second = counting.today();
    assert_eq!((given(&counting, &[first]).await, given(&counting, &[second]).await), (1, 2));
    counting.write_usage(NOW).await;
    let reading = trail(&world, world.store.clone(), 2);
    assert_eq!((given(&reading, &[first]).await, given(&reading, &[second]).await), (1, 2));
    assert_eq!(given(&reading, &[first, second]).await, 3);
    // All of a day goes at once, with its trail.
    world.clock.advance(Duration::from_secs(31 * 24 * 3600));
    assert_eq!(given(&reading, &[first, second]).await, 0);
}

#[tokio::test]
async fn many_names_take_several_rows_and_add_up() {
    let world = World::new();
    let counting = trail(&world, world.store.clone(), 1);
    let today = [counting.today()];
    for _ in 0..2 {
        for number in 0..1500 {
            get(&counting, &format!("workload-{number}")).await;
        }
    }
    assert_eq!(given(&counting, &today).await, 3000);
    counting.write_usage(NOW).await;
    let reading = trail(&world, world.store.clone(), 2);
    let found = list(&reading, &today).await;
    assert_eq!((found.len(), found.iter().map(|used| used.counts.given).sum::<u64>()), (1500, 3000));
    assert!(rows(&world) > 1);
}

#[tokio::test]
async fn what_could_not_be_written_is_written_later_also_of_rows_that_are_full() {
    let world = World::new();
    let (store, left) = world.store_in_trouble(Trouble::Busy);
    let counting = trail(&world, store, 1);
    let today = [counting.today()];
    for number in 0..1500 {
        get(&counting, &format!("workload-{number}")).await;
    }
    left.store(2, Ordering::SeqCst);
    counting.write_usage(NOW).await;
    assert_eq!((rows(&world), given(&counting, &today).await), (0, 1500));
    counting.write_usage(NOW).await;
    assert_eq!(given(&trail(&world, world.store.clone(), 2), &today).await, 1500);
}

#[test]
fn a_day_is_what_the_calendar_says() {
    for (text, number) in [
        ("1970-01-01", 0),
        ("1969-12-31", -1),
        ("2000-02-29", 11_016),
        ("2026-11-26", 20_783),
        ("2100-03-01", 47_541),
        ("9999-12-31", 2_932_896),
        ("0000-03-01", -719_468),
    ] {
        assert_eq!(Day::parse(text).map(Day::number), Ok(number), "{text}");
    }
    for text in [
        "",
        "2026",
        "2026-11",
        "2026-13-01",
        "2026-00-01",
        "2026-02-29",
        "2100-02-29",
        "2026-04-31",
        "2026-11-00",
        "26-11-26",
        "2026-1-1",
        "+026-11-26",
        "2026-11-26T",
        " 2026-11-26",
        "2026-11-26-1",
        "２026-11-26",
    ] {
        assert!(Day::parse(text).is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_day_panic(text in "[0-9-]{0,12}|.{0,12}") {
        let _any = Day::parse(&text);
    }
}
