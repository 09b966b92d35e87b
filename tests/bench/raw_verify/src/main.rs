//! Verifies one signature so many times, with a key that is parsed once: what a decision on a token costs at the least.
//!
//! `raw-verify ALGORITHM TIMES KEY MESSAGE SIGNATURE`: the last three are files. A key is what aws-lc parses: PKCS #1 for RS256, the
//! uncompressed point for ES256, the 32 bytes for EdDSA.

use std::fs::read;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, VerificationAlgorithm,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [algorithm, times, key, message, signature] = arguments.as_slice() else {
        return Err("usage: raw-verify ALGORITHM TIMES KEY MESSAGE SIGNATURE".into());
    };
    let algorithm: &'static dyn VerificationAlgorithm = match algorithm.as_str() {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "ES256" => &ECDSA_P256_SHA256_FIXED,
        "EdDSA" => &ED25519,
        _ => return Err("the algorithm is RS256, ES256 or EdDSA".into()),
    };
    let key = ParsedPublicKey::new(algorithm, read(key)?)?;
    let (message, signature) = (read(message)?, read(signature)?);
    for _ in 0..times.parse()? {
        key.verify_sig(&message, &signature)?;
    }
    Ok(())
}
