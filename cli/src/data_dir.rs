//! The data directory: where it is, and the files in it that are the command line's own.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use agent_identity_core::{Id, Secret};
use etcetera::{AppStrategy as _, AppStrategyArgs};
use serde::{Deserialize, Serialize};

use crate::{CommandError, CommandResult};

/// Where the data is.
#[derive(Clone, Debug, clap::Args)]
pub struct DataArgs {
    /// The data directory; default: the platform's, such as ~/.local/share/agent-identity
    #[arg(long, value_name = "DIR", env = "AGENT_IDENTITY_DATA")]
    pub data: Option<PathBuf>,
}

impl DataArgs {
    /// The directory.
    ///
    /// # Errors
    /// When none is given and there is no home directory.
    pub fn path(&self) -> CommandResult<PathBuf> {
        if let Some(path) = &self.data {
            return Ok(path.clone());
        }
        let strategy = etcetera::choose_app_strategy(AppStrategyArgs {
            top_level_domain: "org".to_owned(),
            author: "agent-identity".to_owned(),
            app_name: "agent-identity".to_owned(),
        })
        .map_err(|error| {
            CommandError(format!("there is no home directory ({error}); name one with --data DIR"))
        })?;
        Ok(strategy.data_dir())
    }
}

/// `DIR/access-key.json`: the pair that `serve` makes for itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefaultKey {
    /// The public half.
    pub access_key_id: String,
    /// The secret half.
    pub secret_access_key: Secret,
}

impl DefaultKey {
    fn path(data: &Path) -> PathBuf {
        data.join("access-key.json")
    }

    /// Reads it; `None` when there is none yet.
    ///
    /// # Errors
    /// When the file cannot be read or is not one of ours.
    pub fn read(data: &Path) -> CommandResult<Option<Self>> {
        let path = Self::path(data);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| CommandError(format!("{} is broken: {error}", path.display()))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(CommandError(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// Writes it, readable by its owner only.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, data: &Path) -> CommandResult {
        let json = serde_json::json!({
            "accessKeyId": self.access_key_id,
            "secretAccessKey": self.secret_access_key.expose(),
        });
        write_private(&Self::path(data), format!("{json}\n").as_bytes())
    }
}

/// `DIR/serve/PID.json`: a server on this directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// The process.
    pub pid: u32,
    /// Where clients on this machine reach it.
    pub url: String,
    /// When it was ready, in seconds since the epoch.
    pub started_at: i64,
    /// Whether it takes the default access key.
    pub default_key: bool,
    /// The region that its ARNs name and that clients sign for.
    #[serde(default)]
    pub region: Option<String>,
    /// Whether it ended in good order.
    #[serde(default)]
    pub stopped: bool,
}

impl Running {
    fn directory(data: &Path) -> PathBuf {
        data.join("serve")
    }

    /// Notes a server, or its end.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, data: &Path) -> CommandResult {
        let directory = Self::directory(data);
        agent_identity_local::prepare_directory(&directory)?;
        let json = serde_json::to_vec(self)?;
        write_private(&directory.join(format!("{}.json", self.pid)), &json)
    }

    /// All that are noted, the latest first. What cannot be read is left out: it is a note, not a record.
    pub fn all(data: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(Self::directory(data)) else {
            return Vec::new();
        };
        let mut all: Vec<Self> = entries
            .filter_map(|entry| fs::read(entry.ok()?.path()).ok())
            .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
            .collect();
        all.sort_by_key(|running| std::cmp::Reverse(running.started_at));
        all
    }

    /// Removes the notes of servers that are gone, but for the latest, whose address `env` falls back to.
    pub fn prune(data: &Path) {
        for gone in Self::all(data).into_iter().skip(1).filter(|running| !alive(running.pid)) {
            let _gone_already = fs::remove_file(Self::directory(data).join(format!("{}.json", gone.pid)));
        }
    }
}

fn alive(pid: u32) -> bool {
    i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw)
        .is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// Writes a file of mode 0600 whole or not at all.
///
/// # Errors
/// Those of the file system.
pub fn write_private(path: &Path, bytes: &[u8]) -> CommandResult {
    use agent_identity_core::random::Random as _;
    let mut unique = [0; 16];
    agent_identity_local::SystemRandom.fill(&mut unique);
    let temporary = path.with_extension(format!("{}.tmp", Id::<Running>::from_bytes(unique)));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(parent) => fs::File::open(parent)?.sync_all(),
            None => Ok(()),
        }
    })();
    if written.is_err() {
        let _gone_already = fs::remove_file(&temporary);
    }
    written.map_err(|error| CommandError(format!("cannot write {}: {error}", path.display())))
}
