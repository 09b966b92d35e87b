//! When two worlds are the same: names, versions and absolute times do not matter, only how things stand to each other, and of
//! that only what some rule asks for.

use std::hash::{DefaultHasher, Hash as _, Hasher};
use std::time::Duration;

use agent_identity_core::Timestamp;
use agent_identity_core::connection::{Connection, Health};
use agent_identity_core::flight::turn::{Holding, Landing};
use agent_identity_core::refresh::Outcome;

use super::provider::Reply;
use super::world::{
    Actor, CALL, Call, Doing, FOR_EVER, LIFE, LIMITS, Setting, World, from_now, patience, token,
};

/// What tells a world from others. With ten million worlds, two look the same by chance once in some 400,000 searches.
pub fn fingerprint(world: &World, setting: &Setting) -> u64 {
    let traits = setting.traits;
    let measured = traits.grace.filter(|grace| traits.rotates && *grace != FOR_EVER);
    let form = Form {
        world,
        behind: setting.actors.iter().map(|(_, skew)| *skew).min().unwrap().min(0),
        counts: traits.rotates,
        grace: measured.map(|grace| ticks(grace) + setting.skew()),
        superseded: traits.rotates && traits.grace != Some(FOR_EVER),
    };
    let mut hasher = DefaultHasher::new();
    form.whole(&mut hasher);
    hasher.finish()
}

fn ticks(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap()
}

struct Form<'a> {
    world: &'a World,
    /// The clock that is most behind: what has passed for it has passed for all.
    behind: i64,
    /// Whether it matters how often a token was sent.
    counts: bool,
    /// How long ago a sending makes a difference.
    grace: Option<i64>,
    /// Whether it matters which tokens were superseded.
    superseded: bool,
}

impl Form<'_> {
    fn whole(&self, into: &mut impl Hasher) {
        let World { provider, faults, outside, open, excuses, announced, .. } = self.world;
        self.connection(&self.world.row.value, into);
        (provider.dead, faults, outside, announced).hash(into);
        self.id(provider.newest).hash(into);
        if self.superseded {
            excuses.min(&2).hash(into);
            let ago = |at| self.ago(at, self.grace.unwrap_or(0));
            let mut superseded: Vec<_> =
                provider.superseded.iter().map(|(id, at)| (self.id(*id), ago(*at))).collect();
            superseded.sort_unstable();
            superseded.hash(into);
        }
        if self.counts {
            let ago = |at| self.grace.map(|grace| self.ago(at, grace));
            let mut open: Vec<_> =
                open.iter().map(|(id, at, times)| (self.id(*id), ago(*at), times.min(&2))).collect();
            open.sort_unstable();
            open.hash(into);
        }
        let mut actors: Vec<u64> = self.world.actors.iter().map(|actor| self.actor(actor)).collect();
        actors.sort_unstable();
        actors.hash(into);
    }

    /// A token, by how it stands to the row's and to the consent.
    fn id(&self, id: u32) -> (i64, bool) {
        let ahead = i64::from(id) - i64::from(token(&self.world.row.value));
        (ahead.clamp(-2, 3), id < self.world.provider.family)
    }

    fn ago(&self, at: i64, most: i64) -> i64 {
        (self.world.now - at).clamp(0, most)
    }

    fn since(&self, elapsed: Duration) -> i64 {
        self.ago(ticks(elapsed), ticks(LIMITS.lease_life) + 1)
    }

    /// A wall time to come, for some clock at least.
    fn to_come(&self, time: Timestamp) -> Option<i64> {
        Some(from_now(time, self.world.now)).filter(|ticks| *ticks > self.behind)
    }

    fn connection(&self, connection: &Connection, into: &mut impl Hasher) {
        let Connection { tokens, health, flight, .. } = connection;
        (self.generation(connection), self.id(token(connection))).hash(into);
        tokens.expires_at.and_then(|end| self.to_come(end)).hash(into);
        match health {
            Health::Active => 0_u8.hash(into),
            Health::NeedsConsent { reason, announced, .. } => (1_u8, reason, announced).hash(into),
        }
        (flight.lease.is_some(), flight.failures.min(4)).hash(into);
        flight.retry_at.and_then(|at| self.to_come(at)).hash(into);
        if let Some(intent) = flight.intent.as_ref().filter(|_| self.counts) {
            let since =
                self.grace.map(|grace| from_now(intent.since, self.world.now).max(-grace + self.behind));
            (since, intent.sends.min(2)).hash(into);
        }
    }

    fn generation(&self, connection: &Connection) -> i64 {
        let row = &self.world.row.value.tokens;
        (connection.tokens.generation.cast_signed() - row.generation.cast_signed()).signum()
    }

    fn actor(&self, actor: &Actor) -> u64 {
        let mut into = DefaultHasher::new();
        (actor.want, actor.skew, actor.frozen, actor.thawed).hash(&mut into);
        let watched = actor
            .sighting
            .as_ref()
            .map(|seen| (seen.watched().min(LIMITS.lease_life), self.ago(ticks(seen.last_look()), 1)));
        watched.hash(&mut into);
        self.doing(actor, &mut into);
        into.finish()
    }

    fn doing(&self, actor: &Actor, into: &mut impl Hasher) {
        let row = &self.world.row;
        let waited = |began: i64| self.ago(began, patience(actor.want) + 1);
        std::mem::discriminant(&actor.doing).hash(into);
        match &actor.doing {
            Doing::Idle => {}
            Doing::Asking(began) | Doing::Pausing(began) => waited(*began).hash(into),
            Doing::Taking(began, taking) => {
                waited(*began).hash(into);
                // Otherwise it will be in conflict, and look again.
                if taking.stored.version == row.version + 1 {
                    self.since(taking.since()).hash(into);
                    self.connection(&taking.stored.value, into);
                }
            }
            Doing::Doubting(taking) => {
                if row.value.flight.lease.as_ref() == Some(taking.lease()) {
                    self.holding(&(**taking).clone().written(), into);
                }
            }
            Doing::Holding(holding) => self.holding(holding, into),
            Doing::Calling(holding, call) => {
                self.before(&holding.stored.value, into);
                self.stands(holding.stored.version, &holding.lease, into);
                self.call(call, into);
            }
            Doing::Writing(writing, came) => {
                let (landing, record) = &**writing;
                self.landing(landing, *came, into);
                (row.value == *record).hash(into);
                if landing.stored.version == row.version {
                    self.connection(record, into);
                }
            }
            Doing::Rereading(landing, came) => {
                self.landing(landing, *came, into);
                (**landing).clone().found((**row).clone()).is_err().hash(into);
            }
            Doing::Announcing(stored) => {
                (stored.version == row.version).hash(into);
            }
        }
    }

    fn stands(&self, version: u64, lease: &agent_identity_core::flight::Lease, into: &mut impl Hasher) {
        let row = &self.world.row;
        (version == row.version, row.value.flight.lease.as_ref() == Some(lease)).hash(into);
    }

    /// What of a record before the call is asked for after it.
    fn before(&self, before: &Connection, into: &mut impl Hasher) {
        let sends = before.flight.intent.as_ref().map(|intent| intent.sends.min(2));
        (self.generation(before), before.flight.failures.min(4), sends).hash(into);
    }

    fn holding(&self, holding: &Holding<Connection>, into: &mut impl Hasher) {
        self.stands(holding.stored.version, &holding.lease, into);
        self.since(holding.since()).hash(into);
        self.before(&holding.stored.value, into);
        self.id(token(&holding.stored.value)).hash(into);
        holding.stored.value.tokens.expires_at.and_then(|end| self.to_come(end)).hash(into);
    }

    fn call(&self, call: &Call, into: &mut impl Hasher) {
        // New tokens that come later than they live are all the same.
        let sent = self.ago(call.sent, LIFE - self.behind + 1);
        match call.reply {
            Some(Reply::Tokens(id)) => (1_u8, self.id(id), sent).hash(into),
            Some(Reply::InvalidGrant) => (2_u8, sent > CALL).hash(into),
            Some(Reply::Throttled) => (3_u8, self.id(call.token), sent > CALL).hash(into),
            None if sent > CALL => 4_u8.hash(into),
            None => (5_u8, self.id(call.token), sent).hash(into),
        }
    }

    fn landing(&self, landing: &Landing<Connection>, came: Option<u32>, into: &mut impl Hasher) {
        self.stands(landing.stored.version, landing.lease(), into);
        self.before(landing.before(), into);
        came.map(|came| self.id(came)).hash(into);
        std::mem::discriminant(landing.outcome()).hash(into);
        if let Outcome::Tokens(renewal) = landing.outcome() {
            renewal.expires_at.and_then(|end| self.to_come(end)).hash(into);
        }
    }
}
