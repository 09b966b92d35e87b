//! The `Store` port on one DynamoDB table.
//!
//! ```text
//! pk  {kind}#{partition}      sk  sort (U+0000 when empty)      the key
//! v   version                 b   value, unless empty           w   token of the write that made it
//! exp expiry in ms            ttl the same in s, rounded up     TTL attribute: DynamoDB removes the item some time later
//! ds  due#{shard}             da  due time in ms                the key of the sparse index `due` (KEYS_ONLY)
//! ```

use std::sync::{Arc, OnceLock};

use agent_identity_core::random::Random;
use agent_identity_core::store::{
    Consistency, Key, Query, Row, Store, StoreError, Write, check_keys, check_writes,
};
use agent_identity_core::{Clock, Timestamp};
use async_trait::async_trait;
use aws_sdk_dynamodb::Client;

use crate::AwsConnection;

mod item;
mod read;
mod rows;
mod write;

pub use rows::DynamoRows;

/// The name of the index by due time.
const DUE_INDEX: &str = "due";

/// Rows in a DynamoDB table.
pub struct DynamoStore {
    connection: AwsConnection,
    table: String,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    reading: OnceLock<Client>,
    writing: OnceLock<Client>,
}

impl DynamoStore {
    /// The store in `table`; `clock` says what has expired. Opens nothing: the clients are made on first use.
    pub fn new(
        connection: AwsConnection,
        table: String,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { connection, table, clock, random, reading: OnceLock::new(), writing: OnceLock::new() }
    }

    fn reading(&self) -> &Client {
        self.reading.get_or_init(|| self.connection.dynamodb())
    }

    fn writing(&self) -> &Client {
        self.writing.get_or_init(|| self.connection.dynamodb_once())
    }
}

#[async_trait]
impl Store for DynamoStore {
    async fn get(&self, key: &Key, consistency: Consistency) -> Result<Option<Row>, StoreError> {
        check_keys([key].into_iter())?;
        let row = self.read_item(key, consistency).await?.map(|item| item.row);
        Ok(row.filter(|row| item::is_live(row, self.clock.now())))
    }

    async fn batch_get(
        &self,
        keys: &[Key],
        consistency: Consistency,
    ) -> Result<Vec<Option<Row>>, StoreError> {
        check_keys(keys.iter())?;
        self.read_batch(keys, consistency).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        check_writes(&writes)?;
        self.write_all(writes).await
    }

    async fn query(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        self.read_partition(query).await
    }

    async fn due(&self, shard: u16, until: Timestamp, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.read_due(shard, until, limit).await
    }
}
