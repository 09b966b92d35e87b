//! `agent-identity secrets`: values that EXTERNAL secrets of providers refer to.

use std::io::Read as _;

use agent_identity_core::Secret;
use agent_identity_core::grant::Pattern;
use agent_identity_local::LocalName;
use clap::Subcommand;
use serde_json::json;

use crate::compose::{self, RegionArgs, Settings};
use crate::{CommandError, CommandResult, DataArgs, output};

/// Longest secret, in bytes (Secrets Manager's limit).
const MAX_SECRET: u64 = 65_536;

/// Options of `secrets`.
#[derive(Debug, clap::Args)]
pub struct SecretsArgs {
    #[command(subcommand)]
    command: SecretsCommand,
}

#[derive(Debug, Subcommand)]
enum SecretsCommand {
    /// Keep a secret read from stdin (a JSON object, whose keys providers name) and print its ARN
    Put {
        /// Its name
        #[arg(value_parser = LocalName::parse)]
        name: LocalName,
        /// Let only credential providers whose name matches use it (default: all)
        #[arg(long, value_name = "PATTERN", value_parser = pattern)]
        provider: Option<Pattern>,
        #[command(flatten)]
        region: RegionArgs,
        #[command(flatten)]
        data: DataArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A pattern of provider names, as grants have them.
///
/// # Errors
/// Never; the parser wants a `Result`.
pub fn pattern(text: &str) -> Result<Pattern, std::convert::Infallible> {
    Ok(Pattern::from(text))
}

/// Runs the command.
///
/// # Errors
/// When stdin holds no text, or the data directory cannot be used.
pub async fn run(args: SecretsArgs) -> CommandResult {
    let SecretsCommand::Put { name, provider, region, data, json } = args.command;
    let mut value = String::new();
    std::io::stdin().take(MAX_SECRET + 1).read_to_string(&mut value)?;
    // What a shell's `echo` adds is not part of the secret.
    let value = value.strip_suffix('\n').unwrap_or(&value);
    if value.is_empty() || value.len() as u64 > MAX_SECRET {
        return Err(CommandError(format!("stdin must hold the secret, of 1 to {MAX_SECRET} bytes")));
    }
    let local = compose::open(&data.path()?, Settings::offline(&region.region)).await?;
    local.trail.announce(format!("put external-secret/{}", name.as_str())).await?;
    let arn = local.secrets.put_external(&name, &Secret::new(value), provider.as_ref()).await?;
    let shown = if json { json!({ "arn": arn, "name": name.as_str() }).to_string() } else { arn };
    output::print(&shown)
}
