use std::collections::BTreeMap;

use agent_identity_core::port::SigningAlgorithm;
use serde_json::json;

use super::*;

fn config(header: &[(&str, &str)], payload: &[(&str, &str)]) -> PrivateKeyJwt {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    PrivateKeyJwt {
        key_arn: "arn:aws:kms:us-east-1:000000000000:key/1".to_owned(),
        algorithm: SigningAlgorithm::ES256,
        header_claims: map(header),
        payload_claims: map(payload),
    }
}

fn signed(config: &PrivateKeyJwt) -> (Value, Value) {
    signed_with(config, None)
}

fn signed_with(config: &PrivateKeyJwt, kid: Option<&str>) -> (Value, Value) {
    let now = Timestamp::from_seconds(1_000);
    let input = signing_input(config, kid, "client", "https://as.example/token", now, "j1");
    let (header, claims) = input.split_once('.').unwrap();
    let part = |text| serde_json::from_slice(&encoding::unbase64url(text).unwrap()).unwrap();
    (part(header), part(claims))
}

#[test]
fn an_assertion_names_client_and_token_endpoint_and_ends_in_five_minutes() {
    let (header, claims) = signed(&config(&[], &[]));
    assert_eq!(header, json!({"alg": "ES256", "typ": "JWT"}));
    assert_eq!(
        claims,
        json!({
            "iss": "client", "sub": "client", "aud": "https://as.example/token", "jti": "j1", "iat": 1000, "exp": 1300
        })
    );
}

#[test]
fn additional_claims_are_added_and_may_name_another_audience() {
    let (header, claims) = signed(&config(&[("kid", "k1")], &[("aud", "https://as.example"), ("x", "y")]));
    assert_eq!(header["kid"], "k1");
    assert_eq!((&claims["aud"], &claims["x"]), (&json!("https://as.example"), &json!("y")));
}

#[test]
fn an_assertion_names_its_key_unless_the_configuration_names_another() {
    assert_eq!(signed_with(&config(&[], &[]), Some("okta")).0["kid"], "okta");
    assert_eq!(signed_with(&config(&[("kid", "registered")], &[]), Some("okta")).0["kid"], "registered");
}

#[test]
fn additional_claims_cannot_replace_what_is_signed_for() {
    let reserved = [("iss", "x"), ("sub", "x"), ("jti", "x"), ("iat", "x"), ("exp", "x"), ("nbf", "x")];
    let (header, claims) = signed(&config(&[("alg", "none"), ("typ", "x")], &reserved));
    assert_eq!((header, claims), signed(&config(&[], &[])));
}

#[test]
fn an_assertion_has_three_parts() {
    assert_eq!(assemble("a.b", &[255, 254]).expose(), "a.b.__4");
}

#[test]
fn the_configuration_decides_on_client_authentication_then_the_vendor_then_the_server() {
    use ClientAuthentication::{Basic, Post, PrivateKeyJwt};
    let server = |methods: &[&str]| Server {
        issuer: None,
        authorization_endpoint: String::new(),
        token_endpoint: "https://as.example/token".to_owned(),
        refresh_endpoint: None,
        revocation_endpoint: None,
        token_endpoint_auth_methods: methods.iter().map(|method| (*method).to_owned()).collect(),
        code_challenge_methods: None,
        iss_parameter: false,
    };
    let choose =
        |configured, vendor, methods: &[&str]| client_authentication(configured, vendor, &server(methods));
    assert_eq!(choose(Some(PrivateKeyJwt), Vendor::Google, &["client_secret_basic"]), PrivateKeyJwt);
    assert_eq!(choose(None, Vendor::Google, &["client_secret_basic"]), Post);
    assert_eq!(choose(None, Vendor::Custom, &["client_secret_post"]), Post);
    assert_eq!(choose(None, Vendor::Custom, &["client_secret_post", "client_secret_basic"]), Basic);
    assert_eq!(choose(None, Vendor::Custom, &["private_key_jwt", "none"]), PrivateKeyJwt);
    assert_eq!(choose(None, Vendor::Custom, &["tls_client_auth"]), Basic);
    assert_eq!(choose(None, Vendor::Custom, &[]), Basic);
}
