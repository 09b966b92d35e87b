//! Parameters of requests: their encoding, and which names are ours.

use std::borrow::Cow;

use agent_identity_core::provider::Vendor;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};

use crate::catalogue;

/// Names and values in the order in which they are sent.
pub(crate) type Parameters<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// All but RFC 3986's unreserved characters. A space becomes `%20`, which form decoders and URL decoders read alike; `+`
/// is a space to the former only.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One name or value (RFC 6749 appendix B).
pub(crate) fn escape(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, ESCAPED)
}

/// `name=value&…`.
pub(crate) fn form(parameters: &Parameters<'_>) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        if !text.is_empty() {
            text.push('&');
        }
        text.extend(escape(name));
        text.push('=');
        text.extend(escape(value));
    }
    text
}

/// Names that carry the protocol in requests to any provider (D24), and those that would replace it: `request` and
/// `request_uri` (RFC 9101), `response_mode`.
const PROTOCOL: &[&str] = &[
    "audience",
    "client_id",
    "client_secret",
    "code",
    "code_challenge",
    "code_challenge_method",
    "code_verifier",
    "grant_type",
    "nonce",
    "redirect_uri",
    "refresh_token",
    "request",
    "request_uri",
    "resource",
    "response_mode",
    "response_type",
    "scope",
    "state",
    "user_scope",
];

/// Whether `name` carries the protocol with any provider. Some servers do not tell upper from lower case in names.
pub(crate) fn is_protocol(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    PROTOCOL.contains(&name.as_str()) || name.starts_with("client_assertion")
}

/// Whether a caller's parameter may not have this name with this vendor: the protocol's, and what the catalogue sends.
pub(crate) fn is_reserved(vendor: Vendor, name: &str) -> bool {
    let facts = catalogue::facts(vendor);
    let ours = [&facts.authorization_params, &facts.token_params, &facts.refresh_params];
    is_protocol(name)
        || facts.scope_parameter.eq_ignore_ascii_case(name)
        || ours.into_iter().flat_map(|params| params.keys()).any(|ours| ours.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use url::form_urlencoded;

    use super::*;

    #[test]
    fn a_space_is_not_a_plus() {
        assert_eq!(form(&vec![("a b".into(), "+&=ä~".into())]), "a%20b=%2B%26%3D%C3%A4~");
    }

    proptest! {
        #[test]
        fn a_form_reads_back_as_what_was_written(pairs: Vec<(String, String)>) {
            let parameters = pairs.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect();
            let text = form(&parameters);
            let read: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes())
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect();
            prop_assert_eq!(read, pairs);
        }
    }
}
