//! The limits of the port that a caller could break: each adapter asks these before it does anything.

use std::collections::HashSet;

use super::{DUE_SHARDS, Key, MAX_BATCH, StoreError, Write};

/// Most bytes of a key's part (DynamoDB's limit of a sort key).
pub const MAX_KEY_BYTES: usize = 1024;

/// Most bytes of a value (an item of DynamoDB has at most 400 KiB with its key).
pub const MAX_VALUE_BYTES: usize = 350 * 1024;

/// What every adapter refuses to write.
///
/// # Errors
/// [`StoreError::Failed`] that says which limit is broken.
pub fn check_writes(writes: &[Write]) -> Result<(), StoreError> {
    check_keys(writes.iter().map(Write::key))?;
    for write in writes {
        if let Write::Put { bytes, due, .. } = write {
            if bytes.len() > MAX_VALUE_BYTES {
                return refused(format!("a value has {} bytes; the limit is {MAX_VALUE_BYTES}", bytes.len()));
            }
            if let Some(due) = due.filter(|due| due.shard >= DUE_SHARDS) {
                return refused(format!(
                    "there is no due shard {}; the last is {}",
                    due.shard,
                    DUE_SHARDS - 1
                ));
            }
        }
    }
    Ok(())
}

/// What every adapter refuses to read or write: too many keys, one twice, a part too long or with a NUL.
///
/// # Errors
/// [`StoreError::Failed`] that says which limit is broken.
pub fn check_keys<'a>(keys: impl ExactSizeIterator<Item = &'a Key>) -> Result<(), StoreError> {
    if keys.len() > MAX_BATCH {
        return refused(format!("{} rows at once; the limit is {MAX_BATCH}", keys.len()));
    }
    let mut seen = HashSet::with_capacity(keys.len());
    for key in keys {
        if [&key.partition, &key.sort]
            .into_iter()
            .any(|part| part.len() > MAX_KEY_BYTES || part.contains('\0'))
        {
            return refused(format!("a key of kind {} is too long or has a NUL", key.kind.as_str()));
        }
        if !seen.insert(key) {
            return refused(format!("a row of kind {} is named twice", key.kind.as_str()));
        }
    }
    Ok(())
}

fn refused<T>(reason: String) -> Result<T, StoreError> {
    Err(StoreError::Failed(reason))
}
