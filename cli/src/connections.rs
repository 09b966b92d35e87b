//! `agent-identity connections`: which there are, how each does, and the end of one.

use agent_identity_core::connection::{ConnectionAddress, Health};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::flight::Trouble;
use agent_identity_core::revocation::Upstream;
use agent_identity_core::{ProviderName, Timestamp, WorkloadName};
use agent_identity_service::Services;
use agent_identity_service::connection::{ConnectionShown, ListConnections};
use agent_identity_service::denial::NamedUser;
use agent_identity_service::page::PageRequest;
use agent_identity_service::revocation::Deleted;
use clap::Subcommand;
use comfy_table::Table;
use serde_json::{Value, json};

use crate::store::{ReachArgs, StoreArgs, administrator};
use crate::user::WhoArgs;
use crate::{CommandResult, output};

/// How many are read at once.
const PAGE: usize = 100;

/// Options of `connections`.
#[derive(Debug, clap::Args)]
pub struct ConnectionsArgs {
    #[command(subcommand)]
    command: ConnectionsCommand,
}

#[derive(Debug, Subcommand)]
enum ConnectionsCommand {
    /// List the connections of a user, a workload or a provider, or of several of these at once
    List(ListArgs),
    /// Say how one does
    Get {
        /// Its id, as `list` prints it
        #[arg(value_name = "ID", value_parser = address)]
        id: ConnectionAddress,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON on one line
        #[arg(long)]
        json: bool,
    },
    /// Try grants once more that their provider has refused, when the provider was wrong: for 7 days after it did
    Retry {
        /// Its id, as `list` prints it
        #[arg(value_name = "ID", value_parser = address, required_unless_present = "provider")]
        id: Option<ConnectionAddress>,
        /// All that this provider has refused
        #[arg(long, value_name = "NAME", value_parser = ProviderName::parse, conflicts_with = "id")]
        provider: Option<ProviderName>,
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete one: it gives nothing to anybody from here on, and its provider is told
    Delete {
        /// Its id, as `list` prints it
        #[arg(value_name = "ID", value_parser = address)]
        id: ConnectionAddress,
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON on one line
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("about").required(true).multiple(true).args(["workload", "provider", "issuer", "user_id"])))]
struct ListArgs {
    /// Of this workload
    #[arg(long, value_name = "NAME", value_parser = WorkloadName::parse)]
    workload: Option<WorkloadName>,
    /// At this provider
    #[arg(long, value_name = "NAME", value_parser = ProviderName::parse)]
    provider: Option<ProviderName>,
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

fn address(text: &str) -> Result<ConnectionAddress, String> {
    ConnectionAddress::parse(text)
        .ok_or_else(|| "must be an id that `connections list` has printed".to_owned())
}

/// Runs the command.
///
/// # Errors
/// When the store cannot be used, or what is named is not there.
pub async fn run(args: ConnectionsArgs) -> CommandResult {
    let admin = administrator();
    match args.command {
        ConnectionsCommand::List(args) => {
            let services = args.store.services(false).await?;
            let found = all(&services, args.workload, args.who.user(), args.provider).await?;
            print(&services, &found, args.json)
        }
        ConnectionsCommand::Retry { id, provider, reach, store, json } => {
            let services = store.reaching(&reach).await?;
            let refused = match id {
                Some(id) => vec![id],
                None => all(&services, None, None, provider)
                    .await?
                    .into_iter()
                    .filter(|it| it.refreshable && matches!(it.health, Health::NeedsConsent { .. }))
                    .map(|it| it.address)
                    .collect(),
            };
            let (mut tried, mut conflicts) = (Vec::new(), 0);
            for address in &refused {
                match services.retry_connection(&admin, address).await {
                    Ok(shown) => tried.push(shown),
                    Err(error) if error.kind() == ErrorKind::Conflict && refused.len() > 1 => {
                        output::complain(&format!("{address}: {error}"));
                        conflicts += 1;
                    }
                    Err(error) => return Err(error.into()),
                }
                output::complain(&format!("{} of {} tried", tried.len() + conflicts, refused.len()));
            }
            print(&services, &tried, json)
        }
        ConnectionsCommand::Get { id, store, json } => {
            let services = store.services(false).await?;
            let shown = shown(&services.get_connection(&admin, &id).await?);
            output::print(&if json { shown.to_string() } else { format!("{shown:#}") })
        }
        ConnectionsCommand::Delete { id, reach, store, json } => {
            let services = store.reaching(&reach).await?;
            let deleted = services.delete_connection(&admin, &id).await?;
            output::print(&if json { ended(&deleted).to_string() } else { told(&deleted) })
        }
    }
}

/// All of what is named.
async fn all(
    services: &Services,
    workload: Option<WorkloadName>,
    user: Option<NamedUser>,
    provider: Option<ProviderName>,
) -> CommandResult<Vec<ConnectionShown>> {
    let (mut found, mut next_token) = (Vec::new(), None);
    loop {
        let page = PageRequest { max_results: PAGE, next_token: next_token.take() };
        let (workload, user, provider) = (workload.clone(), user.clone(), provider.clone());
        let action = ListConnections { workload, user, provider, page };
        let page = services.list_connections(administrator().authorize(action)?).await?;
        found.extend(page.items);
        match page.next_token {
            Some(token) => next_token = Some(token),
            None => return Ok(found),
        }
    }
}

fn print(services: &Services, connections: &[ConnectionShown], json: bool) -> CommandResult {
    if json {
        output::print(&Value::from_iter(connections.iter().map(shown)).to_string())
    } else {
        output::print(&table(connections, services.ports().clock.now()).to_string())
    }
}

/// What became of a deleted connection, for a person.
pub fn told(deleted: &Deleted) -> String {
    let at_provider = match deleted.upstream {
        Upstream::Revoked => "its grant was revoked at the provider",
        Upstream::Unsupported => "its grant could not be revoked at the provider",
        Upstream::Queued => "its provider will be told again, for up to seven days",
        Upstream::Failed => "its grant was not revoked at the provider, and nobody tries again",
    };
    let reason = deleted.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{} is destroyed here; {at_provider}{reason}", deleted.address)
}

/// The same as JSON.
pub fn ended(deleted: &Deleted) -> Value {
    json!({
        "connectionId": deleted.address.to_string(),
        "local": "destroyed",
        "upstream": deleted.upstream.as_str(),
        "reason": deleted.reason,
    })
}

fn until(end: Timestamp, now: Timestamp) -> String {
    if now < end { format!("in {} s", end.since(now).as_secs()) } else { "ended".to_owned() }
}

/// For people.
pub fn table(connections: &[ConnectionShown], now: Timestamp) -> Table {
    let mut table = Table::new();
    table.set_header(["workload", "provider", "account", "status", "scopes", "access token ends", "id"]);
    for it in connections {
        let name = |name: Option<String>| name.unwrap_or_else(|| "(deleted)".to_owned());
        let status = match &it.health {
            Health::Active if it.failures > 0 => {
                let why = it.last_error.map_or("", Trouble::as_str);
                format!("active, {} refreshes failed, the last: {why}", it.failures)
            }
            Health::Active => "active".to_owned(),
            Health::NeedsConsent { reason, .. } => format!("needs consent: {}", reason.as_str()),
        };
        let scopes: Vec<_> = it.granted.iter().map(|scope| scope.as_str()).collect();
        table.add_row([
            name(it.workload.as_ref().map(WorkloadName::to_string)),
            name(it.provider.as_ref().map(ProviderName::to_string)),
            match &it.account {
                Some(account) => format!("{}: {}", it.address.label(), account.subject),
                None => it.address.label().to_owned(),
            },
            status,
            scopes.join(" "),
            it.expires_at.map_or_else(String::new, |end| until(end, now)),
            it.address.to_string(),
        ]);
    }
    table
}

/// For machines.
pub fn shown(it: &ConnectionShown) -> Value {
    let reason = match &it.health {
        Health::Active => None,
        Health::NeedsConsent { reason, .. } => Some(reason.as_str()),
    };
    let seconds = |at: Option<Timestamp>| at.map(Timestamp::as_seconds);
    json!({
        "connectionId": it.address.to_string(),
        "workloadName": it.workload,
        "providerName": it.provider,
        "userKey": it.address.user,
        "label": it.address.label(),
        "account": it.account.as_ref().map(|account| &account.subject),
        "status": it.health.as_str(),
        "statusReason": reason,
        "scopes": it.granted,
        "requestedScopes": it.asked,
        "obtainedAt": it.obtained_at.as_seconds(),
        "expiresAt": seconds(it.expires_at),
        "nextRefreshAt": seconds(it.next_refresh_at),
        "failures": it.failures,
        "lastError": it.last_error.map(Trouble::as_str),
    })
}
