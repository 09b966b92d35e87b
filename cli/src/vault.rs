//! `agent-identity vault`: which keys the token vault has, new ones, and the sweep after that.

use agent_identity_core::seal::Purpose;
use agent_identity_service::Services;
use agent_identity_service::reseal::ResealTokenVault;
use agent_identity_service::token_vault::{GetTokenVault, ResetTokenVaultKeyMaterial, RotateTokenVaultKeys};
use clap::Subcommand;
use serde_json::{Value, json};

use crate::store::{StoreArgs, administrator};
use crate::{CommandError, CommandResult, output};

/// Options of `vault`.
#[derive(Debug, clap::Args)]
pub struct VaultArgs {
    #[command(subcommand)]
    command: VaultCommand,
}

#[derive(Debug, Subcommand)]
enum VaultCommand {
    /// Say under which key the vault's keys are, and which versions of each there are
    Show(VaultStore),
    /// Make a new version current of each key that seals what does not end by itself; older ones still open
    Rotate(VaultStore),
    /// Seal under the current versions what older ones have sealed; begun again, it goes on where it was
    Reseal(VaultStore),
    /// Give up what is lost with a KMS key that was deleted, and go on with the one that is configured. Refused while it may come back
    Reset(VaultStore),
}

#[derive(Debug, clap::Args)]
struct VaultStore {
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// When the store or the key over the vault's keys cannot be used, or something could not be resealed.
pub async fn run(args: VaultArgs) -> CommandResult {
    match args.command {
        VaultCommand::Show(args) => show(&*args.store.services(false).await?, args.json).await,
        VaultCommand::Rotate(args) => rotate(&*args.store.services(false).await?, args.json).await,
        VaultCommand::Reseal(args) => reseal(&*args.store.services(false).await?, args.json).await,
        VaultCommand::Reset(args) => reset(&*args.store.services(false).await?, args.json).await,
    }
}

async fn show(services: &Services, json: bool) -> CommandResult {
    let admin = administrator();
    let vault = services.get_token_vault(admin.authorize(GetTokenVault)?).await?;
    let keys = services.vault_key_versions(admin.authorize(GetTokenVault)?).await?;
    if json {
        let keys = keys
            .iter()
            .map(|(purpose, versions)| json!({ "purpose": purpose.as_str(), "versions": versions }));
        let shown = json!({
            "kmsKeyArn": vault.kms_key_arn,
            "lastWrappedAt": vault.changed_at.as_seconds(),
            "keys": Value::from_iter(keys),
        });
        return output::print(&shown.to_string());
    }
    output::print(&format!("wrapped under: {}", vault.kms_key_arn.as_deref().unwrap_or("the master key")))?;
    for (purpose, versions) in keys {
        let current = versions.last().map_or_else(|| "none yet".to_owned(), |it| format!("version {it}"));
        output::print(&format!("{}: {current}", purpose.as_str()))?;
    }
    Ok(())
}

async fn rotate(services: &Services, json: bool) -> CommandResult {
    let made = services.rotate_token_vault_keys(administrator().authorize(RotateTokenVaultKeys)?).await?;
    if json {
        let made = made.iter().map(
            |(purpose, version): &(Purpose, u32)| json!({ "purpose": purpose.as_str(), "version": version }),
        );
        return output::print(&json!({ "current": Value::from_iter(made) }).to_string());
    }
    for (purpose, version) in made {
        output::print(&format!("{}: version {version} is current", purpose.as_str()))?;
    }
    output::print("running processes follow within 5 minutes; run `agent-identity vault reseal` after that")
}

async fn reset(services: &Services, json: bool) -> CommandResult {
    let admin = administrator();
    let vault = services.reset_token_vault_key_material(admin.authorize(ResetTokenVaultKeyMaterial)?).await?;
    if json {
        return output::print(&json!({ "kmsKeyArn": vault.kms_key_arn }).to_string());
    }
    let key = vault.kms_key_arn.as_deref().unwrap_or("the master key");
    output::print(&format!(
        "what is lost was given up, and the vault goes on under {key}; run `agent-identity vault reseal` to find whose tokens are lost"
    ))
}

async fn reseal(services: &Services, json: bool) -> CommandResult {
    let admin = administrator();
    let (mut resealed, mut lost, mut left, mut told, mut from) = (0, 0, 0, 0, None);
    loop {
        let page = services.reseal_token_vault(admin.authorize(ResealTokenVault { from })?).await?;
        resealed += page.resealed;
        lost += page.lost;
        left += page.left;
        if resealed > told {
            output::complain(&format!("{resealed} resealed so far"));
            told = resealed;
        }
        match page.next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    if json {
        output::print(&json!({ "resealed": resealed, "lost": lost, "left": left }).to_string())?;
    } else {
        output::print(&format!("{resealed} resealed"))?;
        if lost > 0 {
            output::print(&format!(
                "{lost} users and access keys are lost with a vault key: those users must consent again, and the access keys be made anew"
            ))?;
        }
    }
    match left {
        0 => Ok(()),
        _ => Err(CommandError(format!("{left} could not be resealed, and why is in the log; run it again"))),
    }
}
