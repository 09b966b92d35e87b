//! The `Store` port on SQLite.

use std::sync::Arc;

use agent_identity_core::store::{
    Condition, Consistency, Due, Key, Kind, Query, Row, Store, StoreError, Write, check_keys, check_writes,
};
use agent_identity_core::{Clock, Timestamp};
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::database::{Database, store_error};

/// The columns that [`row`] reads.
macro_rules! columns {
    () => {
        "SELECT kind, \"partition\", sort, version, expires_at, due_shard, due_at, value FROM rows "
    };
}

/// Rows in the database of one machine. Every read sees every write acknowledged before it, of any process.
pub struct SqliteStore {
    database: Database,
    clock: Arc<dyn Clock>,
}

impl SqliteStore {
    /// The store in `database`; `clock` says what has expired.
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }

    /// Removes at most `limit` rows that have expired, those first that expired first; how many it were. Reads leave
    /// expired rows out anyway: this gives their space back and removes their content from the disk.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Failed`].
    pub async fn reap(&self, limit: usize) -> Result<usize, StoreError> {
        let now = self.clock.now().as_millis();
        self.database
            .write(move |connection| {
                connection
                    .prepare_cached(
                        "DELETE FROM rows WHERE rowid IN (
                             SELECT rowid FROM rows WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2)",
                    )
                    .and_then(|mut statement| statement.execute(params![now, sql_limit(limit)]))
                    .map_err(store_error)
            })
            .await
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn get(&self, key: &Key, _: Consistency) -> Result<Option<Row>, StoreError> {
        let now = self.clock.now();
        self.database.read(|connection| get(connection, key, now))
    }

    async fn batch_get(&self, keys: &[Key], _: Consistency) -> Result<Vec<Option<Row>>, StoreError> {
        check_keys(keys.iter())?;
        let now = self.clock.now();
        self.database.read(|connection| {
            let snapshot = connection.unchecked_transaction()?;
            let rows = keys.iter().map(|key| get(&snapshot, key, now)).collect::<Result<_, _>>()?;
            snapshot.finish()?;
            Ok(rows)
        })
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        check_writes(&writes)?;
        if writes.is_empty() {
            return Ok(());
        }
        let clock = Arc::clone(&self.clock);
        self.database
            .write(move |connection| {
                let now = clock.now();
                for (index, write) in writes.into_iter().enumerate() {
                    if !apply(connection, write, now).map_err(store_error)? {
                        return Err(StoreError::Conflict(index));
                    }
                }
                Ok(())
            })
            .await
    }

    async fn query(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        let Query { kind, partition, after, limit } = query;
        let now = self.clock.now().as_millis();
        let limit = sql_limit(limit);
        self.database.read(|connection| match after {
            Some(after) => connection
                .prepare_cached(concat!(
                    columns!(),
                    "WHERE kind = ?1 AND \"partition\" = ?2
                    AND (expires_at IS NULL OR expires_at > ?3) AND sort > ?5 ORDER BY sort LIMIT ?4"
                ))?
                .query_map(params![kind.as_str(), partition, now, limit, after], row)?
                .collect(),
            None => connection
                .prepare_cached(concat!(
                    columns!(),
                    "WHERE kind = ?1 AND \"partition\" = ?2
                    AND (expires_at IS NULL OR expires_at > ?3) ORDER BY sort LIMIT ?4"
                ))?
                .query_map(params![kind.as_str(), partition, now, limit], row)?
                .collect(),
        })
    }

    async fn due(&self, shard: u16, until: Timestamp, limit: usize) -> Result<Vec<Row>, StoreError> {
        let now = self.clock.now().as_millis();
        self.database.read(|connection| {
            connection
                .prepare_cached(concat!(
                    columns!(),
                    "INDEXED BY rows_due WHERE due_shard = ?1 AND due_at <= ?2
                    AND (expires_at IS NULL OR expires_at > ?3) ORDER BY due_at LIMIT ?4"
                ))?
                .query_map(params![shard, until.as_millis(), now, sql_limit(limit)], row)?
                .collect()
        })
    }
}

fn get(connection: &Connection, key: &Key, now: Timestamp) -> rusqlite::Result<Option<Row>> {
    connection
        .prepare_cached(concat!(
            columns!(),
            "WHERE kind = ?1 AND \"partition\" = ?2 AND sort = ?3
            AND (expires_at IS NULL OR expires_at > ?4)"
        ))?
        .query_row(params![key.kind.as_str(), key.partition, key.sort, now.as_millis()], row)
        .optional()
}

/// Does one write; whether its condition held.
fn apply(connection: &Connection, write: Write, now: Timestamp) -> rusqlite::Result<bool> {
    let now = now.as_millis();
    match write {
        Write::Put { key: Key { kind, partition, sort }, condition, expires_at, due, bytes } => {
            let expires_at = expires_at.map(Timestamp::as_millis);
            let (shard, at) = (due.map(|due| due.shard), due.map(|due| due.at.as_millis()));
            let values = params![kind.as_str(), partition, sort, now, expires_at, shard, at, bytes];
            match condition {
                Condition::Absent => connection
                    .prepare_cached(
                        "INSERT INTO rows (kind, \"partition\", sort, version, expires_at, due_shard, due_at, value)
                         VALUES (?1, ?2, ?3, 1, ?5, ?6, ?7, ?8)
                         ON CONFLICT DO UPDATE SET version = 1, expires_at = excluded.expires_at,
                             due_shard = excluded.due_shard, due_at = excluded.due_at, value = excluded.value
                         WHERE rows.expires_at <= ?4",
                    )?
                    .execute(values),
                Condition::Version(version) => connection
                    .prepare_cached(
                        "UPDATE rows SET version = version + 1, expires_at = ?5, due_shard = ?6, due_at = ?7, value = ?8
                         WHERE kind = ?1 AND \"partition\" = ?2 AND sort = ?3 AND version = ?9
                           AND (expires_at IS NULL OR expires_at > ?4)",
                    )?
                    .execute(params![
                        kind.as_str(), partition, sort, now, expires_at, shard, at, bytes, sql_version(version)
                    ]),
            }
            .map(|changed| changed == 1)
        }
        Write::Delete { key: Key { kind, partition, sort }, version } => connection
            .prepare_cached(
                "DELETE FROM rows WHERE kind = ?1 AND \"partition\" = ?2 AND sort = ?3 AND version = ?4
                     AND (expires_at IS NULL OR expires_at > ?5)",
            )?
            .execute(params![kind.as_str(), partition, sort, sql_version(version), now])
            .map(|changed| changed == 1),
        Write::Check { key: Key { kind, partition, sort }, condition } => {
            let found = connection
                .prepare_cached(
                    "SELECT version FROM rows WHERE kind = ?1 AND \"partition\" = ?2 AND sort = ?3
                         AND (expires_at IS NULL OR expires_at > ?4)",
                )?
                .query_row(params![kind.as_str(), partition, sort, now], |row| row.get::<_, i64>(0))
                .optional()?;
            Ok(match condition {
                Condition::Absent => found.is_none(),
                Condition::Version(version) => found == Some(sql_version(version)),
            })
        }
    }
}

/// A row of [`columns`].
fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    let due_shard: Option<u16> = row.get(5)?;
    let due_at: Option<i64> = row.get(6)?;
    Ok(Row {
        key: Key { kind: kind(row.get_ref(0)?.as_str()?)?, partition: row.get(1)?, sort: row.get(2)? },
        version: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
        expires_at: row.get::<_, Option<i64>>(4)?.map(Timestamp::from_millis),
        due: due_shard.zip(due_at).map(|(shard, at)| Due { shard, at: Timestamp::from_millis(at) }),
        bytes: row.get(7)?,
    })
}

/// The kind with this text form.
fn kind(text: &str) -> rusqlite::Result<Kind> {
    Kind::parse(text).ok_or_else(|| {
        let unknown = format!("a row has the unknown kind `{text}`");
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, unknown.into())
    })
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// No row has a version beyond `i64::MAX`, nor a negative one.
fn sql_version(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(-1)
}

#[cfg(test)]
mod tests;
