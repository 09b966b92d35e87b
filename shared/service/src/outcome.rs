//! What became of a write of which the store does not know: what is stored says.

use agent_identity_core::record;
use agent_identity_core::store::{Consistency, Key, StoreError};
use serde::Serialize;
use serde_json::Value;

use crate::Services;

impl Services {
    /// Whether a row is gone although its deletion seemed to fail: a delete leaves no trace, and that it is gone is what was
    /// asked for.
    pub(crate) async fn is_gone_after(&self, error: &StoreError, key: &Key) -> bool {
        matches!(error, StoreError::Failed(_))
            && matches!(self.ports.store.get(key, Consistency::Strong).await, Ok(None))
    }

    /// Whether a row is what was written although the write seemed to fail. `value` must be one that nobody else writes: it
    /// holds something random.
    pub(crate) async fn is_stored_after(
        &self,
        error: &StoreError,
        key: &Key,
        value: &impl Serialize,
    ) -> bool {
        if !matches!(error, StoreError::Failed(_)) {
            return false;
        }
        let found = record::get::<Value>(&*self.ports.store, key, Consistency::Strong).await;
        matches!(found, Ok(Some(row)) if serde_json::to_value(value).is_ok_and(|value| value == row.value))
    }
}
