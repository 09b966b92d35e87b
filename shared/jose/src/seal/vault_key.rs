//! The rows that hold the wrapped versions of the vault keys.

use agent_identity_core::Timestamp;
use agent_identity_core::encoding::{base64url, unbase64url};
use agent_identity_core::record;
use agent_identity_core::seal::{Key32, KeyWrapper, Purpose, SealError};
use agent_identity_core::store::{Key, Kind, MAX_BATCH, Query, Row, Store, StoreError, Write};
use serde::{Deserialize, Serialize};

/// The only vault there is; a name of its own, so that there may be others.
const VAULT: &str = "default";

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct VaultKey {
    /// Base64url of what the wrapper made.
    wrapped: String,
    created_at: Timestamp,
    /// When it was wrapped under another key than at first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rewrapped_at: Option<Timestamp>,
    /// The name of the key that wrapped it, where it has one. (Rows from before this was kept do not say.)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wrapped_by: Option<String>,
    /// Since when it is known to be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lost_at: Option<Timestamp>,
}

/// Digits enough for any `u32`, so that the bytewise order of rows is the order of versions.
fn sort(version: u32) -> String {
    format!("{version:010}")
}

/// The address of a version.
pub(super) fn address(purpose: Purpose, version: u32) -> Key {
    Key::of(Kind::VaultKey, purpose.as_str(), sort(version))
}

/// The number of the version in `row`.
///
/// # Errors
/// [`SealError::KeyUnavailable`] when the row's key is not one that [`sort`] made.
pub(super) fn number(row: &Row) -> Result<u32, SealError> {
    row.key.sort.parse().ok().filter(|number| sort(*number) == row.key.sort).ok_or_else(|| {
        SealError::KeyUnavailable(format!("a row of kind {} has an unknown form", row.key.kind.as_str()))
    })
}

fn unavailable(error: impl std::fmt::Display) -> SealError {
    SealError::KeyUnavailable(error.to_string())
}

/// All versions from `first` on, in their order.
///
/// # Errors
/// [`SealError::KeyUnavailable`] when the store does not answer, [`SealError::Busy`].
pub(super) async fn read_from(
    store: &dyn Store,
    purpose: Purpose,
    first: u32,
) -> Result<Vec<Row>, SealError> {
    let mut rows: Vec<Row> = Vec::new();
    let mut after = first.checked_sub(1).map(sort);
    loop {
        let partition = purpose.as_str().to_owned();
        let query = Query { kind: Kind::VaultKey, partition, after: after.take(), limit: MAX_BATCH };
        let page = store.query(query).await?;
        let is_last = page.len() < MAX_BATCH;
        rows.extend(page);
        match rows.last() {
            Some(row) if !is_last => after = Some(row.key.sort.clone()),
            _ => return Ok(rows),
        }
    }
}

/// Unwraps the key in `row`.
///
/// # Errors
/// [`SealError::Lost`]; [`SealError::KeyUnavailable`], also when the wrapper says that the row is broken: what is wrong then is the row or the
/// wrapper's key, not what somebody wants to open.
pub(super) async fn unwrap_row(
    wrapper: &dyn KeyWrapper,
    purpose: Purpose,
    row: &Row,
) -> Result<Key32, SealError> {
    let version = number(row)?;
    let stored = record::parse::<VaultKey>(row).map_err(unavailable)?;
    if stored.value.lost_at.is_some() {
        return Err(SealError::Lost);
    }
    let wrapped = unbase64url(&stored.value.wrapped).ok_or_else(|| unusable(purpose, version))?;
    let number = version.to_string();
    match wrapper.unwrap_key(&wrapped, &context(purpose, &number)).await {
        Err(SealError::Broken) => Err(unusable(purpose, version)),
        other => other,
    }
}

fn unusable(purpose: Purpose, version: u32) -> SealError {
    SealError::KeyUnavailable(format!(
        "version {version} of the vault key `{}` does not unwrap under the configured key",
        purpose.as_str()
    ))
}

/// When the key in `row` was last wrapped; none where it is lost.
///
/// # Errors
/// [`SealError::KeyUnavailable`].
pub(super) fn wrapped_at(row: &Row) -> Result<Option<Timestamp>, SealError> {
    let stored = record::parse::<VaultKey>(row).map_err(unavailable)?.value;
    Ok(stored.lost_at.is_none().then(|| stored.rewrapped_at.unwrap_or(stored.created_at)))
}

/// Whether the key in `row` is lost and that is not on record yet.
///
/// # Errors
/// [`SealError::KeyUnavailable`] when that cannot be said; [`SealError::Busy`].
pub(super) async fn is_newly_lost(
    wrapper: &dyn KeyWrapper,
    purpose: Purpose,
    row: &Row,
) -> Result<bool, SealError> {
    let version = number(row)?;
    let stored = record::parse::<VaultKey>(row).map_err(unavailable)?.value;
    if stored.lost_at.is_some() {
        return Ok(false);
    }
    let wrapped = unbase64url(&stored.wrapped).ok_or_else(|| unusable(purpose, version))?;
    let number = version.to_string();
    let lost = wrapper.is_lost(&wrapped, &context(purpose, &number), stored.wrapped_by.as_deref()).await;
    lost.map_err(|error| match error {
        SealError::KeyUnavailable(reason) => SealError::KeyUnavailable(format!(
            "version {version} of the vault key `{}` may come back: {reason}",
            purpose.as_str()
        )),
        other => other,
    })
}

/// Puts on record that the key in `row` is lost. What was wrapped stays where it is: it opens nothing.
///
/// # Errors
/// [`SealError::KeyUnavailable`], [`SealError::Busy`].
pub(super) async fn mark_lost(store: &dyn Store, row: &Row, now: Timestamp) -> Result<(), SealError> {
    let stored = record::parse::<VaultKey>(row).map_err(unavailable)?;
    let value = VaultKey { lost_at: Some(now), ..stored.value.clone() };
    wrote(store, stored.replace(&value, None, None)).await.map(drop)
}

/// Whether it was written. Nothing else writes such a row: in a conflict, another process does the same.
async fn wrote(store: &dyn Store, write: agent_identity_core::Result<Write>) -> Result<bool, SealError> {
    match store.write(vec![write.map_err(unavailable)?]).await {
        Ok(()) => Ok(true),
        Err(StoreError::Conflict(_)) => Ok(false),
        Err(error @ (StoreError::Busy(_) | StoreError::Failed(_))) => Err(error.into()),
    }
}

/// Wraps the key in `row` anew at `now`, if a former key of the wrapper has wrapped it; whether it did.
///
/// # Errors
/// As [`unwrap_row`].
pub(super) async fn rewrap_row(
    store: &dyn Store,
    wrapper: &dyn KeyWrapper,
    purpose: Purpose,
    row: &Row,
    now: Timestamp,
) -> Result<bool, SealError> {
    let version = number(row)?;
    let stored = record::parse::<VaultKey>(row).map_err(unavailable)?;
    if stored.value.lost_at.is_some() {
        return Ok(false);
    }
    let wrapped = unbase64url(&stored.value.wrapped).ok_or_else(|| unusable(purpose, version))?;
    let number = version.to_string();
    let anew = match wrapper.rewrap(&wrapped, &context(purpose, &number)).await {
        Err(SealError::Broken) => return Err(unusable(purpose, version)),
        Err(error) => return Err(error),
        // Of before the name was kept: it is the key of today.
        Ok(None) if stored.value.wrapped_by.is_none() && wrapper.key_name().is_some() => {
            let wrapped_by = wrapper.key_name().map(str::to_owned);
            let named = VaultKey { wrapped_by, ..stored.value.clone() };
            wrote(store, stored.replace(&named, None, None)).await?;
            return Ok(false);
        }
        Ok(None) => return Ok(false),
        Ok(Some(anew)) => anew,
    };
    let value = VaultKey {
        wrapped: base64url(anew),
        created_at: stored.value.created_at,
        rewrapped_at: Some(now),
        wrapped_by: wrapper.key_name().map(str::to_owned),
        lost_at: None,
    };
    wrote(store, stored.replace(&value, None, None)).await
}

/// Stores `key` as this version, if there is none yet; whether it did.
///
/// # Errors
/// [`SealError::KeyUnavailable`], [`SealError::Busy`].
pub(super) async fn create(
    store: &dyn Store,
    wrapper: &dyn KeyWrapper,
    purpose: Purpose,
    version: u32,
    key: &Key32,
    now: Timestamp,
) -> Result<bool, SealError> {
    let number = version.to_string();
    let wrapped = base64url(wrapper.wrap(key, &context(purpose, &number)).await?);
    let write = record::create(
        address(purpose, version),
        &VaultKey {
            wrapped,
            created_at: now,
            rewrapped_at: None,
            wrapped_by: wrapper.key_name().map(str::to_owned),
            lost_at: None,
        },
        None,
    );
    wrote(store, write).await
}

/// What the wrapping is bound to (design: {vault, version, purpose}).
fn context(purpose: Purpose, number: &str) -> [(&'static str, &str); 3] {
    [("vault", VAULT), ("version", number), ("purpose", purpose.as_str())]
}
