//! `agent-identity run`: a program whose requests get their credentials on the way (D23). The program knows a proxy and a certificate
//! and nothing else; the server makes the requests, and the credential stays there.

mod bundle;
mod child;
mod injecting;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use agent_identity_core::random::handle;
use agent_identity_core::{Secret, WorkloadName};
use agent_identity_local::{SystemClock, SystemRandom};
use agent_identity_proxy::{Proxy, Route};
use url::Url;

use crate::client::Client;
use crate::compose::{self, DEFAULT_REGION};
use crate::data_dir::{DataArgs, DefaultKey};
use crate::env::{self, Endpoint};
use crate::{CommandError, CommandResult, output};
use injecting::{Injecting, Who};

/// Options of `run`.
#[derive(Debug, clap::Args)]
pub struct RunArgs {
    /// The agent: the workload identity whose tools are open to COMMAND
    #[arg(long, value_name = "NAME", value_parser = WorkloadName::parse)]
    agent: WorkloadName,
    /// The user whose connections are used, by the id that the app has given them
    #[arg(long, value_name = "ID", conflicts_with = "user_token_file")]
    user_id: Option<String>,
    /// The user whose connections are used, by a JWT of theirs in this file; it is read anew whenever a session ends
    #[arg(long, value_name = "FILE")]
    user_token_file: Option<PathBuf>,
    /// Where a user's consent returns to, if the agent has such URLs registered
    #[arg(long, value_name = "URL")]
    return_url: Option<String>,
    #[command(flatten)]
    data: DataArgs,
    /// The server's URL; with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY set, any server that takes that key, and no data directory
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Region that is signed for; default: that of the server, or us-east-1
    #[arg(long, value_name = "REGION", env = "AGENT_IDENTITY_REGION", value_parser = compose::region)]
    region: Option<String>,
    /// PEM file with further roots for TLS to the server
    #[arg(long, value_name = "FILE", env = "AGENT_IDENTITY_EXTRA_CA_FILE")]
    extra_ca_file: Option<PathBuf>,
    /// Say nothing but what is wrong
    #[arg(long, short)]
    quiet: bool,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

/// Runs the command.
///
/// # Errors
/// When there is no server, no tool that is open to programs, or no such command.
pub async fn run(args: RunArgs) -> CommandResult<ExitCode> {
    child::keep_others_out();
    let extra_roots = crate::serve::extra_roots(args.extra_ca_file.as_deref())?;
    let (Endpoint { url, region, key }, own_key) = args.endpoint().await?;
    let client = Client::new(&url, &region, &key.access_key_id, &key.secret_access_key, extra_roots)?;
    let who = match (args.user_id, args.user_token_file) {
        (Some(id), _) => Who::Id(id),
        (None, Some(file)) => Who::TokenFile(file),
        (None, None) => Who::Nobody,
    };
    let injecting = Injecting::new(client, args.agent, who, args.return_url).await?;
    if !args.quiet {
        for line in injecting.summary() {
            output::complain(&format!("agent-identity: {line}"));
        }
    }
    // Also where nothing else is said (D23).
    if !own_key || is_loopback(&url) && child::may_look_into(&url) {
        output::complain(
            "agent-identity: warning: COMMAND runs as a user who can read the server's data directory or memory, and so could take \
             credentials from there; run `serve` as another user, and give this command a key of the role use (docs/operations.md)",
        );
    }
    let hosts = injecting.hosts();
    let secret = Secret::new(handle(&SystemRandom));
    let route: Arc<dyn Route> = Arc::new(injecting);
    let proxy = Proxy::start(&hosts, secret, Arc::new(SystemClock), route).await?;
    let bundle = bundle::Bundle::write(&proxy.authority_pem())?;
    let environment =
        child::Environment { proxy: proxy.url(), bundle: bundle.path(), hosts: &hosts, key: &key, url: &url };
    child::run(&args.command, &environment).await
}

impl RunArgs {
    /// The server, and whether it is reached without its data directory, with a key that was given to this command.
    async fn endpoint(&self) -> CommandResult<(Endpoint, bool)> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let given = variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY")).map(
            |(access_key_id, secret)| DefaultKey { access_key_id, secret_access_key: Secret::new(secret) },
        );
        let endless = |key: DefaultKey| {
            match variable("AWS_SESSION_TOKEN") {
            Some(_) => Err(CommandError(
                "AWS_SESSION_TOKEN is set: this command takes a key that does not end, as `agent-identity access-keys create` makes it \
                 without --expires-in"
                    .to_owned(),
            )),
            None => Ok(key),
        }
        };
        // A server that is named and has no data directory of this user's on this machine is believed to be what it is named.
        let given = match (given, &self.url) {
            (Some(key), Some(url)) if !self.is_of_a_directory(url) => {
                let region = self.region.clone().unwrap_or_else(|| DEFAULT_REGION.to_owned());
                return Ok((Endpoint { url: url.clone(), region, key: endless(key)? }, true));
            }
            (given, _) => given,
        };
        let data = self.data.path()?;
        let (mut endpoint, local) = env::endpoint(&data, self.url.as_deref(), self.region.clone()).await?;
        if let Some(key) = given {
            // A key of the server's that somebody has set is the one that is meant; one of an account on AWS is not.
            if local.services.access_key(&key.access_key_id).await?.is_some() {
                endpoint.key = endless(key)?;
            } else {
                output::complain(
                    "agent-identity: AWS_ACCESS_KEY_ID is no key of this server, whose default key is used",
                );
            }
        }
        Ok((endpoint, false))
    }

    /// Whether the server that is named may be that of a data directory which this user can read.
    fn is_of_a_directory(&self, url: &str) -> bool {
        let key = || self.data.path().and_then(|data| DefaultKey::read(&data));
        is_loopback(url) && key().is_ok_and(|key| key.is_some())
    }
}

/// Whether a URL names this machine by its loopback address.
fn is_loopback(url: &str) -> bool {
    Url::parse(url).is_ok_and(|url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    })
}
