//! The master key of a data directory: a file that only its owner can read, from which all other keys hang.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use agent_identity_core::encoding::{base64url, hex, length_prefixed, unbase64url};
use agent_identity_core::random::{self, Random};
use agent_identity_core::seal::{Key32, KeyWrapper, SealError};
use agent_identity_core::store::StoreError;
use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use rusqlite::OptionalExtension as _;
use zeroize::Zeroizing;

use crate::SystemRandom;
use crate::database::{Database, store_error};

#[cfg(test)]
mod tests;

/// The name of the file.
const FILE: &str = "master.key";

/// Begins the file's one line, and says how to read the rest: base64url of 32 bytes.
const PREFIX: &str = "agent-identity-master-key-1:";

/// The salt of every derivation from a master key (RFC 5869 §3.1: any constant separates us from other programs).
const SALT: &[u8] = b"agent-identity master key";

/// What the database remembers of its master key.
const FINGERPRINT: &str = "master-key-fingerprint";

/// Why there is no master key to work with.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    /// The system refuses.
    #[error("the master key `{}` cannot be used: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others could read it, and may have done so.
    #[error(
        "others can read the master key `{}` (mode {mode:03o}); mend it with `chmod 600 {}`, and make a new data directory if \
         somebody may have read it",
        path.display(), path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file holds something else, or a part.
    #[error("`{}` is not a master key; restore it from a backup", .0.display())]
    Malformed(PathBuf),
    /// The database was made with a key that is not there.
    #[error("the master key `{}` is missing, and what the database holds opens with it alone; restore it from a backup", .0.display())]
    Missing(PathBuf),
    /// The database was made with another key.
    #[error("`{}` is not the master key that the database was made with; restore the right one from a backup", .0.display())]
    Another(PathBuf),
    /// The database does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The master key. It wraps the vault keys and gives keys for other purposes by derivation; itself it encrypts nothing.
#[derive(Clone, Debug)]
pub struct MasterKey(Key32);

impl MasterKey {
    /// The master key of the database's directory. At the first start it is made; two processes that start at the same time
    /// end up with the same one. A key that does not belong to the database is refused.
    ///
    /// # Errors
    /// [`MasterKeyError`].
    pub async fn open(database: &Database) -> Result<Self, MasterKeyError> {
        let directory = database.directory();
        // Asked before the file is looked for: who stored a fingerprint had made the file.
        let known = database.read(|connection| {
            connection
                .query_row("SELECT value FROM facts WHERE name = ?1", [FINGERPRINT], |row| {
                    row.get::<_, Vec<u8>>(0)
                })
                .optional()
        })?;
        let path = directory.join(FILE);
        let key = match Self::load(directory) {
            Err(MasterKeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if known.is_some() {
                    return Err(MasterKeyError::Missing(path));
                }
                create(directory).map_err(|source| MasterKeyError::Io { path: path.clone(), source })?;
                Self::load(directory)?
            }
            loaded => loaded?,
        };
        let fingerprint = key.derive("fingerprint").expose().to_vec();
        let known = match known {
            Some(known) => known,
            None => remember(database, fingerprint.clone()).await?,
        };
        if known != fingerprint {
            return Err(MasterKeyError::Another(path));
        }
        Ok(key)
    }

    /// The master key of a data directory that has one, for tools that do not open the database.
    ///
    /// # Errors
    /// [`MasterKeyError::Io`], [`MasterKeyError::Exposed`], [`MasterKeyError::Malformed`].
    pub fn load(directory: &Path) -> Result<Self, MasterKeyError> {
        let path = directory.join(FILE);
        let io = |source| MasterKeyError::Io { path: path.clone(), source };
        let file = File::open(&path).map_err(io)?;
        let mode = file.metadata().map_err(io)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(MasterKeyError::Exposed { path, mode });
        }
        let mut text = Zeroizing::new(String::with_capacity(128));
        file.take(128).read_to_string(&mut text).map_err(io)?;
        let key =
            text.strip_prefix(PREFIX).and_then(|rest| unbase64url(rest.trim_ascii_end())).map(Zeroizing::new);
        match key.as_deref().map(|bytes| <[u8; 32]>::try_from(bytes.as_slice())) {
            Some(Ok(bytes)) => Ok(Self(Key32::new(bytes))),
            _ => Err(MasterKeyError::Malformed(path)),
        }
    }

    /// A key for one purpose: HKDF-SHA256 (RFC 5869) with the label as its info. The same label gives the same key.
    pub fn derive(&self, label: &str) -> Key32 {
        let mut key = Zeroizing::new([0; 32]);
        let prk = Salt::new(HKDF_SHA256, SALT).extract(self.0.expose());
        let filled = prk.expand(&[label.as_bytes()], Length32).and_then(|okm| okm.fill(key.as_mut_slice()));
        if filled.is_err() {
            // Only a length beyond 255 blocks fails (RFC 5869 §2.3), and this is one.
            tracing::error!("HKDF failed");
            std::process::abort();
        }
        Key32::new(*key)
    }

    fn cipher(&self) -> Result<RandomizedNonceKey, SealError> {
        RandomizedNonceKey::new(&AES_256_GCM, self.derive("wrap").expose())
            .map_err(|_| SealError::KeyUnavailable("the master key does not make a cipher".to_owned()))
    }
}

/// Begins a wrapped key; another number would say another form.
const WRAPPED: u8 = 1;

#[async_trait]
impl KeyWrapper for MasterKey {
    /// Form, nonce, then AES-256-GCM of the key.
    async fn wrap(&self, key: &Key32, context: &[(&str, &str)]) -> Result<Vec<u8>, SealError> {
        let mut sealed = Zeroizing::new(key.expose().to_vec());
        let nonce = self
            .cipher()?
            .seal_in_place_append_tag(Aad::from(authenticated(context)), &mut *sealed)
            .map_err(|_| SealError::KeyUnavailable("the master key does not wrap".to_owned()))?;
        Ok([&[WRAPPED][..], nonce.as_ref(), &sealed].concat())
    }

    async fn unwrap_key(&self, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Key32, SealError> {
        let broken = |_| SealError::Broken;
        let rest = wrapped.strip_prefix(&[WRAPPED]).ok_or(SealError::Broken)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(broken)?;
        let mut sealed = Zeroizing::new(sealed.to_vec());
        let key = self
            .cipher()?
            .open_in_place(nonce, Aad::from(authenticated(context)), &mut sealed)
            .map_err(broken)?;
        <[u8; 32]>::try_from(&*key).map(Key32::new).map_err(|_| SealError::Broken)
    }
}

/// A context as bytes: sorted, since it is a map (as with KMS), and framed.
fn authenticated(context: &[(&str, &str)]) -> Vec<u8> {
    let mut pairs = context.to_vec();
    pairs.sort_unstable();
    length_prefixed(pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]))
}

/// Stores the fingerprint unless there is one; the one that is there afterwards.
async fn remember(database: &Database, fingerprint: Vec<u8>) -> Result<Vec<u8>, StoreError> {
    database
        .write(move |connection| {
            connection
                .execute(
                    "INSERT OR IGNORE INTO facts (name, value) VALUES (?1, ?2)",
                    (FINGERPRINT, fingerprint),
                )
                .and_then(|_| {
                    connection
                        .query_row("SELECT value FROM facts WHERE name = ?1", [FINGERPRINT], |row| row.get(0))
                })
                .map_err(store_error)
        })
        .await
}

/// Makes the file with a fresh key, whole or not at all, and never over another: a file of another name is written,
/// synced, and linked to the right name. That the name is taken is no error: somebody was faster.
fn create(directory: &Path) -> io::Result<()> {
    let key = Zeroizing::new(random::bytes::<32>(&SystemRandom));
    let line = Zeroizing::new(format!("{PREFIX}{}\n", *Zeroizing::new(base64url(key.as_slice()))));
    let mut suffix = [0; 8];
    SystemRandom.fill(&mut suffix);
    let temporary = directory.join(format!(".{FILE}.{}", hex(&suffix)));
    let linked = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        match fs::hard_link(&temporary, directory.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    })();
    let removed = fs::remove_file(&temporary);
    linked?;
    removed?;
    File::open(directory)?.sync_all()
}

/// 32 bytes, for HKDF.
struct Length32;

impl KeyType for Length32 {
    fn len(&self) -> usize {
        32
    }
}
