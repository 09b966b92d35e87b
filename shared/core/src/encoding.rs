//! The text encodings of bytes, and the one unambiguous framing that hashes and AADs use.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.extend(
            [byte >> 4, byte & 15].into_iter().filter_map(|nibble| char::from_digit(nibble.into(), 16)),
        );
    }
    text
}

/// Bytes from lower-case hexadecimal; `None` for anything else, upper case included, so that one value has one form.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    fn nibble(byte: u8) -> Option<u8> {
        match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        }
    }
    let bytes = text.as_bytes();
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    bytes
        .chunks_exact(2)
        .map(|pair| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        })
        .collect()
}

/// Base64url without padding (RFC 4648 §5).
pub fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Base64 with padding (RFC 4648 §4), for headers: nothing is kept in this form.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// Bytes from base64 with padding; `None` for anything that [`base64()`] does not write.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Bytes from base64url without padding; `None` for padding, white space, or unused bits that are not zero.
pub fn unbase64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Frames `parts` so that no two different lists give the same bytes: each part is preceded by its length as a
/// big-endian `u32`. What is hashed or authenticated is always framed like this (D10, D19).
pub fn length_prefixed<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut framed = Vec::new();
    for part in parts {
        framed.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        framed.extend_from_slice(part);
    }
    framed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_value_has_one_hexadecimal_form() {
        assert_eq!(unhex("0aFF"), None);
        assert_eq!(unhex("0af"), None);
        assert_eq!(unhex("0aff"), Some(vec![10, 255]));
    }

    #[test]
    fn base64url_with_unused_bits_or_padding_is_refused() {
        assert_eq!(unbase64url("AA"), Some(vec![0]));
        assert_eq!(unbase64url("AB"), None);
        assert_eq!(unbase64url("AA=="), None);
    }

    proptest! {
        #[test]
        fn hexadecimal_round_trips(bytes: Vec<u8>) {
            prop_assert_eq!(unhex(&hex(&bytes)), Some(bytes));
        }

        #[test]
        fn different_lists_frame_differently(a: Vec<Vec<u8>>, b: Vec<Vec<u8>>) {
            let frame = |parts: &Vec<Vec<u8>>| length_prefixed(parts.iter().map(Vec::as_slice));
            prop_assert_eq!(frame(&a) == frame(&b), a == b);
        }
    }
}
