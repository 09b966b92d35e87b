//! The key of a provider: signs its tokens, and tells others how to check them.

use std::io;
use std::sync::Arc;

use agent_identity_core::encoding::{base64url, unbase64url};
use agent_identity_core::{Clock, Secret};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// RFC 7518 §3.4.
pub(super) const ALGORITHM: &str = "ES256";
/// The `typ` of access tokens (RFC 9068 §2.1), which no id token has.
pub(super) const ACCESS_TOKEN: &str = "at+jwt";
/// The `typ` of id tokens.
pub(super) const ID_TOKEN: &str = "JWT";

/// A P-256 key that lives as long as the provider.
pub(super) struct SigningKey {
    pair: EcdsaKeyPair,
    id: String,
}

impl SigningKey {
    /// A new key.
    pub fn generate() -> io::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(io::Error::other)?;
        let (x, y) = coordinates(&pair);
        // RFC 7638 §3: the required members, in this order, without spaces.
        let members = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        Ok(Self { id: base64url(digest(&SHA256, members.as_bytes())), pair })
    }

    /// A JWT of type `typ` over `claims`.
    pub fn sign(&self, typ: &str, claims: &Value) -> io::Result<Secret> {
        let header = json!({ "alg": ALGORITHM, "kid": self.id, "typ": typ });
        let signed = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).map_err(io::Error::other)?;
        Ok(Secret::new(format!("{signed}.{}", base64url(signature))))
    }

    /// The key set (RFC 7517 §5).
    pub fn jwks(&self) -> Value {
        let (x, y) = coordinates(&self.pair);
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "x": x, "y": y, "alg": ALGORITHM, "use": "sig", "kid": self.id,
        }] })
    }

    /// What checks the tokens of this key.
    pub fn verifier(&self, issuer: String, clock: Arc<dyn Clock>) -> TokenVerifier {
        TokenVerifier { public_key: self.pair.public_key().as_ref().to_vec(), issuer, clock }
    }
}

/// The public point, base64url. aws-lc gives it uncompressed: 4, x, y.
fn coordinates(pair: &EcdsaKeyPair) -> (String, String) {
    let (x, y) =
        pair.public_key().as_ref().get(1..).unwrap_or_default().split_at_checked(32).unwrap_or_default();
    (base64url(x), base64url(y))
}

/// Checks the access tokens of one provider.
#[derive(Clone)]
pub(in super::super) struct TokenVerifier {
    public_key: Vec<u8>,
    issuer: String,
    clock: Arc<dyn Clock>,
}

/// What an access token says, once it is checked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(in super::super) struct AccessTokenClaims {
    /// Who issued it.
    pub iss: String,
    /// Whom it speaks for: the user, or the client itself.
    pub sub: String,
    /// Which API it is for.
    pub aud: String,
    /// When it ends, in seconds since the epoch.
    pub exp: i64,
    /// What it allows, separated by spaces.
    pub scope: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: String,
}

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in super::super) enum TokenInvalid {
    /// It is not a signed access token at all.
    #[error("the token is malformed")]
    Malformed,
    /// Somebody else signed it, or it was changed.
    #[error("the signature is invalid")]
    Signature,
    /// It is of another issuer.
    #[error("the issuer is unknown")]
    Issuer,
    /// It has ended.
    #[error("the token expired")]
    Expired,
}

impl TokenVerifier {
    /// Checks form, signature, issuer and end; whom it is for and what it allows is for the API to check.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, token: &str) -> Result<AccessTokenClaims, TokenInvalid> {
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenInvalid::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenInvalid::Malformed)?;
        let header: Header = decode(header)?;
        if header.alg != ALGORITHM || header.typ != ACCESS_TOKEN {
            return Err(TokenInvalid::Malformed);
        }
        let signature = unbase64url(signature).ok_or(TokenInvalid::Malformed)?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.public_key)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| TokenInvalid::Signature)?;
        let claims: AccessTokenClaims = decode(claims)?;
        if claims.iss != self.issuer {
            Err(TokenInvalid::Issuer)
        } else if claims.exp <= self.clock.now().as_seconds() {
            Err(TokenInvalid::Expired)
        } else {
            Ok(claims)
        }
    }
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenInvalid> {
    let bytes = unbase64url(part).ok_or(TokenInvalid::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenInvalid::Malformed)
}

#[cfg(test)]
mod tests {
    use agent_identity_core::Timestamp;

    use super::super::tests::TestClock;
    use super::*;

    fn claims(exp: i64) -> Value {
        json!({ "iss": "i", "sub": "ada", "aud": "api", "exp": exp, "scope": "a b" })
    }

    fn check(key: &SigningKey, token: &str) -> Result<AccessTokenClaims, TokenInvalid> {
        key.verifier("i".into(), TestClock::at(Timestamp::from_seconds(100))).verify(token)
    }

    #[test]
    fn a_token_that_has_not_ended_is_accepted() {
        let key = SigningKey::generate().unwrap();
        let token = key.sign(ACCESS_TOKEN, &claims(101)).unwrap();
        assert_eq!(check(&key, token.expose()).unwrap().sub, "ada");
        let token = key.sign(ACCESS_TOKEN, &claims(100)).unwrap();
        assert_eq!(check(&key, token.expose()), Err(TokenInvalid::Expired));
    }

    #[test]
    fn the_published_key_checks_what_the_private_one_signed() {
        let key = SigningKey::generate().unwrap();
        let token = key.sign(ACCESS_TOKEN, &claims(101)).unwrap();
        let (signed, signature) = token.expose().rsplit_once('.').unwrap();
        let jwk = &key.jwks()["keys"][0];
        let mut point = vec![4];
        point.extend(["x", "y"].iter().flat_map(|name| unbase64url(jwk[name].as_str().unwrap()).unwrap()));
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(signed.as_bytes(), &unbase64url(signature).unwrap())
            .unwrap();
    }

    #[test]
    fn a_token_of_another_key_issuer_or_type_is_refused() {
        let (key, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let token = other.sign(ACCESS_TOKEN, &claims(101)).unwrap();
        assert_eq!(check(&key, token.expose()), Err(TokenInvalid::Signature));
        let token = key.sign(ID_TOKEN, &claims(101)).unwrap();
        assert_eq!(check(&key, token.expose()), Err(TokenInvalid::Malformed));
        let mut foreign = claims(101);
        foreign["iss"] = json!("another");
        let token = key.sign(ACCESS_TOKEN, &foreign).unwrap();
        assert_eq!(check(&key, token.expose()), Err(TokenInvalid::Issuer));
    }

    #[test]
    fn a_changed_or_unsigned_token_is_refused() {
        let key = SigningKey::generate().unwrap();
        let token = key.sign(ACCESS_TOKEN, &claims(101)).unwrap();
        let parts: Vec<&str> = token.expose().split('.').collect();
        let forged = base64url(claims(1000).to_string());
        assert_eq!(check(&key, &format!("{}.{forged}.{}", parts[0], parts[2])), Err(TokenInvalid::Signature));
        let none = base64url(json!({ "alg": "none", "typ": ACCESS_TOKEN }).to_string());
        assert_eq!(check(&key, &format!("{none}.{}.", parts[1])), Err(TokenInvalid::Malformed));
        assert_eq!(check(&key, "opaque"), Err(TokenInvalid::Malformed));
    }
}
