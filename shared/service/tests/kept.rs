//! What a provider gave is kept: what that takes is ready before the provider is asked, and insisted on afterwards.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent_identity_core::consent::SessionUri;
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::Principal;
use agent_identity_core::name::UserId;
use agent_identity_core::seal::{Context, Key32, Purpose, SealError, Sealer};
use agent_identity_core::{Result, Secret};
use agent_identity_service::consent::{CompleteConsent, UserIdentifier};
use agent_identity_service::oauth2_token::{Flow, Oauth2TokenAnswer};
use agent_identity_service::{Ports, Services};
use agent_identity_testkit::TestSealer;
use async_trait::async_trait;
use tokio::sync::Notify;
use world::{AGENT, Reply, Trouble, World, refused, request};
use zeroize::Zeroizing;

async fn complete_at(services: Arc<Services>, admin: Principal, session: SessionUri) -> Result<()> {
    let user = UserIdentifier::UserId(UserId::parse("ada").unwrap());
    services.complete_consent(&admin, CompleteConsent { session, user }).await
}

/// Waits until the provider was asked.
async fn asked(world: &World) {
    while world.provider.seen("grant_type").is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_users_first_consent_is_not_lost_when_the_store_is_busy_as_its_tokens_come() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("first", Arc::clone(&gate)));
    let (services, busy) = world.process_on_a_busy_store(5);
    let completing = tokio::spawn(complete_at(services, world.admin.clone(), session));
    asked(&world).await;
    busy.store(3, Ordering::SeqCst);
    gate.notify_one();
    completing.await.unwrap().unwrap();
    assert_eq!(world.token(&wat).await.unwrap(), "access-first");
}

#[tokio::test]
async fn a_users_first_consent_is_not_lost_when_nobody_says_whether_its_tokens_were_stored() {
    for trouble in [Trouble::LostAnswer, Trouble::LostRequest, Trouble::Silence] {
        let world = World::with_calendar().await;
        let wat = world.wat(AGENT, "ada").await;
        let session = world.consented(request(&wat)).await;
        let gate = Arc::new(Notify::new());
        world.provider.will(Reply::Held("first", Arc::clone(&gate)));
        let (services, left) = world.process_in_trouble(5, trouble);
        let completing = tokio::spawn(complete_at(services, world.admin.clone(), session));
        asked(&world).await;
        left.store(2, Ordering::SeqCst);
        gate.notify_one();
        if trouble == Trouble::Silence {
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            left.store(0, Ordering::SeqCst);
        }
        completing.await.unwrap().unwrap();
        assert_eq!(world.token(&wat).await.unwrap(), "access-first", "{trouble:?}");
    }
}

/// A user whose first access token has run out, and their workload access token.
async fn run_out() -> (World, Secret) {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    world.provider.will(Reply::Tokens("first", 60));
    world.complete(&session, "ada").await.unwrap();
    world.clock.advance(std::time::Duration::from_secs(61));
    (world, wat)
}

#[tokio::test]
async fn a_rotated_token_is_not_lost_when_nobody_says_whether_it_was_stored() {
    for trouble in [Trouble::LostAnswer, Trouble::LostRequest] {
        let (world, wat) = run_out().await;
        let gate = Arc::new(Notify::new());
        world.provider.will(Reply::Held("second", Arc::clone(&gate)));
        let (services, left) = world.process_in_trouble(5, trouble);
        let (admin, wanted) = (world.admin.clone(), request(&wat));
        let getting = tokio::spawn(async move { services.get_oauth2_token(&admin, wanted).await });
        while world.provider.seen("refresh_token").is_empty() {
            tokio::task::yield_now().await;
        }
        left.store(2, Ordering::SeqCst);
        gate.notify_one();
        assert!(matches!(getting.await.unwrap().unwrap(), Oauth2TokenAnswer::Token(_)), "{trouble:?}");
        assert_eq!(world.token(&wat).await.unwrap(), "access-second", "{trouble:?}");
        assert_eq!(world.provider.seen("refresh_token"), ["refresh-first"], "{trouble:?}");
    }
}

#[tokio::test]
async fn d11_a_turn_that_was_taken_unheard_is_a_turn_and_no_crash() {
    let (world, wat) = run_out().await;
    let (services, left) = world.process_in_trouble(5, Trouble::LostAnswer);
    left.store(1, Ordering::SeqCst);
    world.provider.will(Reply::Tokens("second", 600));
    let got = services.get_oauth2_token(&world.admin, request(&wat)).await;
    assert!(matches!(got.unwrap(), Oauth2TokenAnswer::Token(_)));
    assert_eq!(world.provider.seen("refresh_token").len(), 1);
}

#[tokio::test]
async fn d11_a_browser_that_came_back_is_sent_on_although_nobody_said_that_it_was_noted() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.offered(request(&wat)).await;
    let (cookie, state) = world.departed(&session).await;
    let (services, left) = world.process_in_trouble(5, Trouble::LostAnswer);
    left.store(1, Ordering::SeqCst);
    world.returned_to(&services, &state, &cookie, Some("code")).await.unwrap();
    world.provider.will(Reply::Tokens("first", 600));
    world.complete(&session, "ada").await.unwrap();
}

#[tokio::test]
async fn d11_a_code_is_not_sent_while_its_tokens_could_not_be_kept() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    // The user's own key is the first thing that is written.
    let (services, busy) = world.process_on_a_busy_store(5);
    busy.store(1, Ordering::SeqCst);
    let (kind, text) = refused(complete_at(services, world.admin.clone(), session.clone()).await);
    assert_eq!(kind, ErrorKind::Throttling, "{text}");
    assert!(world.provider.seen("code").is_empty());
    world.provider.will(Reply::Tokens("first", 600));
    world.complete(&session, "ada").await.unwrap();
    assert_eq!(world.provider.seen("code").len(), 1);
}

/// A sealer whose vault key cannot be read for the next so many values.
struct BusyVault(Arc<AtomicUsize>);

#[async_trait]
impl Sealer for BusyVault {
    async fn seal(
        &self,
        purpose: Purpose,
        context: &Context,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let left = self.0.load(Ordering::SeqCst);
        if left > 0 && purpose == Purpose::Vault {
            self.0.store(left - 1, Ordering::SeqCst);
            return Err(SealError::Busy("test".to_owned()));
        }
        TestSealer.seal(purpose, context, plaintext).await
    }

    async fn open(
        &self,
        purpose: Purpose,
        context: &Context,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        TestSealer.open(purpose, context, sealed).await
    }

    fn seal_with(&self, key: &Key32, context: &Context, plaintext: &[u8]) -> Vec<u8> {
        TestSealer.seal_with(key, context, plaintext)
    }

    fn open_with(
        &self,
        key: &Key32,
        context: &Context,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        TestSealer.open_with(key, context, sealed)
    }
}

#[tokio::test]
async fn a_client_token_is_not_asked_for_while_it_could_not_be_kept_and_is_kept_once_it_came() {
    let world = World::with_calendar().await;
    let mut wanted = request(&world.wat(AGENT, "ada").await);
    wanted.flow = Flow::M2m;
    let busy = Arc::new(AtomicUsize::new(1));
    let ports = Ports { sealer: Arc::new(BusyVault(Arc::clone(&busy))), ..world.services.ports().clone() };
    let services = Services::new(ports, world.services.config().clone());
    let (kind, text) = refused(services.get_oauth2_token(&world.admin, wanted.clone()).await);
    assert_eq!(kind, ErrorKind::Throttling, "{text}");
    assert!(world.provider.seen("grant_type").is_empty());

    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("machine", Arc::clone(&gate)));
    let (admin, request) = (world.admin.clone(), wanted.clone());
    let fetching = tokio::spawn(async move { services.get_oauth2_token(&admin, request).await });
    asked(&world).await;
    busy.store(3, Ordering::SeqCst);
    gate.notify_one();
    assert!(matches!(fetching.await.unwrap().unwrap(), Oauth2TokenAnswer::Token(_)));
    world.services.get_oauth2_token(&world.admin, wanted).await.unwrap();
    assert_eq!(world.provider.seen("grant_type").len(), 1, "it was kept");
}
