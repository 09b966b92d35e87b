//! The use cases over ports in memory, and a provider that answers as it is told.
#![allow(dead_code, reason = "each test binary uses a part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's world stops at the first surprise"
)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_identity_core::arn::Place;
use agent_identity_core::consent::SessionUri;
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Grant, Principal};
use agent_identity_core::http::{HttpClient, HttpError, HttpRequest, HttpResponse};
use agent_identity_core::issuer::{
    IssuerPolicy, TokenProfile, TokenRefused, TokenVerifier, TrustedIssuer, VerifiedClaims, VerifiedToken,
};
use agent_identity_core::name::{Label, Scope, UserId};
use agent_identity_core::port::{Event, Events};
use agent_identity_core::provider::{ClientRegistration, Discovery, ServerMetadata, Vendor};
use agent_identity_core::seal::KeyWrapper;
use agent_identity_core::store::{Consistency, Key, Kind, Query, Row, Store, StoreError, Write};
use agent_identity_core::workload::ReturnUrl;
use agent_identity_core::{Clock, Id, ProviderName, Result, Secret, Timestamp, WorkloadName};
use agent_identity_jose::VaultSealer;
use agent_identity_service::api_key_provider::GivenSecret;
use agent_identity_service::consent::{CompleteConsent, ProviderReturn, UserIdentifier};
use agent_identity_service::oauth2_provider::{
    CreateOauth2Provider, GetOauth2Provider, GivenConfig, UpdateOauth2Provider,
};
use agent_identity_service::oauth2_token::{Flow, Oauth2TokenAnswer, Oauth2TokenRequest};
use agent_identity_service::workload::CreateWorkload;
use agent_identity_service::workload_token::{IssueWorkloadTokenForJwt, IssueWorkloadTokenForUserId};
use agent_identity_service::{Config, Ports, Services};
use agent_identity_testkit::{
    FixedClock, MemorySecrets, MemoryStore, NoSigningKeys, SeededRandom, Sha256, TestSealer,
};
use async_trait::async_trait;
use serde_json::json;

/// How the provider answers a token request.
pub enum Reply {
    /// With these tokens, living so many seconds, and a refresh token.
    Tokens(&'static str, u64),
    /// With these tokens, and these scopes.
    Scoped(&'static str, &'static str),
    /// With an OAuth error.
    Error(&'static str),
    /// With a status and nothing that can be read.
    Status(u16),
    /// Not at all: no byte was sent.
    NotSent,
    /// Not at all: the request was sent.
    Lost,
    /// With these tokens, when the gate opens.
    Held(&'static str, Arc<tokio::sync::Notify>),
    /// With an OAuth error, when the gate opens.
    HeldError(&'static str, Arc<tokio::sync::Notify>),
    /// With these tokens, after so long.
    After(Duration, &'static str),
}

/// A provider's token endpoint.
#[derive(Default)]
pub struct Provider {
    replies: Mutex<VecDeque<Reply>>,
    /// The bodies of the requests that came.
    pub requests: Mutex<Vec<BTreeMap<String, String>>>,
    /// From when to when each answer of [`Reply::After`] was waited for.
    pub slow: Mutex<Vec<(tokio::time::Instant, tokio::time::Instant)>>,
}

impl Provider {
    pub fn will(&self, reply: Reply) {
        self.replies.lock().unwrap().push_back(reply);
    }

    /// Takes back all that it will say.
    pub fn forget(&self) {
        self.replies.lock().unwrap().clear();
    }

    /// The values of one parameter over all requests so far.
    pub fn seen(&self, parameter: &str) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter_map(|request| request.get(parameter).cloned()).collect()
    }
}

fn answer(status: u16, body: &serde_json::Value) -> HttpResponse {
    let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
    HttpResponse { status, headers, body: body.to_string().into_bytes() }
}

fn tokens(name: &str, seconds: u64) -> HttpResponse {
    answer(
        200,
        &json!({
            "access_token": format!("access-{name}"), "refresh_token": format!("refresh-{name}"),
            "token_type": "Bearer", "expires_in": seconds,
        }),
    )
}

#[async_trait]
impl HttpClient for Provider {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let body = request.body.as_ref().map_or("", Secret::expose).to_owned();
        let fields = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        let reply = self.replies.lock().unwrap().pop_front().expect("a request that no test expects");
        let target = "provider.example:443".to_owned();
        let reason = "test".to_owned();
        if !matches!(reply, Reply::NotSent) {
            self.requests.lock().unwrap().push(fields);
        }
        match reply {
            Reply::Tokens(name, seconds) => Ok(tokens(name, seconds)),
            Reply::Scoped(name, scope) => Ok(answer(
                200,
                &json!({ "access_token": format!("access-{name}"), "token_type": "Bearer", "expires_in": 600, "scope": scope }),
            )),
            Reply::Error(code) => Ok(answer(400, &json!({ "error": code }))),
            Reply::Status(status) => Ok(answer(status, &json!("?"))),
            Reply::NotSent => Err(HttpError::NotSent { target, reason }),
            Reply::Lost => Err(HttpError::Unknown { target, reason }),
            Reply::Held(name, gate) => {
                gate.notified().await;
                Ok(tokens(name, 3600))
            }
            Reply::After(wait, name) => {
                let began = tokio::time::Instant::now();
                tokio::time::sleep(wait).await;
                self.slow.lock().unwrap().push((began, tokio::time::Instant::now()));
                Ok(tokens(name, 3600))
            }
            Reply::HeldError(code, gate) => {
                gate.notified().await;
                Ok(answer(400, &json!({ "error": code })))
            }
        }
    }
}

/// Takes `ISSUER|SUBJECT|EXPIRY` or `ISSUER|SUBJECT|EXPIRY|AUDIENCE` for a token, and `|@SECONDS` at its end for when it was issued.
struct PlainVerifier;

impl PlainVerifier {
    fn read(token: &Secret) -> Result<VerifiedClaims, TokenRefused> {
        let mut parts = token.expose().split('|').map(str::to_owned);
        let (Some(issuer), Some(subject), Some(expiry)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TokenRefused::Invalid { code: "test", reason: "no token".to_owned() });
        };
        let (at, audiences): (Vec<String>, Vec<String>) = parts.partition(|part| part.starts_with('@'));
        let issued_at =
            at.iter().find_map(|at| at.strip_prefix('@')?.parse().ok().map(Timestamp::from_seconds));
        let token = VerifiedToken {
            issuer,
            subject_claim: "sub".to_owned(),
            subject,
            expires_at: Timestamp::from_seconds(expiry.parse().unwrap()),
            issued_at,
            auth_time: None,
        };
        Ok(VerifiedClaims {
            token,
            audiences,
            client_id: None,
            authorized_party: None,
            scopes: Vec::new(),
            custom: Vec::new(),
            met: Vec::new(),
        })
    }
}

#[async_trait]
impl TokenVerifier for PlainVerifier {
    async fn verify(&self, token: &Secret, policy: &IssuerPolicy) -> Result<VerifiedToken, TokenRefused> {
        let token = Self::read(token)?.token;
        match policy {
            IssuerPolicy::Trusted(records) if !records.iter().any(|record| record.issuer == token.issuer) => {
                Err(TokenRefused::Invalid { code: "issuer", reason: "its issuer is not trusted".to_owned() })
            }
            _ => Ok(token),
        }
    }

    async fn verify_claims(
        &self,
        token: &Secret,
        profiles: &[TokenProfile],
    ) -> Result<VerifiedClaims, TokenRefused> {
        let mut claims = Self::read(token)?;
        let places = profiles.iter().enumerate();
        claims.met = places
            .filter(|(_, profile)| profile.issuers.contains(&claims.token.issuer))
            .map(|(place, _)| place)
            .collect();
        if claims.met.is_empty() {
            let reason = "its issuer is not trusted here".to_owned();
            return Err(TokenRefused::Invalid { code: "issuer", reason });
        }
        Ok(claims)
    }
}

/// The events that were told, and whether whoever passes them on is out of reach.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<Event>>, pub AtomicBool);

#[async_trait]
impl Events for Heard {
    fn emit(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    async fn tell(&self, event: Event) -> Result<(), String> {
        self.emit(event);
        if self.1.load(Ordering::SeqCst) { Err("out of reach".to_owned()) } else { Ok(()) }
    }
}

/// One store and one provider, and as many processes as a test wants.
pub struct World {
    pub clock: Arc<FixedClock>,
    pub store: Arc<MemoryStore>,
    pub secrets: Arc<MemorySecrets>,
    pub provider: Arc<Provider>,
    pub events: Arc<Heard>,
    pub services: Arc<Services>,
    pub admin: Principal,
}

pub const AGENT: &str = "agent";
pub const CALENDAR: &str = "calendar";
pub const RETURN: &str = "https://app.example/return";

impl World {
    pub fn new() -> Self {
        let clock = Arc::new(FixedClock::default());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let (secrets, provider, events) = (Arc::default(), Arc::default(), Arc::default());
        let services = process(1, &clock, store.clone(), &secrets, &provider, &events);
        let admin = Principal { name: "access-key/admin".to_owned(), grants: vec![Grant::everything()] };
        Self { clock, store, secrets, provider, events, services, admin }
    }

    /// Another process on the same store; `clock` may be its own.
    pub fn another_process(&self, seed: u64, clock: &Arc<FixedClock>) -> Arc<Services> {
        process(seed, clock, self.store.clone(), &self.secrets, &self.provider, &self.events)
    }

    fn deciding(&self, seed: u64, decide: impl FnOnce(&mut Config)) -> Arc<Services> {
        let (clock, store) = (&self.clock, self.store.clone());
        process_with(seed, clock, store, &self.secrets, &self.provider, &self.events, decide)
    }

    /// Another process, of a deployment that trusts these issuers.
    pub fn process_that_trusts(&self, seed: u64, issuers: Vec<TrustedIssuer>) -> Arc<Services> {
        self.deciding(seed, |config| config.issuers = IssuerPolicy::Trusted(issuers))
    }

    /// Another process, which serves records from memory for so long.
    pub fn process_that_remembers(&self, seed: u64, record_cache: Duration) -> Arc<Services> {
        self.deciding(seed, |config| config.record_cache = record_cache)
    }

    /// Another process, whose store refuses the next writes, as many as the counter says.
    pub fn process_on_a_busy_store(&self, seed: u64) -> (Arc<Services>, Arc<AtomicUsize>) {
        self.process_in_trouble(seed, Trouble::Busy)
    }

    /// Another process, whose store does this to the next writes, as many as the counter says.
    pub fn process_in_trouble(&self, seed: u64, trouble: Trouble) -> (Arc<Services>, Arc<AtomicUsize>) {
        let (store, left) = self.store_in_trouble(trouble);
        let services = process(seed, &self.clock, store, &self.secrets, &self.provider, &self.events);
        (services, left)
    }

    /// The store, which does this to the next writes, as many as the counter says.
    pub fn store_in_trouble(&self, trouble: Trouble) -> (Arc<dyn Store>, Arc<AtomicUsize>) {
        let left = Arc::new(AtomicUsize::new(0));
        (Arc::new(Troubled { store: self.store.clone(), left: Arc::clone(&left), trouble }), left)
    }

    /// Another process over this store.
    pub fn process_over(&self, seed: u64, store: Arc<dyn Store>) -> Arc<Services> {
        process(seed, &self.clock, store, &self.secrets, &self.provider, &self.events)
    }

    /// Another process over this store, with vault keys that this wraps.
    pub fn process_with_vault_keys(
        &self,
        seed: u64,
        store: Arc<dyn Store>,
        wrapper: Arc<dyn KeyWrapper>,
    ) -> Arc<Services> {
        let random = Arc::new(SeededRandom::new(seed));
        let sealer = VaultSealer::new(store.clone(), wrapper, self.clock.clone(), random);
        let ports = Ports {
            store,
            sealer: Arc::new(sealer),
            random: Arc::new(SeededRandom::new(seed + 1000)),
            ..self.services.ports().clone()
        };
        Arc::new(Services::new(ports, self.services.config().clone()))
    }

    /// Lets time pass in small steps, as it does for a process that is awake.
    pub async fn awake_for(clock: &FixedClock, seconds: u64) {
        for _ in 0..seconds * 2 {
            clock.advance(Duration::from_millis(500));
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }

    /// A workload and an OAuth2 provider.
    pub async fn with_calendar() -> Self {
        let world = Self::new();
        world.create_workload(AGENT).await;
        world.create_provider(CALENDAR).await;
        world
    }

    pub async fn create_workload(&self, name: &str) {
        let action = CreateWorkload {
            name: WorkloadName::parse(name).unwrap(),
            return_urls: vec![ReturnUrl::parse(RETURN).unwrap()],
            tags: BTreeMap::new(),
        };
        self.services.create_workload(self.admin.authorize(action).unwrap()).await.unwrap();
    }

    pub async fn create_provider(&self, name: &str) {
        self.create_provider_with(name, config("https://provider.example", "client", Some("s3cret"))).await;
    }

    pub async fn create_provider_with(&self, name: &str, config: GivenConfig) {
        let action =
            CreateOauth2Provider { name: ProviderName::parse(name).unwrap(), config, tags: BTreeMap::new() };
        self.services.create_oauth2_provider(self.admin.authorize(action).unwrap()).await.unwrap();
    }

    pub async fn update_provider(&self, name: &str, config: GivenConfig) {
        let action = UpdateOauth2Provider { name: ProviderName::parse(name).unwrap(), config };
        self.services.update_oauth2_provider(self.admin.authorize(action).unwrap()).await.unwrap();
    }

    pub async fn provider_id(&self, name: &str) -> Id<agent_identity_core::provider::Oauth2Provider> {
        let action = GetOauth2Provider { name: ProviderName::parse(name).unwrap() };
        self.services.get_oauth2_provider(self.admin.authorize(action).unwrap()).await.unwrap().id
    }

    pub async fn wat(&self, workload: &str, user: &str) -> Secret {
        wat_from(&self.services, &self.admin, workload, user).await
    }

    pub async fn wat_for_jwt(&self, workload: &str, jwt: &str) -> Secret {
        let action = IssueWorkloadTokenForJwt {
            workload: WorkloadName::parse(workload).unwrap(),
            user_token: Secret::new(jwt),
        };
        self.services.issue_workload_token_for_jwt(self.admin.authorize(action).unwrap()).await.unwrap()
    }

    pub async fn get(&self, wat: &Secret) -> Result<Oauth2TokenAnswer> {
        get_from(&self.services, &self.admin, request(wat)).await
    }

    pub async fn token(&self, wat: &Secret) -> Result<String> {
        match self.get(wat).await? {
            Oauth2TokenAnswer::Token(token) => Ok(token.expose().to_owned()),
            other => panic!("no token but {other:?}"),
        }
    }

    /// Begins a consent and goes with the browser to the provider and back; gives the session.
    pub async fn consented(&self, request: Oauth2TokenRequest) -> SessionUri {
        let session = self.offered(request).await;
        let (cookie, state) = self.departed(&session).await;
        self.returned(&state, &cookie, Some("code")).await.unwrap();
        session
    }

    pub async fn offered(&self, request: Oauth2TokenRequest) -> SessionUri {
        match self.services.get_oauth2_token(&self.admin, request).await.unwrap() {
            Oauth2TokenAnswer::Consent { session, .. } => session,
            other => panic!("no consent but {other:?}"),
        }
    }

    pub async fn departed(&self, session: &SessionUri) -> (Secret, Secret) {
        let departure = self.services.begin_consent(session, None).await.unwrap();
        let url = url::Url::parse(departure.location.expose()).unwrap();
        let state = url.query_pairs().find(|(name, _)| name == "state").unwrap().1.into_owned();
        (departure.cookie, Secret::new(state))
    }

    pub async fn returned(&self, state: &Secret, cookie: &Secret, code: Option<&str>) -> Result<Secret> {
        self.returned_to(&self.services, state, cookie, code).await
    }

    /// The browser comes back to another process.
    pub async fn returned_to(
        &self,
        services: &Services,
        state: &Secret,
        cookie: &Secret,
        code: Option<&str>,
    ) -> Result<Secret> {
        let answer = ProviderReturn {
            provider: self.provider_id(CALENDAR).await,
            state: state.clone(),
            code: code.map(Secret::new),
            issuer: None,
            error: code.is_none().then(|| "access_denied".to_owned()),
        };
        services.return_from_provider(answer, Some(cookie)).await
    }

    pub async fn complete(&self, session: &SessionUri, user: &str) -> Result<()> {
        let user = UserIdentifier::UserId(UserId::parse(user).unwrap());
        let request = CompleteConsent { session: session.clone(), user };
        self.services.complete_consent(&self.admin, request).await
    }

    /// The user consents anew, and the provider gives these tokens.
    pub async fn consent_again(&self, wat: &Secret, tokens: &'static str) {
        let mut again = request(wat);
        again.force_authentication = true;
        let session = self.consented(again).await;
        self.provider.will(Reply::Tokens(tokens, 600));
        self.complete(&session, "ada").await.unwrap();
    }

    /// A connection of `ada` whose access token `access-first` lives so many seconds.
    pub async fn connected(seconds: u64) -> (Self, Secret) {
        let world = Self::with_calendar().await;
        let wat = world.wat(AGENT, "ada").await;
        let session = world.consented(request(&wat)).await;
        world.provider.will(Reply::Tokens("first", seconds));
        world.complete(&session, "ada").await.unwrap();
        (world, wat)
    }

    /// A read that is refreshing: the provider answers it with these tokens when the gate opens.
    pub async fn refreshing(
        &self,
        wat: &Secret,
        tokens: &'static str,
    ) -> (Arc<tokio::sync::Notify>, tokio::task::JoinHandle<Result<Oauth2TokenAnswer>>) {
        let gate = Arc::new(tokio::sync::Notify::new());
        let sent = self.provider.seen("refresh_token").len();
        self.provider.will(Reply::Held(tokens, Arc::clone(&gate)));
        let (services, admin, wat) = (Arc::clone(&self.services), self.admin.clone(), wat.clone());
        let reading = tokio::spawn(async move { services.get_oauth2_token(&admin, request(&wat)).await });
        while self.provider.seen("refresh_token").len() == sent {
            tokio::task::yield_now().await;
        }
        (gate, reading)
    }

    /// Lets time pass, and gets a token for who is there then (workload access tokens live 15 minutes).
    pub async fn later(&self, seconds: u64) -> Secret {
        self.clock.advance(Duration::from_secs(seconds));
        self.wat(AGENT, "ada").await
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// What becomes of a write, or of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The write takes its time.
    Slowness,
    /// It is refused for now.
    Busy,
    /// It is made, and nobody is told.
    LostAnswer,
    /// It is not made, and nobody is told.
    LostRequest,
    /// It is made, nobody is told, and nothing can be read while it lasts.
    Silence,
    /// What stands against users cannot be read while it lasts; everything else can.
    NoDenials,
    /// None, but everybody else has a turn between each read and what follows from it.
    Overtaken,
}

/// A store in trouble for some writes.
struct Troubled {
    store: Arc<MemoryStore>,
    left: Arc<AtomicUsize>,
    trouble: Trouble,
}

fn unknown() -> StoreError {
    StoreError::Failed("the outcome of a write is unknown: test".to_owned())
}

#[async_trait]
impl Store for Troubled {
    async fn get(&self, key: &Key, consistency: Consistency) -> Result<Option<Row>, StoreError> {
        if self.trouble == Trouble::Silence && self.left.load(Ordering::SeqCst) > 0 {
            return Err(unknown());
        }
        if self.trouble == Trouble::NoDenials
            && key.kind == Kind::Denial
            && self.left.load(Ordering::SeqCst) > 0
        {
            return Err(StoreError::Busy("test".to_owned()));
        }
        let found = self.store.get(key, consistency).await;
        if self.trouble == Trouble::Overtaken {
            tokio::task::yield_now().await;
        }
        found
    }

    async fn batch_get(
        &self,
        keys: &[Key],
        consistency: Consistency,
    ) -> Result<Vec<Option<Row>>, StoreError> {
        self.store.batch_get(keys, consistency).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let left = self.left.load(Ordering::SeqCst);
        if left == 0 || self.trouble == Trouble::NoDenials {
            return self.store.write(writes).await;
        }
        self.left.store(left - 1, Ordering::SeqCst);
        match self.trouble {
            Trouble::Busy | Trouble::NoDenials => Err(StoreError::Busy("test".to_owned())),
            Trouble::Overtaken => self.store.write(writes).await,
            Trouble::Slowness => {
                tokio::task::yield_now().await;
                self.store.write(writes).await
            }
            Trouble::LostRequest => Err(unknown()),
            Trouble::LostAnswer | Trouble::Silence => {
                self.store.write(writes).await?;
                Err(unknown())
            }
        }
    }

    async fn query(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        self.store.query(query).await
    }

    async fn due(&self, shard: u16, until: Timestamp, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.store.due(shard, until, limit).await
    }
}

fn process(
    seed: u64,
    clock: &Arc<FixedClock>,
    store: Arc<dyn Store>,
    secrets: &Arc<MemorySecrets>,
    provider: &Arc<Provider>,
    events: &Arc<Heard>,
) -> Arc<Services> {
    process_with(seed, clock, store, secrets, provider, events, |_| {})
}

fn process_with(
    seed: u64,
    clock: &Arc<FixedClock>,
    store: Arc<dyn Store>,
    secrets: &Arc<MemorySecrets>,
    provider: &Arc<Provider>,
    events: &Arc<Heard>,
    decide: impl FnOnce(&mut Config),
) -> Arc<Services> {
    let ports = Ports {
        store,
        secrets: secrets.clone(),
        signing_keys: Arc::new(NoSigningKeys),
        sealer: Arc::new(TestSealer),
        authorizer_keys: None,
        verifier: Arc::new(PlainVerifier),
        http: provider.clone(),
        clock: clock.clone(),
        random: Arc::new(SeededRandom::new(seed)),
        digest: Arc::new(Sha256),
        events: events.clone(),
        trail: None,
    };
    let mut config = Config {
        place: Place { region: "us-east-1".to_owned(), account: "000000000000".to_owned() },
        public_base_url: "https://identity.example".to_owned(),
        issuers: IssuerPolicy::AnyIssuer,
        built_in_return_page: false,
        record_cache: Duration::ZERO,
        secret_cache: Duration::ZERO,
    };
    decide(&mut config);
    Arc::new(Services::new(ports, config))
}

pub fn config(issuer: &str, client_id: &str, secret: Option<&str>) -> GivenConfig {
    let metadata = ServerMetadata {
        issuer: issuer.to_owned(),
        authorization_endpoint: format!("{issuer}/authorize"),
        token_endpoint: format!("{issuer}/token"),
        response_types: Vec::new(),
        token_endpoint_auth_methods: Vec::new(),
    };
    GivenConfig {
        registration: ClientRegistration {
            vendor: Vendor::Custom,
            discovery: Some(Discovery::Metadata(metadata)),
            tenant_id: None,
            client_id: client_id.to_owned(),
        },
        client_secret: secret.map(|secret| GivenSecret::Managed(Secret::new(secret))),
        client_authentication: None,
        private_key_jwt: None,
        echoed: serde_json::Map::new(),
    }
}

pub fn scopes(names: &[&str]) -> std::collections::BTreeSet<Scope> {
    names.iter().map(|name| Scope::parse(name).unwrap()).collect()
}

pub fn request(wat: &Secret) -> Oauth2TokenRequest {
    Oauth2TokenRequest {
        workload_token: wat.clone(),
        provider: ProviderName::parse(CALENDAR).unwrap(),
        scopes: scopes(&["read"]),
        flow: Flow::UserFederation,
        label: Label::default(),
        session: None,
        return_url: Some(ReturnUrl::parse(RETURN).unwrap()),
        force_authentication: false,
        custom_parameters: BTreeMap::new(),
        custom_state: None,
        resources: Vec::new(),
        audiences: Vec::new(),
    }
}

/// A workload access token from one of several processes.
pub async fn wat_from(services: &Services, principal: &Principal, workload: &str, user: &str) -> Secret {
    let action = IssueWorkloadTokenForUserId {
        workload: WorkloadName::parse(workload).unwrap(),
        user_id: UserId::parse(user).unwrap(),
    };
    services.issue_workload_token_for_user_id(principal.authorize(action).unwrap()).await.unwrap()
}

pub async fn get_from(
    services: &Services,
    principal: &Principal,
    request: Oauth2TokenRequest,
) -> Result<Oauth2TokenAnswer> {
    services.get_oauth2_token(principal, request).await
}

/// The kind and the text of an error.
pub fn refused<T: std::fmt::Debug>(outcome: Result<T>) -> (ErrorKind, String) {
    let error = outcome.unwrap_err();
    (error.kind(), error.message().to_owned())
}
