//! The guarded way to a connection: resolve once, check every address, connect to what was checked.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use agent_identity_core::http::HttpError;
use async_trait::async_trait;
use rustls::CertificateError;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use url::Host;

use crate::address::{Reach, reach};
use crate::allow::{AllowList, bare};
use crate::roots::Tls;
use crate::target::Target;
use crate::watched::Stream;

/// How long one address may take to answer before the next one is tried.
const ONE_ADDRESS: Duration = Duration::from_secs(3);

/// Looks up names. A seam for tests; the product has [`SystemResolver`] alone.
#[async_trait]
pub trait Resolve: Send + Sync {
    /// All addresses of a name.
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The resolver of the system.
pub struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that resolves; its callers check every address, or send nothing of ours"
    )]
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        tokio::net::lookup_host((name, port)).await.map(Iterator::collect)
    }
}

/// Makes connections, to allowed addresses only.
pub struct Connector {
    allow: AllowList,
    resolver: Box<dyn Resolve>,
    tls: Tls,
}

impl Connector {
    pub fn new(allow: AllowList, resolver: Box<dyn Resolve>, extra_roots: Vec<u8>) -> Self {
        Self { allow, resolver, tls: Tls::new(extra_roots) }
    }

    /// A fresh connection to the target, with the TLS handshake done.
    ///
    /// # Errors
    /// [`HttpError::Forbidden`], [`HttpError::NotSent`]; never `Unknown`.
    pub async fn connect(&self, target: &Target) -> Result<Box<dyn Stream>, HttpError> {
        let addresses = self.addresses(target).await?;
        let stream =
            connect_to_first(&addresses).await.map_err(|error| target.not_sent(unconnected(&error)))?;
        // Small requests, each of which waits for its answer.
        let _ = stream.set_nodelay(true);
        if !target.tls {
            return Ok(Box::new(stream));
        }
        let config = self.tls.config().await.map_err(|error| target.not_sent(error))?;
        let name = server_name(&target.host).map_err(|error| target.not_sent(error))?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        Ok(Box::new(stream.map_err(|error| target.not_sent(no_handshake(&error)))?))
    }

    /// The addresses of the target, each of them allowed. One that is not forbids the target: a name that leads here and
    /// there is a trap, or will be one at the next lookup.
    async fn addresses(&self, target: &Target) -> Result<Vec<SocketAddr>, HttpError> {
        let addresses = match &target.host {
            Host::Ipv4(address) => vec![SocketAddr::from((*address, target.port))],
            Host::Ipv6(address) => vec![SocketAddr::from((*address, target.port))],
            Host::Domain(name) => {
                let resolved = self.resolver.resolve(bare(name), target.port).await;
                resolved.map_err(|error| target.not_sent(format!("the name cannot be resolved: {error}")))?
            }
        };
        if addresses.is_empty() {
            return Err(target.not_sent("the name has no address"));
        }
        for address in &addresses {
            self.check(target, address.ip())?;
        }
        // Exactly the checked addresses, on the checked port, whatever else a resolver put into them.
        Ok(addresses.into_iter().map(|address| SocketAddr::new(address.ip(), target.port)).collect())
    }

    /// The reason never names a resolved address: who may choose the URL must not learn the network by asking.
    fn check(&self, target: &Target, address: IpAddr) -> Result<(), HttpError> {
        let listed = self.allow.lists(&target.host, target.port, address);
        let refused = |reason: String| {
            tracing::warn!(target_host = %target.authority(), %address, reason, "refused an outbound request");
            Err(target.forbidden(reason))
        };
        match reach(address) {
            Reach::Never(what) => refused(format!("it is {what}, and nothing can allow that")),
            Reach::Listed(what) if !listed => refused(format!(
                "it is {what}; the operator can allow it with `--allow-egress {}`",
                target.authority()
            )),
            _ if !(target.tls || (listed && address.to_canonical().is_loopback())) => refused(
                "http is only allowed to a loopback address that the operator listed; use https".to_owned(),
            ),
            Reach::Listed(_) | Reach::Global => Ok(()),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that connects; its callers checked the addresses, or send nothing of ours"
)]
async fn connect_to_first(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match timeout(ONE_ADDRESS, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "the connection timed out"),
        }
    }
    Err(last)
}

/// A connection that a program on this machine asks for and could make itself: nothing is refused, and nothing of ours goes there.
///
/// # Errors
/// Those of the network.
pub async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let addresses = SystemResolver.resolve(host, port).await?;
    let stream = connect_to_first(&addresses).await?;
    let _unsupported = stream.set_nodelay(true);
    Ok(stream)
}

fn unconnected(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
        _ => error.to_string(),
    }
}

/// Why there is no TLS: a certificate is what its operator can do something about.
fn no_handshake(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        // Also where it only claims to be of an authority that is trusted.
        Some(rustls::Error::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        )) => {
            "its certificate is not trusted here; AGENT_IDENTITY_EXTRA_CA_FILE names further roots".to_owned()
        }
        Some(rustls::Error::InvalidCertificate(why)) => format!("its certificate is not accepted: {why}"),
        _ => format!("TLS: {error}"),
    }
}

/// The name that the certificate must be for.
fn server_name(host: &Host<String>) -> Result<ServerName<'static>, rustls_pki_types::InvalidDnsNameError> {
    match host {
        Host::Ipv4(address) => Ok(IpAddr::from(*address).into()),
        Host::Ipv6(address) => Ok(IpAddr::from(*address).into()),
        Host::Domain(name) => ServerName::try_from(bare(name).to_owned()),
    }
}
