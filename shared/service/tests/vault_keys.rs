//! Vault keys are rotated, and what older versions have sealed is resealed, while all goes on (D19, ADR 0029).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use agent_identity_core::Secret;
use agent_identity_core::seal::{Context, Key32, KeyWrapper, SealError, Sealer as _};
use agent_identity_core::store::{Condition, Kind, Row, Store, Write};
use agent_identity_service::Services;
use agent_identity_service::access_key::AccessKeyRequest;
use agent_identity_service::oauth2_token::Oauth2TokenAnswer;
use agent_identity_service::reseal::{ResealTokenVault, ResealedPage};
use agent_identity_service::token_vault::RotateTokenVaultKeys;
use agent_identity_testkit::TestSealer;
use async_trait::async_trait;
use world::{AGENT, Reply, Trouble, World, get_from, request, wat_from};

const USERS: [&str; 4] = ["ada", "bea", "cem", "dan"];

/// Wraps under a fixed key.
struct Wrapper;

const MASTER: Key32 = Key32::new([9; 32]);

fn bound(pairs: &[(&str, &str)]) -> Context {
    Context::new("wrap", pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]))
}

#[async_trait]
impl KeyWrapper for Wrapper {
    async fn wrap(&self, key: &Key32, context: &[(&str, &str)]) -> Result<Vec<u8>, SealError> {
        Ok(TestSealer.seal_with(&MASTER, &bound(context), key.expose()))
    }

    async fn unwrap_key(&self, wrapped: &[u8], context: &[(&str, &str)]) -> Result<Key32, SealError> {
        let bytes = TestSealer.open_with(&MASTER, &bound(context), wrapped)?;
        Ok(Key32::new(bytes.as_slice().try_into().unwrap()))
    }
}

/// A process with nothing in memory, over this store.
fn process_over(world: &World, seed: u64, store: Arc<dyn Store>) -> Arc<Services> {
    world.process_with_vault_keys(seed, store, Arc::new(Wrapper))
}

fn process(world: &World, seed: u64) -> Arc<Services> {
    process_over(world, seed, world.store.clone())
}

/// A world with vault keys of versions, in which these users are connected.
async fn connected(users: &[&str]) -> World {
    let mut world = World::with_calendar().await;
    world.services = process(&world, 1);
    for user in users {
        connect(&world, user).await;
    }
    world
}

async fn connect(world: &World, user: &str) {
    let wat = world.wat(AGENT, user).await;
    let session = world.consented(request(&wat)).await;
    world.provider.will(Reply::Tokens("first", 100_000));
    world.complete(&session, user).await.unwrap();
}

async fn rotate(world: &World, services: &Services) {
    services.rotate_token_vault_keys(world.admin.authorize(RotateTokenVaultKeys).unwrap()).await.unwrap();
}

async fn page(world: &World, services: &Services, before: Option<ResealedPage>) -> ResealedPage {
    let action = ResealTokenVault { from: before.and_then(|page| page.next) };
    services.reseal_token_vault(world.admin.authorize(action).unwrap()).await.unwrap()
}

/// The whole sweep: how many were resealed, and left.
async fn sweep(world: &World, services: &Services) -> (usize, usize) {
    let (mut total, mut left, mut last) = (0, 0, None);
    loop {
        let done = page(world, services, last).await;
        total += done.resealed;
        left += done.left;
        if done.next.is_none() {
            return (total, left);
        }
        last = Some(done);
    }
}

fn entries(world: &World) -> Vec<Row> {
    let rows = world.store.rows().into_iter();
    rows.filter(|row| row.key.kind == Kind::UserKey && !row.key.sort.is_empty()).collect()
}

fn entries_under(world: &World, version: u32) -> usize {
    let group = format!("wrapped-under#{version:010}#");
    entries(world).iter().filter(|row| row.key.partition.starts_with(&group)).count()
}

async fn reads(world: &World, seed: u64, user: &str) {
    let services = process(world, seed);
    let wat: Secret = wat_from(&services, &world.admin, AGENT, user).await;
    let answer = get_from(&services, &world.admin, request(&wat)).await;
    let Ok(Oauth2TokenAnswer::Token(token)) = answer else { panic!("{user}: {answer:?}") };
    assert_eq!(token.expose(), "access-first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_read_fails_while_keys_are_rotated_and_resealed() {
    let world = Arc::new(connected(&USERS).await);
    let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let reader = tokio::spawn({
        let (world, stop, count) = (world.clone(), stop.clone(), count.clone());
        async move {
            let mut seed = 100;
            while !stop.load(Ordering::SeqCst) {
                for user in USERS {
                    seed += 1;
                    reads(&world, seed, user).await;
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    });
    for round in 2..12 {
        let administrator = process(&world, 10 + u64::from(round));
        rotate(&world, &administrator).await;
        assert_eq!(sweep(&world, &administrator).await, (USERS.len(), 0), "round {round}");
        assert_eq!((entries(&world).len(), entries_under(&world, round)), (USERS.len(), USERS.len()));
        let seen = count.load(Ordering::SeqCst);
        while count.load(Ordering::SeqCst) == seen && !reader.is_finished() {
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::SeqCst);
    reader.await.unwrap();
}

#[tokio::test]
async fn a_sweep_that_was_killed_at_any_write_goes_on_and_loses_nothing() {
    for trouble in [Trouble::Busy, Trouble::LostAnswer] {
        for reached in 0..USERS.len() {
            let world = connected(&USERS).await;
            rotate(&world, &process(&world, 2)).await;
            let (troubled, left) = world.process_in_trouble(3, trouble);
            let killed = process_over(&world, 4, troubled.ports().store.clone());
            let mut last = None;
            let mut done = 0;
            // Up to the page in which so many were resealed, and then its next write has this trouble.
            while done < reached {
                let next = page(&world, &killed, last).await;
                done += next.resealed;
                last = Some(next);
            }
            left.store(1, Ordering::SeqCst);
            let mut action = ResealTokenVault { from: last.and_then(|page| page.next) };
            while let Ok(page) =
                killed.reseal_token_vault(world.admin.authorize(action.clone()).unwrap()).await
            {
                match page.next {
                    Some(next) => action.from = Some(next),
                    None => break,
                }
            }
            sweep(&world, &process(&world, 5)).await;
            assert_eq!((entries(&world).len(), entries_under(&world, 2)), (USERS.len(), USERS.len()));
            for (seed, user) in (50..).zip(USERS) {
                reads(&world, seed, user).await;
            }
        }
    }
}

#[tokio::test]
async fn two_sweeps_at_once_reseal_each_key_once() {
    let world = connected(&USERS).await;
    let (one, other) = (process(&world, 2), process(&world, 3));
    rotate(&world, &one).await;
    let (a, b) = tokio::join!(sweep(&world, &one), sweep(&world, &other));
    assert_eq!((a.0 + b.0, a.1 + b.1), (USERS.len(), 0));
    assert_eq!((entries(&world).len(), entries_under(&world, 2)), (USERS.len(), USERS.len()));
}

#[tokio::test]
async fn a_key_of_before_is_found_once_it_was_read() {
    let world = connected(&["ada"]).await;
    let [entry] = entries(&world).try_into().unwrap();
    let rows = world.store.rows();
    let key = rows.into_iter().find(|row| row.key.kind == Kind::UserKey && row.key.sort.is_empty()).unwrap();
    let text = String::from_utf8(key.bytes).unwrap().replace(",\"entered\":true", "");
    assert!(!text.contains("entered"), "{text}");
    let put = Write::Put {
        key: key.key,
        condition: Condition::Version(key.version),
        expires_at: None,
        due: None,
        bytes: text.into_bytes(),
    };
    world.store.write(vec![put, Write::Delete { key: entry.key, version: entry.version }]).await.unwrap();
    rotate(&world, &process(&world, 2)).await;
    assert_eq!(sweep(&world, &process(&world, 3)).await, (0, 0));
    reads(&world, 4, "ada").await;
    assert_eq!(sweep(&world, &process(&world, 5)).await, (1, 0));
    reads(&world, 6, "ada").await;
}

#[tokio::test]
async fn a_shredded_key_stays_shredded_and_its_entry_goes_or_is_taken_over() {
    for rotates_first in [true, false] {
        let mut world = connected(&["ada"]).await;
        let rows = world.store.rows();
        let key =
            rows.into_iter().find(|row| row.key.kind == Kind::UserKey && row.key.sort.is_empty()).unwrap();
        world.store.write(vec![Write::Delete { key: key.key, version: key.version }]).await.unwrap();
        if rotates_first {
            rotate(&world, &process(&world, 2)).await;
            assert_eq!(sweep(&world, &process(&world, 3)).await, (0, 0));
            assert_eq!(entries(&world).len(), 0);
        } else {
            // Nothing in memory; the entry of the key that was is still there.
            world.services = process(&world, 4);
            let wat = world.wat(AGENT, "ada").await;
            world.consent_again(&wat, "second").await;
            assert_eq!(entries(&world).len(), 1);
        }
    }
}

#[tokio::test]
async fn access_keys_are_resealed_and_still_sign() {
    let world = connected(&[]).await;
    let request =
        AccessKeyRequest { name: "ci".to_owned(), grants: Vec::new(), life: None, loopback_only: false };
    let made = world.services.create_access_key(request).await.unwrap();
    rotate(&world, &process(&world, 2)).await;
    assert_eq!(sweep(&world, &process(&world, 3)).await, (1, 0));
    assert_eq!(sweep(&world, &process(&world, 4)).await, (0, 0));
    let live = process(&world, 5).access_key(&made.id).await.unwrap().unwrap();
    assert_eq!(live.secrets.secret_access_key.expose(), made.secret_access_key.expose());
}
