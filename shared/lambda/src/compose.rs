//! Composes the use cases from the adapters on AWS. Nothing is opened and no secret is made here: clients are built on first
//! use, so that a snapshot of a started process shares nothing.

use std::sync::Arc;
use std::time::Duration;

use agent_identity_aws::{
    AwsConnection, DynamoStore, EventBridgeEvents, KmsHeadSigner, KmsSigningKeys, KmsWrapper, SecretsManager,
};
use agent_identity_core::Clock;
use agent_identity_core::port::HeadSigner;
use agent_identity_core::random::Random;
use agent_identity_core::seal::AuthorizerKeys;
use agent_identity_core::store::{ReadAhead, Store};
use agent_identity_egress::GuardedClient;
use agent_identity_jose::{JwtVerifier, RootedAuthorizerKeys, VaultSealer};
use agent_identity_service::audit::{AuditedStore, Kept, Life, Signing, Terms, Trail};
use agent_identity_service::{Config, Ports, Services};
use agent_identity_system::{Sha256, SystemClock, SystemRandom};

use crate::Environment;

/// How long records that change by hand may be served from memory (D17).
const RECORD_CACHE: Duration = Duration::from_secs(30);

/// How long the value of a secret may be served from memory (P3).
const SECRET_CACHE: Duration = Duration::from_secs(300);

/// How the audit trail is signed, with the key of this name.
pub type SignerOf = fn(AwsConnection, String) -> Arc<dyn HeadSigner>;

/// Signs with KMS.
pub fn kms_signer(connection: AwsConnection, key: String) -> Arc<dyn HeadSigner> {
    Arc::new(KmsHeadSigner::new(connection, key))
}

/// The use cases of a function, and what it uses directly.
pub struct Composed {
    /// The use cases.
    pub services: Arc<Services>,
    /// Events, to be sent before an invocation ends.
    pub events: Arc<EventBridgeEvents>,
    /// How long what was counted may wait to be written.
    pub usage_every: Duration,
    /// How AWS is reached, for what else a function needs.
    pub connection: AwsConnection,
}

impl Composed {
    /// Wires the adapters. What lives long is a function, whose log keeps the records of credentials. Who may sign the audit trail,
    /// or verify it, says how; for others there is no code to do it.
    pub fn new(environment: &Environment, life: Life, sign: Option<SignerOf>) -> Self {
        let connection = AwsConnection::new(environment.aws.clone());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        let table = environment.table.clone();
        let table = DynamoStore::new(connection.clone(), table, Arc::clone(&clock), Arc::clone(&random));
        let kept = match life {
            Life::Long => Kept::Lines,
            Life::Brief => Kept::Rows,
        };
        let trail = Arc::new(Trail::new(
            Arc::new(ReadAhead::new(Arc::new(table), Arc::clone(&clock))),
            Arc::new(Sha256),
            Arc::clone(&random),
            Arc::clone(&clock),
            Terms {
                kept,
                life,
                signing: Signing::Scheduled(
                    sign.zip(environment.audit_kms_key_id.clone())
                        .map(|(sign, key)| sign(connection.clone(), key)),
                ),
                days: environment.audit_days,
                usage_metrics: environment.usage_metrics,
            },
        ));
        let store: Arc<dyn Store> = Arc::new(AuditedStore::new(Arc::clone(&trail)));
        let (key, former_keys) = (environment.kms_key_id.clone(), environment.former_kms_key_ids.clone());
        let wrapper = Arc::new(KmsWrapper::new(connection.clone(), key, former_keys));
        let http = Arc::new(GuardedClient::new(environment.egress.clone(), environment.extra_roots.clone()));
        let events = Arc::new(EventBridgeEvents::new(connection.clone(), environment.event_bus.clone()));
        let authorizer_keys = environment.authorizer_kms_key_id.clone().map(|key| {
            let root = Arc::new(KmsWrapper::new(connection.clone(), key, Vec::new()));
            let keys = RootedAuthorizerKeys::new(root, Arc::clone(&clock), Arc::clone(&random))
                .only_for(environment.authorizer_key_purposes.clone());
            Arc::new(keys) as Arc<dyn AuthorizerKeys>
        });
        // The keys of issuers are written by the scheduled prefetch alone (D16).
        let verifier = JwtVerifier::with_store(http.clone(), Arc::clone(&clock), store.clone(), false)
            .introspecting(authorizer_keys.clone());
        let ports = Ports {
            authorizer_keys,
            sealer: Arc::new(VaultSealer::new(
                store.clone(),
                wrapper,
                Arc::clone(&clock),
                Arc::clone(&random),
            )),
            store,
            secrets: Arc::new(SecretsManager::new(
                connection.clone(),
                environment.secret_prefix.clone(),
                Some(environment.kms_key_id.clone()),
                Arc::clone(&random),
            )),
            signing_keys: Arc::new(KmsSigningKeys::new(connection.clone())),
            verifier: Arc::new(verifier),
            http,
            clock,
            random,
            digest: Arc::new(Sha256),
            events: events.clone(),
            trail: Some(trail),
        };
        let config = Config {
            place: environment.place.clone(),
            public_base_url: environment.public_base_url.clone(),
            issuers: environment.issuers.clone(),
            built_in_return_page: false,
            record_cache: RECORD_CACHE,
            secret_cache: SECRET_CACHE,
        };
        let services = Arc::new(Services::new(ports, config));
        Self { services, events, usage_every: environment.usage_every, connection }
    }
}
