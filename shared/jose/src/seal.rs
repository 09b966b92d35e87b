//! [`VaultSealer`]: seals values under the versioned vault keys (D19).
//!
//! A sealed value begins with what is needed to find its key:
//! ```text
//! 1 | key version (4, big-endian) | salt | commitment | ciphertext | tag      under a vault key
//! 2 |                               salt | commitment | ciphertext | tag      under a key of the caller's
//! ```

use std::sync::Arc;

use agent_identity_core::Clock;
use agent_identity_core::random::{self, Random};
use agent_identity_core::seal::{Context, Key32, KeyWrapper, Purpose, SealError, Sealer, Wrapping};
use agent_identity_core::store::{Consistency, Key, Store};
use async_trait::async_trait;
use zeroize::Zeroizing;

mod authorizer_keys;
mod envelope;
mod ring;
#[cfg(test)]
mod tests;
mod vault_key;

pub use authorizer_keys::RootedAuthorizerKeys;
pub use ring::KEY_LIFE;
use ring::{Known, Ring, Version};

const UNDER_VAULT_KEY: u8 = 1;
const UNDER_GIVEN_KEY: u8 = 2;

/// How often creating a version is tried while other processes create the same one.
const ATTEMPTS: usize = 8;

/// The sealer over the vault keys in a [`Store`], unwrapped by a [`KeyWrapper`] and kept for [`KEY_LIFE`].
pub struct VaultSealer {
    store: Arc<dyn Store>,
    wrapper: Arc<dyn KeyWrapper>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    rings: Rings,
}

#[derive(Default)]
struct Rings {
    vault: Ring,
    wat: Ring,
    consent: Ring,
    page: Ring,
    secret: Ring,
    access_key: Ring,
}

impl VaultSealer {
    /// Reads nothing yet: keys are read, and the first version is made, on first use.
    pub fn new(
        store: Arc<dyn Store>,
        wrapper: Arc<dyn KeyWrapper>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { store, wrapper, clock, random, rings: Rings::default() }
    }

    const fn ring(&self, purpose: Purpose) -> &Ring {
        match purpose {
            Purpose::Vault => &self.rings.vault,
            Purpose::Wat => &self.rings.wat,
            Purpose::Consent => &self.rings.consent,
            Purpose::Page => &self.rings.page,
            Purpose::Secret => &self.rings.secret,
            Purpose::AccessKey => &self.rings.access_key,
        }
    }

    fn look(&self, purpose: Purpose, wanted: Option<u32>) -> Known {
        let now = self.clock.elapsed();
        match wanted {
            None => self.ring(purpose).current(now),
            Some(number) => self.ring(purpose).version(number, now),
        }
    }

    /// The wanted version, or the current one. No I/O and no waiting while it is fresh.
    async fn key(&self, purpose: Purpose, wanted: Option<u32>) -> Result<Version, SealError> {
        match self.look(purpose, wanted) {
            Known::Fresh(version) => Ok(version),
            Known::Due(version) => Ok(self.renewed(purpose, wanted).await.unwrap_or(version)),
            Known::Nonsense => Err(SealError::Broken),
            Known::Unread => self.load_in_turn(purpose, wanted).await,
        }
    }

    /// The version as renewed, unless another caller is at it, or it cannot be done now: within its life that is no error.
    async fn renewed(&self, purpose: Purpose, wanted: Option<u32>) -> Option<Version> {
        let _turn = self.ring(purpose).loading.try_lock().ok()?;
        match self.load(purpose, wanted).await {
            Ok(version) => Some(version),
            Err(error) => {
                tracing::warn!(purpose = purpose.as_str(), %error, "a vault key could not be renewed yet");
                None
            }
        }
    }

    async fn load_in_turn(&self, purpose: Purpose, wanted: Option<u32>) -> Result<Version, SealError> {
        let ring = self.ring(purpose);
        let before = ring.loads();
        let _turn = ring.loading.lock().await;
        match self.look(purpose, wanted) {
            Known::Fresh(version) | Known::Due(version) => return Ok(version),
            Known::Nonsense => return Err(SealError::Broken),
            Known::Unread => {}
        }
        // What others found while this call waited is its answer too, or each of a crowd would wait for all before it.
        match (ring.loads().saturating_sub(before), ring.failure()) {
            (1.., Some(failure)) => Err(failure),
            // The first may have begun before this call, and missed what was written in between; the second did not.
            (2.., None) if wanted.is_some_and(|number| ring.highest().is_some_and(|top| number > top)) => {
                Err(SealError::Broken)
            }
            _ => self.load(purpose, wanted).await,
        }
    }

    /// Reads and unwraps the wanted version, or the highest, which is made if there is none. The caller holds the turn.
    async fn load(&self, purpose: Purpose, wanted: Option<u32>) -> Result<Version, SealError> {
        let result = self.read_key(purpose, wanted).await;
        let failure = match &result {
            Err(error @ (SealError::KeyUnavailable(_) | SealError::Busy(_))) => Some(error.clone()),
            Ok(_) | Err(SealError::Broken | SealError::Lost) => None,
        };
        self.ring(purpose).note_load(failure, self.clock.elapsed());
        result
    }

    async fn read_key(&self, purpose: Purpose, wanted: Option<u32>) -> Result<Version, SealError> {
        let ring = self.ring(purpose);
        // The first to open something needs this one version, and the row of a version is written once.
        if let (Some(number), None) = (wanted, ring.highest()) {
            let now = self.clock.elapsed();
            let address = vault_key::address(purpose, number);
            if let Some(row) = self.store.get(&address, Consistency::Eventual).await? {
                let key = vault_key::unwrap_row(&*self.wrapper, purpose, &row).await?;
                return Ok(ring.keep(number, key, now));
            }
        }
        for _ in 0..ATTEMPTS {
            // Ages count from before the read, so that what changes while it runs is not missed for longer.
            let now = self.clock.elapsed();
            let highest = ring.highest().unwrap_or(0);
            let first = wanted.map_or(highest, |number| number.min(highest));
            let rows = vault_key::read_from(&*self.store, purpose, first).await?;
            if let Some(newest) = rows.last() {
                ring.note_current(vault_key::number(newest)?, now);
            }
            let found = match wanted {
                None => rows.last(),
                Some(wanted) => {
                    rows.iter().find(|row| vault_key::number(row).is_ok_and(|number| number == wanted))
                }
            };
            match (found, wanted) {
                (Some(row), _) => {
                    let key = vault_key::unwrap_row(&*self.wrapper, purpose, row).await?;
                    return Ok(ring.keep(vault_key::number(row)?, key, now));
                }
                (None, Some(_)) => return Err(SealError::Broken),
                (None, None) if highest > 0 => {
                    return Err(SealError::KeyUnavailable(format!(
                        "the rows of the vault key `{}` are gone",
                        purpose.as_str()
                    )));
                }
                (None, None) => {
                    if let Some(made) = self.create_version(purpose, 1).await? {
                        return Ok(made);
                    }
                }
            }
        }
        Err(contended(purpose))
    }

    /// Makes this version and keeps it; `None` when another process was first.
    async fn create_version(&self, purpose: Purpose, number: u32) -> Result<Option<Version>, SealError> {
        let ring = self.ring(purpose);
        let now = self.clock.elapsed();
        let key = Key32::new(random::bytes(&*self.random));
        let (store, wrapper) = (&*self.store, &*self.wrapper);
        if !vault_key::create(store, wrapper, purpose, number, &key, self.clock.now()).await? {
            return Ok(None);
        }
        ring.note_current(number, now);
        Ok(Some(ring.keep(number, key, now)))
    }

    /// Looks at the row of every vault key, and wraps anew what a former key has wrapped, if it is to.
    async fn walk_keys(&self, rewraps: bool) -> Result<Wrapping, SealError> {
        let (store, wrapper) = (&*self.store, &*self.wrapper);
        let mut wrapping = Wrapping::default();
        for purpose in Purpose::ALL {
            for row in vault_key::read_from(store, purpose, 0).await? {
                let now = self.clock.now();
                let is_anew = rewraps && vault_key::rewrap_row(store, wrapper, purpose, &row, now).await?;
                wrapping.rewrapped += usize::from(is_anew);
                let wrapped_at = if is_anew { Some(now) } else { vault_key::wrapped_at(&row)? };
                wrapping.changed_at = wrapping.changed_at.max(wrapped_at);
            }
        }
        Ok(wrapping)
    }

    #[expect(
        clippy::expect_used,
        reason = "it fails only without memory or beyond 64 GiB, and going on would lose what was to be kept"
    )]
    fn seal_under(&self, key: &Key32, header: &[u8], context: &Context, plaintext: &[u8]) -> Vec<u8> {
        let salt = random::bytes(&*self.random);
        envelope::seal(key, context, &salt, header, plaintext).expect("sealing a value in memory")
    }
}

/// The key version that a sealed value names, and what comes after it.
fn version_of(sealed: &[u8]) -> Option<(u32, &[u8])> {
    let [UNDER_VAULT_KEY, a, b, c, d, rest @ ..] = sealed else { return None };
    Some((u32::from_be_bytes([*a, *b, *c, *d]), rest))
}

fn contended(purpose: Purpose) -> SealError {
    SealError::KeyUnavailable(format!(
        "other processes keep making versions of the vault key `{}`",
        purpose.as_str()
    ))
}

#[async_trait]
impl Sealer for VaultSealer {
    async fn seal(
        &self,
        purpose: Purpose,
        context: &Context,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let version = self.key(purpose, None).await?;
        let [a, b, c, d] = version.number.to_be_bytes();
        Ok(self.seal_under(&version.key, &[UNDER_VAULT_KEY, a, b, c, d], context, plaintext))
    }

    async fn open(
        &self,
        purpose: Purpose,
        context: &Context,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (number, rest) = version_of(sealed).ok_or(SealError::Broken)?;
        let version = self.key(purpose, Some(number)).await?;
        envelope::open(&version.key, context, rest)
    }

    fn unread_key(&self, purpose: Purpose, sealed: &[u8]) -> Option<Key> {
        let (number, _) = version_of(sealed)?;
        match self.look(purpose, Some(number)) {
            Known::Unread => Some(vault_key::address(purpose, number)),
            Known::Fresh(_) | Known::Due(_) | Known::Nonsense => None,
        }
    }

    fn key_version(&self, sealed: &[u8]) -> Option<u32> {
        version_of(sealed).map(|(number, _)| number)
    }

    async fn rotate(&self, purpose: Purpose) -> Result<u32, SealError> {
        let ring = self.ring(purpose);
        let _turn = ring.loading.lock().await;
        for _ in 0..ATTEMPTS {
            let rows = vault_key::read_from(&*self.store, purpose, ring.highest().unwrap_or(0)).await?;
            let newest = rows.last().map(vault_key::number).transpose()?;
            if let Some(made) = self.create_version(purpose, newest.unwrap_or(0).saturating_add(1)).await? {
                return Ok(made.number);
            }
        }
        Err(contended(purpose))
    }

    async fn key_versions(&self, purpose: Purpose) -> Result<Vec<u32>, SealError> {
        let now = self.clock.elapsed();
        let rows = vault_key::read_from(&*self.store, purpose, 0).await?;
        let versions = rows.iter().map(vault_key::number).collect::<Result<Vec<_>, _>>()?;
        if let Some(newest) = versions.last() {
            self.ring(purpose).note_current(*newest, now);
        }
        Ok(versions)
    }

    async fn give_up_lost_keys(&self) -> Result<usize, SealError> {
        let (store, wrapper) = (&*self.store, &*self.wrapper);
        let (mut lost, mut headless) = (Vec::new(), Vec::new());
        for purpose in Purpose::ALL {
            let mut is_newest_lost = false;
            for row in vault_key::read_from(store, purpose, 0).await? {
                is_newest_lost = vault_key::is_newly_lost(wrapper, purpose, &row).await?;
                if is_newest_lost {
                    lost.push(row);
                }
            }
            if is_newest_lost {
                headless.push(purpose);
            }
        }
        // The new versions first: cut off before the old ones are marked, this finds them again.
        for purpose in headless {
            self.rotate(purpose).await.map_err(|error| match error {
                SealError::KeyUnavailable(reason) => SealError::KeyUnavailable(format!(
                    "no new version of the vault key `{}` can be made under the configured key: {reason}",
                    purpose.as_str()
                )),
                other => other,
            })?;
        }
        let now = self.clock.now();
        for row in &lost {
            vault_key::mark_lost(store, row, now).await?;
        }
        Ok(lost.len())
    }

    fn wrapping_key(&self) -> Option<&str> {
        self.wrapper.key_name()
    }

    async fn rewrap_keys(&self) -> Result<Wrapping, SealError> {
        self.walk_keys(true).await
    }

    async fn wrapping(&self) -> Result<Wrapping, SealError> {
        self.walk_keys(false).await
    }

    fn seal_with(&self, key: &Key32, context: &Context, plaintext: &[u8]) -> Vec<u8> {
        self.seal_under(key, &[UNDER_GIVEN_KEY], context, plaintext)
    }

    fn open_with(
        &self,
        key: &Key32,
        context: &Context,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let [UNDER_GIVEN_KEY, rest @ ..] = sealed else { return Err(SealError::Broken) };
        envelope::open(key, context, rest)
    }
}
