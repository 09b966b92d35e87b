//! `agent-identity aws-models`: what boto3 and the AWS CLI have to know of a deployment on AWS (D22).
//!
//! They sign for `bedrock-agentcore`, and API Gateway takes signatures for `execute-api` alone. An unmodified client learns
//! that from a data file: botocore merges `service-2.sdk-extras.json` into AWS's model of a service, **the first such file
//! that it finds along `AWS_DATA_PATH`, and no other**. So all that there is to say of a service is in one file: the name to sign
//! for, and operations of ours (`shared/api/models`). Other services keep what they have.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use etcetera::BaseStrategy as _;
use serde_json::{Value, json};

use crate::data_dir::write_private;
use crate::{CommandError, CommandResult, output};

/// What API Gateway takes signatures for. Our own verifier takes it too.
const SIGNING_NAME: &str = "execute-api";

/// The member by which a file is known to be ours; botocore reads `merge` and nothing else.
const MAKER: (&str, &str) = ("madeBy", "agent-identity");

const FILE: &str = "service-2.sdk-extras.json";

/// A service of AWS in the version that clients load, and what we add to it.
struct Model {
    service: &'static str,
    version: &'static str,
    /// Operations of ours.
    own: &'static str,
}

const MODELS: [Model; 2] = [
    Model {
        service: "bedrock-agentcore",
        version: "2024-02-28",
        own: include_str!("../../shared/api/models/bedrock-agentcore/2024-02-28/service-2.sdk-extras.json"),
    },
    Model {
        service: "bedrock-agentcore-control",
        version: "2023-06-05",
        own: include_str!(
            "../../shared/api/models/bedrock-agentcore-control/2023-06-05/service-2.sdk-extras.json"
        ),
    },
];

/// Options of `aws-models`.
#[derive(Debug, clap::Args)]
pub struct AwsModelsArgs {
    #[command(subcommand)]
    command: AwsModelsCommand,
}

#[derive(Debug, Subcommand)]
enum AwsModelsCommand {
    /// Write the files, and print what makes clients of this shell load them: `eval "$(agent-identity aws-models install)"`
    Install {
        #[command(flatten)]
        target: Target,
    },
    /// Print the directory for AWS_DATA_PATH, if all is installed there
    Path {
        #[command(flatten)]
        target: Target,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Target {
    /// The directory; default: one of its own, such as ~/.local/share/agent-identity-aws-models
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Target {
    fn path(&self) -> CommandResult<PathBuf> {
        match &self.dir {
            Some(path) => Ok(std::path::absolute(path)?),
            None => Ok(etcetera::choose_base_strategy()
                .map_err(|error| {
                    CommandError(format!(
                        "there is no home directory ({error}); name a directory with --dir DIR"
                    ))
                })?
                .data_dir()
                .join("agent-identity-aws-models")),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the files cannot be written, are not ours to replace, or are not there.
pub fn run(args: AwsModelsArgs) -> CommandResult {
    match args.command {
        AwsModelsCommand::Install { target } => {
            let directory = target.path()?;
            let listed = listable(&directory)?;
            install(&directory)?;
            output::complain(&format!("wrote the models for boto3 and the AWS CLI to {listed}"));
            let before = std::env::var("AWS_DATA_PATH").unwrap_or_default();
            // What comes from the environment goes to a shell: a quote in it must not end the text.
            let value = data_path(listed, &before).replace('\'', r"'\''");
            output::print(&format!("export AWS_DATA_PATH='{value}'"))?;
        }
        AwsModelsCommand::Path { target } => {
            let directory = target.path()?;
            for model in &MODELS {
                if fs::read_to_string(model.path(&directory)).ok() != Some(model.text()?) {
                    return Err(CommandError(format!(
                        "what this version installs is not in {}: run `agent-identity aws-models install`",
                        directory.display()
                    )));
                }
            }
            output::print(listable(&directory)?)?;
        }
    }
    Ok(())
}

impl Model {
    fn path(&self, directory: &Path) -> PathBuf {
        directory.join(self.service).join(self.version).join(FILE)
    }

    /// What the file says.
    fn text(&self) -> CommandResult<String> {
        let mut extras: Value = serde_json::from_str(self.own)?;
        let broken = || CommandError(format!("the model of {} is not an object with `merge`", self.service));
        let members = extras.as_object_mut().ok_or_else(broken)?;
        members.insert(MAKER.0.to_owned(), json!(MAKER.1));
        let merge = members.get_mut("merge").and_then(Value::as_object_mut).ok_or_else(broken)?;
        merge.insert("metadata".to_owned(), json!({ "signingName": SIGNING_NAME }));
        Ok(format!("{extras:#}\n"))
    }
}

/// Writes the files. What is not ours stays, and then nothing is written.
fn install(directory: &Path) -> CommandResult {
    for model in &MODELS {
        let path = model.path(directory);
        let ours = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Value>(&bytes)
                .is_ok_and(|found| found.get(MAKER.0).and_then(Value::as_str) == Some(MAKER.1)),
            Err(error) if error.kind() == ErrorKind::NotFound => true,
            Err(error) => return Err(CommandError(format!("cannot read {}: {error}", path.display()))),
        };
        if !ours {
            return Err(CommandError(format!(
                "{} is not ours, and it stays as it is: name another directory with --dir DIR",
                path.display()
            )));
        }
    }
    if let Some(parent) = directory.parent() {
        fs::create_dir_all(parent)?;
    }
    make_directory(directory, true)?;
    for model in &MODELS {
        let service = directory.join(model.service);
        make_directory(&service, false)?;
        make_directory(&service.join(model.version), false)?;
        let path = model.path(directory);
        write_private(&path, model.text()?.as_bytes())?;
        // Nothing in it is private, and other users' clients may be pointed here.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Makes a directory that everybody can read, unless it is there. A link could lead to a place that is not ours; only where
/// the user says so is one followed.
fn make_directory(path: &Path, may_be_link: bool) -> CommandResult {
    match fs::create_dir(path) {
        Ok(()) => Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let found = if may_be_link { fs::metadata(path) } else { fs::symlink_metadata(path) };
            match found {
                Ok(found) if found.is_dir() => Ok(()),
                _ => Err(CommandError(format!("{} is not a directory", path.display()))),
            }
        }
        Err(error) => Err(CommandError(format!("cannot make {}: {error}", path.display()))),
    }
}

/// The directory as a text that `AWS_DATA_PATH` can hold: botocore splits it at colons and expands variables.
fn listable(directory: &Path) -> CommandResult<&str> {
    directory.to_str().filter(|text| !text.contains([':', '$'])).ok_or_else(|| {
        CommandError(format!(
            "AWS_DATA_PATH cannot hold the path {}: it must be UTF-8 without `:` and `$`",
            directory.display()
        ))
    })
}

/// `AWS_DATA_PATH` with our directory first, since the first file that is found counts.
fn data_path(directory: &str, before: &str) -> String {
    let others = before.split(':').filter(|path| !path.is_empty() && *path != directory);
    std::iter::once(directory).chain(others).collect::<Vec<_>>().join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/api/models")
    }

    #[test]
    fn d22_every_model_of_ours_is_installed_and_signs_for_execute_api() {
        let mut found = 0;
        for service in fs::read_dir(committed()).unwrap() {
            for version in fs::read_dir(service.unwrap().path()).unwrap() {
                for file in fs::read_dir(version.unwrap().path()).unwrap() {
                    let file = file.unwrap().path();
                    let model = MODELS.iter().find(|model| model.path(&committed()) == file);
                    let model = model.unwrap_or_else(|| panic!("{} is not installed", file.display()));
                    let own: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
                    let said: Value = serde_json::from_str(&model.text().unwrap()).unwrap();
                    for part in ["operations", "shapes"] {
                        assert_eq!(said["merge"][part], own["merge"][part]);
                    }
                    found += 1;
                }
            }
        }
        assert_eq!(found, MODELS.len());
        for model in &MODELS {
            let said: Value = serde_json::from_str(&model.text().unwrap()).unwrap();
            assert_eq!(said["merge"]["metadata"], json!({ "signingName": "execute-api" }));
        }
    }

    #[test]
    fn our_directory_comes_first_and_once() {
        assert_eq!(data_path("/a", ""), "/a");
        assert_eq!(data_path("/a", "/b:/c"), "/a:/b:/c");
        assert_eq!(data_path("/a", &data_path("/a", "/b::/a:/c")), "/a:/b:/c");
    }

    #[test]
    fn a_path_that_botocore_would_read_as_another_is_refused() {
        for path in ["/a:b", "/$HOME/a"] {
            assert!(listable(Path::new(path)).is_err(), "{path}");
        }
    }
}
