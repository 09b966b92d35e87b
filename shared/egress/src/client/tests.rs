//! Against real sockets. A server here is a function over one accepted connection.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::*;

mod phases;
mod tls;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

/// A server on 127.0.0.1 that handles each connection with `handle`; its address, and how many connections it got.
async fn serve<H, F>(handle: H) -> (SocketAddr, Arc<AtomicUsize>)
where
    H: Fn(TcpStream) -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(handle(stream));
        }
    });
    (address, connections)
}

/// A server that reads a request and answers with these bytes.
async fn answering(answer: impl Into<Vec<u8>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let answer = Arc::new(answer.into());
    serve(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(&answer).await;
        }
    })
    .await
}

/// Reads a request's head and the body that its content-length announces.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return text.into_owned();
            }
        }
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return String::from_utf8_lossy(&bytes).into_owned();
        }
    }
}

struct Fixed(Vec<SocketAddr>);

#[async_trait]
impl Resolve for Fixed {
    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(self.0.clone())
    }
}

/// Fails the test when it is asked.
struct Unasked;

#[async_trait]
impl Resolve for Unasked {
    async fn resolve(&self, name: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        panic!("`{name}` was looked up")
    }
}

fn short() -> Limits {
    Limits { total: Duration::from_millis(300), body: 1000 }
}

/// A client that may reach this address, with short limits.
fn client(allowed: SocketAddr) -> GuardedClient {
    GuardedClient::with(
        AllowList::parse(&allowed.to_string()).unwrap(),
        Vec::new(),
        Box::new(Unasked),
        short(),
    )
}

/// A client that allows this, and to which all names lead to these addresses.
fn resolving(allow: &str, addresses: &[&str]) -> GuardedClient {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    GuardedClient::with(AllowList::parse(allow).unwrap(), Vec::new(), Box::new(Fixed(addresses)), short())
}

fn get(url: impl Into<String>) -> HttpRequest {
    HttpRequest::new(Method::Get, url, Vec::new(), None)
}

fn post(url: impl Into<String>, body: &str) -> HttpRequest {
    HttpRequest { method: Method::Post, body: Some(Secret::new(body)), ..get(url) }
}

fn forbidden(outcome: &Result<HttpResponse, HttpError>) -> bool {
    matches!(outcome, Err(HttpError::Forbidden { .. }))
}

#[tokio::test]
async fn a_request_goes_out_as_it_is_and_its_answer_comes_back() {
    let (sender, mut received) = tokio::sync::mpsc::unbounded_channel();
    let (address, _) = serve(move |mut stream| {
        let sender = sender.clone();
        async move {
            sender.send(read_request(&mut stream).await).unwrap();
            let answer = "HTTP/1.1 201 Created\r\nX-Token-Kind: a\r\nx-token-kind: b\r\ncontent-length: 4\r\n\r\n{\"\"}";
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let mut request = post(format!("http://{address}/token?a=b#c"), "grant_type=x");
    request.headers.push(("authorization".into(), Secret::new("Basic abc")));
    let response = client(address).send(request).await.unwrap();
    assert_eq!((response.status, response.body.as_slice()), (201, &b"{\"\"}"[..]));
    assert_eq!(response.header("x-token-kind"), Some("a"));
    let sent = received.recv().await.unwrap().replace(&address.port().to_string(), "PORT");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        sent,
        format!(
            "POST /token?a=b HTTP/1.1\r\nuser-agent: agent-identity/{version}\r\naccept-encoding: identity\r\n\
             authorization: Basic abc\r\nhost: 127.0.0.1:PORT\r\nconnection: close\r\ncontent-length: 12\r\n\r\ngrant_type=x"
        )
    );
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let (elsewhere, visits) = answering(OK).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("http://{elsewhere}/");
        let answer = format!("HTTP/1.1 {status} Moved\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let (address, _) = answering(answer).await;
        let client = GuardedClient::with(
            AllowList::parse("127.0.0.1/32").unwrap(),
            Vec::new(),
            Box::new(Unasked),
            short(),
        );
        let response = client.send(get(format!("http://{address}/"))).await.unwrap();
        assert_eq!((response.status, response.header("location")), (status, Some(location.as_str())));
    }
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn an_address_that_is_not_public_is_forbidden_however_it_is_written() {
    let client = resolving("", &[]);
    for host in [
        "127.0.0.1",
        "127.0.0.2",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0",
        "10.0.0.1",
        "192.168.1.1",
        "172.16.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:1:2:3:4:80ff:fffe]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
    ] {
        for scheme in ["https", "http"] {
            let outcome = client.send(get(format!("{scheme}://{host}/"))).await;
            assert!(forbidden(&outcome), "{scheme}://{host} {outcome:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_leads_to_such_an_address_is_forbidden_and_the_address_not_told() {
    for address in
        ["127.0.0.1:443", "10.0.0.1:443", "169.254.169.254:443", "[::1]:443", "[::ffff:10.0.0.1]:443"]
    {
        let outcome = resolving("", &[address]).send(get("https://rebinding.example/")).await;
        assert!(forbidden(&outcome), "{address} {outcome:?}");
        assert!(!outcome.unwrap_err().to_string().contains("10.0.0.1"));
    }
}

#[tokio::test]
async fn one_forbidden_address_among_several_forbids_the_name() {
    let (address, visits) = answering(OK).await;
    for other in ["10.0.0.1", "127.0.0.2", "169.254.169.254"] {
        let other = format!("{other}:{}", address.port());
        for addresses in [[address.to_string(), other.clone()], [other, address.to_string()]] {
            let addresses = addresses.each_ref().map(String::as_str);
            let client = resolving(&address.to_string(), &addresses);
            let outcome = client.send(get(format!("http://mixed.example:{}/", address.port()))).await;
            assert!(forbidden(&outcome), "{outcome:?}");
        }
    }
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn d21_a_listed_name_reaches_private_addresses_but_never_metadata() {
    let (address, _) = answering(OK).await;
    let port = address.port();
    let listed = format!("idp.internal:{port}");
    let request = || get(format!("http://IdP.internal.:{port}/"));
    assert_eq!(resolving(&listed, &[&address.to_string()]).send(request()).await.unwrap().status, 200);
    for never in ["169.254.169.254:1", "[fd00:ec2::254]:1", "[::ffff:169.254.169.254]:1"] {
        assert!(forbidden(&resolving(&listed, &[never]).send(request()).await), "{never}");
    }
}

#[tokio::test]
async fn d21_only_the_listed_port_of_a_listed_address_is_reached() {
    let (listed, _) = answering(OK).await;
    let (other, visits) = answering(OK).await;
    let client = client(listed);
    assert_eq!(client.send(get(format!("http://{listed}/"))).await.unwrap().status, 200);
    assert!(forbidden(&client.send(get(format!("http://{other}/"))).await));
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn the_connection_goes_to_the_port_of_the_url_whatever_the_resolver_says() {
    let (listed, _) = answering(OK).await;
    let (other, visits) = answering("HTTP/1.1 500 Wrong\r\ncontent-length: 0\r\n\r\n").await;
    let client = resolving(&format!("a.example:{}", listed.port()), &[&other.to_string()]);
    assert_eq!(client.send(get(format!("http://a.example:{}/", listed.port()))).await.unwrap().status, 200);
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn plain_http_is_for_listed_loopback_addresses_alone() {
    for (allow, addresses) in [
        ("", ["8.8.8.8:80"]),
        ("a.example:80", ["8.8.8.8:80"]),
        ("a.example:80", ["10.0.0.1:80"]),
        ("10.0.0.0/8", ["10.0.0.1:80"]),
    ] {
        let outcome = resolving(allow, &addresses).send(get("http://a.example/")).await;
        assert!(forbidden(&outcome), "{allow} {outcome:?}");
    }
}

#[tokio::test]
async fn credentials_in_a_url_and_headers_that_frame_messages_are_refused() {
    let (address, visits) = answering(OK).await;
    assert!(forbidden(&client(address).send(get(format!("http://user:pass@{address}/"))).await));
    for (name, value) in [
        ("host", "other"),
        ("connection", "keep-alive"),
        ("content-length", "1"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("x-a", "a\r\nx-b: b"),
        ("x-a", "a\0"),
        ("bad name", "a"),
        ("", "a"),
    ] {
        let mut request = get(format!("http://{address}/"));
        request.headers.push((name.into(), Secret::new(value)));
        let outcome = client(address).send(request).await;
        assert!(forbidden(&outcome), "{name}: {value:?} {outcome:?}");
    }
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_compressed_answer_is_not_decompressed() {
    let (address, _) =
        answering("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\n\x1f\x7f\x08").await;
    let response = client(address).send(get(format!("http://{address}/"))).await.unwrap();
    assert_eq!(response.body, b"\x1f\x7f\x08");
}

#[tokio::test]
async fn an_interim_answer_is_not_the_answer() {
    let (address, _) =
        answering(format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n{OK}")).await;
    assert_eq!(client(address).send(get(format!("http://{address}/"))).await.unwrap().status, 200);
}

#[tokio::test]
async fn every_request_has_a_connection_of_its_own_that_ends_with_it() {
    let (address, visits) = serve(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(OK.as_bytes()).await.unwrap();
        // Would hang the server if the client kept the connection.
        let _ = stream.read(&mut [0; 1]).await;
    })
    .await;
    let client = client(address);
    for _ in 0..3 {
        client.send(get(format!("http://{address}/"))).await.unwrap();
    }
    assert_eq!(visits.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_any_more_closes_its_connection() {
    let (sender, mut closed) = tokio::sync::mpsc::unbounded_channel();
    let (address, _) = serve(move |mut stream| {
        let sender = sender.clone();
        async move {
            read_request(&mut stream).await;
            let rest = stream.read(&mut [0; 1]).await;
            sender.send(rest.unwrap_or(0)).unwrap();
        }
    })
    .await;
    let limits = Limits { total: Duration::from_secs(60), body: 1 };
    let allow = AllowList::parse(&address.to_string()).unwrap();
    let client = GuardedClient::with(allow, Vec::new(), Box::new(Unasked), limits);
    let sending =
        tokio::spawn(async move { client.send(get(format!("http://{address}/"))).await.map(|_| ()) });
    sleep(Duration::from_millis(100)).await;
    sending.abort();
    assert_eq!(closed.recv().await, Some(0));
}

const ADDRESS: &str = "AGENT_IDENTITY_TEST_ADDRESS";

#[tokio::test]
#[ignore = "the child of a_proxy_in_the_environment_is_ignored"]
async fn send_to_the_address_in_the_environment() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let client = GuardedClient::new(AllowList::parse(&address).unwrap(), Vec::new());
    assert_eq!(client.send(get(format!("http://{address}/"))).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_ignored() {
    let (address, visits) = answering(OK).await;
    let (proxy, diverted) = answering(OK).await;
    let proxy = format!("http://{proxy}");
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["client::tests::send_to_the_address_in_the_environment", "--exact", "--ignored"]);
    child.env(ADDRESS, address.to_string()).env_remove("NO_PROXY").env_remove("no_proxy");
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        child.env(name, &proxy);
    }
    let output = tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!((visits.load(Ordering::SeqCst), diverted.load(Ordering::SeqCst)), (1, 0));
}
