//! What is in the file, and how an older file becomes a newer one.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::OpenError;

/// Marks the file as ours: `agid` in ASCII.
const APPLICATION_ID: i64 = 0x6167_6964;

/// Step N makes schema version N out of N − 1. Never change one that was released.
///
/// `rows` keeps its rowid on purpose: without one, the values stand in the key's tree, and SQLite reads the overflow pages of
/// a value with every key that it compares. Measured with 1,000 rows of 2 KB: a get took 11 µs instead of 4.5, five gets
/// in one snapshot 48 µs instead of 10.
const STEPS: [&str; 1] = [r#"
CREATE TABLE rows (
    kind TEXT NOT NULL,
    "partition" TEXT NOT NULL,
    sort TEXT NOT NULL,
    version INTEGER NOT NULL,
    expires_at INTEGER,
    due_shard INTEGER,
    due_at INTEGER,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, "partition", sort),
    CHECK ((due_shard IS NULL) = (due_at IS NULL))
) STRICT;
CREATE INDEX rows_due ON rows (due_shard, due_at) WHERE due_shard IS NOT NULL;
CREATE INDEX rows_expiry ON rows (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE secrets (
    arn TEXT NOT NULL,
    version TEXT NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (arn, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE external_secrets (
    arn TEXT NOT NULL PRIMARY KEY,
    version TEXT NOT NULL,
    providers TEXT,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE signing_keys (
    arn TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    algorithm TEXT NOT NULL,
    providers TEXT,
    public_jwk TEXT NOT NULL,
    sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE facts (
    name TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"#];

/// Gives the writer's connection its settings and brings the file to the newest schema, in one transaction. The caller
/// holds the lock of the directory.
pub(super) fn prepare(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    let (application, found) = (number("application_id")?, number("user_version")?);
    let tables =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
    if application != APPLICATION_ID && (application != 0 || found != 0 || tables != 0) {
        return Err(OpenError::Foreign(path.to_owned()));
    }
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA secure_delete = ON;
         PRAGMA journal_size_limit = 67108864;",
    )?;
    if found == known {
        return Ok(());
    }
    let transaction = rusqlite::Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    for step in STEPS.iter().skip(usize::try_from(found).unwrap_or(0)) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}
