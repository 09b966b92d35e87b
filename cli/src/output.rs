//! The two places that print: results on stdout, words for the person on stderr.

use std::io::Write as _;

/// Prints a line of the result. A reader that went away (`| head`) is no error.
pub fn print(line: &str) {
    let mut out = std::io::stdout().lock();
    let _gone = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Says something to the person.
pub fn complain(line: &str) {
    let _gone = writeln!(std::io::stderr().lock(), "{line}");
}
