//! What a person hands over in a file, or by a pipe.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::{CommandError, CommandResult};

/// The text of a file, or of stdin for `-`; what comes after `max_bytes` is not looked at. `named` is the flag or the argument that
/// names the file: the name is not repeated in an error, since somebody may have written a token, or a secret, where it stands.
///
/// # Errors
/// When there is no such file, it cannot be read, or it is not UTF-8.
pub fn text_of(path: &Path, named: &str, max_bytes: u64) -> CommandResult<String> {
    let wrong =
        |error: io::Error| CommandError(format!("{named} must name a file, or be - for stdin: {error}"));
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().take(max_bytes).read_to_string(&mut text).map_err(wrong)?;
    } else {
        File::open(path).map_err(wrong)?.take(max_bytes).read_to_string(&mut text).map_err(wrong)?;
    }
    Ok(text)
}
