//! The connections that read. Each read takes an idle one, or opens one.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use agent_identity_core::store::StoreError;
use rusqlite::Connection;

use super::{connect, store_error};

/// As many as read at the same time on a machine with this many cores; more are opened and closed again.
const MOST_IDLE: usize = 8;

pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Vec::new()) }
    }

    pub(super) fn run<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.open().map_err(store_error)?,
        };
        // A connection that failed is closed: whatever is wrong with it ends with it.
        let value = read(&connection).map_err(store_error)?;
        let mut idle = self.idle();
        if idle.len() < MOST_IDLE {
            idle.push(connection);
        }
        Ok(value)
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        let connection = connect(&self.path)?;
        connection.execute_batch("PRAGMA query_only = ON;")?;
        Ok(connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
