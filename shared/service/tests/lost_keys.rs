//! The KMS key over the vault's keys is deleted: what is lost, what is not, and how all goes on (ADR 0036).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod world;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use agent_identity_core::Timestamp;
use agent_identity_core::connection::{Connection, Health, Reason};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Grant, Pattern, Principal};
use agent_identity_core::port::Event;
use agent_identity_core::record;
use agent_identity_core::revocation::Upstream;
use agent_identity_core::seal::{Context, Key32, KeyWrapper, SealError, Sealer as _};
use agent_identity_core::store::{Consistency, Key, Kind, Query, Row, Store, StoreError, Write};
use agent_identity_service::Services;
use agent_identity_service::access_key::AccessKeyRequest;
use agent_identity_service::oauth2_token::{Flow, Oauth2TokenAnswer, Oauth2TokenRequest};
use agent_identity_service::reseal::{ResealTokenVault, ResealedPage};
use agent_identity_service::token_vault::{ResetTokenVaultKeyMaterial, RotateTokenVaultKeys};
use agent_identity_testkit::{MemoryStore, TestSealer};
use async_trait::async_trait;
use world::{AGENT, Reply, World, get_from, refused, request, wat_from};

/// A key service with keys that are there, and one that was deleted perhaps.
struct Wrapper {
    key: u8,
    former: Option<u8>,
    /// Whether what no key here unwraps was wrapped by one that is gone.
    gone: bool,
}

fn bound(pairs: &[(&str, &str)]) -> Context {
    Context::new("wrap", pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]))
}

#[async_trait]
impl KeyWrapper for Wrapper {
    async fn wrap(&self, key: &Key32, context: &[(&str, &str)]) -> Result<Vec<u8>, SealError> {
        Ok(TestSealer.seal_with(&Key32::new([self.key; 32]), &bound(context), key.expose()))
    }

    async fn unwrap_key(&self, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Key32, SealError> {
        for key in std::iter::once(self.key).chain(self.former) {
            if let Ok(bytes) = TestSealer.open_with(&Key32::new([key; 32]), &bound(context), wrapped) {
                return Ok(Key32::new(bytes.as_slice().try_into().unwrap()));
            }
        }
        Err(SealError::KeyUnavailable("KMS: NotFoundException".to_owned()))
    }

    async fn is_lost(
        &self,
        wrapped: &[u8],
        context: &[(&str, &str)],
        _by: Option<&str>,
    ) -> Result<bool, SealError> {
        match self.unwrap_key(wrapped, context).await {
            Ok(_) => Ok(false),
            Err(_) if self.gone => Ok(true),
            Err(error) => Err(error),
        }
    }
}

const FIRST: u8 = 1;
const SECOND: u8 = 2;

/// A process of a deployment that is configured for these keys, with nothing in memory.
fn process(world: &World, seed: u64, key: u8, former: Option<u8>, gone: bool) -> Arc<Services> {
    process_over(world, seed, key, former, gone, world.store.clone())
}

fn process_over(
    world: &World,
    seed: u64,
    key: u8,
    former: Option<u8>,
    gone: bool,
    store: Arc<dyn Store>,
) -> Arc<Services> {
    world.process_with_vault_keys(seed, store, Arc::new(Wrapper { key, former, gone }))
}

/// As it is after the first key was deleted.
fn survivor(world: &World, seed: u64) -> Arc<Services> {
    process(world, seed, SECOND, Some(FIRST + 100), true)
}

async fn connect(world: &World, user: &str, tokens: &'static str, seconds: u64) {
    let wat = world.wat(AGENT, user).await;
    let session = world.consented(request(&wat)).await;
    world.provider.will(Reply::Tokens(tokens, seconds));
    world.complete(&session, user).await.unwrap();
}

/// `ada` and `bea` are connected under a vault key that the first key wraps, `cem` under one that the second does.
async fn two_keys() -> World {
    two_keys_and_an_access_key().await.0
}

/// The same, with the id of an access key that was made at the time of the first.
async fn two_keys_and_an_access_key() -> (World, String) {
    let mut world = World::with_calendar().await;
    world.services = process(&world, 1, FIRST, None, false);
    let key =
        AccessKeyRequest { name: "lost".to_owned(), grants: Vec::new(), life: None, loopback_only: false };
    let access_key = world.services.create_access_key(key).await.unwrap().id;
    connect(&world, "ada", "ada", 100_000).await;
    connect(&world, "bea", "bea", 1_200).await;
    world.services = process(&world, 2, SECOND, Some(FIRST), false);
    let admin = &world.admin;
    world.services.rotate_token_vault_keys(admin.authorize(RotateTokenVaultKeys).unwrap()).await.unwrap();
    connect(&world, "cem", "cem", 100_000).await;
    (world, access_key)
}

async fn reset(world: &World, services: &Services) -> agent_identity_core::Result<()> {
    let action = world.admin.authorize(ResetTokenVaultKeyMaterial).unwrap();
    services.reset_token_vault_key_material(action).await.map(drop)
}

async fn asked(
    world: &World,
    services: &Services,
    user: &str,
) -> agent_identity_core::Result<Oauth2TokenAnswer> {
    let wat = wat_from(services, &world.admin, AGENT, user).await;
    get_from(services, &world.admin, request(&wat)).await
}

async fn token(world: &World, services: &Services, user: &str) -> String {
    match asked(world, services, user).await {
        Ok(Oauth2TokenAnswer::Token(token)) => token.expose().to_owned(),
        other => panic!("{user}: {other:?}"),
    }
}

fn connections(world: &World) -> Vec<Connection> {
    let rows = world.store.rows().into_iter().filter(|row| row.key.kind == Kind::Connection);
    rows.map(|row| record::parse::<Connection>(&row).unwrap().value).collect()
}

/// How many connections are recorded as lost, and how many of those were announced as that.
fn lost(world: &World) -> (usize, usize) {
    let recorded = connections(world).into_iter().filter(|it| {
        matches!(it.health, Health::NeedsConsent { reason: Reason::KeyLost, announced: true, .. })
            && it.tokens.sealed.is_empty()
    });
    let events = world.events.0.lock().unwrap();
    let told = events.iter().filter(|it| matches!(it, Event::NeedsConsent { reason: "key_lost", .. }));
    (recorded.count(), told.count())
}

async fn tick(services: &Services) -> Vec<&'static str> {
    let mut outcomes = Vec::new();
    for due in services.due_work(100).await.unwrap() {
        outcomes.push(services.work_off(&due).await.unwrap());
    }
    outcomes
}

#[tokio::test]
async fn nothing_is_given_up_while_it_may_come_back() {
    let world = two_keys().await;
    let before = world.store.rows();
    let (kind, message) = refused(reset(&world, &world.services).await);
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(message.contains("no key of the vault is lost"), "{message}");
    // The first key does not answer, or is about to be deleted.
    let (kind, message) = refused(reset(&world, &process(&world, 3, SECOND, None, false)).await);
    assert_eq!(kind, ErrorKind::Conflict);
    assert!(message.contains("may come back") && message.contains("NotFoundException"), "{message}");
    assert_eq!(world.store.rows(), before);
    assert_eq!(token(&world, &world.services, "ada").await, "access-ada");
}

#[tokio::test]
async fn d1_a_reset_takes_the_role_of_an_administrator_of_all() {
    for (workload, provider) in [("team-*", "*"), ("*", "github"), ("team-*", "github")] {
        let grant = Grant {
            workload: Pattern::from(workload),
            provider: Pattern::from(provider),
            ..Grant::everything()
        };
        let limited = Principal { name: "access-key/team".to_owned(), grants: vec![grant] };
        assert!(limited.authorize(ResetTokenVaultKeyMaterial).is_err(), "{workload} {provider}");
    }
    let admin = Principal { name: "access-key/admin".to_owned(), grants: vec![Grant::everything()] };
    assert!(admin.authorize(ResetTokenVaultKeyMaterial).is_ok());
}

#[tokio::test]
async fn whose_tokens_are_lost_consents_again_and_nobody_else() {
    let mut world = two_keys().await;
    world.services = survivor(&world, 3);
    assert_eq!(refused(asked_with_old_keys(&world).await).0, ErrorKind::Internal, "until somebody resets it");
    reset(&world, &world.services).await.unwrap();
    assert_eq!(refused(reset(&world, &world.services).await).0, ErrorKind::Conflict, "once");

    assert_eq!(token(&world, &world.services, "cem").await, "access-cem");
    // The first to ask is told to come again, as AWS's clients do by themselves.
    assert_eq!(refused(asked(&world, &world.services, "ada").await).0, ErrorKind::Throttling);
    assert_eq!(lost(&world), (1, 1));
    assert!(matches!(
        asked(&world, &survivor(&world, 4), "ada").await,
        Ok(Oauth2TokenAnswer::Consent { .. })
    ));

    connect(&world, "ada", "anew", 100_000).await;
    for seed in 5..8 {
        assert_eq!(token(&world, &survivor(&world, seed), "ada").await, "access-anew");
    }
    assert!(world.events.0.lock().unwrap().iter().any(|it| matches!(it, Event::Recovered { .. })));
    assert_eq!(
        (lost(&world), token(&world, &world.services, "cem").await),
        ((0, 1), "access-cem".to_owned())
    );
}

async fn asked_with_old_keys(world: &World) -> agent_identity_core::Result<String> {
    // Whoever has nothing in memory cannot even open the session's token.
    let wat = wat_from(&process(world, 2, SECOND, Some(FIRST), false), &world.admin, AGENT, "ada").await;
    match get_from(&world.services, &world.admin, request(&wat)).await? {
        Oauth2TokenAnswer::Token(token) => Ok(token.expose().to_owned()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_schedule_finds_what_is_lost_and_asks_no_provider() {
    let mut world = two_keys().await;
    world.services = survivor(&world, 3);
    reset(&world, &world.services).await.unwrap();
    world.clock.advance(std::time::Duration::from_secs(900));
    let sent = world.provider.seen("refresh_token").len();
    assert_eq!(tick(&world.services).await, ["needs_consent"], "bea's, which was due");
    assert_eq!((lost(&world), world.provider.seen("refresh_token").len()), ((1, 1), sent));
    world.clock.advance(std::time::Duration::from_secs(3_000));
    assert_eq!(tick(&world.services).await, Vec::<&str>::new(), "it is due no more");
}

#[tokio::test]
async fn the_sweep_finds_all_that_is_lost() {
    let (mut world, access_key) = two_keys_and_an_access_key().await;
    world.services = survivor(&world, 3);
    reset(&world, &world.services).await.unwrap();
    assert_eq!(sweep(&world).await, (0, 3, 0), "ada, bea and the access key");
    assert_eq!(lost(&world), (2, 2));
    assert_eq!(sweep(&world).await, (0, 1, 0), "the access key is there until somebody revokes it");
    assert!(survivor(&world, 4).access_key(&access_key).await.unwrap().is_none());
}

async fn sweep(world: &World) -> (usize, usize, usize) {
    let (mut total, mut from) = ((0, 0, 0), None);
    loop {
        let action = ResealTokenVault { from };
        let page: ResealedPage =
            world.services.reseal_token_vault(world.admin.authorize(action).unwrap()).await.unwrap();
        total = (total.0 + page.resealed, total.1 + page.lost, total.2 + page.left);
        let Some(next) = page.next else { return total };
        from = Some(next);
    }
}

#[tokio::test]
async fn a_lost_connection_is_deleted_and_who_deletes_it_is_told_that_its_grant_lives_on() {
    let mut world = two_keys().await;
    world.services = survivor(&world, 3);
    reset(&world, &world.services).await.unwrap();
    // One that was found lost, and one that was not looked at yet.
    refused(asked(&world, &world.services, "ada").await);
    let mut reasons = Vec::new();
    for connection in connections(&world) {
        let deleted = world.services.delete_connection(&world.admin, &connection.address()).await.unwrap();
        assert_ne!(deleted.upstream, Upstream::Queued, "it would be in vain");
        reasons.push(deleted.reason.unwrap_or_default());
    }
    assert_eq!(reasons.iter().filter(|reason| reason.contains("key_lost")).count(), 2, "{reasons:?}");
    assert_eq!(connections(&world).len(), 0);
}

#[tokio::test]
async fn a_client_token_that_is_lost_is_fetched_anew() {
    let mut world = World::with_calendar().await;
    world.services = process(&world, 1, FIRST, None, false);
    let m2m = |wat| Oauth2TokenRequest { flow: Flow::M2m, ..request(wat) };
    let wat = world.wat(AGENT, "ada").await;
    world.provider.will(Reply::Tokens("before", 3_600));
    let answer = get_from(&world.services, &world.admin, m2m(&wat)).await;
    assert!(matches!(answer, Ok(Oauth2TokenAnswer::Token(token)) if token.expose() == "access-before"));
    world.services = survivor(&world, 3);
    reset(&world, &world.services).await.unwrap();
    let wat = world.wat(AGENT, "ada").await;
    world.provider.will(Reply::Tokens("after", 3_600));
    for seed in 4..6 {
        let answer = get_from(&survivor(&world, seed), &world.admin, m2m(&wat)).await;
        assert!(matches!(answer, Ok(Oauth2TokenAnswer::Token(token)) if token.expose() == "access-after"));
    }
}

/// A store in which, when the row of a user's key is read for the n-th time, somebody else comes first.
struct Overtaken {
    store: Arc<MemoryStore>,
    left: AtomicUsize,
    comes_first: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
}

impl Overtaken {
    async fn before(&self, key: &Key) {
        if key.kind == Kind::UserKey && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let comes_first = self.comes_first.lock().unwrap().take();
            comes_first.unwrap().await;
        }
    }
}

#[async_trait]
impl Store for Overtaken {
    async fn get(&self, key: &Key, consistency: Consistency) -> Result<Option<Row>, StoreError> {
        self.before(key).await;
        self.store.get(key, consistency).await
    }

    async fn batch_get(
        &self,
        keys: &[Key],
        consistency: Consistency,
    ) -> Result<Vec<Option<Row>>, StoreError> {
        self.store.batch_get(keys, consistency).await
    }

    async fn query(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        self.store.query(query).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.store.write(writes).await
    }

    async fn due(&self, shard: u16, until: Timestamp, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.store.due(shard, until, limit).await
    }
}

/// Whatever the moment at which the user consents anew, nobody who looked at the connection before takes that for lost.
#[tokio::test]
async fn a_consent_since_is_not_taken_for_lost() {
    for nth in 1..=4 {
        let mut world = two_keys().await;
        world.services = survivor(&world, 3);
        reset(&world, &world.services).await.unwrap();
        let wat = world.wat(AGENT, "ada").await;
        let forced = Oauth2TokenRequest { force_authentication: true, ..request(&wat) };
        let session = world.consented(forced).await;
        world.provider.will(Reply::Tokens("anew", 100_000));
        let (world, user) = (Arc::new(world), wat);
        let comes_first: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin({
            let world = world.clone();
            async move { world.complete(&session, "ada").await.unwrap() }
        });
        let store = Arc::new(Overtaken {
            store: world.store.clone(),
            left: AtomicUsize::new(nth),
            comes_first: Mutex::new(Some(comes_first)),
        });
        let slow = process_over(&world, 4, SECOND, None, true, store.clone());
        let first = get_from(&slow, &world.admin, request(&user)).await;
        if let Some(comes_last) = store.comes_first.lock().unwrap().take() {
            drop(comes_last);
            assert!(nth > 2, "the key was read {nth} times at least");
            continue;
        }
        assert!(matches!(first, Ok(Oauth2TokenAnswer::Token(_))) || first.is_err(), "{nth}: {first:?}");
        for services in [&slow, &survivor(&world, 5)] {
            assert_eq!(token(&world, services, "ada").await, "access-anew", "{nth}");
        }
    }
}
