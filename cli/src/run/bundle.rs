//! The certificates that the program trusts: those that it trusted before, and that of the run.

use std::fs;
use std::path::{Path, PathBuf};

use pem::{EncodeConfig, LineEnding, Pem};

use crate::CommandResult;
use crate::data_dir::write_private;
use crate::temporary::Temporary;

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
    path: PathBuf,
    _directory: Temporary,
}

impl Bundle {
    /// The system's certificates, those of files that the environment names, and this one.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(authority_pem: &str) -> CommandResult<Self> {
        let mut text = authority_pem.to_owned();
        let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
        for certificate in agent_identity_egress::system_roots() {
            text.push_str(&pem::encode_config(&Pem::new("CERTIFICATE", certificate.as_ref()), lines));
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
        let directory = Temporary::new("run")?;
        let path = directory.path().join("certificates.pem");
        write_private(&path, text.as_bytes())?;
        Ok(Self { path, _directory: directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
