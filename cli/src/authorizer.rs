//! `agent-identity authorizer`: whose tokens may speak to an agent, and why one may not.

mod check;
mod introspection;
mod preset;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent_identity_api::parse_authorizer;
use agent_identity_core::WorkloadName;
use agent_identity_core::authorizer::preset::PRESETS;
use agent_identity_core::authorizer::{Authorizer, AuthorizerOptions, CustomJwtAuthorizer, MAX_AUTHORIZERS};
use agent_identity_core::name::AuthorizerName;
use agent_identity_service::authorizer::{DeleteAuthorizer, GetAuthorizer, ListAuthorizers, PutAuthorizer};
use agent_identity_service::page::PageRequest;
use clap::Subcommand;
use comfy_table::Table;
use serde_json::{Map, Value, json};

use self::introspection::IntrospectionArgs;
use self::preset::PresetArgs;
use crate::store::{ReachArgs, StoreArgs, administrator};
use crate::{CommandError, CommandResult, input, output};

/// Most bytes of a configuration, or of a file with a secret.
const MAX_BYTES: u64 = 1024 * 1024;

/// Options of `authorizer`.
#[derive(Debug, clap::Args)]
pub struct AuthorizerArgs {
    #[command(subcommand)]
    command: AuthorizerCommand,
}

#[derive(Debug, Subcommand)]
enum AuthorizerCommand {
    /// Store an authorizer of an agent, in place of the one with its name
    Put {
        /// The agent: the name of its workload identity
        #[arg(value_parser = WorkloadName::parse)]
        agent: WorkloadName,
        /// The authorizer's name among those of the agent
        #[arg(long, default_value = "main", value_parser = AuthorizerName::parse)]
        name: AuthorizerName,
        /// The configuration: a file, JSON, or - for stdin; `customJWTAuthorizer` as AWS writes it, or the body of PutAuthorizer
        #[arg(long, value_name = "FILE", conflicts_with = "preset", required_unless_present = "preset")]
        config: Option<String>,
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
        // Last, since their headings stand for all that follows.
        #[command(flatten)]
        introspection: Box<IntrospectionArgs>,
        #[command(flatten)]
        preset: Box<PresetArgs>,
    },
    /// Print an authorizer
    Get {
        /// The agent
        #[arg(value_parser = WorkloadName::parse)]
        agent: WorkloadName,
        /// The authorizer's name
        #[arg(long, default_value = "main", value_parser = AuthorizerName::parse)]
        name: AuthorizerName,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON on one line
        #[arg(long)]
        json: bool,
    },
    /// List the authorizers of an agent
    List {
        /// The agent
        #[arg(value_parser = WorkloadName::parse)]
        agent: WorkloadName,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Delete an authorizer; an agent without any goes by the deployment's trusted issuers
    Delete {
        /// The agent
        #[arg(value_parser = WorkloadName::parse)]
        agent: WorkloadName,
        /// The authorizer's name
        #[arg(long, value_parser = AuthorizerName::parse)]
        name: AuthorizerName,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say which rules of an agent a user's token keeps and which it breaks; exit 1 when no authorizer lets it pass
    Check {
        /// The agent
        #[arg(value_parser = WorkloadName::parse)]
        agent: WorkloadName,
        /// The file that holds the token; - is stdin. A token itself is not taken: other users of the machine see command lines
        #[arg(long, value_name = "FILE")]
        token: PathBuf,
        #[command(flatten)]
        reach: Box<ReachArgs>,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the presets: what each takes, and what people stumble over
    Presets {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// When the store cannot be used, the configuration is wrong, or there is no such agent or authorizer.
pub async fn run(args: AuthorizerArgs) -> CommandResult<ExitCode> {
    let admin = administrator();
    match args.command {
        AuthorizerCommand::Put { agent, name, config, introspection, preset, reach, store, json } => {
            let mut body = match &config {
                Some(config) => configured(config)?,
                None => preset.made()?,
            };
            introspection.add_to(&mut body, config.as_deref() == Some("-"))?;
            let (configuration, options) = checked(body)?;
            let services = store.reaching(&reach).await?;
            let action = PutAuthorizer { agent: agent.clone(), name: name.clone(), configuration, options };
            let version = services.put_authorizer(admin.authorize(action)?).await?;
            if json {
                output::print(&json!({"agentId": agent, "name": name, "version": version}).to_string())?;
            } else {
                output::print(&format!(
                    "stored the authorizer {name} of {agent}, version {version}; it holds within 30 seconds"
                ))?;
            }
        }
        AuthorizerCommand::Get { agent, name, store, json } => {
            let services = store.services(false).await?;
            let action = admin.authorize(GetAuthorizer { agent: agent.clone(), name })?;
            let shown = shown(&agent, &services.get_authorizer(action).await?);
            output::print(&if json { shown.to_string() } else { format!("{shown:#}") })?;
        }
        AuthorizerCommand::List { agent, store, json } => {
            let services = store.services(false).await?;
            let page = PageRequest { max_results: MAX_AUTHORIZERS, next_token: None };
            let action = admin.authorize(ListAuthorizers { agent: agent.clone(), page })?;
            let authorizers = services.list_authorizers(action).await?.items;
            if json {
                let all = Value::from_iter(authorizers.iter().map(|it| shown(&agent, it)));
                output::print(&all.to_string())?;
            } else {
                let mut table = Table::new();
                table.set_header(["authorizer", "version", "issuer", "users by", "rules"]);
                for it in authorizers {
                    let rules: Vec<_> = it.rules().map(|rule| rule.to_string()).collect();
                    let (version, issuer) = (it.version.to_string(), it.configuration.discovery_url.issuer());
                    let name = it.name.to_string();
                    table.add_row([name, version, issuer, it.subject_claim.clone(), rules.join("\n")]);
                }
                output::print(&table.to_string())?;
            }
        }
        AuthorizerCommand::Delete { agent, name, store, json } => {
            let services = store.services(false).await?;
            let action = admin.authorize(DeleteAuthorizer { agent: agent.clone(), name: name.clone() })?;
            services.delete_authorizer(action).await?;
            if json {
                output::print(&json!({"agentId": agent, "name": name}).to_string())?;
            } else {
                output::print(&format!("deleted the authorizer {name} of {agent}, within 30 seconds"))?;
            }
        }
        AuthorizerCommand::Check { agent, token, reach, store, json } => {
            let services = store.reaching(&reach).await?;
            return check::run(&services, &admin, agent, &token, json).await;
        }
        AuthorizerCommand::Presets { json } => presets(json)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(agent: &WorkloadName, authorizer: &Authorizer) -> Value {
    json!({
        "agentId": agent,
        "name": authorizer.name,
        "version": authorizer.version,
        "authorizerConfiguration": { "customJWTAuthorizer": authorizer.configuration },
        "options": authorizer.options,
        "subjectClaim": authorizer.subject_claim,
        "createdAt": authorizer.created_at.as_seconds(),
        "updatedAt": authorizer.updated_at.as_seconds(),
    })
}

/// What a person wrote, as the body of PutAuthorizer: that, its `authorizerConfiguration`, or the `customJWTAuthorizer` alone.
fn configured(text: &str) -> CommandResult<Value> {
    let is_typed = text.trim_start().starts_with('{');
    let text =
        if is_typed { text.to_owned() } else { input::text_of(Path::new(text), "--config", MAX_BYTES)? };
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| CommandError(format!("--config is not JSON: {error}")))?;
    if is_typed && introspection::has_secret(&value) {
        return Err(CommandError(
            "--config holds a client secret, and other users of the machine see command lines: give its file, or the secret's with \
             --introspection-secret"
                .to_owned(),
        ));
    }
    Ok(if value.get("authorizerConfiguration").is_some() {
        value
    } else if value.get("customJWTAuthorizer").is_some() {
        json!({ "authorizerConfiguration": value })
    } else {
        json!({ "authorizerConfiguration": { "customJWTAuthorizer": value } })
    })
}

/// By the rules of PutAuthorizer.
fn checked(body: Value) -> CommandResult<(CustomJwtAuthorizer, AuthorizerOptions)> {
    let members: Map<String, Value> = serde_json::from_value(body)?;
    Ok(parse_authorizer(members)?)
}

fn presets(json: bool) -> CommandResult {
    if json {
        let all = PRESETS.map(
            |it| json!({"name": it.name, "provider": it.provider, "takes": it.takes, "traps": it.traps}),
        );
        return output::print(&json!(all).to_string());
    }
    let mut table = Table::new();
    table.set_header(["preset", "for", "takes", "beware"]);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic).set_width(100);
    for it in PRESETS {
        table.add_row([it.name, it.provider, it.takes, it.traps]);
    }
    output::print(&table.to_string())
}
