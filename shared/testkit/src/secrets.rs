//! The store of secrets in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agent_identity_core::grant::Pattern;
use agent_identity_core::port::{SecretError, SecretStore, StoredSecret};
use agent_identity_core::provider::SecretReference;
use agent_identity_core::{ProviderName, Secret};
use async_trait::async_trait;

/// Secrets in memory.
#[derive(Default)]
pub struct MemorySecrets {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    versions: u64,
    managed: BTreeMap<(String, String), Secret>,
    external: BTreeMap<String, (Pattern, Secret)>,
}

impl MemorySecrets {
    /// Adds a secret of somebody else, for the providers that match.
    pub fn put_external(&self, name: &str, value: &Secret, providers: Pattern) {
        self.state().external.insert(name.to_owned(), (providers, value.clone()));
    }

    /// How many versions of managed secrets there are: for tests of what a use case leaves behind.
    pub fn managed_versions(&self) -> usize {
        self.state().managed.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SecretStore for MemorySecrets {
    async fn put(&self, name: &str, value: &Secret) -> Result<StoredSecret, SecretError> {
        let mut state = self.state();
        state.versions += 1;
        let arn = format!("arn:aws:secretsmanager:us-east-1:000000000000:secret:{name}");
        let stored = StoredSecret { arn, version: state.versions.to_string() };
        state.managed.insert((stored.arn.clone(), stored.version.clone()), value.clone());
        Ok(stored)
    }

    async fn get(&self, stored: &StoredSecret) -> Result<Secret, SecretError> {
        let key = (stored.arn.clone(), stored.version.clone());
        let missing = || SecretError::NotFound(format!("there is no secret `{}`", stored.arn));
        self.state().managed.get(&key).cloned().ok_or_else(missing)
    }

    async fn remove_version(&self, superseded: &StoredSecret) -> Result<(), SecretError> {
        self.state().managed.remove(&(superseded.arn.clone(), superseded.version.clone()));
        Ok(())
    }

    async fn delete(&self, arn: &str) -> Result<(), SecretError> {
        self.state().managed.retain(|(other, _), _| other != arn);
        Ok(())
    }

    async fn get_external(
        &self,
        reference: &SecretReference,
        provider: &ProviderName,
    ) -> Result<Secret, SecretError> {
        let SecretReference { secret_id, json_key } = reference;
        let state = self.state();
        let (providers, value) = state
            .external
            .get(secret_id)
            .ok_or_else(|| SecretError::NotFound(format!("there is no secret `{secret_id}`")))?;
        if !providers.matches(provider.as_str()) {
            return Err(SecretError::Denied(format!(
                "provider `{provider}` may not use secret `{secret_id}`"
            )));
        }
        reference.select(value.clone()).ok_or_else(|| {
            SecretError::NotFound(format!("secret `{secret_id}` has no text under `{json_key}`"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::contract::secrets::{EXTERNAL, Secrets};

    crate::secrets_contract!(async {
        let store = MemorySecrets::default();
        for external in EXTERNAL {
            store.put_external(external.name, &Secret::new(external.value), external.provider.into());
        }
        Secrets { store: Arc::new(store), kept: () }
    });
}
