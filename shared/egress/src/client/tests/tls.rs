//! Over TLS, with certificates made here.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { pem, issuer: Issuer::new(params, key) }
}

/// A server with a certificate of `authority` for `name`; counts what it got after the handshake.
async fn serve_tls(authority: &Authority, name: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority.issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let received = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&received);
    let (address, _) = serve(move |stream| {
        let (acceptor, counter) = (acceptor.clone(), Arc::clone(&counter));
        async move {
            let Ok(mut stream) = acceptor.accept(stream).await else { return };
            let mut bytes = [0; 4096];
            counter.fetch_add(stream.read(&mut bytes).await.unwrap_or(0), Ordering::SeqCst);
            let _ = stream.write_all(OK.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    (address, received)
}

fn trusting(pem: &str, address: SocketAddr) -> GuardedClient {
    let limits = Limits { total: Duration::from_secs(5), body: 1000 };
    let allow = AllowList::parse(&format!("{address}, idp.example:{}", address.port())).unwrap();
    GuardedClient::with(allow, pem.as_bytes().to_vec(), Box::new(Fixed(vec![address])), limits)
}

fn not_sent(outcome: &Result<HttpResponse, HttpError>) -> bool {
    matches!(outcome, Err(HttpError::NotSent { .. }))
}

#[tokio::test]
async fn an_extra_authority_is_trusted_for_names_and_addresses() {
    let authority = authority();
    for (name, host) in [("idp.example", "idp.example"), ("127.0.0.1", "127.0.0.1")] {
        let (address, received) = serve_tls(&authority, name).await;
        let client = trusting(&authority.pem, address);
        for _ in 0..2 {
            let response = client.send(get(format!("https://{host}:{}/", address.port()))).await.unwrap();
            assert_eq!((response.status, response.body.as_slice()), (200, &b"hi"[..]));
        }
        assert!(received.load(Ordering::SeqCst) > 0);
    }
}

#[tokio::test]
async fn d5_a_certificate_that_is_not_trusted_or_for_another_name_was_not_sent() {
    let (ours, theirs) = (authority(), authority());
    for (issuer, name, said) in [
        (&theirs, "idp.example", "is not trusted here; AGENT_IDENTITY_EXTRA_CA_FILE names further roots"),
        (&ours, "other.example", "its certificate is not accepted"),
    ] {
        let (address, received) = serve_tls(issuer, name).await;
        let request = post(format!("https://idp.example:{}/", address.port()), "refresh_token=old");
        let outcome = trusting(&ours.pem, address).send(request).await;
        assert!(not_sent(&outcome), "{outcome:?}");
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!(received.load(Ordering::SeqCst), 0);
    }
}

#[tokio::test]
async fn d5_a_handshake_that_fails_or_hangs_was_not_sent() {
    let authority = authority();
    let (plain, _) = answering(OK).await;
    let (silent, _) = serve(|stream| async move {
        sleep(Duration::from_secs(60)).await;
        drop(stream);
    })
    .await;
    for address in [plain, silent] {
        let mut client = trusting(&authority.pem, address);
        client.limits = short();
        let outcome = client.send(get(format!("https://idp.example:{}/", address.port()))).await;
        assert!(not_sent(&outcome), "{outcome:?}");
    }
}

#[tokio::test]
async fn d5_extra_authorities_that_cannot_be_read_are_named_and_nothing_is_sent() {
    let (address, received) = serve_tls(&authority(), "idp.example").await;
    let outcome = trusting("no certificate", address)
        .send(get(format!("https://idp.example:{}/", address.port())))
        .await;
    assert!(not_sent(&outcome), "{outcome:?}");
    assert!(outcome.unwrap_err().to_string().contains("extra CA file"));
    assert_eq!(received.load(Ordering::SeqCst), 0);
}
