//! Authorizers that ask an issuer about tokens: whose secret they keep, and how (ADR 0025).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod world;

use std::sync::Arc;

use agent_identity_core::authorizer::{
    AgentAuthorizers, Authorizer, AuthorizerOptions, Introspection, IntrospectionAuthentication,
    IntrospectionEndpoint, KeyOwner, KeyPurpose,
};
use agent_identity_core::encoding::unbase64url;
use agent_identity_core::error::ErrorKind;
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::record;
use agent_identity_core::seal::{AuthorizerKeys, Key32, KeyWrapper, SealError};
use agent_identity_core::store::Kind;
use agent_identity_core::{Result, Secret, WorkloadName};
use agent_identity_jose::RootedAuthorizerKeys;
use agent_identity_service::authorizer::{DeleteAuthorizer, GetAuthorizer, PutAuthorizer};
use agent_identity_service::{Ports, Services};
use agent_identity_testkit::SeededRandom;
use async_trait::async_trait;
use world::{AGENT, World, refused};

const SECRET: &str = "the-secret-of-the-client";

/// A root key, as the authorizer function has it, or as the control plane does: there it wraps and unwraps nothing.
struct Root {
    unwraps: bool,
}

#[async_trait]
impl KeyWrapper for Root {
    async fn wrap(&self, key: &Key32, context: &[(&str, &str)]) -> Result<Vec<u8>, SealError> {
        Ok([key.expose().as_slice(), format!("{context:?}").as_bytes()].concat())
    }

    async fn unwrap_key(&self, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Key32, SealError> {
        assert!(self.unwraps, "whoever stores an authorizer may not unwrap");
        let (key, rest) = wrapped.split_first_chunk().ok_or(SealError::Broken)?;
        if rest == format!("{context:?}").as_bytes() { Ok(Key32::new(*key)) } else { Err(SealError::Broken) }
    }
}

fn keys(world: &World, unwraps: bool) -> Arc<dyn AuthorizerKeys> {
    let random = world.services.ports().random.clone();
    Arc::new(RootedAuthorizerKeys::new(Arc::new(Root { unwraps }), world.clock.clone(), random))
}

async fn world() -> World {
    let mut world = World::new();
    world.create_workload(AGENT).await;
    let ports = Ports {
        authorizer_keys: Some(keys(&world, false)),
        random: Arc::new(SeededRandom::new(21)),
        ..world.services.ports().clone()
    };
    world.services = Arc::new(Services::new(ports, world.services.config().clone()));
    world
}

fn agent() -> WorkloadName {
    WorkloadName::parse(AGENT).unwrap()
}

fn named(name: &str) -> AuthorizerName {
    AuthorizerName::parse(name).unwrap()
}

fn introspection(secret: Option<&str>) -> Introspection {
    Introspection {
        endpoint: IntrospectionEndpoint::parse("https://idp.example/introspect").unwrap(),
        client_id: "agents".to_owned(),
        client_authentication: IntrospectionAuthentication::Basic,
        client_secret: secret.map(Secret::new),
    }
}

async fn put(world: &World, name: &str, introspection: Option<Introspection>) -> Result<u64> {
    put_in(world, &world.services, name, introspection).await
}

async fn put_in(
    world: &World,
    services: &Services,
    name: &str,
    introspection: Option<Introspection>,
) -> Result<u64> {
    let rules = serde_json::json!({
        "discoveryUrl": "https://idp.example/.well-known/openid-configuration", "allowedClients": ["front-end"],
    });
    let action = PutAuthorizer {
        agent: agent(),
        name: named(name),
        configuration: serde_json::from_value(rules).unwrap(),
        options: AuthorizerOptions { introspection, ..AuthorizerOptions::default() },
    };
    services.put_authorizer(world.admin.authorize(action).unwrap()).await
}

/// The authorizers as they are stored, and the text of their row.
fn stored(world: &World) -> (AgentAuthorizers, String) {
    let row = world.store.rows().into_iter().find(|row| row.key.kind == Kind::Authorizer).unwrap();
    let text = format!(
        "{row:?}{}",
        serde_json::to_string(&record::parse::<AgentAuthorizers>(&row).unwrap().value).unwrap()
    );
    (record::parse(&row).unwrap().value, text)
}

/// What the authorizer function makes of the stored secret.
async fn opened(world: &World, all: &AgentAuthorizers, authorizer: &Authorizer) -> Result<String, SealError> {
    let (introspection, secret) = authorizer.introspects().unwrap();
    let owner = KeyOwner { workload: all.workload, purpose: KeyPurpose::Introspection };
    let context = introspection.context(&authorizer.name);
    let sealed = unbase64url(&secret.sealed).unwrap();
    let opened = keys(world, true).open(owner, &secret.key, &context, &sealed).await?;
    Ok(String::from_utf8(opened.to_vec()).unwrap())
}

#[tokio::test]
async fn the_secret_is_sealed_for_the_authorizer_function_and_given_back_to_nobody() {
    let world = world().await;
    put(&world, "people", Some(introspection(Some(SECRET)))).await.unwrap();
    let (all, text) = stored(&world);
    assert!(!text.contains(SECRET));
    assert_eq!(opened(&world, &all, &all.authorizers[0]).await.unwrap(), SECRET);
    let action = GetAuthorizer { agent: agent(), name: named("people") };
    let got = world.services.get_authorizer(world.admin.authorize(action).unwrap()).await.unwrap();
    assert_eq!(got.options.introspection, Some(introspection(None)));
    assert!(!format!("{got:?}").contains(SECRET));
}

#[tokio::test]
async fn a_change_needs_the_secret_again_and_seals_it_anew() {
    let world = world().await;
    put(&world, "people", Some(introspection(Some(SECRET)))).await.unwrap();
    let before = stored(&world).0.authorizers.remove(0).introspection_secret.unwrap();
    let (kind, text) = refused(put(&world, "people", Some(introspection(None))).await);
    assert_eq!(kind, ErrorKind::Validation);
    assert!(text.contains("options.introspection.clientSecret: is required"), "{text}");
    put(&world, "people", Some(introspection(Some("another-secret")))).await.unwrap();
    let (all, _) = stored(&world);
    let after = all.authorizers[0].introspection_secret.as_ref().unwrap();
    assert!(before.key.id != after.key.id && before.sealed != after.sealed);
    assert_eq!(opened(&world, &all, &all.authorizers[0]).await.unwrap(), "another-secret");
    put(&world, "people", None).await.unwrap();
    assert_eq!(stored(&world).0.authorizers[0].introspection_secret, None);
}

#[tokio::test]
async fn a_token_of_nobody_knows_whom_is_shown_to_one_issuer_alone() {
    let world = world().await;
    put(&world, "people", Some(introspection(Some(SECRET)))).await.unwrap();
    let (kind, text) = refused(put(&world, "others", Some(introspection(Some(SECRET)))).await);
    assert_eq!(kind, ErrorKind::Validation);
    assert!(text.contains("options.introspection") && text.contains("`people`"), "{text}");
    put(&world, "others", None).await.unwrap();
    put(&world, "people", Some(introspection(Some(SECRET)))).await.unwrap();
    let action = DeleteAuthorizer { agent: agent(), name: named("people") };
    world.services.delete_authorizer(world.admin.authorize(action).unwrap()).await.unwrap();
    put(&world, "others", Some(introspection(Some(SECRET)))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_that_come_at_once_are_not_both_stored() {
    for _ in 0..10 {
        let world = Arc::new(world().await);
        let put = |name: &'static str| {
            let world = Arc::clone(&world);
            tokio::spawn(async move { put(&world, name, Some(introspection(Some(SECRET)))).await.is_ok() })
        };
        let (one, other) = (put("one"), put("other"));
        assert!(one.await.unwrap() ^ other.await.unwrap(), "exactly one");
    }
}

#[tokio::test]
async fn without_a_root_key_for_authorizers_it_is_refused() {
    let world = world().await;
    let ports = Ports { authorizer_keys: None, ..world.services.ports().clone() };
    let rootless = Services::new(ports, world.services.config().clone());
    let (kind, text) = refused(put_in(&world, &rootless, "people", Some(introspection(Some(SECRET)))).await);
    assert_eq!(kind, ErrorKind::Validation);
    assert!(text.contains("options.introspection") && text.contains("root key"), "{text}");
    put_in(&world, &rootless, "people", None).await.unwrap();
}
