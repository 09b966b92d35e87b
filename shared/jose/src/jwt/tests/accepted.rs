//! Tokens that pass, and what is then said of them.

use agent_identity_core::Timestamp;
use agent_identity_core::issuer::{Algorithm, IssuerPolicy, TrustedIssuer, VerifiedToken};
use serde_json::json;

use super::support::{ISSUER, SUBJECT, Setting, TestKey, claims, claims_with, from_now, record};

#[tokio::test]
async fn a_token_of_a_trusted_issuer_says_who_the_user_is() {
    let setting = Setting::new();
    assert_eq!(
        setting.verify(&setting.key.token(&claims())).await,
        Ok(VerifiedToken {
            issuer: ISSUER.to_owned(),
            subject_claim: "sub".to_owned(),
            subject: SUBJECT.to_owned(),
            expires_at: Timestamp::from_seconds(from_now(600)),
            issued_at: Some(Timestamp::from_seconds(from_now(0))),
            auth_time: None,
        })
    );
}

#[tokio::test]
async fn every_algorithm_verifies() {
    for alg in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "Ed25519"] {
        let setting = Setting::with_key(TestKey::new("k", alg));
        assert!(setting.verify(&setting.key.token(&claims())).await.is_ok(), "{alg}");
    }
}

#[tokio::test]
async fn an_rsa_key_that_names_no_algorithm_is_for_rs256_unless_the_record_names_another() {
    let key = TestKey::new("k", "PS256");
    let setting = Setting::with_key(key);
    let mut jwk = setting.key.jwk();
    jwk.as_object_mut().unwrap().remove("alg");
    setting.origin.publish(ISSUER, &[jwk]);

    let input = super::support::unsigned(r#"{"alg":"RS256","kid":"k"}"#, claims().to_string());
    let signature = setting.key.sign_as("RS256", input.as_bytes());
    let rs256 = format!("{input}.{}", agent_identity_core::encoding::base64url(signature));
    assert!(setting.verify(&rs256).await.is_ok());

    let ps256 = setting.key.token(&claims());
    assert_eq!(setting.refusal(&ps256).await, "key_algorithm");
    let naming = TrustedIssuer { algorithms: vec![Algorithm::PS256], ..record() };
    let policy = IssuerPolicy::Trusted(vec![naming]);
    assert!(setting.verify_under(&ps256, &policy).await.is_ok());
    assert_eq!(setting.verify_under(&rs256, &policy).await, Err("algorithm"));
}

#[tokio::test]
async fn escapes_in_claim_names_and_values_mean_what_json_says() {
    let setting = Setting::new();
    let text = claims().to_string().replace("\"sub\"", r#""\u0073ub""#).replace("agents", r"\u0061gents");
    let token = setting.key.token_of(r#"{"\u0061lg":"ES256","kid":"k\u0031"}"#, text);
    assert_eq!(setting.verify(&token).await.unwrap().subject, SUBJECT);
}

#[tokio::test]
async fn metadata_of_rfc_8414_are_found_where_there_are_none_of_openid() {
    let setting = Setting::new();
    let issuer = "https://as.example/tenant";
    let jwks_uri = format!("{issuer}/keys?p=1");
    setting.origin.page(
        "https://as.example/.well-known/oauth-authorization-server/tenant",
        200,
        json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string(),
    );
    setting.origin.page(&jwks_uri, 200, json!({"keys": [setting.key.jwk()]}).to_string());
    let policy = IssuerPolicy::Trusted(vec![TrustedIssuer { issuer: issuer.to_owned(), ..record() }]);
    let token = setting.key.token(&claims_with(json!({"iss": issuer})));
    assert!(setting.verify_under(&token, &policy).await.is_ok());
}

#[tokio::test]
async fn d25_a_cognito_access_token_passes_by_its_client_since_it_has_no_audience() {
    let setting = Setting::new();
    let token =
        setting.key.token(&claims_with(json!({"aud": null, "client_id": "app", "token_use": "access"})));
    assert_eq!(setting.refusal(&token).await, "audience");
    let by_client = TrustedIssuer { audiences: Vec::new(), clients: vec!["app".to_owned()], ..record() };
    assert!(setting.verify_under(&token, &IssuerPolicy::Trusted(vec![by_client])).await.is_ok());
}

#[tokio::test]
async fn d10_the_claim_that_identifies_the_user_is_the_one_of_the_issuers_record() {
    let setting = Setting::new();
    let entra = TrustedIssuer { subject_claim: "oid".to_owned(), ..record() };
    let other = TrustedIssuer { issuer: "https://other.example".to_owned(), ..record() };
    let policy = IssuerPolicy::Trusted(vec![other, entra]);
    let token = setting.key.token(&claims_with(json!({"oid": "object-id"})));
    let verified = setting.verify_under(&token, &policy).await.unwrap();
    assert_eq!((verified.subject_claim.as_str(), verified.subject.as_str()), ("oid", "object-id"));
    assert_eq!(setting.verify_under(&setting.key.token(&claims()), &policy).await, Err("subject"));
    // What some other issuer's record names may be anything in this issuer's tokens.
    let numeric =
        TrustedIssuer { subject_claim: "uid".to_owned(), issuer: "https://x.example".to_owned(), ..record() };
    for odd in [json!(7), json!(1.5), json!(-1), json!(true), json!({"a": [1]}), json!([[]])] {
        let token = setting.key.token(&claims_with(json!({"uid": odd})));
        let policy = IssuerPolicy::Trusted(vec![numeric.clone(), record()]);
        assert!(setting.verify_under(&token, &policy).await.is_ok());
    }
}

#[tokio::test]
async fn d4_one_of_several_records_of_an_issuer_is_enough() {
    let setting = Setting::new();
    let strict = TrustedIssuer { audiences: vec!["elsewhere".to_owned()], ..record() };
    let policy = IssuerPolicy::Trusted(vec![strict.clone(), record()]);
    assert!(setting.verify_under(&setting.key.token(&claims()), &policy).await.is_ok());
    let policy = IssuerPolicy::Trusted(vec![strict.clone(), strict]);
    assert_eq!(setting.verify_under(&setting.key.token(&claims()), &policy).await, Err("audience"));
}
