//! Writing: one item by itself, several in a transaction; each with its condition, and with what a lost answer means.
//!
//! A write whose answer was lost may have happened. It is sent again, and then fails its own condition. So each write
//! carries a token of its own, and whoever finds the token has found its own write.

use agent_identity_core::random;
use agent_identity_core::store::{Condition, Consistency, Key, Row, StoreError, Write};
use agent_identity_core::{Timestamp, encoding};
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{ConditionCheck, Delete, Put, TransactWriteItem};

use super::DynamoStore;
use super::item::{self, Attributes, is_live, number};
use crate::fault::{Fault, fault};
use crate::pace::Pace;

/// DynamoDB's code of a condition that did not hold.
const CONDITION_FAILED: &str = "ConditionalCheckFailed";

/// A condition as an expression with its values.
struct Expression {
    text: &'static str,
    values: Attributes,
}

impl Expression {
    /// An expired row counts as absent, whether DynamoDB has removed it yet or not.
    fn of(condition: Condition, now: Timestamp) -> Self {
        let mut values = Attributes::from([(":now".to_owned(), number(now.as_millis()))]);
        let text = match condition {
            Condition::Absent => "attribute_not_exists(pk) OR #exp <= :now",
            Condition::Version(version) => {
                values.insert(":version".to_owned(), number(version));
                "#v = :version AND (attribute_not_exists(#exp) OR #exp > :now)"
            }
        };
        Self { text, values }
    }
}

/// The names that expressions use. Not all expressions use all of them, and DynamoDB refuses unused ones.
fn names(condition: Condition) -> std::collections::HashMap<String, String> {
    let mut names = std::collections::HashMap::from([("#exp".to_owned(), "exp".to_owned())]);
    if let Condition::Version(_) = condition {
        names.insert("#v".to_owned(), "v".to_owned());
    }
    names
}

fn condition_of(write: &Write) -> Condition {
    match write {
        Write::Put { condition, .. } | Write::Check { condition, .. } => *condition,
        Write::Delete { version, .. } => Condition::Version(*version),
    }
}

/// The version that a put makes.
const fn next_version(condition: Condition) -> u64 {
    match condition {
        Condition::Absent => 1,
        Condition::Version(version) => version.saturating_add(1),
    }
}

/// How one attempt ended.
enum Attempt {
    Done,
    /// A condition did not hold: the first such write.
    Conflict(usize),
    Failed(Fault),
}

/// What is stored where a put's condition failed after an earlier attempt whose answer was lost.
enum Trace {
    /// The put's own write.
    Ours,
    /// Certainly not the put's own write.
    Others,
    /// It may have been overwritten since.
    Gone,
}

impl DynamoStore {
    /// All the writes or none.
    pub(super) async fn write_all(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        match writes.as_slice() {
            [] => Ok(()),
            [put @ Write::Put { .. }] => self.put_one(put).await,
            [Write::Delete { key, version }] => {
                let (token, now) = self.beginning();
                self.insist(&writes, &token, || self.delete(key, *version, now)).await
            }
            several => {
                // One instant for all attempts, and one request: DynamoDB takes a transaction that differs for another one.
                let (token, now) = self.beginning();
                let transaction = self.transaction(several, &token, now)?;
                self.insist(several, &token, || self.transact(transaction.clone(), &token)).await
            }
        }
    }

    /// A put by itself.
    pub(super) async fn put_one(&self, write: &Write) -> Result<(), StoreError> {
        let Write::Put { key, condition, expires_at, due, bytes } = write else {
            return Err(StoreError::Failed("this is no put".to_owned()));
        };
        let (token, now) = self.beginning();
        let row = || Row {
            key: key.clone(),
            version: next_version(*condition),
            expires_at: *expires_at,
            due: *due,
            bytes: bytes.clone(),
        };
        self.insist(std::slice::from_ref(write), &token, || self.put(row(), *condition, &token, now)).await
    }

    /// A write's token, and the instant at which it looks at what has expired.
    fn beginning(&self) -> ([u8; 16], Timestamp) {
        (random::bytes(&*self.random), self.clock.now())
    }

    /// Makes attempts at the writes until one of them says how they ended.
    async fn insist<F: Future<Output = Attempt> + Send>(
        &self,
        writes: &[Write],
        token: &[u8],
        attempt: impl Fn() -> F + Send,
    ) -> Result<(), StoreError> {
        let mut pace = Pace::new(&*self.random);
        let mut is_unknown = false;
        loop {
            match attempt().await {
                Attempt::Done => return Ok(()),
                Attempt::Conflict(index) if !is_unknown => return Err(StoreError::Conflict(index)),
                Attempt::Conflict(index) => return self.after_lost_answer(writes, token, index).await,
                Attempt::Failed(Fault::Busy(reason)) => {
                    if !pace.again().await {
                        return Err(if is_unknown { unknown(&reason) } else { StoreError::Busy(reason) });
                    }
                }
                Attempt::Failed(Fault::Unknown(reason)) => {
                    is_unknown = true;
                    tracing::warn!(%reason, "the answer to a write was lost; it is sent again");
                    if !pace.again().await {
                        return Err(unknown(&reason));
                    }
                }
                Attempt::Failed(fault @ Fault::Refused { .. }) => {
                    return Err(StoreError::Failed(fault.reason()));
                }
            }
        }
    }

    /// A condition failed after an attempt whose answer was lost: was it that attempt that changed the row?
    async fn after_lost_answer(
        &self,
        writes: &[Write],
        token: &[u8],
        index: usize,
    ) -> Result<(), StoreError> {
        let mut is_gone = false;
        let mut has_put = false;
        for write in writes {
            if let Write::Put { key, condition, .. } = write {
                has_put = true;
                match self.trace(key, *condition, token).await? {
                    Trace::Ours => return Ok(()),
                    // All or none: if one of them is certainly not ours, none is.
                    Trace::Others => return Err(StoreError::Conflict(index)),
                    Trace::Gone => is_gone = true,
                }
            }
        }
        if has_put && !is_gone {
            return Err(StoreError::Conflict(index));
        }
        Err(unknown("its answer was lost, and what is stored now does not tell"))
    }

    async fn trace(&self, key: &Key, condition: Condition, token: &[u8]) -> Result<Trace, StoreError> {
        let Some(item) = self.read_item(key, Consistency::Strong).await? else {
            return Ok(Trace::Gone);
        };
        let made = next_version(condition);
        Ok(if item.token == token {
            Trace::Ours
        } else if item.row.version <= made && is_live(&item.row, self.clock.now()) {
            Trace::Others
        } else {
            Trace::Gone
        })
    }

    async fn put(&self, row: Row, condition: Condition, token: &[u8], now: Timestamp) -> Attempt {
        let Expression { text, values } = Expression::of(condition, now);
        let sent = self
            .writing()
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item::item(row, token)))
            .condition_expression(text)
            .set_expression_attribute_names(Some(names(condition)))
            .set_expression_attribute_values(Some(values))
            .send()
            .await;
        one(sent.map(drop).map_err(fault))
    }

    async fn delete(&self, key: &Key, version: u64, now: Timestamp) -> Attempt {
        let condition = Condition::Version(version);
        let Expression { text, values } = Expression::of(condition, now);
        let sent = self
            .writing()
            .delete_item()
            .table_name(&self.table)
            .set_key(Some(item::key(key)))
            .condition_expression(text)
            .set_expression_attribute_names(Some(names(condition)))
            .set_expression_attribute_values(Some(values))
            .send()
            .await;
        one(sent.map(drop).map_err(fault))
    }

    /// The items of a transaction.
    fn transaction(
        &self,
        writes: &[Write],
        token: &[u8],
        now: Timestamp,
    ) -> Result<Vec<TransactWriteItem>, StoreError> {
        writes
            .iter()
            .map(|write| self.transacted(write, token, now))
            .collect::<Result<_, _>>()
            .map_err(StoreError::Failed)
    }

    async fn transact(&self, items: Vec<TransactWriteItem>, token: &[u8]) -> Attempt {
        let sent = self
            .writing()
            .transact_write_items()
            .set_transact_items(Some(items))
            // DynamoDB answers a repetition with the first outcome, for ten minutes.
            .client_request_token(encoding::hex(token))
            .send()
            .await;
        match sent {
            Ok(_) => Attempt::Done,
            Err(error) => cancelled(error),
        }
    }

    fn transacted(&self, write: &Write, token: &[u8], now: Timestamp) -> Result<TransactWriteItem, String> {
        let condition = condition_of(write);
        let Expression { text, values } = Expression::of(condition, now);
        let item = TransactWriteItem::builder();
        let item = match write {
            Write::Put { key, expires_at, due, bytes, .. } => {
                let row = Row {
                    key: key.clone(),
                    version: next_version(condition),
                    expires_at: *expires_at,
                    due: *due,
                    bytes: bytes.clone(),
                };
                let put = Put::builder()
                    .table_name(&self.table)
                    .set_item(Some(item::item(row, token)))
                    .condition_expression(text)
                    .set_expression_attribute_names(Some(names(condition)))
                    .set_expression_attribute_values(Some(values));
                item.put(put.build().map_err(|error| error.to_string())?)
            }
            Write::Delete { key, .. } => {
                let delete = Delete::builder()
                    .table_name(&self.table)
                    .set_key(Some(item::key(key)))
                    .condition_expression(text)
                    .set_expression_attribute_names(Some(names(condition)))
                    .set_expression_attribute_values(Some(values));
                item.delete(delete.build().map_err(|error| error.to_string())?)
            }
            Write::Check { key, .. } => {
                let check = ConditionCheck::builder()
                    .table_name(&self.table)
                    .set_key(Some(item::key(key)))
                    .condition_expression(text)
                    .set_expression_attribute_names(Some(names(condition)))
                    .set_expression_attribute_values(Some(values));
                item.condition_check(check.build().map_err(|error| error.to_string())?)
            }
        };
        Ok(item.build())
    }
}

/// How an attempt at a single item ended.
fn one(sent: Result<(), Fault>) -> Attempt {
    match sent {
        Ok(()) => Attempt::Done,
        Err(fault) if fault.is("ConditionalCheckFailedException") => Attempt::Conflict(0),
        Err(fault) => Attempt::Failed(fault),
    }
}

/// How a transaction that was not done ended.
fn cancelled<R: std::fmt::Debug>(error: SdkError<TransactWriteItemsError, R>) -> Attempt {
    let Some(TransactWriteItemsError::TransactionCanceledException(reasons)) = error.as_service_error()
    else {
        return Attempt::Failed(fault(error));
    };
    let codes: Vec<&str> = reasons.cancellation_reasons().iter().filter_map(|reason| reason.code()).collect();
    // A failed condition is an answer; what else came of it (a conflict with another transaction) is not waited for.
    if let Some(index) = codes.iter().position(|code| *code == CONDITION_FAILED) {
        return Attempt::Conflict(index);
    }
    let other = codes.iter().find(|code| **code != "None").copied().unwrap_or("no reason");
    let reason = format!("a transaction was cancelled: {other}");
    Attempt::Failed(match other {
        "TransactionConflict" | "ProvisionedThroughputExceeded" | "ThrottlingError" => Fault::Busy(reason),
        _ => Fault::Refused { code: "TransactionCanceledException".to_owned(), message: reason },
    })
}

fn unknown(reason: &str) -> StoreError {
    StoreError::Failed(format!("the outcome of a write is unknown: {reason}"))
}
