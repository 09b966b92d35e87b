//! What reading a credential costs in calls (D17): one when warm, one for all that has grown old, two reads and two keys for a
//! process that has just started.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_identity_core::grant::Grant;
use agent_identity_core::principal::PrincipalArn;
use agent_identity_core::seal::{Key32, KeyWrapper, SealError};
use agent_identity_core::store::ReadAhead;
use agent_identity_core::{ProviderName, Secret};
use agent_identity_jose::VaultSealer;
use agent_identity_service::api_key_provider::{CreateApiKeyProvider, GivenSecret};
use agent_identity_service::oauth2_provider::UpdateOauth2Provider;
use agent_identity_service::oauth2_token::{Flow, Oauth2TokenAnswer, Oauth2TokenRequest};
use agent_identity_service::read_ahead::{Foreseen, NamedProvider};
use agent_identity_service::{Config, Ports, Services};
use agent_identity_testkit::{Calls, SeededRandom};
use async_trait::async_trait;
use world::{AGENT, CALENDAR, Reply, World, config, request};

/// How long the processes of these tests remember records.
const LIFE: Duration = Duration::from_secs(2);

/// A key service that counts, and hides nothing.
#[derive(Default)]
struct Keys(AtomicUsize);

#[async_trait]
impl KeyWrapper for Keys {
    async fn wrap(&self, key: &Key32, _: &[(&str, &str)]) -> Result<Vec<u8>, SealError> {
        Ok(key.expose().to_vec())
    }

    async fn unwrap_key(&self, wrapped: &[u8], _: &[(&str, &str)]) -> Result<Key32, SealError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Key32::new(wrapped.try_into().unwrap()))
    }
}

/// A store on which every call costs, and a process that has just started.
struct Cold {
    world: World,
    keys: Arc<Keys>,
    process: Services,
}

fn process(world: &World, keys: &Arc<Keys>, seed: u64) -> Services {
    let clock = world.clock.clone();
    let random = Arc::new(SeededRandom::new(seed));
    let store = Arc::new(ReadAhead::new(world.store.clone(), clock.clone()));
    let sealer = Arc::new(VaultSealer::new(store.clone(), keys.clone(), clock, random));
    let ports = Ports { store, sealer, ..world.services.ports().clone() };
    let config = Config {
        record_cache: LIFE,
        secret_cache: Duration::from_secs(300),
        ..world.services.config().clone()
    };
    Services::new(ports, config)
}

impl Cold {
    /// `ada` has a connection, and the agent a machine token and an API key; all made by another process.
    async fn new() -> (Self, Oauth2TokenRequest) {
        let mut world = World::with_calendar().await;
        let keys = Arc::new(Keys::default());
        world.services = Arc::new(process(&world, &keys, 7));
        let wat = world.wat(AGENT, "ada").await;
        let session = world.consented(request(&wat)).await;
        world.provider.will(Reply::Tokens("first", 3600));
        world.complete(&session, "ada").await.unwrap();
        world.provider.will(Reply::Tokens("machine", 3600));
        world.services.get_oauth2_token(&world.admin, machine(&wat)).await.unwrap();
        let action = CreateApiKeyProvider {
            name: weather(),
            secret: GivenSecret::Managed(Secret::new("key")),
            tags: std::collections::BTreeMap::new(),
        };
        world.services.create_api_key_provider(world.admin.authorize(action).unwrap()).await.unwrap();
        let made = Self { process: process(&world, &keys, 8), keys, world };
        made.calls();
        (made, request(&wat))
    }

    async fn token(&self, request: &Oauth2TokenRequest) -> String {
        match self.process.get_oauth2_token(&self.world.admin, request.clone()).await.unwrap() {
            Oauth2TokenAnswer::Token(token) => token.expose().to_owned(),
            other => unreachable(&other),
        }
    }

    /// Calls to the store and to the key service since the last time.
    fn calls(&self) -> (Calls, usize) {
        (self.world.store.take_calls(), self.keys.0.swap(0, Ordering::SeqCst))
    }

    /// Time passes, until nothing that was read is good any more.
    async fn grow_old(&self) {
        tokio::time::sleep(LIFE + Duration::from_millis(100)).await;
        self.world.clock.advance(Duration::from_secs(31));
    }
}

#[expect(clippy::panic, reason = "a test stops at the first surprise")]
fn unreachable(answer: &Oauth2TokenAnswer) -> String {
    panic!("no token but {answer:?}")
}

fn weather() -> ProviderName {
    ProviderName::parse("weather").unwrap()
}

fn machine(wat: &Secret) -> Oauth2TokenRequest {
    Oauth2TokenRequest { flow: Flow::M2m, ..request(wat) }
}

const BATCH: Calls = Calls { get: 0, batch_get: 1, write: 0, query: 0, due: 0 };
const GET: Calls = Calls { get: 1, batch_get: 0, ..BATCH };
const BATCHES: Calls = Calls { batch_get: 2, ..BATCH };

#[tokio::test]
async fn p3_a_users_token_costs_four_calls_at_first_then_one_and_one_when_records_are_old() {
    let (cold, request) = Cold::new().await;
    assert_eq!(cold.token(&request).await, "access-first");
    assert_eq!(cold.calls(), (BATCHES, 2));
    cold.world.clock.advance(Duration::from_secs(1));
    assert_eq!(cold.token(&request).await, "access-first");
    assert_eq!(cold.calls(), (GET, 0));
    cold.grow_old().await;
    assert_eq!(cold.token(&request).await, "access-first");
    assert_eq!(cold.calls(), (BATCH, 0));
}

#[tokio::test]
async fn p3_a_machine_token_costs_no_more() {
    let (cold, request) = Cold::new().await;
    let request = machine(&request.workload_token);
    assert_eq!(cold.token(&request).await, "access-machine");
    assert_eq!(cold.calls(), (BATCHES, 2));
    cold.world.clock.advance(Duration::from_secs(1));
    cold.token(&request).await;
    assert_eq!(cold.calls(), (GET, 0));
    cold.grow_old().await;
    cold.token(&request).await;
    assert_eq!(cold.calls(), (BATCH, 0));
}

#[tokio::test]
async fn p3_an_api_key_costs_nothing_when_warm() {
    let (cold, request) = Cold::new().await;
    let weather = weather();
    let read = || cold.process.get_api_key(&cold.world.admin, &request.workload_token, &weather);
    assert_eq!(read().await.unwrap().expose(), "key");
    assert_eq!(cold.calls(), (BATCHES, 1));
    read().await.unwrap();
    assert_eq!(cold.calls(), (Calls::default(), 0));
    cold.grow_old().await;
    read().await.unwrap();
    assert_eq!(cold.calls(), (BATCH, 0));
}

#[tokio::test]
async fn p3_the_grants_of_the_caller_come_with_the_rest() {
    let (cold, request) = Cold::new().await;
    let role = PrincipalArn::parse("arn:aws:iam::123456789012:role/agents").unwrap();
    cold.world.services.put_principal(&role, vec![Grant::everything()]).await.unwrap();
    cold.calls();
    let foreseen = || {
        let provider = NamedProvider::Oauth2(ProviderName::parse(CALENDAR).unwrap());
        Some(Foreseen { workload_token: request.workload_token.clone(), provider })
    };
    let get = async || {
        let principal = cold.process.iam_principal(&role, foreseen).await.unwrap();
        cold.process.get_oauth2_token(&principal, request.clone()).await.unwrap()
    };
    get().await;
    assert_eq!(cold.calls(), (BATCHES, 2));
    cold.world.clock.advance(Duration::from_secs(1));
    get().await;
    assert_eq!(cold.calls(), (GET, 0));
    cold.grow_old().await;
    get().await;
    // What the caller's grants come with is named before the token is open to this request, so that its own row is not in it.
    assert_eq!(cold.calls(), (Calls { get: 1, ..BATCH }, 0));
}

#[tokio::test]
async fn a_wrong_guess_costs_a_call_and_changes_no_answer() {
    let (cold, wanted) = Cold::new().await;
    let request = machine(&wanted.workload_token);
    let update = UpdateOauth2Provider {
        name: ProviderName::parse(CALENDAR).unwrap(),
        config: config("https://elsewhere.example", "client", Some("s3cret")),
    };
    let world = &cold.world;
    world.services.update_oauth2_provider(world.admin.authorize(update).unwrap()).await.unwrap();
    world.provider.will(Reply::Tokens("elsewhere", 3600));
    assert_eq!(cold.token(&request).await, "access-elsewhere", "its generation is another than guessed");
    cold.calls();
    let another = Cold { process: process(world, &cold.keys, 9), ..cold };
    assert_eq!(another.token(&request).await, "access-elsewhere");
    assert_eq!(another.calls(), (Calls { get: 1, ..BATCHES }, 2));
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_since_is_followed() {
    let (cold, request) = Cold::new().await;
    cold.token(&request).await;
    let world = &cold.world;
    let name = ProviderName::parse(CALENDAR).unwrap();
    let delete = agent_identity_service::oauth2_provider::DeleteOauth2Provider { name };
    world.services.delete_oauth2_provider(world.admin.authorize(delete).unwrap()).await.unwrap();
    world.create_provider(CALENDAR).await;
    cold.grow_old().await;
    // D9: the connection was to a provider that is gone.
    let answer = cold.process.get_oauth2_token(&world.admin, request).await.unwrap();
    assert!(matches!(answer, Oauth2TokenAnswer::Consent { .. }), "{answer:?}");
}
