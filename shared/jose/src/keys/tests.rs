//! Which members of a key set may verify.

use agent_identity_core::encoding::base64url;
use serde_json::{Value, json};

use super::key_set::Published;

/// A modulus of so many bits: odd, and not of the ROCA generator.
fn modulus(bits: usize) -> Vec<u8> {
    let mut n = vec![0xa7; bits.div_ceil(8)];
    n[0] = 0x80 >> (n.len() * 8 - bits);
    *n.last_mut().unwrap() |= 1;
    n
}

fn rsa(n: &[u8], e: &[u8]) -> Value {
    json!({"kty": "RSA", "kid": "k", "n": base64url(n), "e": base64url(e)})
}

/// The example key of RFC 7517 §A.1.
fn p256() -> Value {
    json!({
        "kty": "EC", "kid": "k", "crv": "P-256",
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
        "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    })
}

/// The example key of RFC 8037 §A.2.
fn ed25519() -> Value {
    json!({"kty": "OKP", "kid": "k", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
}

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

fn usable(keys: &[Value]) -> usize {
    Published::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap().jwks.len()
}

#[test]
fn rsa_keys_of_2048_to_8192_bits_are_usable_and_others_are_not() {
    let e = [1, 0, 1];
    for bits in [2048, 2049, 3072, 4096, 8192] {
        assert_eq!(usable(&[rsa(&modulus(bits), &e)]), 1, "{bits}");
    }
    for bits in [8, 512, 1024, 2047, 8193, 16384] {
        assert_eq!(usable(&[rsa(&modulus(bits), &e)]), 0, "{bits}");
    }
    let mut even = modulus(2048);
    *even.last_mut().unwrap() ^= 1;
    assert_eq!(usable(&[rsa(&even, &e)]), 0);
    assert_eq!(usable(&[rsa(&[&[0], &modulus(2048)[..]].concat(), &e)]), 1, "a leading zero says nothing");
    assert_eq!(usable(&[rsa(&[&[0; 128], &modulus(1024)[..]].concat(), &e)]), 0, "and many of them neither");
    assert_eq!(usable(&[rsa(&[], &e), rsa(&[0], &e), rsa(&[0; 256], &e)]), 0);
}

#[test]
fn rsa_keys_of_the_roca_generator_are_not_usable() {
    let mut weak = super::roca::tests::weak_modulus();
    assert_eq!(usable(&[rsa(&weak, &[1, 0, 1])]), 0);
    *weak.last_mut().unwrap() ^= 2;
    assert_eq!(usable(&[rsa(&weak, &[1, 0, 1])]), 1);
}

#[test]
fn rsa_exponents_are_odd_and_from_65537_to_32_bits() {
    for good in [&[1, 0, 1][..], &[0, 1, 0, 1], &[1, 0, 3], &[0xff, 0xff, 0xff, 0xff]] {
        assert_eq!(usable(&[rsa(&modulus(2048), good)]), 1, "{good:?}");
    }
    for bad in [
        &[][..],
        &[0],
        &[1],
        &[3],
        &[17],
        &[0xff, 0xff],
        &[1, 0, 0],
        &[1, 0, 2],
        &[1, 0, 0, 0, 1],
        &[0xff; 256],
    ] {
        assert_eq!(usable(&[rsa(&modulus(2048), bad)]), 0, "{bad:?}");
    }
}

#[test]
fn only_points_on_the_named_curve_are_usable() {
    assert_eq!(usable(&[p256(), ed25519()]), 2);
    let zero = json!(base64url([0; 32]));
    for bad in [
        with(p256(), "y", p256()["x"].clone()),
        with(with(p256(), "x", zero.clone()), "y", zero.clone()),
        with(p256(), "x", json!(base64url([0xff; 32]))),
        with(p256(), "x", json!(base64url([1; 31]))),
        with(p256(), "x", json!(format!("{}=", p256()["x"].as_str().unwrap()))),
        with(p256(), "x", json!("")),
        with(p256(), "x", Value::Null),
        with(p256(), "crv", json!("P-384")),
        with(p256(), "crv", json!("P-521")),
        with(p256(), "crv", json!("secp256k1")),
        with(p256(), "crv", Value::Null),
        with(p256(), "kty", json!("RSA")),
        with(p256(), "kty", json!("OKP")),
        with(ed25519(), "crv", json!("Ed448")),
        with(ed25519(), "crv", json!("X25519")),
        with(ed25519(), "x", json!(base64url([1; 33]))),
        with(ed25519(), "kty", json!("EC")),
    ] {
        assert_eq!(usable(std::slice::from_ref(&bad)), 0, "{bad}");
    }
}

#[test]
fn keys_for_something_else_are_passed_over() {
    for good in [
        with(p256(), "use", json!("sig")),
        with(p256(), "key_ops", json!(["verify"])),
        with(p256(), "alg", json!("ES256")),
        with(ed25519(), "alg", json!("EdDSA")),
        with(ed25519(), "alg", json!("Ed25519")),
        with(p256(), "x5c", json!(["MIIB"])),
        with(p256(), "kid", Value::Null),
    ] {
        assert_eq!(usable(std::slice::from_ref(&good)), 1, "{good}");
    }
    for bad in [
        with(p256(), "use", json!("enc")),
        with(p256(), "use", json!("")),
        with(p256(), "key_ops", json!([])),
        with(p256(), "key_ops", json!(["sign", "encrypt"])),
        with(p256(), "key_ops", json!("verify")),
        with(p256(), "alg", json!("ES384")),
        with(p256(), "alg", json!("RS256")),
        with(p256(), "alg", json!("HS256")),
        with(p256(), "alg", json!("ECDH-ES")),
        with(p256(), "alg", json!("none")),
        with(rsa(&modulus(2048), &[1, 0, 1]), "alg", json!("RSA-OAEP")),
        with(rsa(&modulus(2048), &[1, 0, 1]), "alg", json!("ES256")),
        with(ed25519(), "alg", json!("ES256")),
        with(p256(), "kid", json!(1)),
        with(p256(), "kid", json!("k".repeat(257))),
    ] {
        assert_eq!(usable(std::slice::from_ref(&bad)), 0, "{bad}");
    }
}

#[test]
fn a_key_published_with_its_private_half_is_not_used() {
    assert_eq!(usable(&[with(p256(), "d", json!("AQ")), with(ed25519(), "d", json!(1))]), 0);
    assert_eq!(usable(&[with(rsa(&modulus(2048), &[1, 0, 1]), "p", json!("AQ"))]), 0);
}

#[test]
fn hmac_keys_and_what_is_no_key_do_not_spoil_the_set() {
    let oct = json!({"kty": "oct", "kid": "k", "k": base64url([1; 32]), "alg": "HS256"});
    let keys = [oct, json!(null), json!(7), json!([]), json!({}), json!({"kty": "unheard-of"}), p256()];
    assert_eq!(usable(&keys), 1);
}

#[test]
fn a_set_has_at_most_100_keys() {
    assert_eq!(usable(&vec![p256(); 100]), 100);
    let large = json!({"keys": vec![p256(); 101]}).to_string();
    assert!(Published::parse(large.as_bytes()).is_err());
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Published::parse(&bytes);
    }

    #[test]
    fn arbitrary_components_never_panic(n: Vec<u8>, e: Vec<u8>, x in "[A-Za-z0-9_-]{0,70}") {
        let _ = usable(&[rsa(&n, &e), with(p256(), "x", json!(x)), with(ed25519(), "x", json!(x))]);
    }
}
