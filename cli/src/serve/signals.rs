//! The signals that end a server, and what it ends with.

use std::io;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Caught from here on, and no longer deadly.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    interrupted: bool,
}

impl Signals {
    /// Catches SIGTERM and SIGINT.
    ///
    /// # Errors
    /// Those of the system.
    pub fn catch() -> io::Result<Self> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, interrupted: false })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => self.interrupted = true,
        }
    }

    /// What a server that was told to end ends with: 130 when a person interrupted it; otherwise 0 if all that was in flight
    /// came to its end, and 1 if something was cut off.
    pub fn exit_code(&self, all_ended: bool) -> ExitCode {
        match (self.interrupted, all_ended) {
            (true, _) => ExitCode::from(130),
            (false, true) => ExitCode::SUCCESS,
            (false, false) => ExitCode::FAILURE,
        }
    }
}
