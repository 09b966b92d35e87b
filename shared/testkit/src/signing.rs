//! Signing keys where there are none.

use agent_identity_core::ProviderName;
use agent_identity_core::port::{SecretError, SigningAlgorithm, SigningKeys};
use async_trait::async_trait;

/// Holds no key: for tests in which nobody signs.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSigningKeys;

#[async_trait]
impl SigningKeys for NoSigningKeys {
    async fn sign(
        &self,
        key_arn: &str,
        _: SigningAlgorithm,
        _: &[u8],
        _: &ProviderName,
    ) -> Result<Vec<u8>, SecretError> {
        Err(SecretError::NotFound(format!("there is no key {key_arn}")))
    }
}
