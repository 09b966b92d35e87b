//! Workload access tokens that an authorizer has issued (D16): good for its workload alone, for its user, and as long as the
//! authorizer is there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use agent_identity_core::authorizer::{AgentAuthorizers, AuthorizerOptions};
use agent_identity_core::encoding::{base64url, unbase64url};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::record;
use agent_identity_core::seal::{Key32, KeyWrapper, SealError};
use agent_identity_core::store::{Kind, ReadAhead};
use agent_identity_core::tag::Tags;
use agent_identity_core::{Result, Secret, WorkloadName};
use agent_identity_inbound::{AuthorizeRequest, Minting, Outcome};
use agent_identity_jose::RootedAuthorizerKeys;
use agent_identity_service::authorizer::{DeleteAuthorizer, PutAuthorizer};
use agent_identity_service::consent::{CompleteConsent, UserIdentifier};
use agent_identity_service::oauth2_token::Oauth2TokenAnswer;
use agent_identity_service::workload::{CreateWorkload, DeleteWorkload};
use agent_identity_service::{Config, Ports, Services};
use agent_identity_testkit::SeededRandom;
use async_trait::async_trait;
use world::{AGENT, Reply, World, get_from, refused, request};

/// A root key that counts, keeps to its contexts, and can be taken away.
#[derive(Default)]
struct Root {
    asked: AtomicUsize,
    is_down: AtomicBool,
}

fn framed(context: &[(&str, &str)]) -> Vec<u8> {
    format!("{context:?}").into_bytes()
}

#[async_trait]
impl KeyWrapper for Root {
    async fn wrap(&self, key: &Key32, context: &[(&str, &str)]) -> Result<Vec<u8>, SealError> {
        Ok([key.expose().as_slice(), &framed(context)].concat())
    }

    async fn unwrap_key(&self, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Key32, SealError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_down.load(Ordering::SeqCst) {
            return Err(SealError::Busy("test".to_owned()));
        }
        let (key, rest) = wrapped.split_first_chunk().ok_or(SealError::Broken)?;
        if rest == framed(context) { Ok(Key32::new(*key)) } else { Err(SealError::Broken) }
    }
}

/// An authorizer function and a data plane over one store, each with its own memory.
struct Stage {
    world: World,
    root: Arc<Root>,
    authorize: AuthorizeRequest,
    data: Services,
}

fn agent() -> WorkloadName {
    WorkloadName::parse(AGENT).unwrap()
}

fn named(name: &str) -> AuthorizerName {
    AuthorizerName::parse(name).unwrap()
}

impl Stage {
    async fn new() -> Self {
        let mut world = World::with_calendar().await;
        let root = Arc::new(Root::default());
        world.services = Arc::new(Self::process(&world, &root, 11));
        let data = Self::process(&world, &root, 12);
        let ports = world.services.ports();
        let keys = RootedAuthorizerKeys::new(root.clone(), world.clock.clone(), ports.random.clone());
        let minting = Minting { keys: Arc::new(keys), random: ports.random.clone() };
        let store = Arc::new(ReadAhead::new(world.store.clone(), world.clock.clone()));
        let authorize = AuthorizeRequest::new(
            store,
            ports.verifier.clone(),
            ports.digest.clone(),
            world.clock.clone(),
            Vec::new(),
            Some(minting),
        );
        let stage = Self { world, root, authorize, data };
        stage.put("main", true).await.unwrap();
        stage
    }

    fn process(world: &World, root: &Arc<Root>, seed: u64) -> Services {
        let random = Arc::new(SeededRandom::new(seed));
        let keys = RootedAuthorizerKeys::new(root.clone(), world.clock.clone(), random.clone());
        let ports = Ports { authorizer_keys: Some(Arc::new(keys)), random, ..world.services.ports().clone() };
        Services::new(ports, world.services.config().clone())
    }

    async fn put(&self, name: &str, issues: bool) -> Result<u64> {
        self.put_for(agent(), name, issues).await
    }

    async fn put_for(&self, agent: WorkloadName, name: &str, issues: bool) -> Result<u64> {
        let rules = serde_json::json!({
            "discoveryUrl": "https://idp.example/.well-known/openid-configuration", "allowedAudience": ["agents"],
        });
        let action = PutAuthorizer {
            agent,
            name: named(name),
            configuration: serde_json::from_value(rules).unwrap(),
            options: AuthorizerOptions {
                issues_workload_access_token: issues,
                ..AuthorizerOptions::default()
            },
        };
        self.world.services.put_authorizer(self.world.admin.authorize(action).unwrap()).await
    }

    async fn delete(&self, name: &str) {
        let action = DeleteAuthorizer { agent: agent(), name: named(name) };
        self.world.services.delete_authorizer(self.world.admin.authorize(action).unwrap()).await.unwrap();
    }

    fn jwt(&self, user: &str) -> Secret {
        let (now, end) = (self.world.now().as_seconds(), self.world.now().as_seconds() + 3600);
        Secret::new(format!("https://idp.example|{user}|{end}|@{now}|agents"))
    }

    async fn minted_for(&self, agent: &str, user: &str) -> Option<Secret> {
        match self.authorize.authorize(agent, &self.jwt(user)).await {
            Outcome::Allowed(session) => session.workload_token,
            other => panic!("{other:?}"),
        }
    }

    async fn minted(&self, user: &str) -> Secret {
        self.minted_for(AGENT, user).await.unwrap()
    }

    /// What the data plane says of a token: that there is no consent yet, or why it is refused.
    async fn shown(&self, wat: &Secret) -> Result<()> {
        self.data.get_oauth2_token(&self.world.admin, request(wat)).await.map(drop)
    }

    async fn is_refused(&self, wat: &Secret) -> bool {
        match self.shown(wat).await {
            Ok(()) => false,
            Err(error) => error.kind() == ErrorKind::Unauthorized,
        }
    }
}

#[tokio::test]
async fn a_minted_token_is_of_the_same_user_as_one_that_the_data_plane_issues() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let jwt = stage.jwt("ada");
    let ours = world.wat_for_jwt(AGENT, jwt.expose()).await;
    let session = world.consented(request(&ours)).await;
    world.provider.will(Reply::Tokens("first", 3600));
    let complete = CompleteConsent { session, user: UserIdentifier::UserToken(jwt) };
    world.services.complete_consent(&world.admin, complete).await.unwrap();
    let minted = stage.minted("ada").await;
    for process in [&*world.services, &stage.data] {
        let answer = get_from(process, &world.admin, request(&minted)).await.unwrap();
        assert!(matches!(answer, Oauth2TokenAnswer::Token(token) if token.expose() == "access-first"));
    }
    let other = stage.minted("bob").await;
    let answer = world.get(&other).await.unwrap();
    assert!(matches!(answer, Oauth2TokenAnswer::Consent { .. }), "another user has no connection");
}

#[tokio::test]
async fn it_ends_with_its_authorizer_and_a_new_one_of_the_name_does_not_bring_it_back() {
    let stage = Stage::new().await;
    let wat = stage.minted("ada").await;
    assert!(!stage.is_refused(&wat).await);
    stage.put("main", true).await.unwrap();
    assert!(!stage.is_refused(&wat).await, "a change of the rules ends no token");
    stage.delete("main").await;
    assert!(stage.is_refused(&wat).await);
    stage.put("main", true).await.unwrap();
    assert!(stage.is_refused(&wat).await, "a new key");
    stage.world.clock.advance(Duration::from_secs(31));
    assert!(!stage.is_refused(&stage.minted("ada").await).await);
    stage.put("main", false).await.unwrap();
    stage.world.clock.advance(Duration::from_secs(31));
    assert_eq!(stage.minted_for(AGENT, "ada").await, None, "no longer on request");
}

#[tokio::test]
async fn d16_a_key_is_good_for_its_workload_alone() {
    let stage = Stage::new().await;
    let other = WorkloadName::parse("other-agent").unwrap();
    stage.world.create_workload("other-agent").await;
    stage.put_for(other, "main", true).await.unwrap();
    let (ours, theirs) = (stage.minted("ada").await, stage.minted_for("other-agent", "ada").await.unwrap());
    assert!(!stage.is_refused(&ours).await && !stage.is_refused(&theirs).await);
    // The one's sealed claims under the other's name, with either key.
    let bytes = |wat: &Secret| unbase64url(wat.expose()).unwrap();
    let (ours, theirs) = (bytes(&ours), bytes(&theirs));
    let (our_name, their_name) = (18 + AGENT.len(), 18 + "other-agent".len());
    let moved = [&theirs[..their_name], &ours[our_name..]].concat();
    assert!(stage.is_refused(&Secret::new(base64url(moved))).await);
    let mut renamed = ours.clone();
    renamed.splice(17..our_name, theirs[17..their_name].iter().copied());
    assert!(stage.is_refused(&Secret::new(base64url(renamed))).await);
    // A wrapped key that somebody moved to another agent's record unwraps for neither.
    let rows = stage.world.store.rows();
    let mut records: Vec<_> = rows
        .iter()
        .filter(|row| row.key.kind == Kind::Authorizer)
        .map(|row| record::parse::<AgentAuthorizers>(row).unwrap())
        .collect();
    records.sort_by_key(|record| record.key.partition != AGENT);
    let [mine, foreign] = records.as_slice() else { panic!("two agents") };
    let mut changed = mine.value.clone();
    changed.authorizers[0].minting_key.clone_from(&foreign.value.authorizers[0].minting_key);
    let write = mine.replace(&changed, None, None).unwrap();
    stage.world.services.ports().store.write(vec![write]).await.unwrap();
    stage.world.clock.advance(Duration::from_secs(31));
    assert!(matches!(stage.authorize.authorize(AGENT, &stage.jwt("ada")).await, Outcome::Unavailable(_)));
}

#[tokio::test]
async fn every_changed_byte_is_refused() {
    let stage = Stage::new().await;
    let wat = unbase64url(stage.minted("ada").await.expose()).unwrap();
    for place in 0..wat.len() {
        let mut changed = wat.clone();
        changed[place] ^= 1;
        assert!(stage.is_refused(&Secret::new(base64url(changed))).await, "{place}");
    }
    for cut in 0..wat.len() {
        assert!(stage.is_refused(&Secret::new(base64url(&wat[..cut]))).await, "{cut}");
    }
}

#[tokio::test]
async fn a_workload_made_anew_accepts_none_of_before() {
    let stage = Stage::new().await;
    let wat = stage.minted("ada").await;
    let (services, admin) = (&stage.world.services, &stage.world.admin);
    services.delete_workload(admin.authorize(DeleteWorkload { name: agent() }).unwrap()).await.unwrap();
    assert!(stage.is_refused(&wat).await);
    let action = CreateWorkload { name: agent(), return_urls: Vec::new(), tags: Tags::new() };
    services.create_workload(admin.authorize(action).unwrap()).await.unwrap();
    stage.put("main", true).await.unwrap();
    assert!(stage.is_refused(&wat).await);
}

#[tokio::test]
async fn a_root_key_that_does_not_answer_is_nobodys_401() {
    let stage = Stage::new().await;
    stage.root.is_down.store(true, Ordering::SeqCst);
    for _ in 0..50 {
        let outcome = stage.authorize.authorize(AGENT, &stage.jwt("ada")).await;
        assert!(matches!(outcome, Outcome::Unavailable(_)), "{outcome:?}");
    }
    assert_eq!(stage.root.asked.load(Ordering::SeqCst), 1, "one call a second");
    stage.root.is_down.store(false, Ordering::SeqCst);
    stage.world.clock.advance(Duration::from_secs(1));
    let wat = stage.minted("ada").await;
    let asked = stage.root.asked.load(Ordering::SeqCst);
    for _ in 0..50 {
        stage.minted("ada").await;
    }
    assert_eq!(stage.root.asked.load(Ordering::SeqCst), asked, "the key is in memory");
    assert!(!stage.is_refused(&wat).await);
}

#[tokio::test]
async fn without_a_root_key_nothing_is_promised_and_nothing_opens() {
    let stage = Stage::new().await;
    let wat = stage.minted("ada").await;
    let ports = Ports { authorizer_keys: None, ..stage.world.services.ports().clone() };
    let rootless = Services::new(ports, stage.world.services.config().clone());
    let (kind, _) = refused(get_from(&rootless, &stage.world.admin, request(&wat)).await);
    assert_eq!(kind, ErrorKind::Unauthorized);
    let action = PutAuthorizer {
        agent: agent(),
        name: named("main"),
        configuration: serde_json::from_value(serde_json::json!({
            "discoveryUrl": "https://idp.example/.well-known/openid-configuration", "allowedAudience": ["agents"],
        }))
        .unwrap(),
        options: AuthorizerOptions { issues_workload_access_token: true, ..AuthorizerOptions::default() },
    };
    let (kind, message) =
        refused(rootless.put_authorizer(stage.world.admin.authorize(action).unwrap()).await);
    assert_eq!(kind, ErrorKind::Validation);
    assert!(message.contains("AuthorizerMintsWat"), "{message}");
}

#[tokio::test]
async fn a_process_that_remembers_older_authorizers_looks_again() {
    let stage = Stage::new().await;
    let config = Config { record_cache: Duration::from_secs(30), ..stage.world.services.config().clone() };
    let process = Services::new(stage.world.services.ports().clone(), config);
    let shown = async |wat: &Secret| get_from(&process, &stage.world.admin, request(wat)).await;
    shown(&stage.minted("ada").await).await.unwrap();
    stage.delete("main").await;
    stage.put("main", true).await.unwrap();
    stage.world.clock.advance(Duration::from_secs(31));
    shown(&stage.minted("ada").await).await.unwrap();
}
