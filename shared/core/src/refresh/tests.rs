use proptest::prelude::*;

use super::*;
use crate::connection::tests::{START, at, connection};
use crate::flight::{Ended, InFlight as _, Intent, LEASE_LIFE, Landing, Lease, Settlement, Trouble};

const ROTATING: RefreshTraits = RefreshTraits { rotates: true, grace: None, kills_access_token: false };
const STEADY: RefreshTraits = RefreshTraits { rotates: false, ..ROTATING };

#[test]
fn a_fresh_token_is_served_and_an_old_one_is_refreshed_before_it_ends() {
    let connection = connection(3600);
    assert_eq!(connection.decide(at(0), terms(ROTATING)), Decision::Serve);
    assert_eq!(connection.decide(at(2699), terms(ROTATING)), Decision::Serve);
    assert_eq!(connection.decide(at(2700), terms(ROTATING)), Decision::RefreshOrServe);
    assert_eq!(connection.decide(at(3600), terms(ROTATING)), Decision::Refresh);
}

#[test]
fn a_token_that_lives_shorter_than_the_margin_is_not_refreshed_on_every_read() {
    assert_eq!(connection(60).decide(at(29), terms(ROTATING)), Decision::Serve);
    assert_eq!(connection(60).decide(at(30), terms(ROTATING)), Decision::RefreshOrServe);
}

#[test]
fn a_refresh_that_kills_the_access_token_is_done_late() {
    let late = RefreshTraits { kills_access_token: true, ..ROTATING };
    assert_eq!(connection(3600).decide(at(3589), terms(late)), Decision::Serve);
    assert_eq!(connection(3600).decide(at(3590), terms(late)), Decision::RefreshOrServe);
}

#[test]
fn d3_tokens_of_another_generation_are_never_served() {
    assert_eq!(
        connection(3600).decide(
            at(0),
            RefreshTerms {
                generation: 2,
                traits: ROTATING,
                life: GrantLife { idle: None, absolute: None },
                keep_alive: None
            }
        ),
        Decision::Consent(Reason::ProviderChanged)
    );
}

#[test]
fn a_dead_grant_is_served_until_its_access_token_ends() {
    let mut dead = connection(3600);
    dead.health = Health::NeedsConsent { reason: Reason::InvalidGrant, since: at(3300), announced: true };
    assert_eq!(dead.decide(at(3599), terms(ROTATING)), Decision::Serve);
    assert_eq!(dead.decide(at(3600), terms(ROTATING)), Decision::Consent(Reason::InvalidGrant));
}

#[test]
fn d5_after_a_lost_answer_a_rotating_provider_without_grace_gets_the_old_token_again_only_at_the_end() {
    let mut lost = connection(3600);
    lost.flight.intent = Some(Intent { since: at(3300), sends: 1 });
    assert_eq!(lost.decide(at(3301), terms(ROTATING)), Decision::Serve);
    assert_eq!(lost.decide(at(3600), terms(ROTATING)), Decision::Refresh);
    lost.flight.intent = Some(Intent { since: at(3300), sends: 2 });
    lost.flight.retry_at = Some(at(3610));
    assert_eq!(lost.decide(at(3601), terms(ROTATING)), Decision::Wait(at(3610)), "and not at every read");
    assert_eq!(lost.decide(at(3610), terms(ROTATING)), Decision::Refresh);
}

#[test]
fn d5_within_a_known_grace_the_old_token_is_replayed_at_once() {
    let graceful = RefreshTraits { grace: Some(Duration::from_secs(60)), ..ROTATING };
    let mut lost = connection(3600);
    lost.flight.intent = Some(Intent { since: at(3300), sends: 1 });
    assert_eq!(lost.decide(at(3301), terms(graceful)), Decision::RefreshOrServe);
    assert_eq!(lost.decide(at(3361), terms(graceful)), Decision::Serve);
}

#[test]
fn d5_a_provider_that_does_not_rotate_is_asked_again_freely() {
    let mut lost = connection(3600);
    lost.flight.intent = Some(Intent { since: at(3300), sends: 7 });
    assert_eq!(lost.decide(at(3301), terms(STEADY)), Decision::RefreshOrServe);
    assert_eq!(lost.decide(at(3600), terms(STEADY)), Decision::Refresh);
}

#[test]
fn while_a_provider_asks_to_wait_the_valid_token_is_served() {
    let mut waiting = connection(3600);
    waiting.flight.retry_at = Some(at(4000));
    assert_eq!(waiting.decide(at(3400), terms(STEADY)), Decision::Serve);
    assert_eq!(waiting.decide(at(3700), terms(STEADY)), Decision::Wait(at(4000)));
    assert_eq!(waiting.decide(at(4000), terms(STEADY)), Decision::Refresh);
}

const fn terms(traits: RefreshTraits) -> RefreshTerms {
    RefreshTerms { generation: 1, traits, life: GrantLife { idle: None, absolute: None }, keep_alive: None }
}

#[test]
fn a_connection_is_due_when_a_read_would_refresh_it() {
    assert_eq!(connection(3600).due(terms(ROTATING), at(0)), Some(at(2700)));
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
    dead.health = Health::NeedsConsent { reason: Reason::InvalidGrant, since: at(3300), announced: true };
    dead.tokens.refreshable = false;
    let mut without_refresh_token = connection(3600);
    without_refresh_token.tokens.refreshable = false;
    let mut endless = connection(3600);
    endless.tokens.expires_at = None;
    for connection in [&dead, &without_refresh_token, &endless] {
        assert_eq!(connection.due(terms(ROTATING), at(0)), None);
    }
    let changed = RefreshTerms {
        generation: 2,
        traits: ROTATING,
        life: GrantLife { idle: None, absolute: None },
        keep_alive: None,
    };
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
    lost.flight.intent = Some(Intent { since: at(2700), sends: 1 });
    assert_eq!(lost.due(terms(ROTATING), at(2701)), Some(at(3600)));
    assert_eq!(lost.due(terms(graceful), at(2701)), Some(at(2700)));
    assert_eq!(lost.due(terms(graceful), at(2761)), Some(at(3600)), "the grace has passed");
    assert_eq!(lost.due(terms(STEADY), at(2701)), Some(at(2700)));
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
            connection.health = Health::NeedsConsent { reason: Reason::InvalidGrant, since: at(0), announced: true };
        }
        connection.flight.retry_at = retry.map(at);
        connection.flight.intent = (sends > 0).then_some(Intent { since: at(since), sends });
        let traits = RefreshTraits { rotates, grace: grace.map(Duration::from_secs), kills_access_token };
        let refreshes = |now| {
            matches!(connection.decide(now, terms(traits)), Decision::Refresh | Decision::RefreshOrServe)
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
        let decision = connection.decide(at(now), terms(traits));
        if now >= lifetime {
            prop_assert!(!matches!(decision, Decision::Serve | Decision::RefreshOrServe));
        } else {
            prop_assert!(matches!(decision, Decision::Serve | Decision::RefreshOrServe));
        }
    }
}

fn renewal(asked: u64) -> Outcome {
    Outcome::Tokens(Renewal {
        asked_at: at(asked),
        expires_at: Some(at(asked + 600)),
        granted: BTreeSet::new(),
    })
}

/// What `found` becomes when a turn that began on `before` ends with this.
fn settled(
    before: &Connection,
    found: &Connection,
    landing: Landing,
    outcome: &Outcome,
) -> Settlement<Connection> {
    let pause = Duration::from_secs(4);
    found.settle(&Ended { before, landing, outcome, now: at(3700), pause })
}

fn departed() -> (Connection, Lease) {
    let mut departed = connection(3600);
    let lease = departed.flight.depart("me", at(3650));
    (departed, lease)
}

fn every_outcome() -> [Outcome; 6] {
    [
        renewal(3650),
        Outcome::GrantRefused,
        Outcome::Refused,
        Outcome::Throttled(None),
        Outcome::NotSent,
        Outcome::Unknown,
    ]
}

#[test]
fn tokens_that_came_are_kept_with_the_next_generation_and_nothing_stays_open() {
    let (before, _) = departed();
    let Settlement::Keep(kept) = settled(&before, &before, Landing::Holding, &renewal(3650)) else {
        panic!("they are kept")
    };
    assert_eq!((kept.tokens.generation, kept.tokens.expires_at), (2, Some(at(4250))));
    assert_eq!(kept.flight, Flight { attempts: 1, ..Flight::default() });
    assert!(kept.tokens.refreshable && kept.health == Health::Active);
}

#[test]
fn the_holders_tokens_count_and_not_those_of_an_earlier_call() {
    let (before, _) = departed();
    let mut sibling = before.clone();
    sibling.tokens.generation = 2;
    let Settlement::Keep(kept) = settled(&before, &sibling, Landing::Holding, &renewal(3650)) else {
        panic!("the holder called last")
    };
    assert_eq!(kept.tokens.generation, 3);
    assert_eq!(settled(&before, &sibling, Landing::Fenced, &renewal(3650)), Settlement::Leave);
}

#[test]
fn a_fenced_holders_tokens_are_kept_where_none_came_since() {
    let (before, _) = departed();
    let mut taken_over = before.clone();
    taken_over.flight.depart("you", at(3680));
    let Settlement::Keep(kept) = settled(&before, &taken_over, Landing::Fenced, &renewal(3650)) else {
        panic!("they are kept")
    };
    assert_eq!(kept.flight, taken_over.flight, "whoever took over is still calling");
    taken_over.flight.lose(Some(at(3690)));
    let Settlement::Keep(kept) = settled(&before, &taken_over, Landing::Fenced, &renewal(3650)) else {
        panic!("they are kept")
    };
    assert_eq!(
        kept.flight,
        Flight { attempts: 2, ..Flight::default() },
        "what was open was of the old token"
    );
}

#[test]
fn d7_who_was_fenced_writes_nothing_but_tokens() {
    let (before, _) = departed();
    for outcome in every_outcome().iter().filter(|outcome| !matches!(outcome, Outcome::Tokens(_))) {
        assert_eq!(settled(&before, &before, Landing::Fenced, outcome), Settlement::Leave, "{outcome:?}");
    }
}

#[test]
fn d19_a_lost_race_gives_the_lease_back_and_leaves_the_newer_tokens() {
    let (before, _) = departed();
    let mut sibling = before.clone();
    sibling.tokens.generation = 2;
    for outcome in every_outcome().iter().filter(|outcome| !matches!(outcome, Outcome::Tokens(_))) {
        let Settlement::Note(found) = settled(&before, &sibling, Landing::Holding, outcome) else {
            panic!("{outcome:?}: the lease goes")
        };
        assert_eq!(found.flight, Flight { attempts: 1, ..Flight::default() }, "{outcome:?}");
        assert_eq!((found.tokens, found.health), (sibling.tokens.clone(), Health::Active), "{outcome:?}");
    }
}

#[test]
fn d5_what_was_not_done_is_not_counted_and_what_may_have_been_done_stays_open() {
    let (before, _) = departed();
    for (outcome, open, wait, said) in [
        (Outcome::Refused, false, 4, "refused"),
        (Outcome::NotSent, false, 4, "not_sent"),
        (Outcome::Throttled(None), false, 4, "throttled"),
        (Outcome::Throttled(Some(Duration::from_secs(90))), false, 90, "throttled"),
        (Outcome::Unknown, true, 4, "no_answer"),
    ] {
        let Settlement::Note(noted) = settled(&before, &before, Landing::Holding, &outcome) else {
            panic!("{outcome:?} is noted")
        };
        assert_eq!(noted.flight.intent.is_some(), open, "{outcome:?}");
        assert_eq!(noted.flight.retry_at, Some(at(3700 + wait)), "{outcome:?}");
        assert_eq!((&noted.flight.lease, noted.flight.failures), (&None, 1), "{outcome:?}");
        assert_eq!((noted.health, noted.flight.trouble.map(Trouble::as_str)), (Health::Active, Some(said)));
    }
}

#[test]
fn a_dead_grant_is_due_until_it_was_announced() {
    let (mut before, _) = departed();
    for (sends, reason) in [(1, Reason::InvalidGrant), (2, Reason::LostRotation)] {
        before.flight.intent = Some(Intent { since: at(3650), sends });
        let Settlement::Note(dead) = settled(&before, &before, Landing::Holding, &Outcome::GrantRefused)
        else {
            panic!("it is noted")
        };
        assert_eq!(dead.unannounced(), Some(reason));
        assert_eq!(dead.due(terms(ROTATING), at(3700)), Some(at(3700).plus(LEASE_LIFE)));
        assert_eq!(dead.flight.lease, None);
        let told = dead.announced();
        assert_eq!(told.unannounced(), None);
        let end = at(3700).plus(DEAD_GRANT_KEPT);
        assert_eq!((told.forgotten_at(), told.due(terms(ROTATING), at(3700))), (Some(end), Some(end)), "D8");
        let forgotten = told.without_refresh_token();
        assert_eq!((forgotten.forgotten_at(), forgotten.due(terms(ROTATING), end)), (None, None));
        assert_eq!((forgotten.tokens.generation, forgotten.health), (2, told.health));
    }
    let changed = connection(3600).of_a_changed_provider(START);
    assert_eq!(changed.unannounced(), Some(Reason::ProviderChanged));
}

#[test]
fn the_end_of_a_grant_is_announced_once_and_before_it_comes() {
    const DAY: u64 = 24 * 3600;
    let days = |days: u64| Duration::from_secs(days * DAY);
    let with = |idle: Option<u64>, absolute: Option<u64>| RefreshTerms {
        life: GrantLife { idle: idle.map(days), absolute: absolute.map(days) },
        ..terms(ROTATING)
    };
    let held = connection(3600);
    // Nobody knows of an end.
    assert_eq!(held.end_notice(with(None, None)), None);
    // What comes first: a week before, or halfway.
    assert_eq!(held.end_notice(with(Some(90), Some(365))), Some((at(83 * DAY), at(90 * DAY))));
    assert_eq!(held.end_notice(with(Some(90), Some(4))), Some((at(2 * DAY), at(4 * DAY))));
    // A refresh moves the end of an unused one, and not the other.
    let mut refreshed = held.clone();
    refreshed.tokens.obtained_at = at(80 * DAY);
    assert_eq!(refreshed.end_notice(with(Some(90), Some(365))), Some((at(163 * DAY), at(170 * DAY))));
    assert_eq!(refreshed.end_notice(with(None, Some(365))), Some((at(358 * DAY), at(365 * DAY))));
    // Due then, if not before; and not again for the same end.
    let mut endless = held.clone();
    endless.tokens.expires_at = None;
    let year = with(None, Some(365));
    assert_eq!(endless.due(year, at(0)), Some(at(358 * DAY)));
    let told = endless.with_announced_end(at(365 * DAY));
    assert_eq!((told.end_notice(year), told.due(year, at(0))), (None, None));
    assert!(held.due(year, at(0)) < Some(at(3600)), "the refresh comes first");
    // What has no grant any more has no end.
    for mut dead in [held.clone(), held.clone(), held.of_a_changed_provider(at(1))] {
        dead.tokens.refreshable = false;
        assert_eq!(dead.end_notice(year), None);
    }
    let older = Connection { consented_at: None, ..held };
    assert_eq!(older.end_notice(year), None, "it does not say when its user consented");
}
