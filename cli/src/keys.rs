//! `agent-identity keys`: private keys for client assertions (PRIVATE_KEY_JWT) that never leave the data directory.

use agent_identity_core::grant::Pattern;
use agent_identity_core::port::SigningAlgorithm;
use agent_identity_local::LocalName;
use clap::{Subcommand, ValueEnum};
use serde_json::json;

use crate::compose::{self, DEFAULT_REGION, RegionArgs, Settings};
use crate::secrets::pattern;
use crate::{CommandError, CommandResult, DataArgs, output};

/// Options of `keys`.
#[derive(Debug, clap::Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Alg {
    #[value(name = "ES256")]
    Es256,
    #[value(name = "RS256")]
    Rs256,
    #[value(name = "PS256")]
    Ps256,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a signing key and print its ARN, for kmsKeyArn
    Create {
        /// Its name
        #[arg(value_parser = LocalName::parse)]
        name: LocalName,
        /// Its algorithm
        #[arg(long, value_name = "ALG")]
        alg: Alg,
        /// Let only credential providers whose name matches sign with it (default: all)
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
    /// Print the public half of a signing key as a JWK, to register at the provider
    Public {
        /// Its name
        #[arg(value_parser = LocalName::parse)]
        name: LocalName,
        #[command(flatten)]
        data: DataArgs,
    },
}

/// Runs the command.
///
/// # Errors
/// When the name is taken or unknown, or the data directory cannot be used.
pub async fn run(args: KeysArgs) -> CommandResult {
    match args.command {
        KeysCommand::Create { name, alg, provider, region, data, json } => {
            let local = compose::open(&data.path()?, Settings::offline(&region.region)).await?;
            let algorithm = match alg {
                Alg::Es256 => SigningAlgorithm::ES256,
                Alg::Rs256 => SigningAlgorithm::RS256,
                Alg::Ps256 => SigningAlgorithm::PS256,
            };
            local.trail.announce(format!("put signing-key/{}", name.as_str())).await?;
            let arn = local.signing_keys.create(&name, algorithm, provider.as_ref()).await?;
            let shown =
                if json { json!({ "arn": arn, "name": name.as_str() }).to_string() } else { arn.clone() };
            // The key is there, and its name is taken: the ARN must not be lost.
            output::hand_over(&shown)
                .map_err(|CommandError(lost)| CommandError(format!("{lost}; the key was made: {arn}")))?;
        }
        KeysCommand::Public { name, data } => {
            let local = compose::open_existing(&data.path()?, Settings::offline(DEFAULT_REGION)).await?;
            output::print(&local.signing_keys.public_jwk(&name).await?.to_string())?;
        }
    }
    Ok(())
}
