//! Where an authorizer's issuer publishes its metadata, and so who the issuer is.

use serde::{Deserialize, Serialize};

/// What ends it (OpenID Connect Discovery §4).
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// The longest, in characters.
const MAX_URL: usize = 1024;

/// `discoveryUrl`, valid by construction. AWS's pattern allows RFC 8414's form as well; that comes later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DiscoveryUrl(String);

impl DiscoveryUrl {
    /// The URL, if an issuer's metadata can be there: http or https with a host, plain characters, no user, query or
    /// fragment. Whether http, or this host, may be asked at all is the egress guard's to say.
    ///
    /// # Errors
    /// The text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !(1..=MAX_URL).contains(&text.chars().count()) {
            return Err(format!("must have 1 to {MAX_URL} characters"));
        }
        let issuer = text.strip_suffix(WELL_KNOWN).ok_or_else(|| format!("must end with {WELL_KNOWN}"))?;
        let rest = issuer.strip_prefix("https://").or_else(|| issuer.strip_prefix("http://"));
        let has_host =
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['));
        let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"@#?\\".contains(&byte);
        if !has_host || !issuer.bytes().all(is_plain) || issuer.ends_with('/') {
            return Err(format!(
                "must be https://HOST[:PORT][/PATH]{WELL_KNOWN}, of plain characters, without user, query or fragment"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The issuers whose metadata are there: what stands before, without and with a terminating slash (OpenID Connect
    /// Discovery §4 drops one; the `iss` of Auth0 has it). Which of them it is say the metadata, that must name it exactly.
    pub fn issuers(&self) -> [String; 2] {
        let issuer = self.0.strip_suffix(WELL_KNOWN).unwrap_or(&self.0);
        [issuer.to_owned(), format!("{issuer}/")]
    }
}

impl TryFrom<String> for DiscoveryUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<DiscoveryUrl> for String {
    fn from(url: DiscoveryUrl) -> Self {
        url.0
    }
}
