//! Keys that processes share through the store: who is asked, how often, and what still works when a part is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_identity_core::encoding::base64url;
use agent_identity_core::issuer::{IssuerPolicy, TrustedIssuer};
use agent_identity_core::store::{
    Condition, Consistency, Key, Kind, Query, ReadAhead, Row, Store, StoreError, Write,
};
use agent_identity_core::{Clock as _, Timestamp, record as rows};
use agent_identity_testkit::{Calls, FixedClock, MemoryStore};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::support::{ISSUER, Origin, Setting, TestKey, claims_with, record};
use crate::{COOL_DOWN, FRESH, JwtVerifier, KeyPrefetch, MAX_STALE, PREFETCH_EVERY, Renewed};

/// A store that a test can take away, or make read-only.
struct Fragile {
    rows: MemoryStore,
    is_down: AtomicBool,
    takes_no_writes: AtomicBool,
}

impl Fragile {
    fn up(&self) -> Result<(), StoreError> {
        if self.is_down.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("test".to_owned()));
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Fragile {
    async fn get(&self, key: &Key, consistency: Consistency) -> Result<Option<Row>, StoreError> {
        self.up()?;
        self.rows.get(key, consistency).await
    }
    async fn batch_get(
        &self,
        keys: &[Key],
        consistency: Consistency,
    ) -> Result<Vec<Option<Row>>, StoreError> {
        self.up()?;
        self.rows.batch_get(keys, consistency).await
    }
    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.up()?;
        if self.takes_no_writes.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("not authorized".to_owned()));
        }
        self.rows.write(writes).await
    }
    async fn query(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        self.up()?;
        self.rows.query(query).await
    }
    async fn due(&self, shard: u16, until: Timestamp, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.rows.due(shard, until, limit).await
    }
}

/// A store, and processes on it.
struct World {
    clock: Arc<FixedClock>,
    store: Arc<Fragile>,
    origin: Arc<Origin>,
    key: TestKey,
    prefetch: KeyPrefetch,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(FixedClock::default());
        let store = Arc::new(Fragile {
            rows: MemoryStore::new(clock.clone()),
            is_down: AtomicBool::new(false),
            takes_no_writes: AtomicBool::new(false),
        });
        let (origin, key) = (Arc::new(Origin::default()), TestKey::new("k1", "ES256"));
        origin.publish(ISSUER, &[key.jwk()]);
        let policy = IssuerPolicy::Trusted(vec![record()]);
        let prefetch = KeyPrefetch::new(origin.clone(), clock.clone(), store.clone(), &policy);
        Self { clock, store, origin, key, prefetch }
    }

    /// Another process, on a clock of its own.
    fn process_at(&self, clock: &Arc<FixedClock>, writes_keys: bool) -> Setting {
        let verifier =
            JwtVerifier::with_store(self.origin.clone(), clock.clone(), self.store.clone(), writes_keys);
        Setting {
            clock: clock.clone(),
            origin: self.origin.clone(),
            verifier: Arc::new(verifier),
            key: TestKey::new("unused", "EdDSA"),
        }
    }

    /// Another process that reads keys, as the authorizer does.
    fn process(&self) -> Setting {
        self.process_at(&self.clock, false)
    }

    async fn prefetch(&self) -> Renewed {
        self.prefetch.renew().await.unwrap()
    }

    fn token(&self) -> String {
        self.key.token(&lasting())
    }

    /// A token that names a key which nobody has.
    fn unknown(&self, number: usize) -> String {
        self.key.token_of(
            json!({"alg": "ES256", "kid": format!("unknown-{number}")}).to_string(),
            lasting().to_string(),
        )
    }

    async fn row(&self, kind: Kind) -> Option<Value> {
        let row = self.store.rows.get(&Key::single(kind, ISSUER), Consistency::Strong).await.unwrap();
        row.map(|row| serde_json::from_slice(&row.bytes).unwrap())
    }

    fn trust(&self, issuer: &str) -> Write {
        rows::create(Key::directory(Kind::Issuer, issuer), &json!({}), None).unwrap()
    }
}

fn lasting() -> Value {
    claims_with(json!({"exp": 4_000_000_000_u32, "iat": null}))
}

#[tokio::test]
async fn a_process_that_starts_needs_no_issuer_when_the_store_has_its_keys() {
    let world = World::new();
    assert_eq!(world.prefetch().await, Renewed { issuers: 1, renewed: 1, ..Renewed::default() });
    world.origin.is_down.store(true, Ordering::SeqCst);
    world.origin.take_requests();
    world.store.rows.take_calls();
    let process = world.process();
    process.verify(&world.token()).await.unwrap();
    assert_eq!(
        world.store.rows.take_calls(),
        Calls { get: 1, ..Calls::default() },
        "P3: one read, which may be read ahead"
    );
    for _ in 0..10 {
        process.verify(&world.token()).await.unwrap();
    }
    assert_eq!(world.store.rows.take_calls(), Calls::default());
    assert!(world.origin.take_requests().is_empty());
}

#[tokio::test]
async fn p3_the_row_is_found_where_it_was_read_ahead() {
    let world = World::new();
    world.prefetch().await;
    let other = Key::single(Kind::Workload, "any");
    let ahead = Arc::new(ReadAhead::new(world.store.clone(), world.clock.clone()));
    ahead.read_ahead(&[Key::single(Kind::Jwks, ISSUER), other]).await;
    world.store.rows.take_calls();
    let verifier = JwtVerifier::with_store(world.origin.clone(), world.clock.clone(), ahead, false);
    let process = Setting { verifier: Arc::new(verifier), ..world.process() };
    process.verify(&world.token()).await.unwrap();
    assert_eq!(world.store.rows.take_calls(), Calls::default());
}

#[tokio::test]
async fn while_the_issuer_is_down_stored_keys_pass_for_a_day_in_new_processes_too() {
    let world = World::new();
    world.prefetch().await;
    world.origin.is_down.store(true, Ordering::SeqCst);
    world.clock.advance(MAX_STALE - Duration::from_millis(1));
    assert_eq!(world.prefetch().await.failed, 1);
    world.process().verify(&world.token()).await.unwrap();
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(
        world.process().refusal(&world.token()).await,
        "keys",
        "after a day they are not believed any more"
    );
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_hangs_holds_nobody_up_whose_key_is_stored() {
    let world = World::new();
    world.prefetch().await;
    world.clock.advance(FRESH);
    let _hanging = world.origin.gate.write().await;
    let process = world.process();
    let began = tokio::time::Instant::now();
    for _ in 0..10 {
        process.verify(&world.token()).await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_secs(3), "the first waits for two seconds, the others do not");
}

#[tokio::test]
async fn an_old_row_is_asked_for_again_before_it_is_believed() {
    let world = World::new();
    world.prefetch().await;
    world.origin.publish(ISSUER, &[TestKey::new("k2", "ES256").jwk()]);
    world.clock.advance(FRESH - Duration::from_millis(1));
    world.process().verify(&world.token()).await.unwrap();
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(world.process().refusal(&world.token()).await, "unknown_key");
}

#[tokio::test]
async fn keys_from_the_store_age_on_while_they_are_in_memory() {
    let world = World::new();
    world.prefetch().await;
    let process = world.process();
    world.clock.advance(FRESH / 2);
    process.verify(&world.token()).await.unwrap();
    world.clock.advance(FRESH / 2);
    world.origin.publish(ISSUER, &[TestKey::new("k2", "ES256").jwk()]);
    assert_eq!(
        process.refusal(&world.token()).await,
        "unknown_key",
        "withdrawn, and noticed within five minutes in all"
    );
}

#[tokio::test]
async fn a_process_without_the_store_asks_the_issuer_and_one_without_the_issuer_reads_the_store() {
    let world = World::new();
    world.prefetch().await;
    world.store.is_down.store(true, Ordering::SeqCst);
    let process = world.process();
    process.verify(&world.token()).await.unwrap();

    world.store.is_down.store(false, Ordering::SeqCst);
    world.origin.is_down.store(true, Ordering::SeqCst);
    world.process().verify(&world.token()).await.unwrap();

    world.store.is_down.store(true, Ordering::SeqCst);
    assert_eq!(world.process().refusal(&world.token()).await, "keys", "both gone, and nothing in memory");
    world.clock.advance(FRESH);
    process.verify(&world.token()).await.unwrap();
    world.clock.advance(MAX_STALE - FRESH);
    assert_eq!(process.refusal(&world.token()).await, "keys");
}

#[tokio::test]
async fn d16_only_who_may_writes_keys_and_every_process_notes_that_it_asked() {
    let world = World::new();
    world.process().verify(&world.token()).await.unwrap();
    assert_eq!(world.row(Kind::Jwks).await, None, "the authorizer keeps what it was told to itself");
    world.process_at(&world.clock, true).verify(&world.token()).await.unwrap();
    let row = world.row(Kind::Jwks).await.unwrap();
    assert_eq!((&row["issuer"], &row["jwks_uri"]), (&json!(ISSUER), &json!("https://idp.example/keys")));
    assert_eq!(row["keys"], json!([world.key.jwk()]));
    assert_eq!(world.row(Kind::JwksCoolDown).await, None, "nobody asked for an unknown key");

    let process = world.process();
    assert_eq!(process.refusal(&world.unknown(1)).await, "unknown_key");
    assert!(world.row(Kind::JwksCoolDown).await.is_some());
    assert_eq!(world.row(Kind::Jwks).await.unwrap(), row);
}

#[tokio::test]
async fn a_process_that_may_not_write_at_all_still_verifies() {
    let world = World::new();
    world.store.takes_no_writes.store(true, Ordering::SeqCst);
    for writes_keys in [false, true] {
        let process = world.process_at(&world.clock, writes_keys);
        process.verify(&world.token()).await.unwrap();
        world.clock.advance(COOL_DOWN);
        assert_eq!(process.refusal(&world.unknown(1)).await, "unknown_key");
    }
}

#[tokio::test]
async fn d25_of_many_processes_one_asks_for_an_unknown_key_and_the_others_say_try_again() {
    let world = World::new();
    world.prefetch().await;
    let processes: Vec<_> = (0..20).map(|_| world.process()).collect();
    for process in &processes {
        process.verify(&world.token()).await.unwrap();
    }
    world.origin.take_requests();
    for round in 0..3 {
        let mut answers = Vec::new();
        for process in &processes {
            answers.push(process.refusal(&world.unknown(round)).await);
        }
        let sure = answers.iter().filter(|answer| **answer == "unknown_key").count();
        let retry = answers.iter().filter(|answer| **answer == "keys").count();
        assert_eq!((sure, retry), (1, 19), "never 401 for who did not look after the token came");
        assert_eq!(world.origin.take_key_requests(), 1, "round {round}");
        for process in &processes {
            process.verify(&world.token()).await.unwrap();
        }
        world.clock.advance(COOL_DOWN);
    }
}

#[tokio::test]
async fn d25_a_flood_of_10_000_unknown_kids_costs_one_fetch_and_no_known_key_is_refused() {
    let world = World::new();
    world.prefetch().await;
    let processes = [world.process(), world.process()];
    for process in &processes {
        process.verify(&world.token()).await.unwrap();
    }
    world.origin.take_requests();
    world.store.rows.take_calls();
    let known = world.token();
    let (head, tail) = known.split_once('.').unwrap();
    assert!(!head.is_empty());
    for number in 0..10_000 {
        let header = json!({"alg": "ES256", "kid": format!("unknown-{number}")}).to_string();
        let token = format!("{}.{tail}", base64url(header));
        let process = &processes[number % 2];
        assert!(["keys", "unknown_key"].contains(&process.refusal(&token).await));
        if number % 100 == 0 {
            process.verify(&known).await.unwrap();
        }
        if number % 1000 == 0 {
            // The whole flood is shorter than a cool-down.
            world.clock.advance(Duration::from_secs(2));
        }
    }
    assert_eq!(world.origin.take_key_requests(), 1);
    let calls = world.store.rows.take_calls();
    assert!(calls.get <= 4 && calls.write <= 1, "P2: no network inside the cool-down: {calls:?}");
    assert_eq!(world.store.rows.rows().len(), 2, "neither does the store grow");
}

#[tokio::test]
async fn d25_a_key_used_at_once_is_found_by_the_first_token_that_names_it_though_the_row_is_fresh() {
    let world = World::new();
    world.prefetch().await;
    world.clock.advance(Duration::from_secs(1));
    let next = TestKey::new("k2", "ES256");
    world.origin.publish(ISSUER, &[world.key.jwk(), next.jwk()]);
    world.process().verify(&next.token(&lasting())).await.unwrap();
    // Another process finds it within the cool-down only if the prefetch has brought it: it sees that somebody had to ask.
    let other = world.process();
    assert_eq!(other.refusal(&next.token(&lasting())).await, "keys");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(world.prefetch().await.renewed, 1, "although the row is two seconds old");
    world.clock.advance(COOL_DOWN - Duration::from_secs(1));
    world.origin.take_requests();
    other.verify(&next.token(&lasting())).await.unwrap();
    assert!(world.origin.take_requests().is_empty());
    assert_eq!(world.prefetch().await.renewed, 0);
}

#[tokio::test]
async fn d25_a_key_that_the_prefetch_has_brought_is_found_without_asking_anybody_else() {
    let world = World::new();
    world.prefetch().await;
    let process = world.process();
    process.verify(&world.token()).await.unwrap();
    let next = TestKey::new("k2", "ES256");
    world.origin.publish(ISSUER, &[world.key.jwk(), next.jwk()]);
    world.clock.advance(FRESH - Duration::from_secs(30));
    assert_eq!(world.prefetch().await.renewed, 1);
    world.origin.take_requests();
    process.verify(&next.token(&lasting())).await.unwrap();
    assert!(world.origin.take_requests().is_empty());
}

#[tokio::test]
async fn d25_a_key_published_one_prefetch_interval_before_its_first_use_is_never_refused_in_any_process() {
    for published_after in [0, 59, 150, 239] {
        let world = World::new();
        let (calm, flooded) = (world.process(), world.process());
        let next = TestKey::new("k2", "ES256");
        for second in 0..published_after + 300 {
            if second % PREFETCH_EVERY.as_secs() == 0 {
                world.prefetch().await;
            }
            if second == published_after {
                world.origin.publish(ISSUER, &[world.key.jwk(), next.jwk()]);
            }
            if second % 7 == 0 {
                let _ = flooded.verify(&world.unknown(usize::try_from(second).unwrap())).await;
                calm.verify(&world.token()).await.unwrap();
                flooded.verify(&world.token()).await.unwrap();
            }
            world.clock.advance(Duration::from_secs(1));
        }
        for process in [calm, flooded, world.process()] {
            assert!(process.verify(&next.token(&lasting())).await.is_ok(), "{published_after}");
        }
    }
}

#[tokio::test]
async fn two_issuers_may_name_different_keys_alike() {
    let world = World::new();
    let other = "https://other.example";
    let theirs = TestKey::new("k1", "ES256");
    world.origin.publish(other, &[theirs.jwk()]);
    world.store.write(vec![world.trust(other)]).await.unwrap();
    assert_eq!(world.prefetch().await.renewed, 2);
    world.origin.is_down.store(true, Ordering::SeqCst);
    let policy =
        IssuerPolicy::Trusted(vec![record(), TrustedIssuer { issuer: other.to_owned(), ..record() }]);
    let process = world.process();
    let of_other = claims_with(json!({"iss": other}));
    process.verify_under(&world.token(), &policy).await.unwrap();
    process.verify_under(&theirs.token(&of_other), &policy).await.unwrap();
    assert_eq!(process.verify_under(&world.key.token(&of_other), &policy).await, Err("signature"));
    assert_eq!(process.verify_under(&theirs.token(&lasting()), &policy).await, Err("signature"));
}

#[tokio::test]
async fn a_key_without_a_name_is_kept_and_serves_tokens_without_one() {
    let world = World::new();
    let mut nameless = world.key.jwk();
    nameless.as_object_mut().unwrap().remove("kid");
    world.origin.publish(ISSUER, &[nameless]);
    world.prefetch().await;
    world.origin.is_down.store(true, Ordering::SeqCst);
    let token = world.key.token_of(r#"{"alg":"ES256"}"#, lasting().to_string());
    world.process().verify(&token).await.unwrap();
}

#[tokio::test]
async fn what_a_token_alone_names_leaves_no_row() {
    let world = World::new();
    let process = world.process_at(&world.clock, true);
    process.verify_under(&world.token(), &IssuerPolicy::AnyIssuer).await.unwrap();
    world.clock.advance(COOL_DOWN);
    process.verify_under(&world.unknown(1), &IssuerPolicy::AnyIssuer).await.unwrap_err();
    assert!(world.store.rows.rows().is_empty());
    assert_eq!(world.store.rows.take_calls(), Calls::default());
}

#[tokio::test]
async fn a_row_is_held_to_what_an_issuer_is_held_to() {
    let world = World::new();
    world.prefetch().await;
    let good = world.row(Kind::Jwks).await.unwrap();
    let other = TestKey::new("k1", "ES256").jwk();
    let oct = json!({"kty": "oct", "kid": "k1", "k": "AAAA"});
    for (member, value) in [
        ("issuer", json!("https://other.example")),
        ("keys", json!(vec![other; 101])),
        ("keys", json!([oct])),
        ("keys", json!("none")),
        ("fetched_at", Value::Null),
    ] {
        let (mut row, key) = (good.clone(), Key::single(Kind::Jwks, ISSUER));
        row[member] = value;
        let stored = world.store.rows.get(&key, Consistency::Strong).await.unwrap().unwrap();
        let write = Write::Put {
            key,
            condition: Condition::Version(stored.version),
            expires_at: None,
            due: None,
            bytes: row.to_string().into_bytes(),
        };
        world.store.write(vec![write]).await.unwrap();
        world.clock.advance(COOL_DOWN);
        world.origin.take_requests();
        assert!(
            world.process().verify(&world.token()).await.is_ok(),
            "{member}: the issuer is asked instead"
        );
        assert_eq!(world.origin.take_key_requests(), 1, "{member}");
    }
    assert_eq!(world.prefetch().await.renewed, 1, "and the row is mended");
    assert_eq!(world.row(Kind::Jwks).await.unwrap()["keys"], good["keys"]);
}

#[tokio::test]
async fn the_largest_set_that_is_taken_fits_a_row_and_private_or_useless_members_are_not_in_it() {
    let world = World::new();
    let mut keys: Vec<Value> = Vec::new();
    let n = base64url([&[0; 600][..], &[0xa7; 1024]].concat());
    for number in 0..99 {
        let kid = format!("{number}{}", "k".repeat(250));
        keys.push(json!({"kty": "RSA", "kid": kid, "n": n, "e": "AQAB", "use": "sig", "alg": "RS256"}));
    }
    keys.push(world.key.jwk());
    let size = json!({"keys": keys}).to_string().len();
    keys[0]["x5c"] = json!(["M".repeat(256 * 1024 - size - 12)]);
    assert!(json!({"keys": keys}).to_string().len() > 255 * 1024);
    world.origin.publish(ISSUER, &keys);
    assert_eq!(world.prefetch().await.renewed, 1);
    let row = world.row(Kind::Jwks).await.unwrap();
    assert_eq!(row["keys"].as_array().unwrap().len(), 100);
    assert!(!row.to_string().contains("x5c"));
    world.process().verify(&world.token()).await.unwrap();

    let private = json!({"kty": "OKP", "crv": "Ed25519", "kid": "p", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "d": "secret"});
    world.origin.publish(ISSUER, &[world.key.jwk(), private, json!({"kty": "oct", "k": "secret"})]);
    world.clock.advance(FRESH);
    assert_eq!(world.prefetch().await.renewed, 1);
    assert_eq!(world.row(Kind::Jwks).await.unwrap()["keys"], json!([world.key.jwk()]));
}

/// A process whose wall clock is off by so many seconds.
fn off_by(world: &World, seconds: i64) -> Arc<FixedClock> {
    Arc::new(FixedClock::at(Timestamp::from_millis(world.clock.now().as_millis() + seconds * 1000)))
}

#[tokio::test]
async fn clocks_that_differ_by_seconds_change_nothing() {
    for skew in [-3, 3] {
        let world = World::new();
        world.prefetch().await;
        let clock = off_by(&world, skew);
        let (here, there) = (world.process(), world.process_at(&clock, false));
        world.origin.take_requests();
        assert_eq!(here.refusal(&world.unknown(1)).await, "unknown_key");
        assert_eq!(there.refusal(&world.unknown(2)).await, "keys", "{skew}");
        assert_eq!(world.origin.take_key_requests(), 1);
        there.verify(&world.token()).await.unwrap();
    }
}

#[tokio::test]
async fn a_row_that_is_newer_by_the_difference_of_clocks_alone_does_not_take_the_place_of_what_was_read_since()
 {
    let world = World::new();
    world.prefetch().await;
    world.clock.advance(Duration::from_secs(1));
    let clock = off_by(&world, -3);
    let (process, next) = (world.process_at(&clock, false), TestKey::new("k2", "ES256"));
    world.origin.publish(ISSUER, &[world.key.jwk(), next.jwk()]);
    process.verify(&next.token(&lasting())).await.unwrap();
    clock.advance(COOL_DOWN);
    world.clock.advance(COOL_DOWN);
    world.origin.is_down.store(true, Ordering::SeqCst);
    assert_eq!(process.refusal(&world.unknown(1)).await, "keys");
    process.verify(&next.token(&lasting())).await.unwrap();
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_hours_locks_nobody_out_and_makes_no_key_last_longer() {
    for skew in [-7200, 7200] {
        let world = World::new();
        let wrong = off_by(&world, skew);
        // It writes both rows.
        let theirs = world.process_at(&wrong, true);
        theirs.verify(&world.token()).await.unwrap();
        wrong.advance(COOL_DOWN);
        assert_eq!(theirs.refusal(&world.unknown(1)).await, "unknown_key");
        let next = TestKey::new("k2", "ES256");
        world.origin.publish(ISSUER, &[next.jwk()]);
        // With a right clock: a key used at once is found, and the one withdrawn is not good for hours.
        let ours = world.process();
        ours.verify(&next.token(&lasting())).await.unwrap();
        assert_eq!(world.process().refusal(&world.token()).await, "unknown_key", "{skew}");
        assert_eq!(world.prefetch().await.renewed, 1, "{skew}");
        assert_eq!(world.prefetch().await.renewed, 0, "{skew}");
    }
}

#[tokio::test]
async fn two_processes_that_ask_at_once_ask_once() {
    let world = World::new();
    world.prefetch().await;
    let (one, two) = (Arc::new(world.process()), Arc::new(world.process()));
    world.origin.take_requests();
    let tasks = [one, two].map(|process| {
        let token = world.unknown(1);
        tokio::spawn(async move { process.refusal(&token).await })
    });
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers.sort_unstable();
    assert_eq!(answers, ["keys", "unknown_key"]);
    assert_eq!(world.origin.take_key_requests(), 1);
}

#[tokio::test]
async fn a_token_that_meets_anothers_attempt_still_gets_its_own_key_looked_for() {
    let world = World::new();
    world.prefetch().await;
    let next = TestKey::new("k2", "ES256");
    world.origin.publish(ISSUER, &[world.key.jwk(), next.jwk()]);
    let process = Arc::new(world.process());
    // Both come to a cold process: the store has the key of the first alone.
    let tasks = [world.token(), next.token(&lasting())].map(|token| {
        let process = process.clone();
        tokio::spawn(async move { process.verify(&token).await.is_ok() })
    });
    for task in tasks {
        assert!(task.await.unwrap());
    }
}

mod prefetch {
    use super::*;

    #[tokio::test]
    async fn keys_never_grow_older_than_is_fresh_and_no_issuer_is_asked_more_than_every_four_minutes() {
        let world = World::new();
        let mut asked = 0;
        for _ in 0..60 {
            world.prefetch().await;
            asked += world.origin.take_key_requests();
            world.clock.advance(PREFETCH_EVERY - Duration::from_millis(1));
            let row = world.row(Kind::Jwks).await.unwrap();
            let age = world.clock.now().as_millis() - row["fetched_at"].as_i64().unwrap();
            assert!(age < i64::try_from(FRESH.as_millis()).unwrap(), "{age}");
            world.clock.advance(Duration::from_millis(1));
        }
        assert_eq!(asked, 15);
    }

    #[tokio::test]
    async fn issuers_of_authorizers_are_read_as_well_as_configured_ones_each_once() {
        let world = World::new();
        let slashed = "https://slashed.example/";
        world.origin.publish(slashed, &[world.key.jwk()]);
        // The directory names it as its discovery URL does; its metadata, and so its tokens, with a slash.
        for issuer in ["https://slashed.example", slashed, ISSUER, "javascript:alert(1)"] {
            world.store.write(vec![world.trust(issuer)]).await.unwrap();
        }
        assert_eq!(world.prefetch().await, Renewed { issuers: 2, renewed: 2, ..Renewed::default() });
        let row = world.store.rows.get(&Key::single(Kind::Jwks, slashed), Consistency::Strong).await.unwrap();
        assert!(row.is_some(), "under the name that tokens have");
        assert_eq!(world.prefetch().await.renewed, 0, "and found there again");
    }

    #[tokio::test]
    async fn more_issuers_than_a_page_and_a_batch_are_all_read_a_few_at_a_time() {
        let world = World::new();
        for number in 0..300 {
            let issuer = format!("https://idp-{number:03}.example");
            world.origin.publish(&issuer, &[world.key.jwk()]);
            world.store.write(vec![world.trust(&issuer)]).await.unwrap();
        }
        let gate = world.origin.gate.write().await;
        let renewing = world.prefetch.renew();
        tokio::pin!(renewing);
        for _ in 0..100 {
            tokio::select! { biased; _ = &mut renewing => panic!("the gate is shut"), () = tokio::task::yield_now() => {} }
        }
        assert_eq!(world.origin.take_requests().len(), 8, "so many at once");
        drop(gate);
        assert_eq!(renewing.await.unwrap(), Renewed { issuers: 301, renewed: 301, ..Renewed::default() });
    }

    #[tokio::test(start_paused = true)]
    async fn one_issuer_that_fails_or_hangs_stops_no_other_and_its_keys_stay() {
        let world = World::new();
        let (dead, spoiled) = ("https://dead.example", "https://spoiled.example");
        for issuer in [dead, spoiled] {
            world.origin.publish(issuer, &[world.key.jwk()]);
            world.store.write(vec![world.trust(issuer)]).await.unwrap();
        }
        assert_eq!(world.prefetch().await.renewed, 3);
        world.origin.page("https://dead.example/.well-known/openid-configuration", 500, "");
        world.origin.page("https://spoiled.example/keys", 200, "{\"keys\":{}}");
        world.clock.advance(FRESH);
        let outcome = world.prefetch().await;
        assert_eq!(outcome, Renewed { issuers: 3, renewed: 1, failed: 2, left: 0 });
        for issuer in [dead, spoiled] {
            let key = Key::single(Kind::Jwks, issuer);
            assert!(world.store.rows.get(&key, Consistency::Strong).await.unwrap().is_some());
        }
        let _hanging = world.origin.gate.write().await;
        let began = tokio::time::Instant::now();
        world.clock.advance(FRESH);
        assert_eq!(world.prefetch().await.failed, 3);
        assert!(began.elapsed() < Duration::from_secs(11));
    }

    #[tokio::test]
    async fn a_store_that_is_down_is_told_and_asks_no_issuer() {
        let world = World::new();
        world.store.is_down.store(true, Ordering::SeqCst);
        assert!(world.prefetch.renew().await.is_err());
        assert!(world.origin.take_requests().is_empty());
    }

    #[tokio::test]
    async fn without_any_trusted_issuer_one_query_is_all() {
        let world = World::new();
        let idle = KeyPrefetch::new(
            world.origin.clone(),
            world.clock.clone(),
            world.store.clone(),
            &IssuerPolicy::AnyIssuer,
        );
        assert_eq!(idle.renew().await.unwrap(), Renewed::default());
        assert_eq!(world.store.rows.take_calls(), Calls { query: 1, ..Calls::default() });
    }
}
