//! What is true after a call was spoiled: the store says so, and says nothing else.

use std::sync::Arc;

use agent_identity_aws::DynamoStore;
use agent_identity_core::store::{
    Condition, Consistency, Due, Key, Kind, Query, Row, Store as _, StoreError, Write,
};
use agent_identity_core::{Clock as _, Timestamp};
use agent_identity_testkit::FixedClock;

use crate::place::{self, SystemRandom};
use crate::proxy::Fault::{Conflict, Hang, LoseAnswer, Pass, Reset, Throttle, Unprocessed};
use crate::proxy::{Fault, Proxy};
use crate::store::create_table;

/// So many faults in a row that the store gives up first.
const FOREVER: usize = 200;

struct World {
    proxy: Proxy,
    store: DynamoStore,
    /// The same table without the proxy: another process.
    other: DynamoStore,
}

impl World {
    async fn new() -> Self {
        let endpoint = place::dynamodb_local();
        let (table, proxy) = (create_table(&endpoint).await, Proxy::before(&endpoint).await);
        let clock = Arc::new(FixedClock::default());
        let store = |url: &str| {
            DynamoStore::new(place::connection(url), table.clone(), clock.clone(), Arc::new(SystemRandom))
        };
        let (through, direct) = (store(&proxy.url), store(&endpoint));
        Self { proxy, store: through, other: direct }
    }

    async fn row(&self, name: &str) -> Option<Row> {
        self.other.get(&key(name), Consistency::Strong).await.unwrap()
    }

    async fn write(
        &self,
        faults: impl IntoIterator<Item = Fault>,
        writes: Vec<Write>,
    ) -> Result<(), StoreError> {
        self.proxy.spoil(faults);
        self.store.write(writes).await
    }
}

fn key(name: &str) -> Key {
    Key::of(Kind::Connection, "p", name)
}

fn put(name: &str, condition: Condition, bytes: &[u8]) -> Write {
    Write::Put { key: key(name), condition, expires_at: None, due: None, bytes: bytes.to_vec() }
}

fn create(name: &str) -> Write {
    put(name, Condition::Absent, b"new")
}

fn is_busy(result: &Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Busy(_)))
}

fn is_unknown(result: &Result<(), StoreError>) -> bool {
    matches!(result, Err(StoreError::Failed(why)) if why.contains("unknown"))
}

#[tokio::test]
async fn a_write_that_was_refused_in_passing_is_made() {
    let world = World::new().await;
    for (name, faults) in [("a", [Throttle, Throttle]), ("b", [Conflict, Throttle]), ("c", [Reset, Conflict])]
    {
        world.write(faults, vec![create(name)]).await.unwrap();
        assert_eq!(world.row(name).await.unwrap().version, 1);
        world
            .write(faults, vec![put(name, Condition::Version(1), b"2"), create(&format!("{name}2"))])
            .await
            .unwrap();
        assert_eq!(world.row(name).await.unwrap().version, 2);
        world.write(faults, vec![Write::Delete { key: key(name), version: 2 }]).await.unwrap();
        assert_eq!(world.row(name).await, None);
    }
}

#[tokio::test]
async fn a_write_that_is_refused_for_long_is_busy_and_was_not_made() {
    let world = World::new().await;
    for (fault, writes) in [
        (Throttle, vec![create("a")]),
        (Conflict, vec![create("a"), create("b")]),
        (Throttle, vec![create("a"), create("b")]),
    ] {
        let written = world.write([fault; FOREVER], writes).await;
        assert!(is_busy(&written), "{written:?}");
        assert_eq!(world.row("a").await, None);
    }
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_found_to_be_made() {
    let world = World::new().await;
    for lost in
        [vec![LoseAnswer], vec![LoseAnswer, LoseAnswer], vec![Reset, LoseAnswer, Throttle], vec![Hang]]
    {
        let name = format!("{lost:?}");
        world.write(lost.clone(), vec![create(&name)]).await.unwrap();
        assert_eq!(world.row(&name).await.unwrap().version, 1, "made once");
        let second = format!("{name}2");
        world.write(lost, vec![put(&name, Condition::Version(1), b"2"), create(&second)]).await.unwrap();
        assert_eq!(world.row(&name).await.unwrap().version, 2, "made once");
        assert_eq!(world.row(&second).await.unwrap().version, 1, "made once");
    }
}

#[tokio::test]
async fn a_conflict_after_a_lost_request_is_a_conflict() {
    let world = World::new().await;
    world.other.write(vec![create("a")]).await.unwrap();
    for writes in
        [vec![create("a")], vec![create("b"), create("a")], vec![put("a", Condition::Version(7), b"x")]]
    {
        let at = writes.len() - 1;
        let written = world.write([Reset, Pass], writes).await;
        assert!(matches!(written, Err(StoreError::Conflict(index)) if index == at), "{written:?}");
    }
    assert_eq!(world.row("a").await.unwrap().bytes, b"new");
    assert_eq!(world.row("b").await, None);
}

#[tokio::test]
async fn what_cannot_be_told_is_said_to_be_unknown() {
    let world = World::new().await;
    // It was made, and somebody else wrote since.
    world.proxy.spoil([LoseAnswer, Pass]);
    let (store, other) = (&world.store, &world.other);
    let overtake = async {
        while other.get(&key("a"), Consistency::Strong).await.unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        other.write(vec![put("a", Condition::Version(1), b"theirs")]).await.unwrap();
    };
    let (written, ()) = tokio::join!(store.write(vec![create("a")]), overtake);
    // Their write may have come before ours was sent again, or after ours was found.
    assert!(written.is_ok() || is_unknown(&written), "{written:?}");
    assert_eq!(world.row("a").await.unwrap().bytes, b"theirs");
    // A delete leaves no trace of whose it was.
    let deleted = world.write([LoseAnswer], vec![Write::Delete { key: key("a"), version: 2 }]).await;
    assert!(is_unknown(&deleted), "{deleted:?}");
    assert_eq!(world.row("a").await, None);
    // Nobody answers.
    let written = world.write([Reset; FOREVER], vec![create("b")]).await;
    assert!(is_unknown(&written), "{written:?}");
    let written = world.write([LoseAnswer; FOREVER], vec![create("c")]).await;
    assert!(is_unknown(&written), "{written:?}");
}

#[tokio::test]
async fn reads_are_repeated() {
    let world = World::new().await;
    let due = Some(Due { shard: 3, at: Timestamp::EPOCH });
    let row =
        Write::Put { key: key("a"), condition: Condition::Absent, expires_at: None, due, bytes: vec![1] };
    world.other.write(vec![row]).await.unwrap();
    let query = || Query { kind: Kind::Connection, partition: "p".to_owned(), after: None, limit: 10 };
    for fault in [Throttle, Reset, LoseAnswer] {
        let spoil = || world.proxy.spoil([fault, fault]);
        spoil();
        assert!(world.store.get(&key("a"), Consistency::Strong).await.unwrap().is_some(), "{fault:?}");
        spoil();
        assert!(world.store.batch_get(&[key("a")], Consistency::Strong).await.unwrap()[0].is_some());
        spoil();
        assert_eq!(world.store.query(query()).await.unwrap().len(), 1);
        spoil();
        assert_eq!(world.store.due(3, FixedClock::default().now(), 10).await.unwrap().len(), 1);
    }
    world.proxy.spoil([Throttle; FOREVER]);
    let read = world.store.get(&key("a"), Consistency::Strong).await;
    assert!(matches!(read, Err(StoreError::Busy(_))), "{read:?}");
}

#[tokio::test]
async fn a_batch_that_was_not_processed_is_asked_for_again_and_never_given_in_part() {
    let world = World::new().await;
    world.other.write(vec![create("a"), create("b")]).await.unwrap();
    world.proxy.spoil([Unprocessed, Unprocessed]);
    let rows = world.store.batch_get(&[key("b"), key("x"), key("a")], Consistency::Strong).await.unwrap();
    assert_eq!(rows.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(world.proxy.calls(), ["BatchGetItem"; 3]);
    world.proxy.spoil([Unprocessed; FOREVER]);
    let read = world.store.batch_get(&[key("a")], Consistency::Strong).await;
    assert!(matches!(read, Err(StoreError::Busy(_))), "{read:?}");
}
