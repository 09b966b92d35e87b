//! Which certificate authorities are trusted: the system's, and what `AGENT_IDENTITY_EXTRA_CA_FILE` adds.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tokio::sync::OnceCell;

/// Why certificates are not usable as roots.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RootsError {
    /// The extra ones cannot be read.
    #[error("the extra CA file is not PEM with certificates: {0}")]
    Extra(String),
    /// There are none at all.
    #[error(
        "the system has no trusted certificates; install ca-certificates, or name a file with AGENT_IDENTITY_EXTRA_CA_FILE"
    )]
    Empty,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
}

/// Looks at the content of an extra CA file, so that a mistake shows at start and not at the first connection; how many
/// certificates it holds. An empty content is no file and holds none.
///
/// # Errors
/// [`RootsError::Extra`].
pub fn check_extra_roots(pem: &[u8]) -> Result<usize, RootsError> {
    let mut roots = RootCertStore::empty();
    add(&mut roots, pem)?;
    Ok(roots.len())
}

/// Where systems keep the certificates that they trust: Debian, Fedora, SUSE, Alpine and macOS.
const SYSTEM_FILES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The certificates of the authorities that the system trusts, as DER; those that `SSL_CERT_FILE` and `SSL_CERT_DIR` name as well,
/// which elsewhere take the place of the system's.
pub fn system_roots() -> Vec<CertificateDer<'static>> {
    let mut certificates = rustls_native_certs::load_native_certs().certs;
    if let Some(file) = SYSTEM_FILES.iter().map(Path::new).find(|file| file.exists()) {
        certificates.extend(rustls_native_certs::load_certs_from_paths(Some(file), None).certs);
    }
    certificates.sort_by(|one, other| one.as_ref().cmp(other.as_ref()));
    certificates.dedup();
    certificates
}

/// The TLS settings, made when first needed: reading the system's certificates takes milliseconds that a process without
/// outbound TLS need not spend.
pub struct Tls {
    extra: Vec<u8>,
    config: OnceCell<Arc<ClientConfig>>,
}

impl Tls {
    pub const fn new(extra: Vec<u8>) -> Self {
        Self { extra, config: OnceCell::const_new() }
    }

    pub async fn config(&self) -> Result<Arc<ClientConfig>, RootsError> {
        let load = || async {
            let extra = self.extra.clone();
            let loaded = tokio::task::spawn_blocking(move || load(&extra)).await;
            loaded.map_err(|error| RootsError::Tls(error.to_string()))?.map(Arc::new)
        };
        self.config.get_or_try_init(load).await.cloned()
    }
}

fn load(extra: &[u8]) -> Result<ClientConfig, RootsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::warn!(%error, "some of the system's certificates cannot be read");
    }
    let (added, ignored) = roots.add_parsable_certificates(system.certs);
    add(&mut roots, extra)?;
    tracing::debug!(added, ignored, total = roots.len(), "loaded the trusted certificates");
    if roots.is_empty() {
        return Err(RootsError::Empty);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RootsError::Tls(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), RootsError> {
    if pem.is_empty() {
        return Ok(());
    }
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| RootsError::Extra(error.to_string()))?;
        roots.add(certificate).map_err(|error| RootsError::Extra(error.to_string()))?;
    }
    if roots.len() == before {
        return Err(RootsError::Extra("it holds none".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extra_file_without_certificates_is_a_mistake_and_no_file_is_none() {
        assert_eq!(check_extra_roots(b"").unwrap(), 0);
        for bad in [
            &b"hello"[..],
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ] {
            assert!(matches!(check_extra_roots(bad), Err(RootsError::Extra(_))));
        }
        let made = rcgen::generate_simple_self_signed(vec!["ca.example".to_owned()]).unwrap();
        let pem = made.cert.pem();
        assert_eq!(check_extra_roots(format!("# a comment\n{pem}").as_bytes()).unwrap(), 1);
    }
}
