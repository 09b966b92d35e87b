//! The certificate authority of one run (D23). Its key is in memory and nowhere else, it can vouch for the hosts that are opened and
//! for no other, and what it signs lives less than an hour.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_identity_core::{Clock, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyPair, KeyUsagePurpose, NameConstraints,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

/// How far the clocks of this machine's programs may be apart, for one under a tool that shifts time.
const SKEW: Duration = Duration::from_secs(5 * 60);

/// How long a host's certificate is good for from when it is made.
const LEAF: Duration = Duration::from_secs(50 * 60);

/// When another one is made.
const RENEW: Duration = Duration::from_secs(30 * 60);

/// How long the authority is good for: a run of a month is started again.
const AUTHORITY: Duration = Duration::from_secs(31 * 24 * 3600);

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[error("a certificate cannot be made: {0}")]
pub struct AuthorityError(String);

impl AuthorityError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

type Made = (Timestamp, Arc<ServerConfig>);

/// The authority.
pub struct Authority {
    clock: Arc<dyn Clock>,
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// By host.
    leaves: Mutex<HashMap<String, Made>>,
}

impl Authority {
    /// One that can vouch for these hosts: names, or addresses.
    ///
    /// # Errors
    /// When a host is no name that can stand in a certificate.
    pub fn new(hosts: &[String], clock: Arc<dyn Clock>) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::of)?;
        let mut parameters = parameters("agent-identity run", clock.now(), AUTHORITY)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.name_constraints = Some(only(hosts));
        let issuer = CertifiedIssuer::self_signed(parameters, key).map_err(AuthorityError::of)?;
        Ok(Self { clock, issuer, leaves: Mutex::default() })
    }

    /// Its certificate, which is no secret.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// How to be this host.
    ///
    /// # Errors
    /// When the host is no name that can stand in a certificate.
    pub(crate) fn serving(&self, host: &str) -> Result<Arc<ServerConfig>, AuthorityError> {
        let now = self.clock.now();
        let mut leaves = self.leaves.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, config)) = leaves.get(host)
            && now.as_seconds().abs_diff(made.as_seconds()) < RENEW.as_secs()
        {
            return Ok(Arc::clone(config));
        }
        let config = Arc::new(self.leaf(host, now)?);
        leaves.insert(host.to_owned(), (now, Arc::clone(&config)));
        Ok(config)
    }

    /// A key, and a certificate for it.
    pub(crate) fn sign(
        &self,
        host: &str,
        now: Timestamp,
    ) -> Result<(KeyPair, CertificateDer<'static>), AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::of)?;
        // No host: OpenSSL holds a common name that looks like one against the constraints on names, also that of an address.
        let mut parameters = parameters("a host of agent-identity run", now, LEAF)?;
        parameters.subject_alt_names =
            CertificateParams::new(vec![host.to_owned()]).map_err(AuthorityError::of)?.subject_alt_names;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        parameters.use_authority_key_identifier_extension = true;
        let leaf = parameters.signed_by(&key, &self.issuer).map_err(AuthorityError::of)?;
        Ok((key, leaf.der().clone()))
    }

    fn leaf(&self, host: &str, now: Timestamp) -> Result<ServerConfig, AuthorityError> {
        let (key, certificate) = self.sign(host, now)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(AuthorityError::of)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .map_err(AuthorityError::of)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn parameters(name: &str, now: Timestamp, life: Duration) -> Result<CertificateParams, AuthorityError> {
    let at = OffsetDateTime::from_unix_timestamp(now.as_seconds()).map_err(AuthorityError::of)?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.not_before = at - SKEW;
    parameters.not_after = at + life;
    Ok(parameters)
}

/// RFC 5280 §4.2.1.10: a kind of name of which none is permitted would be free, so that it is excluded whole.
fn only(hosts: &[String]) -> NameConstraints {
    let mut constraints = NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees: Vec::new() };
    let (mut names, mut addresses) = (false, false);
    for host in hosts {
        constraints.permitted_subtrees.push(match host.parse::<IpAddr>() {
            Ok(address) => {
                addresses = true;
                let bits = if address.is_ipv4() { 32 } else { 128 };
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, bits))
            }
            Err(_) => {
                names = true;
                GeneralSubtree::DnsName(host.clone())
            }
        });
    }
    if !addresses {
        let all = [CidrSubnet::from_v4_prefix([0; 4], 0), CidrSubnet::from_v6_prefix([0; 16], 0)];
        constraints.excluded_subtrees.extend(all.map(GeneralSubtree::IpAddress));
    }
    if !names {
        constraints.excluded_subtrees.push(GeneralSubtree::DnsName(String::new()));
    }
    constraints
}
