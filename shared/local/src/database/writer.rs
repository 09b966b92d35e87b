//! The one thread that writes. It takes all that is queued into one transaction, each request in a savepoint of its own,
//! and answers nobody before the commit is on the disk: many requests, one fsync.

use std::io;
use std::thread::{self, JoinHandle};

use agent_identity_core::store::StoreError;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{OpenError, store_error};

/// Requests that wait before the next one has to wait to be queued.
const QUEUE: usize = 1024;

/// Most requests in one transaction: what one of them waits for others is bounded.
const GROUP: usize = 256;

pub(super) struct Writer {
    queue: Option<mpsc::Sender<Box<dyn Request>>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> Result<Self, OpenError> {
        let (queue, requests) = mpsc::channel(QUEUE);
        let thread = thread::Builder::new()
            .name("database-writer".to_owned())
            .spawn(move || serve(connection, requests))
            .map_err(|source: io::Error| OpenError::File { path: "database-writer".into(), source })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    pub(super) async fn run<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let stopped = || StoreError::Failed("the database's writer has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        let request = Box::new(Typed { write: Some(write), outcome: None, reply });
        self.queue.as_ref().ok_or_else(stopped)?.send(request).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }
}

impl Drop for Writer {
    /// Ends the queue and waits until what is in it is written.
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the database's writer had panicked");
        }
    }
}

/// A request whose result type is forgotten.
trait Request: Send {
    /// Does the work; whether to keep it.
    fn run(&mut self, connection: &Connection) -> bool;

    /// Tells the caller. When the group was not committed, its failure is everybody's answer: a conflict may have been one
    /// with a write that never happened.
    fn answer(self: Box<Self>, committed: &Result<(), StoreError>);
}

struct Typed<T, W> {
    write: Option<W>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T: Send, W: FnOnce(&Connection) -> Result<T, StoreError> + Send> Request for Typed<T, W> {
    fn run(&mut self, connection: &Connection) -> bool {
        self.outcome = self.write.take().map(|write| write(connection));
        matches!(self.outcome, Some(Ok(_)))
    }

    fn answer(self: Box<Self>, committed: &Result<(), StoreError>) {
        let outcome = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome,
            (Err(StoreError::Busy(reason)), _) => Err(StoreError::Busy(reason.clone())),
            (Err(StoreError::Failed(reason)), _) => Err(StoreError::Failed(reason.clone())),
            (Err(error @ StoreError::Conflict(_)), _) => Err(StoreError::Failed(error.to_string())),
            (Ok(()), None) => Err(StoreError::Failed("the write was not run".to_owned())),
        };
        // Whoever no longer waits does not want to know.
        let _ = self.reply.send(outcome);
    }
}

fn serve(mut connection: Connection, mut requests: mpsc::Receiver<Box<dyn Request>>) {
    while let Some(first) = requests.blocking_recv() {
        let mut group = vec![first];
        while group.len() < GROUP
            && let Ok(next) = requests.try_recv()
        {
            group.push(next);
        }
        let committed = commit(&mut connection, &mut group);
        for request in group {
            request.answer(&committed);
        }
    }
    if let Err(error) = connection.execute_batch("PRAGMA optimize; PRAGMA wal_checkpoint(TRUNCATE);") {
        tracing::warn!(%error, "the write-ahead log stays until the next start");
    }
}

/// Runs the group in one transaction. On an error nothing of it was written, unless the commit itself failed for another
/// reason than a lock: then its outcome is unknown, which [`StoreError::Failed`] says.
fn commit(connection: &mut Connection, group: &mut [Box<dyn Request>]) -> Result<(), StoreError> {
    let mut transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(store_error)?;
    for request in group {
        let savepoint = transaction.savepoint().map_err(store_error)?;
        if request.run(&savepoint) {
            savepoint.commit().map_err(store_error)?;
        } else {
            savepoint.finish().map_err(store_error)?;
        }
        if transaction.is_autocommit() {
            // A full disk, say, makes SQLite roll back the whole transaction.
            return Err(StoreError::Failed(
                "the disk or the database failed, nothing was written".to_owned(),
            ));
        }
    }
    transaction.commit().map_err(store_error)
}
