//! The one SQLite file of a data directory. Several processes may have it open; each reads inline on its own connections
//! and writes through one thread that commits in groups.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::store::StoreError;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags};

use crate::directory::{self, DirectoryError};
use readers::Readers;
use writer::Writer;

mod readers;
mod schema;
mod writer;

#[cfg(test)]
mod tests;

/// The name of the file.
const FILE: &str = "agent-identity.db";

/// How long a statement waits for a lock of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause between two tries. SQLite's own handler sleeps up to 100 ms, which starves one of two busy processes.
const BUSY_PAUSE: Duration = Duration::from_millis(2);

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The file cannot be made or looked at.
    #[error("the database `{}` cannot be used: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Others could read it.
    #[error("others can read the database `{}` (mode {mode:03o}); mend it with `chmod 600 {}`", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is a database, but of another program.
    #[error("`{}` is not a database of agent-identity", .0.display())]
    Foreign(PathBuf),
    /// A later version of this program made it.
    #[error("`{}` was made by a newer agent-identity (schema {found}, this one knows {known})", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// The schema version found.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// It can be read and not written.
    #[error(
        "the database `{}` cannot be written: it, its directory or its file system is read-only, or belongs to another user; run as \
         its owner and mend it with `chmod 600 {}`",
        path.display(), path.display()
    )]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
    /// SQLite refuses.
    #[error("the database cannot be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// A handle of the database; clones share it. When the last one is dropped, queued writes are finished and the
/// write-ahead log is folded into the file.
#[derive(Clone)]
pub struct Database(Arc<Handle>);

struct Handle {
    directory: PathBuf,
    readers: Readers,
    writer: Writer,
}

impl Database {
    /// Opens the database of a data directory; makes directory (0700) and file (0600) when they are not there. Waits for
    /// another process that is doing the same; itself it blocks for a few milliseconds, the first time for a few fsyncs.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(directory: &Path) -> Result<Self, OpenError> {
        directory::prepare(directory)?;
        let path = directory.join(FILE);
        let guard = directory::lock(directory).await?;
        create_private(&path)?;
        let writer = writable(&path)?;
        drop(guard);
        Ok(Self(Arc::new(Handle {
            directory: directory.to_owned(),
            readers: Readers::new(path),
            writer: Writer::start(writer)?,
        })))
    }

    /// The data directory.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Runs a read on this thread: a warm read takes some 10 µs, less than handing it to another thread (P10).
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        self.0.readers.run(read)
    }

    /// Queues a write and waits until it is on the disk. What `write` did is undone when it fails, and with it nothing
    /// else. Once queued, the write happens even if nobody waits for it any more.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.writer.run(write).await
    }
}

/// Makes an empty file with mode 0600. One that is there must be private; it is looked at without being opened, because
/// closing any handle of a file drops the locks that this process's other connections hold on it.
fn create_private(path: &Path) -> Result<(), OpenError> {
    let file = |source| OpenError::File { path: path.to_owned(), source };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(file(error)),
    }
    let mode = path.metadata().map_err(file)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(OpenError::Exposed { path: path.to_owned(), mode });
    }
    Ok(())
}

/// The writer's connection, with the schema in place. SQLite opens a file that it cannot write without a word, to read it: what
/// would fail at each write is refused here.
fn writable(path: &Path) -> Result<Connection, OpenError> {
    let read_only = || OpenError::ReadOnly { path: path.to_owned() };
    let connection = connect(path)?;
    if connection.is_readonly(MAIN_DB)? {
        return Err(read_only());
    }
    match schema::prepare(&connection, path) {
        Err(OpenError::Sqlite(error))
            if matches!(
                error.sqlite_error_code(),
                // A write-ahead log that cannot be made beside it.
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied)
            ) =>
        {
            Err(read_only())
        }
        prepared => prepared.map(|()| connection),
    }
}

/// A connection with the settings that hold for readers and writer alike.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_handler(Some(wait_for_lock))?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.execute_batch("PRAGMA trusted_schema = OFF; PRAGMA foreign_keys = ON;")?;
    Ok(connection)
}

fn wait_for_lock(tries: i32) -> bool {
    let waited = BUSY_PAUSE.saturating_mul(u32::try_from(tries).unwrap_or(u32::MAX));
    if waited >= BUSY_TIMEOUT {
        return false;
    }
    std::thread::sleep(BUSY_PAUSE);
    true
}

/// SQLite's error as the port's.
pub(crate) fn store_error(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StoreError::Busy("another process holds the database".to_owned())
        }
        _ => StoreError::Failed(error.to_string()),
    }
}
