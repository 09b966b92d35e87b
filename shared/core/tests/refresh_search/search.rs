//! Everything that can happen, breadth first: each world once.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use agent_identity_core::flight::InFlight as _;
use agent_identity_core::refresh::{Answer, Want};

use super::canonical::fingerprint;
use super::moves::{Move, moves, tick};
use super::step::Step;
use super::world::{Actor, Doing, Ended, Rule, Setting, Violation, World, wall};

/// What was found.
#[derive(Debug)]
pub struct Found {
    pub states: usize,
    /// The rule that did not hold, and the way there.
    pub violation: Option<(Violation, Vec<String>)>,
}

/// Fingerprints are hashed already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only fingerprints are kept")
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// Each world that was seen, and one from which it was reached: the first leads back to itself no more.
type Seen = HashMap<u64, u64, BuildHasherDefault<AsIs>>;

/// Looks at every world that can be reached, or until a rule does not hold.
pub fn search(setting: &Setting) -> Found {
    let first = World::new(setting);
    let mut seen = Seen::default();
    let mut alone = HashSet::new();
    seen.insert(fingerprint(&first, setting), 0);
    let mut next = VecDeque::from([first]);
    while let Some(world) = next.pop_front() {
        let from = fingerprint(&world, setting);
        let judged = judge_alone(&world, setting, &mut alone);
        if let Err(violation) = judged {
            return Found {
                states: seen.len(),
                violation: Some((violation, way_to(&world, setting, &seen))),
            };
        }
        for (actor, moved, to) in moves(&world, setting) {
            match to {
                Ok(to) => {
                    if let Entry::Vacant(new) = seen.entry(fingerprint(&to, setting)) {
                        new.insert(from);
                        next.push_back(to);
                    }
                }
                Err(violation) => {
                    let mut way = way_to(&world, setting, &seen);
                    way.push(format!("{actor:?} {moved:?}"));
                    return Found { states: seen.len(), violation: Some((violation, way)) };
                }
            }
        }
    }
    Found { states: seen.len(), violation: None }
}

/// The moves that lead there, found again by following the fingerprints.
fn way_to(world: &World, setting: &Setting, seen: &Seen) -> Vec<String> {
    let mut prints = vec![fingerprint(world, setting)];
    while let Some(before) = seen.get(prints.last().unwrap()).filter(|before| **before != 0) {
        prints.push(*before);
    }
    prints.reverse();
    let mut at = World::new(setting);
    let mut way = Vec::new();
    for print in prints.iter().skip(1) {
        for (actor, moved, to) in moves(&at, setting) {
            if let Ok(to) = to
                && fingerprint(&to, setting) == *print
            {
                way.push(format!("{actor:?} {moved:?} at {}", at.now));
                at = to;
                break;
            }
        }
    }
    way
}

/// What becomes of the row when everybody has died: who comes then gets an answer in the end, and if it is that the user must
/// consent again, that is announced.
fn judge_alone(world: &World, setting: &Setting, judged: &mut HashSet<u64>) -> Result<(), Violation> {
    let mut alone = world.clone();
    (alone.actors, alone.faults, alone.outside) = (vec![Actor::new(Want::Read, 0)], 0, 0);
    alone.open.clear();
    alone.excuses = 9;
    alone.forget();
    let quiet = Setting { broken: None, ..setting.clone() };
    if !judged.insert(fingerprint(&alone, &quiet)) {
        return Ok(());
    }
    for _ in 0..200 {
        let Some((_, _, to)) = moves(&alone, &quiet).into_iter().find(|(_, moved, _)| {
            !matches!(moved, Move::Tick) || !matches!(alone.actors[0].doing, Doing::Idle)
        }) else {
            break;
        };
        alone = to?;
        match alone.ended {
            Some(Ended::Answer(Answer::Serve)) => return Ok(()),
            Some(Ended::Answer(Answer::Consent(_))) => return announced(alone, &quiet),
            Some(Ended::Answer(Answer::Wait(_) | Answer::Unavailable | Answer::Again) | Ended::Held) => {
                tick(&mut alone);
            }
            Some(Ended::Nothing) | None => {}
        }
    }
    Err(Violation(Rule::Answered, "who asks alone is never answered"))
}

fn announced(mut world: World, setting: &Setting) -> Result<(), Violation> {
    world.actors = vec![Actor::new(Want::Schedule, 0)];
    if world.row.value.unannounced().is_some() && world.row.value.due(setting.terms(), wall(0)).is_none() {
        return Err(Violation(Rule::Silent, "nobody will look at a loss that was not announced"));
    }
    for _ in 0..4 {
        let step = Step { world: &mut world, setting, actor: 0 }.next();
        if let Some(step) = step {
            step?;
        }
    }
    if !world.announced || world.row.value.unannounced().is_some() {
        return Err(Violation(Rule::Silent, "a loss was never announced"));
    }
    Ok(())
}
