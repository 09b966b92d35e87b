//! A row as an item of the table.

use std::collections::HashMap;

use agent_identity_core::Timestamp;
use agent_identity_core::store::{Due, Key, Kind, Row, StoreError};
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

pub(super) const PARTITION: &str = "pk";
pub(super) const SORT: &str = "sk";
const VERSION: &str = "v";
const BYTES: &str = "b";
const TOKEN: &str = "w";
const EXPIRES_AT: &str = "exp";
const TTL: &str = "ttl";
const DUE_SHARD: &str = "ds";
const DUE_AT: &str = "da";

/// The attributes of an item.
pub(super) type Attributes = HashMap<String, AttributeValue>;

/// A row, and the token of the write that made it.
pub(super) struct Item {
    pub(super) row: Row,
    pub(super) token: Vec<u8>,
}

pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

pub(super) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(super) fn binary(value: impl Into<Vec<u8>>) -> AttributeValue {
    AttributeValue::B(Blob::new(value))
}

/// The partition key of a partition.
pub(super) fn partition(kind: Kind, partition: &str) -> AttributeValue {
    text(format!("{}#{partition}", kind.as_str()))
}

/// A sort key; DynamoDB takes no empty text, and the port no NUL.
pub(super) fn sort(sort: &str) -> AttributeValue {
    text(if sort.is_empty() { "\0" } else { sort })
}

/// The partition key of a shard of the due index.
pub(super) fn shard(shard: u16) -> AttributeValue {
    text(format!("due#{shard}"))
}

/// The primary key of a row.
pub(super) fn key(key: &Key) -> Attributes {
    HashMap::from([
        (PARTITION.to_owned(), partition(key.kind, &key.partition)),
        (SORT.to_owned(), sort(&key.sort)),
    ])
}

/// A row as an item, written under this token.
pub(super) fn item(row: Row, token: &[u8]) -> Attributes {
    let mut item = key(&row.key);
    item.insert(VERSION.to_owned(), number(row.version));
    // Not all that speak DynamoDB's protocol take an empty value.
    if !row.bytes.is_empty() {
        item.insert(BYTES.to_owned(), binary(row.bytes));
    }
    item.insert(TOKEN.to_owned(), binary(token));
    if let Some(expiry) = row.expires_at {
        item.insert(EXPIRES_AT.to_owned(), number(expiry.as_millis()));
        // Rounded up: the item is not removed before it has expired.
        item.insert(TTL.to_owned(), number(expiry.as_seconds().saturating_add(1)));
    }
    if let Some(due) = row.due {
        item.insert(DUE_SHARD.to_owned(), shard(due.shard));
        item.insert(DUE_AT.to_owned(), number(due.at.as_millis()));
    }
    item
}

/// Whether a row exists at this time.
pub(super) fn is_live(row: &Row, now: Timestamp) -> bool {
    row.expires_at.is_none_or(|expiry| expiry > now)
}

/// The address in an item of the table or of its index.
pub(super) fn parse_key(item: &Attributes) -> Result<Key, StoreError> {
    let part = |name| item.get(name).and_then(|value| value.as_s().ok()).ok_or_else(|| broken(name));
    let (kind, partition) = part(PARTITION)?.split_once('#').ok_or_else(|| broken(PARTITION))?;
    let kind = Kind::parse(kind).ok_or_else(|| broken(PARTITION))?;
    let sort = part(SORT)?;
    Ok(Key {
        kind,
        partition: partition.to_owned(),
        sort: if sort == "\0" { String::new() } else { sort.clone() },
    })
}

/// The row in an item.
pub(super) fn parse(mut item: Attributes) -> Result<Item, StoreError> {
    let key = parse_key(&item)?;
    let due = match (item.get(DUE_SHARD), item.get(DUE_AT)) {
        (Some(shard), Some(_)) => Some(Due {
            shard: shard
                .as_s()
                .ok()
                .and_then(|shard| shard.strip_prefix("due#")?.parse().ok())
                .ok_or_else(|| broken(DUE_SHARD))?,
            at: time(&item, DUE_AT)?,
        }),
        _ => None,
    };
    let row = Row {
        key,
        version: parse_number(&item, VERSION)?,
        expires_at: item.contains_key(EXPIRES_AT).then(|| time(&item, EXPIRES_AT)).transpose()?,
        due,
        bytes: if item.contains_key(BYTES) { take_binary(&mut item, BYTES)? } else { Vec::new() },
    };
    Ok(Item { row, token: take_binary(&mut item, TOKEN)? })
}

fn time(item: &Attributes, name: &str) -> Result<Timestamp, StoreError> {
    parse_number(item, name).map(Timestamp::from_millis)
}

fn parse_number<N: std::str::FromStr>(item: &Attributes, name: &str) -> Result<N, StoreError> {
    item.get(name)
        .and_then(|value| value.as_n().ok())
        .and_then(|value| value.parse().ok())
        .ok_or_else(|| broken(name))
}

fn take_binary(item: &mut Attributes, name: &str) -> Result<Vec<u8>, StoreError> {
    match item.remove(name) {
        Some(AttributeValue::B(bytes)) => Ok(bytes.into_inner()),
        _ => Err(broken(name)),
    }
}

fn broken(name: &str) -> StoreError {
    StoreError::Failed(format!("an item of the table has no usable attribute `{name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            key: Key::of(Kind::Connection, "w#u", ""),
            version: 7,
            expires_at: Some(Timestamp::from_millis(1_999)),
            due: Some(Due { shard: 15, at: Timestamp::from_millis(-5) }),
            bytes: vec![0, 255],
        }
    }

    #[test]
    fn a_row_comes_back_from_its_item() {
        let item = parse(item(row(), b"token")).unwrap();
        assert_eq!((item.row, item.token.as_slice()), (row(), &b"token"[..]));
    }

    #[test]
    fn d16_a_partition_key_begins_with_the_kind() {
        assert_eq!(item(row(), b"")[PARTITION], text("connection#w#u"));
    }

    #[test]
    fn dynamodb_removes_an_item_only_after_its_expiry() {
        assert_eq!(item(row(), b"")[TTL], number(2));
    }

    #[test]
    fn an_item_without_what_it_needs_is_named() {
        for name in [PARTITION, SORT, VERSION, TOKEN] {
            let mut item = item(row(), b"");
            item.remove(name);
            let error = parse(item).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
