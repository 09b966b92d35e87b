//! The exact requests, as they go to AWS: an emulator may take what AWS refuses, and the other way round. Each line of
//! `golden.txt` is a call: its target, and its body with members in order.

use std::sync::{Arc, Mutex};

use agent_identity_core::port::{
    Event, Events as _, Party, SecretStore as _, SigningAlgorithm, SigningKeys as _, StoredSecret,
};
use agent_identity_core::provider::SecretReference;
use agent_identity_core::revocation::Upstream;
use agent_identity_core::seal::{Key32, KeyWrapper as _};
use agent_identity_core::store::{Condition, Consistency, Due, Key, Kind, Query, Store as _, Write};
use agent_identity_core::user::UserKey;
use agent_identity_core::{Id, ProviderName, Secret, Timestamp};
use agent_identity_testkit::{FixedClock, SeededRandom};
use aws_smithy_http_client::test_util::infallible_client_fn;
use serde_json::Value;

use crate::{
    AwsConnection, AwsSettings, DynamoStore, EventBridgeEvents, KmsSigningKeys, KmsWrapper, SecretsManager,
    SqsQueue,
};

const KEY: &str = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000";

/// What was sent.
#[derive(Clone, Default)]
struct Sent(Arc<Mutex<Vec<String>>>);

impl Sent {
    /// A connection that notes what is sent and answers with what is made of the target.
    fn connection(&self, answer: fn(&str) -> (u16, &'static str)) -> AwsConnection {
        let sent = Arc::clone(&self.0);
        let http = infallible_client_fn(move |request| {
            let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
            let target = target.unwrap_or_default().to_owned();
            let body: Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            let host = request.uri().host().unwrap();
            sent.lock().unwrap().push(format!("{host} {target} {}", ordered(body)));
            let (status, text) = answer(&target);
            http::Response::builder().status(status).body(text).unwrap()
        });
        let settings =
            AwsSettings::from_environment(|name| (name == "AWS_REGION").then(|| "eu-west-1".to_owned()));
        AwsConnection::with_credentials(settings.unwrap(), http)
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// The same JSON with the members of each object in the order of their names.
fn ordered(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> =
                members.into_iter().map(|(name, value)| (name, ordered(value))).collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(ordered).collect()),
        other => other,
    }
}

fn key(sort: &str) -> Key {
    Key::of(Kind::Connection, "workload#user", sort)
}

fn put(sort: &str, condition: Condition) -> Write {
    Write::Put {
        key: key(sort),
        condition,
        expires_at: Some(Timestamp::from_millis(1_800_000_000_500)),
        due: Some(Due { shard: 7, at: Timestamp::from_millis(1_790_000_000_000) }),
        bytes: b"value".to_vec(),
    }
}

async fn store(sent: &Sent) {
    let connection = sent.connection(|_| (200, "{}"));
    let (clock, random) = (Arc::new(FixedClock::default()), Arc::new(SeededRandom::new(1)));
    let store = DynamoStore::new(connection, "table".to_owned(), clock, random);
    store.get(&key(""), Consistency::Eventual).await.unwrap();
    store.get(&key("a"), Consistency::Strong).await.unwrap();
    store.batch_get(&[key("a"), key("b")], Consistency::Eventual).await.unwrap();
    let query =
        |after| Query { kind: Kind::WorkloadName, partition: "directory".to_owned(), after, limit: 21 };
    store.query(query(None)).await.unwrap();
    store.query(query(Some("agent".to_owned()))).await.unwrap();
    store.due(7, Timestamp::from_millis(1_790_000_000_000), 50).await.unwrap();
    store.write(vec![put("a", Condition::Absent)]).await.unwrap();
    store.write(vec![put("a", Condition::Version(3))]).await.unwrap();
    store.write(vec![Write::Delete { key: key("a"), version: 3 }]).await.unwrap();
    let check = Write::Check { key: key("c"), condition: Condition::Version(1) };
    let delete = Write::Delete { key: key("b"), version: 2 };
    store.write(vec![put("a", Condition::Absent), delete, check]).await.unwrap();
}

async fn secrets(sent: &Sent) {
    let random = Arc::new(SeededRandom::new(1));
    let new = |answer| {
        let prefix = "agent-identity/".to_owned();
        SecretsManager::new(sent.connection(answer), prefix, Some(KEY.to_owned()), random.clone())
    };
    let first = new(|_| (200, r#"{"ARN":"arn:s","VersionStages":["AWSCURRENT"]}"#));
    first.put("vault!default/github-1", &Secret::new("secret")).await.unwrap();
    first.put("vault!default/github-1", &Secret::new("")).await.unwrap();
    let created = new(|target| match target {
        "secretsmanager.PutSecretValue" => (400, r#"{"__type":"ResourceNotFoundException"}"#),
        _ => (200, "{}"),
    });
    assert!(created.put("name", &Secret::new("secret")).await.is_err());
    let version = StoredSecret { arn: "arn:s".to_owned(), version: "v1".to_owned() };
    assert!(first.get(&version).await.is_err());
    first.remove_version(&version).await.unwrap();
    first.delete("arn:s").await.unwrap();
    let reference = SecretReference { secret_id: "theirs".to_owned(), json_key: "k".to_owned() };
    let provider = ProviderName::parse("github").unwrap();
    let theirs = new(|_| {
        (
            200,
            r#"{"ARN":"arn:t","Tags":[{"Key":"agent-identity:provider","Value":"github"}],"SecretString":"{\"k\":\"s\"}"}"#,
        )
    });
    assert_eq!(theirs.get_external(&reference, &provider).await.unwrap(), Secret::new("s"));
}

async fn keys(sent: &Sent) {
    let wrapper = KmsWrapper::new(
        sent.connection(|_| (200, r#"{"CiphertextBlob":"AA=="}"#)),
        KEY.to_owned(),
        Vec::new(),
    );
    let context = [("vault", "default"), ("version", "1"), ("purpose", "wat")];
    wrapper.wrap(&Key32::new([7; 32]), &context).await.unwrap();
    assert!(wrapper.unwrap_key(&[1, 2], &context).await.is_err());
    let tagged = sent.connection(|target| match target {
        "TrentService.ListResourceTags" => {
            (200, r#"{"Tags":[{"TagKey":"agent-identity:provider","TagValue":"github"}],"Truncated":false}"#)
        }
        _ => (200, r#"{"Signature":"AA=="}"#),
    });
    let signing = KmsSigningKeys::new(tagged);
    let provider = ProviderName::parse("github").unwrap();
    signing.sign(KEY, SigningAlgorithm::PS256, b"header.payload", &provider).await.unwrap();
    signing.sign(KEY, SigningAlgorithm::RS256, &[b'a'; 4097], &provider).await.unwrap();
    assert!(signing.sign(KEY, SigningAlgorithm::ES256, b"header.payload", &provider).await.is_err());
}

async fn messages(sent: &Sent) {
    let queue = SqsQueue::new(
        sent.connection(|_| (200, r#"{"Successful":[],"Failed":[]}"#)),
        "https://sqs/queue".to_owned(),
    );
    queue.send((0..11).map(|index| format!("message {index}")).collect()).await.unwrap();
    let events = EventBridgeEvents::new(sent.connection(|_| (200, "{}")), "bus".to_owned());
    let of = Party {
        workload: Id::from_bytes([1; 16]),
        provider: Id::from_bytes([2; 16]),
        user: UserKey::from_digest([3; 32]),
    };
    let at = Timestamp::from_millis(1_790_000_000_500);
    events.emit(Event::NeedsConsent { of, reason: "invalid_grant", at });
    events.emit(Event::Recovered { of, at });
    events.emit(Event::Revoked { of, upstream: Upstream::Unsupported, at });
    events.emit(Event::AboutToEnd { of, ends_at: at.plus(std::time::Duration::from_secs(3600)), at });
    events.emit(Event::ProviderSuspended { provider: of.provider, reason: "invalid_client", at });
    events.flush().await;
    events.flush().await;
}

#[tokio::test]
async fn every_request_is_byte_for_byte_what_it_was() {
    let sent = Sent::default();
    store(&sent).await;
    secrets(&sent).await;
    keys(&sent).await;
    messages(&sent).await;
    let lines = sent.lines().join("\n") + "\n";
    let kept = include_str!("golden.txt");
    if lines != kept {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/golden.txt");
        std::fs::write(path, &lines).unwrap();
        panic!("the requests differ from src/golden.txt; they are in target/golden.txt now");
    }
}
