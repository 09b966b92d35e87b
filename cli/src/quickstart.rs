//! `agent-identity quickstart`: the whole story on one machine, over HTTP, told step by step.
//!
//! The identity provider and the API are real but small, live in this process and are out of reach of `serve`.

mod answer;
mod browser;
mod idp;
mod listener;
mod story;
mod tool;
mod world;

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::temporary::Temporary;
use crate::{CommandResult, output};

/// Options of `quickstart`.
#[derive(Debug, clap::Args)]
pub struct QuickstartArgs {
    /// Leave everything running at the end, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// What is logged to stderr, such as info
    #[arg(long, value_name = "FILTER", default_value = "off", env = "AGENT_IDENTITY_LOG", value_parser = crate::serve::log_filter)]
    log: String,
}

/// Runs the command.
///
/// # Errors
/// When a step of the story does not do what it says.
pub async fn run(args: QuickstartArgs) -> CommandResult<ExitCode> {
    agent_identity_telemetry::start(&args.log)?;
    // Before there is anything to leave behind.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let directory = Temporary::new("quickstart")?;
    tokio::select! {
        told = story::tell(directory.path(), args.keep) => told.map(|()| ExitCode::SUCCESS),
        _ = interrupt.recv() => {
            output::complain("interrupted");
            Ok(ExitCode::from(130))
        }
        // What a shell reports for SIGTERM.
        _ = terminate.recv() => Ok(ExitCode::from(143)),
    }
}
