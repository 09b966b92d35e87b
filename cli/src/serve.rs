//! `agent-identity serve`: embedded mode.

mod accept;
mod agents;
mod challenge;
mod default_key;
mod signals;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use agent_identity_api::{AccessKeys, All, Api, CancellationToken, Hosts, TaskTracker};
use agent_identity_core::issuer::{IssuerPolicy, TrustedIssuer, parse_trusted_issuers};
use agent_identity_egress::AllowList;
use agent_identity_jose::{KeyPrefetch, PREFETCH_EVERY};
use agent_identity_service::Services;
use agent_identity_service::audit::{About, DEFAULT_DAYS, Life, about};
use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use url::Url;

pub use challenge::answers as challenge_answers;

use crate::compose::{self, Local, RegionArgs, Settings};
use crate::data_dir::{DataArgs, Running};
use crate::events::webhook_url;
use crate::{CommandError, CommandResult, output};
use signals::Signals;

/// How often rows that have expired are removed.
const REAP_EVERY: Duration = Duration::from_secs(30);

/// How many of them at once.
const REAP_AT_ONCE: usize = 1000;

/// How often events that wait are posted.
const POST_EVERY: Duration = Duration::from_secs(1);

/// How often it is signed how far the audit trail has come (D18).
const SIGN_EVERY: Duration = Duration::from_secs(60);

/// How often what was counted is written: so much of it a process that is killed loses.
const COUNT_EVERY: Duration = Duration::from_secs(5);

/// How long requests that are under way have to end after a signal: longer than a call to a provider may take.
const GRACE: Duration = Duration::from_secs(15);

pub const EGRESS_HELP: &str =
    "Let requests go to HOST:PORT or CIDR[:PORT] although it is not on the public internet (repeatable)";

pub const ISSUER_HELP: &str = "Accept users' tokens of this issuer: \
    issuer=URL,audience=A[,client=C][,alg=ALG][,typ=T][,subject-claim=N], or JSON (repeatable)";

/// A token of a minute is refreshed half a minute before it ends.
pub const DEFAULT_REFRESH_EVERY: u32 = 10;

/// Options of `serve`.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7420", env = "AGENT_IDENTITY_LISTEN")]
    listen: SocketAddr,
    #[command(flatten)]
    data: DataArgs,
    /// Where browsers and clients reach this server from outside, such as `https://identity.example.com`
    #[arg(long, value_name = "URL", env = "AGENT_IDENTITY_PUBLIC_BASE_URL", value_parser = public_base_url)]
    public_base_url: Option<String>,
    /// Where requests may go besides the public internet.
    #[arg(long, value_name = "HOST:PORT", help = EGRESS_HELP, env = "AGENT_IDENTITY_EGRESS_ALLOW", value_parser = AllowList::parse)]
    allow_egress: Vec<AllowList>,
    /// Whose tokens open sessions.
    #[arg(long, value_name = "ISSUER", help = ISSUER_HELP, env = "AGENT_IDENTITY_TRUSTED_ISSUERS", value_parser = trusted_issuers)]
    trusted_issuer: Vec<Issuers>,
    #[command(flatten)]
    region: RegionArgs,
    /// PEM file with further roots for outbound TLS
    #[arg(long, value_name = "FILE", env = "AGENT_IDENTITY_EXTRA_CA_FILE")]
    extra_ca_file: Option<PathBuf>,
    /// Keep each day of the audit trail for so many days
    #[arg(long, value_name = "DAYS", default_value_t = DEFAULT_DAYS, env = "AGENT_IDENTITY_AUDIT_DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    audit_days: u32,
    /// Post events there, signed with the secret that `agent-identity webhook-secret` prints
    #[arg(long, value_name = "URL", env = "AGENT_IDENTITY_WEBHOOK", value_parser = webhook_url)]
    webhook: Option<String>,
    /// How often, in seconds, what is due is refreshed without anybody asking; 0 leaves it to who asks
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_REFRESH_EVERY, env = "AGENT_IDENTITY_REFRESH_EVERY", value_parser = clap::value_parser!(u32).range(..=3600))]
    refresh_every: u32,
    /// What is logged, such as info or agent_identity_service=debug
    #[arg(long, value_name = "FILTER", default_value = "info", env = "AGENT_IDENTITY_LOG", value_parser = log_filter)]
    log: String,
}

/// The issuers in one value of `--trusted-issuer`.
#[derive(Clone, Debug)]
pub struct Issuers(pub Vec<TrustedIssuer>);

/// A value of `--trusted-issuer`.
///
/// # Errors
/// The text says what is wrong.
pub fn trusted_issuers(text: &str) -> Result<Issuers, String> {
    parse_trusted_issuers(text).map(Issuers)
}

/// A server that is ready.
pub struct Server {
    /// Where it listens.
    pub url: String,
    /// Whether it is reached on loopback alone, and takes the default key.
    direct: bool,
    listener: TcpListener,
    router: Router,
    work: TaskTracker,
    stopping: CancellationToken,
    /// How often what is due is refreshed, if at all.
    refresh_every: Option<Duration>,
    local: Local,
}

/// What a server is made of, besides its data.
pub struct Plan {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// As `--public-base-url`.
    pub public_base_url: Option<String>,
    /// As `--allow-egress`.
    pub egress: AllowList,
    /// As `--trusted-issuer`.
    pub issuers: Vec<TrustedIssuer>,
    /// As `--region`.
    pub region: String,
    /// Contents of `--extra-ca-file`.
    pub extra_roots: Vec<u8>,
    /// As `--audit-days`.
    pub audit_days: u32,
    /// As `--webhook`.
    pub webhook: Option<String>,
    /// As `--refresh-every`.
    pub refresh_every: u32,
}

/// Contents of `--extra-ca-file`.
///
/// # Errors
/// When there is no certificate in it.
pub fn extra_roots(file: Option<&Path>) -> CommandResult<Vec<u8>> {
    let Some(path) = file else {
        return Ok(Vec::new());
    };
    let wrong =
        |error: &dyn std::fmt::Display| CommandError(format!("--extra-ca-file {}: {error}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
    let roots = agent_identity_egress::check_extra_roots(&pem).map_err(|error| wrong(&error))?;
    if roots == 0 {
        return Err(wrong(&"holds no certificate; it wants PEM"));
    }
    Ok(pem)
}

/// Runs the command.
///
/// # Errors
/// When the server cannot start.
pub async fn run(args: ServeArgs) -> CommandResult<ExitCode> {
    agent_identity_telemetry::start(&args.log)?;
    let data = args.data.path()?;
    let extra_roots = extra_roots(args.extra_ca_file.as_deref())?;
    let plan = Plan {
        listen: args.listen,
        public_base_url: args.public_base_url,
        egress: args.allow_egress.into_iter().collect(),
        issuers: args.trusted_issuer.into_iter().flat_map(|issuers| issuers.0).collect(),
        region: args.region.region,
        extra_roots,
        audit_days: args.audit_days,
        webhook: args.webhook,
        refresh_every: args.refresh_every,
    };
    let region = plan.region.clone();
    // Before the ready line: a signal from then on is a clean shutdown. Before it there is nothing to shut down, even if the
    // start waits for another process.
    let mut signals = Signals::catch()?;
    let server = tokio::select! {
        started = Server::start(&data, plan) => started?,
        () = signals.next() => {
            tracing::info!("told to stop before the server was ready");
            return Ok(signals.exit_code(true));
        }
    };
    let mut running = Running {
        pid: std::process::id(),
        url: server.url.clone(),
        started_at: server.local.services.ports().clock.now().as_seconds(),
        default_key: server.direct,
        region: Some(region),
        stopped: false,
    };
    running.write(&data)?;
    Running::prune(&data);
    output::print(&format!("listening on {}", server.url))?;
    tracing::info!(url = server.url, data = %data.display(), "ready");
    let (told, stop) = tokio::sync::oneshot::channel::<()>();
    let two_signals = async {
        signals.next().await;
        tracing::info!(
            "stopping: no new connections, what is in flight ends first; a second signal ends it at once"
        );
        let _nobody_waits = told.send(());
        signals.next().await;
    };
    let stop = async {
        let _told = stop.await;
    };
    let all_ended = tokio::select! {
        all_ended = server.run(stop) => all_ended,
        () = two_signals => {
            tracing::warn!("stopped at once by a second signal; the next start picks up what was in flight");
            false
        }
    };
    running.stopped = true;
    running.write(&data)?;
    tracing::info!("stopped");
    Ok(signals.exit_code(all_ended))
}

impl Server {
    /// Binds, opens the data directory and makes the default access key when there is none.
    ///
    /// # Errors
    /// When the address is not loopback and what that takes (D21) is not there; when the data cannot be used.
    pub async fn start(data: &std::path::Path, plan: Plan) -> CommandResult<Self> {
        let loopback = plan.listen.ip().is_loopback();
        let public = plan.public_base_url;
        if !loopback && public.as_deref().is_some_and(|url| !url.starts_with("https://")) {
            return Err(CommandError(
                "beyond loopback the --public-base-url must begin with https://".to_owned(),
            ));
        }
        if !loopback && public.is_none() {
            return Err(CommandError(format!(
                "{} is not a loopback address: say how the server is reached from outside with --public-base-url https://…",
                plan.listen
            )));
        }
        let listener = TcpListener::bind(plan.listen)
            .await
            .map_err(|error| CommandError(format!("cannot listen on {}: {error}", plan.listen)))?;
        let address = listener.local_addr()?;
        let url = format!("http://{address}");
        let direct = loopback && public.is_none();
        let issuers = if plan.issuers.is_empty() && direct {
            IssuerPolicy::AnyIssuer
        } else {
            IssuerPolicy::Trusted(plan.issuers)
        };
        let settings = Settings {
            region: plan.region,
            public_base_url: public.clone().unwrap_or_else(|| url.clone()),
            issuers,
            built_in_return_page: direct,
            egress: plan.egress,
            extra_roots: plan.extra_roots,
            webhook: plan.webhook,
            life: Life::Long,
            audit_days: plan.audit_days,
        };
        let local = compose::open(data, settings).await?;
        if loopback {
            default_key::ensure(data, &local.services).await?;
        } else if !default_key::others(&local.services).await? {
            return Err(CommandError(format!(
                "{} is not a loopback address, and the default access key is for loopback only: make one of your own first with \
                 `agent-identity access-keys create --name NAME --grant …`",
                plan.listen
            )));
        }
        let services = Arc::clone(&local.services);
        let (work, stopping) = (TaskTracker::new(), CancellationToken::new());
        let authority = address.to_string();
        let base = services.config().public_base_url.clone();
        let more = challenge::route(&local.challenge_key, &authority).merge(agents::routes(
            Arc::clone(&local.authorize),
            base,
            direct,
        ));
        let api = Api {
            authenticate: Arc::new(AccessKeys::new(Arc::clone(&services), direct)),
            hosts: hosts(address, public.as_deref())?,
            services,
            work: work.clone(),
            stopping: stopping.clone(),
        };
        let router = agent_identity_api::router::<All>(api, more);
        let seconds = u64::from(plan.refresh_every);
        let refresh_every = (seconds > 0).then(|| Duration::from_secs(seconds));
        Ok(Self { url, direct, listener, router, work, stopping, refresh_every, local })
    }

    /// Serves until `stop`, then lets what is in flight end; whether all of it did.
    pub async fn run(self, stop: impl Future<Output = ()>) -> bool {
        let Local { rows, events, trail, services, .. } = &self.local;
        let beside = [
            tokio::spawn(prefetch_keys(Arc::clone(services), self.stopping.clone())),
            every(REAP_EVERY, rows, |rows| async move {
                if let Err(error) = rows.reap(REAP_AT_ONCE).await {
                    tracing::warn!(%error, "expired rows could not be removed");
                }
            }),
            every(POST_EVERY, events, |events| async move { events.flush().await }),
            every(SIGN_EVERY, trail, |trail| async move { trail.sign_heads().await }),
            every(COUNT_EVERY, trail, |trail| async move { trail.write_usage(Duration::ZERO).await }),
        ];
        let services = Arc::clone(&self.local.services);
        let (work, stopping) = (self.work.clone(), self.stopping.clone());
        let schedule = self
            .refresh_every
            .map(|every| tokio::spawn(refresh_what_is_due(every, services, work, stopping)));
        let open = accept::until(stop, &self.stopping, self.listener, self.router).await;
        self.stopping.cancel();
        self.local.services.leave();
        self.work.close();
        let ended = async { tokio::join!(open.shutdown(), self.work.wait()) };
        let all_ended = tokio::time::timeout(GRACE, ended).await.is_ok();
        if !all_ended {
            tracing::warn!(
                "requests were still under way when the server stopped; the next start picks them up"
            );
        }
        beside.into_iter().chain(schedule).for_each(|task| task.abort());
        self.local.trail.end().await;
        self.local.events.flush().await;
        all_ended
    }
}

/// Does some work again and again, with so much time between.
fn every<T, F>(period: Duration, with: &Arc<T>, work: impl Fn(Arc<T>) -> F + Send + 'static) -> JoinHandle<()>
where
    T: Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let with = Arc::clone(with);
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(period).await;
            work(Arc::clone(&with)).await;
        }
    })
}

/// Refreshes what is due, as the refresh function does on AWS, until `stopping`. What is under way then ends as requests do.
async fn refresh_what_is_due(
    every: Duration,
    services: Arc<Services>,
    work: TaskTracker,
    stopping: CancellationToken,
) {
    let refresh_for_ever = async {
        loop {
            let tick = services.tick(|working| work.spawn(about(About::schedule(), working)));
            if let Err(error) = tick.await {
                tracing::warn!(%error, "what is due could not be looked at");
            }
            tokio::time::sleep(every).await;
        }
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = refresh_for_ever => {}
    }
}

/// Keeps the keys of trusted issuers in the store, as the refresh function does on AWS, until `stopping`.
async fn prefetch_keys(services: Arc<Services>, stopping: CancellationToken) {
    let ports = services.ports();
    let (http, clock) = (Arc::clone(&ports.http), Arc::clone(&ports.clock));
    let keys = KeyPrefetch::new(http, clock, Arc::clone(&ports.store), &services.config().issuers);
    let renew_for_ever = async {
        loop {
            if let Err(error) = keys.renew().await {
                tracing::warn!(%error, "the keys of issuers could not be looked at");
            }
            tokio::time::sleep(PREFETCH_EVERY).await;
        }
    };
    tokio::select! {
        () = stopping.cancelled() => {}
        () = renew_for_ever => {}
    }
}

/// `https://host[:port]` as browsers write it: in lower case, without the port that https implies and without a trailing
/// slash, whatever was typed. Plain http is for loopback names. A path is refused: the routes do not move, and a proxy that
/// strips one would break every signature.
fn public_base_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if url.scheme() != "https" && !(url.scheme() == "http" && local) {
        return Err("must begin with https://".to_owned());
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if url.host_str().is_none() || !bare || !url.username().is_empty() || url.password().is_some() {
        return Err("must be https://HOST[:PORT], without path, query, fragment or user".to_owned());
    }
    Ok(url.origin().ascii_serialization())
}

/// What may be logged.
///
/// # Errors
/// The text says what is wrong.
pub fn log_filter(text: &str) -> Result<String, String> {
    agent_identity_telemetry::check(text).map(|()| text.to_owned())
}

/// The authorities that are served: loopback names with our port, the address itself, and the public one, with or without the
/// port that its scheme implies. Beyond loopback `/healthz` answers whatever name it is asked by, since a load balancer asks by
/// address.
fn hosts(address: SocketAddr, public: Option<&str>) -> CommandResult<Hosts> {
    let port = address.port();
    let mut hosts = Vec::new();
    if address.ip().is_loopback() {
        hosts.extend([format!("localhost:{port}"), format!("127.0.0.1:{port}"), format!("[::1]:{port}")]);
    }
    if !address.ip().is_unspecified() {
        hosts.push(address.to_string());
    }
    if let Some(public) = public {
        let url = Url::parse(public)?;
        let host = url.host_str().unwrap_or_default();
        if let Some(port) = url.port_or_known_default() {
            hosts.push(format!("{host}:{port}"));
        }
        if url.port().is_none() {
            hosts.push(host.to_owned());
        }
    }
    Ok(if address.ip().is_loopback() { Hosts::Only(hosts) } else { Hosts::OnlyButHealth(hosts) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_base_url_is_its_origin_whatever_was_typed() {
        for text in [
            "https://id.example.com",
            "HTTPS://ID.Example.COM",
            "https://id.example.com:443/",
            "hTTps://id.example.com/",
        ] {
            assert_eq!(public_base_url(text).unwrap(), "https://id.example.com", "{text}");
        }
        assert_eq!(public_base_url("https://id.example.com:8443").unwrap(), "https://id.example.com:8443");
        assert_eq!(public_base_url("HTTP://LOCALHOST:8080/").unwrap(), "http://localhost:8080");
        for text in
            ["http://id.example.com", "https://id.example.com/path", "https://u@id.example.com", "nonsense"]
        {
            assert!(public_base_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn d21_the_public_host_is_served_with_and_without_the_port_that_https_implies() {
        let served =
            |address: &str, public: &str| match hosts(address.parse().unwrap(), Some(public)).unwrap() {
                Hosts::Only(hosts) => (false, hosts),
                Hosts::OnlyButHealth(hosts) => (true, hosts),
                Hosts::Any => panic!("any host"),
            };
        let (health, hosts) = served("0.0.0.0:8080", "https://id.example.com");
        assert!(health, "a load balancer asks by address");
        assert_eq!(hosts, ["id.example.com:443", "id.example.com"]);
        let (health, hosts) = served("127.0.0.1:8080", "https://id.example.com:8443");
        assert!(!health, "another site's page may have its name point here");
        assert!(hosts.contains(&"id.example.com:8443".to_owned()));
        assert!(!hosts.contains(&"id.example.com".to_owned()));
    }
}
