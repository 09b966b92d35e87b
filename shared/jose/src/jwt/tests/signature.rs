//! Attacks on the signature and on the choice of the key.

use agent_identity_core::encoding::base64url;
use agent_identity_core::issuer::{Algorithm, IssuerPolicy, TrustedIssuer};
use serde_json::json;

use super::support::{ISSUER, Setting, TestKey, claims, claims_with, record, unsigned};

/// The order of the group of P-256 (FIPS 186-5).
const P256_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

fn with_signature(signature: impl AsRef<[u8]>) -> String {
    let input = unsigned(r#"{"alg":"ES256","kid":"k1"}"#, claims().to_string());
    format!("{input}.{}", base64url(signature))
}

#[tokio::test]
async fn psychic_signatures_are_refused() {
    let setting = Setting::new();
    let (zero, one, n) = ([0; 32], [[0; 31].as_slice(), &[1]].concat(), P256_ORDER);
    let max = [0xff; 32];
    for (r, s) in [
        (&zero[..], &zero[..]),
        (&zero, &one),
        (&one, &zero),
        (&n, &n),
        (&zero, &n),
        (&n, &zero),
        (&n, &one),
        (&one, &n),
        (&max, &max),
        (&one, &one),
    ] {
        assert_eq!(setting.refusal(&with_signature([r, s].concat())).await, "signature");
    }
}

#[tokio::test]
async fn a_signature_of_another_form_or_length_is_refused() {
    let setting = Setting::new();
    let input = unsigned(r#"{"alg":"ES256","kid":"k1"}"#, claims().to_string());
    let good = setting.key.sign(input.as_bytes());
    let der = setting.key.sign_as("DER", input.as_bytes());
    for bad in [
        der,
        good[..63].to_vec(),
        [&good[..], &[0]].concat(),
        [&[0], &good[..]].concat(),
        [&[0; 32], &good[..]].concat(),
        good[..32].to_vec(),
        vec![0],
        vec![0; 4096],
    ] {
        assert_eq!(setting.refusal(&format!("{input}.{}", base64url(bad))).await, "signature");
    }
    assert!(setting.verify(&format!("{input}.{}", base64url(good))).await.is_ok());
}

#[tokio::test]
async fn another_key_of_the_same_name_is_refused() {
    for alg in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        let setting = Setting::with_key(TestKey::new("k1", alg));
        let attacker = TestKey::new("k1", alg);
        assert_eq!(setting.refusal(&attacker.token(&claims())).await, "signature", "{alg}");
    }
}

#[tokio::test]
async fn claims_under_the_signature_of_others_are_refused() {
    let setting = Setting::new();
    let (ours, theirs) =
        (setting.key.token(&claims()), setting.key.token(&claims_with(json!({"sub": "admin"}))));
    let (_, signature) = ours.rsplit_once('.').unwrap();
    let (input, _) = theirs.rsplit_once('.').unwrap();
    assert_eq!(setting.refusal(&format!("{input}.{signature}")).await, "signature");
}

#[tokio::test]
async fn the_key_decides_the_algorithm() {
    let rsa = Setting::with_key(TestKey::new("k1", "RS256"));
    for alg in ["RS384", "RS512", "PS256", "PS384", "PS512"] {
        let input = unsigned(json!({"alg": alg, "kid": "k1"}).to_string(), claims().to_string());
        let token = format!("{input}.{}", base64url(rsa.key.sign_as(alg, input.as_bytes())));
        assert_eq!(rsa.refusal(&token).await, "key_algorithm", "{alg}");
    }
    let ec = Setting::new();
    for alg in ["ES384", "RS256", "EdDSA"] {
        let token = ec.key.token_with_header(&json!({"alg": alg, "kid": "k1"}));
        assert_eq!(ec.refusal(&token).await, "key_algorithm", "{alg}");
    }
    assert_eq!(ec.origin.take_key_requests(), 1, "a newer set would not change that");
}

#[tokio::test]
async fn the_record_may_narrow_the_algorithms() {
    let setting = Setting::new();
    let only_rsa = TrustedIssuer { algorithms: vec![Algorithm::RS256], ..record() };
    let token = setting.key.token(&claims());
    assert_eq!(setting.verify_under(&token, &IssuerPolicy::Trusted(vec![only_rsa])).await, Err("algorithm"));
    assert!(setting.origin.take_requests().is_empty());
}

#[tokio::test]
async fn without_a_kid_exactly_one_key_must_fit() {
    let setting = Setting::new();
    let nameless = setting.key.token_with_header(&json!({"alg": "ES256"}));
    let rsa = TestKey::new("r", "RS256").jwk();
    setting.origin.publish(ISSUER, &[setting.key.jwk(), rsa.clone()]);
    assert!(setting.verify(&nameless).await.is_ok());

    setting.clock.advance_elapsed(crate::FRESH);
    setting.origin.publish(ISSUER, &[setting.key.jwk(), TestKey::new("k2", "ES256").jwk()]);
    assert_eq!(setting.refusal(&nameless).await, "ambiguous_key");

    setting.clock.advance_elapsed(crate::FRESH);
    setting.origin.publish(ISSUER, &[rsa]);
    assert_eq!(setting.refusal(&nameless).await, "unknown_key");
}

#[tokio::test]
async fn two_keys_of_one_name_are_not_chosen_from() {
    let setting = Setting::new();
    setting.origin.publish(ISSUER, &[setting.key.jwk(), TestKey::new("k1", "ES256").jwk()]);
    assert_eq!(setting.refusal(&setting.key.token(&claims())).await, "ambiguous_key");
}

#[tokio::test]
async fn two_issuers_with_one_kid_do_not_vouch_for_each_other() {
    let setting = Setting::new();
    let (other, their_key) = ("https://other.example", TestKey::new("k1", "ES256"));
    setting.origin.publish(other, &[their_key.jwk()]);
    let policy =
        IssuerPolicy::Trusted(vec![record(), TrustedIssuer { issuer: other.to_owned(), ..record() }]);
    let as_other = claims_with(json!({"iss": other}));
    assert!(setting.verify_under(&setting.key.token(&claims()), &policy).await.is_ok());
    assert!(setting.verify_under(&their_key.token(&as_other), &policy).await.is_ok());
    assert_eq!(setting.verify_under(&their_key.token(&claims()), &policy).await, Err("signature"));
    assert_eq!(setting.verify_under(&setting.key.token(&as_other), &policy).await, Err("signature"));
}
