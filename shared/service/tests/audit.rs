//! The audit trail as it is written (D18): chains that verify, whatever becomes of writes.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_identity_core::audit::verify::{Report, Verifier};
use agent_identity_core::audit::{Day, Link, Record, SignedHead};
use agent_identity_core::port::HeadSigner;
use agent_identity_core::store::{Condition, Kind, Store, StoreError, Write};
use agent_identity_core::user::UserKey;
use agent_identity_core::{Error, WorkloadName, encoding, record};
use agent_identity_service::Services;
use agent_identity_service::audit::{About, AuditedStore, Found, Kept, Life, Signing, Terms, Trail, about};
use agent_identity_service::workload::CreateWorkload;
use agent_identity_testkit::{SeededRandom, Sha256};
use async_trait::async_trait;
use world::{AGENT, Reply, Trouble, World};

/// Whose signatures say whether they are its own.
struct Seal;

#[async_trait]
impl HeadSigner for Seal {
    async fn sign(&self, framed: &[u8]) -> Result<Vec<u8>, String> {
        Ok([b"signed ", framed].concat())
    }

    async fn holds(&self, framed: &[u8], signature: &[u8]) -> Result<bool, String> {
        Ok(self.sign(framed).await? == signature)
    }
}

fn trail_of(world: &World, store: Arc<dyn Store>, seed: u64, kept: Kept, life: Life) -> Arc<Trail> {
    let (random, clock) = (Arc::new(SeededRandom::new(seed)), world.clock.clone());
    let terms = Terms { kept, life, signing: Signing::Here(Arc::new(Seal)), days: 30, usage_metrics: false };
    Arc::new(Trail::new(store, Arc::new(Sha256), random, clock, terms))
}

fn trail(world: &World, store: Arc<dyn Store>) -> Arc<Trail> {
    trail_of(world, store, 7, Kept::Rows, Life::Long)
}

/// What is in the trail, and what a verifier says of it.
async fn read(trail: &Trail, days: &[Day]) -> (Vec<Record>, Report) {
    let mut found = Vec::new();
    for day in days {
        trail.read(*day, |next| found.push(next)).await.unwrap();
    }
    let digest = Sha256;
    let (mut verifier, mut records) = (Verifier::new(&digest), Vec::new());
    for next in &found {
        match next {
            Found::Link(link) => {
                verifier.link(link);
                records.extend(link.records.clone());
            }
            Found::Head(_) => {}
            Found::Unreadable(what) => verifier.unreadable(what.as_str()),
        }
    }
    for next in &found {
        if let Found::Head(head) = next {
            verifier.head(head, trail.holds(head).await.unwrap().unwrap());
        }
    }
    (records, verifier.finish())
}

async fn get(trail: &Trail, request: &str) -> Result<(), StoreError> {
    let who =
        About { request: Some(request.to_owned()), ..About::new("access-key/test", "GetResourceApiKey") };
    about(who, trail.credential(None)).await.map(drop)
}

async fn create(world: &World, services: &Services, name: &str) -> Result<(), Error> {
    let action = CreateWorkload {
        name: WorkloadName::parse(name).unwrap(),
        return_urls: Vec::new(),
        tags: BTreeMap::new(),
    };
    services.create_workload(world.admin.authorize(action).unwrap()).await.map(drop)
}

fn links(world: &World) -> u64 {
    world.store.rows().iter().filter(|row| row.key.kind == Kind::Audit).count() as u64
}

/// How far the signed heads say that chains have come.
fn heads(world: &World) -> Vec<u64> {
    let rows = world.store.rows();
    let heads = rows.iter().filter(|row| row.key.kind == Kind::AuditHead);
    heads.map(|row| record::parse::<SignedHead>(row).unwrap().value.head.sequence).collect()
}

fn requests(records: &[Record]) -> Vec<&str> {
    records.iter().filter_map(|record| record.request.as_deref()).collect()
}

#[tokio::test]
async fn those_who_come_at_once_share_links_and_each_is_on_record_once() {
    let world = World::new();
    let (store, left) = world.store_in_trouble(Trouble::Slowness);
    left.store(usize::MAX, Ordering::SeqCst);
    let trail = trail(&world, store);
    let getting: Vec<_> = (0..600)
        .map(|number| {
            let trail = Arc::clone(&trail);
            tokio::spawn(async move { get(&trail, &number.to_string()).await })
        })
        .collect();
    for each in getting {
        each.await.unwrap().unwrap();
    }
    trail.end().await;
    assert!(heads(&world) == [links(&world)], "the end is signed too");
    let (records, report) = read(&trail, &[trail.today()]).await;
    let mut got: Vec<u32> = requests(&records).iter().map(|request| request.parse().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, (0..600).collect::<Vec<_>>());
    assert_eq!((report.findings.len(), report.open.len(), report.unsigned.len()), (0, 0, 0));
    assert!(report.links < 50, "{} links", report.links);
}

/// What does not reach the store is told to who asked, and no chain is torn by it.
#[tokio::test]
async fn d18_whatever_becomes_of_a_write_no_chain_is_torn() {
    for (trouble, lost) in [(Trouble::Busy, true), (Trouble::LostRequest, true), (Trouble::LostAnswer, false)]
    {
        let world = World::new();
        let (store, left) = world.store_in_trouble(trouble);
        let trail = trail(&world, store);
        get(&trail, "before").await.unwrap();
        left.store(1, Ordering::SeqCst);
        assert!(get(&trail, "unknown").await.is_err(), "{trouble:?}");
        get(&trail, "after").await.unwrap();
        let (records, report) = read(&trail, &[trail.today()]).await;
        assert_eq!(report.findings.len(), 0, "{trouble:?}: {:?}", report.findings);
        assert_eq!(report.chains, if trouble == Trouble::Busy { 1 } else { 2 }, "{trouble:?}");
        let mut requests = requests(&records);
        requests.sort_unstable();
        let expected: &[&str] = if lost { &["after", "before"] } else { &["after", "before", "unknown"] };
        assert_eq!(requests, expected, "{trouble:?}");
    }
}

#[tokio::test]
async fn d18_a_change_and_its_record_are_there_both_or_neither() {
    for trouble in [Trouble::Busy, Trouble::LostRequest, Trouble::LostAnswer] {
        let world = World::new();
        let (store, left) = world.store_in_trouble(trouble);
        let trail = trail(&world, store);
        let services = world.process_over(3, Arc::new(AuditedStore::new(Arc::clone(&trail))));
        create(&world, &services, "first").await.unwrap();
        left.store(1, Ordering::SeqCst);
        let outcome = create(&world, &services, "second").await;
        create(&world, &services, "third").await.unwrap();
        let (records, report) = read(&trail, &[trail.today()]).await;
        assert_eq!(report.findings.len(), 0, "{trouble:?}: {:?}", report.findings);
        let workloads = world.store.rows().iter().filter(|row| row.key.kind == Kind::Workload).count();
        assert_eq!(records.len(), workloads, "{trouble:?}: {outcome:?}");
        assert!(records.iter().all(|record| record.changed.iter().any(|it| it.starts_with("put workload/"))));
    }
}

/// Nobody who was refused, by a condition or by a conflict, is on record as if it had been done.
#[tokio::test]
async fn a_change_that_is_refused_is_no_change() {
    let world = World::new();
    let trail = trail(&world, world.store.clone());
    let services = world.process_over(3, Arc::new(AuditedStore::new(Arc::clone(&trail))));
    create(&world, &services, "agent-a").await.unwrap();
    assert!(create(&world, &services, "agent-a").await.is_err());
    create(&world, &services, "agent-b").await.unwrap();
    let (records, report) = read(&trail, &[trail.today()]).await;
    assert_eq!((records.len(), report.chains, report.findings.len()), (2, 1, 0));
}

#[tokio::test]
async fn a_refresh_is_no_change_and_a_consent_and_its_end_are() {
    let mut world = World::with_calendar().await;
    let trail = trail(&world, world.store.clone());
    let services = world.process_over(3, Arc::new(AuditedStore::new(Arc::clone(&trail))));
    let mut told = Vec::new();
    world.services = Arc::clone(&services);
    let session = world.consented(world::request(&world.wat(AGENT, "ada").await)).await;
    world.provider.will(Reply::Tokens("first", 600));
    world.complete(&session, "ada").await.unwrap();
    told.push(read(&trail, &[trail.today()]).await.0.len());
    world.provider.will(Reply::Tokens("second", 600));
    world.clock.advance(Duration::from_secs(700));
    let wat = world.wat(AGENT, "ada").await;
    services.get_oauth2_token(&world.admin, world::request(&wat)).await.unwrap();
    assert_eq!(world.provider.seen("grant_type").last().unwrap(), "refresh_token");
    told.push(read(&trail, &[trail.today()]).await.0.len());
    let connection = world.store.rows().into_iter().find(|row| row.key.kind == Kind::Connection).unwrap();
    let gone = Write::Delete { key: connection.key, version: connection.version };
    AuditedStore::new(Arc::clone(&trail)).write(vec![gone]).await.unwrap();
    told.push(read(&trail, &[trail.today()]).await.0.len());
    assert_eq!([told[1] - told[0], told[2] - told[1]], [0, 1]);
    let (records, _) = read(&trail, &[trail.today()]).await;
    let changed: Vec<&str> = records.iter().flat_map(|it| it.changed.iter().map(String::as_str)).collect();
    assert!(changed.iter().any(|it| it.starts_with("put connection/")), "the consent: {changed:?}");
    assert!(changed.iter().any(|it| it.starts_with("delete connection/")));
}

#[tokio::test]
async fn a_chain_is_of_a_day_and_ends_with_it() {
    let world = World::new();
    let trail = trail(&world, world.store.clone());
    get(&trail, "today").await.unwrap();
    let today = trail.today();
    world.clock.advance(Duration::from_secs(24 * 3600));
    get(&trail, "tomorrow").await.unwrap();
    let (records, report) = read(&trail, &[today]).await;
    assert_eq!(requests(&records), ["today"]);
    assert_eq!((report.findings.len(), report.open.len(), report.unsigned.len()), (0, 0, 0));
    let (records, report) = read(&trail, &[trail.today()]).await;
    assert_eq!(requests(&records), ["tomorrow"]);
    assert_eq!((report.open.len(), report.unsigned.len()), (1, 1));
    trail.sign_heads().await;
    assert_eq!(read(&trail, &[trail.today()]).await.1.unsigned.len(), 0);
}

/// Row by row, the first links of a chain would be missing before the last are gone.
#[tokio::test]
async fn a_day_goes_all_at_once_when_it_was_kept_for_long_enough() {
    let world = World::new();
    let trail = trail(&world, world.store.clone());
    let day = trail.today();
    get(&trail, "morning").await.unwrap();
    trail.sign_heads().await;
    world.clock.set(day.ends().minus(Duration::from_secs(1)));
    get(&trail, "night").await.unwrap();
    trail.end().await;
    world.clock.set(day.ends().plus(Duration::from_secs(30 * 24 * 3600 - 1)));
    let (records, report) = read(&trail, &[day]).await;
    assert_eq!((requests(&records).len(), report.findings.len(), report.unsigned.len()), (2, 0, 0));
    world.clock.advance(Duration::from_secs(1));
    let (records, report) = read(&trail, &[day]).await;
    assert_eq!((records.len(), report.findings.len(), report.chains), (0, 0, 0));
}

#[tokio::test]
async fn a_command_leaves_chains_that_have_ended_and_are_signed() {
    let world = World::new();
    let trail = trail_of(&world, world.store.clone(), 7, Kept::Rows, Life::Brief);
    let services = world.process_over(3, Arc::new(AuditedStore::new(Arc::clone(&trail))));
    for name in ["agent-a", "agent-b"] {
        create(&world, &services, name).await.unwrap();
    }
    let (_, report) = read(&trail, &[trail.today()]).await;
    assert_eq!(
        (report.chains, report.open.len(), report.unsigned.len(), report.findings.len()),
        (2, 0, 0, 0)
    );
}

/// Whoever can write to the store can make a whole chain anew, which holds in itself: what is signed tells.
#[tokio::test]
async fn d18_a_chain_that_was_made_anew_is_not_the_one_that_was_signed() {
    let world = World::new();
    let trail = trail(&world, world.store.clone());
    for number in 0..3 {
        get(&trail, &number.to_string()).await.unwrap();
    }
    trail.sign_heads().await;
    let (day, digest) = (trail.today(), Sha256);
    let mut rows: Vec<_> = world.store.rows().into_iter().filter(|row| row.key.kind == Kind::Audit).collect();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let mut previous = None;
    for row in rows {
        let mut link: Link = record::parse(&row).unwrap().value;
        link.records[0].principal = "somebody else".to_owned();
        link.previous = previous.unwrap_or(link.previous);
        previous = Some(link.hash(&digest));
        let forged = record::put(row.key, Condition::Version(row.version), &link, None, None).unwrap();
        world.store.write(vec![forged]).await.unwrap();
    }
    let (_, report) = read(&trail, &[day]).await;
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert!(findings.len() == 1 && findings[0].ends_with("link 3 was changed"), "{findings:?}");
}

/// The schedule signs what it finds: it must not sign a history other than the one that it has signed before.
#[tokio::test]
async fn d18_the_schedule_goes_on_only_from_what_it_signed() {
    let world = World::new();
    let terms = |kept| Terms {
        kept,
        life: Life::Long,
        signing: Signing::Scheduled(Some(Arc::new(Seal))),
        days: 30,
        usage_metrics: false,
    };
    let (random, clock) = (Arc::new(SeededRandom::new(7)), world.clock.clone());
    let trail = Trail::new(world.store.clone(), Arc::new(Sha256), random, clock, terms(Kept::Rows));
    let rows = || {
        let mut rows: Vec<_> =
            world.store.rows().into_iter().filter(|row| row.key.kind == Kind::Audit).collect();
        rows.sort_by(|a, b| a.key.cmp(&b.key));
        rows
    };
    let sign = async || trail.sign_links(rows().into_iter().filter(|row| row.due.is_some()).collect()).await;
    for number in 0..3 {
        get(&trail, &number.to_string()).await.unwrap();
    }
    // The last is not to be seen yet, as in an index that lags.
    trail.sign_links(rows().into_iter().take(1).collect()).await;
    trail.sign_links(rows().into_iter().skip(2).collect()).await;
    assert_eq!(rows().iter().map(|row| row.due.is_some()).collect::<Vec<_>>(), [false, true, true]);
    sign().await;
    assert!(rows().iter().all(|row| row.due.is_none() && row.expires_at.is_some()));
    assert_eq!(read(&trail, &[trail.today()]).await.1.unsigned.len(), 0);
    get(&trail, "3").await.unwrap();
    // Whoever writes to the store makes the chain anew, with the link that is still to be signed.
    let (mut previous, digest) = (None, Sha256);
    for row in rows() {
        let mut link: Link = record::parse(&row).unwrap().value;
        link.records[0].principal = "somebody else".to_owned();
        link.previous = previous.unwrap_or(link.previous);
        previous = Some(link.hash(&digest));
        let condition = Condition::Version(row.version);
        let forged = record::put(row.key, condition, &link, row.expires_at, row.due).unwrap();
        world.store.write(vec![forged]).await.unwrap();
    }
    sign().await;
    let (_, report) = read(&trail, &[trail.today()]).await;
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    assert!(findings.len() == 1 && findings[0].ends_with("link 3 was changed"), "{findings:?}");
    assert!(rows().last().unwrap().due.is_some(), "what was not signed is due, and said at each tick");
}

#[test]
fn d18_the_hash_of_a_link_is_over_all_of_it() {
    let whole = serde_json::json!({
        "chain": "AAAAAAAAAAAA", "sequence": 7, "previous": "AAAAAAAAAAAAAAAAAAAAAA",
        "records": [{
            "at": 1, "principal": "p", "operation": "o", "outcome": "ok", "workload": "w", "provider": "v", "user": "u",
            "request": "r", "changed": ["put a", "put b"],
        }],
    });
    let others = serde_json::json!({
        "/chain": "AAAAAAAAAAAB", "/sequence": 8, "/previous": "AAAAAAAAAAAAAAAAAAAAAQ", "/records/0/at": 2,
        "/records/0/principal": "x", "/records/0/operation": "x", "/records/0/outcome": "x", "/records/0/workload": "x",
        "/records/0/provider": "x", "/records/0/user": "x", "/records/0/request": "x", "/records/0/changed/1": "x",
    });
    let hash = |link: &serde_json::Value| {
        serde_json::from_value::<Link>(link.clone()).unwrap().hash(&Sha256).to_string()
    };
    let members = whole["records"][0].as_object().unwrap().len() + 3;
    assert_eq!(others.as_object().unwrap().len(), members, "each member is tried");
    let mut seen = std::collections::BTreeSet::from([hash(&whole)]);
    for (place, other) in others.as_object().unwrap() {
        let mut link = whole.clone();
        *link.pointer_mut(place).unwrap() = other.clone();
        assert!(seen.insert(hash(&link)), "{place}");
    }
    // What moves from one member to the next, or from one record to another, is another link.
    let mut moved = whole.clone();
    (moved["records"][0]["workload"], moved["records"][0]["provider"]) = ("wv".into(), "".into());
    assert!(seen.insert(hash(&moved)));
}

#[tokio::test]
async fn nothing_comes_after_the_end_of_a_chain() {
    let world = World::new();
    let trail = trail(&world, world.store.clone());
    get(&trail, "before").await.unwrap();
    trail.end().await;
    let (day, digest) = (trail.today(), Sha256);
    let mut rows: Vec<_> = world.store.rows().into_iter().filter(|row| row.key.kind == Kind::Audit).collect();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    let last: Link = record::parse(rows.last().unwrap()).unwrap().value;
    let more = Link { sequence: last.sequence + 1, previous: last.hash(&digest), ..last };
    let forged = record::create(more.key(day), &more, None).unwrap();
    world.store.write(vec![forged]).await.unwrap();
    let findings = read(&trail, &[day]).await.1.findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[tokio::test]
async fn a_line_says_all_that_its_hash_is_of() {
    let world = World::new();
    let trail = trail_of(&world, world.store.clone(), 7, Kept::Lines, Life::Long);
    let digest = Sha256;
    let mut verifier = Verifier::new(&digest);
    for number in 0..3 {
        let who = About {
            request: Some(format!("r-{number}")),
            user: Some(UserKey::from_digest([7; 32])),
            ..About::new("arn:aws:iam::1:role/x", "GetResourceApiKey")
        };
        let said =
            about(who, trail.credential((number == 1).then_some("AccessDeniedException"))).await.unwrap();
        let mut line = serde_json::json!({
            "principal": "arn:aws:iam::1:role/x", "operation": "GetResourceApiKey", "requestId": format!("r-{number}"),
            "audit": said.audit, "user": said.user,
        });
        if number == 1 {
            line["error"] = "AccessDeniedException".into();
        }
        assert!(said.user.as_ref().is_some_and(|user| encoding::unhex(user).unwrap().len() == 12));
        verifier.link(&Link::of_line(&line).unwrap());
    }
    let report = verifier.finish();
    assert_eq!((report.findings.len(), report.links), (0, 3));
    assert!(world.store.rows().iter().all(|row| row.key.kind != Kind::Audit), "a line is on the line alone");
}

/// The line that a request leaves in the log.
async fn line(trail: &Trail, request: &str) -> Link {
    let who = About { request: Some(request.to_owned()), ..About::new("role", "GetResourceApiKey") };
    let audit = about(who, trail.credential(None)).await.unwrap().audit;
    let line = serde_json::json!({ "principal": "role", "operation": "GetResourceApiKey", "requestId": request, "audit": audit });
    Link::of_line(&line).unwrap()
}

#[tokio::test]
async fn how_far_log_lines_have_come_is_signed_within_a_minute_and_costs_a_write_a_minute() {
    let minute = Duration::from_secs(60);
    let world = World::new();
    let trail = trail_of(&world, world.store.clone(), 7, Kept::Lines, Life::Long);
    let mut lines = Vec::new();
    for number in 0..130 {
        lines.push(line(&trail, &format!("r-{number}")).await);
        trail.note_lines(minute).await;
        assert_eq!(links(&world), number / 60, "not with the first requests of a process");
        world.clock.advance(Duration::from_secs(1));
    }
    trail.note_lines(minute).await;
    world.clock.advance(minute);
    trail.note_lines(minute).await;
    assert_eq!(links(&world), 3);
    world.clock.advance(minute);
    trail.note_lines(minute).await;
    assert_eq!(links(&world), 3, "nothing has moved since");
    trail.sign_heads().await;

    let verified = async |lines: &[Link]| {
        let digest = Sha256;
        let (mut verifier, mut heads) = (Verifier::new(&digest), Vec::new());
        trail
            .read(trail.today(), |found| match found {
                Found::Link(link) => verifier.link(&link),
                Found::Head(head) => heads.push(head),
                Found::Unreadable(what) => panic!("{what}"),
            })
            .await
            .unwrap();
        for link in lines {
            verifier.begins_with(link);
            verifier.link(link);
        }
        for head in &heads {
            verifier.head(head, trail.holds(head).await.unwrap().unwrap());
        }
        verifier.finish()
    };
    let report = verified(&lines).await;
    assert!(report.findings.is_empty() && report.unsigned.is_empty(), "{report:?}");
    // Of lines that are not shown nothing is said, nor of those before an excerpt.
    assert!(verified(&[]).await.findings.is_empty());
    assert!(verified(&lines[100..]).await.findings.is_empty());
    let cut = verified(&lines[..129]).await.findings;
    assert!(
        cut.iter().any(|it| it.to_string().contains("signed up to link 130, and ends with link 129")),
        "{cut:?}"
    );
    // Whoever may write to the log makes the chain anew, and it does not end as it was signed.
    let mut forged: Vec<Link> = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let mut line = line.clone();
        line.records[0].request = Some(format!("another-{number}"));
        if let Some(before) = forged.last() {
            line.previous = before.hash(&Sha256).short();
        }
        forged.push(line);
    }
    let found = verified(&forged).await.findings;
    assert!(found.iter().any(|it| it.to_string().contains("link 130 was changed")), "{found:?}");
}
