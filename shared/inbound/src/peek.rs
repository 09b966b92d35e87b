//! What a token says of itself before anybody has verified it. It decides nothing: it tells which rows will be asked for, if it is
//! genuine, so that a process that knows nothing yet reads them all in one call (`docs/adr/0018`).

use agent_identity_core::encoding::unbase64url;
use agent_identity_core::issuer::MAX_TOKEN_BYTES;
use serde_json::{Map, Value};

/// Longer ones are no keys of rows.
const MAX_LENGTH: usize = 1024;

/// The claims of a token that nobody has verified.
pub(crate) struct Peeked(Map<String, Value>);

impl Peeked {
    /// Of what looks like a token.
    pub(crate) fn at(token: &str) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let payload = token.split('.').nth(1)?;
        serde_json::from_slice(&unbase64url(payload)?).ok().map(Self)
    }

    /// A claim that is a text.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str().filter(|text| !text.is_empty() && text.len() <= MAX_LENGTH)
    }
}

#[cfg(test)]
mod tests {
    use agent_identity_core::encoding::base64url;

    use super::*;

    #[test]
    fn texts_are_seen_and_nothing_else_harms() {
        let token = format!(
            "x.{}.y",
            base64url(r#"{"iss":"i","sub":7,"oid":"","long":"LONG"}"#.replace("LONG", &"x".repeat(1025)))
        );
        let peeked = Peeked::at(&token).unwrap();
        assert_eq!(peeked.text("iss"), Some("i"));
        for name in ["sub", "oid", "long", "none"] {
            assert_eq!(peeked.text(name), None, "{name}");
        }
        for token in ["", ".", "a.b.c", "..", "x.W10.y", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
            assert!(Peeked::at(token).is_none(), "{token}");
        }
    }
}
