//! Directories that end with the command.

use std::path::{Path, PathBuf};

use agent_identity_core::Id;
use agent_identity_core::random::Random as _;
use agent_identity_local::SystemRandom;

use crate::CommandResult;

/// A fresh directory of this user's alone, which is removed with everything in it.
pub struct Temporary(PathBuf);

impl Temporary {
    /// For what is `named`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(named: &str) -> CommandResult<Self> {
        let mut unique = [0; 16];
        SystemRandom.fill(&mut unique);
        let name = format!("agent-identity-{named}-{}", Id::<Self>::from_bytes(unique));
        let path = std::env::temp_dir().join(name);
        agent_identity_local::prepare_directory(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _gone_already = std::fs::remove_dir_all(&self.0);
    }
}
