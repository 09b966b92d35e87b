//! The two places that print: results on stdout, words for the person on stderr.

use std::io::{self, Write as _};

use crate::{CommandError, CommandResult};

fn write(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn lost(error: &io::Error) -> CommandError {
    CommandError(format!("cannot write to standard output: {error}"))
}

/// Prints a line of the result. A reader that went away (`| head`) has read what it wanted.
///
/// # Errors
/// When standard output does not take it: a full disk, for one.
pub fn print(line: &str) -> CommandResult {
    match write(line) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(lost(&error)),
        _ => Ok(()),
    }
}

/// Prints what cannot be printed again.
///
/// # Errors
/// When standard output does not take it, or nobody reads it any more.
pub fn hand_over(text: &str) -> CommandResult {
    write(text).map_err(|error| lost(&error))
}

/// Says something to the person.
pub fn complain(line: &str) {
    let _gone = writeln!(io::stderr().lock(), "{line}");
}
