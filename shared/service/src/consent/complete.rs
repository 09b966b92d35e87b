//! Completing a consent: the right user confirmed, the code exchanged at most once (D11).

use std::collections::BTreeMap;

use agent_identity_core::connection::{Connection, ConnectionTarget, Health, HeldTokens, TokenMaterial};
use agent_identity_core::consent::{
    self, ConsentSession, Failure, ReturnTo, SESSION_LIFE, SessionUri, Stage,
};
use agent_identity_core::denial::{UserDenials, denies};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::flight::{Flight, InFlight, LOSER_PATIENCE};
use agent_identity_core::grant::{Action, Principal, Role};
use agent_identity_core::name::UserId;
use agent_identity_core::port::Event;
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::seal::Key32;
use agent_identity_core::store::{Condition, Consistency, Key, StoreError, Write};
use agent_identity_core::user::UserKey;
use agent_identity_core::{Error, ProviderName, Result, Secret, Timestamp, WorkloadName, random};
use agent_identity_oauth::catalogue;
use agent_identity_oauth::token::{TokenGrant, Tokens};

use super::CODE_LABEL;
use crate::Services;
use crate::audit::{ACCOUNT_BESIDE, ACCOUNT_REPLACED, note};
use crate::flight::{Taken, Turn, due, nothing, still_held};
use crate::refresh::{ends, terms};
use crate::token_call::{Outcome, unavailable};

/// Who the application says the user is.
#[derive(Clone, Debug)]
pub enum UserIdentifier {
    /// A JWT of the user; another one than at the start will do, if it is of the same user.
    UserToken(Secret),
    /// An id that the caller vouches for.
    UserId(UserId),
}

/// Completes a consent.
#[derive(Clone, Debug)]
pub struct CompleteConsent {
    /// The session.
    pub session: SessionUri,
    /// The user whom the application's own browser session names.
    pub user: UserIdentifier,
}

/// Whether a principal may complete a session of this workload and provider, naming the user in this way.
struct Confirm {
    workload: WorkloadName,
    provider: ProviderName,
    role: Role,
}

impl Action for Confirm {
    const OPERATION: &'static str = "CompleteResourceTokenAuth";

    /// Naming a user here is as strong as naming them when a token is issued.
    fn role(&self) -> Role {
        self.role
    }

    fn workload(&self) -> Option<&WorkloadName> {
        Some(&self.workload)
    }

    fn provider(&self) -> Option<&ProviderName> {
        Some(&self.provider)
    }
}

fn wrong_user() -> Error {
    Error::new(
        ErrorKind::AccessDenied,
        "the session was begun for another user: only the user for whom it was begun can complete it",
    )
}

impl Services {
    /// Completes a session for the user whom the application confirms.
    ///
    /// # Errors
    /// `AccessDenied`: an unknown or ended session, another user, a failed session, no permission; `Validation` when the
    /// browser has not come back yet; `Unauthorized` for a bad user token; `Throttling` when the provider does not answer.
    pub async fn complete_consent(&self, principal: &Principal, request: CompleteConsent) -> Result<()> {
        let stored = self.session(&request.session).await?;
        let (workload, provider) = self.parties(&stored.value).await?;
        note(|about| about.workload = Some(workload.name.clone()));
        let role = match &request.user {
            UserIdentifier::UserToken(_) => Role::MintJwt,
            UserIdentifier::UserId(_) => Role::MintUserid,
        };
        let name = workload.name.clone();
        principal.authorize(Confirm { workload: name, provider: provider.name.clone(), role })?;
        let user = match &request.user {
            UserIdentifier::UserToken(token) => self.key_of_user_token(&workload, token).await?,
            UserIdentifier::UserId(user_id) => self.key_of_user_id(user_id),
        };
        self.complete(&provider, stored, user).await
    }

    /// Completes a session on the built-in page, in the browser that it is bound to: loopback development only.
    ///
    /// # Errors
    /// As [`Services::complete_consent`]; `NotFound` where there is no such page; `AccessDenied` for another browser.
    pub async fn complete_in_browser(&self, uri: &SessionUri, cookie: Option<&Secret>) -> Result<()> {
        if !self.config.built_in_return_page {
            return Err(Error::new(ErrorKind::NotFound, "there is no built-in return page here"));
        }
        let stored = self.session(uri).await?;
        if stored.value.return_to != ReturnTo::BuiltInPage {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                "this session returns to its application, which must complete it",
            ));
        }
        let bound = match (&stored.value.stage, cookie) {
            (Stage::Returned { browser, .. }, Some(cookie)) => self.is_bound(browser, cookie),
            // Reloading the page after the end shows the same end.
            (Stage::Completed | Stage::Failed(_), Some(_)) => true,
            _ => false,
        };
        if !bound {
            return Err(Error::new(ErrorKind::AccessDenied, "this consent was begun in another browser"));
        }
        let (workload, provider) = self.parties(&stored.value).await?;
        note(|about| about.workload = Some(workload.name.clone()));
        let user = stored.value.user;
        self.complete(&provider, stored, user).await
    }

    async fn complete(
        &self,
        provider: &Oauth2Provider,
        stored: Stored<ConsentSession>,
        user: UserKey,
    ) -> Result<()> {
        note(|about| {
            about.provider = Some(provider.name.clone());
            about.user = Some(user);
        });
        if stored.value.user != user {
            return Err(wrong_user());
        }
        // D15: who was banned since the session began does not complete it, not even on the built-in page.
        let began = stored.value.expires_at.minus(SESSION_LIFE);
        self.let_in(user, stored.value.workload, Some(began)).await?;
        if let Some(settled) = settled(&stored.value) {
            return settled;
        }
        // Prepared before the turn, since it may take its time. A broken configuration leaves the code unsent, and so does a
        // vault in which its tokens could not be kept.
        let client = self.client(provider).await?;
        let key = self.user_vault_key(user).await?;
        let taken = match self.turn(&stored.key, (), (), LOSER_PATIENCE, || None).await? {
            Turn::Settled(session) => {
                return session.as_ref().and_then(|session| settled(&session.value)).unwrap_or_else(|| {
                    Err(Error::new(
                        ErrorKind::AccessDenied,
                        "Invalid or expired session: it has ended; start again",
                    ))
                });
            }
            Turn::Held => return Err(still_held()),
            Turn::Mine(taken) => taken,
        };
        let session = &taken.stored().value;
        if session.flight.intent.as_ref().is_some_and(|intent| intent.sends > 1) {
            // A process died between recording the attempt and its outcome: the code may have been sent (D11).
            return self.fail(taken, Failure::CodeLost).await;
        }
        if provider.generation != session.provider_generation {
            return self.fail(taken, Failure::ProviderChanged).await;
        }
        let Stage::Returned { code, .. } = &session.stage else {
            return Err(Error::internal("a session without a code was about to be completed"));
        };
        let opened = async {
            let code = self.open_consent(CODE_LABEL, &taken.stored().key, code).await?;
            let code = std::str::from_utf8(&code).map(Secret::new).map_err(Error::internal)?;
            Ok::<_, Error>((code, self.session_secrets(taken.stored()).await?))
        };
        let (code, secrets) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return self.put_off(taken, error).await,
        };
        let asked_at = self.now();
        let outcome = if self.may_call(&taken) {
            let redirect_uri = self.callback_url(provider);
            let grant = TokenGrant::AuthorizationCode {
                code: &code,
                redirect_uri: &redirect_uri,
                code_verifier: &secrets.code_verifier,
            };
            let none = BTreeMap::new();
            let request = client.request(provider, grant, &session.resources, &session.audiences, &none);
            self.call(provider, request).await
        } else {
            Outcome::NotSent(unavailable(provider, "too little of the lease was left to call"))
        };
        match outcome {
            Outcome::Tokens(tokens) => self.connect(provider, taken, &key, *tokens, asked_at).await,
            Outcome::Refused(code) => {
                tracing::warn!(provider = %provider.name, code = code.as_str(), "the provider refused an authorization code");
                self.fail(taken, Failure::CodeRefused).await
            }
            Outcome::Unknown(reason) => {
                tracing::warn!(provider = %provider.name, %reason, "the answer to a code exchange was lost");
                self.fail(taken, Failure::CodeLost).await
            }
            // It had the code, and may have used it: from here on it is a code that was sent (D11).
            Outcome::Throttled(_) => {
                tracing::warn!(provider = %provider.name, "the provider asked to wait instead of taking an authorization code");
                self.fail(taken, Failure::CodePutOff).await
            }
            Outcome::NotSent(error) => self.put_off(taken, error).await,
        }
    }

    /// The code was not sent: the session stays as it was, to be completed again.
    async fn put_off(&self, taken: Taken<ConsentSession>, error: Error) -> Result<()> {
        self.land(taken, consent::Outcome::PutOff, nothing).await?;
        Err(error)
    }

    /// The session ends without a connection; one from before stays untouched.
    async fn fail(&self, taken: Taken<ConsentSession>, failure: Failure) -> Result<()> {
        self.land(taken, consent::Outcome::Failed(failure), nothing).await?;
        Err(Error::new(ErrorKind::AccessDenied, failure.message()))
    }

    /// Stores the connection and the end of the session together, before anybody is answered.
    async fn connect(
        &self,
        provider: &Oauth2Provider,
        taken: Taken<ConsentSession>,
        user_key: &Key32,
        tokens: Tokens,
        asked_at: Timestamp,
    ) -> Result<()> {
        let session = &taken.stored().value;
        let account = tokens.account(&provider.registration.client_id);
        let granted =
            catalogue::facts(provider.registration.vendor).granted(&session.scopes, tokens.scope.as_ref());
        let expires_at = ends(provider, &tokens, asked_at);
        let refreshable = tokens.refresh_token.is_some();
        let material =
            TokenMaterial { access_token: tokens.access_token, refresh_token: tokens.refresh_token };
        let (denials, began) = (UserDenials::key(session.user), session.expires_at.minus(SESSION_LIFE));
        // Not that of a connection which was deleted here a moment ago: what a refresh of that one still brings is not for this one.
        let first_generation = u64::from(u32::from_be_bytes(random::bytes(&*self.ports.random)));
        let mut ended = session.clone();
        ended.stage = Stage::Completed;
        ended.flight_mut().arrive();
        loop {
            let (mut target, mut before) =
                (session.target.clone(), self.held(session, &session.target).await?);
            let known = before.as_ref().and_then(|held| held.value.account.as_ref());
            let another = account.is_some() && known.is_some() && account.as_ref() != known;
            // D25: never overwritten silently. What another account gives is kept under that account's own label, and such a label is
            // for no other.
            let own = account.as_ref().map(|account| account.label(&*self.ports.digest));
            let misplaced = session.label.is_of_an_account() && own.as_ref() != Some(&session.label);
            ended.kept_beside = own.filter(|_| misplaced || (another && !session.replaces_account));
            let replaced = another && ended.kept_beside.is_none();
            if let Some(label) = &ended.kept_beside {
                let (resources, audiences) = (&session.resources, &session.audiences);
                target = ConnectionTarget { label, resources, audiences }.text(&*self.ports.digest);
                before = self.held(session, &target).await?;
            }
            let key = Connection::key(session.workload, session.user, session.provider, &target);
            let generation = before
                .as_ref()
                .map_or(first_generation, |held| held.value.tokens.generation.saturating_add(1));
            let mut connection = Connection {
                workload: session.workload,
                user: session.user,
                provider: session.provider,
                target,
                resources: session.resources.clone(),
                audiences: session.audiences.clone(),
                account: account.clone(),
                provider_generation: provider.generation,
                asked: session.scopes.clone(),
                granted: granted.clone(),
                consented_at: Some(asked_at),
                used_at: terms(provider).keep_alive.map(|_policy| asked_at),
                announced_end: None,
                tokens: HeldTokens {
                    generation,
                    obtained_at: asked_at,
                    expires_at,
                    refreshable,
                    sealed: String::new(),
                },
                health: Health::Active,
                flight: Flight::after(before.as_ref().map(|held| &held.value.flight)),
            };
            // D15: until the connection is there. Who bans a user and then looks for their connections finds all that will ever be.
            let denial = self.insist(|| self.ports.store.get(&denials, Consistency::Strong)).await?;
            if denies(UserDenials::of_row(denial.as_ref())?.of(session.workload), Some(began), None).is_some()
            {
                self.revoke_what_came(connection, user_key, &material).await?;
                return self.fail(taken, Failure::UserDenied).await;
            }
            connection.tokens.sealed = self.seal_connection(user_key, &connection, generation, &material)?;
            let still_let_in = Write::Check {
                key: denials.clone(),
                condition: denial.map_or(Condition::Absent, |row| Condition::Version(row.version)),
            };
            let condition =
                before.as_ref().map_or(Condition::Absent, |held| Condition::Version(held.version));
            let mut writes = vec![
                taken.stored().replace(&ended, ended.row_ends(), None)?,
                record::put(
                    key.clone(),
                    condition,
                    &connection,
                    None,
                    due(&key, &connection, terms(provider), self.now()),
                )?,
            ];
            writes.extend(self.enter(&connection.address()).await?);
            writes.push(still_let_in);
            // Where the trail is in the store, the record of the change is in this transaction.
            note(|about| {
                about.answer = match &ended.kept_beside {
                    Some(_) => Some(ACCOUNT_BESIDE),
                    None => replaced.then_some(ACCOUNT_REPLACED),
                };
            });
            match self.insist(|| self.ports.store.write(writes.clone())).await {
                Ok(()) => {
                    if before.is_some_and(|held| matches!(held.value.health, Health::NeedsConsent { .. })) {
                        let of = connection.address().party();
                        self.ports.events.emit(Event::Recovered { of, at: self.now() });
                    }
                    return Ok(());
                }
                Err(StoreError::Conflict(0)) => {
                    // An earlier attempt whose answer was lost: only who sent the code completes its session.
                    if self.is_completed(&taken.stored().key).await? {
                        return Ok(());
                    }
                    return Err(Error::new(
                        ErrorKind::AccessDenied,
                        "another request took over this session while its code was exchanged; start again",
                    ));
                }
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The connection of a session's user that is there now.
    async fn held(&self, session: &ConsentSession, target: &str) -> Result<Option<Stored<Connection>>> {
        let key = Connection::key(session.workload, session.user, session.provider, target);
        let row = self.insist(|| self.ports.store.get(&key, Consistency::Strong)).await?;
        row.as_ref().map(record::parse).transpose()
    }

    async fn is_completed(&self, session: &Key) -> Result<bool> {
        let now = self.insist(|| self.ports.store.get(session, Consistency::Strong)).await?;
        let now: Option<Stored<ConsentSession>> = now.as_ref().map(record::parse).transpose()?;
        Ok(now.is_some_and(|now| matches!(now.value.stage, Stage::Completed)))
    }
}

/// What a session that is not waiting for its user to be confirmed answers.
fn settled(session: &ConsentSession) -> Option<Result<()>> {
    match &session.stage {
        Stage::Returned { .. } => None,
        Stage::Completed => Some(Ok(())),
        Stage::Failed(failure) => Some(Err(Error::new(ErrorKind::AccessDenied, failure.message()))),
        Stage::Offered | Stage::Bound(_) => Some(Err(Error::field(
            "sessionUri",
            "the user has not come back from the provider yet; complete the session when the return URL is called",
        ))),
    }
}
