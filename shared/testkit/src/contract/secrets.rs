//! The rules of the `SecretStore` port. Each gets a fresh store in which the secrets of [`EXTERNAL`] are kept by others.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a contract suite is test code")]

use std::sync::Arc;

use agent_identity_core::port::{SecretError, SecretStore, StoredSecret};
use agent_identity_core::provider::SecretReference;
use agent_identity_core::{ProviderName, Secret};

/// A secret of somebody else that the adapter under test must make before a rule runs.
#[derive(Clone, Copy, Debug)]
pub struct External {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: &'static str,
    /// Which provider may use it (D2).
    pub provider: &'static str,
}

/// Those secrets.
pub const EXTERNAL: [External; 3] = [
    External {
        name: "theirs/json",
        value: r#"{"client_secret":"s3cret","number":7,"empty":""}"#,
        provider: "github",
    },
    External { name: "theirs/text", value: "not json", provider: "github" },
    External { name: "theirs/list", value: r#"["client_secret"]"#, provider: "github" },
];

/// The store under test, and whatever must outlive it.
pub struct Secrets<K> {
    /// The store.
    pub store: Arc<dyn SecretStore>,
    /// Dropped after the rule.
    pub kept: K,
}

impl<K> Secrets<K> {
    async fn put(&self, name: &str, value: &str) -> StoredSecret {
        self.store.put(name, &Secret::new(value)).await.unwrap()
    }

    async fn external(&self, id: &str, json_key: &str, provider: &str) -> Result<Secret, SecretError> {
        let reference = SecretReference { secret_id: id.to_owned(), json_key: json_key.to_owned() };
        self.store.get_external(&reference, &ProviderName::parse(provider).unwrap()).await
    }
}

fn not_found<T>(result: Result<T, SecretError>) -> String {
    match result {
        Err(SecretError::NotFound(message)) => message,
        Err(error) => panic!("another error: {error}"),
        Ok(_) => panic!("it was found"),
    }
}

/// Text of any kind, also none.
pub async fn a_secret_reads_back_as_it_was_stored<K>(subject: Secrets<K>) {
    for (index, value) in ["plain", "", "{\"a\": 1}", "ünïcode\n\u{1d11e}"].into_iter().enumerate() {
        let stored = subject.put(&format!("name-{index}"), value).await;
        assert_eq!(subject.store.get(&stored).await.unwrap(), Secret::new(value));
    }
}

/// Until each is removed by name.
pub async fn earlier_versions_stay_readable_until_they_are_removed<K>(subject: Secrets<K>) {
    let first = subject.put("name", "one").await;
    let second = subject.put("name", "two").await;
    assert_eq!(first.arn, second.arn);
    assert_ne!(first.version, second.version);
    assert_eq!(subject.store.get(&first).await.unwrap(), Secret::new("one"));
    assert_eq!(subject.store.get(&second).await.unwrap(), Secret::new("two"));
    for _ in 0..2 {
        subject.store.remove_version(&first).await.unwrap();
        not_found(subject.store.get(&first).await);
        assert_eq!(subject.store.get(&second).await.unwrap(), Secret::new("two"));
    }
}

/// Nobody else's versions, and of its own only the one named.
pub async fn removing_and_deleting_leave_the_others_alone<K>(subject: Secrets<K>) {
    let (kept, other) = (subject.put("name", "kept").await, subject.put("name2", "other").await);
    let (older, newer) = (subject.put("name", "older").await, subject.put("name", "newer").await);
    subject.store.remove_version(&newer).await.unwrap();
    subject.store.delete(&other.arn).await.unwrap();
    assert_eq!(subject.store.get(&kept).await.unwrap(), Secret::new("kept"));
    assert_eq!(subject.store.get(&older).await.unwrap(), Secret::new("older"));
}

/// With all versions; again is no error.
pub async fn a_deleted_secret_is_gone<K>(subject: Secrets<K>) {
    let (first, second) = (subject.put("name", "one").await, subject.put("name", "two").await);
    subject.store.delete(&first.arn).await.unwrap();
    not_found(subject.store.get(&first).await);
    not_found(subject.store.get(&second).await);
    subject.store.delete(&first.arn).await.unwrap();
}

/// Recreating a name inherits nothing (D9).
pub async fn d9_a_secret_created_again_inherits_no_version<K>(subject: Secrets<K>) {
    let old = subject.put("name", "old").await;
    subject.store.delete(&old.arn).await.unwrap();
    let new = subject.put("name", "new").await;
    assert_ne!(old, new);
    not_found(subject.store.get(&old).await);
    assert_eq!(subject.store.get(&new).await.unwrap(), Secret::new("new"));
}

/// By name, for the provider that its owner named.
pub async fn an_external_secret_is_read_under_its_json_key<K>(subject: Secrets<K>) {
    let secret = subject.external("theirs/json", "client_secret", "github").await.unwrap();
    assert_eq!(secret, Secret::new("s3cret"));
    assert!(subject.external("theirs/json", "empty", "github").await.unwrap().is_empty());
}

/// A secret that is a plain string (D25): an empty key asks for the text itself.
pub async fn d25_without_a_json_key_the_value_is_the_whole_text<K>(subject: Secrets<K>) {
    assert_eq!(subject.external("theirs/text", "", "github").await.unwrap(), Secret::new("not json"));
}

/// The message names what was asked for, and never the value.
pub async fn what_an_external_secret_does_not_hold_is_named<K>(subject: Secrets<K>) {
    assert!(not_found(subject.external("theirs/none", "k", "github").await).contains("theirs/none"));
    for (id, key) in [("theirs/json", "absent"), ("theirs/json", "number"), ("theirs/list", "client_secret")]
    {
        let message = not_found(subject.external(id, key, "github").await);
        assert!(message.contains(id) && message.contains(key), "{message}");
        assert!(!message.contains("s3cret") && !message.contains("not json"), "{message}");
    }
}

/// D25: the wire wants a key, and whoever keeps a secret as plain text has none.
pub async fn d25_a_plain_text_is_the_secret_under_any_key<K>(subject: Secrets<K>) {
    for key in ["client_secret", "anything"] {
        let text = subject.external("theirs/text", key, "github").await.unwrap();
        assert_eq!(text, subject.external("theirs/text", "", "github").await.unwrap());
    }
}

/// No confused deputy: another provider is refused before anything of the secret is told.
pub async fn d2_another_provider_may_not_use_an_external_secret<K>(subject: Secrets<K>) {
    for key in ["client_secret", "absent"] {
        let refused = subject.external("theirs/json", key, "gitlab").await;
        assert!(matches!(&refused, Err(SecretError::Denied(_))), "{refused:?}");
    }
}

/// A provider could otherwise name the managed secret of another.
pub async fn d2_a_managed_secret_is_no_external_one<K>(subject: Secrets<K>) {
    let stored = subject.put("managed", r#"{"client_secret":"s3cret"}"#).await;
    for id in [stored.arn.as_str(), "managed"] {
        let refused = subject.external(id, "client_secret", "github").await;
        assert!(matches!(&refused, Err(SecretError::NotFound(_) | SecretError::Denied(_))), "{refused:?}");
    }
}

/// Generates one test for each rule of the `SecretStore` port. The argument is an expression, evaluated in each test,
/// for a future of [`Secrets`].
#[macro_export]
macro_rules! secrets_contract {
    ($make:expr) => {
        $crate::secrets_contract! { @ $make;
            a_secret_reads_back_as_it_was_stored
            earlier_versions_stay_readable_until_they_are_removed
            removing_and_deleting_leave_the_others_alone
            a_deleted_secret_is_gone
            d9_a_secret_created_again_inherits_no_version
            an_external_secret_is_read_under_its_json_key
            d25_without_a_json_key_the_value_is_the_whole_text
            what_an_external_secret_does_not_hold_is_named
            d25_a_plain_text_is_the_secret_under_any_key
            d2_another_provider_may_not_use_an_external_secret
            d2_a_managed_secret_is_no_external_one
        }
    };
    (@ $make:expr; $($rule:ident)*) => {
        $(
            #[test]
            fn $rule() {
                $crate::contract::run_rule($make, $crate::contract::secrets::$rule);
            }
        )*
    };
}
