//! Which `iss` values can be asked for keys, and where.

/// Longer ones are refused, in bytes.
const MAX_URL: usize = 1024;

/// Whether `text` is an http or https URL of plain characters with a host, and without userinfo or fragment. Whether http
/// or this host is allowed at all is the egress guard's to say.
pub(super) fn is_plain_url(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let has_host = rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['));
    // No backslash: URL parsers disagree whether it is a slash. No other scripts: an issuer writes its host in ASCII.
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'@' | b'#' | b'\\');
    has_host && text.len() <= MAX_URL && text.bytes().all(is_plain)
}

/// Whether `text` can be an issuer (OpenID Connect Discovery §3, RFC 8414 §2): such a URL, without query.
pub(crate) fn is_issuer_url(text: &str) -> bool {
    is_plain_url(text) && !text.contains('?')
}

/// OpenID Connect Discovery §4: appended, after a terminating slash was removed.
pub(super) fn openid_configuration(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
}

/// RFC 8414 §3.1: inserted between host and path.
pub(super) fn oauth_authorization_server(issuer: &str) -> String {
    let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
    let host_at = issuer.find("://").map_or(0, |at| at + 3);
    let path_at = issuer.get(host_at..).and_then(|rest| rest.find('/')).map(|at| host_at + at);
    let (origin, path) = issuer.split_at(path_at.unwrap_or(issuer.len()));
    format!("{origin}/.well-known/oauth-authorization-server{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_urls_are_issuers() {
        for good in ["https://a", "http://localhost:1/x", "https://[::1]:2/", "https://a.example/t/v2.0"] {
            assert!(is_issuer_url(good), "{good}");
        }
        for bad in [
            "",
            "https://",
            "https:///x",
            "ftp://a",
            "HTTPS://a",
            "a",
            "//a",
            "https://u@a",
            "https://a#f",
            "https://a?q",
            "https://a\\b",
            "https://a b",
            "https://a\nb",
            "https://ä.example",
            "file:///etc/passwd",
            "https://:1",
        ] {
            assert!(!is_issuer_url(bad), "{bad}");
        }
        assert!(!is_issuer_url(&format!("https://{}", "a".repeat(2000))));
    }

    #[test]
    fn metadata_is_where_the_standards_put_it() {
        assert_eq!(openid_configuration("https://a/t/"), "https://a/t/.well-known/openid-configuration");
        assert_eq!(openid_configuration("https://a"), "https://a/.well-known/openid-configuration");
        let server = oauth_authorization_server;
        assert_eq!(server("https://a/t/"), "https://a/.well-known/oauth-authorization-server/t");
        assert_eq!(server("https://a"), "https://a/.well-known/oauth-authorization-server");
        assert_eq!(server("https://a/"), "https://a/.well-known/oauth-authorization-server");
    }
}
