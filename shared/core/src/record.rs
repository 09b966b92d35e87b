//! Typed access to rows: a record is JSON in the row's bytes, with the row's version beside it.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ErrorKind;
use crate::store::{Condition, Consistency, Due, Key, MAX_VALUE_BYTES, Row, Store, Write};
use crate::{Error, Result, Timestamp};

/// A record as read, with what a later write must name.
#[derive(Clone, Debug)]
pub struct Stored<T> {
    /// Its address.
    pub key: Key,
    /// The row's version when read (`row_version` of D19).
    pub version: u64,
    /// The record.
    pub value: T,
}

impl<T: Serialize> Stored<T> {
    /// The write that replaces the record with `value`, if nobody wrote it since.
    ///
    /// # Errors
    /// Only if the record cannot be serialised.
    pub fn replace(&self, value: &T, expires_at: Option<Timestamp>, due: Option<Due>) -> Result<Write> {
        put(self.key.clone(), Condition::Version(self.version), value, expires_at, due)
    }

    /// The write that fails the others unless this record is still as read.
    pub fn check(&self) -> Write {
        Write::Check { key: self.key.clone(), condition: Condition::Version(self.version) }
    }
}

impl<T> Stored<T> {
    /// The write that deletes the record, if nobody wrote it since.
    pub fn delete(&self) -> Write {
        Write::Delete { key: self.key.clone(), version: self.version }
    }
}

/// The write that puts a record where there is none.
///
/// # Errors
/// Only if the record cannot be serialised.
pub fn create<T: Serialize>(key: Key, value: &T, expires_at: Option<Timestamp>) -> Result<Write> {
    put(key, Condition::Absent, value, expires_at, None)
}

/// The write that puts a record under a condition.
///
/// # Errors
/// Only if the record cannot be serialised.
pub fn put<T: Serialize>(
    key: Key,
    condition: Condition,
    value: &T,
    expires_at: Option<Timestamp>,
    due: Option<Due>,
) -> Result<Write> {
    let bytes = serde_json::to_vec(value).map_err(Error::internal)?;
    if bytes.len() > MAX_VALUE_BYTES {
        let message =
            format!("the request is too large to be kept: at most {MAX_VALUE_BYTES} bytes as stored");
        return Err(Error::new(ErrorKind::Validation, message));
    }
    Ok(Write::Put { key, condition, expires_at, due, bytes })
}

/// The record in a row.
///
/// # Errors
/// [`Error::internal`] naming the row's kind when the bytes are not such a record.
pub fn parse<T: DeserializeOwned>(row: &Row) -> Result<Stored<T>> {
    let value = serde_json::from_slice(&row.bytes).map_err(|error| {
        Error::internal(format!("a row of kind {} is broken: {error}", row.key.kind.as_str()))
    })?;
    Ok(Stored { key: row.key.clone(), version: row.version, value })
}

/// Reads one record.
///
/// # Errors
/// Those of the store, and of [`parse`].
pub async fn get<T: DeserializeOwned>(
    store: &dyn Store,
    key: &Key,
    consistency: Consistency,
) -> Result<Option<Stored<T>>> {
    match store.get(key, consistency).await? {
        Some(row) => parse(&row).map(Some),
        None => Ok(None),
    }
}
