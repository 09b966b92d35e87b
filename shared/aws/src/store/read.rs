//! Reading: one item, a batch, a range, what is due.

use std::collections::HashMap;

use agent_identity_core::Timestamp;
use agent_identity_core::store::{Consistency, Due, Key, MAX_BATCH, Query, Row, StoreError};
use aws_sdk_dynamodb::types::KeysAndAttributes;

use super::item::{self, Attributes, Item, is_live, number};
use super::{DUE_INDEX, DynamoStore};
use crate::fault::{Fault, fault};
use crate::pace::Pace;

/// What a read that failed is.
fn failed(fault: Fault) -> StoreError {
    match fault {
        Fault::Busy(reason) => StoreError::Busy(reason),
        Fault::Unknown(_) | Fault::Refused { .. } => StoreError::Failed(fault.reason()),
    }
}

const fn is_strong(consistency: Consistency) -> bool {
    matches!(consistency, Consistency::Strong)
}

impl DynamoStore {
    /// One item, expired or not.
    pub(super) async fn read_item(
        &self,
        key: &Key,
        consistency: Consistency,
    ) -> Result<Option<Item>, StoreError> {
        let answer = self
            .reading()
            .get_item()
            .table_name(&self.table)
            .set_key(Some(item::key(key)))
            .consistent_read(is_strong(consistency))
            .send()
            .await
            .map_err(|error| failed(fault(error)))?;
        answer.item.map(item::parse).transpose()
    }

    /// Rows by their keys, in their order.
    pub(super) async fn read_batch(
        &self,
        keys: &[Key],
        consistency: Consistency,
    ) -> Result<Vec<Option<Row>>, StoreError> {
        let now = self.clock.now();
        let mut found: HashMap<Key, Row> = HashMap::with_capacity(keys.len());
        let mut missing: Vec<Attributes> = keys.iter().map(item::key).collect();
        let mut pace = Pace::new(&*self.random);
        // What DynamoDB did not get to (too much at once, or throttled) comes back as unprocessed.
        while !missing.is_empty() {
            let asked = missing.len();
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(missing))
                .consistent_read(is_strong(consistency))
                .build()
                .map_err(|error| StoreError::Failed(error.to_string()))?;
            let answer = self
                .reading()
                .batch_get_item()
                .request_items(&self.table, wanted)
                .send()
                .await
                .map_err(|error| failed(fault(error)))?;
            for read in answer.responses.into_iter().flat_map(HashMap::into_values).flatten() {
                let Item { row, .. } = item::parse(read)?;
                if is_live(&row, now) {
                    found.insert(row.key.clone(), row);
                }
            }
            missing = answer
                .unprocessed_keys
                .into_iter()
                .flat_map(HashMap::into_values)
                .flat_map(|keys| keys.keys)
                .collect();
            // An answer that was only cut off at its size limit is no reason to wait.
            if missing.len() == asked && !pace.again().await {
                return Err(StoreError::Busy("DynamoDB did not process a batch of reads".to_owned()));
            }
        }
        Ok(keys.iter().map(|key| found.remove(key)).collect())
    }

    /// A range of one partition.
    pub(super) async fn read_partition(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        let Query { kind, partition, after, limit } = query;
        let now = self.clock.now();
        let mut rows = Vec::new();
        let mut start: Option<Attributes> = None;
        while rows.len() < limit {
            let mut request = self
                .reading()
                .query()
                .table_name(&self.table)
                .consistent_read(true)
                .expression_attribute_values(":partition", item::partition(kind, &partition))
                .limit(page_size(limit.saturating_sub(rows.len())))
                .set_exclusive_start_key(start.take());
            request = match &after {
                Some(after) => request
                    .key_condition_expression("pk = :partition AND sk > :after")
                    .expression_attribute_values(":after", item::sort(after)),
                None => request.key_condition_expression("pk = :partition"),
            };
            let answer = request.send().await.map_err(|error| failed(fault(error)))?;
            for read in answer.items.into_iter().flatten() {
                let Item { row, .. } = item::parse(read)?;
                if is_live(&row, now) {
                    rows.push(row);
                }
            }
            match answer.last_evaluated_key {
                Some(last) => start = Some(last),
                None => break,
            }
        }
        Ok(rows)
    }

    /// What is due in one shard: the index gives keys, a consistent read of the rows says what is still so.
    pub(super) async fn read_due(
        &self,
        shard: u16,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Row>, StoreError> {
        let is_due = |row: &Row| matches!(row.due, Some(due) if due.shard == shard && due.at <= until);
        let mut rows = Vec::new();
        let mut start: Option<Attributes> = None;
        while rows.len() < limit {
            let page = limit.saturating_sub(rows.len()).min(MAX_BATCH);
            let answer = self
                .reading()
                .query()
                .table_name(&self.table)
                .index_name(DUE_INDEX)
                .key_condition_expression("ds = :shard AND da <= :until")
                .expression_attribute_values(":shard", item::shard(shard))
                .expression_attribute_values(":until", number(until.as_millis()))
                .limit(page_size(page))
                .set_exclusive_start_key(start.take())
                .send()
                .await
                .map_err(|error| failed(fault(error)))?;
            let keys = answer
                .items
                .iter()
                .flatten()
                .map(item::parse_key)
                .collect::<Result<Vec<Key>, StoreError>>()?;
            let read = self.read_batch(&keys, Consistency::Strong).await?;
            rows.extend(read.into_iter().flatten().filter(is_due));
            match answer.last_evaluated_key {
                Some(last) => start = Some(last),
                None => break,
            }
        }
        rows.sort_by_key(|row| row.due.map(|due: Due| due.at));
        Ok(rows)
    }
}

/// `Limit` of a query counts items before they are filtered, so a page may give less and is followed by the next.
fn page_size(rows: usize) -> i32 {
    i32::try_from(rows).unwrap_or(i32::MAX).max(1)
}
