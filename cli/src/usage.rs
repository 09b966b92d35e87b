//! `agent-identity usage`: how often credentials were asked for, counted from the audit trail, which has each request once.

use std::collections::BTreeMap;

use agent_identity_core::audit::{OK, Record};
use agent_identity_service::audit::{CONSENT, Found, PENDING};
use comfy_table::Table;
use serde_json::{Value, json};

use crate::audit::DaysArgs;
use crate::{CommandResult, output};

/// The operations that give the credential of a provider, or use it, and by which path: to the caller, or into a tool's request.
const PATHS: [(&str, &str); 3] =
    [("GetResourceOauth2Token", "direct"), ("GetResourceApiKey", "direct"), ("InvokeTool", "gateway")];

/// Workload, provider and path.
type Of = [String; 3];

/// Options of `usage`.
#[derive(Debug, clap::Args)]
pub struct UsageArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    days: DaysArgs,
}

/// What became of requests.
#[derive(Debug, Default)]
struct Counted {
    given: u64,
    /// The user had to consent first, or had not yet.
    waiting: u64,
    refused: u64,
}

impl Counted {
    fn count(&mut self, outcome: &str) {
        let what = match outcome {
            OK => &mut self.given,
            CONSENT | PENDING => &mut self.waiting,
            _ => &mut self.refused,
        };
        *what = what.saturating_add(1);
    }
}

/// Runs `usage`.
///
/// # Errors
/// When the store cannot be used.
pub async fn run(args: UsageArgs) -> CommandResult {
    let trail = args.days.trail().await?;
    let mut usage: BTreeMap<Of, Counted> = BTreeMap::new();
    args.days
        .read(&trail, |found| {
            if let Found::Link(link) = found {
                for (path, record) in
                    link.records.iter().filter_map(|record| Some((path_of(record)?, record)))
                {
                    let name = |name: &Option<String>| name.clone().unwrap_or_default();
                    let of = [name(&record.workload), name(&record.provider), path.to_owned()];
                    usage.entry(of).or_default().count(&record.outcome);
                }
            }
            Ok(())
        })
        .await?;
    output::print(&if args.json { as_json(&usage).to_string() } else { as_table(&usage).to_string() })
}

/// None for what is no request for a credential. A change that an answer needed, such as the first key of a vault, is a record
/// of its own.
fn path_of(record: &Record) -> Option<&'static str> {
    let path = PATHS.iter().find(|(operation, _)| *operation == record.operation).map(|(_, path)| *path);
    path.filter(|_| record.changed.is_empty())
}

fn as_json(usage: &BTreeMap<Of, Counted>) -> Value {
    usage
        .iter()
        .map(|([workload, provider, path], Counted { given, waiting, refused })| {
            json!({
                "workloadName": workload, "providerName": provider, "path": path,
                "given": given, "waiting": waiting, "refused": refused,
            })
        })
        .collect()
}

fn as_table(usage: &BTreeMap<Of, Counted>) -> Table {
    let mut table = Table::new();
    table.set_header(["workload", "provider", "path", "given", "waiting for consent", "refused"]);
    for ([workload, provider, path], Counted { given, waiting, refused }) in usage {
        let name = |name: &str| if name.is_empty() { "-".to_owned() } else { name.to_owned() };
        table.add_row([
            name(workload),
            name(provider),
            path.clone(),
            given.to_string(),
            waiting.to_string(),
            refused.to_string(),
        ]);
    }
    table
}
