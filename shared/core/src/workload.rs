//! Workload identities: agents, by name, and the return URLs that they own.

use serde::{Deserialize, Serialize};

use crate::name::parsed_text;
use crate::tag::Tags;
use crate::{Id, Timestamp, WorkloadName};

/// A workload identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// Its id, new at each create (D9).
    pub id: Id<Workload>,
    /// Its name, unique in the directory.
    pub name: WorkloadName,
    /// Where a consent may return to; compared exactly, loopback hosts with any port (D24).
    pub return_urls: Vec<ReturnUrl>,
    /// Moves to end every workload access token at once (`design.md` 6).
    pub epoch: u32,
    /// Its tags.
    pub tags: Tags,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A URL to which a consent may return, valid by construction (D24).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ReturnUrl(String);

/// Longest return URL, in characters (`ResourceOauth2ReturnUrlType`).
pub const MAX_RETURN_URL: usize = 2048;

impl ReturnUrl {
    /// The URL, if it is acceptable: the model's pattern `\w+:(\/?\/?)[^\s]+`, no scheme that runs or shows content, no
    /// userinfo, no fragment (RFC 6749 §3.1.2).
    ///
    /// # Errors
    /// The text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !(1..=MAX_RETURN_URL).contains(&text.chars().count()) {
            return Err(format!("must have 1 to {MAX_RETURN_URL} characters"));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err("must not contain white space or control characters".to_owned());
        }
        let (scheme, rest) = text.split_once(':').ok_or("must be an absolute URL")?;
        if !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-._".contains(c))
            || !scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            || rest.is_empty()
        {
            return Err("must be an absolute URL".to_owned());
        }
        if ["javascript", "data", "file", "blob", "vbscript"].contains(&scheme.to_ascii_lowercase().as_str())
        {
            return Err(format!("the scheme `{}` is not allowed", scheme.to_ascii_lowercase()));
        }
        if text.contains('\\') || text.contains('#') {
            return Err("must not contain a backslash or a fragment".to_owned());
        }
        let authority = rest.trim_start_matches('/').split(['/', '?']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err("must not contain userinfo".to_owned());
        }
        if matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https")
            && (!rest.starts_with("//") || authority.is_empty() || authority.starts_with(':'))
        {
            return Err("must have a host".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a consent that asks for `asked` may return there because `self` is registered: equal, or a loopback
    /// redirect that differs only in its port (RFC 8252 §7.3).
    pub fn admits(&self, asked: &ReturnUrl) -> bool {
        self == asked
            || matches!((self.loopback(), asked.loopback()), (Some(registered), Some(asked)) if registered == asked)
    }

    /// (host, path and query) of an http URL to a loopback host, without its port.
    fn loopback(&self) -> Option<(&str, &str)> {
        let rest = self.0.strip_prefix("http://")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end)?;
        ["localhost", "127.0.0.1", "[::1]"].into_iter().find_map(|host| {
            let port = authority.strip_prefix(host)?;
            let numeric = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            (port.is_empty() || port.strip_prefix(':').is_some_and(numeric)).then_some((host, path))
        })
    }
}

parsed_text!(ReturnUrl);

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(registered: &str, asked: &str) -> bool {
        ReturnUrl::parse(registered).unwrap().admits(&ReturnUrl::parse(asked).unwrap())
    }

    #[test]
    fn d24_return_urls_match_exactly() {
        assert!(admits("https://app.example/cb", "https://app.example/cb"));
        assert!(!admits("https://app.example/cb", "https://app.example/cb/"));
        assert!(!admits("https://app.example/cb", "https://app.example/cb?x=1"));
        assert!(!admits("https://app.example/cb", "https://app.example.evil/cb"));
        assert!(!admits("https://app.example:1/cb", "https://app.example:2/cb"));
    }

    #[test]
    fn d24_a_loopback_url_matches_with_any_port_and_nothing_else() {
        assert!(admits("http://127.0.0.1:8081/cb", "http://127.0.0.1:9/cb"));
        assert!(admits("http://localhost/cb", "http://localhost:9/cb"));
        assert!(!admits("http://localhost:1/cb", "http://127.0.0.1:1/cb"));
        assert!(!admits("http://localhost:1/cb", "http://localhost.evil:1/cb"));
        assert!(!admits("http://localhost:1/cb", "http://localhost:1x/cb"));
        assert!(!admits("http://localhost:1/cb", "http://localhost:1/other"));
        assert!(!admits("https://localhost:1/cb", "https://localhost:2/cb"));
    }

    #[test]
    fn d24_urls_that_run_or_hide_something_are_refused() {
        for url in [
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            "file:///etc/passwd",
            "blob:x",
            "vbscript:x",
            "https://user@app.example/",
            "https://user:pw@app.example/",
            "http:app.example",
            "https://",
            "nothing",
            "a b:c",
            "https://app.example/#token",
            "https://app.example\\@evil",
            "",
            ":x",
            "https://:80/",
        ] {
            assert!(ReturnUrl::parse(url).is_err(), "{url}");
        }
    }

    proptest::proptest! {
        #[test]
        fn d24_whatever_is_accepted_is_a_plain_absolute_url(text in "\\PC{0,60}") {
            if let Ok(url) = ReturnUrl::parse(&text) {
                proptest::prop_assert_eq!(url.as_str(), &text);
                proptest::prop_assert!(!text.contains([' ', '#', '\\']) && text.contains(':'));
                proptest::prop_assert!(!text.to_ascii_lowercase().starts_with("javascript:"));
            }
        }

        #[test]
        fn d24_a_registered_url_admits_itself_and_no_longer_one(path in "[a-z/]{0,12}", more in "[a-z/?]{1,6}") {
            let registered = format!("https://app.example/{path}");
            proptest::prop_assert!(admits(&registered, &registered));
            let longer = format!("{registered}{more}");
            proptest::prop_assert!(!admits(&registered, &longer));
        }
    }

    #[test]
    fn custom_schemes_of_native_apps_are_allowed() {
        assert!(ReturnUrl::parse("com.example.app:/callback").is_ok());
        assert!(ReturnUrl::parse("myapp://callback").is_ok());
    }
}
