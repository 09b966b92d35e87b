//! `agent-identity refresh`: what the schedule would do now, shown or done.

use std::collections::BTreeMap;
use std::process::ExitCode;

use agent_identity_service::Services;
use agent_identity_service::due::{AT_ONCE, LIMIT_PER_SHARD};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::store::{ReachArgs, StoreArgs};
use crate::{CommandResult, connections, output};

/// What could not be done, among the outcomes.
const FAILED: &str = "failed";

/// Options of `refresh`.
#[derive(Debug, clap::Args)]
pub struct RefreshArgs {
    /// Whatever is due now, as the schedule finds it
    #[arg(long, required = true)]
    due: bool,
    /// Show it, and do nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    reach: Box<ReachArgs>,
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command. Exit code 1 when something that is due could not be done.
///
/// # Errors
/// When the store cannot be used.
pub async fn run(args: RefreshArgs) -> CommandResult<ExitCode> {
    let services = args.store.reaching(&args.reach).await?;
    if args.dry_run {
        let due = services.due_connections(LIMIT_PER_SHARD).await?;
        if args.json {
            output::print(&Value::from_iter(due.iter().map(connections::shown)).to_string())?;
        } else {
            output::print(&connections::table(&due, services.ports().clock.now()).to_string())?;
            output::print(&format!("{} connections are due; nothing was done", due.len()))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let outcomes = work_off(&services).await?;
    if args.json {
        output::print(&json!(outcomes).to_string())?;
    } else {
        for (outcome, count) in &outcomes {
            output::print(&format!("{count} {outcome}"))?;
        }
        if outcomes.is_empty() {
            output::print("nothing is due")?;
        }
    }
    Ok(if outcomes.contains_key(FAILED) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// How many came to what, told as it goes.
async fn work_off(services: &Services) -> CommandResult<BTreeMap<&'static str, usize>> {
    let due = services.due_work(LIMIT_PER_SHARD).await?;
    let (all, mut done, mut outcomes) = (due.len(), 0_usize, BTreeMap::new());
    let mut working = stream::iter(due.iter().map(|due| async move {
        services.work_off(due).await.unwrap_or_else(|error| {
            output::complain(&format!("{}/{}: {error}", due.key.partition, due.key.sort));
            FAILED
        })
    }))
    .buffer_unordered(AT_ONCE);
    while let Some(outcome) = working.next().await {
        done = done.saturating_add(1);
        let count: &mut usize = outcomes.entry(outcome).or_default();
        *count = count.saturating_add(1);
        if done == all || done.is_multiple_of(100) {
            output::complain(&format!("{done} of {all} done"));
        }
    }
    Ok(outcomes)
}
