//! Client secrets and API keys in the database, sealed.

use std::sync::Arc;

use agent_identity_core::arn::Place;
use agent_identity_core::grant::Pattern;
use agent_identity_core::port::{SecretError, SecretStore, StoredSecret};
use agent_identity_core::provider::SecretReference;
use agent_identity_core::random::{self, Random};
use agent_identity_core::seal::{Context, Purpose, SealError, Sealer};
use agent_identity_core::{ProviderName, Secret, encoding};
use async_trait::async_trait;
use rusqlite::{OptionalExtension as _, params};

use crate::LocalName;
use crate::database::{Database, store_error};

#[cfg(test)]
mod tests;

/// The secrets of one machine: those that we manage, and those that the administrator keeps (`secrets put`), which a
/// provider refers to as EXTERNAL. Two tables, so that neither can be read as the other.
pub struct LocalSecrets {
    database: Database,
    sealer: Arc<dyn Sealer>,
    random: Arc<dyn Random>,
    place: Place,
}

impl LocalSecrets {
    /// The secrets in `database`, sealed by `sealer`; `place` says how their ARNs begin.
    pub fn new(database: Database, sealer: Arc<dyn Sealer>, random: Arc<dyn Random>, place: Place) -> Self {
        Self { database, sealer, random, place }
    }

    /// Stores a secret of the administrator's own under a name, instead of the one that was there, and returns its ARN. With
    /// `providers`, only providers whose name matches may use it (D2); without, all may.
    ///
    /// # Errors
    /// [`SecretError::Failed`], [`SecretError::Busy`].
    pub async fn put_external(
        &self,
        name: &LocalName,
        value: &Secret,
        providers: Option<&Pattern>,
    ) -> Result<String, SecretError> {
        let arn = self.place.secret(name.as_str());
        let version = self.version();
        let providers = stored_pattern(providers)?;
        let context = external(&arn, &version, providers.as_deref());
        let sealed = self.seal(&context, value).await?;
        let stored = arn.clone();
        self.database
            .write(move |connection| {
                connection
                    .execute(
                        "INSERT OR REPLACE INTO external_secrets (arn, version, providers, sealed)
                         VALUES (?1, ?2, ?3, ?4)",
                        params![stored, version, providers, sealed],
                    )
                    .map_err(store_error)
            })
            .await
            .map_err(SecretError::from)?;
        Ok(arn)
    }

    /// The version of a secret: random, so that one that was deleted and made again shares none with the old one (D9).
    fn version(&self) -> String {
        encoding::hex(&random::bytes::<16>(&*self.random))
    }

    async fn seal(&self, context: &Context, value: &Secret) -> Result<Vec<u8>, SecretError> {
        self.sealer.seal(Purpose::Secret, context, value.expose().as_bytes()).await.map_err(SecretError::from)
    }

    async fn open(&self, context: &Context, sealed: &[u8]) -> Result<Secret, SecretError> {
        let text = self.sealer.open(Purpose::Secret, context, sealed).await.map_err(SecretError::from)?;
        let text =
            std::str::from_utf8(&text).map_err(|_| SecretError::Failed("a secret is no text".to_owned()))?;
        Ok(Secret::new(text))
    }
}

#[async_trait]
impl SecretStore for LocalSecrets {
    async fn put(&self, name: &str, value: &Secret) -> Result<StoredSecret, SecretError> {
        let stored = StoredSecret { arn: self.place.secret(name), version: self.version() };
        let sealed = self.seal(&managed(&stored), value).await?;
        let StoredSecret { arn, version } = stored.clone();
        self.database
            .write(move |connection| {
                connection
                    .execute(
                        "INSERT INTO secrets (arn, version, sealed) VALUES (?1, ?2, ?3)",
                        params![arn, version, sealed],
                    )
                    .map_err(store_error)
            })
            .await
            .map_err(SecretError::from)?;
        Ok(stored)
    }

    async fn get(&self, stored: &StoredSecret) -> Result<Secret, SecretError> {
        let sealed: Option<Vec<u8>> = self
            .database
            .read(|connection| {
                connection
                    .prepare_cached("SELECT sealed FROM secrets WHERE arn = ?1 AND version = ?2")?
                    .query_row(params![stored.arn, stored.version], |row| row.get(0))
                    .optional()
            })
            .map_err(SecretError::from)?;
        let sealed =
            sealed.ok_or_else(|| SecretError::NotFound(format!("there is no secret `{}`", stored.arn)))?;
        self.open(&managed(stored), &sealed).await
    }

    async fn remove_version(&self, superseded: &StoredSecret) -> Result<(), SecretError> {
        let StoredSecret { arn, version } = superseded.clone();
        self.database
            .write(move |connection| {
                connection
                    .execute("DELETE FROM secrets WHERE arn = ?1 AND version = ?2", params![arn, version])
                    .map_err(store_error)
            })
            .await
            .map(|_| ())
            .map_err(SecretError::from)
    }

    async fn delete(&self, arn: &str) -> Result<(), SecretError> {
        let arn = arn.to_owned();
        self.database
            .write(move |connection| {
                connection.execute("DELETE FROM secrets WHERE arn = ?1", params![arn]).map_err(store_error)
            })
            .await
            .map(|_| ())
            .map_err(SecretError::from)
    }

    async fn get_external(
        &self,
        reference: &SecretReference,
        provider: &ProviderName,
    ) -> Result<Secret, SecretError> {
        let SecretReference { secret_id, json_key } = reference;
        let arn =
            if secret_id.starts_with("arn:") { secret_id.clone() } else { self.place.secret(secret_id) };
        let found: Option<(String, Option<String>, Vec<u8>)> = self
            .database
            .read(|connection| {
                connection
                    .prepare_cached("SELECT version, providers, sealed FROM external_secrets WHERE arn = ?1")?
                    .query_row(params![arn], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                    .optional()
            })
            .map_err(SecretError::from)?;
        let (version, providers, sealed) =
            found.ok_or_else(|| SecretError::NotFound(format!("there is no secret `{secret_id}`")))?;
        if !may_use(providers.as_deref(), provider)? {
            let refused = format!("secret `{secret_id}` may not be used by provider `{provider}`");
            return Err(SecretError::Denied(refused));
        }
        // What was opened has the providers in its context: somebody who edits the database cannot widen them.
        let value = self.open(&external(&arn, &version, providers.as_deref()), &sealed).await?;
        reference.select(value).ok_or_else(|| {
            SecretError::NotFound(format!("secret `{secret_id}` has no text under `{json_key}`"))
        })
    }

    async fn reseal(&self) -> Result<usize, SecretError> {
        let (ours, theirs) = self.database.read(|connection| {
            let ours = connection
                .prepare("SELECT arn, version, sealed FROM secrets")?
                .query_map([], |row| {
                    let stored = StoredSecret { arn: row.get(0)?, version: row.get(1)? };
                    Ok((managed(&stored), row.get(2)?))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            let theirs = connection
                .prepare("SELECT arn, version, providers, sealed FROM external_secrets")?
                .query_map([], |row| {
                    let (arn, version): (String, String) = (row.get(0)?, row.get(1)?);
                    let providers: Option<String> = row.get(2)?;
                    Ok((external(&arn, &version, providers.as_deref()), row.get(3)?))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()?;
            Ok((ours, theirs))
        })?;
        let sealer = &*self.sealer;
        let ours = reseal(&self.database, sealer, "secrets", ours).await;
        let theirs = reseal(&self.database, sealer, "external_secrets", theirs).await;
        Ok(ours? + theirs?)
    }
}

/// Seals under the current version of the vault key what older ones have sealed, of a table's values with what each is bound to.
pub(crate) async fn reseal(
    database: &Database,
    sealer: &dyn Sealer,
    table: &'static str,
    values: Vec<(Context, Vec<u8>)>,
) -> Result<usize, SecretError> {
    let current = sealer.key_versions(Purpose::Secret).await?.last().copied();
    let (mut resealed, mut broken) = (0, 0);
    for (context, old) in values {
        if sealer.key_version(&old) >= current {
            continue;
        }
        let opened = match sealer.open(Purpose::Secret, &context, &old).await {
            // One must not be in the way of all after it.
            Err(SealError::Broken | SealError::Lost) => {
                broken += 1;
                continue;
            }
            opened => opened?,
        };
        let anew = sealer.seal(Purpose::Secret, &context, &opened).await?;
        // No two sealed values are the same; one that was put or removed meanwhile is left alone.
        resealed += database
            .write(move |connection| {
                connection
                    .execute(&format!("UPDATE {table} SET sealed = ?1 WHERE sealed = ?2"), params![anew, old])
                    .map_err(store_error)
            })
            .await?;
    }
    if broken > 0 {
        return Err(SecretError::Failed(format!(
            "{broken} values of `{table}` do not open; {resealed} were resealed"
        )));
    }
    Ok(resealed)
}

fn managed(stored: &StoredSecret) -> Context {
    Context::new("secret", [stored.arn.as_bytes(), stored.version.as_bytes()])
}

fn external(arn: &str, version: &str, providers: Option<&str>) -> Context {
    let providers = providers.unwrap_or_default();
    Context::new("external secret", [arn.as_bytes(), version.as_bytes(), providers.as_bytes()])
}

/// A pattern of providers as it is stored: JSON, which is how `core` writes it.
pub(crate) fn stored_pattern(providers: Option<&Pattern>) -> Result<Option<String>, SecretError> {
    providers.map(serde_json::to_string).transpose().map_err(|error| SecretError::Failed(error.to_string()))
}

/// Whether a stored pattern, or its absence, lets this provider in (D2).
pub(crate) fn may_use(providers: Option<&str>, provider: &ProviderName) -> Result<bool, SecretError> {
    let pattern: Option<Pattern> = providers
        .map(serde_json::from_str)
        .transpose()
        .map_err(|error| SecretError::Failed(format!("a pattern of providers is broken: {error}")))?;
    Ok(pattern.is_none_or(|pattern| pattern.matches(provider.as_str())))
}
