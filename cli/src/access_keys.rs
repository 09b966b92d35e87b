//! `agent-identity access-keys`: who may call, each key a principal with its grants (D1).

use std::time::Duration;

use agent_identity_core::grant::Grant;
use agent_identity_service::access_key::AccessKeyRequest;
use clap::Subcommand;
use comfy_table::Table;
use serde_json::json;

use crate::store::StoreArgs;
use crate::{CommandError, CommandResult, output};

/// What a person needs to know of a grant.
pub(crate) const GRANT_HELP: &str = "What it may do: \"ROLE[,ROLE] [workload=PATTERN] [provider=PATTERN] [operation=PATTERN]\", with the roles \
    admin, mint-jwt, mint-userid, use, read, and * in patterns (repeatable; without one it may do nothing)";

/// Options of `access-keys`.
#[derive(Debug, clap::Args)]
pub struct AccessKeysArgs {
    #[command(subcommand)]
    command: AccessKeysCommand,
}

#[derive(Debug, Subcommand)]
enum AccessKeysCommand {
    /// Make an access key and print it, once
    Create {
        /// Its principal will be called access-key/NAME
        #[arg(long)]
        name: String,
        /// What it may do; the syntax is that of `Grant::parse`.
        #[arg(long, value_name = "GRANT", value_parser = Grant::parse, help = GRANT_HELP)]
        grant: Vec<Grant>,
        /// Make a temporary key, with a session token, that ends after so many seconds
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=129_600))]
        expires_in: Option<u64>,
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List access keys, without their secrets
    List {
        #[command(flatten)]
        store: StoreArgs,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Revoke an access key, by id or name
    Revoke {
        /// Access key id, or name
        key: String,
        #[command(flatten)]
        store: StoreArgs,
    },
}

/// Runs the command.
///
/// # Errors
/// When the data directory cannot be used, the name is taken, or there is no such key.
pub async fn run(args: AccessKeysArgs) -> CommandResult {
    match args.command {
        AccessKeysCommand::Create { name, grant, expires_in, store, json } => {
            let services = store.services(true).await?;
            if grant.is_empty() {
                output::complain("warning: without --grant this key may do nothing");
            }
            let request = AccessKeyRequest {
                name,
                grants: grant,
                life: expires_in.map(Duration::from_secs),
                loopback_only: false,
            };
            let key = services.create_access_key(request).await?;
            let shown = if json {
                let mut shown = json!({
                    "accessKeyId": key.id,
                    "secretAccessKey": key.secret_access_key.expose(),
                    "principal": key.principal,
                });
                if let (Some(token), Some(end), Some(members)) =
                    (&key.session_token, key.expires_at, shown.as_object_mut())
                {
                    members.insert("sessionToken".to_owned(), json!(token.expose()));
                    members.insert("expiresAt".to_owned(), json!(end.as_seconds()));
                }
                shown.to_string()
            } else {
                let mut shown = format!("export AWS_ACCESS_KEY_ID='{}'\n", key.id);
                shown += &format!("export AWS_SECRET_ACCESS_KEY='{}'", key.secret_access_key.expose());
                if let Some(token) = &key.session_token {
                    shown += &format!("\nexport AWS_SESSION_TOKEN='{}'", token.expose());
                }
                shown
            };
            if let Err(CommandError(lost)) = output::hand_over(&shown) {
                // Nobody has its secret, and nobody can get it: a key that lets nobody in is only in the way of its name.
                services.revoke_access_key(&key.id).await?;
                return Err(CommandError(format!(
                    "{lost}; the key {} is revoked again, since its secret is shown only once",
                    key.id
                )));
            }
            if !json {
                output::complain(&format!("This is {}. Its secret is not shown again.", key.principal));
            }
        }
        AccessKeysCommand::List { store, json } => {
            let services = store.services(false).await?;
            let keys = services.list_access_keys().await?;
            if json {
                let shown: Vec<_> = keys
                    .iter()
                    .map(|key| {
                        json!({
                            "accessKeyId": key.value.id,
                            "principal": key.value.principal.name,
                            "grants": key.value.principal.grants.iter().map(Grant::to_string).collect::<Vec<_>>(),
                            "loopbackOnly": key.value.loopback_only,
                            "createdAt": key.value.created_at.as_seconds(),
                            "expiresAt": key.value.expires_at.map(|end| end.as_seconds()),
                        })
                    })
                    .collect();
                output::print(&json!(shown).to_string())?;
            } else {
                let mut table = Table::new();
                table.set_header(["access key id", "principal", "grants"]);
                for key in keys {
                    let grants: Vec<String> =
                        key.value.principal.grants.iter().map(Grant::to_string).collect();
                    let note = if key.value.loopback_only { " (loopback only)" } else { "" };
                    let name = format!("{}{note}", key.value.principal.name);
                    table.add_row([key.value.id, name, grants.join("\n")]);
                }
                output::print(&table.to_string())?;
            }
        }
        AccessKeysCommand::Revoke { key, store } => {
            let services = store.services(false).await?;
            let revoked = services.revoke_access_key(&key).await?;
            output::print(&format!("revoked {} ({})", revoked.id, revoked.principal.name))?;
        }
    }
    Ok(())
}
