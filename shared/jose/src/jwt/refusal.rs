//! How a refusal is made.

use agent_identity_core::issuer::TokenRefused;

/// A refusal with a stable code. The reason is a fixed text, so that it cannot hold anything of the token.
pub(crate) fn refused(code: &'static str, reason: &'static str) -> TokenRefused {
    TokenRefused::Invalid { code, reason: reason.to_owned() }
}
