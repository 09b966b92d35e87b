//! Reading ahead: what a request for a credential needs and memory does not have, in one call each time that more of it can be
//! named (D17). A process that has just started makes two such calls, one before the workload access token is open and one
//! after; a process whose records have grown old makes one.
//!
//! Nothing is decided here. What is not brought, or was guessed wrong, is read when it is asked for.

use agent_identity_core::authorizer::AgentRules;
use agent_identity_core::connection::Connection;
use agent_identity_core::provider::{ApiKeyProvider, Oauth2Provider};
use agent_identity_core::seal::Purpose;
use agent_identity_core::store::{Consistency, Key, Kind};
use agent_identity_core::wat::{MintedWat, WatClaims};
use agent_identity_core::workload::Workload;
use agent_identity_core::{Id, ProviderName, Secret, encoding};

use crate::Services;
use crate::directory::Named;
use crate::oauth2_token::{Flow, Oauth2TokenRequest};

/// A request for a credential, as far as it says which rows it will read.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// The workload access token.
    pub workload_token: Secret,
    /// Whose credential.
    pub provider: NamedProvider,
}

/// A provider of one or the other kind.
#[derive(Clone, Debug)]
pub enum NamedProvider {
    /// Of OAuth2 tokens.
    Oauth2(ProviderName),
    /// Of an API key.
    ApiKey(ProviderName),
}

impl NamedProvider {
    /// The row that leads from its name to its id.
    fn directory(&self) -> Key {
        match self {
            Self::Oauth2(name) => Key::directory(Oauth2Provider::NAMES, name.as_str()),
            Self::ApiKey(name) => Key::directory(ApiKeyProvider::NAMES, name.as_str()),
        }
    }
}

/// What a workload access token is shown for.
#[derive(Clone, Copy)]
pub(crate) enum Wanted<'a> {
    Token(&'a Oauth2TokenRequest),
    ApiKey(&'a ProviderName),
}

impl Wanted<'_> {
    fn provider(self) -> NamedProvider {
        match self {
            Self::Token(request) => NamedProvider::Oauth2(request.provider.clone()),
            Self::ApiKey(name) => NamedProvider::ApiKey(name.clone()),
        }
    }

    fn is_remembered(self, services: &Services) -> bool {
        match self {
            Self::Token(request) => services.caches.oauth2_providers.has(request.provider.as_str()),
            Self::ApiKey(name) => services.caches.api_key_providers.has(name.as_str()),
        }
    }
}

impl Services {
    /// Reads what can be named before the token is open, and `also`: the row of the key that opens it, and whose credential.
    pub(crate) async fn read_ahead_of_token(&self, foreseen: &Foreseen, also: Option<Key>) {
        let mut keys: Vec<Key> = also.into_iter().collect();
        let (provider, directory) = (&foreseen.provider, foreseen.provider.directory());
        let is_remembered = match provider {
            NamedProvider::Oauth2(name) => self.caches.oauth2_providers.has(name.as_str()),
            NamedProvider::ApiKey(name) => self.caches.api_key_providers.has(name.as_str()),
        };
        if !is_remembered {
            keys.extend(self.caches.led_to.get(directory.kind, &directory.sort).await);
            keys.push(directory);
        }
        let sealed = encoding::unbase64url(foreseen.workload_token.expose()).unwrap_or_default();
        match self.unread_of(&sealed) {
            Some(row) => keys.push(row),
            // Nobody knows yet who asks: what an authorizer has issued, and may need a call of its own to open, waits.
            None if MintedWat::parse(&sealed).is_some() => {}
            None => {
                if let Ok(claims) = self.open_workload_token(&sealed).await {
                    keys.extend(self.missing_of(&claims).await);
                }
            }
        }
        self.ports.store.read_ahead(&keys).await;
    }

    /// The same for a request that has come as far as its workload access token; whether anything had to be read.
    pub(crate) async fn read_ahead_of_bearer(
        &self,
        token: &Secret,
        sealed: &[u8],
        wanted: Wanted<'_>,
    ) -> bool {
        if self.unread_of(sealed).is_none() {
            return false;
        }
        let foreseen = Foreseen { workload_token: token.clone(), provider: wanted.provider() };
        self.read_ahead_of_token(&foreseen, None).await;
        true
    }

    /// The row without which a token does not open: its vault key, or the authorizers of the agent whose authorizer issued it.
    fn unread_of(&self, sealed: &[u8]) -> Option<Key> {
        match MintedWat::parse(sealed) {
            Some(minted) => {
                (!self.caches.agent_rules.has(&minted.agent)).then(|| AgentRules::key(&minted.agent))
            }
            None => self.ports.sealer.unread_key(Purpose::Wat, sealed),
        }
    }

    /// Reads what the open token lets one name: workload, provider, and what belongs to the two. `is_cold` says that the row of
    /// the provider's name has just been read.
    pub(crate) async fn read_ahead_of_credential(
        &self,
        claims: &WatClaims,
        sealed: &[u8],
        wanted: Wanted<'_>,
        is_cold: bool,
    ) {
        let (mut keys, is_remembered) = (self.missing_of(claims).await, wanted.is_remembered(self));
        if keys.is_empty() && is_remembered {
            return;
        }
        let directory = wanted.provider().directory();
        let record = match self.caches.led_to.get(directory.kind, &directory.sort).await {
            None if is_cold => self.record_of(&wanted.provider()).await,
            known => known,
        };
        if let (Wanted::Token(request), Some(record)) = (wanted, &record) {
            keys.extend(self.rows_of_token(claims, sealed, request, record));
        }
        if !is_remembered {
            keys.extend(record);
            keys.push(directory);
        }
        self.ports.store.read_ahead(&keys).await;
    }

    /// The workload, and what stands against the user.
    async fn missing_of(&self, claims: &WatClaims) -> Vec<Key> {
        let denials = match claims.user {
            Some(user) => self.missing_denials(user).await,
            None => None,
        };
        let mut keys = Vec::from_iter(denials);
        if !self.caches.workloads.has(&claims.workload) {
            keys.push(Key::single(Workload::KIND, claims.workload.to_string()));
        }
        keys
    }

    /// The record that the provider's name leads to.
    async fn record_of(&self, provider: &NamedProvider) -> Option<Key> {
        let found = match provider {
            NamedProvider::Oauth2(name) => {
                let id = self.id_of::<Oauth2Provider>(name.as_str(), Consistency::Eventual).await;
                id.map(|id| Key::single(Oauth2Provider::KIND, id.value.to_string()))
            }
            NamedProvider::ApiKey(name) => {
                let id = self.id_of::<ApiKeyProvider>(name.as_str(), Consistency::Eventual).await;
                id.map(|id| Key::single(ApiKeyProvider::KIND, id.value.to_string()))
            }
        };
        found.ok()
    }

    /// The row of the token that is asked for, and of the keys that it is sealed under.
    fn rows_of_token(
        &self,
        claims: &WatClaims,
        sealed: &[u8],
        request: &Oauth2TokenRequest,
        record: &Key,
    ) -> Vec<Key> {
        let Some(provider) = Id::<Oauth2Provider>::parse(&record.partition) else { return Vec::new() };
        // The version of the vault key is in a row that is not read yet. Versions of all purposes are made together.
        let vault_key = self.ports.sealer.unread_key(Purpose::Vault, sealed);
        match (request.flow, claims.user) {
            (Flow::UserFederation, Some(user)) if request.session.is_none() => {
                let connection = Connection::key(claims.workload, user, provider, &self.target(request));
                let user_key =
                    (!self.caches.user_keys.has(&user)).then(|| Key::single(Kind::UserKey, user.to_string()));
                [Some(connection), vault_key.filter(|_| user_key.is_some()), user_key]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            (Flow::M2m, _) => {
                // As if the provider had never been redirected, nor its tokens shared, which its record says.
                let token = request.client_token().key_of(self, claims.workload, provider, 1, false);
                std::iter::once(token).chain(vault_key).collect()
            }
            _ => Vec::new(),
        }
    }
}
