//! The rules of the `Store` port. Each gets a fresh, empty store and the clock that it reads.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a contract suite is test code"
)]

use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::store::{
    Condition, Consistency, DUE_SHARDS, Due, Key, Kind, MAX_BATCH, Query, Row, Store, StoreError, Write,
};
use agent_identity_core::{Clock as _, Timestamp};
use tokio::task::JoinSet;

use crate::FixedClock;

const BOTH: [Consistency; 2] = [Consistency::Strong, Consistency::Eventual];

fn key(sort: &str) -> Key {
    Key::of(Kind::Connection, "p", sort)
}

fn put(key: Key, condition: Condition, bytes: &[u8]) -> Write {
    Write::Put { key, condition, expires_at: None, due: None, bytes: bytes.to_vec() }
}

fn create(key: Key) -> Write {
    put(key, Condition::Absent, b"new")
}

fn ending(key: Key, expires_at: Timestamp) -> Write {
    Write::Put { key, condition: Condition::Absent, expires_at: Some(expires_at), due: None, bytes: vec![1] }
}

fn due_at(key: Key, condition: Condition, shard: u16, seconds: i64) -> Write {
    let due = Some(Due { shard, at: Timestamp::from_seconds(seconds) });
    Write::Put { key, condition, expires_at: None, due, bytes: vec![1] }
}

fn check(key: Key, condition: Condition) -> Write {
    Write::Check { key, condition }
}

fn query(partition: &str, after: Option<&str>, limit: usize) -> Query {
    Query { kind: Kind::Connection, partition: partition.to_owned(), after: after.map(str::to_owned), limit }
}

async fn get(store: &Arc<dyn Store>, key: &Key) -> Option<Row> {
    store.get(key, Consistency::Strong).await.unwrap()
}

async fn version(store: &Arc<dyn Store>, key: &Key) -> Option<u64> {
    get(store, key).await.map(|row| row.version)
}

async fn sorts(store: &Arc<dyn Store>, query: Query) -> Vec<String> {
    store.query(query).await.unwrap().into_iter().map(|row| row.key.sort).collect()
}

async fn due_sorts(store: &Arc<dyn Store>, shard: u16, until_seconds: i64, limit: usize) -> Vec<String> {
    let rows = store.due(shard, Timestamp::from_seconds(until_seconds), limit).await.unwrap();
    rows.into_iter().map(|row| row.key.sort).collect()
}

fn conflict(result: Result<(), StoreError>) -> Option<usize> {
    match result {
        Err(StoreError::Conflict(index)) => Some(index),
        _ => None,
    }
}

fn failed<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Failed(_)))
}

/// What was never written is not there, for every way of reading.
pub async fn an_absent_row_is_none(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    for consistency in BOTH {
        assert_eq!(store.get(&key("a"), consistency).await.unwrap(), None);
        assert_eq!(store.batch_get(&[key("a")], consistency).await.unwrap(), [None]);
        assert!(store.batch_get(&[], consistency).await.unwrap().is_empty());
    }
    assert!(sorts(&store, query("p", None, 10)).await.is_empty());
    assert!(due_sorts(&store, 0, i64::MAX / 1000, 10).await.is_empty());
}

/// Every field survives, and all ways of reading agree.
pub async fn a_row_reads_back_as_it_was_written(store: Arc<dyn Store>, clock: Arc<FixedClock>) {
    let row = Row {
        key: key("a"),
        version: 1,
        expires_at: Some(Timestamp::from_millis(clock.now().as_millis() + 1)),
        due: Some(Due { shard: 3, at: Timestamp::from_millis(-5) }),
        bytes: (0..=255).collect(),
    };
    let write = Write::Put {
        key: row.key.clone(),
        condition: Condition::Absent,
        expires_at: row.expires_at,
        due: row.due,
        bytes: row.bytes.clone(),
    };
    store.write(vec![write]).await.unwrap();
    for consistency in BOTH {
        assert_eq!(store.get(&row.key, consistency).await.unwrap().as_ref(), Some(&row));
        assert_eq!(store.batch_get(&[key("a")], consistency).await.unwrap(), [Some(row.clone())]);
    }
    assert_eq!(store.query(query("p", None, 10)).await.unwrap().as_slice(), std::slice::from_ref(&row));
    assert_eq!(store.due(3, Timestamp::EPOCH, 10).await.unwrap(), [row]);
}

/// The kind is part of the address.
pub async fn the_same_address_under_another_kind_is_another_row(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let kinds = [Kind::Workload, Kind::WorkloadName, Kind::Connection, Kind::UserKey, Kind::VaultKey];
    for kind in kinds {
        let bytes = kind.as_str().as_bytes();
        store.write(vec![put(Key::single(kind, "p"), Condition::Absent, bytes)]).await.unwrap();
    }
    for kind in kinds {
        assert_eq!(get(&store, &Key::single(kind, "p")).await.unwrap().bytes, kind.as_str().as_bytes());
    }
}

/// `Condition::Absent` on a live row is a conflict, and changes nothing.
pub async fn creating_refuses_a_row_that_exists(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    store.write(vec![put(key("a"), Condition::Absent, b"first")]).await.unwrap();
    let second = store.write(vec![put(key("a"), Condition::Absent, b"second")]).await;
    assert_eq!(conflict(second), Some(0));
    assert_eq!(get(&store, &key("a")).await.unwrap().bytes, b"first");
}

/// An older version, a newer one, and a version of what is not there: conflicts.
pub async fn replacing_needs_exactly_the_version_that_is_there(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    store.write(vec![create(key("a"))]).await.unwrap();
    store.write(vec![put(key("a"), Condition::Version(1), b"2")]).await.unwrap();
    for stale in [0, 1, 3] {
        let write = store.write(vec![put(key("a"), Condition::Version(stale), b"x")]).await;
        assert_eq!(conflict(write), Some(0), "version {stale}");
    }
    assert_eq!(conflict(store.write(vec![put(key("b"), Condition::Version(1), b"x")]).await), Some(0));
    let row = get(&store, &key("a")).await.unwrap();
    assert_eq!((row.version, row.bytes.as_slice()), (2, &b"2"[..]));
    assert_eq!(get(&store, &key("b")).await, None);
}

/// 1, 2, 3 …; a row that is created again begins at 1.
pub async fn versions_move_by_one_and_start_again_after_a_delete(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    store.write(vec![create(key("a"))]).await.unwrap();
    for expected in 1..6 {
        assert_eq!(version(&store, &key("a")).await, Some(expected));
        store.write(vec![put(key("a"), Condition::Version(expected), b"x")]).await.unwrap();
    }
    store.write(vec![Write::Delete { key: key("a"), version: 6 }]).await.unwrap();
    store.write(vec![create(key("a"))]).await.unwrap();
    assert_eq!(version(&store, &key("a")).await, Some(1));
}

/// A stale delete, and a delete of nothing, are conflicts; what is deleted is gone everywhere.
pub async fn deleting_needs_exactly_the_version_that_is_there(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    store.write(vec![due_at(key("a"), Condition::Absent, 0, 1)]).await.unwrap();
    for (sort, stale) in [("a", 0), ("a", 2), ("b", 1)] {
        let write = store.write(vec![Write::Delete { key: key(sort), version: stale }]).await;
        assert_eq!(conflict(write), Some(0), "{sort} {stale}");
    }
    store.write(vec![Write::Delete { key: key("a"), version: 1 }]).await.unwrap();
    assert_eq!(get(&store, &key("a")).await, None);
    assert!(sorts(&store, query("p", None, 10)).await.is_empty());
    assert!(due_sorts(&store, 0, 10, 10).await.is_empty());
}

/// A check holds or fails the whole, alone or beside writes, and leaves the row as it is.
pub async fn a_check_moves_nothing_and_fails_the_others(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    store.write(vec![create(key("a"))]).await.unwrap();
    let holding = vec![check(key("a"), Condition::Version(1)), check(key("z"), Condition::Absent)];
    store.write(holding.clone()).await.unwrap();
    store.write([holding, vec![create(key("b"))]].concat()).await.unwrap();
    assert_eq!(version(&store, &key("a")).await, Some(1));
    assert_eq!(version(&store, &key("b")).await, Some(1));
    for broken in [
        check(key("a"), Condition::Absent),
        check(key("a"), Condition::Version(2)),
        check(key("z"), Condition::Version(1)),
    ] {
        assert_eq!(conflict(store.write(vec![broken.clone()]).await), Some(0));
        assert_eq!(conflict(store.write(vec![create(key("c")), broken]).await), Some(1));
    }
    assert_eq!(get(&store, &key("c")).await, None);
}

/// Of several that fail, the first in the order given, whatever its kind of write.
pub async fn a_conflict_names_the_first_write_that_failed(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    store.write(vec![create(key("there"))]).await.unwrap();
    let failing = [
        create(key("there")),
        put(key("there"), Condition::Version(9), b"x"),
        Write::Delete { key: key("there"), version: 9 },
        check(key("there"), Condition::Absent),
    ];
    for write in failing {
        let later = put(key("absent"), Condition::Version(1), b"x");
        let writes = vec![create(key("a")), check(key("b"), Condition::Absent), write, later];
        assert_eq!(conflict(store.write(writes).await), Some(2));
    }
}

/// Not the writes before the one that failed, nor those after it.
pub async fn a_conflict_writes_nothing_anywhere(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let other = Key::single(Kind::UserKey, "q");
    store.write(vec![create(key("keep")), create(key("replace"))]).await.unwrap();
    let writes = vec![
        create(key("before")),
        put(key("replace"), Condition::Version(1), b"changed"),
        Write::Delete { key: key("keep"), version: 1 },
        create(key("keep2")),
        put(other.clone(), Condition::Version(1), b"not there"),
        create(key("after")),
    ];
    assert_eq!(conflict(store.write(writes).await), Some(4));
    assert_eq!(sorts(&store, query("p", None, 10)).await, ["keep", "replace"]);
    assert_eq!(get(&store, &key("replace")).await.unwrap().bytes, b"new");
    assert_eq!(get(&store, &other).await, None);
}

/// One call may touch rows of any kind and partition.
pub async fn several_kinds_and_partitions_are_written_at_once(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let keys = [
        Key::single(Kind::Workload, "w"),
        Key::directory(Kind::WorkloadName, "name"),
        Key::of(Kind::Connection, "p", "a"),
        Key::of(Kind::Connection, "q", "a"),
    ];
    for key in &keys {
        store.write(vec![create(key.clone())]).await.unwrap();
    }
    let rows = store.batch_get(&keys, Consistency::Strong).await.unwrap();
    assert_eq!(rows.into_iter().flatten().map(|row| row.key).collect::<Vec<_>>(), keys);
}

/// Nothing to do is done.
pub async fn an_empty_list_of_writes_is_no_error(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    store.write(Vec::new()).await.unwrap();
}

fn creates(count: usize) -> Vec<Write> {
    (0..count).map(|index| create(key(&format!("{index:03}")))).collect()
}

/// Before anything is written.
pub async fn more_writes_than_the_limit_are_refused(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    assert!(failed(store.write(creates(MAX_BATCH + 1)).await));
    assert!(sorts(&store, query("p", None, 200)).await.is_empty());
}

/// The limit itself.
pub async fn a_hundred_writes_at_once_are_taken(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    store.write(creates(MAX_BATCH)).await.unwrap();
    assert_eq!(sorts(&store, query("p", None, 200)).await.len(), MAX_BATCH);
}

/// A write and a check on one row count as twice, too.
pub async fn a_row_named_twice_in_one_write_is_refused(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    assert!(failed(store.write(vec![create(key("a")), create(key("a"))]).await));
    assert!(failed(store.write(vec![check(key("a"), Condition::Absent), create(key("a"))]).await));
    assert_eq!(get(&store, &key("a")).await, None);
}

/// A millisecond before it is there, at the instant itself no way of reading shows it.
pub async fn a_row_ceases_to_exist_at_its_expiry(store: Arc<dyn Store>, clock: Arc<FixedClock>) {
    let end = clock.now().plus(Duration::from_millis(2));
    let due = Some(Due { shard: 0, at: Timestamp::EPOCH });
    let bytes = vec![1];
    let write = Write::Put { key: key("a"), condition: Condition::Absent, expires_at: Some(end), due, bytes };
    store.write(vec![write, create(key("b"))]).await.unwrap();
    clock.advance(Duration::from_millis(1));
    assert!(get(&store, &key("a")).await.is_some());
    assert_eq!(sorts(&store, query("p", None, 1)).await, ["a"]);
    assert_eq!(due_sorts(&store, 0, 1, 1).await, ["a"]);
    clock.advance(Duration::from_millis(1));
    for consistency in BOTH {
        assert_eq!(store.get(&key("a"), consistency).await.unwrap(), None);
        assert_eq!(store.batch_get(&[key("a")], consistency).await.unwrap(), [None]);
    }
    assert_eq!(sorts(&store, query("p", None, 1)).await, ["b"], "an expired row takes no place");
    assert!(due_sorts(&store, 0, 1, 1).await.is_empty());
}

/// For every kind of write.
pub async fn an_expired_row_counts_as_absent_in_conditions(store: Arc<dyn Store>, clock: Arc<FixedClock>) {
    store.write(vec![ending(key("a"), clock.now().plus(Duration::from_secs(1)))]).await.unwrap();
    clock.advance(Duration::from_secs(1));
    for gone in [
        put(key("a"), Condition::Version(1), b"x"),
        Write::Delete { key: key("a"), version: 1 },
        check(key("a"), Condition::Version(1)),
    ] {
        assert_eq!(conflict(store.write(vec![gone]).await), Some(0));
    }
    store.write(vec![check(key("a"), Condition::Absent)]).await.unwrap();
}

/// Even if the store has not removed it yet; it begins at version 1 and inherits nothing.
pub async fn an_expired_row_can_be_created_again(store: Arc<dyn Store>, clock: Arc<FixedClock>) {
    let end = clock.now().plus(Duration::from_secs(1));
    let due = Some(Due { shard: 0, at: Timestamp::EPOCH });
    let first = Write::Put {
        key: key("a"),
        condition: Condition::Absent,
        expires_at: Some(end),
        due,
        bytes: b"old".to_vec(),
    };
    store.write(vec![first]).await.unwrap();
    clock.advance(Duration::from_secs(2));
    store.write(vec![create(key("a"))]).await.unwrap();
    let row = get(&store, &key("a")).await.unwrap();
    let expected = Row { key: key("a"), version: 1, expires_at: None, due: None, bytes: b"new".to_vec() };
    assert_eq!(row, expected);
    assert!(due_sorts(&store, 0, 10, 10).await.is_empty());
}

/// To a later one, and to none.
pub async fn a_rewrite_replaces_the_expiry(store: Arc<dyn Store>, clock: Arc<FixedClock>) {
    let second = Duration::from_secs(1);
    store.write(vec![ending(key("a"), clock.now().plus(second))]).await.unwrap();
    let later = clock.now().plus(second * 10);
    let bytes = vec![2];
    let condition = Condition::Version(1);
    store
        .write(vec![Write::Put { key: key("a"), condition, expires_at: Some(later), due: None, bytes }])
        .await
        .unwrap();
    clock.advance(second * 5);
    assert_eq!(get(&store, &key("a")).await.unwrap().expires_at, Some(later));
    store.write(vec![put(key("a"), Condition::Version(2), b"kept")]).await.unwrap();
    clock.advance(second * 100);
    assert_eq!(get(&store, &key("a")).await.unwrap().expires_at, None);
}

/// The answer has one place per key asked for.
pub async fn a_batch_answers_in_the_order_asked_with_gaps(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let other = Key::single(Kind::UserKey, "u");
    store.write(vec![create(key("a")), create(key("b")), create(other.clone())]).await.unwrap();
    let keys = [key("b"), key("missing"), other.clone(), key("a")];
    let rows = store.batch_get(&keys, Consistency::Strong).await.unwrap();
    let found: Vec<_> = rows.into_iter().map(|row| row.map(|row| row.key)).collect();
    assert_eq!(found, [Some(key("b")), None, Some(other), Some(key("a"))]);
}

/// The limit of the port, whatever the adapter could do.
pub async fn a_batch_takes_a_hundred_keys_and_no_more(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let keys: Vec<_> = (0..=MAX_BATCH).map(|index| key(&index.to_string())).collect();
    store.write(vec![create(keys[99].clone())]).await.unwrap();
    let rows = store.batch_get(&keys[..MAX_BATCH], Consistency::Strong).await.unwrap();
    assert_eq!((rows.len(), rows.iter().flatten().count(), rows[99].is_some()), (MAX_BATCH, 1, true));
    assert!(failed(store.batch_get(&keys, Consistency::Strong).await));
}

/// DynamoDB refuses duplicates, so all adapters do.
pub async fn a_batch_with_a_key_twice_is_refused(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    assert!(failed(store.batch_get(&[key("a"), key("b"), key("a")], Consistency::Eventual).await));
}

/// By UTF-8 bytes: not by locale, not by UTF-16 (which puts U+FFFD after U+1D11E), not by number.
pub async fn a_query_is_ordered_bytewise(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let ordered = ["", "!", "10", "9", "A", "B", "a", "a ", "aa", "b", "~", "é", "\u{fffd}", "\u{1d11e}"];
    let shuffled = ordered.iter().rev().step_by(2).chain(ordered.iter().rev().skip(1).step_by(2));
    for sort in shuffled {
        store.write(vec![create(key(sort))]).await.unwrap();
    }
    assert_eq!(sorts(&store, query("p", None, 100)).await, ordered);
}

/// `after` is exclusive and need not exist; pages join without loss or repetition.
pub async fn a_query_begins_after_its_start_and_ends_at_its_limit(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let all: Vec<_> = (0..10).map(|index| format!("k{index}")).collect();
    store.write(all.iter().map(|sort| create(key(sort))).collect()).await.unwrap();
    assert!(sorts(&store, query("p", None, 0)).await.is_empty());
    assert_eq!(sorts(&store, query("p", Some("k3"), 2)).await, ["k4", "k5"]);
    assert_eq!(sorts(&store, query("p", Some("k3!"), 1)).await, ["k4"]);
    assert_eq!(sorts(&store, query("p", Some(""), 1)).await, ["k0"]);
    assert!(sorts(&store, query("p", Some("k9"), 5)).await.is_empty());
    let mut paged = Vec::new();
    loop {
        let page = sorts(&store, query("p", paged.last().map(String::as_str), 3)).await;
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

/// Partitions whose names are prefixes of each other, or hold what an adapter may use as a separator, stay apart.
pub async fn a_query_sees_one_partition_of_one_kind(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let partitions = ["p", "pp", "p#", "p#a", "p:", "p/", "p|", "P", "p%", "p_", "p "];
    for partition in partitions {
        store
            .write(vec![create(Key::of(Kind::Connection, partition, format!("in {partition}")))])
            .await
            .unwrap();
        store.write(vec![create(Key::of(Kind::ClientToken, partition, "other kind"))]).await.unwrap();
    }
    for partition in partitions {
        assert_eq!(sorts(&store, query(partition, None, 100)).await, [format!("in {partition}")]);
    }
}

/// Whatever text a name or a claim may hold, up to 1,024 bytes a part.
pub async fn keys_may_hold_any_text_but_nul(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let long = "x".repeat(1024);
    let odd = [
        "",
        " ",
        "'",
        "\"",
        "\\",
        "%",
        "_",
        "*",
        "?",
        "#",
        "\n",
        "\u{1}",
        "\u{7f}",
        "ß→𝄞",
        "e\u{301}",
        &long,
    ];
    for (index, text) in odd.iter().enumerate() {
        let value = [u8::try_from(index).unwrap()];
        let in_sort = put(Key::of(Kind::Connection, "odd", *text), Condition::Absent, &value);
        let in_partition =
            put(Key::of(Kind::Connection, format!("{text}o"), *text), Condition::Absent, &value);
        if text.len() < 1024 {
            store.write(vec![in_partition]).await.unwrap();
        }
        store.write(vec![in_sort]).await.unwrap();
    }
    for (index, text) in odd.iter().enumerate() {
        let row = get(&store, &Key::of(Kind::Connection, "odd", *text)).await.unwrap();
        assert_eq!((row.key.sort.as_str(), usize::from(row.bytes[0])), (*text, index));
        if text.len() < 1024 {
            let row = get(&store, &Key::of(Kind::Connection, format!("{text}o"), *text)).await.unwrap();
            assert_eq!(usize::from(row.bytes[0]), index);
        }
    }
    store.write(vec![create(Key::of(Kind::Connection, long.clone(), ""))]).await.unwrap();
    assert!(get(&store, &Key::of(Kind::Connection, long, "")).await.is_some());
    for nul in [key("a\0b"), Key::single(Kind::Connection, "a\0b")] {
        assert!(failed(store.write(vec![create(nul)]).await));
    }
}

/// 1,025 bytes in either part.
pub async fn keys_beyond_their_limit_are_refused(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let long = "x".repeat(1025);
    assert!(failed(store.write(vec![create(key(&long))]).await));
    assert!(failed(store.write(vec![create(Key::single(Kind::Connection, long))]).await));
}

/// What DynamoDB leaves of its 400 KB after keys and attributes.
pub async fn a_value_may_be_empty_or_have_350_kib_and_no_more(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let large: Vec<u8> = (0..350 * 1024).map(|index: u32| index.to_le_bytes()[1]).collect();
    store.write(vec![put(key("empty"), Condition::Absent, b"")]).await.unwrap();
    store.write(vec![put(key("large"), Condition::Absent, &large)]).await.unwrap();
    assert!(get(&store, &key("empty")).await.unwrap().bytes.is_empty());
    assert!(get(&store, &key("large")).await.unwrap().bytes == large);
    let beyond = [large, vec![0]].concat();
    assert!(failed(store.write(vec![put(key("beyond"), Condition::Absent, &beyond)]).await));
}

/// The time is inclusive; rows without an entry are never seen.
pub async fn due_rows_come_earliest_first_up_to_the_time_and_the_limit(
    store: Arc<dyn Store>,
    _: Arc<FixedClock>,
) {
    for (sort, seconds) in [("c", 30), ("a", 10), ("d", 40), ("b", 20)] {
        store.write(vec![due_at(key(sort), Condition::Absent, 0, seconds)]).await.unwrap();
    }
    let elsewhere = Key::single(Kind::ClientToken, "q");
    store
        .write(vec![due_at(elsewhere.clone(), Condition::Absent, 0, 15), create(key("never"))])
        .await
        .unwrap();
    assert_eq!(due_sorts(&store, 0, 9, 10).await.len(), 0);
    assert_eq!(due_sorts(&store, 0, 10, 10).await, ["a"]);
    assert_eq!(due_sorts(&store, 0, 35, 10).await, ["a", "", "b", "c"]);
    assert_eq!(due_sorts(&store, 0, 35, 2).await, ["a", ""]);
    assert!(due_sorts(&store, 0, 35, 0).await.is_empty());
    assert_eq!(store.due(0, Timestamp::from_seconds(15), 2).await.unwrap()[1].key, elsewhere);
}

/// Each of the shards, and no other, answers for its rows.
pub async fn due_rows_stay_in_their_shard(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    for shard in 0..DUE_SHARDS {
        let name = format!("shard {shard}");
        store.write(vec![due_at(key(&name), Condition::Absent, shard, 1)]).await.unwrap();
    }
    for shard in 0..DUE_SHARDS {
        assert_eq!(due_sorts(&store, shard, 1, 10).await, [format!("shard {shard}")]);
    }
}

/// A rewrite moves it to another time or shard, or removes it; a check leaves it.
pub async fn the_due_entry_follows_the_row(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    store.write(vec![due_at(key("a"), Condition::Absent, 0, 10)]).await.unwrap();
    store.write(vec![due_at(key("a"), Condition::Version(1), 0, 50)]).await.unwrap();
    assert!(due_sorts(&store, 0, 49, 10).await.is_empty());
    assert_eq!(due_sorts(&store, 0, 50, 10).await, ["a"]);
    store.write(vec![due_at(key("a"), Condition::Version(2), 5, 50)]).await.unwrap();
    assert!(due_sorts(&store, 0, 100, 10).await.is_empty());
    store.write(vec![check(key("a"), Condition::Version(3))]).await.unwrap();
    assert_eq!(due_sorts(&store, 5, 100, 10).await, ["a"]);
    store.write(vec![put(key("a"), Condition::Version(3), b"x")]).await.unwrap();
    assert!(due_sorts(&store, 5, 100, 10).await.is_empty());
    assert_eq!(get(&store, &key("a")).await.unwrap().due, None);
}

/// A row there would never be found.
pub async fn a_due_shard_beyond_the_last_is_refused(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    assert!(failed(store.write(vec![due_at(key("a"), Condition::Absent, DUE_SHARDS, 1)]).await));
    assert_eq!(get(&store, &key("a")).await, None);
}

/// Compare and set: all write on the same version, one is told so, the others get a conflict.
pub async fn of_eight_writers_one_wins_each_round(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    store.write(vec![create(key("a"))]).await.unwrap();
    for round in 1..=20_u64 {
        let mut writers = JoinSet::new();
        for writer in 0..8_u8 {
            let store = Arc::clone(&store);
            writers.spawn(async move {
                (writer, store.write(vec![put(key("a"), Condition::Version(round), &[writer])]).await)
            });
        }
        let outcomes = writers.join_all().await;
        let winners: Vec<_> =
            outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(writer, _)| *writer).collect();
        let losers = outcomes.into_iter().filter_map(|(_, outcome)| conflict(outcome)).count();
        assert_eq!((winners.len(), losers), (1, 7), "round {round}");
        let row = get(&store, &key("a")).await.unwrap();
        assert_eq!((row.version, row.bytes), (round + 1, winners));
    }
}

/// The same for rows that are not there yet.
pub async fn of_eight_creators_one_wins(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    for round in 0..20 {
        let mut writers = JoinSet::new();
        for _ in 0..8 {
            let store = Arc::clone(&store);
            let name = format!("round {round}");
            writers.spawn(async move { store.write(vec![create(key(&name))]).await });
        }
        let winners = writers.join_all().await.into_iter().filter(Result::is_ok).count();
        assert_eq!(winners, 1, "round {round}");
    }
}

/// Two rows change together or not at all, under contention.
pub async fn transfers_at_the_same_time_keep_the_sum(store: Arc<dyn Store>, _: Arc<FixedClock>) {
    let accounts: Vec<_> =
        (0..4).map(|index| Key::single(Kind::Connection, format!("account {index}"))).collect();
    for account in &accounts {
        store.write(vec![put(account.clone(), Condition::Absent, &[50])]).await.unwrap();
    }
    let mut movers = JoinSet::new();
    for mover in 0..8_usize {
        let (store, accounts) = (Arc::clone(&store), accounts.clone());
        movers.spawn(async move {
            let mut moved = 0_u32;
            for step in 0..30 {
                let pair = [
                    accounts[(mover + step) % 4].clone(),
                    accounts[(mover + step + 1 + step % 3) % 4].clone(),
                ];
                let rows = store.batch_get(&pair, Consistency::Strong).await.unwrap();
                let [Some(from), Some(to)] = rows.as_slice() else {
                    panic!("an account is missing in step {step}");
                };
                if from.bytes[0] == 0 {
                    continue;
                }
                let writes = vec![
                    put(pair[0].clone(), Condition::Version(from.version), &[from.bytes[0] - 1]),
                    put(pair[1].clone(), Condition::Version(to.version), &[to.bytes[0] + 1]),
                ];
                match store.write(writes).await {
                    Ok(()) => moved += 1,
                    Err(error) => {
                        assert!(matches!(error, StoreError::Conflict(_) | StoreError::Busy(_)), "{error}");
                    }
                }
            }
            moved
        });
    }
    let moved: u32 = movers.join_all().await.into_iter().sum();
    let rows = store.batch_get(&accounts, Consistency::Strong).await.unwrap();
    let sum: u32 = rows.iter().flatten().map(|row| u32::from(row.bytes[0])).sum();
    let writes: u64 = rows.iter().flatten().map(|row| row.version - 1).sum();
    assert_eq!((sum, writes), (200, u64::from(moved) * 2));
    assert!(moved > 0);
}
