//! Composes the use cases from the adapters of one machine.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::Clock;
use agent_identity_core::arn::Place;
use agent_identity_core::issuer::IssuerPolicy;
use agent_identity_core::seal::{AuthorizerKeys, Key32, Sealer};
use agent_identity_core::store::Store;
use agent_identity_egress::{AllowList, GuardedClient};
use agent_identity_inbound::{AuthorizeRequest, Minting};
use agent_identity_jose::{JwtVerifier, RootedAuthorizerKeys, VaultSealer};
use agent_identity_local::{
    Database, LocalSecrets, LocalSigningKeys, MasterKey, Sha256, SqliteStore, SystemClock, SystemRandom,
};
use agent_identity_service::audit::{AuditedStore, DEFAULT_DAYS, Kept, Life, Signing, Terms, Trail};
use agent_identity_service::{Config, Ports, Services};

use crate::audit::LocalHeadSigner;
use crate::events::{LocalEvents, Webhook};
use crate::{CommandError, CommandResult};

/// The region of ARNs and of `env`, unless told otherwise.
pub const DEFAULT_REGION: &str = "us-east-1";

/// The region of this deployment.
#[derive(Clone, Debug, clap::Args)]
pub struct RegionArgs {
    /// Region that ARNs name and clients sign for
    #[arg(long, value_name = "REGION", default_value = DEFAULT_REGION, env = "AGENT_IDENTITY_REGION", value_parser = region)]
    pub region: String,
}

/// A region as ARNs and credential scopes write it.
///
/// # Errors
/// The text says what is wrong.
pub fn region(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=32).contains(&text.len()) && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err("must have 1 to 32 characters of [a-z0-9-], such as us-east-1".to_owned())
    }
}

/// The account of ARNs in embedded mode.
pub const ACCOUNT: &str = "000000000000";

/// How long another process's change of a workload, provider or access key may go unnoticed (docs/adr/0007). A change by
/// this process is seen at once.
const RECORD_CACHE: Duration = Duration::from_secs(1);

/// How long the value of a secret may be served from memory.
const SECRET_CACHE: Duration = Duration::from_secs(300);

/// What differs between the commands.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The region of ARNs.
    pub region: String,
    /// Where browsers reach the server, without a trailing slash.
    pub public_base_url: String,
    /// Whose tokens open sessions.
    pub issuers: IssuerPolicy,
    /// Whether the built-in return page completes sessions.
    pub built_in_return_page: bool,
    /// Where requests may go besides the public internet.
    pub egress: AllowList,
    /// Roots for outbound TLS, besides the system's.
    pub extra_roots: Vec<u8>,
    /// Where events are posted, besides the log.
    pub webhook: Option<String>,
    /// How long the process lives, for its audit trail.
    pub life: Life,
    /// How many days the audit trail is kept.
    pub audit_days: u32,
}

impl Settings {
    /// For commands that serve nobody.
    pub fn offline(region: &str) -> Self {
        Self {
            region: region.to_owned(),
            public_base_url: String::new(),
            issuers: IssuerPolicy::Trusted(Vec::new()),
            built_in_return_page: false,
            egress: AllowList::default(),
            extra_roots: Vec::new(),
            webhook: None,
            life: Life::Brief,
            audit_days: DEFAULT_DAYS,
        }
    }
}

/// The use cases on a data directory, and the adapters that commands use directly.
pub struct Local {
    /// The use cases.
    pub services: Arc<Services>,
    /// The rows, for reaping what has expired.
    pub rows: Arc<SqliteStore>,
    /// The audit trail.
    pub trail: Arc<Trail>,
    /// Secrets kept for providers.
    pub secrets: Arc<LocalSecrets>,
    /// Signing keys kept for providers.
    pub signing_keys: Arc<LocalSigningKeys>,
    /// Whether a user's token may speak to an agent.
    pub authorize: Arc<AuthorizeRequest>,
    /// The key with which a server proves that it serves this directory (D21).
    pub challenge_key: Key32,
    /// The key with which events at a webhook are signed.
    pub webhook_key: Key32,
    /// What others are told.
    pub events: Arc<LocalEvents>,
}

/// Opens a data directory that is there: for commands that look and do not make.
///
/// # Errors
/// When there is none, and those of [`open`].
pub async fn open_existing(data: &Path, settings: Settings) -> CommandResult<Local> {
    if !data.join("agent-identity.db").is_file() {
        return Err(CommandError(format!(
            "there is no data in {}: `agent-identity serve` or `access-keys create` makes it; or name another directory with --data",
            data.display()
        )));
    }
    open(data, settings).await
}

/// Opens the data directory, making what is missing.
///
/// # Errors
/// When the directory, the master key or the database cannot be used.
pub async fn open(data: &Path, settings: Settings) -> CommandResult<Local> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let random = Arc::new(SystemRandom);
    let database = Database::open(data).await?;
    let master = Arc::new(MasterKey::open(&database).await?);
    let challenge_key = master.derive("serve challenge");
    let webhook_key = master.derive("webhook");
    let rows = Arc::new(SqliteStore::new(database.clone(), Arc::clone(&clock)));
    let trail = Arc::new(Trail::new(
        rows.clone(),
        Arc::new(Sha256),
        random.clone(),
        Arc::clone(&clock),
        Terms {
            kept: Kept::Rows,
            life: settings.life,
            signing: Signing::Here(Arc::new(LocalHeadSigner::new(&master.derive("audit heads")))),
            days: settings.audit_days,
            usage_metrics: false,
        },
    ));
    let store: Arc<dyn Store> = Arc::new(AuditedStore::new(Arc::clone(&trail)));
    let sealer: Arc<dyn Sealer> =
        Arc::new(VaultSealer::new(store.clone(), master.clone(), Arc::clone(&clock), random.clone()));
    let authorizer_keys: Arc<dyn AuthorizerKeys> =
        Arc::new(RootedAuthorizerKeys::new(master, Arc::clone(&clock), random.clone()));
    let place = Place { region: settings.region, account: ACCOUNT.to_owned() };
    let secrets =
        Arc::new(LocalSecrets::new(database.clone(), Arc::clone(&sealer), random.clone(), place.clone()));
    let signing_keys =
        Arc::new(LocalSigningKeys::new(database, Arc::clone(&sealer), random.clone(), place.clone()));
    let http = Arc::new(GuardedClient::new(settings.egress, settings.extra_roots));
    let verifier = JwtVerifier::with_store(http.clone(), Arc::clone(&clock), store.clone(), true)
        .introspecting(Some(Arc::clone(&authorizer_keys)));
    let webhook = settings
        .webhook
        .map(|url| Webhook::new(url, &webhook_key, http.clone(), Arc::clone(&clock), random.clone()));
    let events = Arc::new(LocalEvents::new(webhook));
    let ports = Ports {
        store: store.clone(),
        secrets: secrets.clone(),
        signing_keys: signing_keys.clone(),
        sealer,
        authorizer_keys: Some(authorizer_keys),
        verifier: Arc::new(verifier),
        http,
        clock,
        random,
        digest: Arc::new(Sha256),
        events: events.clone(),
        trail: Some(Arc::clone(&trail)),
    };
    let config = Config {
        place,
        public_base_url: settings.public_base_url,
        issuers: settings.issuers,
        built_in_return_page: settings.built_in_return_page,
        record_cache: RECORD_CACHE,
        secret_cache: SECRET_CACHE,
    };
    let services = Arc::new(Services::new(ports, config));
    let authorize = Arc::new(authorizer(&services));
    Ok(Local { services, rows, trail, secrets, signing_keys, authorize, challenge_key, webhook_key, events })
}

/// What the authorizer function is on AWS, over the same rows.
fn authorizer(services: &Services) -> AuthorizeRequest {
    let ports = services.ports();
    let minting =
        ports.authorizer_keys.clone().map(|keys| Minting { keys, random: Arc::clone(&ports.random) });
    let issuers = services.config().issuers.trusted().to_vec();
    let (verifier, digest) = (Arc::clone(&ports.verifier), Arc::clone(&ports.digest));
    AuthorizeRequest::new(
        Arc::clone(&ports.store),
        verifier,
        digest,
        Arc::clone(&ports.clock),
        issuers,
        minting,
    )
}
