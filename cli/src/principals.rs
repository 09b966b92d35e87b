//! `agent-identity principals`: which IAM roles and users may do what in a deployment on AWS (D1).

use agent_identity_core::grant::Grant;
use agent_identity_core::principal::{PrincipalArn, StoredPrincipal};
use clap::Subcommand;
use comfy_table::Table;
use serde_json::{Value, json};

use crate::access_keys::GRANT_HELP;
use crate::store::StoreArgs;
use crate::{CommandResult, output};

/// Options of `principals`.
#[derive(Debug, clap::Args)]
pub struct PrincipalsArgs {
    #[command(subcommand)]
    command: PrincipalsCommand,
}

#[derive(Debug, Subcommand)]
enum PrincipalsCommand {
    /// Store the grants of an IAM role or user, in place of those that it has
    Put {
        /// Its ARN; that of a role's session stands for the role, and so for all its sessions
        #[arg(value_parser = PrincipalArn::parse)]
        arn: PrincipalArn,
        /// What it may do; the syntax is that of `Grant::parse`.
        #[arg(long, value_name = "GRANT", value_parser = Grant::parse, help = GRANT_HELP)]
        grant: Vec<Grant>,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List who has grants; the role that the deployment names as its administrator needs none
    List {
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Take all grants from an IAM role or user
    Delete {
        /// Its ARN
        #[arg(value_parser = PrincipalArn::parse)]
        arn: PrincipalArn,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
///
/// # Errors
/// When no deployment is named, its table cannot be used, or the principal to delete has no grants.
pub async fn run(args: PrincipalsArgs) -> CommandResult {
    match args.command {
        PrincipalsCommand::Put { arn, grant, store, json } => {
            let services = store.deployment()?;
            if grant.is_empty() {
                output::complain("warning: without --grant this principal may do nothing");
            }
            let stored = services.put_principal(&arn, grant).await?;
            if json {
                output::print(&shown(&stored).to_string())?;
            } else {
                output::print(&format!("stored the grants of {arn}; they hold within 30 seconds"))?;
            }
        }
        PrincipalsCommand::List { store, json } => {
            let principals = store.deployment()?.list_principals().await?;
            if json {
                output::print(&Value::from_iter(principals.iter().map(shown)).to_string())?;
            } else {
                let mut table = Table::new();
                table.set_header(["principal", "grants"]);
                for stored in principals {
                    table.add_row([stored.principal.name.clone(), grants(&stored).join("\n")]);
                }
                output::print(&table.to_string())?;
            }
        }
        PrincipalsCommand::Delete { arn, store, json } => {
            store.deployment()?.delete_principal(&arn).await?;
            if json {
                output::print(&json!({ "principal": arn }).to_string())?;
            } else {
                output::print(&format!("{arn} has no grants any more, within 30 seconds"))?;
            }
        }
    }
    Ok(())
}

fn grants(stored: &StoredPrincipal) -> Vec<String> {
    stored.principal.grants.iter().map(Grant::to_string).collect()
}

fn shown(stored: &StoredPrincipal) -> Value {
    json!({
        "principal": stored.principal.name,
        "grants": grants(stored),
        "createdAt": stored.created_at.as_seconds(),
        "updatedAt": stored.updated_at.as_seconds(),
    })
}
