//! Sealing tokens: under the user's own key for connections, under the vault key for tokens of no user (D19).

use agent_identity_core::connection::{Connection, TokenMaterial};
use agent_identity_core::record::{self, Stored};
use agent_identity_core::seal::{Context, Key32, Purpose};
use agent_identity_core::store::{Consistency, Key, Kind, StoreError};
use agent_identity_core::user::UserKey;
use agent_identity_core::{Error, Result, encoding, random};

use crate::Services;

/// A user's key as it is stored: wrapped by the vault key. Deleting the row is the shred.
#[derive(serde::Serialize, serde::Deserialize)]
struct WrappedUserKey {
    wrapped: String,
}

fn unsealed(text: &str) -> Result<Vec<u8>> {
    encoding::unbase64url(text).ok_or_else(|| Error::internal("a sealed value is not base64url"))
}

/// What binds the tokens of a connection to it: moved to another row, generation or account, they do not open.
fn connection_context(connection: &Connection, generation: u64) -> Context {
    Context::new(
        "connection tokens",
        [
            connection.workload.as_bytes().as_slice(),
            connection.user.as_bytes(),
            connection.provider.as_bytes(),
            connection.target.as_bytes(),
            &connection.provider_generation.to_be_bytes(),
            &generation.to_be_bytes(),
        ],
    )
}

fn client_context(key: &Key, generation: u64) -> Context {
    Context::new("client token", [key.partition.as_bytes(), &generation.to_be_bytes()])
}

impl Services {
    /// The user's key; made when there is none. Who is about to call a provider asks for it before, so that what comes back
    /// can be sealed whatever the store is doing then.
    pub(crate) async fn user_vault_key(&self, user: UserKey) -> Result<Key32> {
        self.caches.user_keys.get(&user, self.read_user_key(user, Consistency::Strong)).await
    }

    /// The user's key, for opening what it has sealed: then its row is there, and was from the start what it is.
    pub(crate) async fn opening_user_key(&self, user: UserKey) -> Result<Key32> {
        self.caches.user_keys.get(&user, self.read_user_key(user, Consistency::Eventual)).await
    }

    async fn read_user_key(&self, user: UserKey, mut consistency: Consistency) -> Result<Key32> {
        let key = Key::single(Kind::UserKey, user.to_string());
        let context = Context::new("user key", [user.as_bytes().as_slice()]);
        loop {
            let stored: Option<Stored<WrappedUserKey>> =
                record::get(&*self.ports.store, &key, consistency).await?;
            if let Some(stored) = stored {
                let wrapped = unsealed(&stored.value.wrapped)?;
                let bytes = self.ports.sealer.open(Purpose::Vault, &context, &wrapped).await?;
                let bytes = <[u8; 32]>::try_from(bytes.as_slice())
                    .map_err(|_length| Error::internal("a user key is not 32 bytes"))?;
                return Ok(Key32::new(bytes));
            }
            if consistency == Consistency::Eventual {
                consistency = Consistency::Strong;
                continue;
            }
            let fresh = random::bytes::<32>(&*self.ports.random);
            let wrapped = self.ports.sealer.seal(Purpose::Vault, &context, &fresh).await?;
            let value = WrappedUserKey { wrapped: encoding::base64url(wrapped) };
            match self.ports.store.write(vec![record::create(key.clone(), &value, None)?]).await {
                Ok(()) => return Ok(Key32::new(fresh)),
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Seals the tokens of a connection under its user's key, as they will be in generation `generation`.
    pub(crate) fn seal_connection(
        &self,
        key: &Key32,
        connection: &Connection,
        generation: u64,
        material: &TokenMaterial,
    ) -> Result<String> {
        let plaintext = zeroize_json(material)?;
        let context = connection_context(connection, generation);
        Ok(encoding::base64url(self.ports.sealer.seal_with(key, &context, &plaintext)))
    }

    /// Opens the tokens of a connection with its user's key.
    pub(crate) fn open_connection(&self, key: &Key32, connection: &Connection) -> Result<TokenMaterial> {
        let context = connection_context(connection, connection.tokens.generation);
        let sealed = unsealed(&connection.tokens.sealed)?;
        let plaintext = self.ports.sealer.open_with(key, &context, &sealed)?;
        serde_json::from_slice(&plaintext)
            .map_err(|_hidden| Error::internal("a connection's tokens are broken"))
    }

    /// Sees to it that a client-credentials token can be sealed: its vault key is there, and in memory. Done before the provider
    /// is called, as [`Services::user_vault_key`].
    pub(crate) async fn ready_to_seal(&self) -> Result<()> {
        let nothing = Context::new("nothing", []);
        self.ports.sealer.seal(Purpose::Vault, &nothing, &[]).await.map(drop).map_err(Error::from)
    }

    /// Seals a client-credentials token, which is nowhere else: should the vault key have gone from memory meanwhile, it is
    /// asked for again and again.
    pub(crate) async fn seal_client_token(
        &self,
        key: &Key,
        generation: u64,
        material: &TokenMaterial,
    ) -> Result<String> {
        let plaintext = zeroize_json(material)?;
        let context = client_context(key, generation);
        let sealed = self.insist(|| self.ports.sealer.seal(Purpose::Vault, &context, &plaintext)).await?;
        Ok(encoding::base64url(sealed))
    }

    /// Opens a client-credentials token.
    pub(crate) async fn open_client_token(
        &self,
        key: &Key,
        generation: u64,
        sealed: &str,
    ) -> Result<TokenMaterial> {
        let context = client_context(key, generation);
        let plaintext = self.ports.sealer.open(Purpose::Vault, &context, &unsealed(sealed)?).await?;
        serde_json::from_slice(&plaintext).map_err(|_hidden| Error::internal("a client token is broken"))
    }

    /// Seals something of a consent session, bound to the session's row.
    pub(crate) async fn seal_consent(&self, what: &str, session: &Key, plaintext: &[u8]) -> Result<String> {
        let context = Context::new(what, [session.partition.as_bytes()]);
        Ok(encoding::base64url(self.ports.sealer.seal(Purpose::Consent, &context, plaintext).await?))
    }

    /// Opens what [`Services::seal_consent`] made.
    pub(crate) async fn open_consent(
        &self,
        what: &str,
        session: &Key,
        sealed: &str,
    ) -> Result<zeroize::Zeroizing<Vec<u8>>> {
        let context = Context::new(what, [session.partition.as_bytes()]);
        Ok(self.ports.sealer.open(Purpose::Consent, &context, &unsealed(sealed)?).await?)
    }
}

/// JSON of something secret, wiped when dropped.
pub(crate) fn zeroize_json(value: &impl serde::Serialize) -> Result<zeroize::Zeroizing<Vec<u8>>> {
    serde_json::to_vec(value).map(zeroize::Zeroizing::new).map_err(Error::internal)
}
