//! Project Wycheproof's vectors for JWS and JWK (`tests/vectors/wycheproof`). Their payloads are no claims, so they are held against
//! what comes before claims: structure, header, key and signature.

use std::collections::BTreeSet;

use agent_identity_core::issuer::TokenRefused;
use serde_json::Value;

use super::super::{Compact, Header};
use super::support::{ISSUER, Setting};

const SIGNATURES: &str = "json_web_signature_test";
const KEYS: &str = "json_web_key_test";
const COMBINED: &str = "json_web_crypto_test";

/// What the vectors call valid and we refuse: by which code, and why that is right. There is nothing that they call invalid and we
/// accept.
const DEVIATIONS: [(&str, &[u64], &str, &str); 8] = [
    (
        SIGNATURES,
        &[1, 348, 352, 357, 358, 359, 376, 377],
        "algorithm",
        "HMAC: no key that is published may be one (RFC 8725 §3.5)",
    ),
    (KEYS, &[2, 13, 14, 15], "algorithm", "HMAC"),
    (COMBINED, &[1, 48], "algorithm", "HMAC"),
    (
        SIGNATURES,
        &[347, 351],
        "algorithm",
        "ES512 on P-521 is not offered; the key's own `ES521` is no algorithm either",
    ),
    (
        SIGNATURES,
        &[346, 350],
        "key_algorithm",
        "PS384 with a key that says PS256: a key is for one algorithm (RFC 8725 §3.1)",
    ),
    (
        SIGNATURES,
        &[263, 267, 271, 275, 323, 328],
        "encoding",
        "the payload is not UTF-8, which claims are (RFC 7519 §7.2)",
    ),
    (
        SIGNATURES,
        &[372, 373],
        "encoding",
        "a character outside the alphabet, which RFC 7515 §2 does not let one skip",
    ),
    (COMBINED, &[50, 67], "structure", "a JWE: tokens of users are signed, not encrypted"),
];

/// What the vectors call valid and we accept: so many that the rest proves something.
const ACCEPTED: usize = 29;

async fn verdict(keys: &[Value], token: &str) -> Result<(), &'static str> {
    let setting = Setting::new();
    setting.origin.publish(ISSUER, keys);
    let code = |refusal: TokenRefused| match refusal {
        TokenRefused::Invalid { code, .. } => code,
        _ => "keys",
    };
    let token = Compact::parse(token).map_err(code)?;
    let header = Header::parse(&token.header).map_err(code)?;
    setting.verifier.verify_signature(&token, &header, ISSUER, true, true).await.map_err(code)
}

fn groups(file: &str) -> Vec<Value> {
    let path = format!("{}/../../tests/vectors/wycheproof/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let mut vectors: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    std::mem::take(vectors["testGroups"].as_array_mut().unwrap())
}

/// What an issuer would publish; an HMAC key has nothing but its secret.
fn published(group: &Value) -> Vec<Value> {
    let key = group.get("public").or_else(|| group.get("private")).unwrap();
    key.get("keys").map_or_else(|| vec![key.clone()], |keys| keys.as_array().unwrap().clone())
}

/// As the vector has it: in the JSON serialisation where it is not a text.
fn token(test: &Value) -> String {
    let token = test.get("jws").or_else(|| test.get("jwe")).unwrap();
    token.as_str().map_or_else(|| token.to_string(), str::to_owned)
}

#[tokio::test]
async fn every_vector_has_wycheproofs_verdict_or_a_reason() {
    let mut expected = BTreeSet::new();
    for (file, vectors, code, _why) in DEVIATIONS {
        expected.extend(vectors.iter().map(|vector| (file, *vector, code)));
    }
    let (mut deviations, mut accepted, mut refused) = (BTreeSet::new(), 0, 0);
    for file in [SIGNATURES, KEYS, COMBINED] {
        for group in groups(file) {
            for test in group["tests"].as_array().unwrap() {
                let number = test["tcId"].as_u64().unwrap();
                match (test["result"].as_str().unwrap(), verdict(&published(&group), &token(test)).await) {
                    ("valid", Ok(())) => accepted += 1,
                    ("valid", Err(code)) => drop(deviations.insert((file, number, code))),
                    ("invalid", Err(_)) => refused += 1,
                    other => panic!("{file} {number} {}: {other:?}", test["comment"]),
                }
            }
        }
    }
    assert_eq!(deviations, expected);
    assert_eq!((accepted, refused), (ACCEPTED, 401 + 26 + 83 - ACCEPTED - expected.len()));
}
