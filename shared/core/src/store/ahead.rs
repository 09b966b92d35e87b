//! Reading rows before they are asked for, in one call, where every call costs money and milliseconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::{Consistency, Key, Kind, MAX_BATCH, Query, Row, Store, StoreError, Write};
use crate::{Clock, Timestamp};

/// How long a row that was read ahead answers reads: no longer than an eventual read may miss a write anyway.
const LIFE: Duration = Duration::from_secs(1);

/// A store whose [`Store::read_ahead`] reads several rows in one call. Until a second later they answer reads with
/// [`Consistency::Eventual`]; all other calls go to the store behind it, and so do reads of rows that were not there, but for
/// those that usually are not there.
pub struct ReadAhead {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    /// Each row with the time of `Clock::elapsed` before it was read.
    rows: Mutex<HashMap<Key, (Duration, Option<Row>)>>,
}

impl ReadAhead {
    /// In front of `store`. `clock` also says what has expired.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, rows: Mutex::default() }
    }

    fn rows(&self) -> MutexGuard<'_, HashMap<Key, (Duration, Option<Row>)>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A row that was read ahead and is good still; the inner `None` is one that was not there.
    fn row(&self, key: &Key) -> Option<Option<Row>> {
        let (now, elapsed) = (self.clock.now(), self.clock.elapsed());
        let (read_at, row) = self.rows().get(key)?.clone();
        let is_live = |row: &Row| row.expires_at.is_none_or(|end| end > now);
        (is_fresh(read_at, elapsed) && row.as_ref().is_none_or(is_live)).then_some(row)
    }
}

/// Whether no row is the rule, which must not cost a call each time.
const fn is_rare(kind: Kind) -> bool {
    matches!(kind, Kind::Denial)
}

fn is_fresh(read_at: Duration, now: Duration) -> bool {
    now.saturating_sub(read_at) < LIFE
}

#[async_trait]
impl Store for ReadAhead {
    async fn get(&self, key: &Key, consistency: Consistency) -> Result<Option<Row>, StoreError> {
        match (consistency, self.row(key)) {
            (Consistency::Eventual, Some(row)) => Ok(row),
            _ => self.store.get(key, consistency).await,
        }
    }

    async fn batch_get(
        &self,
        keys: &[Key],
        consistency: Consistency,
    ) -> Result<Vec<Option<Row>>, StoreError> {
        self.store.batch_get(keys, consistency).await
    }

    async fn read_ahead(&self, keys: &[Key]) {
        let read_at = self.clock.elapsed();
        let mut missing: Vec<Key> = keys.iter().filter(|key| self.row(key).is_none()).cloned().collect();
        missing.sort();
        missing.dedup();
        missing.truncate(MAX_BATCH);
        // One by itself is read when it is asked for.
        if missing.len() < 2 {
            return;
        }
        // Whoever asks for a row that could not be read is told why.
        let found = self.store.batch_get(&missing, Consistency::Eventual).await.unwrap_or_default();
        let mut rows = self.rows();
        rows.retain(|_, (earlier, _)| is_fresh(*earlier, read_at));
        let found = missing.into_iter().zip(found).filter(|(key, row)| row.is_some() || is_rare(key.kind));
        rows.extend(found.map(|(key, row)| (key, (read_at, row))));
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let keys: Vec<Key> = writes.iter().map(|write| write.key().clone()).collect();
        let outcome = self.store.write(writes).await;
        // Whatever came of it: this process sees its own writes.
        self.rows().retain(|key, _| !keys.contains(key));
        outcome
    }

    async fn query(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        self.store.query(query).await
    }

    async fn due(&self, shard: u16, until: Timestamp, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.store.due(shard, until, limit).await
    }
}
