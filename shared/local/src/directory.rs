//! The data directory: made private, and refused when others could change what is in it.

use std::fs::{DirBuilder, File, Permissions, set_permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

/// Write permission of the group or of others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// A file that makes a directory one of ours.
const OURS: &str = "agent-identity.db";

/// Any permission of the group or of others.
const OPEN_TO_OTHERS: u32 = 0o077;

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
/// system releases it when its holder dies.
///
/// # Errors
/// [`DirectoryError::Io`].
pub fn lock(path: &Path) -> Result<File, DirectoryError> {
    let io = |source| DirectoryError::Io { path: path.to_owned(), source };
    let directory = File::open(path).map_err(io)?;
    rustix::fs::flock(&directory, FlockOperation::LockExclusive).map_err(|error| io(error.into()))?;
    Ok(directory)
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
