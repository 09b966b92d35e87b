//! Several processes on one data directory, and processes that die at any moment.
//!
//! The other process is this test binary again, running one of the ignored tests below.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code, also outside the functions marked as tests"
)]

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::store::{Condition, Consistency, Key, Kind, Store, StoreError, Write};
use agent_identity_local::{Database, MasterKey, SqliteStore, SystemClock};

const DIRECTORY: &str = "AGENT_IDENTITY_TEST_DIRECTORY";

/// Raise it for a long run: `AGENT_IDENTITY_TEST_KILLS=1000`.
const KILLS: &str = "AGENT_IDENTITY_TEST_KILLS";

fn start(test: &str, directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// The directory that the parent passed; `None` when somebody runs the ignored tests by hand.
fn directory() -> Option<std::path::PathBuf> {
    std::env::var_os(DIRECTORY).map(Into::into)
}

fn store(directory: &Path) -> SqliteStore {
    SqliteStore::new(runtime().block_on(Database::open(directory)).unwrap(), Arc::new(SystemClock))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn put(key: Key, condition: Condition, bytes: Vec<u8>) -> Write {
    Write::Put { key, condition, expires_at: None, due: None, bytes }
}

fn counter() -> Key {
    Key::single(Kind::Connection, "counter")
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

#[test]
#[ignore = "the child of two_processes_that_count_lose_no_increment"]
fn count() {
    let Some(directory) = directory() else { return };
    let store = store(&directory);
    runtime().block_on(async {
        for _ in 0..INCREMENTS {
            increment(&store).await;
        }
    });
}

const INCREMENTS: u64 = 200;

async fn increment(store: &SqliteStore) {
    loop {
        let row = store.get(&counter(), Consistency::Strong).await.unwrap();
        let (condition, count) = match row {
            Some(row) => (Condition::Version(row.version), number(&row.bytes)),
            None => (Condition::Absent, 0),
        };
        let bytes = (count + 1).to_be_bytes().to_vec();
        match store.write(vec![put(counter(), condition, bytes)]).await {
            Ok(()) => return,
            Err(StoreError::Conflict(0)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn two_processes_that_count_lose_no_increment() {
    let directory = tempfile::tempdir().unwrap();
    let mut children = [start("count", directory.path()), start("count", directory.path())];
    let ours = store(directory.path());
    runtime().block_on(async {
        for _ in 0..INCREMENTS {
            increment(&ours).await;
        }
    });
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let row = runtime().block_on(ours.get(&counter(), Consistency::Strong)).unwrap().unwrap();
    assert_eq!((number(&row.bytes), row.version), (3 * INCREMENTS, 3 * INCREMENTS));
}

/// Writes pairs of rows as fast as it can, from several tasks, and prints each number once it is acknowledged.
#[test]
#[ignore = "the child of what_was_acknowledged_survives_a_kill_at_any_moment"]
fn write_until_killed() {
    let Some(directory) = directory() else { return };
    let runtime = runtime();
    let database = runtime.block_on(Database::open(&directory)).unwrap();
    runtime.block_on(MasterKey::open(&database)).unwrap();
    let store = Arc::new(SqliteStore::new(database, Arc::new(SystemClock)));
    let run = std::process::id();
    let tasks: Vec<_> = (0..4)
        .map(|task| {
            let store = Arc::clone(&store);
            runtime.spawn(async move {
                for count in 0.. {
                    let name = format!("{run}.{task}.{count}");
                    let value = vec![b'x'; count % 5000];
                    let writes = vec![
                        put(Key::single(Kind::Connection, &name), Condition::Absent, value.clone()),
                        put(Key::of(Kind::UserKey, "pairs", &name), Condition::Absent, value),
                    ];
                    store.write(writes).await.unwrap();
                    println!("acknowledged {name}");
                }
            })
        })
        .collect();
    for task in tasks {
        runtime.block_on(task).unwrap();
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    let kills: u64 = std::env::var(KILLS).map_or(25, |kills| kills.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let runtime = runtime();
    let mut acknowledged = Vec::new();
    for kill in 0..kills {
        let mut child = start("write_until_killed", directory.path());
        // From before the first start is complete until well into the load; the steps do not line up with anything.
        std::thread::sleep(Duration::from_millis(kill * 37 % 250));
        child.kill().unwrap();
        child.wait().unwrap();
        let mut output = String::new();
        child.stdout.take().unwrap().read_to_string(&mut output).unwrap();
        // The harness writes before the first on the same line, and the kill may have cut the last one off.
        let lines = output.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        let names: Vec<_> = lines
            .filter_map(|line| line.split_once("acknowledged "))
            .map(|(_, name)| name.to_owned())
            .collect();
        let database = runtime.block_on(Database::open(directory.path())).unwrap();
        runtime.block_on(MasterKey::open(&database)).unwrap();
        let store = SqliteStore::new(database, Arc::new(SystemClock));
        runtime.block_on(all_there(&store, &names));
        acknowledged.extend(names);
        drop(store);
        integrity(directory.path());
    }
    runtime.block_on(all_there(&store(directory.path()), &acknowledged));
    assert!(acknowledged.len() > 20, "the load was too low to prove anything: {}", acknowledged.len());
}

async fn all_there(store: &SqliteStore, names: &[String]) {
    for names in names.chunks(50) {
        let pair = |name| [Key::single(Kind::Connection, name), Key::of(Kind::UserKey, "pairs", name)];
        let keys: Vec<_> = names.iter().flat_map(pair).collect();
        let rows = store.batch_get(&keys, Consistency::Strong).await.unwrap();
        for (name, pair) in names.iter().zip(rows.chunks(2)) {
            let [Some(one), Some(two)] = pair else { panic!("the acknowledged pair {name} is lost") };
            assert_eq!(one.bytes, two.bytes);
        }
    }
}

/// All pages are sound, and of each pair, acknowledged or not, both rows are there or none.
fn integrity(directory: &Path) {
    let connection = rusqlite::Connection::open(directory.join("agent-identity.db")).unwrap();
    let text: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(text, "ok");
    let alone: i64 = connection
        .query_row(
            "WITH names AS (
                 SELECT \"partition\" AS name FROM rows WHERE kind = 'connection'
                 UNION ALL SELECT sort FROM rows WHERE kind = 'user-key')
             SELECT count(*) FROM (SELECT 1 FROM names GROUP BY name HAVING count(*) <> 2)",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(alone, 0);
}
