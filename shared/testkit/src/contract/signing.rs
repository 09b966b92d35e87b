//! The rules of the `SigningKeys` port. Each gets one key for each algorithm, usable by [`PROVIDER`] alone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a contract suite is test code")]

use std::sync::Arc;

use agent_identity_core::ProviderName;
use agent_identity_core::encoding::unbase64url;
use agent_identity_core::port::{SecretError, SigningAlgorithm, SigningKeys};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde_json::Value;

/// The provider that may use the keys (D2).
pub const PROVIDER: &str = "github";

/// All algorithms.
pub const ALGORITHMS: [SigningAlgorithm; 3] =
    [SigningAlgorithm::ES256, SigningAlgorithm::RS256, SigningAlgorithm::PS256];

/// A key that the adapter under test made.
pub struct SigningKey {
    /// Its ARN.
    pub arn: String,
    /// What it signs with.
    pub algorithm: SigningAlgorithm,
    /// Its public half as a JWK (RFC 7517).
    pub public_jwk: Value,
}

/// The keys under test, and whatever must outlive them.
pub struct Keys<K> {
    /// The port.
    pub port: Arc<dyn SigningKeys>,
    /// One key for each of [`ALGORITHMS`] that the keeper under test signs as RFC 7518 says.
    pub keys: Vec<SigningKey>,
    /// Dropped after the rule.
    pub kept: K,
}

impl<K> Keys<K> {
    async fn sign(&self, key: &SigningKey, message: &[u8]) -> Vec<u8> {
        let provider = ProviderName::parse(PROVIDER).unwrap();
        self.port.sign(&key.arn, key.algorithm, message, &provider).await.unwrap()
    }
}

fn verifies(key: &SigningKey, message: &[u8], signature: &[u8]) -> bool {
    let text = |name: &str| key.public_jwk.get(name).and_then(Value::as_str).unwrap();
    let number = |name: &str| unbase64url(text(name)).unwrap();
    let rsa = |parameters| {
        assert_eq!(text("kty"), "RSA");
        let public = RsaPublicKeyComponents { n: number("n"), e: number("e") };
        public.verify(parameters, message, signature).is_ok()
    };
    match key.algorithm {
        SigningAlgorithm::RS256 => rsa(&RSA_PKCS1_2048_8192_SHA256),
        SigningAlgorithm::PS256 => rsa(&RSA_PSS_2048_8192_SHA256),
        SigningAlgorithm::ES256 => {
            assert_eq!((text("kty"), text("crv")), ("EC", "P-256"));
            let point = [vec![4], number("x"), number("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
        }
    }
}

/// For each algorithm, by the public half that the user registers at the provider.
pub async fn a_signature_verifies_with_the_public_half<K>(subject: Keys<K>) {
    assert!(!subject.keys.is_empty());
    for key in &subject.keys {
        let algorithm = key.algorithm;
        let message = b"header.payload";
        let signature = subject.sign(key, message).await;
        assert!(verifies(key, message, &signature), "{algorithm:?}");
        assert!(!verifies(key, b"another", &signature), "{algorithm:?}");
    }
}

/// RFC 7518 §3.4: two numbers of 32 bytes, not DER.
pub async fn an_ecdsa_signature_has_the_fixed_form<K>(subject: Keys<K>) {
    for key in subject.keys.iter().filter(|key| key.algorithm == SigningAlgorithm::ES256) {
        for _ in 0..20 {
            assert_eq!(subject.sign(key, b"message").await.len(), 64);
        }
    }
}

/// The JWK says what it is for and holds nothing private (RFC 7517 §4, RFC 7518 §6).
pub async fn the_public_half_holds_nothing_private<K>(subject: Keys<K>) {
    for key in &subject.keys {
        let jwk = key.public_jwk.as_object().unwrap();
        assert_eq!(jwk.get("alg").and_then(Value::as_str), Some(key.algorithm.as_str()));
        for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k"] {
            assert!(!jwk.contains_key(private), "{private}");
        }
    }
}

/// A key of one curve or of RSA does not sign as the other kind.
pub async fn a_key_does_not_sign_as_another_kind<K>(subject: Keys<K>) {
    let provider = ProviderName::parse(PROVIDER).unwrap();
    let is_ecdsa = |algorithm| algorithm == SigningAlgorithm::ES256;
    for key in &subject.keys {
        for algorithm in ALGORITHMS.into_iter().filter(|it| is_ecdsa(*it) != is_ecdsa(key.algorithm)) {
            let refused = subject.port.sign(&key.arn, algorithm, b"message", &provider).await;
            assert!(matches!(refused, Err(SecretError::Denied(_))), "{algorithm:?} with {:?}", key.algorithm);
        }
    }
}

/// The message names the ARN that was asked for.
pub async fn an_unknown_key_is_named<K>(subject: Keys<K>) {
    let arn = "arn:aws:kms:us-east-1:000000000000:key/00000000-0000-0000-0000-000000000000";
    let provider = ProviderName::parse(PROVIDER).unwrap();
    match subject.port.sign(arn, SigningAlgorithm::ES256, b"message", &provider).await {
        Err(SecretError::NotFound(message)) => assert!(message.contains(arn), "{message}"),
        other => panic!("{:?}", other.map(|_| "a signature")),
    }
}

/// No confused deputy.
pub async fn d2_another_provider_may_not_sign_with_the_key<K>(subject: Keys<K>) {
    let other = ProviderName::parse("gitlab").unwrap();
    for key in &subject.keys {
        let refused = subject.port.sign(&key.arn, key.algorithm, b"message", &other).await;
        assert!(matches!(refused, Err(SecretError::Denied(_))));
    }
}

/// Generates one test for each rule of the `SigningKeys` port. The argument is an expression, evaluated in each test,
/// for a future of [`Keys`].
#[macro_export]
macro_rules! signing_contract {
    ($make:expr) => {
        $crate::signing_contract! { @ $make;
            a_signature_verifies_with_the_public_half
            an_ecdsa_signature_has_the_fixed_form
            the_public_half_holds_nothing_private
            a_key_does_not_sign_as_another_kind
            an_unknown_key_is_named
            d2_another_provider_may_not_sign_with_the_key
        }
    };
    (@ $make:expr; $($rule:ident)*) => {
        $(
            #[test]
            fn $rule() {
                $crate::contract::run_rule($make, $crate::contract::signing::$rule);
            }
        )*
    };
}
