//! Where a request goes, read from its URL.

use agent_identity_core::http::HttpError;
use url::{Host, Url};

use crate::allow::bare;

/// A URL that may be looked up: https or http, with a host, without credentials.
#[derive(Clone, Debug)]
pub struct Target {
    /// Whether it is https.
    pub tls: bool,
    /// The host; odd spellings of IPv4 addresses (decimal, octal, hexadecimal) are addresses already.
    pub host: Host<String>,
    /// The port.
    pub port: u16,
    /// What goes into the request line.
    pub path_and_query: String,
}

impl Target {
    /// Reads a URL. Its fragment is dropped.
    ///
    /// # Errors
    /// [`HttpError::Forbidden`], without path and query, since these may be personal.
    pub fn parse(url: &str) -> Result<Self, HttpError> {
        let forbidden =
            |target: String, reason: &str| Err(HttpError::Forbidden { target, reason: reason.to_owned() });
        let Ok(url) = Url::parse(url) else {
            return forbidden("an unknown target".to_owned(), "the URL cannot be read");
        };
        let shown = || format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default());
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return forbidden(shown(), "only https is"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return forbidden(shown(), "a URL must not hold a user name or a password");
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return forbidden(shown(), "the URL has no host");
        };
        if port == 0 || matches!(host, Host::Domain(name) if bare(name).is_empty()) {
            return forbidden(shown(), "the URL has no host or no port");
        }
        let path_and_query = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        Ok(Self { tls, host: host.to_owned(), port, path_and_query })
    }

    /// `host:port`, for errors and logs.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The `host` header: without the port that the scheme implies (RFC 9110 §7.2).
    pub fn host_header(&self) -> String {
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => self.host.to_string(),
            _ => self.authority(),
        }
    }

    /// The error for a target that is not allowed.
    pub fn forbidden(&self, reason: impl Into<String>) -> HttpError {
        HttpError::Forbidden { target: self.authority(), reason: reason.into() }
    }

    /// The error for a request of which no byte left.
    pub fn not_sent(&self, reason: impl std::fmt::Display) -> HttpError {
        HttpError::NotSent { target: self.authority(), reason: reason.to_string() }
    }

    /// The error for a request that may have been received.
    pub fn unknown(&self, reason: impl std::fmt::Display) -> HttpError {
        HttpError::Unknown { target: self.authority(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_the_address() {
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f000001/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://0x7f.1/",
            "https://127.0.0.1./",
            "https://１２７.0.0.1/",
            "https:127.0.0.1",
            "https:\\\\127.0.0.1\\",
        ] {
            assert_eq!(
                Target::parse(url).unwrap().host,
                Host::<String>::Ipv4([127, 0, 0, 1].into()),
                "{url}"
            );
        }
    }

    #[test]
    fn what_is_not_plain_https_or_http_is_refused() {
        for url in [
            "",
            "/path",
            "ftp://a/",
            "file:///etc/passwd",
            "gopher://a/",
            "unix:/run/docker.sock",
            "data:,a",
            "https://",
            "https://.",
            "https://a:0/",
            "https://user@a/",
            "https://:secret@a/",
            "https://user:secret@a/",
            "https://[fe80::1%25eth0]/",
            "https://[::1",
            "https://a b/",
            "javascript:alert(1)",
        ] {
            let error = Target::parse(url).unwrap_err();
            assert!(matches!(error, HttpError::Forbidden { .. }), "{url}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_host_header_and_the_request_line_are_those_of_the_url() {
        for (url, host, line) in [
            ("https://a.example/token?x=1#frag", "a.example", "/token?x=1"),
            ("https://a.example:8443", "a.example:8443", "/"),
            ("http://[::1]:80/a/../b", "[::1]", "/b"),
            ("https://a.example:80/", "a.example:80", "/"),
        ] {
            let target = Target::parse(url).unwrap();
            assert_eq!((target.host_header().as_str(), target.path_and_query.as_str()), (host, line));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_or_smuggle_a_line(rest in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            if let Ok(target) = Target::parse(&format!("https://{rest}")) {
                prop_assert!(!target.host_header().contains(['\r', '\n', ' ', '@', '/']));
                prop_assert!(!target.path_and_query.contains(['\r', '\n', ' ', '#']));
            }
        }
    }
}
