//! Which connections there are, for who manages them: found by user, workload and provider; shown to who may see them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod world;

use std::collections::BTreeSet;

use agent_identity_core::connection::{ConnectionAddress, Health};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Grant, Principal};
use agent_identity_core::name::UserId;
use agent_identity_core::store::Kind;
use agent_identity_core::{ProviderName, Result, Secret, WorkloadName};
use agent_identity_service::connection::{ConnectionShown, ListConnections};
use agent_identity_service::consent::ProviderReturn;
use agent_identity_service::denial::NamedUser;
use agent_identity_service::page::{Page, PageRequest};
use agent_identity_service::workload::DeleteWorkload;
use world::{AGENT, CALENDAR, Reply, World, refused, request};

const OTHER_AGENT: &str = "other-agent";
const MAIL: &str = "mail";

/// What a list is about: a workload, a user, a provider.
type About<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);

struct Stage {
    world: World,
}

impl Stage {
    /// `ada` and `bob` at two providers, for two workloads.
    async fn new() -> Self {
        let world = World::with_calendar().await;
        world.create_workload(OTHER_AGENT).await;
        world.create_provider(MAIL).await;
        let stage = Self { world };
        for user in ["ada", "bob"] {
            for agent in [AGENT, OTHER_AGENT] {
                for provider in [CALENDAR, MAIL] {
                    stage.connect(agent, user, provider).await;
                }
            }
        }
        stage
    }

    async fn connect(&self, agent: &str, user: &str, provider: &str) {
        let world = &self.world;
        let wat = world.wat(agent, user).await;
        let mut wanted = request(&wat);
        wanted.provider = ProviderName::parse(provider).unwrap();
        let session = world.offered(wanted).await;
        let (cookie, state) = world.departed(&session).await;
        let answer = ProviderReturn {
            provider: world.provider_id(provider).await,
            state,
            code: Some(Secret::new("code")),
            issuer: None,
            error: None,
        };
        world.services.return_from_provider(answer, Some(&cookie)).await.unwrap();
        world.provider.will(Reply::Tokens("first", 600));
        world.complete(&session, user).await.unwrap();
    }

    async fn page(
        &self,
        principal: &Principal,
        (workload, user, provider): About<'_>,
        max_results: usize,
        next_token: Option<String>,
    ) -> Result<Page<ConnectionShown>> {
        let action = ListConnections {
            workload: workload.map(|name| WorkloadName::parse(name).unwrap()),
            user: user.map(|user| NamedUser::UserId(UserId::parse(user).unwrap())),
            provider: provider.map(|name| ProviderName::parse(name).unwrap()),
            page: PageRequest { max_results, next_token },
        };
        self.world.services.list_connections(principal.authorize(action)?).await
    }

    /// All of them, walked in pages of this size.
    async fn all(&self, principal: &Principal, about: About<'_>, size: usize) -> Vec<ConnectionShown> {
        let (mut found, mut next) = (Vec::new(), None);
        loop {
            let page = self.page(principal, about, size, next.take()).await.unwrap();
            assert!(page.items.len() <= size);
            found.extend(page.items);
            match page.next_token {
                Some(token) => next = Some(token),
                None => return found,
            }
        }
    }

    async fn names(&self, about: About<'_>, size: usize) -> Vec<(String, String)> {
        let admin = &self.world.admin;
        let all = self.all(admin, about, size).await;
        let mut names: Vec<_> = all
            .iter()
            .map(|it| (it.workload.as_ref().unwrap().to_string(), it.provider.as_ref().unwrap().to_string()))
            .collect();
        let ids: BTreeSet<String> = all.iter().map(|it| it.address.to_string()).collect();
        assert_eq!(ids.len(), all.len(), "each once");
        names.sort();
        names
    }
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = all.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    pairs.sort();
    pairs
}

fn granted(grants: &[&str]) -> Principal {
    let grants = grants.iter().map(|grant| Grant::parse(grant).unwrap()).collect();
    Principal { name: "test".to_owned(), grants }
}

#[tokio::test]
async fn they_are_found_by_user_workload_and_provider_and_by_all_of_them() {
    let stage = Stage::new().await;
    let four = pairs(&[(AGENT, CALENDAR), (AGENT, MAIL), (OTHER_AGENT, CALENDAR), (OTHER_AGENT, MAIL)]);
    for size in [1, 3, 100] {
        assert_eq!(stage.names((None, Some("ada"), None), size).await, four);
        assert_eq!(stage.names((Some(AGENT), None, None), size).await.len(), 4);
        assert_eq!(stage.names((None, None, Some(MAIL)), size).await.len(), 4);
        assert_eq!(
            stage.names((Some(AGENT), Some("bob"), None), size).await,
            pairs(&[(AGENT, CALENDAR), (AGENT, MAIL)])
        );
        assert_eq!(stage.names((Some(AGENT), Some("bob"), Some(MAIL)), size).await, pairs(&[(AGENT, MAIL)]));
        assert_eq!(stage.names((None, Some("bob"), Some(MAIL)), size).await.len(), 2);
        assert!(stage.names((None, Some("nobody"), None), size).await.is_empty());
    }
    let (kind, _) = refused(stage.page(&stage.world.admin, (None, None, None), 10, None).await);
    assert_eq!(kind, ErrorKind::Validation);
    let (kind, _) = refused(stage.page(&stage.world.admin, (Some("nobody"), None, None), 10, None).await);
    assert_eq!(kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_new_consent_is_the_same_connection() {
    let stage = Stage::new().await;
    let wat = stage.world.wat(AGENT, "ada").await;
    stage.world.consent_again(&wat, "second").await;
    assert_eq!(stage.names((Some(AGENT), Some("ada"), None), 10).await.len(), 2);
    let entries = stage.world.store.rows().iter().filter(|row| row.key.kind == Kind::ConnectionEntry).count();
    assert_eq!(entries, 8 * 3);
}

#[tokio::test]
async fn who_may_not_see_them_does_not() {
    let stage = Stage::new().await;
    let some = granted(&["admin workload=test* provider=mail"]);
    assert!(stage.all(&some, (None, Some("ada"), None), 10).await.is_empty());
    let of_one = granted(&[&format!("admin workload={OTHER_AGENT} provider={MAIL}")]);
    let seen = stage.all(&of_one, (None, Some("ada"), None), 1).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].workload.as_ref().unwrap().as_str(), OTHER_AGENT);
    let (kind, _) = refused(stage.page(&of_one, (Some(AGENT), None, None), 10, None).await);
    assert_eq!(kind, ErrorKind::AccessDenied);
    let (kind, _) = refused(stage.page(&granted(&["read"]), (None, Some("ada"), None), 10, None).await);
    assert_eq!(kind, ErrorKind::AccessDenied);
    let services = &stage.world.services;
    let all = stage.all(&stage.world.admin, (None, Some("ada"), None), 10).await;
    for connection in &all {
        let outcome = services.get_connection(&of_one, &connection.address).await;
        assert_eq!(outcome.is_ok(), connection.address == seen[0].address);
    }
    // Whether there is one is not said to who may not see it.
    let nobodys = ConnectionAddress { target: "other".to_owned(), ..all[0].address.clone() };
    assert_eq!(
        refused(services.get_connection(&granted(&["read"]), &nobodys).await).0,
        ErrorKind::AccessDenied
    );
    assert_eq!(refused(services.get_connection(&stage.world.admin, &nobodys).await).0, ErrorKind::NotFound);
}

#[tokio::test]
async fn one_says_how_it_does_and_nothing_secret() {
    let stage = Stage::new().await;
    let world = &stage.world;
    let admin = &world.admin;
    let shown = stage.all(admin, (Some(AGENT), Some("ada"), Some(CALENDAR)), 10).await.remove(0);
    assert_eq!(shown.health, Health::Active);
    assert!(shown.refreshable && shown.failures == 0);
    assert!(shown.next_refresh_at.unwrap() < shown.expires_at.unwrap());
    let said = format!("{shown:?}");
    assert!(!said.contains("first"), "{said}");
    world.provider.will(Reply::Error("invalid_grant"));
    let wat = world.later(700).await;
    let _consent = world.get(&wat).await;
    let shown = world.services.get_connection(admin, &shown.address).await.unwrap();
    assert!(matches!(shown.health, Health::NeedsConsent { .. }));
    assert_eq!(shown.next_refresh_at, None);
}

#[tokio::test]
async fn those_of_a_workload_that_is_gone_are_still_there_for_who_may_see_all() {
    let stage = Stage::new().await;
    let (services, admin) = (&stage.world.services, &stage.world.admin);
    let action = DeleteWorkload { name: WorkloadName::parse(AGENT).unwrap() };
    services.delete_workload(admin.authorize(action).unwrap()).await.unwrap();
    let all = stage.all(admin, (None, Some("ada"), None), 10).await;
    assert_eq!(all.iter().filter(|it| it.workload.is_none()).count(), 2);
    assert_eq!(
        stage.all(&granted(&["admin workload=my* provider=*"]), (None, Some("ada"), None), 10).await.len(),
        0
    );
}
