//! The canonical form of a request: the text that both sides must arrive at from the same bytes.
//!
//! AWS's rules for every service but S3, as botocore and the JavaScript SDK apply them.

use std::borrow::Cow;

use agent_identity_core::encoding::hex;
use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;

use super::{ALGORITHM, SignedRequest};

/// What the signature is an HMAC of.
pub(super) fn string_to_sign(
    request: &SignedRequest<'_>,
    signed_headers: &[impl AsRef<str>],
    amz_date: &str,
    scope: &str,
) -> String {
    let canonical = canonical_request(request, signed_headers);
    format!("{ALGORITHM}\n{amz_date}\n{scope}\n{}", sha256_hex(&canonical))
}

/// SHA-256 in lower-case hexadecimal.
pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Bytes and not text: header values need not be UTF-8.
fn canonical_request(request: &SignedRequest<'_>, signed_headers: &[impl AsRef<str>]) -> Vec<u8> {
    let mut canonical = Vec::with_capacity(1024);
    let mut line = |parts: &[&[u8]]| {
        for part in parts {
            canonical.extend_from_slice(part);
        }
        canonical.push(b'\n');
    };
    line(&[request.method.as_bytes()]);
    line(&[path(request.raw_path).as_bytes()]);
    line(&[query(request.raw_query.unwrap_or_default()).as_bytes()]);
    let mut names = String::new();
    for name in signed_headers.iter().map(AsRef::as_ref) {
        line(&[name.as_bytes(), b":", &header_value(request.headers, name)]);
        if !names.is_empty() {
            names.push(';');
        }
        names.push_str(name);
    }
    line(&[]);
    line(&[names.as_bytes()]);
    canonical.extend_from_slice(sha256_hex(request.body).as_bytes());
    canonical
}

/// Empty and dot segments removed (RFC 3986 §5.2.4), then percent-encoded *again*: what is on the wire is one encoding,
/// what is signed is two.
fn path(raw: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in raw.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    let mut path = String::with_capacity(raw.len() + 16);
    for segment in &segments {
        path.push('/');
        encode(segment.bytes(), &mut path);
    }
    if segments.is_empty() || raw.ends_with('/') {
        path.push('/');
    }
    path
}

/// The pairs in AWS's percent-encoding, sorted by name and then by value.
fn query(raw: &str) -> String {
    let mut pairs: Vec<(String, String)> = raw
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (recode(name), recode(value))
        })
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

/// One spelling for every byte: reserved ones as `%XX`, unreserved ones as they are. A bare `+` stays a `+`, which is
/// neither `%20` nor `%2B`: whoever decodes the query, in either way, reads what was signed.
fn recode(text: &str) -> String {
    let mut recoded = String::with_capacity(text.len());
    for (index, part) in text.split('+').enumerate() {
        if index > 0 {
            recoded.push('+');
        }
        encode(percent_encoding::percent_decode_str(part), &mut recoded);
    }
    recoded
}

/// Percent-encodes everything but RFC 3986's unreserved characters, in upper case.
fn encode(bytes: impl Iterator<Item = u8>, into: &mut String) {
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push_str(&hex(&[byte]).to_ascii_uppercase());
        }
    }
}

/// All values of a header, trimmed, runs of white space made one space, joined by commas.
fn header_value<'a>(headers: &'a HeaderMap, name: &str) -> Cow<'a, [u8]> {
    let mut values = headers.get_all(name).iter().map(|value| trim_all(value.as_bytes()));
    let first = values.next().unwrap_or_default();
    values.fold(first, |joined, value| {
        let mut joined = joined.into_owned();
        joined.push(b',');
        joined.extend_from_slice(&value);
        Cow::Owned(joined)
    })
}

fn trim_all(value: &[u8]) -> Cow<'_, [u8]> {
    let value = value.trim_ascii();
    let is_plain = |pair: &[u8]| !matches!(pair, [left, right] if is_space(*left) && is_space(*right));
    if value.windows(2).all(is_plain) && !value.contains(&b'\t') {
        return Cow::Borrowed(value);
    }
    let words: Vec<&[u8]> = value.split(|byte| is_space(*byte)).filter(|word| !word.is_empty()).collect();
    Cow::Owned(words.join(&b' '))
}

/// The white space that a header value can hold (RFC 9110 §5.5).
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_path_is_normalised_and_encoded_once_more() {
        for (raw, canonical) in [
            ("/", "/"),
            ("", "/"),
            ("/identities/x", "/identities/x"),
            ("/tags/arn%3Aaws%2Fa", "/tags/arn%253Aaws%252Fa"),
            ("/a:b/~c d", "/a%3Ab/~c%20d"),
            ("//a/./b/../c//", "/a/c/"),
            ("/../a", "/a"),
            ("/a/..", "/"),
            ("/é", "/%C3%A9"),
        ] {
            assert_eq!(path(raw), canonical, "{raw}");
        }
    }

    #[test]
    fn a_query_is_sorted_by_name_and_then_by_value() {
        assert_eq!(query("b=2&a=1&a=0"), "a=0&a=1&b=2");
        assert_eq!(query("a-b=1&a=1"), "a=1&a-b=1");
        assert_eq!(query("flag&x="), "flag=&x=");
        assert_eq!(query(""), "");
    }

    #[test]
    fn two_spellings_of_one_byte_are_one_in_the_query() {
        assert_eq!(query("k=%3a%7e:~"), "k=%3A~%3A~");
        assert_eq!(query("k=a=b"), "k=a%3Db");
        assert_eq!(query("k=100%"), "k=100%25");
    }

    #[test]
    fn a_bare_plus_is_not_a_space_and_not_an_encoded_plus() {
        assert_eq!(query("k=a+b"), "k=a+b");
        assert_eq!(query("k=a%2Bb"), "k=a%2Bb");
        assert_eq!(query("k=a%20b"), "k=a%20b");
    }

    #[test]
    fn header_values_lose_the_spaces_that_mean_nothing() {
        let mut headers = HeaderMap::new();
        headers.append("x-note", HeaderValue::from_static("  two \t words "));
        headers.append("x-note", HeaderValue::from_static("a\tb"));
        headers.append("x-note", HeaderValue::from_static(""));
        assert_eq!(header_value(&headers, "x-note").as_ref(), b"two words,a b,");
    }
}
