//! The parameters of a request, in a query or a form.

use std::collections::BTreeMap;

use url::form_urlencoded;

/// Names and values; a name that is sent twice makes them unreadable (RFC 6749 §3.1, §3.2).
#[derive(Debug)]
pub(super) struct Parameters(BTreeMap<String, String>);

/// A parameter was sent more than once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated;

impl Parameters {
    /// Parses `application/x-www-form-urlencoded`.
    pub fn parse(encoded: &[u8]) -> Result<Self, Repeated> {
        let mut parameters = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(encoded) {
            if parameters.insert(name.into_owned(), value.into_owned()).is_some() {
                return Err(Repeated);
            }
        }
        Ok(Self(parameters))
    }

    /// A value. An empty one counts as not sent (RFC 6749 §3.1).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A value as a text of its own.
    pub fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }
}

/// Decodes one form-encoded text, as client ids and secrets are inside HTTP Basic (RFC 6749 §2.3.1).
pub(super) fn decode(encoded: &str) -> String {
    let one = encoded.replace('&', "%26").replace('=', "%3D");
    form_urlencoded::parse(one.as_bytes()).map(|(name, _)| name.into_owned()).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_is_sent_twice_is_refused() {
        assert_eq!(Parameters::parse(b"a=1&b=2&a=1").err(), Some(Repeated));
    }

    #[test]
    fn an_empty_parameter_was_not_sent() {
        let parameters = Parameters::parse(b"a=&b=x%20y+z").unwrap();
        assert_eq!((parameters.get("a"), parameters.get("b")), (None, Some("x y z")));
    }

    #[test]
    fn a_single_text_is_decoded_whole() {
        assert_eq!(decode("a%3Ab+c"), "a:b c");
        assert_eq!(decode("a=b&c"), "a=b&c");
        assert_eq!(decode(""), "");
    }
}
