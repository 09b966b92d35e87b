//! What may be an endpoint: an absolute http or https URL that hides nothing.

use url::Url;

use crate::OauthError;

/// Longest endpoint, in bytes.
const MAX_ENDPOINT: usize = 2048;

/// Parses an endpoint. `http` is allowed here, because whether a host may be reached without TLS is the egress guard's
/// rule and not a protocol's.
///
/// # Errors
/// [`OauthError::Endpoint`], which names it `what`.
pub(crate) fn parse(what: &'static str, text: &str) -> Result<Url, OauthError> {
    let wrong = |reason| Err(OauthError::Endpoint { what, reason });
    if text.len() > MAX_ENDPOINT {
        return wrong("has more than 2048 bytes");
    }
    // The parser drops or rewrites these, so that what was checked would not be what is sent.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return wrong("must not contain white space, control characters or backslashes");
    }
    let Some(rest) = ["https://", "http://"].into_iter().find_map(|scheme| text.strip_prefix(scheme)) else {
        return wrong("must begin with https:// or http://");
    };
    // RFC 6749 §3.1 and §3.2.
    if text.contains('#') {
        return wrong("must not contain a fragment");
    }
    if rest.split(['/', '?']).next().is_some_and(|authority| authority.contains('@')) {
        return wrong("must not contain userinfo");
    }
    match Url::parse(text) {
        // More slashes than two are skipped by the parser: what looks like a path would become the host.
        Ok(url) if url.host_str().is_some_and(|host| !host.is_empty()) && !rest.starts_with('/') => Ok(url),
        _ => wrong("is not a URL with a host"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_endpoint_may_have_a_port_a_path_and_a_query() {
        for text in ["https://as.example", "http://127.0.0.1:8080/token", "https://b2c.example/t?p=policy"] {
            assert!(parse("token_endpoint", text).is_ok(), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_absolute_web_url_or_hides_something_is_refused() {
        for text in [
            "",
            "/token",
            "as.example/token",
            "javascript:alert(1)",
            "ftp://as.example",
            "https:as.example",
            "https://",
            "https:///as.example/token",
            "https://?x",
            "https://user@as.example/",
            "https://as.example@evil.example/",
            "https://as.example\\@evil.example/",
            "https://as.example/#",
            "https://as.example/#x",
            "https://as.exa\tmple/",
            " https://as.example/",
            "https://as.example/a b",
            "https://[::1/token",
        ] {
            assert!(parse("token_endpoint", text).is_err(), "{text}");
        }
        assert!(parse("token_endpoint", &format!("https://as.example/{}", "a".repeat(2048))).is_err());
    }

    proptest! {
        #[test]
        fn what_parses_has_a_host_and_no_userinfo(text in "(https?:/{0,3})?[a-z@:/\\\\?#.\\[\\]\\t 0-9]{0,40}") {
            if let Ok(url) = parse("token_endpoint", &text) {
                prop_assert!(url.host_str().is_some_and(|host| !host.is_empty()));
                prop_assert!(url.username().is_empty() && url.password().is_none());
                prop_assert!(url.fragment().is_none());
            }
        }
    }
}
