//! `agent-identity usage`: how often credentials were asked for.

use agent_identity_api::shown_usage;
use agent_identity_core::usage::{Counts, Used};
use comfy_table::Table;
use serde_json::Value;

use crate::audit::DaysArgs;
use crate::{CommandResult, output};

/// Options of `usage`.
#[derive(Debug, clap::Args)]
pub struct UsageArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    days: DaysArgs,
}

/// Runs `usage`.
///
/// # Errors
/// When the store cannot be used.
pub async fn run(args: UsageArgs) -> CommandResult {
    let trail = args.days.trail().await?;
    let used: Vec<Used> = trail.usage(args.days.days(&trail)).await?.into_list().collect();
    output::print(&if args.json {
        Value::from_iter(used.iter().map(shown_usage)).to_string()
    } else {
        as_table(&used).to_string()
    })
}

fn as_table(used: &[Used]) -> Table {
    let mut table = Table::new();
    table.set_header(["workload", "provider", "path", "given", "waiting for consent", "refused"]);
    for Used { of, counts: Counts { given, waiting, refused } } in used {
        let name = |name: &str| if name.is_empty() { "-".to_owned() } else { name.to_owned() };
        table.add_row([
            name(&of.workload),
            name(&of.provider),
            of.path.as_str().to_owned(),
            given.to_string(),
            waiting.to_string(),
            refused.to_string(),
        ]);
    }
    table
}
