//! What a process keeps in memory for a while: records that change by hand, secrets, endpoints.

use std::any::Any;
use std::fmt::Display;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::authorizer::AgentRules;
use agent_identity_core::grant::Principal;
use agent_identity_core::principal::PrincipalArn;
use agent_identity_core::provider::{ApiKeyProvider, Oauth2Provider};
use agent_identity_core::store::{Key, Kind};
use agent_identity_core::user::UserKey;
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, Id, Result, Secret, WorkloadName};
use agent_identity_oauth::discovery::Server;
use moka::future::Cache;

use crate::Config;
use crate::access_key::LiveKey;
use crate::denial::Denials;
use crate::tool::LiveTool;
use crate::user_key::HeldKey;

/// Entries of each cache, at most.
const CAPACITY: u64 = 10_000;

/// How long a discovered authorization server is taken to be the same.
const SERVER_LIFE: Duration = Duration::from_secs(600);

/// How long an unwrapped user key stays in memory (`design.md` 5).
const USER_KEY_LIFE: Duration = Duration::from_secs(300);

/// How long a token that took the place of a refused one is not replaced again.
const REPLACED_LIFE: Duration = Duration::from_secs(60);

/// A value of any type. One cache type serves all of them: of each type of cache that there is, its whole code is in the
/// binary once more, which for eleven types was a tenth of a function.
type Erased = Arc<dyn Any + Send + Sync>;

/// A cache that reads through, with one flight per key; with a life of zero it always reads.
pub(crate) struct ReadThrough<K: ?Sized, V> {
    cache: Option<Cache<String, Erased>>,
    holds: PhantomData<fn(&K) -> V>,
}

impl<K, V> ReadThrough<K, V>
where
    K: Display + ?Sized,
    V: Clone + Send + Sync + 'static,
{
    fn new(life: Duration) -> Self {
        let cache =
            (!life.is_zero()).then(|| Cache::builder().max_capacity(CAPACITY).time_to_live(life).build());
        Self { cache, holds: PhantomData }
    }

    /// The value from memory, or from `read`. Errors are not remembered.
    pub(crate) async fn get(&self, key: &K, read: impl Future<Output = Result<V>> + Send) -> Result<V> {
        let Some(cache) = &self.cache else { return read.await };
        let key = key.to_string();
        let found = match cache.get(&key).await {
            Some(found) => found,
            None => {
                let read = async { Ok(Arc::new(read.await?) as Erased) };
                let read: Pin<Box<dyn Future<Output = Result<Erased>> + Send + '_>> = Box::pin(read);
                cache.try_get_with(key, read).await.map_err(|error: Arc<Error>| (*error).clone())?
            }
        };
        found.downcast_ref().cloned().ok_or_else(|| Error::internal("a cache holds what was not put into it"))
    }

    /// Whether the value is in memory.
    pub(crate) fn has(&self, key: &K) -> bool {
        self.cache.as_ref().is_some_and(|cache| cache.contains_key(&key.to_string()))
    }

    /// Forgets one value: it was changed by this process.
    pub(crate) async fn forget(&self, key: &K) {
        if let Some(cache) = &self.cache {
            cache.invalidate(&key.to_string()).await;
        }
    }
}

/// From the names of records to the records that they led to when they were last read: what to read ahead, and no more.
pub(crate) struct LedTo(Cache<String, Erased>);

impl LedTo {
    fn name(kind: Kind, name: &str) -> String {
        format!("{} {name}", kind.as_str())
    }

    /// Where a name of this directory led to.
    pub(crate) async fn get(&self, directory: Kind, name: &str) -> Option<Key> {
        self.0.get(&Self::name(directory, name)).await?.downcast_ref().cloned()
    }

    /// Notes where a name leads.
    pub(crate) async fn note(&self, directory: Kind, name: &str, record: Key) {
        self.0.insert(Self::name(directory, name), Arc::new(record)).await;
    }
}

/// The tokens that were replaced a moment ago because an API refused them: one that refuses all must not have them renewed with
/// every call.
pub(crate) struct Replaced(Cache<String, Erased>);

impl Replaced {
    /// Whether it is the first time in [`REPLACED_LIFE`]; it is not from now on.
    pub(crate) async fn is_first(&self, token: &Key) -> bool {
        let key = format!("{} {} {}", token.kind.as_str(), token.partition, token.sort);
        let nothing: Erased = Arc::new(());
        self.0.entry(key).or_insert(nothing).await.is_fresh()
    }
}

pub(crate) struct Caches {
    pub(crate) workloads: ReadThrough<Id<Workload>, Arc<Workload>>,
    pub(crate) workload_names: ReadThrough<str, Id<Workload>>,
    pub(crate) oauth2_providers: ReadThrough<str, Arc<Oauth2Provider>>,
    pub(crate) api_key_providers: ReadThrough<str, Arc<ApiKeyProvider>>,
    pub(crate) tools: ReadThrough<str, Arc<LiveTool>>,
    pub(crate) access_keys: ReadThrough<str, Arc<LiveKey>>,
    pub(crate) agent_rules: ReadThrough<WorkloadName, Arc<AgentRules>>,
    /// By issuer, the claim that its record names, if it has a record.
    pub(crate) subject_claims: ReadThrough<str, Option<String>>,
    pub(crate) principals: ReadThrough<PrincipalArn, Arc<Principal>>,
    /// By what names the secret, its version included.
    pub(crate) secrets: ReadThrough<str, Secret>,
    /// By reference: whoever keeps them may change them.
    pub(crate) external_secrets: ReadThrough<str, Secret>,
    pub(crate) servers: ReadThrough<str, Arc<Server>>,
    /// None for one that is lost, which is forgotten at once.
    pub(crate) user_keys: ReadThrough<UserKey, Option<HeldKey>>,
    pub(crate) led_to: LedTo,
    pub(crate) denials: Denials,
    pub(crate) replaced: Replaced,
}

impl Caches {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            workloads: ReadThrough::new(config.record_cache),
            workload_names: ReadThrough::new(config.record_cache),
            oauth2_providers: ReadThrough::new(config.record_cache),
            api_key_providers: ReadThrough::new(config.record_cache),
            tools: ReadThrough::new(config.record_cache),
            access_keys: ReadThrough::new(config.record_cache),
            agent_rules: ReadThrough::new(config.record_cache),
            subject_claims: ReadThrough::new(config.record_cache),
            principals: ReadThrough::new(config.record_cache),
            secrets: ReadThrough::new(config.secret_cache),
            external_secrets: ReadThrough::new(config.record_cache),
            servers: ReadThrough::new(SERVER_LIFE),
            user_keys: ReadThrough::new(USER_KEY_LIFE),
            led_to: LedTo(Cache::new(CAPACITY)),
            denials: Denials::new(config),
            replaced: Replaced(Cache::builder().max_capacity(CAPACITY).time_to_live(REPLACED_LIFE).build()),
        }
    }
}
