//! What a process keeps in memory for a while: records that change by hand, secrets, endpoints.

use std::borrow::Borrow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::authorizer::AgentRules;
use agent_identity_core::grant::Principal;
use agent_identity_core::principal::PrincipalArn;
use agent_identity_core::provider::{ApiKeyProvider, Oauth2Provider};
use agent_identity_core::seal::Key32;
use agent_identity_core::store::Key;
use agent_identity_core::user::UserKey;
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, Id, Result, Secret, WorkloadName};
use agent_identity_oauth::discovery::Server;
use moka::future::Cache;

use crate::Config;
use crate::access_key::LiveKey;

/// Entries of each cache, at most.
const CAPACITY: u64 = 10_000;

/// How long a discovered authorization server is taken to be the same.
const SERVER_LIFE: Duration = Duration::from_secs(600);

/// How long an unwrapped user key stays in memory (`design.md` 5).
const USER_KEY_LIFE: Duration = Duration::from_secs(300);

/// A cache that reads through, with one flight per key; with a life of zero it always reads.
pub(crate) struct ReadThrough<K, V> {
    cache: Option<Cache<K, V>>,
}

impl<K, V> ReadThrough<K, V>
where
    K: std::hash::Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn new(life: Duration) -> Self {
        let cache =
            (!life.is_zero()).then(|| Cache::builder().max_capacity(CAPACITY).time_to_live(life).build());
        Self { cache }
    }

    /// The value from memory, or from `read`. Errors are not remembered.
    pub(crate) async fn get(&self, key: K, read: impl Future<Output = Result<V>>) -> Result<V> {
        match &self.cache {
            Some(cache) => cache.try_get_with(key, read).await.map_err(|error: Arc<Error>| (*error).clone()),
            None => read.await,
        }
    }

    /// Whether the value is in memory.
    pub(crate) fn has<Q>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: std::hash::Hash + Eq + ?Sized,
    {
        self.cache.as_ref().is_some_and(|cache| cache.contains_key(key))
    }

    /// Forgets one value: it was changed by this process.
    pub(crate) async fn forget(&self, key: &K) {
        if let Some(cache) = &self.cache {
            cache.invalidate(key).await;
        }
    }
}

pub(crate) struct Caches {
    pub(crate) workloads: ReadThrough<Id<Workload>, Arc<Workload>>,
    pub(crate) workload_names: ReadThrough<String, Id<Workload>>,
    pub(crate) oauth2_providers: ReadThrough<String, Arc<Oauth2Provider>>,
    pub(crate) api_key_providers: ReadThrough<String, Arc<ApiKeyProvider>>,
    pub(crate) access_keys: ReadThrough<String, Arc<LiveKey>>,
    pub(crate) agent_rules: ReadThrough<WorkloadName, Arc<AgentRules>>,
    pub(crate) principals: ReadThrough<PrincipalArn, Arc<Principal>>,
    /// By what names the secret, its version included.
    pub(crate) secrets: ReadThrough<String, Secret>,
    /// By reference: whoever keeps them may change them.
    pub(crate) external_secrets: ReadThrough<String, Secret>,
    pub(crate) servers: ReadThrough<String, Arc<Server>>,
    pub(crate) user_keys: ReadThrough<UserKey, Key32>,
    /// From rows of names to the records that they led to when they were last read: what to read ahead, and no more.
    pub(crate) led_to: Cache<Key, Key>,
}

impl Caches {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            workloads: ReadThrough::new(config.record_cache),
            workload_names: ReadThrough::new(config.record_cache),
            oauth2_providers: ReadThrough::new(config.record_cache),
            api_key_providers: ReadThrough::new(config.record_cache),
            access_keys: ReadThrough::new(config.record_cache),
            agent_rules: ReadThrough::new(config.record_cache),
            principals: ReadThrough::new(config.record_cache),
            secrets: ReadThrough::new(config.secret_cache),
            external_secrets: ReadThrough::new(config.record_cache),
            servers: ReadThrough::new(SERVER_LIFE),
            user_keys: ReadThrough::new(USER_KEY_LIFE),
            led_to: Cache::new(CAPACITY),
        }
    }
}
