#![expect(clippy::disallowed_methods, reason = "tests connect to what they have started")]

use std::sync::Mutex;

use agent_identity_core::Timestamp;
use http_body_util::BodyExt as _;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use super::*;

/// Ten years on, so that nothing holds by the real time.
const START: i64 = 2_110_000_000;

struct Set(Mutex<i64>);

impl Clock for Set {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(*self.0.lock().unwrap())
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

fn clock() -> Arc<Set> {
    Arc::new(Set(Mutex::new(START)))
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    Arc::new(roots)
}

/// Whether a client takes what the authority has signed for the host, at a second.
fn taken(authority: &Authority, host: &str, at: i64) -> bool {
    let (_key, leaf) = authority.sign(host, Timestamp::from_seconds(START)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(roots(authority), provider).build().unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at).unwrap()));
    verifier.verify_server_cert(&leaf, &[], &name, &[], at).is_ok()
}

fn authority(hosts: &[&str]) -> Authority {
    Authority::new(&hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>(), clock()).unwrap()
}

#[test]
fn d23_the_authority_can_vouch_for_its_hosts_and_for_no_other() {
    for (hosts, good, bad) in [
        (
            &["api.example.com"][..],
            &["api.example.com"][..],
            &["example.com", "api.example.org", "127.0.0.1", "::1"][..],
        ),
        (&["127.0.0.1"], &["127.0.0.1"], &["127.0.0.2", "::1", "api.example.com", "localhost"]),
        (&["::1", "a.example"], &["::1", "a.example"], &["::2", "b.example"]),
    ] {
        let authority = authority(hosts);
        for host in good {
            assert!(taken(&authority, host, START), "{host} of {hosts:?}");
        }
        for host in bad {
            assert!(!taken(&authority, host, START), "{host} of {hosts:?}");
        }
    }
}

#[test]
fn d23_what_it_signs_lives_less_than_an_hour() {
    let authority = authority(&["api.example.com"]);
    let lives = |at| taken(&authority, "api.example.com", START + at);
    assert!(lives(0) && lives(49 * 60) && lives(-4 * 60));
    assert!(!lives(51 * 60) && !lives(-6 * 60));
}

#[test]
fn a_certificate_is_kept_and_made_anew_in_time() {
    let time = clock();
    let authority = Authority::new(&["api.example.com".to_owned()], Arc::<Set>::clone(&time)).unwrap();
    let first = authority.serving("api.example.com").unwrap();
    *time.0.lock().unwrap() += 29 * 60;
    assert!(Arc::ptr_eq(&first, &authority.serving("api.example.com").unwrap()));
    *time.0.lock().unwrap() += 2 * 60;
    let second = authority.serving("api.example.com").unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    // A clock that was set back.
    *time.0.lock().unwrap() -= 3 * 3600;
    assert!(!Arc::ptr_eq(&second, &authority.serving("api.example.com").unwrap()));
}

/// Opens `open.example`, and reaches everything else at one address.
struct Fixed(SocketAddr);

#[async_trait]
impl Route for Fixed {
    fn opens(&self, host: &str, port: u16) -> bool {
        (host, port) == ("open.example", 443)
    }

    async fn answer(&self, host: &str, port: u16, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().to_string();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        Response::new(Full::from(format!("{host}:{port}{path} {}", String::from_utf8_lossy(&body))))
    }

    async fn dial(&self, _host: &str, port: u16) -> io::Result<TcpStream> {
        match port {
            443 => TcpStream::connect(self.0).await,
            _ => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
        }
    }

    fn not_opened(&self, _host: &str, _why: NotOpened) {}
}

async fn proxy() -> (Proxy, TcpListener) {
    let world = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let route = Arc::new(Fixed(world.local_addr().unwrap()));
    let proxy =
        Proxy::start(&["open.example".to_owned()], Secret::new("s3cret"), clock(), route).await.unwrap();
    (proxy, world)
}

async fn ask(proxy: &Proxy, head: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    (stream, String::from_utf8(answer).unwrap())
}

fn connect_to(target: &str) -> String {
    let pair = encoding::base64("agent-identity:s3cret");
    format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic {pair}")
}

#[tokio::test]
async fn d23_who_does_not_know_the_secret_of_the_run_gets_nothing() {
    let (proxy, world) = proxy().await;
    let wrong = encoding::base64("agent-identity:other");
    for header in [
        String::new(),
        format!("\r\nProxy-Authorization: Basic {wrong}"),
        "\r\nProxy-Authorization: s3cret".to_owned(),
    ] {
        for target in ["open.example:443", "other.example:443"] {
            let (_stream, answer) =
                ask(&proxy, &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}{header}")).await;
            assert!(
                answer.starts_with("HTTP/1.1 407 ") && answer.contains("proxy-authenticate: Basic"),
                "{answer}"
            );
        }
    }
    // Nobody has gone out for them.
    assert!(tokio::time::timeout(Duration::from_millis(50), world.accept()).await.is_err());
    assert_eq!(proxy.url().expose(), format!("http://agent-identity:s3cret@{}", proxy.address));
}

#[tokio::test]
async fn a_host_that_is_not_opened_is_tunnelled_as_it_is() {
    let (proxy, world) = proxy().await;
    let (mut stream, answer) = ask(&proxy, &connect_to("other.example:443")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (mut there, _) = world.accept().await.unwrap();
    stream.write_all(b"\x16\x03not TLS").await.unwrap();
    let mut seen = [0; 9];
    there.read_exact(&mut seen).await.unwrap();
    assert_eq!(&seen, b"\x16\x03not TLS");
    there.write_all(b"back").await.unwrap();
    drop(there);
    let mut back = String::new();
    stream.read_to_string(&mut back).await.unwrap();
    assert_eq!(back, "back");
}

#[tokio::test]
async fn what_cannot_be_proxied_is_refused_with_the_reason() {
    let (proxy, _world) = proxy().await;
    for (head, status) in [
        (connect_to("other.example:444"), "502"),
        (connect_to("other.example"), "400"),
        (
            connect_to("open.example:443").replacen(
                "CONNECT open.example:443",
                "GET http://open.example/",
                1,
            ),
            "501",
        ),
    ] {
        let (_stream, answer) = ask(&proxy, &head).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test]
async fn a_host_that_is_opened_is_answered_until_the_proxy_ends() {
    let (proxy, _world) = proxy().await;
    let (stream, answer) = ask(&proxy, &connect_to("OPEN.example:443")).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(At))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(&proxy.authority))
        .with_no_client_auth();
    let name = ServerName::try_from("open.example").unwrap();
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
    tls.write_all(b"POST /a?b HTTP/1.1\r\nHost: open.example\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    let mut said = Vec::new();
    while !said.ends_with(b"open.example:443/a?b hi") {
        said.push(tls.read_u8().await.unwrap());
    }
    drop(proxy);
    let ended = tokio::time::timeout(Duration::from_secs(5), tls.read_u8()).await;
    assert!(ended.is_ok_and(|read| read.is_err()), "the connection has outlived the proxy");
}

#[derive(Debug)]
struct At;

impl rustls::time_provider::TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(START).ok()?)))
    }
}
