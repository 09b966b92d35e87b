//! One JSON Web Key (RFC 7517): is it a key that may verify, and by which algorithm.

use agent_identity_core::encoding::unbase64url;
use agent_identity_core::issuer::Algorithm;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents, VerificationAlgorithm,
};
use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::aws_lc;
use serde::{Deserialize, Serialize};

use super::roca;

/// Longer ones cannot be named by a token either (in characters).
pub(crate) const MAX_KID: usize = 256;

/// The members that matter. Private ones are here to be noticed, and never written.
#[derive(Deserialize, Serialize)]
pub(super) struct Jwk {
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kid: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_ops: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing)]
    d: Option<serde::de::IgnoredAny>,
    #[serde(skip_serializing)]
    p: Option<serde::de::IgnoredAny>,
}

/// A public key and the algorithms that it may be used with.
pub(crate) struct VerificationKey {
    /// Its name within the issuer's set.
    pub(super) kid: Option<String>,
    pinned: Pinned,
}

/// A key is for one algorithm (RFC 8725 §3.1).
enum Pinned {
    To(Algorithm, Key),
    /// An RSA key that does not say: RS256, the default of OpenID Connect, unless the issuer's record names another.
    Rsa {
        rs256: ParsedPublicKey,
        others: DecodingKey,
    },
}

/// Who verifies with a key.
enum Key {
    /// aws-lc, which has parsed it once: what it works out at an RSA key's first use is a twelfth of each verification otherwise.
    Parsed(ParsedPublicKey),
    /// `jsonwebtoken`, which parses it each time: of the RSA algorithms that issuers hardly use.
    Rarer(DecodingKey),
}

impl Key {
    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Parsed(key) => key.verify_sig(message, signature).is_ok(),
            Self::Rarer(key) => verifies_rarer(key, algorithm, message, signature),
        }
    }
}

/// The provider is named, not looked up: with two of them compiled in, the look-up panics.
fn verifies_rarer(key: &DecodingKey, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
    let Some(algorithm) = rarer(algorithm) else { return false };
    (aws_lc::DEFAULT_PROVIDER.verifier_factory)(&algorithm, key)
        .is_ok_and(|verifier| verifier.verify(message, &signature.to_vec()).is_ok())
}

/// An RSA key that may verify here.
struct RsaKey {
    n: Vec<u8>,
    e: Vec<u8>,
}

impl RsaKey {
    fn parsed(&self) -> Option<ParsedPublicKey> {
        let (n, e) = (&self.n, &self.e);
        RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).ok()
    }

    fn rarer(&self) -> DecodingKey {
        DecodingKey::from_rsa_raw_components(&self.n, &self.e)
    }

    fn pinned(&self, alg: Option<&str>) -> Option<Pinned> {
        // Also of a key for another algorithm: that it can be parsed is asked here, and not at the first token.
        let rs256 = self.parsed()?;
        Some(match alg.map(algorithm) {
            None => Pinned::Rsa { rs256, others: self.rarer() },
            Some(Some(Algorithm::RS256)) => Pinned::To(Algorithm::RS256, Key::Parsed(rs256)),
            Some(named) => {
                let named = named.filter(|named| rarer(*named).is_some())?;
                Pinned::To(named, Key::Rarer(self.rarer()))
            }
        })
    }
}

impl VerificationKey {
    /// The key in this member of a set; `None` when it is not one that may verify here. Such members are passed over
    /// (RFC 7517 §5), so that one odd key does not lock everybody out.
    pub(super) fn of(jwk: &Jwk) -> Option<Self> {
        let is_private = jwk.d.is_some() || jwk.p.is_some();
        let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk.key_ops.as_ref().is_none_or(|operations| operations.iter().any(|it| it == "verify"));
        let can_be_named = jwk.kid.as_ref().is_none_or(|kid| kid.chars().count() <= MAX_KID);
        if is_private || !for_signatures || !can_be_named {
            return None;
        }
        let only = |algorithm| match jwk.alg.as_deref() {
            Some(name) => self::algorithm(name).filter(|named| *named == algorithm),
            None => Some(algorithm),
        };
        let pinned = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", None) => rsa(jwk.n.as_deref()?, jwk.e.as_deref()?)?.pinned(jwk.alg.as_deref())?,
            ("EC", Some("P-256")) => Pinned::To(
                only(Algorithm::ES256)?,
                Key::Parsed(ec(jwk.x.as_deref()?, jwk.y.as_deref()?, 32, &ECDSA_P256_SHA256_FIXED)?),
            ),
            ("EC", Some("P-384")) => Pinned::To(
                only(Algorithm::ES384)?,
                Key::Parsed(ec(jwk.x.as_deref()?, jwk.y.as_deref()?, 48, &ECDSA_P384_SHA384_FIXED)?),
            ),
            ("OKP", Some("Ed25519")) => {
                Pinned::To(only(Algorithm::EdDSA)?, Key::Parsed(ed25519(jwk.x.as_deref()?)?))
            }
            // Above all `oct`: a published key must never become an HMAC key.
            _ => return None,
        };
        Some(Self { kid: jwk.kid.clone(), pinned })
    }

    /// Whether the key may verify this algorithm; `named` says that the issuer's record lists it.
    pub(super) fn takes(&self, algorithm: Algorithm, named: bool) -> bool {
        match self.pinned {
            Pinned::To(only, _) => only == algorithm,
            Pinned::Rsa { .. } => algorithm == Algorithm::RS256 || (named && rarer(algorithm).is_some()),
        }
    }

    /// Whether `signature` is this key's over `message`. The caller has asked the key set for a key that takes `algorithm`; one
    /// that is pinned to another verifies nothing.
    pub(crate) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        match &self.pinned {
            Pinned::To(only, key) => *only == algorithm && key.verifies(algorithm, message, signature),
            Pinned::Rsa { rs256, .. } if algorithm == Algorithm::RS256 => {
                rs256.verify_sig(message, signature).is_ok()
            }
            Pinned::Rsa { others, .. } => verifies_rarer(others, algorithm, message, signature),
        }
    }
}

/// The algorithm of an `alg` value; `None` for all that is not allowed here.
pub(crate) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        // RFC 8037 §3.1, and its fully specified name of RFC 9864 §2.2.
        "EdDSA" | "Ed25519" => Algorithm::EdDSA,
        _ => return None,
    })
}

/// The RSA algorithms besides RS256, as `jsonwebtoken` calls them; `None` for the others.
const fn rarer(algorithm: Algorithm) -> Option<jsonwebtoken::Algorithm> {
    Some(match algorithm {
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::RS256 | Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDSA => return None,
    })
}

/// 2048 to 8192 bits (RFC 7518 §3.3), an odd public exponent from 65537 to 2³² − 1, not of the ROCA generator.
fn rsa(n: &str, e: &str) -> Option<RsaKey> {
    let (n, e) = (unsigned(n)?, unsigned(e)?);
    let bits = n.len() * 8 - usize::try_from(n.first()?.leading_zeros()).ok()?;
    let exponent = match e.as_slice() {
        [a, b, c] => u32::from_be_bytes([0, *a, *b, *c]),
        [a, b, c, d] => u32::from_be_bytes([*a, *b, *c, *d]),
        _ => return None,
    };
    let is_odd = |bytes: &[u8]| bytes.last().is_some_and(|byte| byte & 1 == 1);
    if !(2048..=8192).contains(&bits) || exponent < 65537 || !is_odd(&n) || !is_odd(&e) || roca::is_weak(&n) {
        return None;
    }
    Some(RsaKey { n, e })
}

/// A Base64urlUInt (RFC 7518 §2). The leading zero that some issuers write, though they must not, is dropped.
fn unsigned(text: &str) -> Option<Vec<u8>> {
    let bytes = unbase64url(text)?;
    let from = bytes.iter().position(|byte| *byte != 0)?;
    bytes.get(from..).map(<[u8]>::to_vec)
}

/// A point on the curve, its coordinates in full length (RFC 7518 §6.2.1.2).
fn ec(x: &str, y: &str, length: usize, curve: &'static dyn VerificationAlgorithm) -> Option<ParsedPublicKey> {
    let (x, y) = (unbase64url(x)?, unbase64url(y)?);
    if x.len() != length || y.len() != length {
        return None;
    }
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    ParsedPublicKey::new(curve, &point).ok()
}

fn ed25519(x: &str) -> Option<ParsedPublicKey> {
    let point = unbase64url(x).filter(|point| point.len() == 32)?;
    ParsedPublicKey::new(&ED25519, &point).ok()
}
