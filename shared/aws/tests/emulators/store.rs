//! The `Store` contract on a table of each rule's own.

use std::sync::Arc;

use agent_identity_aws::DynamoStore;
use agent_identity_core::Clock;
use agent_identity_core::encoding;
use agent_identity_core::random;
use agent_identity_core::store::Store;
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
