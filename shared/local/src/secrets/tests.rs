use agent_identity_testkit::contract::secrets::{EXTERNAL, Secrets};
use agent_identity_testkit::{SeededRandom, TestSealer, secrets_contract};
use tempfile::{TempDir, tempdir};

use super::*;

async fn secrets(directory: &TempDir) -> LocalSecrets {
    let place = Place { region: "us-east-1".to_owned(), account: "000000000000".to_owned() };
    let database = Database::open(directory.path()).await.unwrap();
    LocalSecrets::new(database, Arc::new(TestSealer), Arc::new(SeededRandom::new(1)), place)
}

fn name(text: &str) -> LocalName {
    LocalName::parse(text).unwrap()
}

fn provider(text: &str) -> ProviderName {
    ProviderName::parse(text).unwrap()
}

fn reference(secret_id: &str, json_key: &str) -> SecretReference {
    SecretReference { secret_id: secret_id.to_owned(), json_key: json_key.to_owned() }
}

secrets_contract!(async {
    let directory = tempdir().unwrap();
    let secrets = secrets(&directory).await;
    for external in EXTERNAL {
        let providers = Pattern::from(external.provider);
        secrets
            .put_external(&name(external.name), &Secret::new(external.value), Some(&providers))
            .await
            .unwrap();
    }
    Secrets { store: Arc::new(secrets), kept: directory }
});

#[tokio::test]
async fn an_external_secret_is_found_by_its_arn_as_by_its_name() {
    let directory = tempdir().unwrap();
    let secrets = secrets(&directory).await;
    let arn = secrets.put_external(&name("team/key"), &Secret::new(r#"{"k":"v"}"#), None).await.unwrap();
    assert_eq!(arn, "arn:aws:secretsmanager:us-east-1:000000000000:secret:team/key");
    for id in [arn.as_str(), "team/key"] {
        assert_eq!(
            secrets.get_external(&reference(id, "k"), &provider("any")).await.unwrap(),
            Secret::new("v")
        );
    }
}

#[tokio::test]
async fn putting_an_external_secret_again_replaces_value_and_providers() {
    let directory = tempdir().unwrap();
    let secrets = secrets(&directory).await;
    let only = Pattern::from("git*");
    secrets.put_external(&name("a"), &Secret::new("old"), None).await.unwrap();
    secrets.put_external(&name("a"), &Secret::new("new"), Some(&only)).await.unwrap();
    let read = |by| {
        let secrets = &secrets;
        async move { secrets.get_external(&reference("a", ""), &provider(by)).await }
    };
    assert_eq!(read("github").await.unwrap(), Secret::new("new"));
    assert!(matches!(read("slack").await, Err(SecretError::Denied(_))));
}

#[tokio::test]
async fn d2_providers_cannot_be_widened_by_editing_the_database() {
    let directory = tempdir().unwrap();
    let secrets = secrets(&directory).await;
    let only = Pattern::from("github");
    secrets.put_external(&name("a"), &Secret::new("value"), Some(&only)).await.unwrap();
    secrets
        .database
        .write(|connection| {
            connection.execute("UPDATE external_secrets SET providers = NULL", []).map_err(store_error)
        })
        .await
        .unwrap();
    for by in ["slack", "github"] {
        let read = secrets.get_external(&reference("a", ""), &provider(by)).await;
        assert!(matches!(read, Err(SecretError::Failed(_))));
    }
}

#[tokio::test]
async fn a_secret_moved_to_another_row_does_not_open() {
    let directory = tempdir().unwrap();
    let secrets = secrets(&directory).await;
    let (one, two) = (
        secrets.put("one", &Secret::new("1")).await.unwrap(),
        secrets.put("two", &Secret::new("2")).await.unwrap(),
    );
    let (from, to) = (one.clone(), two.clone());
    secrets
        .database
        .write(move |connection| {
            connection
                .execute(
                    "UPDATE secrets SET sealed = (SELECT sealed FROM secrets WHERE arn = ?1) WHERE arn = ?2",
                    [from.arn, to.arn],
                )
                .map_err(store_error)
        })
        .await
        .unwrap();
    assert!(matches!(secrets.get(&two).await, Err(SecretError::Failed(_))));
    assert_eq!(secrets.get(&one).await.unwrap(), Secret::new("1"));
}

#[tokio::test]
async fn no_file_of_the_directory_holds_a_secret_in_clear() {
    let directory = tempdir().unwrap();
    let secrets = secrets(&directory).await;
    secrets.put("managed", &Secret::new("correct horse")).await.unwrap();
    secrets.put_external(&name("external"), &Secret::new("battery staple"), None).await.unwrap();
    for entry in directory.path().read_dir().unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in [&b"correct horse"[..], b"battery staple"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
    }
}
