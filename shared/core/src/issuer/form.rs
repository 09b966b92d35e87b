//! What a token looks like, which says who can read it.

use serde_json::{Map, Value};

use super::MAX_TOKEN_BYTES;
use crate::encoding::unbase64url;

/// Whether a token is a JWT, if a broken one (RFC 7519 §3): three parts, of which the first is a header in JSON. Such a token is read
/// here and shown to nobody; nobody but its issuer can read any other.
pub fn has_jwt_form(token: &str) -> bool {
    let mut parts = token.split('.');
    let (Some(header), Some(_), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    // What other readers would take for base64url all the same.
    let header = header.trim_end_matches('=');
    unbase64url(header).is_some_and(|bytes| serde_json::from_slice::<Map<String, Value>>(&bytes).is_ok())
}

/// Whether a token can be in an `Authorization` header (`b64token` of RFC 6750 §2.1), and is no larger than is looked at.
pub fn is_bearer_form(token: &str) -> bool {
    let body = token.trim_end_matches('=');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    token.len() <= MAX_TOKEN_BYTES && !body.is_empty() && body.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jwt_has_three_parts_and_a_header_in_json() {
        for jwt in ["eyJhbGciOiJFUzI1NiJ9.e30.AAAA", "e30.x.y", "e30..", "e30=.e30.", "IHt9.e30.x"] {
            assert!(has_jwt_form(jwt), "{jwt}");
        }
        for other in [
            "",
            "opaque",
            "a.b.c",
            "..",
            "eyJhbGciOiJFUzI1NiJ9",
            "eyJhbGciOiJFUzI1NiJ9.e30",
            // A JWE, which is for its issuer alone.
            "eyJhbGciOiJkaXIifQ..a.b.c",
            "W10.e30.x",
            "Nw.e30.x",
            "e3.e30.x",
        ] {
            assert!(!has_jwt_form(other), "{other}");
        }
    }

    #[test]
    fn a_bearer_token_has_no_character_that_would_end_it() {
        for good in ["a", "aB9-._~+/", "abc==", &"x".repeat(MAX_TOKEN_BYTES)] {
            assert!(is_bearer_form(good), "{good}");
        }
        for wrong in [
            "",
            "=",
            "a b",
            "a=b",
            "a&token=b",
            "a\n",
            "a%20",
            "é",
            "a,b",
            "\"a\"",
            &"x".repeat(MAX_TOKEN_BYTES + 1),
        ] {
            assert!(!is_bearer_form(wrong), "{wrong}");
        }
    }
}
