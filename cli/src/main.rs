//! `agent-identity`: one process on a laptop (`serve`), and the administrator's commands.

mod access_keys;
mod audit;
mod authorizer;
mod aws_models;
mod client;
mod compose;
mod connections;
mod data_dir;
mod env;
mod events;
mod input;
mod keys;
mod output;
#[cfg(feature = "aws")]
mod principals;
mod quickstart;
mod refresh;
mod run;
mod secrets;
mod serve;
mod store;
mod temporary;
mod tools;
mod usage;
mod user;
mod vault;

use std::process::ExitCode;

use agent_identity_service::audit::{About, about};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::data_dir::DataArgs;
use crate::store::ADMINISTRATOR;

/// Secure authentication and credential management for AI agents.
///
/// It speaks the wire protocol of AWS Bedrock AgentCore Identity: unmodified boto3, AWS CLI and the bedrock-agentcore SDK
/// are its clients.
#[derive(Debug, Parser)]
#[command(name = "agent-identity", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See the whole story on this machine: sign-in, consent, tokens, refresh, step by step
    Quickstart(quickstart::QuickstartArgs),
    /// Run the server on this machine: vault, tokens, consent pages
    Serve(serve::ServeArgs),
    /// Print what points official clients at the server: `eval "$(agent-identity env)"`
    Env(env::EnvArgs),
    /// Manage who may call: access keys, each with its grants
    AccessKeys(access_keys::AccessKeysArgs),
    /// Manage whose tokens may speak to an agent, and say why one may not
    Authorizer(authorizer::AuthorizerArgs),
    /// Manage tools: what agents may have called with credentials that they do not get
    Tools(tools::ToolsArgs),
    /// Run a program whose requests get their credentials on the way, so that it never has one
    Run(run::RunArgs),
    /// Look at the connections of users, workloads and providers
    Connections(connections::ConnectionsArgs),
    /// Refresh what is due now, or show what is
    Refresh(refresh::RefreshArgs),
    /// Ban users now: block, unblock, sign out
    User(user::UserArgs),
    /// Read the audit trail, export it, and verify that nobody changed it
    Audit(audit::AuditArgs),
    /// Count who asked for credentials, and got them, by workload and provider
    Usage(usage::UsageArgs),
    /// Keep secrets that providers refer to (EXTERNAL)
    Secrets(secrets::SecretsArgs),
    /// Keep signing keys for PRIVATE_KEY_JWT
    Keys(keys::KeysArgs),
    /// Print the secret with which `serve --webhook` signs events, for the receiver
    WebhookSecret(events::WebhookSecretArgs),
    /// Rotate the keys of the token vault, and reseal what older ones have sealed
    Vault(vault::VaultArgs),
    /// Make boto3 and the AWS CLI sign as a deployment on AWS takes it, and know operations of ours
    AwsModels(aws_models::AwsModelsArgs),
    /// Manage who may call a deployment on AWS: IAM roles and users, each with its grants
    #[cfg(feature = "aws")]
    Principals(principals::PrincipalsArgs),
}

/// Why a command failed, in words for a person.
#[derive(Debug)]
pub struct CommandError(String);

impl<E: std::fmt::Display> From<E> for CommandError {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// `Result` of a command.
type CommandResult<T = ()> = Result<T, CommandError>;

/// How long what nobody waits for any more may take to end.
const LAST_MOMENTS: std::time::Duration = std::time::Duration::from_secs(1);

/// Settings that close something. An empty one is a script that went wrong, and must not open it.
const NEVER_EMPTY: [&str; 2] = ["AGENT_IDENTITY_PUBLIC_BASE_URL", "AGENT_IDENTITY_TRUSTED_ISSUERS"];

/// An environment variable that is empty is as if it were not there, as container files and unit files write it.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let name = argument.get_env().map(|name| name.to_owned());
            match name.filter(|name| std::env::var_os(name).is_some_and(|value| value.is_empty())) {
                Some(name) if NEVER_EMPTY.iter().all(|never| *never != name) => argument.env(None::<&str>),
                _ => argument,
            }
        })
        .mut_subcommands(without_empty_variables)
}

/// `agent-identity user block`, as the audit trail names it.
fn command_name(matches: &clap::ArgMatches) -> String {
    let mut name = "agent-identity".to_owned();
    let mut matches = matches;
    while let Some((command, of_command)) = matches.subcommand() {
        name.push(' ');
        name.push_str(command);
        matches = of_command;
    }
    name
}

fn main() -> ExitCode {
    let matches = without_empty_variables(Cli::command()).get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&CommandError(format!("cannot start the runtime: {error}"))),
    };
    let outcome = runtime.block_on(about(About::new(ADMINISTRATOR, command_name(&matches)), async {
        let done = match cli.command {
            Command::Quickstart(args) => return quickstart::run(args).await,
            Command::Serve(args) => return serve::run(args).await,
            Command::Env(args) => env::run(args).await,
            Command::AccessKeys(args) => access_keys::run(args).await,
            Command::Authorizer(args) => return authorizer::run(args).await,
            Command::Tools(args) => return tools::run(args).await,
            Command::Run(args) => return run::run(args).await,
            Command::Connections(args) => connections::run(args).await,
            Command::Refresh(args) => return refresh::run(args).await,
            Command::User(args) => user::run(args).await,
            Command::Usage(args) => usage::run(args).await,
            Command::Audit(args) => return audit::run(args).await,
            Command::Secrets(args) => secrets::run(args).await,
            Command::Keys(args) => keys::run(args).await,
            Command::WebhookSecret(args) => events::run(args).await,
            Command::Vault(args) => vault::run(args).await,
            Command::AwsModels(args) => aws_models::run(args),
            #[cfg(feature = "aws")]
            Command::Principals(args) => principals::run(args).await,
        };
        done.map(|()| ExitCode::SUCCESS)
    }));
    // A name that is being looked up, say, holds the end up no longer.
    runtime.shutdown_timeout(LAST_MOMENTS);
    outcome.unwrap_or_else(|error| fail(&error))
}

fn fail(error: &CommandError) -> ExitCode {
    output::complain(&format!("error: {}", error.0));
    ExitCode::FAILURE
}
