//! A connection's access token, refreshed under a lease when it must be (`design.md` 8): by who reads it, or by schedule
//! ([`crate::due`]).

use std::collections::BTreeMap;
use std::time::Duration;

use agent_identity_core::connection::{
    Connection, Decision, Health, HeldTokens, Reason, RefreshTerms, RefreshTraits, TokenMaterial,
};
use agent_identity_core::flight::LOSER_PATIENCE;
use agent_identity_core::port::Event;
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::seal::Key32;
use agent_identity_core::store::Key;
use agent_identity_core::{Error, Result, Secret, Timestamp};
use agent_identity_oauth::catalogue::{self, Rotation};
use agent_identity_oauth::token::{RefusalCode, TokenGrant, Tokens};

use crate::Services;
use crate::client_credentials::come_back;
use crate::flight::{Landing, Taken, Turn, Wish, still_held};
use crate::token_call::{Outcome, refusal, unavailable};

/// What a connection gives.
pub(crate) enum Access {
    /// Its access token, and the connection as it is stored now: a refresh may have changed what it was granted.
    Token(Secret, Box<Connection>),
    /// Nothing: only a new consent helps.
    Consent(Reason),
    /// There is no connection.
    None,
}

/// What an attempt came to, with the connection as it is stored now.
pub(crate) enum Attempt {
    /// It has new tokens: these, unless somebody stored newer ones meanwhile.
    Renewed(Connection, Option<Secret>),
    /// The provider says that the grant is dead.
    Dead(Connection, Reason),
    /// The provider refused, and by then somebody else had newer tokens, or the lease: the row as it was found. What they find
    /// counts, and nobody is sent to a consent for this.
    Overtaken(Connection),
    /// It has the tokens that it had.
    Failed(Connection, Error),
}

/// What a failed attempt leaves behind.
enum Setback {
    /// Nothing was sent, or the provider did nothing.
    Aborted(Option<Duration>),
    /// It may have happened (D5).
    Lost(Duration),
}

/// How the provider's refreshes behave; what is not known is taken to be the worst.
pub(crate) fn traits(provider: &Oauth2Provider) -> RefreshTraits {
    let facts = catalogue::facts(provider.registration.vendor);
    RefreshTraits {
        rotates: facts.rotation != Rotation::Never,
        grace: facts.reuse_grace,
        kills_access_token: facts.refresh_invalidates_prior,
    }
}

/// What of the provider decides about refreshing.
pub(crate) fn terms(provider: &Oauth2Provider) -> RefreshTerms {
    RefreshTerms { generation: provider.generation, traits: traits(provider) }
}

/// When tokens end that the provider gave when it was asked at `asked_at`: their life began then at the earliest.
pub(crate) fn ends(provider: &Oauth2Provider, tokens: &Tokens, asked_at: Timestamp) -> Option<Timestamp> {
    let facts = catalogue::facts(provider.registration.vendor);
    tokens.expires_in.or(facts.default_ttl).map(|life| asked_at.plus(life))
}

impl Services {
    /// The access token of a connection; refreshes it when it has to, one caller at a time across processes. While the
    /// access token is valid it is served, whatever refresh did.
    ///
    /// # Errors
    /// `Throttling` when the provider, or who is asking it, takes too long; `Validation` when the provider refuses the
    /// client and the access token has ended.
    pub(crate) async fn connection_access(&self, provider: &Oauth2Provider, key: &Key) -> Result<Access> {
        let terms = terms(provider);
        let decide = |connection: &Connection, now| connection.decide(now, terms.generation, terms.traits);
        let wish = |found: Option<&Connection>, now: Timestamp| match found.map(|found| decide(found, now)) {
            Some(Decision::Refresh) => Wish::Patient(LOSER_PATIENCE),
            Some(Decision::RefreshOrServe) => Wish::Eager,
            _ => Wish::Settled,
        };
        let connection = loop {
            match self.turn(key, terms, || None, wish).await? {
                Turn::Mine(taken) => match self.attempt(provider, taken).await? {
                    Attempt::Overtaken(_) => {}
                    attempt => return self.refreshed_access(attempt).await,
                },
                Turn::Held => return Err(still_held()),
                Turn::Settled(None) => return Ok(Access::None),
                Turn::Settled(Some(stored)) => break stored.value,
            }
        };
        let now = self.now();
        match decide(&connection, now) {
            Decision::Serve | Decision::RefreshOrServe => self.access(connection).await,
            Decision::Consent(reason) => Ok(Access::Consent(reason)),
            Decision::Wait(at) => Err(come_back(at, now)),
            Decision::Refresh => Err(unavailable(provider, "the access token ended while it was read")),
        }
    }

    /// Opens a connection and gives its access token.
    pub(crate) async fn serve(&self, connection: &Connection) -> Result<Secret> {
        let key = self.opening_user_key(connection.user).await?;
        Ok(self.open_connection(&key, connection)?.access_token)
    }

    async fn access(&self, connection: Connection) -> Result<Access> {
        Ok(Access::Token(self.serve(&connection).await?, Box::new(connection)))
    }

    /// What a reader gets when their attempt has ended: while the access token is valid it is served.
    async fn refreshed_access(&self, attempt: Attempt) -> Result<Access> {
        let now = self.now();
        match attempt {
            Attempt::Renewed(connection, Some(access_token)) => {
                Ok(Access::Token(access_token, Box::new(connection)))
            }
            Attempt::Renewed(connection, None) | Attempt::Overtaken(connection) => {
                self.access(connection).await
            }
            Attempt::Dead(connection, _) if connection.tokens.valid(now) => self.access(connection).await,
            Attempt::Dead(_, reason) => Ok(Access::Consent(reason)),
            Attempt::Failed(connection, error) if connection.tokens.valid(now) => {
                tracing::warn!(%error, "a connection could not be refreshed and its access token is served as it is");
                self.access(connection).await
            }
            Attempt::Failed(_, error) => Err(error),
        }
    }

    /// Asks the provider, and stores what it says before anybody is answered.
    pub(crate) async fn attempt(
        &self,
        provider: &Oauth2Provider,
        taken: Taken<Connection>,
    ) -> Result<Attempt> {
        let prepared = async {
            let key = self.user_vault_key(taken.stored.value.user).await?;
            let refresh_token = self
                .open_connection(&key, &taken.stored.value)?
                .refresh_token
                .ok_or_else(|| Error::internal("a refreshable connection has no refresh token"))?;
            Ok::<_, Error>((self.client(provider).await?, key, refresh_token))
        };
        let (client, key, refresh_token) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => {
                let pause = self.pause(taken.stored.value.flight.failures);
                return self.setback(taken, Setback::Aborted(Some(pause)), error).await;
            }
        };
        let asked_at = self.now();
        let outcome = if self.may_call(&taken) {
            let Connection { granted: scopes, resources, audiences, .. } = &taken.stored.value;
            let grant = if catalogue::facts(provider.registration.vendor).resend_scope {
                TokenGrant::ScopedRefreshToken { refresh_token: &refresh_token, scopes }
            } else {
                TokenGrant::RefreshToken { refresh_token: &refresh_token }
            };
            let request = client.request(provider, grant, resources, audiences, &BTreeMap::new());
            self.call(provider, request).await
        } else {
            Outcome::NotSent(unavailable(provider, "too little of the lease was left to call"))
        };
        let pause = self.pause(taken.stored.value.flight.failures);
        match outcome {
            Outcome::Tokens(tokens) => {
                self.refreshed(provider, taken, &key, refresh_token, *tokens, asked_at).await
            }
            Outcome::Refused(RefusalCode::InvalidGrant) => self.grant_is_dead(taken).await,
            Outcome::Refused(code) => {
                self.setback(taken, Setback::Aborted(Some(pause)), refusal(provider, code)).await
            }
            Outcome::Throttled(after) => {
                let error = unavailable(provider, "the provider asks to wait");
                self.setback(taken, Setback::Aborted(Some(after.unwrap_or(pause))), error).await
            }
            Outcome::NotSent(error) => self.setback(taken, Setback::Aborted(Some(pause)), error).await,
            Outcome::Unknown(reason) => {
                self.setback(taken, Setback::Lost(pause), unavailable(provider, reason)).await
            }
        }
    }

    /// Stores what a refresh gave, and only then answers.
    async fn refreshed(
        &self,
        provider: &Oauth2Provider,
        taken: Taken<Connection>,
        key: &Key32,
        refresh_token: Secret,
        tokens: Tokens,
        asked_at: Timestamp,
    ) -> Result<Attempt> {
        let before = &taken.stored.value;
        let generation = before.tokens.generation;
        let next = generation.saturating_add(1);
        let expires_at = ends(provider, &tokens, asked_at);
        let granted =
            catalogue::facts(provider.registration.vendor).granted(&before.granted, tokens.scope.as_ref());
        let access_token = tokens.access_token;
        let material = TokenMaterial {
            access_token: access_token.clone(),
            // Its absence in an answer never erases it.
            refresh_token: Some(tokens.refresh_token.unwrap_or(refresh_token)),
        };
        let held = HeldTokens {
            generation: next,
            obtained_at: asked_at,
            expires_at,
            refreshable: true,
            sealed: self.seal_connection(key, before, next, &material)?,
        };
        let landed = self
            .land(taken, |connection, landing| {
                if connection.tokens.generation != generation {
                    // Somebody else's tokens are newer than what we started from; ours would be a step back.
                    return false;
                }
                connection.tokens = held.clone();
                connection.granted.clone_from(&granted);
                connection.health = Health::Active;
                match landing {
                    Landing::Holding => connection.flight.arrive(),
                    // Whoever took over finds the generation moved when it is refused, and serves these.
                    Landing::Fenced => {}
                }
                true
            })
            .await?;
        // A new consent may have come first, perhaps of another account: what is stored is what is served.
        let is_ours = landed.tokens == held;
        Ok(Attempt::Renewed(landed, is_ours.then_some(access_token)))
    }

    /// `invalid_grant`: dead, unless the tokens moved meanwhile (a lost race, D19), or somebody took the lease over, who then has
    /// newer tokens soon, or the same answer.
    async fn grant_is_dead(&self, taken: Taken<Connection>) -> Result<Attempt> {
        let now = self.now();
        let before = taken.stored.value.clone();
        let replayed = before.flight.intent.as_ref().is_some_and(|intent| intent.sends > 1);
        let reason = if replayed { Reason::LostRotation } else { Reason::InvalidGrant };
        let generation = before.tokens.generation;
        let dead = Health::NeedsConsent { reason, since: now };
        let connection = self
            .land(taken, |connection, landing| {
                if connection.tokens.generation != generation || landing == Landing::Fenced {
                    return false;
                }
                connection.health = dead.clone();
                connection.flight.arrive();
                true
            })
            .await?;
        if connection.tokens.generation != generation || connection.health != dead {
            return Ok(Attempt::Overtaken(connection));
        }
        self.announce(&connection, reason, now);
        Ok(Attempt::Dead(connection, reason))
    }

    /// Tells others that the user must consent again.
    pub(crate) fn announce(&self, connection: &Connection, reason: Reason, at: Timestamp) {
        self.ports.events.emit(Event::NeedsConsent {
            workload: connection.workload,
            provider: connection.provider,
            user: connection.user,
            reason: reason.as_str(),
            at,
        });
    }

    /// Notes that a refresh did not succeed.
    async fn setback(&self, taken: Taken<Connection>, setback: Setback, error: Error) -> Result<Attempt> {
        let now = self.now();
        let connection = self
            .land(taken, |connection, landing| {
                if landing == Landing::Fenced {
                    return false;
                }
                match setback {
                    Setback::Aborted(wait) => connection.flight.abort(wait.map(|wait| now.plus(wait))),
                    Setback::Lost(wait) => connection.flight.lose(Some(now.plus(wait))),
                }
                true
            })
            .await?;
        Ok(Attempt::Failed(connection, error))
    }
}
