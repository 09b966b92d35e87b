//! The port for randomness.

/// A cryptographically secure source of random bytes. Seeded only in tests.
pub trait Random: Send + Sync {
    /// Fills `bytes`. Never fails: a system without randomness cannot run this product, and adapters abort there.
    fn fill(&self, bytes: &mut [u8]);
}

/// `N` fresh random bytes.
pub fn bytes<const N: usize>(random: &dyn Random) -> [u8; N] {
    let mut bytes = [0; N];
    random.fill(&mut bytes);
    bytes
}

/// A fresh handle of 256 bits as base64url, for names that must not be guessed (session uris, states, cookies).
pub fn handle(random: &dyn Random) -> String {
    crate::encoding::base64url(bytes::<32>(random))
}
