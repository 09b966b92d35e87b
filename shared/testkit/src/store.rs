//! The store in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_identity_core::store::{
    Condition, Consistency, Key, Query, Row, Store, StoreError, Write, check_keys, check_writes,
};
use agent_identity_core::{Clock, Timestamp};
use async_trait::async_trait;

/// How often each operation of a [`MemoryStore`] was called; for tests that hold what a use case costs (P3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls of `get`.
    pub get: usize,
    /// Calls of `batch_get`.
    pub batch_get: usize,
    /// Calls of `write`.
    pub write: usize,
    /// Calls of `query`.
    pub query: usize,
    /// Calls of `due`.
    pub due: usize,
}

/// Rows in memory, with the exact semantics of the port.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<Key, Row>,
    calls: Calls,
}

impl MemoryStore {
    /// An empty store; `clock` says what has expired.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Everything that is stored, expired rows included: for tests that look for what must not be there.
    pub fn rows(&self) -> Vec<Row> {
        self.state().rows.values().cloned().collect()
    }

    /// How often each operation was called since the last time this was asked.
    pub fn take_calls(&self) -> Calls {
        std::mem::take(&mut self.state().calls)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live<'a>(&self, state: &'a State, key: &Key) -> Option<&'a Row> {
        state.rows.get(key).filter(|row| is_live(row, self.clock.now()))
    }

    fn holds(&self, state: &State, key: &Key, condition: Condition) -> bool {
        match (condition, self.live(state, key)) {
            (Condition::Absent, None) => true,
            (Condition::Version(version), Some(row)) => row.version == version,
            (Condition::Absent, Some(_)) | (Condition::Version(_), None) => false,
        }
    }
}

fn is_live(row: &Row, now: Timestamp) -> bool {
    row.expires_at.is_none_or(|expiry| expiry > now)
}

#[async_trait]
impl Store for MemoryStore {
    async fn get(&self, key: &Key, _: Consistency) -> Result<Option<Row>, StoreError> {
        let mut state = self.state();
        state.calls.get += 1;
        Ok(self.live(&state, key).cloned())
    }

    async fn batch_get(&self, keys: &[Key], _: Consistency) -> Result<Vec<Option<Row>>, StoreError> {
        let mut state = self.state();
        state.calls.batch_get += 1;
        check_keys(keys.iter())?;
        Ok(keys.iter().map(|key| self.live(&state, key).cloned()).collect())
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let mut state = self.state();
        state.calls.write += 1;
        check_writes(&writes)?;
        for (index, write) in writes.iter().enumerate() {
            let condition = match write {
                Write::Put { condition, .. } | Write::Check { condition, .. } => *condition,
                Write::Delete { version, .. } => Condition::Version(*version),
            };
            if !self.holds(&state, write.key(), condition) {
                return Err(StoreError::Conflict(index));
            }
        }
        for write in writes {
            match write {
                Write::Put { key, condition, expires_at, due, bytes } => {
                    let version = match condition {
                        Condition::Absent => 1,
                        Condition::Version(version) => version + 1,
                    };
                    state.rows.insert(key.clone(), Row { key, version, expires_at, due, bytes });
                }
                Write::Delete { key, .. } => {
                    state.rows.remove(&key);
                }
                Write::Check { .. } => {}
            }
        }
        Ok(())
    }

    async fn query(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        let mut state = self.state();
        state.calls.query += 1;
        let now = self.clock.now();
        Ok(state
            .rows
            .values()
            .filter(|row| row.key.kind == query.kind && row.key.partition == query.partition)
            .filter(|row| query.after.as_ref().is_none_or(|after| row.key.sort > *after))
            .filter(|row| is_live(row, now))
            .take(query.limit)
            .cloned()
            .collect())
    }

    async fn due(&self, shard: u16, until: Timestamp, limit: usize) -> Result<Vec<Row>, StoreError> {
        let mut state = self.state();
        state.calls.due += 1;
        let now = self.clock.now();
        let mut due: Vec<_> = state
            .rows
            .values()
            .filter_map(|row| row.due.map(|due| (due, row)))
            .filter(|(due, row)| due.shard == shard && due.at <= until && is_live(row, now))
            .collect();
        due.sort_by_key(|(due, _)| due.at);
        Ok(due.into_iter().take(limit).map(|(_, row)| row.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::store_contract!(|clock| async move { (Arc::new(MemoryStore::new(clock)) as Arc<dyn Store>, ()) });

    mod read_ahead {
        use std::time::Duration;

        use agent_identity_core::store::{Kind, ReadAhead};

        use super::*;
        use crate::FixedClock;

        crate::store_contract!(|clock| async move {
            let store = Arc::new(MemoryStore::new(Arc::clone(&clock)));
            (Arc::new(ReadAhead::new(store, clock)) as Arc<dyn Store>, ())
        });

        fn key(name: &str) -> Key {
            Key::single(Kind::Workload, name)
        }

        fn put(name: &str, condition: Condition, bytes: &[u8]) -> Write {
            let (key, bytes) = (key(name), bytes.to_vec());
            Write::Put { key, condition, expires_at: None, due: None, bytes }
        }

        struct Setting {
            clock: Arc<FixedClock>,
            behind: Arc<MemoryStore>,
            store: ReadAhead,
        }

        /// Three rows, `a`, `b` and `c`, that another process has written.
        async fn setting() -> Setting {
            let clock = Arc::new(FixedClock::default());
            let behind = Arc::new(MemoryStore::new(clock.clone()));
            for name in ["a", "b", "c"] {
                behind.write(vec![put(name, Condition::Absent, b"1")]).await.unwrap();
            }
            behind.take_calls();
            Setting { store: ReadAhead::new(behind.clone(), clock.clone()), clock, behind }
        }

        impl Setting {
            async fn read(&self, name: &str, consistency: Consistency) -> Vec<u8> {
                self.store.get(&key(name), consistency).await.unwrap().unwrap().bytes
            }
        }

        #[tokio::test]
        async fn rows_read_ahead_answer_eventual_reads_for_a_second_and_cost_one_call() {
            let setting = setting().await;
            setting.store.read_ahead(&[key("a"), key("b"), key("none"), key("b")]).await;
            setting.clock.advance(Duration::from_millis(999));
            setting.read("a", Consistency::Eventual).await;
            setting.read("b", Consistency::Eventual).await;
            assert_eq!(setting.behind.take_calls(), Calls { batch_get: 1, ..Calls::default() });
            // What is there already is not read again, and one by itself waits until it is asked for.
            setting.store.read_ahead(&[key("a"), key("b"), key("c")]).await;
            assert_eq!(setting.behind.take_calls(), Calls::default());
            setting.clock.advance(Duration::from_millis(1));
            setting.read("a", Consistency::Eventual).await;
            assert_eq!(setting.behind.take_calls().get, 1, "a second later it is read again");
        }

        #[tokio::test]
        async fn what_was_not_there_and_what_decides_something_is_asked_for_as_ever() {
            let setting = setting().await;
            setting.store.read_ahead(&[key("a"), key("b"), key("none")]).await;
            setting.behind.write(vec![put("a", Condition::Version(1), b"2")]).await.unwrap();
            setting.behind.write(vec![put("none", Condition::Absent, b"new")]).await.unwrap();
            assert_eq!(setting.read("none", Consistency::Eventual).await, b"new");
            assert_eq!(setting.read("a", Consistency::Strong).await, b"2");
            assert_eq!(setting.read("a", Consistency::Eventual).await, b"1", "as an eventual read may");
        }

        #[tokio::test]
        async fn a_process_sees_its_own_writes() {
            let setting = setting().await;
            setting.store.read_ahead(&[key("a"), key("b")]).await;
            setting.store.write(vec![put("a", Condition::Version(1), b"2")]).await.unwrap();
            assert_eq!(setting.read("a", Consistency::Eventual).await, b"2");
        }

        #[tokio::test]
        async fn what_has_expired_since_is_gone() {
            let setting = setting().await;
            let expires_at = Some(setting.clock.now().plus(Duration::from_millis(500)));
            let write = Write::Put {
                key: key("short"),
                condition: Condition::Absent,
                expires_at,
                due: None,
                bytes: b"1".to_vec(),
            };
            setting.behind.write(vec![write]).await.unwrap();
            setting.store.read_ahead(&[key("a"), key("short")]).await;
            setting.clock.advance(Duration::from_millis(500));
            assert_eq!(setting.store.get(&key("short"), Consistency::Eventual).await.unwrap(), None);
        }
    }
}
