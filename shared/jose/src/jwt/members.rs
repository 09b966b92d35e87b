//! Reads JSON objects without choosing between two members of one name: parsers differ on which of them counts, and an
//! attacker could mean one for us and the other for somebody else (RFC 8725 §2.4, RFC 7519 §4).

use std::borrow::Cow;
use std::fmt;

use agent_identity_core::issuer::ClaimValue;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Most members of an object. Nobody's token has so many, and each name is compared with those before it.
const MAX_MEMBERS: usize = 256;

/// What takes the members of an object.
pub(crate) trait Members<'de> {
    /// Takes one member, by reading its value from `map`; `false` when it has no use for it and read nothing.
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Why an object could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is not one JSON object of at most [`MAX_MEMBERS`], or the value of a member that matters has the wrong form.
    Form,
    /// Two members have the same name.
    Duplicate,
}

/// Reads the one JSON object in `text`.
pub(crate) fn read<'de>(text: &'de str, members: &mut impl Members<'de>) -> Result<(), Fault> {
    let mut has_duplicate = false;
    let mut json = serde_json::Deserializer::from_str(text);
    let object = Object { members, has_duplicate: &mut has_duplicate };
    match object.deserialize(&mut json).and_then(|()| json.end()) {
        Ok(()) => Ok(()),
        Err(_) if has_duplicate => Err(Fault::Duplicate),
        Err(_) => Err(Fault::Form),
    }
}

struct Object<'a, M> {
    members: &'a mut M,
    has_duplicate: &'a mut bool,
}

impl<'de, M: Members<'de>> DeserializeSeed<'de> for Object<'_, M> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, M: Members<'de>> Visitor<'de> for Object<'_, M> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        // Ten names are compared before one of them is hashed.
        let mut seen: Vec<Cow<'de, str>> = Vec::with_capacity(16);
        while let Some(Text(name)) = map.next_key_seed(TextSeed)? {
            if seen.contains(&name) {
                *self.has_duplicate = true;
                return Err(A::Error::custom("two members of one name"));
            }
            if seen.len() == MAX_MEMBERS {
                return Err(A::Error::custom("too many members"));
            }
            if !self.members.take(&name, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
            seen.push(name);
        }
        Ok(())
    }
}

/// Text, borrowed from the JSON where it has no escapes.
pub(crate) struct Text<'de>(pub(crate) Cow<'de, str>);

struct TextSeed;

impl<'de> DeserializeSeed<'de> for TextSeed {
    type Value = Text<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Text<'de>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for TextSeed {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        TextSeed.deserialize(deserializer)
    }
}

/// Text, or a list of texts: the forms of `aud` (RFC 7519 §4.1.3), and of the claims with scopes.
pub(crate) enum Texts<'de> {
    One(Cow<'de, str>),
    List(Vec<Cow<'de, str>>),
}

impl Texts<'_> {
    /// All of them.
    pub(crate) fn list(&self) -> &[Cow<'_, str>] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::List(list) => list,
        }
    }

    /// All of them, as they are handed on.
    pub(crate) fn into_list(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text.into_owned()],
            Self::List(list) => list.into_iter().map(Cow::into_owned).collect(),
        }
    }

    /// As scopes: one text is a list of them, separated by spaces (RFC 6749 §3.3).
    pub(crate) fn scopes(&self) -> Vec<String> {
        match self {
            Self::One(text) => text.split(' ').filter(|scope| !scope.is_empty()).map(str::to_owned).collect(),
            Self::List(list) => list.iter().map(|scope| scope.clone().into_owned()).collect(),
        }
    }

    /// As the value of a claim that a rule looks at.
    pub(crate) fn value(&self) -> ClaimValue {
        match self {
            Self::One(text) => ClaimValue::Text(text.clone().into_owned()),
            Self::List(list) => ClaimValue::Texts(list.iter().map(|it| it.clone().into_owned()).collect()),
        }
    }
}

impl<'de> serde::Deserialize<'de> for Texts<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Texts<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Texts<'de>, E> {
                Ok(Texts::One(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Texts<'de>, E> {
                Ok(Texts::One(Cow::Owned(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Texts<'de>, A::Error> {
                let mut texts = Vec::new();
                while let Some(Text(text)) = list.next_element()? {
                    texts.push(text);
                }
                Ok(Texts::List(texts))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Any value, of which texts, lists of texts, and numbers that are not negative matter.
pub(crate) enum AnyValue<'de> {
    Text(Cow<'de, str>),
    Number(f64),
    /// A list of texts and of nothing else.
    Texts(Vec<Cow<'de, str>>),
    Other,
}

impl<'de> serde::Deserialize<'de> for AnyValue<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any { in_list: false })
    }
}

/// Reads any value, and of a list in a list no more than that it is none of texts: depth costs nothing.
struct Any {
    in_list: bool,
}

impl<'de> DeserializeSeed<'de> for Any {
    type Value = AnyValue<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<AnyValue<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = AnyValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<AnyValue<'de>, E> {
        Ok(AnyValue::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<AnyValue<'de>, E> {
        Ok(AnyValue::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, _: bool) -> Result<AnyValue<'de>, E> {
        Ok(AnyValue::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<AnyValue<'de>, E> {
        Ok(AnyValue::Other)
    }

    fn visit_u64<E>(self, number: u64) -> Result<AnyValue<'de>, E> {
        Ok(AnyValue::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<AnyValue<'de>, E> {
        Ok(AnyValue::Number(number))
    }

    fn visit_unit<E>(self) -> Result<AnyValue<'de>, E> {
        Ok(AnyValue::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AnyValue<'de>, A::Error> {
        if self.in_list {
            while list.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(AnyValue::Other);
        }
        let (mut texts, mut has_other) = (Vec::new(), false);
        while let Some(element) = list.next_element_seed(Any { in_list: true })? {
            match element {
                AnyValue::Text(text) => texts.push(text),
                _ => has_other = true,
            }
        }
        Ok(if has_other { AnyValue::Other } else { AnyValue::Texts(texts) })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AnyValue<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(AnyValue::Other)
    }
}
