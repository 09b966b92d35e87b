//! Who a user is, inside: a digest, namespaced by issuer (D10).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::encoding;
use crate::port::Digest;

/// What names a user before hashing (D10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserName {
    /// From a verified JWT.
    Jwt {
        /// The `iss` claim, byte for byte.
        issuer: String,
        /// The claim that identifies the user at this issuer (`sub` unless the issuer's record says otherwise).
        subject_claim: String,
        /// Its value.
        subject: String,
    },
    /// An opaque string that an authorised caller vouches for.
    UserId(String),
}

impl UserName {
    /// How the user is known.
    pub fn key(&self, digest: &dyn Digest) -> UserKey {
        UserKey::from_digest(digest.sha256(&self.framed()))
    }

    /// What is hashed: length-prefixed (kind, issuer, subject claim name, value).
    pub fn framed(&self) -> Vec<u8> {
        let fields: [&[u8]; 4] = match self {
            Self::Jwt { issuer, subject_claim, subject } => {
                [b"jwt", issuer.as_bytes(), subject_claim.as_bytes(), subject.as_bytes()]
            }
            Self::UserId(user_id) => [b"userid", b"", b"", user_id.as_bytes()],
        };
        encoding::length_prefixed(fields)
    }
}

/// SHA-256 of [`UserName::framed`]: how a user is known to keys, rows and comparisons.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserKey([u8; 32]);

impl UserKey {
    /// From the digest.
    pub const fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// The key with this text form, 64 lower-case hexadecimal digits; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(encoding::unhex(text)?.try_into().ok()?))
    }

    /// The digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::hex(&self.0))
    }
}

impl fmt::Debug for UserKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for UserKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for UserKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("a user key is 64 lower-case hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d10_a_user_id_cannot_pass_for_a_jwt_user() {
        let jwt =
            UserName::Jwt { issuer: String::new(), subject_claim: String::new(), subject: "42".to_owned() };
        assert_ne!(jwt.framed(), UserName::UserId("42".to_owned()).framed());
    }

    #[test]
    fn d10_fields_do_not_run_into_each_other() {
        let user = |issuer: &str, subject: &str| UserName::Jwt {
            issuer: issuer.to_owned(),
            subject_claim: "sub".to_owned(),
            subject: subject.to_owned(),
        };
        assert_ne!(user("https://a", "b1").framed(), user("https://ab", "1").framed());
    }
}
