//! The same table for a process that knows its rows by their keys.

use agent_identity_core::Timestamp;
use agent_identity_core::store::{Consistency, Key, Query, Row, Store, StoreError, Write, check_writes};
use async_trait::async_trait;

use super::DynamoStore;

/// Rows by their keys, and writes one at a time: what the authorizer asks for, and all that its role allows (D16). What is not asked
/// for is not linked either: the calls for ranges and transactions would be a fiftieth of the function.
pub struct DynamoRows(DynamoStore);

impl DynamoRows {
    /// Over the whole store. Opens nothing.
    pub const fn new(store: DynamoStore) -> Self {
        Self(store)
    }
}

fn never<T>() -> Result<T, StoreError> {
    Err(StoreError::Failed("this process asks for rows by their keys, and writes one at a time".to_owned()))
}

#[async_trait]
impl Store for DynamoRows {
    async fn get(&self, key: &Key, consistency: Consistency) -> Result<Option<Row>, StoreError> {
        self.0.get(key, consistency).await
    }

    async fn batch_get(
        &self,
        keys: &[Key],
        consistency: Consistency,
    ) -> Result<Vec<Option<Row>>, StoreError> {
        self.0.batch_get(keys, consistency).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        check_writes(&writes)?;
        match writes.as_slice() {
            [put @ Write::Put { .. }] => self.0.put_one(put).await,
            _ => never(),
        }
    }

    async fn query(&self, _: Query) -> Result<Vec<Row>, StoreError> {
        never()
    }

    async fn due(&self, _: u16, _: Timestamp, _: usize) -> Result<Vec<Row>, StoreError> {
        never()
    }
}
