//! The keys of one issuer at one time.

use std::sync::Arc;

use agent_identity_core::issuer::Algorithm;
use serde::Deserialize;

use super::jwk::{Jwk, VerificationKey};

/// Most keys in a set.
const MAX_KEYS: usize = 100;

/// The usable keys of a JWK set.
#[derive(Clone)]
pub(crate) struct KeySet(Vec<Arc<VerificationKey>>);

/// Which key a token needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The header's `kid`, if any.
    pub(crate) kid: Option<&'a str>,
    /// The header's `alg`.
    pub(crate) algorithm: Algorithm,
    /// Whether the issuer's record lists that algorithm.
    pub(crate) named: bool,
}

/// What a set says to a [`Wanted`] key.
pub(crate) enum Lookup {
    /// This one.
    Found(Arc<VerificationKey>),
    /// None has that name, or none fits a token without a name: a newer set may.
    Unknown,
    /// The key of that name is for something else. A newer set would not change that.
    OtherAlgorithm,
    /// Several fit.
    Ambiguous,
}

/// What an issuer publishes, without the members that may not verify here.
pub(super) struct Published {
    /// As they are kept in the store.
    pub(super) jwks: Vec<Jwk>,
    /// As they verify.
    pub(super) keys: KeySet,
}

impl Published {
    /// From a JWK set (RFC 7517 §5). Members that may not verify here are left out.
    pub(super) fn parse(document: &[u8]) -> Result<Self, &'static str> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<serde_json::Value>,
        }
        let Ok(Document { keys }) = serde_json::from_slice(document) else {
            return Err("its key set is not a JWK set");
        };
        Self::of(keys.into_iter().map(|member| serde_json::from_value(member).ok()))
    }

    /// From members, of which `None` is no key at all.
    pub(super) fn of(members: impl ExactSizeIterator<Item = Option<Jwk>>) -> Result<Self, &'static str> {
        if members.len() > MAX_KEYS {
            return Err("its key set has more than 100 keys");
        }
        let usable = members.flatten().filter_map(|jwk| Some((Arc::new(VerificationKey::of(&jwk)?), jwk)));
        let (keys, jwks) = usable.unzip();
        Ok(Self { jwks, keys: KeySet(keys) })
    }
}

impl KeySet {
    /// The key for a token.
    pub(super) fn find(&self, wanted: Wanted<'_>) -> Lookup {
        let named = || self.0.iter().filter(|key| wanted.kid.is_none() || key.kid.as_deref() == wanted.kid);
        let mut fitting = named().filter(|key| key.takes(wanted.algorithm, wanted.named));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Lookup::Found(Arc::clone(key)),
            (Some(_), Some(_)) => Lookup::Ambiguous,
            (None, _) if wanted.kid.is_some() && named().next().is_some() => Lookup::OtherAlgorithm,
            (None, _) => Lookup::Unknown,
        }
    }
}
