//! The three parts of a token in the compact serialization (RFC 7515 §3.1).

use agent_identity_core::encoding::unbase64url;
use agent_identity_core::issuer::{MAX_TOKEN_BYTES, TokenRefused};

use super::refusal::refused;

/// A token, taken apart and decoded, with nothing believed yet.
pub(super) struct Compact<'a> {
    /// The header, as text.
    pub(super) header: String,
    /// The payload, as text.
    pub(super) payload: String,
    /// What is signed: the first two parts as they came.
    pub(super) signing_input: &'a [u8],
    /// The signature as it came; never empty.
    signature: &'a str,
}

impl<'a> Compact<'a> {
    /// Takes `token` apart. Base64url is read strictly, so that one token has one form.
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenRefused> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(refused("too_large", "it has more than 16 KiB"));
        }
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refused("structure", "it is not a signed JWT of three parts"));
        };
        let (signing_input, _) = token.split_at(header.len() + 1 + payload.len());
        let text =
            |bytes| String::from_utf8(bytes).map_err(|_| refused("encoding", "a part of it is not UTF-8"));
        let (header, payload) = (text(decode(header)?)?, text(decode(payload)?)?);
        if signature.is_empty() {
            return Err(refused("signature", "it is not signed"));
        }
        Ok(Self { header, payload, signing_input: signing_input.as_bytes(), signature })
    }

    /// The signature's bytes: the longest part of many tokens, which is not decoded before there is a key for it.
    pub(super) fn signature(&self) -> Result<Vec<u8>, TokenRefused> {
        decode(self.signature)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenRefused> {
    unbase64url(part).ok_or_else(|| refused("encoding", "a part of it is not base64url without padding"))
}
