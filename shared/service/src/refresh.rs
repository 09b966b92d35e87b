//! A connection's access token, refreshed under a lease when it must be (`design.md` 8): by who reads it, or by schedule
//! ([`crate::due`]). The rules are `core::refresh`; this drives them.

use std::collections::BTreeMap;

use agent_identity_core::connection::{Connection, Reason, TokenMaterial};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::flight::LOSER_PATIENCE;
use agent_identity_core::port::Event;
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::refresh::standing::{Heard, Judgement, Stop};
use agent_identity_core::refresh::{
    Answer, GrantLife, Outcome, RefreshTerms, RefreshTraits, Renewal, Verdict, Want,
};
use agent_identity_core::store::{Consistency, Key};
use agent_identity_core::tag::keep_alive;
use agent_identity_core::{Error, Result, Secret, Timestamp};
use agent_identity_oauth::catalogue::{self, Rotation};
use agent_identity_oauth::token::{RefusalCode, TokenGrant, Tokens};

use crate::Services;
use crate::client_credentials::come_back;
use crate::flight::{Taken, Turn, due, still_held};
use crate::lost::lost;
use crate::token_call::{self, refusal, unavailable};

/// What a connection gives.
pub(crate) enum Access {
    /// Its access token, and the connection as it is stored now: a refresh may have changed what it was granted.
    Token(Secret, Box<Connection>),
    /// Nothing: only a new consent helps.
    Consent(Reason),
    /// There is no connection.
    None,
}

/// What an attempt came to.
pub(crate) struct Attempt {
    pub(crate) verdict: Verdict,
    /// The connection as it is stored now.
    pub(crate) connection: Connection,
    /// Its access token, if it came with this attempt.
    access_token: Option<Secret>,
    /// What the client of ours is told if it was for nothing.
    pub(crate) trouble: Option<Error>,
    /// Whether there was nothing to call with: its tokens are lost, which is on record.
    pub(crate) is_lost: bool,
}

/// For whom an answer counts: for all connections at its provider (D8), or for the one alone that was asked about once more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    All,
    Itself,
}

/// What a call gave, or the reason why it gave nothing.
struct Called {
    outcome: Outcome,
    material: Option<TokenMaterial>,
    trouble: Option<Error>,
    is_lost: bool,
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
    let facts = catalogue::facts(provider.registration.vendor);
    let life = GrantLife { idle: facts.idle_ttl, absolute: facts.absolute_ttl };
    let keep_alive = keep_alive(&provider.tags);
    RefreshTerms { generation: provider.generation, traits: traits(provider), life, keep_alive }
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
        if let Some(stop) = self.stopped(provider) {
            return self.access_meanwhile(provider, key, terms, stop).await;
        }
        loop {
            let (answer, connection, served, trouble) =
                match self.turn::<Connection>(key, Want::Read, terms, LOSER_PATIENCE, || None).await? {
                    Turn::Held => return Err(still_held()),
                    Turn::Settled(None) => return Ok(Access::None),
                    Turn::Settled(Some(Stored { value, .. })) => {
                        (value.answer(self.now(), terms), value, None, None)
                    }
                    Turn::Mine(taken) => {
                        let Attempt { verdict, connection, access_token, trouble, .. } =
                            self.attempt(provider, taken).await?;
                        (verdict.answer(&connection, self.now()), connection, access_token, trouble)
                    }
                };
            return match answer {
                Answer::Again => continue,
                Answer::Serve => {
                    if let Some(error) = trouble {
                        tracing::warn!(%error, "a connection could not be refreshed and its access token is served as it is");
                    }
                    let access_token = match served {
                        Some(access_token) => access_token,
                        None => self.serve(&connection).await?,
                    };
                    Ok(Access::Token(access_token, Box::new(connection)))
                }
                Answer::Consent(reason) => Ok(Access::Consent(reason)),
                Answer::Wait(at) => Err(come_back(at, self.now())),
                Answer::Unavailable => Err(trouble
                    .unwrap_or_else(|| unavailable(provider, "the access token ended while it was read"))),
            };
        }
    }

    /// Another access token than `refused`, which the API that it is for does not take although it is valid: one that came
    /// meanwhile, or that of a refresh. None where there is no other now.
    ///
    /// # Errors
    /// Those of the store and the vault; `Throttling` when somebody else's refresh takes too long.
    pub(crate) async fn replaced_access(
        &self,
        provider: &Oauth2Provider,
        key: &Key,
        refused: &Secret,
    ) -> Result<Option<Secret>> {
        let found: Option<Stored<Connection>> =
            record::get(&*self.ports.store, key, Consistency::Strong).await?;
        let Some(Stored { value: connection, .. }) = found else { return Ok(None) };
        let current = self.serve(&connection).await?;
        if current != *refused {
            return Ok(Some(current));
        }
        if self.stopped(provider).is_some() || !self.caches.replaced.is_first(key).await {
            return Ok(None);
        }
        let want = Want::Replace(connection.tokens.generation);
        let current = match self.turn(key, want, terms(provider), LOSER_PATIENCE, || None).await? {
            Turn::Held => return Err(still_held()),
            Turn::Settled(None) => return Ok(None),
            Turn::Settled(Some(Stored { value, .. })) => self.serve(&value).await?,
            Turn::Mine(taken) => {
                let Attempt { connection, access_token, trouble, .. } = self.attempt(provider, taken).await?;
                if let Some(error) = trouble {
                    tracing::warn!(%error, "an access token that its API refused could not be replaced");
                }
                match access_token {
                    Some(access_token) => access_token,
                    None => self.serve(&connection).await?,
                }
            }
        };
        Ok(Some(current).filter(|current| current != refused))
    }

    /// What a connection gives while its provider's refreshes are suspended (D8).
    async fn access_meanwhile(
        &self,
        provider: &Oauth2Provider,
        key: &Key,
        terms: RefreshTerms,
        stop: Stop,
    ) -> Result<Access> {
        let found: Option<Stored<Connection>> =
            record::get(&*self.ports.store, key, Consistency::Strong).await?;
        let Some(Stored { value: connection, .. }) = found else { return Ok(Access::None) };
        let now = self.now();
        match connection.answer(now, terms) {
            Answer::Serve => Ok(Access::Token(self.serve(&connection).await?, Box::new(connection))),
            Answer::Consent(reason) => Ok(Access::Consent(reason)),
            Answer::Wait(_) | Answer::Unavailable | Answer::Again => Err(self.suspended(provider, stop)),
        }
    }

    /// Opens a connection and gives its access token.
    ///
    /// # Errors
    /// Those of the store and the vault; `Throttling` where its tokens are lost with the vault key over them, which is on record then,
    /// so that whoever asks again is offered a consent.
    pub(crate) async fn serve(&self, connection: &Connection) -> Result<Secret> {
        match self.open_connection(connection).await? {
            Some(material) => Ok(material.access_token),
            None => {
                self.lose(&connection.address().key()).await?;
                Err(lost())
            }
        }
    }

    /// Puts on record that somebody uses a connection, where that decides about anything and was not for a day. The token is theirs all
    /// the same if that fails.
    pub(crate) async fn mark_used(&self, connection: &Connection, terms: RefreshTerms) {
        if connection.used(terms, self.now()).is_none() {
            return;
        }
        let key = connection.address().key();
        let marked = async {
            let found: Option<Stored<Connection>> =
                record::get(&*self.ports.store, &key, Consistency::Strong).await?;
            let Some(stored) = found else { return Ok(()) };
            let Some(used) = stored.value.used(terms, self.now()) else { return Ok(()) };
            let due = due(&key, &used, terms, self.now());
            self.write_unless_newer(stored.replace(&used, None, due)?).await.map(drop)
        };
        if let Err(error) = marked.await {
            let error: Error = error;
            tracing::warn!(%error, "that a connection is used could not be put on record");
        }
    }

    /// Asks the provider, and stores what it says before anybody is answered.
    pub(crate) async fn attempt(
        &self,
        provider: &Oauth2Provider,
        taken: Taken<Connection>,
    ) -> Result<Attempt> {
        self.attempt_for(provider, taken, For::All).await
    }

    /// The same for a grant that was refused before: that it is refused again says nothing new of its provider, and is not announced anew.
    pub(crate) async fn attempt_again(
        &self,
        provider: &Oauth2Provider,
        taken: Taken<Connection>,
    ) -> Result<Attempt> {
        self.attempt_for(provider, taken, For::Itself).await
    }

    async fn attempt_for(
        &self,
        provider: &Oauth2Provider,
        taken: Taken<Connection>,
        counts: For,
    ) -> Result<Attempt> {
        // What keeps the answer is ready before the call.
        let (called, key) = match self.opening_user_key(taken.stored().value.user).await {
            Ok(Some(held)) => (self.renew(provider, &taken, counts).await, Some(held.key)),
            Ok(None) => (Called::lost(), None),
            Err(error) => (Called::nothing(Outcome::NotSent, error), None),
        };
        let Called { outcome, material, trouble, is_lost } = called;
        let mut before = taken.stored().value.clone();
        let landed = self
            .land(taken, outcome.clone(), |connection| {
                let (Some(material), Some(key)) = (&material, &key) else {
                    return Err(Error::internal("a refresh without tokens was about to be stored"));
                };
                let generation = connection.tokens.generation;
                connection.tokens.sealed = self.seal_connection(key, connection, generation, material)?;
                Ok(())
            })
            .await;
        let landed = match (landed, &outcome, &material, &key) {
            (Err(error), Outcome::Tokens(renewal), Some(material), Some(key))
                if error.kind() == ErrorKind::Conflict =>
            {
                before.tokens.generation = before.tokens.generation.saturating_add(1);
                before.tokens.expires_at = renewal.expires_at;
                self.revoke_what_came(before, key, material).await?;
                return Err(error);
            }
            (landed, _, _, _) => landed?,
        };
        if is_lost {
            self.lose(&landed.stored.key).await?;
        }
        let verdict = outcome.verdict(&landed);
        let connection = match verdict {
            Verdict::Dead(_) if counts == For::Itself => landed.stored.value,
            Verdict::Dead(reason) => self.announce(landed.stored, terms(provider), reason).await,
            Verdict::Renewed | Verdict::Superseded | Verdict::Overtaken | Verdict::Failed => {
                landed.stored.value
            }
        };
        // A new consent may have come first, perhaps of another account: what is stored is what is served.
        let access_token = match verdict {
            Verdict::Renewed => material.map(|material| material.access_token),
            Verdict::Superseded | Verdict::Dead(_) | Verdict::Overtaken | Verdict::Failed => None,
        };
        Ok(Attempt { verdict, connection, access_token, trouble, is_lost })
    }

    /// Sends the refresh token, if so much of the lease is left.
    async fn renew(&self, provider: &Oauth2Provider, taken: &Taken<Connection>, counts: For) -> Called {
        let connection = &taken.stored().value;
        let prepared = async {
            let Some(material) = self.open_connection(connection).await? else { return Ok(None) };
            let refresh_token = material
                .refresh_token
                .ok_or_else(|| Error::internal("a refreshable connection has no refresh token"))?;
            Ok::<_, Error>(Some((self.client(provider).await?, refresh_token)))
        };
        let (client, refresh_token) = match prepared.await {
            Ok(Some(prepared)) => prepared,
            Ok(None) => return Called::lost(),
            Err(error) => return Called::nothing(Outcome::NotSent, error),
        };
        let asked_at = self.now();
        if !self.may_call(taken) {
            let error = unavailable(provider, "too little of the lease was left to call");
            return Called::nothing(Outcome::NotSent, error);
        }
        if let Err(stop) = self.may_send(provider) {
            return Called::nothing(Outcome::NotSent, self.suspended(provider, stop));
        }
        let Connection { granted: scopes, resources, audiences, .. } = connection;
        let grant = if catalogue::facts(provider.registration.vendor).resend_scope {
            TokenGrant::ScopedRefreshToken { refresh_token: &refresh_token, scopes }
        } else {
            TokenGrant::RefreshToken { refresh_token: &refresh_token }
        };
        let request = client.request(provider, grant, resources, audiences, &BTreeMap::new());
        let outcome = self.call(provider, request).await;
        let judgement = match counts {
            For::All => self.hears(provider, heard(&outcome)),
            For::Itself => Judgement::Believed,
        };
        match outcome {
            token_call::Outcome::Tokens(tokens) => {
                renewal(provider, connection, refresh_token, *tokens, asked_at)
            }
            token_call::Outcome::Refused(RefusalCode::InvalidGrant) if judgement == Judgement::Held => {
                let error = unavailable(provider, "too many of its grants ended at once to be believed");
                Called::nothing(Outcome::Refused, error)
            }
            token_call::Outcome::Refused(code @ RefusalCode::InvalidGrant) => {
                Called::nothing(Outcome::GrantRefused, refusal(provider, code))
            }
            token_call::Outcome::Refused(code) => Called::nothing(Outcome::Refused, refusal(provider, code)),
            token_call::Outcome::Throttled(after) => {
                let error = unavailable(provider, "the provider asks to wait");
                Called::nothing(Outcome::Throttled(after), error)
            }
            token_call::Outcome::NotSent(error) => Called::nothing(Outcome::NotSent, error),
            token_call::Outcome::Unknown(reason) => {
                Called::nothing(Outcome::Unknown, unavailable(provider, reason))
            }
        }
    }

    /// Tells others that the user must consent again, and then puts on record that they were told: until it says so, the row is
    /// due, and whoever looks at it tells them.
    pub(crate) async fn announce(
        &self,
        stored: Stored<Connection>,
        terms: RefreshTerms,
        reason: Reason,
    ) -> Connection {
        let of = stored.value.address().party();
        let event = Event::NeedsConsent { of, reason: reason.as_str(), at: self.now() };
        let announced = stored.value.announced();
        let due = due(&stored.key, &announced, terms, self.now());
        let told = async {
            self.ports.events.tell(event).await.map_err(Error::internal)?;
            self.ports.store.write(vec![stored.replace(&announced, None, due)?]).await?;
            Ok::<_, Error>(())
        };
        match told.await {
            Ok(()) => announced,
            Err(error) => {
                tracing::warn!(%error, "that a consent is needed will be announced again");
                stored.value
            }
        }
    }
}

impl Called {
    fn nothing(outcome: Outcome, trouble: Error) -> Self {
        Self { outcome, material: None, trouble: Some(trouble), is_lost: false }
    }

    /// There is nothing to call with: the tokens are lost.
    fn lost() -> Self {
        Self { is_lost: true, ..Self::nothing(Outcome::NotSent, lost()) }
    }
}

/// D8: whose fault it was.
fn heard(outcome: &token_call::Outcome) -> Heard {
    match outcome {
        token_call::Outcome::Tokens(_) => Heard::Tokens,
        token_call::Outcome::Refused(RefusalCode::InvalidGrant) => Heard::GrantRefused,
        token_call::Outcome::Refused(
            code @ (RefusalCode::InvalidClient
            | RefusalCode::UnauthorizedClient
            | RefusalCode::UnsupportedGrantType
            | RefusalCode::InvalidScope),
        ) => Heard::ClientRefused(code.as_str()),
        token_call::Outcome::Refused(
            RefusalCode::InvalidTarget
            | RefusalCode::InvalidRequest
            | RefusalCode::AccessDenied
            | RefusalCode::Other,
        ) => Heard::RequestRefused,
        token_call::Outcome::Throttled(after) => Heard::Throttled(*after),
        token_call::Outcome::NotSent(_) | token_call::Outcome::Unknown(_) => Heard::Silence,
    }
}

/// Tokens that came, and what of them is not secret.
fn renewal(
    provider: &Oauth2Provider,
    connection: &Connection,
    refresh_token: Secret,
    tokens: Tokens,
    asked_at: Timestamp,
) -> Called {
    let granted =
        catalogue::facts(provider.registration.vendor).granted(&connection.granted, tokens.scope.as_ref());
    let expires_at = ends(provider, &tokens, asked_at);
    let material = TokenMaterial {
        access_token: tokens.access_token,
        // Its absence in an answer never erases it.
        refresh_token: Some(tokens.refresh_token.unwrap_or(refresh_token)),
    };
    let outcome = Outcome::Tokens(Renewal { asked_at, expires_at, granted });
    Called { outcome, material: Some(material), trouble: None, is_lost: false }
}
