//! Sealing tokens: under the user's own key for connections, under the vault key for tokens of no user (D19).

use agent_identity_core::connection::{Connection, HeldTokens, TokenMaterial};
use agent_identity_core::seal::{Context, Key32, Purpose, SealError};
use agent_identity_core::store::Key;
use agent_identity_core::{Error, Result, Secret, encoding};

use crate::Services;
use crate::user_key::HeldKey;

/// The bytes of a sealed value as it stands in a record.
pub(crate) fn unsealed(text: &str) -> Result<Vec<u8>> {
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

    /// Opens the tokens of a connection. None when they are lost: with its user's key, or before.
    pub(crate) async fn open_connection(&self, connection: &Connection) -> Result<Option<TokenMaterial>> {
        if connection.tokens.sealed.is_empty() {
            return Ok(None);
        }
        let held = self.opening_user_key(connection.user).await?;
        self.open_with_user_key(connection, held)
    }

    /// The same with a key that was read for it; none, where that is lost.
    pub(crate) fn open_with_user_key(
        &self,
        connection: &Connection,
        held: Option<HeldKey>,
    ) -> Result<Option<TokenMaterial>> {
        let Some(held) = held else { return Ok(None) };
        let context = connection_context(connection, connection.tokens.generation);
        let sealed = unsealed(&connection.tokens.sealed)?;
        let plaintext = match self.ports.sealer.open_with(&held.key, &context, &sealed) {
            Err(SealError::Broken) if held.replaces_lost => return Ok(None),
            opened => opened?,
        };
        serde_json::from_slice(&plaintext)
            .map(Some)
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

    /// Opens a client-credentials token. None when it is lost with the vault key over it.
    pub(crate) async fn open_client_token(&self, key: &Key, held: &HeldTokens) -> Result<Option<Secret>> {
        let context = client_context(key, held.generation);
        let plaintext = match self.ports.sealer.open(Purpose::Vault, &context, &unsealed(&held.sealed)?).await
        {
            Err(SealError::Lost) => return Ok(None),
            opened => opened?,
        };
        serde_json::from_slice::<TokenMaterial>(&plaintext)
            .map(|material| Some(material.access_token))
            .map_err(|_hidden| Error::internal("a client token is broken"))
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
