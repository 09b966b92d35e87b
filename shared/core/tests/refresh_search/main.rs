//! The refresh machine in every order in which things can happen: actors in different processes, one row, one provider; and at
//! every step a crash, a lost answer of the provider or of the store, a process that freezes and wakes, throttling, clocks that
//! differ, a user who consents again or revokes. The actors run the product's own code (`core::flight`, `core::refresh`).
//!
//! `cargo nextest run -p agent-identity-core --test refresh_search` explores two actors and two faults, and breaks each rule on
//! purpose; three actors are `bash tests/run search`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::unreachable,
    reason = "a test stops at the first surprise, and says what it has seen"
)]

mod broken;
mod canonical;
mod moves;
mod provider;
mod search;
mod step;
mod world;

use std::time::{Duration, Instant};

use agent_identity_core::refresh::{RefreshTraits, Want};

use search::search;
use world::{Setting, Violation};

const STEADY: RefreshTraits = RefreshTraits { rotates: false, grace: None, kills_access_token: false };
const ROTATING: RefreshTraits = RefreshTraits { rotates: true, ..STEADY };
/// Longer than recovery takes, and shorter.
const LONG_GRACE: RefreshTraits = RefreshTraits { grace: Some(world::FOR_EVER), ..ROTATING };
const SHORT_GRACE: RefreshTraits = RefreshTraits { grace: Some(Duration::from_secs(3)), ..ROTATING };

/// A reader and the schedule, whose clock is ahead.
const TWO: [(Want, i64); 2] = [(Want::Read, 0), (Want::Schedule, 1)];
const FAR_APART: [(Want, i64); 2] = [(Want::Read, 3), (Want::Schedule, 0)];
const TWO_READERS: [(Want, i64); 2] = [(Want::Read, 0), (Want::Read, 0)];
/// A reader, and who was told that the first access token is no good.
const REPLACING: [(Want, i64); 2] = [(Want::Read, 0), (Want::Replace(1), 0)];
const THREE: [(Want, i64); 3] = [(Want::Read, 0), (Want::Read, 0), (Want::Schedule, 1)];

fn setting(traits: RefreshTraits, actors: &[(Want, i64)], faults: u8) -> Setting {
    Setting { traits, actors: actors.to_vec(), faults, outside: 1, broken: None }
}

/// Explores all of it, and finds that every rule holds.
fn holds(traits: RefreshTraits, actors: &[(Want, i64)], faults: u8) {
    let began = Instant::now();
    let found = search(&setting(traits, actors, faults));
    println!(
        "{actors:?}, {faults} faults: {} states in {:.1} s",
        found.states,
        began.elapsed().as_secs_f64()
    );
    if let Some((Violation(rule, text), way)) = found.violation {
        panic!("{rule:?}: {text}, after\n{}", way.join("\n"));
    }
}

#[test]
fn two_actors_and_two_faults_where_the_provider_does_not_rotate() {
    holds(STEADY, &TWO, 2);
}

#[test]
fn two_actors_and_two_faults_where_it_rotates_without_grace() {
    holds(ROTATING, &TWO, 2);
}

#[test]
#[ignore = "long: `bash tests/run search`"]
fn two_actors_and_two_faults_where_it_rotates_with_a_short_grace() {
    holds(SHORT_GRACE, &TWO, 2);
}

#[test]
fn two_actors_and_two_faults_where_it_rotates_with_a_long_grace() {
    holds(LONG_GRACE, &TWO, 2);
}

#[test]
fn a_reader_and_who_replaces_a_refused_token() {
    for traits in [STEADY, ROTATING, LONG_GRACE] {
        holds(traits, &REPLACING, 2);
    }
}

#[test]
fn each_rule_that_is_broken_is_found() {
    for (broken, traits, rule) in broken::ALL {
        let found = search(&Setting { broken: Some(broken), ..setting(traits, &TWO, 2) });
        let Some((Violation(found_rule, text), way)) = found.violation else {
            panic!("{broken:?} was not found")
        };
        println!("{broken:?}: {text}, after {} moves; {} states", way.len(), found.states);
        assert_eq!(found_rule, rule, "{broken:?}: {text}, after\n{}", way.join("\n"));
    }
}

#[test]
#[ignore = "long: `bash tests/run search`"]
fn three_actors_and_two_faults_where_the_provider_does_not_rotate() {
    holds(STEADY, &THREE, 2);
}

#[test]
#[ignore = "long: `bash tests/run search`"]
fn three_actors_and_two_faults_where_it_rotates_without_grace() {
    holds(ROTATING, &THREE, 2);
}

#[test]
#[ignore = "long: `bash tests/run search`"]
fn three_actors_and_two_faults_where_it_rotates_with_a_short_grace() {
    holds(SHORT_GRACE, &THREE, 2);
}

#[test]
#[ignore = "long: `bash tests/run search`"]
fn three_actors_and_two_faults_where_it_rotates_with_a_long_grace() {
    holds(LONG_GRACE, &THREE, 2);
}

#[test]
#[ignore = "long: `bash tests/run search`"]
fn two_actors_and_three_faults() {
    for traits in [STEADY, ROTATING, LONG_GRACE] {
        holds(traits, &TWO_READERS, 3);
    }
}

#[test]
#[ignore = "long: `bash tests/run search`"]
fn clocks_that_are_far_apart() {
    for traits in [STEADY, ROTATING, SHORT_GRACE, LONG_GRACE] {
        holds(traits, &FAR_APART, 2);
    }
}
