use proptest::prelude::*;

use super::*;
use crate::flight::Intent;

const START: Timestamp = Timestamp::from_seconds(1_000_000);
const ROTATING: RefreshTraits = RefreshTraits { rotates: true, grace: None, kills_access_token: false };
const STEADY: RefreshTraits = RefreshTraits { rotates: false, ..ROTATING };

fn at(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

fn connection(lifetime: u64) -> Connection {
    Connection {
        workload: Id::from_bytes([1; 16]),
        user: UserKey::from_digest([2; 32]),
        provider: Id::from_bytes([3; 16]),
        target: DEFAULT_LABEL.to_owned(),
        resources: Vec::new(),
        audiences: Vec::new(),
        provider_generation: 1,
        asked: BTreeSet::new(),
        granted: BTreeSet::new(),
        tokens: HeldTokens {
            generation: 1,
            obtained_at: START,
            expires_at: Some(at(lifetime)),
            refreshable: true,
            sealed: String::new(),
        },
        health: Health::Active,
        flight: Flight::default(),
    }
}

#[test]
fn a_fresh_token_is_served_and_an_old_one_is_refreshed_before_it_ends() {
    let connection = connection(3600);
    assert_eq!(connection.decide(at(0), 1, ROTATING), Decision::Serve);
    assert_eq!(connection.decide(at(3299), 1, ROTATING), Decision::Serve);
    assert_eq!(connection.decide(at(3300), 1, ROTATING), Decision::RefreshOrServe);
    assert_eq!(connection.decide(at(3600), 1, ROTATING), Decision::Refresh);
}

#[test]
fn a_token_that_lives_shorter_than_the_margin_is_not_refreshed_on_every_read() {
    assert_eq!(connection(60).decide(at(29), 1, ROTATING), Decision::Serve);
    assert_eq!(connection(60).decide(at(30), 1, ROTATING), Decision::RefreshOrServe);
}

#[test]
fn a_refresh_that_kills_the_access_token_is_done_late() {
    let late = RefreshTraits { kills_access_token: true, ..ROTATING };
    assert_eq!(connection(3600).decide(at(3589), 1, late), Decision::Serve);
    assert_eq!(connection(3600).decide(at(3590), 1, late), Decision::RefreshOrServe);
}

#[test]
fn d3_tokens_of_another_generation_are_never_served() {
    assert_eq!(connection(3600).decide(at(0), 2, ROTATING), Decision::Consent(Reason::ProviderChanged));
}

#[test]
fn a_dead_grant_is_served_until_its_access_token_ends() {
    let mut dead = connection(3600);
    dead.health = Health::NeedsConsent { reason: Reason::InvalidGrant, since: at(3300) };
    assert_eq!(dead.decide(at(3599), 1, ROTATING), Decision::Serve);
    assert_eq!(dead.decide(at(3600), 1, ROTATING), Decision::Consent(Reason::InvalidGrant));
}

#[test]
fn d5_after_a_lost_answer_a_rotating_provider_without_grace_gets_the_old_token_again_only_at_the_end() {
    let mut lost = connection(3600);
    lost.flight.intent = Some(Intent { since: at(3300), sends: 1 });
    assert_eq!(lost.decide(at(3301), 1, ROTATING), Decision::Serve);
    assert_eq!(lost.decide(at(3600), 1, ROTATING), Decision::Refresh);
    lost.flight.intent = Some(Intent { since: at(3300), sends: 2 });
    lost.flight.retry_at = Some(at(3610));
    assert_eq!(lost.decide(at(3601), 1, ROTATING), Decision::Wait(at(3610)), "and not at every read");
    assert_eq!(lost.decide(at(3610), 1, ROTATING), Decision::Refresh);
}

#[test]
fn d5_within_a_known_grace_the_old_token_is_replayed_at_once() {
    let graceful = RefreshTraits { grace: Some(Duration::from_secs(60)), ..ROTATING };
    let mut lost = connection(3600);
    lost.flight.intent = Some(Intent { since: at(3300), sends: 1 });
    assert_eq!(lost.decide(at(3301), 1, graceful), Decision::RefreshOrServe);
    assert_eq!(lost.decide(at(3361), 1, graceful), Decision::Serve);
}

#[test]
fn d5_a_provider_that_does_not_rotate_is_asked_again_freely() {
    let mut lost = connection(3600);
    lost.flight.intent = Some(Intent { since: at(3300), sends: 7 });
    assert_eq!(lost.decide(at(3301), 1, STEADY), Decision::RefreshOrServe);
    assert_eq!(lost.decide(at(3600), 1, STEADY), Decision::Refresh);
}

#[test]
fn while_a_provider_asks_to_wait_the_valid_token_is_served() {
    let mut waiting = connection(3600);
    waiting.flight.retry_at = Some(at(4000));
    assert_eq!(waiting.decide(at(3400), 1, STEADY), Decision::Serve);
    assert_eq!(waiting.decide(at(3700), 1, STEADY), Decision::Wait(at(4000)));
    assert_eq!(waiting.decide(at(4000), 1, STEADY), Decision::Refresh);
}

const fn terms(traits: RefreshTraits) -> RefreshTerms {
    RefreshTerms { generation: 1, traits }
}

#[test]
fn a_connection_is_due_when_a_read_would_refresh_it() {
    assert_eq!(connection(3600).due(terms(ROTATING), at(0)), Some(at(3300)));
    assert_eq!(connection(60).due(terms(ROTATING), at(0)), Some(at(30)));
}

#[test]
fn a_connection_whose_refresh_kills_the_access_token_is_due_at_its_end() {
    let late = RefreshTraits { kills_access_token: true, ..ROTATING };
    assert_eq!(connection(3600).due(terms(late), at(0)), Some(at(3600)));
}

#[test]
fn what_no_refresh_can_help_is_never_due() {
    let mut dead = connection(3600);
    dead.health = Health::NeedsConsent { reason: Reason::InvalidGrant, since: at(3300) };
    let mut without_refresh_token = connection(3600);
    without_refresh_token.tokens.refreshable = false;
    let mut endless = connection(3600);
    endless.tokens.expires_at = None;
    for connection in [&dead, &without_refresh_token, &endless] {
        assert_eq!(connection.due(terms(ROTATING), at(0)), None);
    }
    let changed = RefreshTerms { generation: 2, traits: ROTATING };
    assert_eq!(connection(3600).due(changed, at(0)), None, "D3");
}

#[test]
fn a_wait_moves_the_due_time_and_a_lease_holds_it_off_for_its_life() {
    let mut waiting = connection(3600);
    waiting.flight.retry_at = Some(at(3400));
    assert_eq!(waiting.due(terms(STEADY), at(3300)), Some(at(3400)));
    waiting.flight.depart("me", at(3450));
    assert_eq!(waiting.due(terms(STEADY), at(3450)), Some(at(3470)));
}

#[test]
fn d5_after_a_lost_answer_a_rotating_provider_is_due_at_the_end_or_within_its_grace() {
    let graceful = RefreshTraits { grace: Some(Duration::from_secs(60)), ..ROTATING };
    let mut lost = connection(3600);
    lost.flight.intent = Some(Intent { since: at(3300), sends: 1 });
    assert_eq!(lost.due(terms(ROTATING), at(3301)), Some(at(3600)));
    assert_eq!(lost.due(terms(graceful), at(3301)), Some(at(3300)));
    assert_eq!(lost.due(terms(graceful), at(3361)), Some(at(3600)), "the grace has passed");
    assert_eq!(lost.due(terms(STEADY), at(3301)), Some(at(3300)));
}

struct Fnv;

impl crate::port::Digest for Fnv {
    fn sha256(&self, bytes: &[u8]) -> [u8; 32] {
        let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&hash.to_be_bytes());
        digest
    }
}

#[test]
fn tokens_for_different_resources_are_different_connections() {
    let text = |resources: &[&str], audiences: &[&str]| {
        let own = |list: &[&str]| list.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let (resources, audiences) = (own(resources), own(audiences));
        ConnectionTarget { label: DEFAULT_LABEL, resources: &resources, audiences: &audiences }.text(&Fnv)
    };
    assert_eq!(text(&[], &[]), "default");
    assert_eq!(text(&["a", "b"], &[]), text(&["b", "a", "a"], &[]));
    assert_ne!(text(&["a"], &[]), text(&[], &["a"]));
    assert_ne!(text(&["a"], &[]), text(&["b"], &[]));
}

proptest! {
    /// Otherwise a row would be due for ever, or never.
    #[test]
    fn the_due_time_and_the_read_agree(
        lifetime in 0_u64..5_000, now in 0_u64..6_000, sends in 0_u32..3, since in 0_u64..6_000,
        retry in proptest::option::of(0_u64..8_000), rotates: bool, grace in proptest::option::of(0_u64..2_000),
        refreshable: bool, dead: bool, kills_access_token: bool, endless: bool,
    ) {
        let mut connection = connection(lifetime);
        connection.tokens.refreshable = refreshable;
        if endless {
            connection.tokens.expires_at = None;
        }
        if dead {
            connection.health = Health::NeedsConsent { reason: Reason::InvalidGrant, since: at(0) };
        }
        connection.flight.retry_at = retry.map(at);
        connection.flight.intent = (sends > 0).then_some(Intent { since: at(since), sends });
        let traits = RefreshTraits { rotates, grace: grace.map(Duration::from_secs), kills_access_token };
        let refreshes = |now| {
            matches!(connection.decide(now, 1, traits), Decision::Refresh | Decision::RefreshOrServe)
        };
        let now = at(now);
        match connection.due(terms(traits), now) {
            Some(due) if due <= now => prop_assert!(refreshes(now), "due for ever"),
            Some(due) if kills_access_token => prop_assert!(due > now),
            Some(_) | None => prop_assert!(!refreshes(now), "a read finds it first"),
        }
    }

    #[test]
    fn no_state_makes_a_read_serve_a_token_that_has_ended(
        lifetime in 0_u64..10_000, now in 0_u64..20_000, sends in 0_u32..4, retry in proptest::option::of(0_u64..20_000),
        rotates: bool, grace in proptest::option::of(0_u64..2_000), refreshable: bool,
    ) {
        let mut connection = connection(lifetime);
        connection.tokens.refreshable = refreshable;
        connection.flight.retry_at = retry.map(at);
        connection.flight.intent = (sends > 0).then_some(Intent { since: at(lifetime / 2), sends });
        let traits = RefreshTraits { rotates, grace: grace.map(Duration::from_secs), kills_access_token: false };
        let decision = connection.decide(at(now), 1, traits);
        if now >= lifetime {
            prop_assert!(!matches!(decision, Decision::Serve | Decision::RefreshOrServe));
        } else {
            prop_assert!(matches!(decision, Decision::Serve | Decision::RefreshOrServe));
        }
    }
}

#[test]
fn a_row_from_before_connections_kept_what_they_are_for_still_reads() {
    let mut connection = connection(3600);
    connection.resources = vec!["https://api.example/".to_owned()];
    let mut row = serde_json::to_value(&connection).unwrap();
    assert_eq!(serde_json::from_value::<Connection>(row.clone()).unwrap(), connection);
    row.as_object_mut().unwrap().retain(|name, _| name != "resources" && name != "audiences");
    assert_eq!(serde_json::from_value::<Connection>(row).unwrap().resources, Vec::<String>::new());
}
