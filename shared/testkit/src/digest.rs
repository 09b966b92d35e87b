//! SHA-256 as a port.

use agent_identity_core::port::Digest;
use aws_lc_rs::digest;

/// SHA-256 by aws-lc.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sha256;

impl Digest for Sha256 {
    fn sha256(&self, bytes: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        out
    }
}

#[cfg(test)]
mod tests {
    use agent_identity_core::encoding::hex;

    use super::*;

    #[test]
    fn the_digest_of_abc_is_that_of_fips_180_4() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&Sha256.sha256(b"abc")), expected);
    }
}
