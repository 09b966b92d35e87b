use agent_identity_testkit::contract::signing::{ALGORITHMS, Keys, PROVIDER, SigningKey};
use agent_identity_testkit::{SeededRandom, TestSealer, signing_contract};
use tempfile::{TempDir, tempdir};

use super::*;

async fn keys(directory: &TempDir) -> LocalSigningKeys {
    let place = Place { region: "us-east-1".to_owned(), account: "000000000000".to_owned() };
    let database = Database::open(directory.path()).await.unwrap();
    LocalSigningKeys::new(database, Arc::new(TestSealer), Arc::new(SeededRandom::new(1)), place)
}

fn name(text: &str) -> LocalName {
    LocalName::parse(text).unwrap()
}

signing_contract!(async {
    let directory = tempdir().unwrap();
    let port = keys(&directory).await;
    let mut made = Vec::new();
    for algorithm in ALGORITHMS {
        let name = name(algorithm.as_str());
        let arn = port.create(&name, algorithm, Some(&PROVIDER.into())).await.unwrap();
        made.push(SigningKey { arn, algorithm, public_jwk: port.public_jwk(&name).await.unwrap() });
    }
    Keys { port: Arc::new(port), keys: made, kept: directory }
});

#[tokio::test]
async fn a_key_has_a_synthetic_arn_and_stands_in_the_list() {
    let directory = tempdir().unwrap();
    let keys = keys(&directory).await;
    let b = keys.create(&name("b"), SigningAlgorithm::ES256, None).await.unwrap();
    let a = keys.create(&name("a"), SigningAlgorithm::ES256, None).await.unwrap();
    assert!(a.starts_with("arn:aws:kms:us-east-1:000000000000:key/"), "{a}");
    let listed: Vec<_> =
        keys.list().await.unwrap().into_iter().map(|entry| (entry.name, entry.arn)).collect();
    assert_eq!(listed, [("a".to_owned(), a), ("b".to_owned(), b)]);
}

#[tokio::test]
async fn a_key_is_known_at_the_provider_as_its_public_half_says() {
    let directory = tempdir().unwrap();
    let keys = keys(&directory).await;
    let arn = keys.create(&name("okta"), SigningAlgorithm::ES256, None).await.unwrap();
    let public = keys.public_jwk(&name("okta")).await.unwrap();
    assert_eq!(keys.key_id(&arn).await.unwrap().as_deref(), public["kid"].as_str());
    assert_eq!(keys.key_id("arn:aws:kms:us-east-1:000000000000:key/none").await.unwrap(), None);
}

#[tokio::test]
async fn one_key_has_one_algorithm() {
    let directory = tempdir().unwrap();
    let keys = keys(&directory).await;
    let arn = keys.create(&name("a"), SigningAlgorithm::RS256, None).await.unwrap();
    let provider = ProviderName::parse("anything").unwrap();
    let refused = keys.sign(&arn, SigningAlgorithm::PS256, b"message", &provider).await;
    assert!(matches!(refused, Err(SecretError::Denied(_))));
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let directory = tempdir().unwrap();
    let keys = keys(&directory).await;
    keys.create(&name("a"), SigningAlgorithm::ES256, None).await.unwrap();
    let public = keys.public_jwk(&name("a")).await.unwrap();
    let again = keys.create(&name("a"), SigningAlgorithm::ES256, None).await;
    assert!(matches!(again, Err(SecretError::Denied(message)) if message.contains("`a`")));
    assert_eq!(keys.public_jwk(&name("a")).await.unwrap(), public);
    assert!(matches!(keys.public_jwk(&name("b")).await, Err(SecretError::NotFound(_))));
}

#[tokio::test]
async fn without_a_pattern_any_provider_may_sign() {
    let directory = tempdir().unwrap();
    let keys = keys(&directory).await;
    let arn = keys.create(&name("a"), SigningAlgorithm::ES256, None).await.unwrap();
    let provider = ProviderName::parse("anything").unwrap();
    assert!(keys.sign(&arn, SigningAlgorithm::ES256, b"message", &provider).await.is_ok());
}

#[tokio::test]
async fn d2_neither_providers_nor_algorithm_can_be_changed_by_editing_the_database() {
    let directory = tempdir().unwrap();
    let keys = keys(&directory).await;
    let arn = keys.create(&name("a"), SigningAlgorithm::RS256, Some(&"github".into())).await.unwrap();
    let provider = ProviderName::parse("github").unwrap();
    assert!(keys.sign(&arn, SigningAlgorithm::RS256, b"message", &provider).await.is_ok());
    for (edit, algorithm) in [
        ("UPDATE signing_keys SET algorithm = 'PS256'", SigningAlgorithm::PS256),
        ("UPDATE signing_keys SET algorithm = 'RS256', providers = NULL", SigningAlgorithm::RS256),
    ] {
        keys.database.write(|connection| connection.execute(edit, []).map_err(store_error)).await.unwrap();
        let refused = keys.sign(&arn, algorithm, b"message", &provider).await;
        assert!(matches!(refused, Err(SecretError::Failed(_))));
    }
}
