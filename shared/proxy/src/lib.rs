//! A forward proxy on loopback for one program (D23): it opens the TLS of some hosts and has their requests answered, and tunnels all
//! others unopened. Who does not know the run's secret gets nothing from it.
//!
//! What is *not* here: which hosts, what answers, and how other hosts are reached: that is the [`Route`]'s. Plain http is not proxied:
//! nothing that is injected may travel so.

mod authority;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::{Clock, Secret, encoding};
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::{AlertDescription, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use authority::Authority;
pub use authority::AuthorityError;

/// How long the headers of a request, or a handshake, may take to come in.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who the program says it is.
const USER: &str = "agent-identity";

/// Why a program did not get to a host that is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NotOpened {
    /// It did not take the certificate.
    Mistrusted,
    /// It offered other protocols than HTTP/1.1 alone.
    NoHttp1,
}

/// What a failed handshake tells; `None` for one that was only broken off.
fn not_opened(error: &io::Error) -> Option<NotOpened> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(
            AlertDescription::BadCertificate
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate,
        ) => Some(NotOpened::Mistrusted),
        rustls::Error::NoApplicationProtocol => Some(NotOpened::NoHttp1),
        _ => None,
    }
}

/// What the proxy asks of who made it.
#[async_trait]
pub trait Route: Send + Sync + 'static {
    /// Whether the TLS of this host is opened.
    fn opens(&self, host: &str, port: u16) -> bool;

    /// Answers a request to a host that is opened.
    async fn answer(&self, host: &str, port: u16, request: Request<Incoming>) -> Response<Full<Bytes>>;

    /// A connection to a host that is not opened.
    ///
    /// # Errors
    /// Those of the network.
    async fn dial(&self, host: &str, port: u16) -> io::Result<TcpStream>;

    /// The program and this proxy have not come to speak with each other.
    fn not_opened(&self, host: &str, why: NotOpened);
}

/// Why there is no proxy.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No port can be had.
    #[error("no port of this machine can be had: {0}")]
    Listen(#[from] io::Error),
    /// No certificate can be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
}

/// A proxy, from when it is made until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    secret: Secret,
    authority: Arc<Authority>,
    stop: CancellationToken,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What each connection needs.
struct Serving {
    /// The value of `Proxy-Authorization` that is wanted.
    wanted: Secret,
    authority: Arc<Authority>,
    route: Arc<dyn Route>,
    stop: CancellationToken,
}

impl Proxy {
    /// Starts on a free port of 127.0.0.1. `secret` is what the program must know; `hosts` are those that the route opens.
    ///
    /// # Errors
    /// When no port can be had, or a host can stand in no certificate.
    pub async fn start(
        hosts: &[String],
        secret: Secret,
        clock: Arc<dyn Clock>,
        route: Arc<dyn Route>,
    ) -> Result<Self, ProxyError> {
        let authority = Arc::new(Authority::new(hosts, clock)?);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let pair = encoding::base64(format!("{USER}:{}", secret.expose()));
        let serving = Arc::new(Serving {
            wanted: Secret::new(format!("Basic {pair}")),
            authority: Arc::clone(&authority),
            route,
            stop: stop.clone(),
        });
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, serving)));
        Ok(Self { address, secret, authority, stop })
    }

    /// What `HTTPS_PROXY` must be.
    pub fn url(&self) -> Secret {
        Secret::new(format!("http://{USER}:{}@{}", self.secret.expose(), self.address))
    }

    /// The certificate that the program must trust.
    pub fn authority_pem(&self) -> String {
        self.authority.pem()
    }
}

async fn accept(listener: TcpListener, serving: Arc<Serving>) {
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                let stop = serving.stop.clone();
                tokio::spawn(stop.run_until_cancelled_owned(serve(stream, Arc::clone(&serving))));
            }
            // Out of file descriptors: it does not end the run.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

fn server() -> http1::Builder {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_headers(100);
    server
}

async fn serve(stream: TcpStream, serving: Arc<Serving>) {
    let _unsupported = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let serving = Arc::clone(&serving);
        async move { Ok::<_, Infallible>(connect(request, serving).await) }
    });
    // A connection that breaks is its program's matter.
    let _broken = server().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
}

fn refuse(status: StatusCode, why: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(why.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// RFC 9110 §9.3.6.
async fn connect(request: Request<Incoming>, serving: Arc<Serving>) -> Response<Full<Bytes>> {
    let given = request.headers().get(header::PROXY_AUTHORIZATION).and_then(|value| value.to_str().ok());
    if !given.is_some_and(|given| Secret::new(given) == serving.wanted) {
        let mut response = refuse(
            StatusCode::PROXY_AUTHENTICATION_REQUIRED,
            "this proxy is for the program that was started with it\n",
        );
        let challenge = HeaderValue::from_static("Basic realm=\"agent-identity run\"");
        response.headers_mut().insert(header::PROXY_AUTHENTICATE, challenge);
        return response;
    }
    if request.method() != Method::CONNECT {
        return refuse(
            StatusCode::NOT_IMPLEMENTED,
            "only https is proxied: plain http goes without a proxy\n",
        );
    }
    let authority = request.uri().authority().cloned();
    let Some((host, port)) = authority.as_ref().and_then(|it| Some((bare(it.host()), it.port_u16()?))) else {
        return refuse(StatusCode::BAD_REQUEST, "CONNECT wants HOST:PORT\n");
    };
    let host = host.to_ascii_lowercase();
    let way = match way(&host, port, &serving).await {
        Ok(way) => way,
        Err(refused) => return refused,
    };
    tokio::spawn(async move {
        let joined = async {
            if let Ok(upgraded) = hyper::upgrade::on(request).await {
                join(TokioIo::new(upgraded), way, &host, port, &serving).await;
            }
        };
        serving.stop.run_until_cancelled(joined).await
    });
    Response::new(Full::default())
}

/// A host as routes know it: an IPv6 address without its brackets.
pub fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// What happens with the bytes that a program sends to a host.
enum Way {
    Opened(Arc<ServerConfig>),
    Tunnel(TcpStream),
}

async fn way(host: &str, port: u16, serving: &Serving) -> Result<Way, Response<Full<Bytes>>> {
    if serving.route.opens(host, port) {
        return serving
            .authority
            .serving(host)
            .map(Way::Opened)
            .map_err(|error| refuse(StatusCode::BAD_GATEWAY, format!("{error}\n")));
    }
    let dialed = serving.route.dial(host, port).await;
    dialed.map(Way::Tunnel).map_err(|error| {
        refuse(StatusCode::BAD_GATEWAY, format!("{host}:{port} cannot be reached: {error}\n"))
    })
}

/// What breaks here is the program's connection, and it sees that.
async fn join(mut program: TokioIo<Upgraded>, way: Way, host: &str, port: u16, serving: &Serving) {
    let config = match way {
        Way::Opened(config) => config,
        Way::Tunnel(mut world) => {
            let _broken = tokio::io::copy_bidirectional(&mut program, &mut world).await;
            return;
        }
    };
    let handshake = tokio::time::timeout(PATIENCE, TlsAcceptor::from(config).accept(program)).await;
    let opened = match handshake {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => {
            if let Some(why) = not_opened(&error) {
                serving.route.not_opened(host, why);
            }
            return;
        }
        Err(_too_slow) => return,
    };
    let service = service_fn(|request| {
        let route = Arc::clone(&serving.route);
        async move { Ok::<_, Infallible>(route.answer(host, port, request).await) }
    });
    let _broken = server().serve_connection(TokioIo::new(opened), service).await;
}

#[cfg(test)]
mod tests;
