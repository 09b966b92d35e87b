//! Signing keys: derived from the secret per day, region and service, and kept for the next request.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use agent_identity_core::Secret;
use agent_identity_core::encoding::length_prefixed;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;

use super::TERMINATOR;

/// Enough for every access key of a deployment that signs in a day; beyond that, one key is derived anew per request.
const MAX_CACHED_KEYS: usize = 1024;

/// What a signing key is good for.
#[derive(Clone, Copy)]
pub(super) struct KeyScope<'a> {
    pub secret_access_key: &'a Secret,
    pub day: &'a str,
    pub region: &'a str,
    pub service: &'a str,
}

impl KeyScope<'_> {
    /// The signing key: four HMACs.
    pub fn derive(&self) -> hmac::Key {
        let seed = Secret::new(format!("AWS4{}", self.secret_access_key.expose()));
        let seed = hmac::Key::new(hmac::HMAC_SHA256, seed.expose().as_bytes());
        [self.day, self.region, self.service, TERMINATOR].iter().fold(seed, |key, part| {
            hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref())
        })
    }

    /// The secret is part of it: a key made from another secret is never found under the same access key id.
    fn fingerprint(&self) -> [u8; 32] {
        let mut framed = length_prefixed([
            self.secret_access_key.expose().as_bytes(),
            self.day.as_bytes(),
            self.region.as_bytes(),
            self.service.as_bytes(),
        ]);
        let hash = digest(&SHA256, &framed);
        framed.fill(0);
        hash.as_ref().try_into().unwrap_or_default()
    }
}

/// Signing keys that have proven a signature. Bounded; shared by all requests of a process.
#[derive(Default)]
pub struct SigningKeyCache(Mutex<HashMap<[u8; 32], hmac::Key>>);

impl fmt::Debug for SigningKeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKeyCache")
    }
}

impl SigningKeyCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Calls `proves` with the key for `scope`, and keeps a newly derived key only if it proved something: whoever does
    /// not have the secret cannot fill the cache with regions of their invention.
    pub(super) fn prove(&self, scope: KeyScope<'_>, proves: impl FnOnce(&hmac::Key) -> bool) -> bool {
        let fingerprint = scope.fingerprint();
        let cached = self.lock().get(&fingerprint).cloned();
        if let Some(key) = cached {
            return proves(&key);
        }
        let key = scope.derive();
        let proven = proves(&key);
        if proven {
            let mut keys = self.lock();
            // Keys of past days pile up and are never asked for again: starting over is cheaper than order.
            if keys.len() >= MAX_CACHED_KEYS {
                keys.clear();
            }
            keys.insert(fingerprint, key);
        }
        proven
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], hmac::Key>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope<'a>(secret: &'a Secret, region: &'a str) -> KeyScope<'a> {
        KeyScope { secret_access_key: secret, day: "20150830", region, service: "iam" }
    }

    #[test]
    fn the_key_of_awss_documentation_is_derived() {
        let secret = Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        let key = scope(&secret, "us-east-1").derive();
        let expected = "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9";
        let expected =
            hmac::Key::new(hmac::HMAC_SHA256, &agent_identity_core::encoding::unhex(expected).unwrap());
        assert_eq!(hmac::sign(&key, b"x").as_ref(), hmac::sign(&expected, b"x").as_ref());
    }

    #[test]
    fn a_key_is_kept_only_when_it_proved_something() {
        let (cache, secret) = (SigningKeyCache::new(), Secret::new("s"));
        assert!(!cache.prove(scope(&secret, "made-up"), |_| false));
        assert_eq!(cache.lock().len(), 0);
        assert!(cache.prove(scope(&secret, "us-east-1"), |_| true));
        assert!(cache.prove(scope(&secret, "us-east-1"), |_| true));
        assert_eq!(cache.lock().len(), 1);
    }

    #[test]
    fn another_secret_never_finds_a_cached_key() {
        let (cache, right, wrong) = (SigningKeyCache::new(), Secret::new("right"), Secret::new("wrong"));
        let expected = hmac::sign(&scope(&right, "r").derive(), b"text");
        let proves = |key: &hmac::Key| hmac::verify(key, b"text", expected.as_ref()).is_ok();
        assert!(cache.prove(scope(&right, "r"), proves));
        assert!(!cache.prove(scope(&wrong, "r"), proves));
    }

    #[test]
    fn the_cache_does_not_grow_without_end() {
        let (cache, secret) = (SigningKeyCache::new(), Secret::new("s"));
        for number in 0..=MAX_CACHED_KEYS {
            cache.prove(scope(&secret, &number.to_string()), |_| true);
        }
        assert!(cache.lock().len() <= MAX_CACHED_KEYS);
    }
}
