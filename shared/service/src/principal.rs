//! Grants of IAM principals: who calls where AWS verifies signatures (D1).

use std::sync::Arc;

use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Grant, Principal};
use agent_identity_core::principal::{PrincipalArn, StoredPrincipal};
use agent_identity_core::record::{self, Stored};
use agent_identity_core::store::{Condition, Consistency, DIRECTORY, Key, Kind, StoreError};
use agent_identity_core::{Error, Result};

use crate::Services;
use crate::directory::ATTEMPTS;
use crate::page::each_row;
use crate::read_ahead::Foreseen;

fn key(arn: &PrincipalArn) -> Key {
    Key::directory(Kind::Principal, arn.as_str())
}

impl Services {
    /// Stores the grants of an IAM principal, in place of those that it had. Only a process that holds the store can call
    /// this; there is no operation for it on the wire. Running processes go by the new grants within their cache's life.
    ///
    /// # Errors
    /// `Conflict` when others keep writing.
    pub async fn put_principal(&self, arn: &PrincipalArn, grants: Vec<Grant>) -> Result<StoredPrincipal> {
        let key = key(arn);
        let principal = Principal { name: arn.to_string(), grants };
        for _ in 0..ATTEMPTS {
            let before: Option<Stored<StoredPrincipal>> =
                record::get(&*self.ports.store, &key, Consistency::Strong).await?;
            let now = self.now();
            let after = StoredPrincipal {
                principal: principal.clone(),
                created_at: before.as_ref().map_or(now, |before| before.value.created_at),
                updated_at: now,
            };
            let condition = before.map_or(Condition::Absent, |before| Condition::Version(before.version));
            match self.ports.store.write(vec![record::put(key.clone(), condition, &after, None, None)?]).await
            {
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    self.caches.principals.forget(arn).await;
                    return Ok(after);
                }
            }
        }
        Err(StoreError::Conflict(0).into())
    }

    /// All IAM principals with grants, by ARN.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list_principals(&self) -> Result<Vec<StoredPrincipal>> {
        let mut principals = Vec::new();
        each_row(&*self.ports.store, Kind::Principal, DIRECTORY, |row| {
            principals.push(record::parse(row)?.value);
            Ok(())
        })
        .await?;
        Ok(principals)
    }

    /// Takes all grants from an IAM principal.
    ///
    /// # Errors
    /// `NotFound` when it has none.
    pub async fn delete_principal(&self, arn: &PrincipalArn) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let stored: Stored<StoredPrincipal> =
                record::get(&*self.ports.store, &key(arn), Consistency::Strong)
                    .await?
                    .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("`{arn}` has no grants")))?;
            match self.ports.store.write(vec![stored.delete()]).await {
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    self.caches.principals.forget(arn).await;
                    return Ok(());
                }
            }
        }
        Err(StoreError::Conflict(0).into())
    }

    /// The principal with this ARN, as it was at most one cache life ago; one that nothing was ever granted may do nothing.
    /// `foreseen` is what the request will read besides: where one has to be read, all are.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn iam_principal(
        &self,
        arn: &PrincipalArn,
        foreseen: impl FnOnce() -> Option<Foreseen> + Send,
    ) -> Result<Arc<Principal>> {
        let read = async {
            if let Some(foreseen) = foreseen() {
                self.read_ahead_of_token(&foreseen, Some(key(arn))).await;
            }
            let stored: Option<Stored<StoredPrincipal>> =
                record::get(&*self.ports.store, &key(arn), Consistency::Eventual).await?;
            // That there is none is remembered too: whoever may sign must not cost a read each time.
            let none = || Principal { name: arn.to_string(), grants: Vec::new() };
            Ok(Arc::new(stored.map_or_else(none, |stored| stored.value.principal)))
        };
        self.caches.principals.get(arn, read).await
    }
}
