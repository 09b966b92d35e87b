//! The `SecretStore` contract on Secrets Manager, on moto.

use std::sync::Arc;

use agent_identity_aws::SecretsManager;
use agent_identity_core::encoding;
use agent_identity_core::random;
use agent_identity_testkit::contract::secrets::{EXTERNAL, Secrets};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::types::Tag;

use crate::place::{self, SystemRandom};

async fn make() -> Secrets<()> {
    let moto = place::moto();
    let client = Client::new(&place::config(&moto));
    for external in EXTERNAL {
        let tag = Tag::builder().key("agent-identity:provider").value(external.provider).build();
        let made =
            client.create_secret().name(external.name).secret_string(external.value).tags(tag).send().await;
        // The rules share the emulator; what they make themselves has a prefix of its own.
        if let Err(error) = made {
            assert!(error.into_service_error().is_resource_exists_exception());
        }
    }
    let prefix = format!("contract/{}/", encoding::hex(&random::bytes::<8>(&SystemRandom)));
    let store = SecretsManager::new(place::connection(&moto), prefix, None, Arc::new(SystemRandom));
    Secrets { store: Arc::new(store), kept: () }
}

agent_identity_testkit::secrets_contract!(make());
