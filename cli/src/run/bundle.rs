//! The certificates that the program trusts: those that it trusted before, and that of the run.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use agent_identity_core::encoding::base64;
use agent_identity_core::random::handle;
use agent_identity_local::SystemRandom;

use crate::{CommandError, CommandResult};

/// The variables by which programs are told of a file of certificates.
pub const VARIABLES: [&str; 9] = [
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "AWS_CA_BUNDLE",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
];

/// A file of its own, removed with its directory when this is dropped. Nothing in it is secret.
pub struct Bundle {
    directory: PathBuf,
    path: PathBuf,
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _gone_already = fs::remove_dir_all(&self.directory);
    }
}

impl Bundle {
    /// The system's certificates, those of files that the environment names, and this one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(authority_pem: &str) -> CommandResult<Self> {
        let directory = std::env::temp_dir().join(format!("agent-identity-run-{}", handle(&SystemRandom)));
        let wrong = |error: std::io::Error| {
            CommandError(format!("cannot write certificates to {}: {error}", directory.display()))
        };
        fs::DirBuilder::new().mode(0o700).create(&directory).map_err(wrong)?;
        let path = directory.join("certificates.pem");
        let bundle = Self { directory: directory.clone(), path };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&bundle.path)
            .map_err(wrong)?;
        let mut text = authority_pem.to_owned();
        for certificate in agent_identity_egress::system_roots() {
            text.push_str(&pem(&certificate));
        }
        let mut read: Vec<PathBuf> = Vec::new();
        for variable in VARIABLES {
            let Some(named) = std::env::var_os(variable).map(PathBuf::from) else { continue };
            // What is no file of certificates was none to the program either.
            if let (false, Ok(more)) = (read.contains(&named), fs::read_to_string(&named)) {
                text.push('\n');
                text.push_str(&more);
                read.push(named);
            }
        }
        file.write_all(text.as_bytes()).map_err(wrong)?;
        Ok(bundle)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// RFC 7468 §2.
fn pem(der: &[u8]) -> String {
    let text = base64(der);
    let mut lines = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        lines.push_str(line);
        lines.push('\n');
        rest = after;
    }
    lines.push_str("-----END CERTIFICATE-----\n");
    lines
}
