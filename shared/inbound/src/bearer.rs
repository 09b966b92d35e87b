//! The token in an `Authorization` header (RFC 6750 §2.1).

use agent_identity_core::Secret;

/// The token of a header `Bearer TOKEN`; `None` for any other header. The scheme has no case (RFC 9110 §11.1).
pub fn bearer_token(header: &str) -> Option<Secret> {
    let (scheme, token) = header.trim_matches(' ').split_once(' ')?;
    let token = token.trim_start_matches(' ');
    // Every byte, also after one that is wrong: so the compiler takes many at once.
    let is_plain =
        token.bytes().fold(true, |is_plain, byte| is_plain & byte.is_ascii_graphic() & (byte != b','));
    let is_token = !token.is_empty() && is_plain;
    (scheme.eq_ignore_ascii_case("bearer") && is_token).then(|| Secret::new(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_header_gives_its_token_and_no_other_header_does() {
        for header in ["Bearer a.b.c", "bearer a.b.c", "BEARER  a.b.c", " Bearer a.b.c "] {
            assert_eq!(bearer_token(header), Some(Secret::new("a.b.c")), "{header}");
        }
        for header in [
            "",
            "Bearer",
            "Bearer ",
            "a.b.c",
            "Basic a.b.c",
            "Bearera.b.c",
            "Bearer a b",
            "Bearer a,Bearer b",
            "Bearer\ta",
        ] {
            assert_eq!(bearer_token(header), None, "{header}");
        }
    }
}
