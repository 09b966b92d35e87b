//! The data directory: made private, and refused when others could change what is in it.

use std::fs::{DirBuilder, File, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Write permission of the group or of others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A file that makes a directory one of ours.
const OURS: &str = "agent-identity.db";

/// Any permission of the group or of others.
const OPEN_TO_OTHERS: u32 = 0o077;

/// How long another process may take to set a directory up: more than it takes to write to a store that is busy.
const LOCK_PATIENCE: Duration = Duration::from_secs(30);

/// The pause between two tries.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The system refuses.
    #[error("the data directory `{}` cannot be used: {source}", path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It holds other things, and making it private is not ours to do.
    #[error("`{}` holds other files and is open to others: name a directory of its own, or `chmod 700 {}`", path.display(), path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// Others could replace the key and the database.
    #[error("others can write to the data directory `{}` (mode {mode:03o}); mend it with `chmod 700 {}`", path.display(), path.display())]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Somebody does not let go of it.
    #[error(
        "another process has held the data directory `{}` for {} s, longer than a start takes: end it, and try again",
        path.display(), LOCK_PATIENCE.as_secs()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
}

/// Makes the directory with mode 0700, with those above it, unless it is there. One that is there and that others may only
/// read is made private, if it is empty or ours.
///
/// # Errors
/// [`DirectoryError`]: also when others can write to it, since they may have done so.
pub fn prepare(path: &Path) -> Result<(), DirectoryError> {
    let io = |source| DirectoryError::Io { path: path.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
    let mode = path.metadata().map_err(io)?.mode() & 0o777;
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Err(DirectoryError::Exposed { path: path.to_owned(), mode });
    }
    if mode & OPEN_TO_OTHERS != 0 {
        let names: Vec<_> = path
            .read_dir()
            .map_err(io)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<_>>()
            .map_err(io)?;
        if !names.is_empty() && !names.iter().any(|name| name == OURS) {
            return Err(DirectoryError::Foreign { path: path.to_owned() });
        }
        set_permissions(path, Permissions::from_mode(0o700)).map_err(io)?;
    }
    Ok(())
}

/// Locks the directory until the guard is dropped, against processes that start at the same time. Leaves no file, and the
/// system releases it when its holder dies. Whoever waits for it can stop waiting at any time.
///
/// # Errors
/// [`DirectoryError::Io`], [`DirectoryError::Locked`].
pub async fn lock(path: &Path) -> Result<File, DirectoryError> {
    let io = |source| DirectoryError::Io { path: path.to_owned(), source };
    let directory = File::open(path).map_err(io)?;
    let mut waited = Duration::ZERO;
    loop {
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(directory),
            Err(Errno::WOULDBLOCK | Errno::INTR) if waited < LOCK_PATIENCE => {
                if waited.is_zero() {
                    tracing::info!(directory = %path.display(), "another process sets the data directory up; waiting for it");
                }
                waited += LOCK_PAUSE;
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(Errno::WOULDBLOCK) => return Err(DirectoryError::Locked { path: path.to_owned() }),
            Err(error) => return Err(io(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_directory_is_private() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        prepare(&path).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o700);
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_that_somebody_holds_is_waited_for_and_in_the_end_named() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(directory.path()).await.unwrap();
        let refused = lock(directory.path()).await.unwrap_err().to_string();
        assert!(
            refused.contains(&directory.path().display().to_string()) && refused.contains("another process")
        );
        let waiting = lock(directory.path());
        let release = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(held);
        };
        let (locked, ()) = tokio::join!(waiting, release);
        locked.unwrap();
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused_with_the_way_to_mend_it() {
        let parent = tempfile::tempdir().unwrap();
        for (mode, refused) in [(0o770, true), (0o702, true), (0o777, true), (0o755, false), (0o700, false)] {
            set_permissions(parent.path(), Permissions::from_mode(mode)).unwrap();
            let outcome = prepare(parent.path());
            assert_eq!(outcome.is_err(), refused, "{mode:o}");
            match outcome {
                Err(error) => assert!(error.to_string().contains("chmod 700"), "{error}"),
                Ok(()) => assert_eq!(parent.path().metadata().unwrap().mode() & 0o777, 0o700, "made private"),
            }
        }
    }
}
