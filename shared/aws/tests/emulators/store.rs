//! The `Store` contract on a table of each rule's own.

use std::sync::Arc;

use agent_identity_aws::{DynamoRows, DynamoStore};
use agent_identity_core::Clock;
use agent_identity_core::Timestamp;
use agent_identity_core::encoding;
use agent_identity_core::random;
use agent_identity_core::store::{Condition, Consistency, Key, Kind, Query, Store, StoreError, Write};
use agent_identity_testkit::FixedClock;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, ScalarAttributeType,
};

use crate::place::{self, SystemRandom};

fn attribute(name: &str, kind: ScalarAttributeType) -> AttributeDefinition {
    AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build().unwrap()
}

fn key(name: &str, kind: KeyType) -> KeySchemaElement {
    KeySchemaElement::builder().attribute_name(name).key_type(kind).build().unwrap()
}

/// A new table with the schema of `infra/template.yaml`.
pub async fn create_table(endpoint: &str) -> String {
    let table = format!("contract-{}", encoding::hex(&random::bytes::<8>(&SystemRandom)));
    let index = GlobalSecondaryIndex::builder()
        .index_name("due")
        .key_schema(key("ds", KeyType::Hash))
        .key_schema(key("da", KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .unwrap();
    Client::new(&place::config(endpoint))
        .create_table()
        .table_name(&table)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(attribute("pk", ScalarAttributeType::S))
        .attribute_definitions(attribute("sk", ScalarAttributeType::S))
        .attribute_definitions(attribute("ds", ScalarAttributeType::S))
        .attribute_definitions(attribute("da", ScalarAttributeType::N))
        .key_schema(key("pk", KeyType::Hash))
        .key_schema(key("sk", KeyType::Range))
        .global_secondary_indexes(index)
        .send()
        .await
        .unwrap();
    table
}

async fn store(endpoint: String, clock: Arc<dyn Clock>) -> (Arc<dyn Store>, ()) {
    let table = create_table(&endpoint).await;
    (Arc::new(DynamoStore::new(place::connection(&endpoint), table, clock, Arc::new(SystemRandom))), ())
}

/// Amazon's own emulator, of 2020: its transactions have at most ten writes.
mod dynamodb_local {
    agent_identity_testkit::store_contract!(rules: |clock| super::store(crate::place::dynamodb_local(), clock));
    agent_identity_testkit::store_contract!(transfers: |clock| super::store(crate::place::dynamodb_local(), clock));
}

/// moto undoes a cancelled transaction by putting the whole table back, with what others wrote meanwhile.
mod moto {
    agent_identity_testkit::store_contract!(rules: |clock| super::store(crate::place::moto(), clock));
    agent_identity_testkit::store_contract!(hundred_writes: |clock| super::store(crate::place::moto(), clock));
}

/// D16: what the authorizer's role does not allow, its store does not even ask for.
#[tokio::test]
async fn d16_rows_by_their_keys_are_read_and_put_one_at_a_time_and_nothing_else_is_asked_for() {
    let endpoint = place::dynamodb_local();
    let table = create_table(&endpoint).await;
    let clock: Arc<dyn Clock> = Arc::new(FixedClock::default());
    let rows =
        DynamoRows::new(DynamoStore::new(place::connection(&endpoint), table, clock, Arc::new(SystemRandom)));
    let key = |name: &str| Key::single(Kind::JwksCoolDown, name);
    let put = |name: &str| Write::Put {
        key: key(name),
        condition: Condition::Absent,
        expires_at: None,
        due: None,
        bytes: b"x".to_vec(),
    };
    rows.write(vec![put("a")]).await.unwrap();
    assert!(matches!(rows.write(vec![put("a")]).await, Err(StoreError::Conflict(0))));
    assert_eq!(rows.get(&key("a"), Consistency::Strong).await.unwrap().unwrap().bytes, b"x");
    let both = rows.batch_get(&[key("b"), key("a")], Consistency::Strong).await.unwrap();
    assert!(both[0].is_none() && both[1].is_some());

    let refused = |outcome: Result<(), StoreError>| assert!(matches!(outcome, Err(StoreError::Failed(_))));
    refused(rows.write(vec![put("b"), put("c")]).await);
    refused(rows.write(vec![Write::Delete { key: key("a"), version: 1 }]).await);
    let query = Query { kind: Kind::JwksCoolDown, partition: "a".to_owned(), after: None, limit: 1 };
    refused(rows.query(query).await.map(drop));
    refused(rows.due(0, Timestamp::EPOCH, 1).await.map(drop));
    assert!(rows.get(&key("b"), Consistency::Strong).await.unwrap().is_none());
}
