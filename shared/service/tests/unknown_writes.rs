//! A write of which nobody says what became of it: a provider and its secret are both there afterwards, or neither.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use agent_identity_core::error::ErrorKind;
use agent_identity_core::{ProviderName, Result, Secret};
use agent_identity_service::Services;
use agent_identity_service::api_key_provider::{
    CreateApiKeyProvider, DeleteApiKeyProvider, GivenSecret, UpdateApiKeyProvider,
};
use world::{AGENT, Trouble, World};

fn name() -> ProviderName {
    ProviderName::parse("weather").unwrap()
}

async fn create(world: &World, services: &Services, key: &str) -> Result<()> {
    let secret = GivenSecret::Managed(Secret::new(key));
    let action = CreateApiKeyProvider { name: name(), secret, tags: BTreeMap::new() };
    services.create_api_key_provider(world.admin.authorize(action).unwrap()).await.map(drop)
}

async fn update(world: &World, services: &Services, key: &str) -> Result<()> {
    let secret = GivenSecret::Managed(Secret::new(key));
    let action = UpdateApiKeyProvider { name: name(), secret };
    services.update_api_key_provider(world.admin.authorize(action).unwrap()).await.map(drop)
}

async fn delete(world: &World, services: &Services) -> Result<()> {
    let action = DeleteApiKeyProvider { name: name() };
    services.delete_api_key_provider(world.admin.authorize(action).unwrap()).await
}

/// The key, as a process that knows nothing yet gives it.
async fn key(world: &World) -> Result<String> {
    let wat = world.wat(AGENT, "ada").await;
    let other = world.another_process(99, &world.clock);
    other.get_api_key(&world.admin, &wat, &name()).await.map(|key| key.expose().to_owned())
}

async fn world_in(trouble: Trouble) -> (World, Arc<Services>, Arc<std::sync::atomic::AtomicUsize>) {
    let world = World::new();
    world.create_workload(AGENT).await;
    let (services, left) = world.process_in_trouble(5, trouble);
    (world, services, left)
}

#[tokio::test]
async fn what_was_made_all_the_same_is_a_success() {
    let (world, services, left) = world_in(Trouble::LostAnswer).await;
    left.store(1, Ordering::SeqCst);
    create(&world, &services, "first").await.unwrap();
    assert_eq!(key(&world).await.unwrap(), "first");
    left.store(1, Ordering::SeqCst);
    update(&world, &services, "second").await.unwrap();
    assert_eq!(key(&world).await.unwrap(), "second");
    assert_eq!(world.secrets.managed_versions(), 1);
    left.store(1, Ordering::SeqCst);
    delete(&world, &services).await.unwrap();
    assert_eq!(world.secrets.managed_versions(), 0);
}

#[tokio::test]
async fn what_was_not_made_leaves_nothing() {
    let (world, services, left) = world_in(Trouble::LostRequest).await;
    left.store(1, Ordering::SeqCst);
    assert_eq!(create(&world, &services, "first").await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(world.secrets.managed_versions(), 0);
    create(&world, &services, "first").await.unwrap();
    left.store(1, Ordering::SeqCst);
    assert_eq!(update(&world, &services, "second").await.unwrap_err().kind(), ErrorKind::Internal);
    left.store(1, Ordering::SeqCst);
    assert_eq!(delete(&world, &services).await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(world.secrets.managed_versions(), 1);
    assert_eq!(key(&world).await.unwrap(), "first");
}

#[tokio::test]
async fn while_nobody_can_say_the_secret_stays() {
    let (world, services, left) = world_in(Trouble::Silence).await;
    left.store(2, Ordering::SeqCst);
    assert_eq!(create(&world, &services, "first").await.unwrap_err().kind(), ErrorKind::Internal);
    left.store(0, Ordering::SeqCst);
    assert_eq!(key(&world).await.unwrap(), "first");
}
