//! A sealer with a fixed key, for tests of what seals and not of sealing.

use agent_identity_core::seal::{Context, Key32, Purpose, SealError, Sealer};
use async_trait::async_trait;
use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

const NONCE: usize = 12;

/// Real AES-256-GCM under one fixed key per purpose. It refuses what the real sealer refuses (another purpose, another
/// context, changed bytes), but has neither key versions nor key commitment.
#[derive(Clone, Copy, Debug, Default)]
pub struct TestSealer;

impl TestSealer {
    fn key(purpose: Purpose) -> Key32 {
        let mut key = [7; 32];
        for (to, from) in key.iter_mut().zip(purpose.as_str().bytes()) {
            *to = from;
        }
        Key32::new(key)
    }
}

#[async_trait]
impl Sealer for TestSealer {
    async fn seal(
        &self,
        purpose: Purpose,
        context: &Context,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        Ok(self.seal_with(&Self::key(purpose), context, plaintext))
    }

    async fn open(
        &self,
        purpose: Purpose,
        context: &Context,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.open_with(&Self::key(purpose), context, sealed)
    }

    #[expect(clippy::expect_used, reason = "test code; sealing under a key of the right size does not fail")]
    fn seal_with(&self, key: &Key32, context: &Context, plaintext: &[u8]) -> Vec<u8> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, key.expose()).expect("a key of 32 bytes");
        let mut sealed = plaintext.to_vec();
        let nonce = key
            .seal_in_place_append_tag(Aad::from(context.as_bytes()), &mut sealed)
            .expect("a text that is short enough");
        sealed.splice(0..0, *nonce.as_ref());
        sealed
    }

    fn open_with(
        &self,
        key: &Key32,
        context: &Context,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let broken = |_| SealError::Broken;
        let (nonce, rest) = sealed.split_at_checked(NONCE).ok_or(SealError::Broken)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(broken)?;
        let key = RandomizedNonceKey::new(&AES_256_GCM, key.expose()).map_err(broken)?;
        let mut text = Zeroizing::new(rest.to_vec());
        let length =
            key.open_in_place(nonce, Aad::from(context.as_bytes()), &mut text).map_err(broken)?.len();
        text.truncate(length);
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_sealed_opens_only_for_its_purpose_and_context() {
        let context = Context::new("test", [&b"a"[..]]);
        let sealed = TestSealer.seal(Purpose::Vault, &context, b"text").await.unwrap();
        assert_eq!(*TestSealer.open(Purpose::Vault, &context, &sealed).await.unwrap(), b"text");
        assert!(TestSealer.open(Purpose::Wat, &context, &sealed).await.is_err());
        let other = Context::new("test", [&b"b"[..]]);
        assert!(TestSealer.open(Purpose::Vault, &other, &sealed).await.is_err());
    }
}
