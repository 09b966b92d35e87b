//! How the SDKs send requests: HTTP/1.1 over kept connections, TLS with the roots that AWS's own endpoints need.
//!
//! The SDKs' own client speaks HTTP/2 and knows proxies, which no service here asks for and which were a twentieth of a function.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::retries::ErrorKind;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The roots of AWS's own endpoints (Amazon Trust Services): reading the system's store costs ten times the rest of a
/// cold start.
const AMAZON_ROOTS: &[u8] = include_bytes!("amazon_roots.pem");

/// For how long a connection that nobody uses is kept: AWS's endpoints close theirs later.
const IDLE: Duration = Duration::from_secs(50);

/// Whom to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    /// The authorities of AWS's own endpoints.
    Amazon,
    /// Whom the system trusts: for endpoints of others.
    System,
}

type Sender = Client<HttpsConnector<TcpConnector>, SdkBody>;

/// One client for all services. Making it opens and reads nothing.
#[derive(Clone, Debug)]
pub(crate) struct Http1 {
    roots: Roots,
    connect_timeout: Duration,
    sender: Arc<OnceLock<Result<Sender, String>>>,
}

impl Http1 {
    pub(crate) fn new(roots: Roots, connect_timeout: Duration) -> Self {
        Self { roots, connect_timeout, sender: Arc::default() }
    }

    fn sender(&self) -> Result<Sender, ConnectorError> {
        let made = self.sender.get_or_init(|| self.make().map_err(|error| error.to_string()));
        made.clone().map_err(|error| ConnectorError::other(error.into(), None))
    }

    fn make(&self) -> Result<Sender, rustls::Error> {
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(self.connect_timeout));
        // Small requests, each of which waits for its answer.
        tcp.set_nodelay(true);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls(self.roots)?).https_or_http().enable_http1();
        Ok(Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector.wrap_connector(tcp)))
    }
}

fn tls(roots: Roots) -> Result<ClientConfig, rustls::Error> {
    let mut trusted = RootCertStore::empty();
    match roots {
        Roots::Amazon => {
            for certificate in CertificateDer::pem_slice_iter(AMAZON_ROOTS) {
                let certificate = certificate.map_err(|error| rustls::Error::General(error.to_string()))?;
                trusted.add(certificate)?;
            }
        }
        Roots::System => {
            trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(trusted).with_no_client_auth())
}

impl HttpClient for Http1 {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Http1 {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let response = this.sender()?.request(request).await.map_err(failed)?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}

/// What failed, in the SDKs' terms: they repeat what failed in passing.
fn failed(error: hyper_util::client::legacy::Error) -> ConnectorError {
    let cause = std::iter::successors(error.source(), |&error| error.source());
    let of_hyper = cause.clone().find_map(<dyn Error>::downcast_ref::<hyper::Error>);
    let is_io = cause.clone().any(<dyn Error>::is::<std::io::Error>);
    match of_hyper {
        Some(cause) if cause.is_timeout() => ConnectorError::timeout(error.into()),
        Some(cause) if cause.is_user() => ConnectorError::user(error.into()),
        Some(cause) if cause.is_incomplete_message() => {
            ConnectorError::other(error.into(), Some(ErrorKind::TransientError))
        }
        Some(cause) if cause.is_closed() || cause.is_canceled() => ConnectorError::io(error.into()),
        _ if is_io || error.is_connect() => ConnectorError::io(error.into()),
        _ => ConnectorError::other(error.into(), None),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    fn http1() -> Http1 {
        Http1::new(Roots::Amazon, Duration::from_millis(500))
    }

    async fn get(http: &Http1, uri: &str) -> Result<String, ConnectorError> {
        let request = HttpRequest::get(uri).unwrap();
        let response = http.call(request).await?;
        let body = aws_smithy_types::byte_stream::ByteStream::new(response.into_body());
        let text = body.collect().await.map_err(|error| ConnectorError::io(error.into()))?.to_vec();
        Ok(String::from_utf8(text).unwrap())
    }

    /// A server that answers each request on a connection with the next of these bytes, and closes it when there are no more.
    fn server(answers: &'static [&'static [u8]]) -> (String, std::thread::JoinHandle<usize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 4096];
            let mut requests = 0;
            for answer in answers {
                if stream.read(&mut buffer).unwrap() == 0 {
                    break;
                }
                requests += 1;
                stream.write_all(answer).unwrap();
            }
            requests
        });
        (uri, served)
    }

    const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

    #[tokio::test]
    async fn a_connection_serves_several_requests() {
        let (uri, served) = server(&[OK, OK]);
        let http = http1();
        assert_eq!(get(&http, &uri).await.unwrap(), "hi");
        assert_eq!(get(&http, &uri).await.unwrap(), "hi");
        assert_eq!(served.join().unwrap(), 2);
    }

    #[tokio::test]
    async fn what_failed_in_passing_is_told_from_the_rest() {
        let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
        let unreachable = format!("http://{}/", nobody.local_addr().unwrap());
        drop(nobody);
        let refused = get(&http1(), &unreachable).await.unwrap_err();
        assert!(refused.is_io(), "{refused:?}");

        let (uri, served) = server(&[b""]);
        let cut_off = get(&http1(), &uri).await.unwrap_err();
        assert!(cut_off.is_io() || cut_off.as_other() == Some(ErrorKind::TransientError), "{cut_off:?}");
        served.join().unwrap();

        let (uri, served) = server(&[b"nonsense\r\n\r\n"]);
        let nonsense = get(&http1(), &uri).await.unwrap_err();
        assert!(!nonsense.is_io() && nonsense.as_other().is_none(), "{nonsense:?}");
        served.join().unwrap();
    }

    #[test]
    fn the_roots_of_aws_can_be_read() {
        assert!(tls(Roots::Amazon).is_ok());
        assert!(CertificateDer::pem_slice_iter(AMAZON_ROOTS).count() >= 4);
    }
}
