//! Random 128-bit ids. Everything inside refers to ids; names are only looked up (D9).

use std::fmt;
use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::encoding;
use crate::random::{self, Random};

/// A random 128-bit id of a `T`, new at each create, so that recreating a name inherits nothing (D9).
/// Its text form is 32 lower-case hexadecimal digits.
pub struct Id<T> {
    bytes: [u8; 16],
    of: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    /// A fresh id.
    pub fn random(random: &dyn Random) -> Self {
        Self::from_bytes(random::bytes(random))
    }

    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self { bytes, of: PhantomData }
    }

    /// The id's bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.bytes
    }

    /// The id with this text form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self::from_bytes(encoding::unhex(text)?.try_into().ok()?))
    }

    /// The hyphenated form of a UUID, for URLs that AWS builds from one.
    pub fn hyphenated(&self) -> String {
        let hex = self.to_string();
        let part = |from, to| hex.get(from..to).unwrap_or_default();
        format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
    }

    /// The id with this hyphenated form; `None` for anything else.
    pub fn parse_hyphenated(text: &str) -> Option<Self> {
        let id = Self::parse(&text.replace('-', ""))?;
        (id.hyphenated() == text).then_some(id)
    }
}

impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encoding::hex(&self.bytes))
    }
}

impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Id<T> {}

impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl<T> Eq for Id<T> {}

impl<T> std::hash::Hash for Id<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.bytes.hash(state);
    }
}

impl<T> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, T> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("an id is 32 lower-case hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_text_forms_round_trip_and_nothing_else_parses() {
        let id = Id::<()>::from_bytes([0xab; 16]);
        assert_eq!(Id::parse(&id.to_string()), Some(id));
        assert_eq!(Id::parse_hyphenated(&id.hyphenated()), Some(id));
        assert_eq!(Id::<()>::parse_hyphenated(&id.to_string()), None);
        assert_eq!(Id::<()>::parse(&id.hyphenated()), None);
        assert_eq!(Id::<()>::parse("ab"), None);
    }

    proptest::proptest! {
        #[test]
        fn whatever_parses_has_exactly_one_text_in_each_form(bytes: [u8; 16], text in "[0-9a-fA-F-]{30,38}|\\PC{0,40}") {
            let id = Id::<()>::from_bytes(bytes);
            proptest::prop_assert_eq!(Id::parse(&id.to_string()), Some(id));
            proptest::prop_assert_eq!(Id::parse_hyphenated(&id.hyphenated()), Some(id));
            proptest::prop_assert!(Id::<()>::parse(&text).is_none_or(|id| id.to_string() == text));
            proptest::prop_assert!(Id::<()>::parse_hyphenated(&text).is_none_or(|id| id.hyphenated() == text));
        }
    }
}
