//! The header of a token (RFC 7515 §4), held to what is allowed here.

use std::borrow::Cow;

use agent_identity_core::issuer::{Algorithm, TokenRefused};
use serde::de::MapAccess;

use super::members::{Fault, Members, Text, read};
use super::refusal::refused;
use crate::keys::{MAX_KID, algorithm};

/// What a header says. `jku`, `jwk`, `x5u`, `x5c` and everything else that would let a token bring its own key is not even
/// read.
pub(super) struct Header<'de> {
    /// The `alg`.
    pub(super) algorithm: Algorithm,
    /// The `kid`: printable ASCII, so that it can be compared and logged by whoever has to.
    pub(super) kid: Option<Cow<'de, str>>,
    /// The `typ`.
    pub(super) typ: Option<Cow<'de, str>>,
}

#[derive(Default)]
struct Raw<'de> {
    alg: Option<Cow<'de, str>>,
    kid: Option<Cow<'de, str>>,
    typ: Option<Cow<'de, str>>,
    cty: Option<Cow<'de, str>>,
    is_critical: bool,
    is_compressed: bool,
}

impl<'de> Members<'de> for Raw<'de> {
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        let slot = match name {
            "alg" => &mut self.alg,
            "kid" => &mut self.kid,
            "typ" => &mut self.typ,
            "cty" => &mut self.cty,
            "crit" | "b64" => {
                self.is_critical = true;
                return Ok(false);
            }
            "zip" => {
                self.is_compressed = true;
                return Ok(false);
            }
            _ => return Ok(false),
        };
        *slot = Some(map.next_value::<Text<'de>>()?.0);
        Ok(true)
    }
}

impl<'de> Header<'de> {
    /// Reads a header.
    pub(super) fn parse(text: &'de str) -> Result<Self, TokenRefused> {
        let mut raw = Raw::default();
        read(text, &mut raw).map_err(|fault| match fault {
            Fault::Form => refused("header", "its header is not a JSON object of the right form"),
            Fault::Duplicate => refused("duplicate_member", "its header has two members of one name"),
        })?;
        if raw.is_critical {
            return Err(refused("critical", "its header has `crit` or `b64`, of which none is supported"));
        }
        if raw.is_compressed {
            return Err(refused("compressed", "its header has `zip`; compressed tokens are not accepted"));
        }
        if raw.cty.is_some_and(|cty| is_type(&cty, "JWT")) {
            return Err(refused("nested", "it holds another JWT; nested tokens are not accepted"));
        }
        if raw.kid.as_ref().is_some_and(|kid| kid.len() > MAX_KID || !kid.bytes().all(is_printable)) {
            return Err(refused("kid", "its `kid` is not 256 printable ASCII characters at most"));
        }
        let algorithm = raw.alg.as_deref().and_then(algorithm).ok_or_else(|| {
            refused(
                "algorithm",
                "its `alg` is none of RS256 to RS512, PS256 to PS512, ES256, ES384 and EdDSA",
            )
        })?;
        Ok(Self { algorithm, kid: raw.kid, typ: raw.typ })
    }
}

fn is_printable(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
}

/// Whether a `typ` or `cty` is this media type: without case, and with or without `application/` (RFC 7515 §4.1.9).
pub(super) fn is_type(value: &str, name: &str) -> bool {
    const PREFIX: &str = "application/";
    fn bare(text: &str) -> &str {
        match text.split_at_checked(PREFIX.len()) {
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case(PREFIX) => rest,
            _ => text,
        }
    }
    bare(value).eq_ignore_ascii_case(bare(name))
}
