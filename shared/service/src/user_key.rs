//! Users' own keys: wrapped by the vault key, and found again by the version that wrapped them (D19, ADR 0029).

use agent_identity_core::record::{self, Stored};
use agent_identity_core::seal::{Context, Key32, Purpose, SealError};
use agent_identity_core::store::{Condition, Consistency, Key, Kind, MAX_BATCH, Query, StoreError, Write};
use agent_identity_core::user::UserKey;
use agent_identity_core::{Error, Result, encoding, random};

use crate::Services;
use crate::vault::unsealed;

/// Into how many partitions the entries of a version are spread: new users are written to all of them.
pub(crate) const SHARDS: u8 = 16;

/// How often one key is tried while others write its rows.
const ATTEMPTS: usize = 4;

/// A user's key as it is stored: wrapped by the vault key. Deleting the row is the shred.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct WrappedUserKey {
    wrapped: String,
    /// Whether it has an entry under the version that wraps it. Those of the first releases have none until they are read.
    #[serde(default)]
    entered: bool,
    /// Whether it took the place of one that was lost (ADR 0036).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    replaces_lost: bool,
}

/// A user's key, unwrapped.
#[derive(Clone)]
pub(crate) struct HeldKey {
    pub(crate) key: Key32,
    /// Whether it took the place of one that was lost: what it does not open was sealed by that.
    pub(crate) replaces_lost: bool,
}

/// What became of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The key is wrapped by the current version now, and its entry says so.
    Resealed,
    /// The key is lost, and with it what it has sealed. The entry is deleted.
    Lost,
    /// There was nothing to do but to delete the entry: the key is gone, or had been resealed.
    Stale,
    /// Others kept writing its rows: it is for the next sweep.
    Contended,
}

fn address(user: UserKey) -> Key {
    Key::single(Kind::UserKey, user.to_string())
}

fn context(user: UserKey) -> Context {
    Context::new("user key", [user.as_bytes().as_slice()])
}

/// Where the entries are of the users in this shard whose keys this version wraps. No user's text form has a `#`.
fn group(version: u32, shard: u8) -> String {
    format!("wrapped-under#{version:010}#{shard:02}")
}

/// The entry of a user whose key this version wraps.
fn entry(version: u32, user: UserKey) -> Key {
    let [first, ..] = user.as_bytes();
    Key::of(Kind::UserKey, group(version, first % SHARDS), user.to_string())
}

fn enter(version: u32, user: UserKey, condition: Condition) -> Result<Write> {
    record::put(entry(version, user), condition, &user, None, None)
}

impl Services {
    /// The user's key; made when there is none. Who is about to call a provider asks for it before, so that what comes back
    /// can be sealed whatever the store is doing then.
    pub(crate) async fn user_vault_key(&self, user: UserKey) -> Result<Key32> {
        for _ in 0..ATTEMPTS {
            if let Some(held) = self.held_user_key(user, Consistency::Strong).await? {
                return Ok(held.key);
            }
            self.replace_lost_key(user).await?;
        }
        Err(Error::internal("a user key that was lost could not be replaced"))
    }

    /// The user's key, for opening what it has sealed: then its row is there, and was from the start what it is. None when it is
    /// lost with the vault key over it.
    pub(crate) async fn opening_user_key(&self, user: UserKey) -> Result<Option<HeldKey>> {
        self.held_user_key(user, Consistency::Eventual).await
    }

    async fn held_user_key(&self, user: UserKey, consistency: Consistency) -> Result<Option<HeldKey>> {
        let held = self.caches.user_keys.get(&user, self.read_user_key(user, consistency)).await?;
        if held.is_none() {
            // It may be replaced at any time.
            self.caches.user_keys.forget(&user).await;
        }
        Ok(held)
    }

    /// From the store, whatever is in memory or on its way there.
    pub(crate) async fn read_user_key(
        &self,
        user: UserKey,
        mut consistency: Consistency,
    ) -> Result<Option<HeldKey>> {
        // An entry that a deleted key has left behind is taken over; that there is none is the rule, and not asked.
        let mut entry_may_be_there = false;
        loop {
            let stored: Option<Stored<WrappedUserKey>> =
                record::get(&*self.ports.store, &address(user), consistency).await?;
            if let Some(stored) = stored {
                let wrapped = unsealed(&stored.value.wrapped)?;
                let key = match self.unwrap_user_key(user, &wrapped).await {
                    Ok(key) => key,
                    Err(SealError::Lost) if consistency == Consistency::Eventual => {
                        consistency = Consistency::Strong;
                        continue;
                    }
                    Err(SealError::Lost) => return Ok(None),
                    Err(error) => return Err(error.into()),
                };
                if !stored.value.entered {
                    self.enter_user_key(&stored, user, &wrapped).await;
                }
                return Ok(Some(HeldKey { key, replaces_lost: stored.value.replaces_lost }));
            }
            if consistency == Consistency::Eventual {
                consistency = Consistency::Strong;
                continue;
            }
            let (fresh, version, value) = self.fresh_user_key(user).await?;
            let mut writes = vec![record::create(address(user), &value, None)?];
            if let Some(version) = version {
                let condition = if entry_may_be_there {
                    self.entry_as_it_is(version, user).await?
                } else {
                    Condition::Absent
                };
                writes.push(enter(version, user, condition)?);
            }
            match self.ports.store.write(writes).await {
                Ok(()) => return Ok(Some(HeldKey { key: fresh, replaces_lost: false })),
                Err(StoreError::Conflict(_)) => entry_may_be_there = true,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A new key for a user, the version of the vault key that wraps it, and its row.
    async fn fresh_user_key(&self, user: UserKey) -> Result<(Key32, Option<u32>, WrappedUserKey)> {
        let fresh = Key32::new(random::bytes::<32>(&*self.ports.random));
        let wrapped = self.ports.sealer.seal(Purpose::Vault, &context(user), fresh.expose()).await?;
        let version = self.ports.sealer.key_version(&wrapped);
        let value = WrappedUserKey {
            wrapped: encoding::base64url(wrapped),
            entered: version.is_some(),
            replaces_lost: false,
        };
        Ok((fresh, version, value))
    }

    /// Gives a user whose key is lost another, in its place: nothing of it can be opened again. That others did so meanwhile is as good.
    async fn replace_lost_key(&self, user: UserKey) -> Result<()> {
        let stored: Option<Stored<WrappedUserKey>> =
            record::get(&*self.ports.store, &address(user), Consistency::Strong).await?;
        let Some(stored) = stored else { return Ok(()) };
        let lost = unsealed(&stored.value.wrapped)?;
        if !matches!(self.unwrap_user_key(user, &lost).await, Err(SealError::Lost)) {
            return Ok(());
        }
        let (_, version, value) = self.fresh_user_key(user).await?;
        let value = WrappedUserKey { replaces_lost: true, ..value };
        let mut writes = vec![stored.replace(&value, None, None)?];
        if let Some(version) = version {
            writes.push(enter(version, user, self.entry_as_it_is(version, user).await?)?);
        }
        match self.ports.store.write(writes).await {
            Ok(()) | Err(StoreError::Conflict(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn unwrap_user_key(&self, user: UserKey, wrapped: &[u8]) -> Result<Key32, SealError> {
        let bytes = self.ports.sealer.open(Purpose::Vault, &context(user), wrapped).await?;
        <[u8; 32]>::try_from(bytes.as_slice()).map(Key32::new).map_err(|_length| SealError::Broken)
    }

    async fn entry_as_it_is(&self, version: u32, user: UserKey) -> Result<Condition> {
        let row = self.ports.store.get(&entry(version, user), Consistency::Strong).await?;
        Ok(row.map_or(Condition::Absent, |row| Condition::Version(row.version)))
    }

    /// Gives a key of before its entry. Whoever reads the key does not depend on it: the next to read it tries again.
    async fn enter_user_key(&self, stored: &Stored<WrappedUserKey>, user: UserKey, wrapped: &[u8]) {
        let Some(version) = self.ports.sealer.key_version(wrapped) else { return };
        let entered = async {
            let value = WrappedUserKey { entered: true, ..stored.value.clone() };
            let condition = self.entry_as_it_is(version, user).await?;
            let writes = vec![stored.replace(&value, None, None)?, enter(version, user, condition)?];
            self.ports.store.write(writes).await.map_err(Error::from)
        };
        if let Err(error) = entered.await {
            tracing::debug!(%user, %error, "a user key has no entry yet");
        }
    }

    /// Users whose keys this version wraps, of one shard, after one of them: [`MAX_BATCH`] of them, if there are so many.
    pub(crate) async fn users_under(
        &self,
        version: u32,
        shard: u8,
        after: Option<String>,
    ) -> Result<Vec<UserKey>> {
        let (kind, partition, limit) = (Kind::UserKey, group(version, shard), MAX_BATCH);
        let query = Query { kind, partition, after, limit };
        let rows = self.ports.store.query(query).await?;
        rows.iter().map(|row| Ok(record::parse::<UserKey>(row)?.value)).collect()
    }

    /// Wraps the user's key by the current version, if `version` wraps it, and moves its entry, in one transaction. The key
    /// itself stays what it is, so that nothing that it has sealed is touched, and no reader notices.
    pub(crate) async fn reseal_user_key(&self, version: u32, user: UserKey) -> Result<Moved> {
        let sealer = &*self.ports.sealer;
        for _ in 0..ATTEMPTS {
            let Some(row) = self.ports.store.get(&entry(version, user), Consistency::Strong).await? else {
                return Ok(Moved::Stale);
            };
            let leave = Write::Delete { key: row.key, version: row.version };
            let stored: Option<Stored<WrappedUserKey>> =
                record::get(&*self.ports.store, &address(user), Consistency::Strong).await?;
            let (writes, moved) = match stored {
                Some(stored) => {
                    let wrapped = unsealed(&stored.value.wrapped)?;
                    let opened = match sealer.key_version(&wrapped) {
                        Some(by) if by == version => Some(self.unwrap_user_key(user, &wrapped).await),
                        _ => None,
                    };
                    if matches!(opened, Some(Err(SealError::Lost))) {
                        self.lose_connections_of(user).await?;
                        (vec![leave, stored.check()], Moved::Lost)
                    } else if let Some(key) = opened.transpose()? {
                        let anew = sealer.seal(Purpose::Vault, &context(user), key.expose()).await?;
                        let now_under = sealer.key_version(&anew).filter(|now| *now > version);
                        let now_under = now_under.ok_or_else(|| Error::internal("no newer vault key"))?;
                        let wrapped = encoding::base64url(anew);
                        let value = WrappedUserKey { wrapped, entered: true, ..stored.value.clone() };
                        let condition = self.entry_as_it_is(now_under, user).await?;
                        let writes = vec![
                            stored.replace(&value, None, None)?,
                            leave,
                            enter(now_under, user, condition)?,
                        ];
                        (writes, Moved::Resealed)
                    } else {
                        (vec![leave, stored.check()], Moved::Stale)
                    }
                }
                None => {
                    let absent = Write::Check { key: address(user), condition: Condition::Absent };
                    (vec![leave, absent], Moved::Stale)
                }
            };
            match self.ports.store.write(writes).await {
                Ok(()) => return Ok(moved),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Moved::Contended)
    }
}
