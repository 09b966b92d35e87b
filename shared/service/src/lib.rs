//! The use cases of `agent-identity`, over core's ports, `jose` and `oauth`. No adapter is named here.
//!
//! Everything hangs on one [`Services`] value that a binary composes from its adapters; the wire (`api`) calls its
//! methods. A use case that needs permission takes an [`agent_identity_core::grant::Authorized`] action.

pub mod access_key;
pub mod api_key;
pub mod api_key_provider;
pub mod audit;
pub mod authorizer;
mod cache;
mod client_credentials;
pub mod connection;
pub mod consent;
pub mod denial;
mod directory;
pub mod due;
mod flight;
pub mod invoke;
mod lost;
pub mod oauth2_provider;
pub mod oauth2_token;
mod outcome;
pub mod page;
pub mod principal;
pub mod read_ahead;
mod refresh;
pub mod reseal;
mod retry;
pub mod revocation;
mod server;
mod standing;
pub mod tags;
mod token_call;
pub mod token_vault;
pub mod tool;
pub mod usage;
mod user_key;
mod vault;
pub mod workload;
pub mod workload_token;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_identity_core::arn::Place;
use agent_identity_core::http::HttpClient;
use agent_identity_core::issuer::{IssuerPolicy, TokenVerifier};
use agent_identity_core::port::{Digest, Events, SecretStore, SigningKeys};
use agent_identity_core::random::{self, Random};
use agent_identity_core::seal::{AuthorizerKeys, Sealer};
use agent_identity_core::store::Store;
use agent_identity_core::{Clock, Timestamp};

/// The ports that a binary hands over.
#[derive(Clone)]
pub struct Ports {
    /// Rows.
    pub store: Arc<dyn Store>,
    /// Client secrets and API keys.
    pub secrets: Arc<dyn SecretStore>,
    /// Keys for client assertions.
    pub signing_keys: Arc<dyn SigningKeys>,
    /// Sealing under the vault keys.
    pub sealer: Arc<dyn Sealer>,
    /// Keys of authorizers, where the deployment has a root key for them (D16).
    pub authorizer_keys: Option<Arc<dyn AuthorizerKeys>>,
    /// Verification of users' tokens.
    pub verifier: Arc<dyn TokenVerifier>,
    /// The guarded way out.
    pub http: Arc<dyn HttpClient>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// SHA-256.
    pub digest: Arc<dyn Digest>,
    /// What others are told.
    pub events: Arc<dyn Events>,
    /// The audit trail of credentials; that of changes is the store's ([`audit::AuditedStore`]).
    pub trail: Option<Arc<audit::Trail>>,
}

/// What a deployment decides.
#[derive(Clone, Debug)]
pub struct Config {
    /// The region and account of its ARNs.
    pub place: Place,
    /// Where browsers reach it, without a trailing slash: `callbackUrl` and `authorizationUrl` begin with it.
    pub public_base_url: String,
    /// Whose tokens open sessions (D4).
    pub issuers: IssuerPolicy,
    /// Whether the built-in return page may complete sessions by itself: loopback development only.
    pub built_in_return_page: bool,
    /// How long records that change by hand (workloads, providers, keys) may be served from memory. Zero: always read.
    pub record_cache: Duration,
    /// How long the value of an API key or client secret may be served from memory.
    pub secret_cache: Duration,
}

/// The use cases.
pub struct Services {
    pub(crate) ports: Ports,
    pub(crate) config: Config,
    pub(crate) caches: cache::Caches,
    /// This process instance, as leases name it.
    pub(crate) instance: String,
    pub(crate) watch: flight::LeaseWatch,
    pub(crate) standings: standing::Standings,
    pub(crate) paces: due::Paces,
    /// Whether this process is about to end.
    pub(crate) leaving: AtomicBool,
}

impl Services {
    /// Composes the use cases.
    pub fn new(ports: Ports, config: Config) -> Self {
        let instance = random::handle(&*ports.random);
        let caches = cache::Caches::new(&config);
        let (watch, standings) = (flight::LeaseWatch::default(), standing::Standings::default());
        Self {
            ports,
            config,
            caches,
            instance,
            watch,
            standings,
            paces: due::Paces::default(),
            leaving: AtomicBool::new(false),
        }
    }

    /// This process is about to end: from here on nobody waits for another's turn, and who does is told to try again. What has
    /// begun goes on to its end.
    pub fn leave(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// What the deployment decided.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The ports, for what the wire needs itself (time for signatures, sealing for page tokens).
    pub fn ports(&self) -> &Ports {
        &self.ports
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.ports.clock.now()
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("config", &self.config).finish_non_exhaustive()
    }
}
