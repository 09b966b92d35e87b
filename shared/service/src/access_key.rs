//! Access keys of our own: who signs requests where IAM does not (D1, D21).

use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::access_key::{AccessKey, AccessKeySecrets};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Grant, Principal};
use agent_identity_core::record::{self, Stored};
use agent_identity_core::seal::{Context, Purpose, SealError};
use agent_identity_core::store::{Consistency, DIRECTORY, Key, Kind, StoreError};
use agent_identity_core::{Error, Result, Secret, Timestamp, encoding, random};

use crate::Services;
use crate::page::each_row;
use crate::vault::unsealed;

/// An access key with its secrets, for verifying signatures.
#[derive(Clone, Debug)]
pub struct LiveKey {
    /// The record.
    pub key: AccessKey,
    /// Its secrets.
    pub secrets: AccessKeySecrets,
}

/// A new access key, shown once.
#[derive(Clone, Debug)]
pub struct NewAccessKey {
    /// The public half.
    pub id: String,
    /// The secret half.
    pub secret_access_key: Secret,
    /// Of a temporary key.
    pub session_token: Option<Secret>,
    /// Who signs with it.
    pub principal: String,
    /// When it ends, for a temporary key.
    pub expires_at: Option<Timestamp>,
}

/// What a new access key shall be.
#[derive(Clone, Debug)]
pub struct AccessKeyRequest {
    /// The principal will be called `access-key/NAME`.
    pub name: String,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// How long it lives; `None` for good.
    pub life: Option<Duration>,
    /// Whether it is the pair that `serve` makes for itself (D21).
    pub loopback_only: bool,
}

/// The name of the key that `serve` makes for itself (D21).
pub const DEFAULT_NAME: &str = "default";

/// Letters of access key ids, as AWS's (RFC 4648 base 32).
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// What binds the secrets of an access key to it.
fn context(id: &str) -> Context {
    Context::new("access key", [id.as_bytes()])
}

/// A temporary key's row outlives the key by a day, so that its user is told `expired` and not `unknown`.
fn row_ends(key: &AccessKey) -> Option<Timestamp> {
    key.expires_at.map(|end| end.plus(Duration::from_secs(86_400)))
}

impl Services {
    /// Makes an access key. Only a process that holds the store and its master key can call this; there is no operation
    /// for it on the wire.
    ///
    /// # Errors
    /// `Conflict` when another key has this name; `Validation` for a name that is none.
    pub async fn create_access_key(&self, request: AccessKeyRequest) -> Result<NewAccessKey> {
        let AccessKeyRequest { name, grants, life, loopback_only } = request;
        let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        if name.is_empty() || name.len() > 128 || !name.chars().all(plain) {
            return Err(Error::field("name", "must have 1 to 128 characters of [A-Za-z0-9_.-]"));
        }
        if name == DEFAULT_NAME && !loopback_only {
            return Err(Error::field(
                "name",
                "`default` is the name of the key that `serve` makes for itself",
            ));
        }
        let principal = format!("access-key/{name}");
        if self.list_access_keys().await?.iter().any(|key| key.value.principal.name == principal) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "there is already an access key named `{name}`; revoke it first, or take another name"
                ),
            ));
        }
        let prefix = if life.is_some() { "ASIA" } else { "AKIA" };
        let id: String = random::bytes::<16>(&*self.ports.random)
            .iter()
            .filter_map(|byte| LETTERS.get(usize::from(byte % 32)))
            .map(|letter| char::from(*letter))
            .collect();
        let id = format!("{prefix}{id}");
        let secrets = AccessKeySecrets {
            secret_access_key: Secret::new(encoding::base64url(random::bytes::<30>(&*self.ports.random))),
            session_token: life
                .map(|_| Secret::new(encoding::base64url(random::bytes::<48>(&*self.ports.random)))),
        };
        let now = self.now();
        let expires_at = life.map(|life| now.plus(life));
        let plaintext = serde_json::to_vec(&secrets).map_err(Error::internal)?;
        let sealed = self.ports.sealer.seal(Purpose::AccessKey, &context(&id), &plaintext).await?;
        let key = AccessKey {
            id: id.clone(),
            principal: Principal { name: principal.clone(), grants },
            sealed: encoding::base64url(sealed),
            loopback_only,
            created_at: now,
            expires_at,
        };
        let write = record::create(Key::directory(Kind::AccessKey, &id), &key, row_ends(&key))?;
        self.ports.store.write(vec![write]).await?;
        Ok(NewAccessKey {
            id,
            secret_access_key: secrets.secret_access_key,
            session_token: secrets.session_token,
            principal,
            expires_at,
        })
    }

    /// All access keys, without their secrets, by id.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list_access_keys(&self) -> Result<Vec<Stored<AccessKey>>> {
        let mut keys = Vec::new();
        each_row(&*self.ports.store, Kind::AccessKey, DIRECTORY, |row| {
            keys.push(record::parse(row)?);
            Ok(())
        })
        .await?;
        Ok(keys)
    }

    /// Revokes the access key with this id or name. Running processes stop taking it within their cache's life.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn revoke_access_key(&self, id_or_name: &str) -> Result<AccessKey> {
        let principal = format!("access-key/{id_or_name}");
        let found = self
            .list_access_keys()
            .await?
            .into_iter()
            .find(|key| key.value.id == id_or_name || key.value.principal.name == principal)
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    format!("there is no access key with the id or name `{id_or_name}`"),
                )
            })?;
        match self.ports.store.write(vec![found.delete()]).await {
            // Somebody else revoked it at the same time: it is gone, as asked.
            Ok(()) | Err(StoreError::Conflict(_)) => {}
            Err(error) => return Err(error.into()),
        }
        self.caches.access_keys.forget(&found.value.id).await;
        Ok(found.value)
    }

    /// The access key with this id, for verifying a signature; `None` if there is none.
    ///
    /// # Errors
    /// Those of the store and the vault.
    pub async fn access_key(&self, id: &str) -> Result<Option<Arc<LiveKey>>> {
        // What cannot be an id is not looked up, and not remembered.
        if id.len() != 20 || !id.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
            return Ok(None);
        }
        let read = async {
            let stored: Option<Stored<AccessKey>> =
                record::get(&*self.ports.store, &Key::directory(Kind::AccessKey, id), Consistency::Eventual)
                    .await?;
            let key = stored.ok_or_else(|| Error::new(ErrorKind::NotFound, "no such access key"))?.value;
            let sealed = encoding::unbase64url(&key.sealed)
                .ok_or_else(|| Error::internal("an access key's secrets are not base64url"))?;
            let opened = self.ports.sealer.open(Purpose::AccessKey, &context(id), &sealed).await;
            if matches!(opened, Err(SealError::Lost)) {
                tracing::warn!(id, "an access key is lost with the vault key over it; make another");
                return Err(Error::new(ErrorKind::NotFound, "this access key is lost"));
            }
            let plaintext = opened?;
            let secrets = serde_json::from_slice(&plaintext).map_err(Error::internal)?;
            Ok(Arc::new(LiveKey { key, secrets }))
        };
        match self.caches.access_keys.get(id, read).await {
            Ok(key) => Ok(Some(key)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Seals the secrets of access keys under the current version of their vault key where an older one has; how many, and how many
    /// are lost with that version. A key that was written or revoked meanwhile is left to the next call.
    ///
    /// # Errors
    /// Those of the store and the vault.
    pub(crate) async fn reseal_access_keys(&self) -> Result<(usize, usize)> {
        let sealer = &*self.ports.sealer;
        let current = sealer.key_versions(Purpose::AccessKey).await?.last().copied();
        let (mut resealed, mut lost) = (0, 0);
        for stored in self.list_access_keys().await? {
            let sealed = unsealed(&stored.value.sealed)?;
            if sealer.key_version(&sealed) >= current {
                continue;
            }
            let context = context(&stored.value.id);
            let plaintext = match sealer.open(Purpose::AccessKey, &context, &sealed).await {
                Err(SealError::Lost) => {
                    lost += 1;
                    continue;
                }
                opened => opened?,
            };
            let sealed = encoding::base64url(sealer.seal(Purpose::AccessKey, &context, &plaintext).await?);
            let key = AccessKey { sealed, ..stored.value.clone() };
            match self.ports.store.write(vec![stored.replace(&key, row_ends(&key), None)?]).await {
                Ok(()) => resealed += 1,
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok((resealed, lost))
    }
}
