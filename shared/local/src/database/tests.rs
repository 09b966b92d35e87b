use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Barrier;
use std::sync::mpsc;

use super::*;

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}

async fn insert(database: &Database, name: &'static str) -> Result<(), StoreError> {
    database
        .write(move |connection| {
            connection
                .execute("INSERT INTO facts (name, value) VALUES (?1, x'00')", [name])
                .map(|_| ())
                .map_err(store_error)
        })
        .await
}

fn names(database: &Database) -> Vec<String> {
    database
        .read(|connection| {
            connection
                .prepare("SELECT name FROM facts ORDER BY name")?
                .query_map([], |row| row.get(0))?
                .collect()
        })
        .unwrap()
}

#[tokio::test]
async fn every_file_of_the_database_is_private() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("data");
    let database = Database::open(&directory).await.unwrap();
    insert(&database, "a").await.unwrap();
    assert_eq!(mode(&directory), 0o700);
    for file in ["agent-identity.db", "agent-identity.db-wal", "agent-identity.db-shm"] {
        assert_eq!(mode(&directory.join(file)), 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_database_that_others_can_read_is_refused_with_the_way_to_mend_it() {
    let directory = tempfile::tempdir().unwrap();
    drop(Database::open(directory.path()).await.unwrap());
    let file = directory.path().join(FILE);
    set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let error = Database::open(directory.path()).await.err().unwrap().to_string();
    assert!(error.contains("640") && error.contains("chmod 600"), "{error}");
}

#[tokio::test]
async fn the_writer_is_durable_and_wipes_what_it_deletes() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(directory.path()).await.unwrap();
    let settings = database
        .write(|connection| {
            let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            let text = connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0));
            Ok((number("synchronous").unwrap(), number("secure_delete").unwrap(), text.unwrap()))
        })
        .await
        .unwrap();
    assert_eq!(settings, (2, 1, "wal".to_owned()));
}

#[tokio::test]
async fn a_failed_request_undoes_its_own_work_and_no_one_elses() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(directory.path()).await.unwrap();
    // The first request holds the writer, so that the other three share one transaction.
    let (release, held) = mpsc::channel::<()>();
    let holding = database.write(move |_| {
        held.recv().unwrap();
        Ok(())
    });
    let failing = database.write(|connection| {
        connection.execute("INSERT INTO facts (name, value) VALUES ('undone', x'00')", []).unwrap();
        Err::<(), _>(StoreError::Conflict(7))
    });
    let releasing = async {
        tokio::task::yield_now().await;
        release.send(()).unwrap();
    };
    let (held, before, failed, after, ()) =
        tokio::join!(holding, insert(&database, "before"), failing, insert(&database, "after"), releasing);
    assert!(held.is_ok() && before.is_ok() && after.is_ok());
    assert!(matches!(failed, Err(StoreError::Conflict(7))));
    assert_eq!(names(&database), ["after", "before"]);
}

#[tokio::test]
async fn an_acknowledged_write_is_seen_by_the_next_read_of_every_handle() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) =
        (Database::open(directory.path()).await.unwrap(), Database::open(directory.path()).await.unwrap());
    for round in 0..50 {
        let name: &'static str = Box::leak(format!("{round:02}").into_boxed_str());
        insert(if round % 2 == 0 { &ours } else { &theirs }, name).await.unwrap();
        assert_eq!(names(&ours).len(), round + 1);
        assert_eq!(names(&theirs).len(), round + 1);
    }
}

#[tokio::test]
async fn a_write_that_finds_the_database_locked_is_busy_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(directory.path()).await.unwrap();
    let other = connect(&directory.path().join(FILE)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(matches!(insert(&database, "a").await, Err(StoreError::Busy(_))));
    assert!(names(&database).is_empty(), "readers go on");
    other.execute_batch("ROLLBACK").unwrap();
    insert(&database, "a").await.unwrap();
}

#[tokio::test]
async fn dropping_the_last_handle_finishes_what_is_queued_and_folds_the_log_in() {
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open(directory.path()).await.unwrap();
    let queued: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| {
            let database = database.clone();
            tokio::spawn(async move { insert(&database, name).await })
        })
        .collect();
    drop(database);
    for write in queued {
        write.await.unwrap().unwrap();
    }
    assert!(!directory.path().join("agent-identity.db-wal").exists());
    assert_eq!(names(&Database::open(directory.path()).await.unwrap()), ["a", "b", "c"]);
}

#[test]
fn eight_first_starts_at_the_same_time_all_succeed() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                    barrier.wait();
                    let database = runtime.block_on(Database::open(directory.path())).unwrap();
                    assert!(names(&database).is_empty());
                });
            }
        });
    }
}

#[tokio::test]
async fn a_file_of_another_program_or_of_a_newer_version_is_left_alone() {
    for (settings, expected) in [
        ("CREATE TABLE theirs (a); PRAGMA user_version = 3;", "not a database of agent-identity"),
        ("PRAGMA application_id = 1;", "not a database of agent-identity"),
        ("PRAGMA application_id = 1634167140; PRAGMA user_version = 999;", "newer agent-identity"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        Connection::open(&path).unwrap().execute_batch(settings).unwrap();
        set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let before = std::fs::read(&path).unwrap();
        let error = Database::open(directory.path()).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    std::fs::write(
        &path,
        "this is not a database, though it is long enough to have a header of one".repeat(9),
    )
    .unwrap();
    set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(Database::open(directory.path()).await, Err(OpenError::Sqlite(_))));
}
