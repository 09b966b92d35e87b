//! M2M: client-credentials tokens, one fetch per key however many callers (D24).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agent_identity_core::client_token::{self, ClientToken};
use agent_identity_core::connection::{HeldTokens, TokenMaterial};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::flight::{LOSER_PATIENCE, backoff};
use agent_identity_core::name::Scope;
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::refresh::Decision;
use agent_identity_core::store::{Consistency, Key, Kind};
use agent_identity_core::tag::SHARED_CLIENT_TOKENS;
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, Id, Result, Secret, Timestamp, encoding, random};
use agent_identity_oauth::catalogue;
use agent_identity_oauth::token::{RefusalCode, TokenGrant, Tokens};

use crate::Services;
use crate::flight::{Taken, Turn, nothing, still_held};
use crate::token_call::{Outcome, refusal, unavailable};

/// What of a request makes a client-credentials token another one.
pub(crate) struct ClientTokenRequest<'a> {
    pub(crate) scopes: &'a BTreeSet<Scope>,
    pub(crate) resources: &'a [String],
    pub(crate) audiences: &'a [String],
    pub(crate) custom_parameters: &'a BTreeMap<String, String>,
}

/// How long a token is taken to live when the provider does not say.
const UNSAID_LIFE: Duration = Duration::from_secs(300);

impl ClientTokenRequest<'_> {
    fn key(&self, services: &Services, workload: &Workload, provider: &Oauth2Provider) -> Key {
        let shared = provider.tags.get(SHARED_CLIENT_TOKENS).is_some_and(|value| value == "true");
        self.key_of(services, workload.id, provider.id, provider.generation, shared)
    }

    /// D24: (workload id, provider id, generation, sorted scopes, resources, audiences, customParameters).
    pub(crate) fn key_of(
        &self,
        services: &Services,
        workload: Id<Workload>,
        provider: Id<Oauth2Provider>,
        generation: u32,
        shared: bool,
    ) -> Key {
        let sorted = |list: &[String]| {
            let set: BTreeSet<&str> = list.iter().map(String::as_str).collect();
            encoding::length_prefixed(set.iter().map(|item| item.as_bytes()))
        };
        let scopes = encoding::length_prefixed(self.scopes.iter().map(|scope| scope.as_str().as_bytes()));
        let custom = encoding::length_prefixed(
            self.custom_parameters.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]),
        );
        let workload: &[u8] = if shared { b"" } else { workload.as_bytes() };
        let framed = encoding::length_prefixed([
            workload,
            provider.as_bytes(),
            &generation.to_be_bytes(),
            &scopes,
            &sorted(self.resources),
            &sorted(self.audiences),
            &custom,
        ]);
        Key::single(Kind::ClientToken, encoding::hex(&services.ports.digest.sha256(&framed)))
    }
}

impl Services {
    /// The access token for a client, from memory of the vault or from the provider.
    ///
    /// # Errors
    /// `Validation` when the provider refuses or is misconfigured, `Throttling` when it cannot be asked now.
    pub(crate) async fn client_token(
        &self,
        workload: &Workload,
        provider: &Oauth2Provider,
        request: &ClientTokenRequest<'_>,
    ) -> Result<Secret> {
        let key = request.key(self, workload, provider);
        let stored: Option<Stored<ClientToken>> =
            record::get(&*self.ports.store, &key, Consistency::Eventual).await?;
        let mut lost = None;
        if let Some(Stored { value: ClientToken { tokens: Some(held), .. }, .. }) =
            stored.as_ref().filter(|stored| stored.value.decide(self.now()) == Decision::Serve)
        {
            match self.open_client_token(&key, held).await? {
                Some(token) => return Ok(token),
                None => lost = Some(held.generation),
            }
        }
        // What was read from memory serves a token from the vault, but sends nothing: an edit must not be missed (D3, D17).
        let provider =
            &self.by_name::<Oauth2Provider>(provider.name.as_str(), Consistency::Strong).await?.value;
        let key = request.key(self, workload, provider);
        let first = || Some(ClientToken::first(self.now()));
        match self.turn(&key, lost, (), LOSER_PATIENCE, first).await? {
            Turn::Mine(taken) => self.fetch_client_token(provider, request, taken).await,
            Turn::Settled(Some(Stored { value, .. })) if value.decide(self.now()) != Decision::Refresh => {
                self.reveal_client_token(&key, &value).await
            }
            Turn::Held => Err(still_held()),
            Turn::Settled(_) => Err(unavailable(provider, "the row of the token is gone")),
        }
    }

    /// Another access token than `refused`, which the API that it is for does not take: one that came meanwhile, or a new one. None
    /// where there is no other now.
    ///
    /// # Errors
    /// As [`Services::client_token`].
    pub(crate) async fn replaced_client_token(
        &self,
        workload: &Workload,
        provider: &Oauth2Provider,
        request: &ClientTokenRequest<'_>,
        refused: &Secret,
    ) -> Result<Option<Secret>> {
        let provider =
            &self.by_name::<Oauth2Provider>(provider.name.as_str(), Consistency::Strong).await?.value;
        let key = request.key(self, workload, provider);
        let found: Option<Stored<ClientToken>> =
            record::get(&*self.ports.store, &key, Consistency::Strong).await?;
        let Some(held) = found.and_then(|found| found.value.tokens) else { return Ok(None) };
        if let Some(current) = self.open_client_token(&key, &held).await?
            && current != *refused
        {
            return Ok(Some(current));
        }
        if !self.caches.replaced.is_first(&key).await {
            return Ok(None);
        }
        let token = match self.turn(&key, Some(held.generation), (), LOSER_PATIENCE, || None).await? {
            Turn::Mine(taken) => self.fetch_client_token(provider, request, taken).await?,
            Turn::Held => return Err(still_held()),
            Turn::Settled(None) => return Ok(None),
            Turn::Settled(Some(Stored { value, .. })) => self.reveal_client_token(&key, &value).await?,
        };
        Ok(Some(token).filter(|token| token != refused))
    }

    async fn reveal_client_token(&self, key: &Key, token: &ClientToken) -> Result<Secret> {
        let now = self.now();
        match (&token.tokens, token.flight.retry_at) {
            (Some(held), retry_at) if held.valid(now) => {
                let token = self.open_client_token(key, held).await?;
                // Lost with the vault key over it, and the provider did not give another a moment ago.
                token.ok_or_else(|| come_back(retry_at.unwrap_or(now), now))
            }
            (_, Some(at)) => Err(come_back(at, now)),
            _ => Err(Error::internal("a client token that has ended was about to be served")),
        }
    }

    async fn fetch_client_token(
        &self,
        provider: &Oauth2Provider,
        request: &ClientTokenRequest<'_>,
        taken: Taken<ClientToken>,
    ) -> Result<Secret> {
        let key = taken.stored().key.clone();
        let prepared = async {
            self.ready_to_seal().await?;
            self.client(provider).await
        };
        let client = match prepared.await {
            Ok(client) => client,
            // What is wrong with the configuration is said at once, each time: nothing was sent.
            Err(error) => return self.client_token_failed(taken, None, error).await,
        };
        let asked_at = self.now();
        let outcome = if self.may_call(&taken) {
            let grant = TokenGrant::ClientCredentials { scopes: request.scopes };
            let http = client.request(
                provider,
                grant,
                request.resources,
                request.audiences,
                request.custom_parameters,
            );
            self.call(provider, http).await
        } else {
            Outcome::NotSent(unavailable(provider, "too little of the lease was left to call"))
        };
        let pause = self.pause(taken.stored().value.flight.failures);
        match outcome {
            Outcome::Tokens(tokens) => {
                let access_token = tokens.access_token.clone();
                let generation =
                    taken.stored().value.tokens.as_ref().map_or(1, |held| held.generation.saturating_add(1));
                let held = self.hold_client_tokens(&key, provider, generation, *tokens, asked_at).await?;
                self.land(taken, client_token::Outcome::Token(held), nothing).await?;
                Ok(access_token)
            }
            Outcome::Refused(code) => {
                // Who keeps knocking with the wrong key is locked out (D8). A scope or target that is refused is the
                // caller's, and says so each time.
                let locked_out = matches!(code, RefusalCode::InvalidClient | RefusalCode::UnauthorizedClient);
                let wait = locked_out.then_some(pause);
                self.client_token_failed(taken, wait, refusal(provider, code)).await
            }
            Outcome::Throttled(after) => {
                let error = unavailable(provider, "the provider asks to wait");
                self.client_token_failed(taken, Some(after.unwrap_or(pause)), error).await
            }
            Outcome::NotSent(error) => self.client_token_failed(taken, Some(pause), error).await,
            Outcome::Unknown(reason) => {
                self.client_token_failed(taken, Some(pause), unavailable(provider, reason)).await
            }
        }
    }

    async fn hold_client_tokens(
        &self,
        key: &Key,
        provider: &Oauth2Provider,
        generation: u64,
        tokens: Tokens,
        asked_at: Timestamp,
    ) -> Result<HeldTokens> {
        let facts = catalogue::facts(provider.registration.vendor);
        let life = tokens.expires_in.or(facts.default_ttl).unwrap_or(UNSAID_LIFE);
        let material = TokenMaterial { access_token: tokens.access_token, refresh_token: None };
        Ok(HeldTokens {
            generation,
            obtained_at: asked_at,
            expires_at: Some(asked_at.plus(life)),
            refreshable: false,
            sealed: self.seal_client_token(key, generation, &material).await?,
        })
    }

    /// Notes a failure, and serves the token before if it is still valid.
    async fn client_token_failed(
        &self,
        taken: Taken<ClientToken>,
        wait: Option<Duration>,
        error: Error,
    ) -> Result<Secret> {
        let key = taken.stored().key.clone();
        let now = self.now();
        let token = self.land(taken, client_token::Outcome::Failed(wait), nothing).await?.stored.value;
        match &token.tokens {
            Some(held) if held.valid(now) => {
                tracing::warn!(%error, "a client token could not be renewed and is served as it is");
                self.open_client_token(&key, held).await?.ok_or(error)
            }
            _ => Err(error),
        }
    }

    /// How long to wait after so many failures in a row.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let [jitter] = random::bytes::<1>(&*self.ports.random);
        backoff(failures, jitter)
    }
}

/// What the client is told while an attempt that failed a moment ago is not repeated yet.
pub(crate) fn come_back(at: Timestamp, now: Timestamp) -> Error {
    Error::new(
        ErrorKind::Throttling,
        format!(
            "the provider did not give a token a moment ago; try again in {} s",
            at.since(now).as_secs().max(1)
        ),
    )
}
