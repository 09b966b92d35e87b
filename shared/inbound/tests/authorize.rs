//! Real tokens of a local issuer against stored authorizers: who passes, what it costs, what happens when parts fail.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_identity_core::authorizer::{AgentAuthorizers, AgentRules, Authorizer};
use agent_identity_core::denial::{UserDenial, UserDenials};
use agent_identity_core::encoding::base64url;
use agent_identity_core::http::{HttpClient, HttpError, HttpRequest, HttpResponse};
use agent_identity_core::issuer::TrustedIssuer;
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::port::Digest as _;
use agent_identity_core::store::{
    Condition, Consistency, Key, Kind, Query, ReadAhead, Row, Store, StoreError, Write,
};
use agent_identity_core::user::UserName;
use agent_identity_core::{Clock as _, Id, Secret, Timestamp, WorkloadName, record};
use agent_identity_inbound::{AuthorizeRequest, Outcome, VerifiedSession};
use agent_identity_jose::JwtVerifier;
use agent_identity_testkit::{Calls, FixedClock, MemoryStore, Sha256};
use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

const ISSUER: &str = "https://idp.example";
const AGENT: &str = "support-agent";

/// An issuer behind the HTTP port.
struct Idp {
    pair: EcdsaKeyPair,
    asked: AtomicUsize,
    is_down: AtomicBool,
}

impl Idp {
    fn new() -> Self {
        let pkcs8 =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
        Self { pair, asked: AtomicUsize::new(0), is_down: AtomicBool::new(false) }
    }

    fn token(&self, claims: &Value) -> Secret {
        let header = json!({"alg": "ES256", "kid": "k", "typ": "JWT"});
        let input = format!("{}.{}", base64url(header.to_string()), base64url(claims.to_string()));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        Secret::new(format!("{input}.{}", base64url(signature)))
    }
}

#[async_trait]
impl HttpClient for Idp {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.is_down.load(Ordering::SeqCst) {
            let target = "idp.example:443".to_owned();
            return Err(HttpError::NotSent { target, reason: "refused".to_owned() });
        }
        let point = self.pair.public_key().as_ref();
        let body = if request.url.ends_with("/keys") {
            let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
            json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "x": x, "y": y}]})
        } else {
            json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys")})
        };
        Ok(HttpResponse { status: 200, headers: Vec::new(), body: body.to_string().into_bytes() })
    }
}

/// A store that a test can take away.
struct Breakable {
    store: Arc<MemoryStore>,
    is_broken: AtomicBool,
    denials_are_broken: AtomicBool,
    asked_for: Mutex<Vec<String>>,
}

impl Breakable {
    fn is_broken_for(&self, key: &Key) -> bool {
        key.kind == Kind::Denial && self.denials_are_broken.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Store for Breakable {
    async fn get(&self, key: &Key, consistency: Consistency) -> Result<Option<Row>, StoreError> {
        if self.is_broken.load(Ordering::SeqCst) || self.is_broken_for(key) {
            return Err(StoreError::Busy("test".to_owned()));
        }
        self.asked_for.lock().unwrap().push(key.kind.as_str().to_owned());
        self.store.get(key, consistency).await
    }

    async fn batch_get(
        &self,
        keys: &[Key],
        consistency: Consistency,
    ) -> Result<Vec<Option<Row>>, StoreError> {
        if self.is_broken.load(Ordering::SeqCst) || keys.iter().any(|key| self.is_broken_for(key)) {
            return Err(StoreError::Busy("test".to_owned()));
        }
        let kinds: Vec<_> = keys.iter().map(|key| key.kind.as_str()).collect();
        self.asked_for.lock().unwrap().push(kinds.join(" "));
        self.store.batch_get(keys, consistency).await
    }

    async fn write(&self, _: Vec<Write>) -> Result<(), StoreError> {
        panic!("an authorizer writes nothing")
    }

    async fn query(&self, _: Query) -> Result<Vec<Row>, StoreError> {
        panic!("an authorizer needs no query")
    }

    async fn due(&self, _: u16, _: Timestamp, _: usize) -> Result<Vec<Row>, StoreError> {
        panic!("nothing is due here")
    }
}

struct World {
    clock: Arc<FixedClock>,
    store: Arc<MemoryStore>,
    breakable: Arc<Breakable>,
    idp: Arc<Idp>,
    authorize: AuthorizeRequest,
}

impl World {
    fn new() -> Self {
        Self::trusting(Vec::new())
    }

    fn trusting(issuers: Vec<TrustedIssuer>) -> Self {
        let clock = Arc::new(FixedClock::default());
        let store = Arc::new(MemoryStore::new(clock.clone()));
        let breakable = Arc::new(Breakable {
            store: store.clone(),
            is_broken: AtomicBool::new(false),
            denials_are_broken: AtomicBool::new(false),
            asked_for: Mutex::default(),
        });
        let idp = Arc::new(Idp::new());
        let ahead: Arc<dyn Store> = Arc::new(ReadAhead::new(breakable.clone(), clock.clone()));
        let verifier = Arc::new(JwtVerifier::new(idp.clone(), clock.clone()));
        let authorize =
            AuthorizeRequest::new(ahead, verifier, Arc::new(Sha256), clock.clone(), issuers, None);
        Self { clock, store, breakable, idp, authorize }
    }

    async fn put(&self, name: &str, configuration: Value, options: Value) {
        self.put_for(AGENT, name, configuration, options).await;
    }

    async fn put_for(&self, agent: &str, name: &str, mut configuration: Value, options: Value) {
        if configuration.get("discoveryUrl").is_none() {
            configuration["discoveryUrl"] = json!(format!("{ISSUER}/.well-known/openid-configuration"));
        }
        let authorizer = Authorizer {
            name: AuthorizerName::parse(name).unwrap(),
            version: 1,
            subject_claim: options["subjectClaim"].as_str().unwrap_or("sub").to_owned(),
            configuration: serde_json::from_value(configuration).unwrap(),
            options: serde_json::from_value(options).unwrap(),
            minting_key: None,
            introspection_secret: None,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        };
        let key = AgentRules::key(&WorkloadName::parse(agent).unwrap());
        let stored = record::get(&*self.store, &key, Consistency::Strong).await.unwrap();
        let condition =
            stored.as_ref().map_or(Condition::Absent, |stored| Condition::Version(stored.version));
        let none = AgentAuthorizers { workload: Id::from_bytes([7; 16]), epoch: 1, authorizers: Vec::new() };
        let mut all = stored.map_or(none, |stored| stored.value);
        all.put(authorizer);
        let write = record::put(key, condition, &all, None, None).unwrap();
        self.store.write(vec![write]).await.unwrap();
    }

    fn claims(&self) -> Value {
        let now = self.clock.now().as_seconds();
        json!({
            "iss": ISSUER, "sub": "ada", "aud": "agents", "client_id": "front-end", "scope": "chat.write profile",
            "iat": now, "exp": now + 3600,
        })
    }

    fn token(&self, changes: Value) -> Secret {
        let mut claims = self.claims();
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        self.idp.token(&claims)
    }

    async fn ask(&self, token: &Secret) -> Outcome {
        self.authorize.authorize(AGENT, token).await
    }

    async fn session(&self, token: &Secret) -> VerifiedSession {
        match self.ask(token).await {
            Outcome::Allowed(session) => session,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_token_that_keeps_all_rules_becomes_a_verified_session() {
    let world = World::new();
    let rules = json!({"allowedAudience": ["agents"], "allowedClients": ["front-end"], "allowedScopes": ["chat.write"]});
    world.put("people", rules, json!({})).await;
    let session = world.session(&world.token(json!({}))).await;
    let user = UserName::Jwt {
        issuer: ISSUER.to_owned(),
        subject_claim: "sub".to_owned(),
        subject: "ada".to_owned(),
    };
    assert_eq!(session.user_key.as_bytes(), &Sha256.sha256(&user.framed()), "D10");
    assert_eq!((session.agent.as_str(), session.authorizer.as_str()), (AGENT, "people"));
    assert_eq!((session.issuer.as_str(), session.subject.as_str()), (ISSUER, "ada"));
    assert_eq!(session.scopes, ["chat.write", "profile"]);
    assert_eq!(session.client_id.as_deref(), Some("front-end"));
    assert_eq!(session.expires_at, world.clock.now().plus(Duration::from_secs(3600)));
}

#[tokio::test]
async fn what_is_wrong_with_the_token_is_401_and_what_is_wrong_with_its_bearer_is_403() {
    let world = World::new();
    let rules = json!({"allowedAudience": ["agents"], "allowedClients": ["front-end"], "allowedScopes": ["chat.write"]});
    world.put("people", rules, json!({})).await;
    let past = world.clock.now().as_seconds() - 100;
    for (changes, expected) in [
        (json!({"exp": past}), Outcome::Unauthorized("expired")),
        (json!({"iss": "https://evil.example"}), Outcome::Unauthorized("issuer")),
        (json!({"sub": ""}), Outcome::Unauthorized("subject")),
        (json!({"aud": "other"}), Outcome::Forbidden("audience")),
        (json!({"client_id": "other"}), Outcome::Forbidden("client")),
        (json!({"scope": "profile"}), Outcome::Forbidden("scope")),
    ] {
        assert_eq!(world.ask(&world.token(changes.clone())).await, expected, "{changes}");
    }
    let token = world.token(json!({})).expose().to_owned();
    let (input, _) = token.rsplit_once('.').unwrap();
    let forged = Secret::new(format!("{input}.{}", base64url([0; 64])));
    assert_eq!(world.ask(&forged).await, Outcome::Unauthorized("signature"));
    assert_eq!(world.ask(&Secret::new("nonsense")).await, Outcome::Unauthorized("structure"));
}

#[tokio::test]
async fn without_an_authorizer_everybody_is_refused_and_nothing_is_fetched() {
    let world = World::new();
    world.put_for("another-agent", "people", json!({"allowedAudience": ["agents"]}), json!({})).await;
    let token = world.token(json!({}));
    let refused = Outcome::Unauthorized("no_authorizer");
    assert_eq!(world.ask(&token).await, refused);
    for no_agent in ["", "x", "a/b", "another-agent#", "\0"] {
        assert_eq!(world.authorize.authorize(no_agent, &token).await, refused, "{no_agent}");
    }
    assert_eq!(world.idp.asked.load(Ordering::SeqCst), 0);
    let asked_for = world.breakable.asked_for.lock().unwrap();
    assert_eq!(*asked_for, ["authorizer jwks denial", "authorizer"], "what is no name is not looked up");
}

#[tokio::test]
async fn of_several_authorizers_one_must_pass_and_rules_of_two_are_not_mixed() {
    let world = World::new();
    world
        .put("a-machines", json!({"allowedAudience": ["machines"], "allowedClients": ["robot"]}), json!({}))
        .await;
    world
        .put("b-people", json!({"allowedAudience": ["agents"], "allowedClients": ["front-end"]}), json!({}))
        .await;
    let elsewhere = json!({
        "discoveryUrl": "https://other.example/.well-known/openid-configuration", "allowedAudience": ["agents"],
    });
    world.put("c-others", elsewhere, json!({})).await;
    let authorizer = |session: VerifiedSession| session.authorizer.as_str().to_owned();
    assert_eq!(authorizer(world.session(&world.token(json!({}))).await), "b-people");
    let robot = world.token(json!({"aud": "machines", "client_id": "robot"}));
    assert_eq!(authorizer(world.session(&robot).await), "a-machines");
    let mixed = world.token(json!({"aud": "machines"}));
    assert_eq!(world.ask(&mixed).await, Outcome::Forbidden("client"));
    assert_eq!(world.breakable.asked_for.lock().unwrap().len(), 1, "P3: all rules of an agent are one read");
}

#[tokio::test]
async fn a_warm_call_reads_and_fetches_nothing_and_a_change_holds_within_thirty_seconds() {
    let world = World::new();
    world.put("people", json!({"allowedAudience": ["agents"]}), json!({})).await;
    let token = world.token(json!({}));
    world.session(&token).await;
    world.store.take_calls();
    let fetched = world.idp.asked.load(Ordering::SeqCst);
    for _ in 0..10 {
        world.session(&token).await;
    }
    assert_eq!(world.store.take_calls(), Calls::default());
    assert_eq!(world.idp.asked.load(Ordering::SeqCst), fetched);

    let row = world.store.rows().remove(0);
    world.store.write(vec![Write::Delete { key: row.key, version: row.version }]).await.unwrap();
    world.store.take_calls();
    world.clock.advance(Duration::from_secs(29));
    world.session(&token).await;
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.ask(&token).await, Outcome::Unauthorized("no_authorizer"));
    assert_eq!(world.store.take_calls(), Calls { batch_get: 1, get: 1, ..Calls::default() });
}

#[tokio::test]
async fn d25_what_cannot_be_said_now_is_never_a_401() {
    let world = World::new();
    world.put("people", json!({"allowedAudience": ["agents"]}), json!({})).await;
    let token = world.token(json!({}));
    world.breakable.is_broken.store(true, Ordering::SeqCst);
    assert!(matches!(world.ask(&token).await, Outcome::Unavailable(_)));
    world.breakable.is_broken.store(false, Ordering::SeqCst);
    world.idp.is_down.store(true, Ordering::SeqCst);
    assert!(matches!(world.ask(&token).await, Outcome::Unavailable(_)));
    world.idp.is_down.store(false, Ordering::SeqCst);
    world.clock.advance(Duration::from_secs(30));
    world.session(&token).await;
}

#[tokio::test]
async fn a_record_that_this_release_does_not_understand_lets_nobody_pass() {
    let world = World::new();
    world.put("people", json!({"allowedAudience": ["agents"]}), json!({})).await;
    let row = world.store.rows().remove(0);
    let mut newer: Value = serde_json::from_slice(&row.bytes).unwrap();
    newer["authorizers"][0]["configuration"]["ruleOfLater"] = json!([]);
    let write = Write::Put {
        key: row.key,
        condition: Condition::Version(row.version),
        expires_at: None,
        due: None,
        bytes: newer.to_string().into_bytes(),
    };
    world.store.write(vec![write]).await.unwrap();
    assert!(matches!(world.ask(&world.token(json!({}))).await, Outcome::Unavailable(_)));
}

#[tokio::test]
async fn d10_the_user_is_named_by_the_subject_claim_of_the_issuer_and_a_deployment_that_differs_lets_nobody_pass()
 {
    let record = |claim: &str| TrustedIssuer {
        issuer: ISSUER.to_owned(),
        audiences: vec!["elsewhere".to_owned()],
        clients: Vec::new(),
        algorithms: Vec::new(),
        typ: None,
        subject_claim: claim.to_owned(),
    };
    for (issuers, passes) in [(vec![], true), (vec![record("oid")], true), (vec![record("sub")], false)] {
        let world = World::trusting(issuers);
        world.put("people", json!({"allowedAudience": ["agents"]}), json!({"subjectClaim": "oid"})).await;
        let token = world.token(json!({"oid": "object-1"}));
        if passes {
            assert_eq!(world.session(&token).await.subject, "object-1");
            assert_eq!(world.ask(&world.token(json!({}))).await, Outcome::Unauthorized("subject"));
        } else {
            assert_eq!(world.ask(&token).await, Outcome::Unauthorized("issuer"));
        }
    }
}

#[tokio::test]
async fn options_hold() {
    let world = World::new();
    let options =
        json!({"azpAsClient": true, "leewaySeconds": 0, "maxTokenAgeSeconds": 600, "algorithms": ["ES256"]});
    world.put("people", json!({"allowedClients": ["party"]}), options).await;
    let now = world.clock.now().as_seconds();
    let session = world.session(&world.token(json!({"client_id": null, "azp": "party"}))).await;
    assert_eq!(session.client_id.as_deref(), Some("party"));
    let old = world.token(json!({"client_id": "party", "iat": now - 600}));
    assert_eq!(world.ask(&old).await, Outcome::Unauthorized("too_old"));
    let ended = world.token(json!({"client_id": "party", "exp": now}));
    assert_eq!(world.ask(&ended).await, Outcome::Unauthorized("expired"));

    let world = World::new();
    world.put("people", json!({"allowedAudience": ["agents"]}), json!({"requiredTyp": "at+jwt"})).await;
    assert_eq!(world.ask(&world.token(json!({}))).await, Outcome::Unauthorized("typ"));
    let world = World::new();
    world.put("people", json!({"allowedAudience": ["agents"]}), json!({"algorithms": ["RS256"]})).await;
    assert_eq!(world.ask(&world.token(json!({}))).await, Outcome::Unauthorized("algorithm"));
}

/// Puts what stands against the user of `World::token`, for the agent or for all.
async fn deny(world: &World, is_for_all: bool, denial: UserDenial) {
    let name = UserName::Jwt {
        issuer: ISSUER.to_owned(),
        subject_claim: "sub".to_owned(),
        subject: "ada".to_owned(),
    };
    let key = UserDenials::key(name.key(&Sha256));
    let stored = record::get::<UserDenials>(&*world.store, &key, Consistency::Strong).await.unwrap();
    let condition = stored.as_ref().map_or(Condition::Absent, |stored| Condition::Version(stored.version));
    let mut all = stored.map(|stored| stored.value).unwrap_or_default();
    all.change((!is_for_all).then(|| Id::from_bytes([7; 16])), |_| denial);
    world.store.write(vec![record::put(key, condition, &all, None, None).unwrap()]).await.unwrap();
}

fn blocked() -> UserDenial {
    UserDenial { blocked: true, not_before: None }
}

async fn people() -> World {
    let world = World::new();
    world.put("people", json!({"allowedAudience": ["agents"]}), json!({})).await;
    world
}

#[tokio::test]
async fn d15_a_user_who_is_blocked_while_known_is_refused_within_thirty_seconds() {
    for is_for_all in [true, false] {
        let world = people().await;
        let token = world.token(json!({}));
        world.session(&token).await;
        deny(&world, is_for_all, blocked()).await;
        world.clock.advance(Duration::from_secs(29));
        world.session(&token).await;
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(world.ask(&token).await, Outcome::Forbidden("user_blocked"));
        world.session(&world.token(json!({"sub": "somebody-else"}))).await;
        deny(&world, is_for_all, UserDenial::default()).await;
        world.clock.advance(Duration::from_secs(30));
        world.session(&token).await;
    }
}

#[tokio::test]
async fn d15_a_user_who_was_signed_out_must_sign_in_again() {
    let world = people().await;
    let now = world.clock.now();
    deny(&world, false, UserDenial { blocked: false, not_before: Some(now) }).await;
    let refused = Outcome::Unauthorized("user_signed_out");
    let (now, later) = (now.as_seconds(), now.as_seconds() + 10);
    assert_eq!(world.ask(&world.token(json!({}))).await, refused);
    assert_eq!(
        world.ask(&world.token(json!({"iat": null}))).await,
        refused,
        "nobody knows when they signed in"
    );
    assert_eq!(
        world.ask(&world.token(json!({"iat": later, "auth_time": now}))).await,
        refused,
        "refreshed since"
    );
    world.session(&world.token(json!({"iat": later}))).await;
}

#[tokio::test]
async fn d15_what_cannot_be_renewed_counts_for_five_minutes_and_then_nobody_is_let_in() {
    let world = people().await;
    let token = world.token(json!({}));
    world.session(&token).await;
    let denials_alone = |is_broken| world.breakable.denials_are_broken.store(is_broken, Ordering::SeqCst);
    denials_alone(true);
    world.clock.advance(Duration::from_secs(299));
    world.session(&token).await;
    world.clock.advance(Duration::from_secs(1));
    assert!(matches!(world.ask(&token).await, Outcome::Unavailable(_)));
    let stranger = world.token(json!({"sub": "never-seen"}));
    assert!(matches!(world.ask(&stranger).await, Outcome::Unavailable(_)));
    denials_alone(false);
    world.session(&token).await;
}

#[tokio::test]
async fn p3_a_process_that_knows_nothing_asks_once_and_a_renewal_does_too() {
    let world = people().await;
    let token = world.token(json!({}));
    world.store.take_calls();
    for _ in 0..2 {
        world.session(&token).await;
        assert_eq!(world.store.take_calls(), Calls { batch_get: 1, ..Calls::default() });
        world.session(&token).await;
        assert_eq!(world.store.take_calls(), Calls::default(), "warm");
        world.clock.advance(Duration::from_secs(30));
    }
}

#[tokio::test]
async fn a_token_that_is_not_genuine_causes_no_read_once_the_rules_are_known() {
    let world = people().await;
    world.session(&world.token(json!({}))).await;
    world.store.take_calls();
    for number in 0..50 {
        let token = world.token(json!({"sub": format!("invented-{number}")})).expose().to_owned();
        let (input, _) = token.rsplit_once('.').unwrap();
        let forged = Secret::new(format!("{input}.{}", base64url([1; 64])));
        assert_eq!(world.ask(&forged).await, Outcome::Unauthorized("signature"));
        let expired = world.token(json!({"sub": format!("invented-{number}"), "exp": 1}));
        assert_eq!(world.ask(&expired).await, Outcome::Unauthorized("expired"));
    }
    assert_eq!(world.store.take_calls(), Calls::default());
    world.session(&world.token(json!({"sub": "another"}))).await;
    assert_eq!(
        world.store.take_calls(),
        Calls { get: 1, ..Calls::default() },
        "a genuine one of somebody new"
    );
}
