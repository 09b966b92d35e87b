//! What there is: one row, one provider, and actors, each a process with its own clock, that may die, freeze, or not hear.

use std::rc::Rc;
use std::time::Duration;

use agent_identity_core::connection::{Connection, Health, HeldTokens, Reason};
use agent_identity_core::flight::turn::{Holding, Landing, Taking};
use agent_identity_core::flight::watch::Sighting;
use agent_identity_core::flight::{Flight, Lease, Limits};
use agent_identity_core::record::Stored;
use agent_identity_core::refresh::{Answer, GrantLife, RefreshTerms, RefreshTraits, Want};
use agent_identity_core::store::{Key, Kind};
use agent_identity_core::user::UserKey;
use agent_identity_core::{Id, Timestamp};

use super::broken::Broken;
use super::provider::{Provider, Reply};

/// A tick is a second. The times of the product, made small: a lease lives 2 ticks, a call begins in the tick in which the lease
/// was taken and takes one at most; access tokens live 6 and are refreshed in their last 3; losers wait 1, the schedule 3.
pub const LIMITS: Limits = Limits {
    lease_life: Duration::from_secs(2),
    lease_reserve: Duration::from_secs(2),
    longest_look: Duration::from_secs(1),
};
pub const CALL: i64 = 1;
pub const LIFE: i64 = 6;
/// A grace that is longer than any recovery.
pub const FOR_EVER: Duration = Duration::from_secs(1_000_000_000);
const EPOCH: i64 = 1_000_000;

/// What is explored.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What the provider does.
    pub traits: RefreshTraits,
    /// The actors: what they want, and by how many ticks their wall clock is off.
    pub actors: Vec<(Want, i64)>,
    /// How many faults may happen: crashes, freezes, lost answers of the provider and of the store, throttling, and what the
    /// user does meanwhile.
    pub faults: u8,
    /// How many of these may be that the user consents again, or revokes.
    pub outside: u8,
    /// The rule that is broken on purpose.
    pub broken: Option<Broken>,
}

impl Setting {
    /// What we think that the provider does.
    pub fn terms(&self) -> RefreshTerms {
        let traits = match self.broken {
            Some(Broken::ReplayWhileValid) => RefreshTraits { rotates: false, ..self.traits },
            _ => self.traits,
        };
        RefreshTerms { generation: 1, traits, life: GrantLife::default(), keep_alive: None }
    }

    /// By how much two wall clocks may differ.
    pub fn skew(&self) -> i64 {
        let skews = || self.actors.iter().map(|(_, skew)| *skew).chain([0]);
        skews().max().unwrap() - skews().min().unwrap()
    }
}

pub fn patience(want: Want) -> i64 {
    match want {
        Want::Read | Want::Replace(_) => 1,
        Want::Schedule => 3,
    }
}

#[derive(Clone, Debug)]
pub struct World {
    pub now: i64,
    pub row: Rc<Stored<Connection>>,
    pub provider: Provider,
    pub actors: Vec<Actor>,
    pub faults: u8,
    pub outside: u8,
    /// Tokens that were sent and may have had an effect of which nobody knows: (token, when first, how often).
    pub open: Vec<(u32, i64, u8)>,
    /// Crashes and lost answers between the provider's commit and ours, less the grants that they cost (D6).
    pub excuses: u8,
    /// Whether the end of the grant was announced.
    pub announced: bool,
    /// What the last step ended with.
    pub ended: Option<Ended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Answer(Answer),
    Held,
    Nothing,
}

#[derive(Clone, Debug)]
pub struct Actor {
    pub want: Want,
    pub skew: i64,
    pub frozen: bool,
    /// Whether it was frozen in this turn.
    pub thawed: bool,
    pub sighting: Option<Sighting>,
    pub doing: Doing,
}

/// What an actor is about to do. `i64`: when it began to ask.
#[derive(Clone, Debug)]
pub enum Doing {
    Idle,
    Asking(i64),
    Pausing(i64),
    Taking(i64, Rc<Taking<Connection>>),
    /// Whether the lease was written is not known.
    Doubting(Rc<Taking<Connection>>),
    Holding(Rc<Holding<Connection>>),
    Calling(Rc<Holding<Connection>>, Call),
    /// Writes this record; the refresh token that came, if one came.
    Writing(Rc<(Landing<Connection>, Connection)>, Option<u32>),
    Rereading(Rc<Landing<Connection>>, Option<u32>),
    Announcing(Rc<Stored<Connection>>),
}

#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub token: u32,
    pub sent: i64,
    pub reply: Option<Reply>,
}

/// A rule of the issue that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// A refresh token is sent twice only as D5 allows.
    SentTwice,
    /// Two never send at once.
    OneSender,
    /// No grant is lost that D6 promises to keep.
    Lost,
    /// None is lost silently.
    Silent,
    /// While the access token is valid, a read is served, at once.
    ServeWhileValid,
    /// Tokens never go back, and what came is kept.
    Newest,
    /// `needs_consent` is written only where the grant is dead.
    NotDead,
    /// Whoever asks gets an answer in the end.
    Answered,
    /// Who has ended holds nothing.
    LeaseLeft,
}

#[derive(Clone, Copy, Debug)]
pub struct Violation(pub Rule, pub &'static str);

pub fn seconds(ticks: i64) -> Duration {
    Duration::from_secs(u64::try_from(ticks).unwrap())
}

pub fn wall(ticks: i64) -> Timestamp {
    Timestamp::from_seconds(EPOCH + ticks)
}

/// A wall time in ticks from `now`.
pub fn from_now(time: Timestamp, now: i64) -> i64 {
    time.as_seconds() - EPOCH - now
}

pub fn key() -> Key {
    Key::single(Kind::Connection, String::new())
}

/// The refresh token of a connection: what is sealed, in this world.
pub fn token(connection: &Connection) -> u32 {
    connection.tokens.sealed.parse().unwrap()
}

impl World {
    /// The access token is in the last tick before its margin.
    pub fn new(setting: &Setting) -> Self {
        let now = 100;
        let tokens = held(1, 1, now - LIFE / 2 + 1);
        let connection = Connection {
            workload: Id::from_bytes([1; 16]),
            user: UserKey::from_digest([2; 32]),
            provider: Id::from_bytes([3; 16]),
            target: String::new(),
            resources: Vec::new(),
            audiences: Vec::new(),
            provider_generation: 1,
            asked: [].into(),
            granted: [].into(),
            account: None,
            consented_at: None,
            used_at: None,
            announced_end: None,
            tokens,
            health: Health::Active,
            flight: Flight::default(),
        };
        let idle = |(want, skew): &(Want, i64)| Actor::new(*want, *skew);
        Self {
            now,
            row: Rc::new(Stored { key: key(), version: 1, value: connection }),
            provider: Provider::new(),
            actors: setting.actors.iter().map(idle).collect(),
            faults: setting.faults,
            outside: setting.outside,
            open: Vec::new(),
            excuses: 0,
            announced: false,
            ended: None,
        }
    }

    /// A write of the row; `false`: a conflict. Every write is held against what may become of a row.
    pub fn write(&mut self, setting: &Setting, version: u64, record: &Connection) -> Result<bool, Violation> {
        let before = &self.row.value;
        let conflict = version != self.row.version;
        if conflict && setting.broken != Some(Broken::NoCondition) {
            return Ok(false);
        }
        if record.tokens.generation < before.tokens.generation || token(record) < token(before) {
            return Err(Violation(Rule::Newest, "older tokens were written over newer ones"));
        }
        if let Health::NeedsConsent { reason, announced, .. } = record.health {
            let would_take = self.provider.takes(token(record), self.now, setting.traits);
            if before.health == Health::Active && (would_take || reason == Reason::Expired) {
                return Err(Violation(Rule::NotDead, "a connection that works needs a consent"));
            }
            if announced && !self.announced {
                return Err(Violation(Rule::Silent, "the loss is on record as announced, and was not"));
            }
        } else {
            self.announced = false;
        }
        let version = self.row.version + 1;
        self.row = Rc::new(Stored { key: key(), version, value: record.clone() });
        Ok(true)
    }

    /// The user consents again. As `connect` in `service/src/consent/complete.rs` writes it.
    pub fn consent(&mut self) {
        let refresh_token = self.provider.consent();
        let mut row = (*self.row).clone();
        row.version += 1;
        row.value.tokens = held(row.value.tokens.generation + 1, refresh_token, self.now);
        row.value.health = Health::Active;
        row.value.flight = Flight::after(Some(&row.value.flight));
        self.row = Rc::new(row);
        self.announced = false;
    }

    /// What actors forget about tokens that nobody can send any more.
    pub fn forget(&mut self) {
        let mut alive = vec![token(&self.row.value)];
        for actor in &self.actors {
            match &actor.doing {
                Doing::Holding(holding) | Doing::Calling(holding, _) => {
                    alive.push(token(&holding.stored.value));
                }
                Doing::Taking(_, taking) | Doing::Doubting(taking) => {
                    alive.push(token(&taking.stored.value));
                }
                Doing::Writing(_, came) | Doing::Rereading(_, came) => alive.extend(*came),
                Doing::Idle | Doing::Asking(_) | Doing::Pausing(_) | Doing::Announcing(_) => {}
            }
        }
        alive.push(self.provider.newest);
        self.provider.superseded.retain(|(token, _)| alive.contains(token));
        self.open.retain(|(token, ..)| alive.contains(token));
        let lease = self.row.value.flight.lease.clone();
        for actor in &mut self.actors {
            if actor.sighting.as_ref().is_some_and(|seen| Some(seen.lease()) != lease.as_ref()) {
                actor.sighting = None;
            }
        }
    }
}

impl Actor {
    pub fn new(want: Want, skew: i64) -> Self {
        Self { want, skew, frozen: false, thawed: false, sighting: None, doing: Doing::Idle }
    }

    /// Looks at somebody's lease; whether they are dead.
    pub fn watch(&mut self, lease: &Lease, elapsed: Duration) -> bool {
        let sighting = self.sighting.get_or_insert_with(|| Sighting::first(lease, elapsed));
        sighting.look(lease, elapsed, LIMITS);
        sighting.is_dead(LIMITS)
    }
}

/// Tokens that the provider gave when it was asked at `asked`, a wall time in ticks.
pub fn held(generation: u64, refresh_token: u32, asked: i64) -> HeldTokens {
    HeldTokens {
        generation,
        obtained_at: wall(asked),
        expires_at: Some(wall(asked + LIFE)),
        refreshable: true,
        sealed: refresh_token.to_string(),
    }
}
