//! Ending connections: the local copy is destroyed, and the provider is told (RFC 7009), at once or as soon as it hears.

use agent_identity_core::connection::{Connection, ConnectionAddress, TokenMaterial};
use agent_identity_core::denial::UserDenial;
use agent_identity_core::grant::{Action, Authorized, Principal, Role};
use agent_identity_core::http::HttpError;
use agent_identity_core::port::Event;
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::revocation::{Revocation, Upstream};
use agent_identity_core::seal::Key32;
use agent_identity_core::store::{Condition, Consistency, Due, Key, Kind, StoreError, Write};
use agent_identity_core::{Error, Result, random};
use agent_identity_oauth::catalogue;
use agent_identity_oauth::revocation::{
    RevocationAnswer, RevocationRequest, TokenKind, parse_revocation_response,
};
use futures_util::{StreamExt as _, stream};
use tokio::time::{Duration, Instant};

use crate::Services;
use crate::audit::note;
use crate::connection::no_connection;
use crate::denial::{Ban, NamedUser};
use crate::directory::ATTEMPTS;
use crate::token_call::{Client, out_of_reach};

/// A connection that is no more: nothing of it is left here but what a provider is still to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Which.
    pub address: ConnectionAddress,
    /// What became of the grant at its provider.
    pub upstream: Upstream,
    /// Why, where it was not revoked.
    pub reason: Option<String>,
}

/// Lets a user in no more, and deletes all their connections.
#[derive(Clone, Debug)]
pub struct OffboardUser {
    /// Whom.
    pub user: NamedUser,
}

impl Action for OffboardUser {
    const OPERATION: &'static str = "OffboardUser";

    fn role(&self) -> Role {
        Role::Admin
    }

    fn concerns_all_workloads(&self) -> bool {
        true
    }

    fn concerns_all_providers(&self) -> bool {
        true
    }
}

/// A user who has left.
#[derive(Clone, Debug)]
pub struct Offboarded {
    /// What stands against them now, for all workloads.
    pub ban: Ban,
    /// Their connections, as far as this call got: at most [`OFFBOARDED_AT_ONCE`].
    pub deleted: Vec<Deleted>,
    /// Whether all of them are deleted. If not, the same call goes on.
    pub complete: bool,
}

/// Most connections that one call deletes.
pub const OFFBOARDED_AT_ONCE: usize = 100;

/// How long a call waits for providers, all together. Those that were not asked by then are asked by schedule.
const PATIENCE: Duration = Duration::from_secs(15);

/// Providers that are asked at the same time.
const ASKED_AT_ONCE: usize = 16;

/// What a provider is known to have made of it.
pub(crate) struct Told {
    upstream: Upstream,
    reason: Option<String>,
    retry_after: Option<Duration>,
}

impl Told {
    fn revoked() -> Self {
        Self { upstream: Upstream::Revoked, reason: None, retry_after: None }
    }

    fn not(upstream: Upstream, reason: impl Into<String>) -> Self {
        Self { upstream, reason: Some(reason.into()), retry_after: None }
    }

    fn of(self, address: ConnectionAddress) -> Deleted {
        Deleted { address, upstream: self.upstream, reason: self.reason }
    }

    fn later(reason: impl Into<String>) -> Self {
        Self::not(Upstream::Queued, reason)
    }
}

impl Services {
    /// Deletes a connection: whatever the provider says, it gives nothing to anybody from here on. Whose refresh is under way has
    /// what it brings revoked too.
    ///
    /// # Errors
    /// `NotFound`; `AccessDenied`; `Conflict` when others keep writing it; those of the store.
    pub async fn delete_connection(
        &self,
        principal: &Principal,
        address: &ConnectionAddress,
    ) -> Result<Deleted> {
        self.check_managed(principal, "DeleteConnection", address).await?;
        let pending = self.destroy_at(address).await?.ok_or_else(no_connection)?;
        Ok(self.tell(pending).await.of(address.clone()))
    }

    /// Lets a user in no more, for any workload, and deletes their connections: first all of them here, then at the providers.
    ///
    /// # Errors
    /// `Conflict` when others keep writing; those of the store. What was deleted by then stays so, and the same call goes on.
    pub async fn offboard_user(&self, authorized: Authorized<'_, OffboardUser>) -> Result<Offboarded> {
        let OffboardUser { user } = authorized.into_action();
        let ban = self.ban(None, &user, |before| UserDenial { blocked: true, ..before }).await?;
        let (addresses, complete) = self.connections_of(&user, OFFBOARDED_AT_ONCE).await?;
        let mut pending = Vec::new();
        for address in addresses {
            // One that somebody else has deleted meanwhile is theirs to say.
            if let Some(revocation) = self.destroy_at(&address).await? {
                pending.push((address, revocation));
            }
        }
        let deadline = Instant::now() + PATIENCE;
        let told = pending.into_iter().map(|(address, revocation)| async move {
            let told = tokio::time::timeout_at(deadline, self.tell(revocation)).await;
            let told = told.unwrap_or_else(|_| Told::later("there was no time left to ask the provider"));
            told.of(address)
        });
        let deleted = stream::iter(told).buffered(ASKED_AT_ONCE).collect().await;
        Ok(Offboarded { ban, deleted, complete })
    }

    /// Destroys the connection there; `None` if there is none.
    async fn destroy_at(&self, address: &ConnectionAddress) -> Result<Option<Stored<Revocation>>> {
        for _ in 0..ATTEMPTS {
            let stored: Option<Stored<Connection>> =
                record::get(&*self.ports.store, &address.key(), Consistency::Strong).await?;
            let Some(stored) = stored else { return Ok(None) };
            if let Some(pending) = self.destroy(&stored).await? {
                return Ok(Some(pending));
            }
        }
        Err(StoreError::Conflict(0).into())
    }

    /// Deletes a connection with its entries, and makes the note that its provider must be told, all or nothing. `None`: it has
    /// been written meanwhile.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn destroy(&self, stored: &Stored<Connection>) -> Result<Option<Stored<Revocation>>> {
        let address = stored.value.address();
        note(|about| about.user = Some(address.user));
        let entries = address.entries();
        let rows = self.ports.store.batch_get(&entries, Consistency::Strong).await?;
        let rows = rows.into_iter().flatten();
        let (noted, note) = self.noted(stored.value.clone())?;
        let mut writes = vec![stored.delete(), note];
        writes.extend(rows.map(|row| Write::Delete { key: row.key, version: row.version }));
        match self.ports.store.write(writes).await {
            Ok(()) => Ok(Some(noted)),
            Err(StoreError::Conflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn noted(&self, connection: Connection) -> Result<(Stored<Revocation>, Write)> {
        let key = Revocation::key(connection.user, &*self.ports.random);
        let value = Revocation::new(connection, self.now());
        let due = Some(value.first_due(&key));
        let write = record::put(key.clone(), Condition::Absent, &value, None, due)?;
        Ok((Stored { key, version: 1, value }, write))
    }

    /// Tokens came for a connection that is not to be any more: it was deleted, or its user banned, while the provider was asked.
    /// They are revoked by schedule. The connection says whose they are.
    pub(crate) async fn revoke_what_came(
        &self,
        mut connection: Connection,
        key: &Key32,
        material: &TokenMaterial,
    ) -> Result<()> {
        let generation = connection.tokens.generation;
        connection.tokens.sealed = self.seal_connection(key, &connection, generation, material)?;
        let (_, note) = self.noted(connection)?;
        self.insist(|| self.ports.store.write(vec![note.clone()])).await?;
        Ok(())
    }

    /// Tells the provider, by schedule.
    ///
    /// # Errors
    /// Only where *we* failed: what a provider answers is an outcome.
    pub(crate) async fn revoke_due(&self, key: &Key) -> Result<Option<Upstream>> {
        let found: Option<Stored<Revocation>> =
            record::get(&*self.ports.store, key, Consistency::Strong).await?;
        let Some(stored) = found else { return Ok(None) };
        Ok(Some(self.tell(stored).await.upstream))
    }

    /// Tells the provider, and puts on record what it made of it. What cannot be put on record is done again: revoking twice is
    /// as good as once (RFC 7009 §2.2).
    pub(crate) async fn tell(&self, stored: Stored<Revocation>) -> Told {
        let mut told = self.ask_to_revoke(&stored.value).await;
        let (now, [jitter]) = (self.now(), random::bytes::<1>(&*self.ports.random));
        let noted = if told.upstream == Upstream::Queued {
            match stored.value.failed(now, told.retry_after, jitter) {
                Some((failed, until)) => {
                    let due = Some(Due::of(&stored.key, until));
                    self.replace_revocation(&stored, &failed, due).await
                }
                None => {
                    told.upstream = Upstream::Failed;
                    self.finish(&stored, told.upstream).await
                }
            }
        } else {
            self.finish(&stored, told.upstream).await
        };
        if let Err(error) = noted {
            tracing::warn!(%error, "what became of a revocation could not be put on record; it will be asked for again");
        }
        told
    }

    async fn replace_revocation(
        &self,
        stored: &Stored<Revocation>,
        value: &Revocation,
        due: Option<Due>,
    ) -> Result<()> {
        self.write_unless_newer(stored.replace(value, None, due)?).await.map(drop)
    }

    /// Tells others, and then destroys the last of it.
    async fn finish(&self, stored: &Stored<Revocation>, upstream: Upstream) -> Result<()> {
        let of = stored.value.connection.address().party();
        self.ports
            .events
            .tell(Event::Revoked { of, upstream, at: self.now() })
            .await
            .map_err(Error::internal)?;
        self.write_unless_newer(stored.delete()).await.map(drop)
    }

    async fn ask_to_revoke(&self, revocation: &Revocation) -> Told {
        let connection = &revocation.connection;
        let id = Key::single(Kind::Oauth2Provider, connection.provider.to_string());
        let provider = match record::get(&*self.ports.store, &id, Consistency::Strong).await {
            Ok(Some(Stored { value, .. })) => value,
            Ok(None) => {
                let gone = "its credential provider was deleted, so that nobody is its client any more";
                return Told::not(Upstream::Failed, gone);
            }
            Err(error) => return Told::later(error.message()),
        };
        let provider: Oauth2Provider = provider;
        if provider.generation != connection.provider_generation {
            let changed = "its credential provider was changed since, and its tokens are sent nowhere else (provider_changed)";
            return Told::not(Upstream::Failed, changed);
        }
        let prepared = async {
            let Some(material) = self.open_connection(connection).await? else { return Ok(None) };
            Ok::<_, Error>(Some((self.client(&provider).await?, material)))
        };
        match prepared.await {
            Ok(Some((client, material))) => {
                self.send_revocations(&provider, &client, connection, &material).await
            }
            Ok(None) => Told::not(
                Upstream::Failed,
                "the vault key over its tokens is lost, so that nobody can revoke them here; the user can withdraw it there (key_lost)",
            ),
            Err(error) => Told::later(error.message()),
        }
    }

    /// The refresh token first: with it go the access tokens of its grant at most providers (RFC 7009 §2.1), and no new one comes.
    async fn send_revocations(
        &self,
        provider: &Oauth2Provider,
        client: &Client,
        connection: &Connection,
        material: &TokenMaterial,
    ) -> Told {
        let refresh = material.refresh_token.as_ref().map(|token| (token, TokenKind::Refresh));
        let access =
            connection.tokens.valid(self.now()).then_some((&material.access_token, TokenKind::Access));
        let (mut ended, mut refused) = (None, None);
        for (token, kind) in refresh.into_iter().chain(access) {
            let (registration, server, proof) = (&provider.registration, &*client.server, client.proof());
            let Some(request) = (RevocationRequest { registration, server, token, kind, proof }).build()
            else {
                continue;
            };
            let response = match self.ports.http.send(request).await {
                Ok(response) => response,
                Err(error @ HttpError::Forbidden { .. }) => {
                    return Told::not(Upstream::Failed, out_of_reach(provider, error).message());
                }
                Err(error) => return Told::later(out_of_reach(provider, error).message()),
            };
            match parse_revocation_response(catalogue::facts(provider.registration.vendor), &response) {
                RevocationAnswer::Revoked => {
                    ended.get_or_insert(kind);
                }
                RevocationAnswer::Unsupported => {}
                RevocationAnswer::Refused(reason) => {
                    refused.get_or_insert(reason);
                }
                RevocationAnswer::Later { retry_after, reason } => {
                    return Told { retry_after, ..Told::later(reason) };
                }
            }
        }
        match (ended, refused) {
            // An access token alone says nothing of the grant, unless the provider ends one by it, or there is no other token.
            (Some(TokenKind::Refresh), _) => Told::revoked(),
            (Some(TokenKind::Access), _) if refresh.is_none() || client.ends_by_access_token(provider) => {
                Told::revoked()
            }
            (_, Some(reason)) => Told::not(Upstream::Failed, reason),
            (Some(TokenKind::Access), None) => Told::not(
                Upstream::Unsupported,
                "the provider revoked the access token, and does not revoke refresh tokens",
            ),
            (None, None) if client.ends_by_access_token(provider) => Told::not(
                Upstream::Failed,
                "the provider ends a grant by its access token alone, and that had ended",
            ),
            (None, None) => Told::not(
                Upstream::Unsupported,
                "no way is known to revoke it at the provider; the user can withdraw it there",
            ),
        }
    }
}
