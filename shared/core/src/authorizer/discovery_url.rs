//! Where an authorizer's issuer publishes its metadata, and so who the issuer is.

use serde::{Deserialize, Serialize};

use crate::name::parsed_text;

/// What stands before the name of the document (RFC 8615).
const WELL_KNOWN: &str = "/.well-known/";

/// The document of OpenID Connect Discovery §4.
const OPENID: &str = "openid-configuration";

/// The document of RFC 8414 §3.
const OAUTH: &str = "oauth-authorization-server";

/// The longest, in characters.
pub(super) const MAX_URL: usize = 1024;

/// `discoveryUrl`, valid by construction: `ISSUER/.well-known/DOCUMENT`, or `ORIGIN/.well-known/DOCUMENT/PATH`, in which
/// RFC 8414 §3.1 puts the issuer's path at the end.
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
        let (before, path) = parts(text).ok_or_else(|| {
            format!("must end with {WELL_KNOWN}{OPENID} or {WELL_KNOWN}{OAUTH}, and may go on with the path of the issuer")
        })?;
        let rest = after_scheme(text).and(after_scheme(before));
        let ends_plainly = !before.ends_with('/') && (path.is_empty() || is_path(path));
        if rest.is_none() || !ends_plainly {
            return Err(format!(
                "must be https://HOST[:PORT][/PATH]{WELL_KNOWN}{OPENID}, of plain characters, without user, query or fragment"
            ));
        }
        if !path.is_empty() && rest.is_some_and(|rest| rest.contains('/')) {
            return Err("has a path on either side of /.well-known/, and an issuer has one".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The issuer whose metadata are there, without a terminating slash: how it is known to records.
    pub fn issuer(&self) -> String {
        let (before, path) = parts(&self.0).unwrap_or((&self.0, ""));
        format!("{before}{path}")
    }

    /// The issuers whose metadata are there: without and with a terminating slash (OpenID Connect Discovery §4 drops one; the
    /// `iss` of Auth0 has it). Which of them it is say the metadata, that must name it exactly.
    pub fn issuers(&self) -> [String; 2] {
        let issuer = self.issuer();
        let with_slash = format!("{issuer}/");
        [issuer, with_slash]
    }
}

/// What stands after the scheme of an http or https URL with a host, of plain characters, and without user, query or fragment.
pub(super) fn after_scheme(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let has_host = rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    let is_plain = |byte: u8| byte.is_ascii_graphic() && !b"@#?\\".contains(&byte);
    (has_host && url.bytes().all(is_plain)).then_some(rest)
}

/// What stands before the well-known part, and after it.
fn parts(text: &str) -> Option<(&str, &str)> {
    let (before, after) = text.split_once(WELL_KNOWN)?;
    let path = after.strip_prefix(OPENID).or_else(|| after.strip_prefix(OAUTH))?;
    ((path.is_empty() || path.starts_with('/')) && !path.contains(WELL_KNOWN)).then_some((before, path))
}

/// An issuer's path as RFC 8414 §3.1 appends it: not only a slash, and none at its end.
fn is_path(path: &str) -> bool {
    !path.starts_with("//") && !path.ends_with('/')
}

parsed_text!(DiscoveryUrl);
