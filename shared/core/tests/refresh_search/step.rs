//! What an actor does next, by `core::flight::turn` and `core::refresh`: as the service does it, one read, write or call at a
//! time.

use std::rc::Rc;

use agent_identity_core::connection::{Connection, Health, Reason};
use agent_identity_core::flight::turn::{Asking, Holding, Landed, Landing, Look, Looked, Next};
use agent_identity_core::flight::{LIMITS as REAL, Lease};
use agent_identity_core::refresh::{Answer, Outcome, Renewal, Verdict, Want};
use agent_identity_core::store::Condition;

use super::broken::Broken;
use super::provider::Reply;
use super::world::{
    CALL, Call, Doing, Ended, LIFE, LIMITS, Rule, Setting, Violation, World, held, key, patience, seconds,
    token, wall,
};

const OWNERS: [&str; 4] = ["a", "b", "c", "d"];

/// A step of one actor in a world that is being changed.
pub struct Step<'a> {
    pub world: &'a mut World,
    pub setting: &'a Setting,
    pub actor: usize,
}

type Stepped = Result<(), Violation>;

impl Step<'_> {
    fn now(&self) -> i64 {
        self.world.now + self.world.actors[self.actor].skew
    }

    fn want(&self) -> Want {
        self.world.actors[self.actor].want
    }

    fn broken(&self, broken: Broken) -> bool {
        self.setting.broken == Some(broken)
    }

    fn goes_on(&mut self, doing: Doing) {
        let actor = &mut self.world.actors[self.actor];
        actor.thawed &= !matches!(doing, Doing::Idle | Doing::Asking(_));
        actor.doing = doing;
    }

    fn end(&mut self, ended: Ended) {
        self.world.ended = Some(ended);
        self.goes_on(Doing::Idle);
    }

    /// Whoever waits for something else (time, the provider) has no next step.
    pub fn next(&mut self) -> Option<Stepped> {
        let doing = std::mem::replace(&mut self.world.actors[self.actor].doing, Doing::Idle);
        Some(match doing {
            Doing::Idle => {
                self.begin();
                Ok(())
            }
            Doing::Asking(began) => self.look(began),
            Doing::Pausing(_) | Doing::Calling(..) => {
                self.goes_on(doing);
                return None;
            }
            Doing::Taking(began, taking) => self.take(began, &taking).map(drop),
            Doing::Doubting(taking) => {
                let found = (*self.world.row).clone();
                match Rc::unwrap_or_clone(taking).found_after(Some(&found)) {
                    Some(holding) => self.goes_on(Doing::Holding(Rc::new(holding))),
                    // The store failed, and the client is told so.
                    None => self.end(Ended::Nothing),
                }
                Ok(())
            }
            Doing::Holding(holding) => self.call(holding),
            Doing::Writing(writing, came) => self.store(&writing, came).map(drop),
            Doing::Rereading(landing, came) => {
                let lease = landing.lease().clone();
                let outcome = landing.outcome().clone();
                match Rc::unwrap_or_clone(landing).found((*self.world.row).clone()) {
                    Ok(landing) => self.settle(landing, came),
                    Err(landed) => self.landed(&outcome, landed, &lease, came),
                }
            }
            Doing::Announcing(stored) => {
                self.world.announced = true;
                self.world.write(self.setting, stored.version, &stored.value.announced()).map(drop)
            }
        })
    }

    /// The first look of the schedule is for what is still to be announced.
    fn begin(&mut self) {
        let row = &self.world.row;
        let doing = if self.want() == Want::Schedule && row.value.unannounced().is_some() {
            Doing::Announcing(Rc::clone(row))
        } else {
            Doing::Asking(self.world.now)
        };
        self.goes_on(doing);
    }

    fn look(&mut self, began: i64) -> Stepped {
        let found = (*self.world.row).clone();
        let (now, elapsed, want) = (wall(self.now()), seconds(self.world.now), self.want());
        let actor = &mut self.world.actors[self.actor];
        let lease = found.value.flight.lease.clone();
        let dead = lease.as_ref().is_some_and(|lease| actor.watch(lease, elapsed));
        let holder_is_dead = dead || (lease.is_some() && self.broken(Broken::NoWatch));
        let patience = if self.broken(Broken::NoPatience) { 1000 } else { patience(want) };
        let terms = self.setting.terms();
        let asking =
            Asking { want, terms, began: seconds(began), patience: seconds(patience), limits: LIMITS };
        let valid = found.value.tokens.valid(now);
        let look = Look { now, elapsed, holder_is_dead, owner: &|| OWNERS[self.actor].to_owned() };
        let waits = want == Want::Read && lease.is_some() && !holder_is_dead;
        if self.broken(Broken::WaitWhileValid) && waits && self.world.now - began < 2 {
            return self.wait(began, valid);
        }
        match asking.look(&key(), Some(found), || None, look) {
            Looked::Settled(Some(stored)) if want == Want::Read => {
                self.answer(stored.value.answer(now, terms), &stored.value)
            }
            Looked::Settled(_) => {
                self.end(Ended::Nothing);
                Ok(())
            }
            Looked::Held if valid && want == Want::Read => {
                Err(Violation(Rule::ServeWhileValid, "told to come back"))
            }
            Looked::Held => {
                self.end(Ended::Held);
                Ok(())
            }
            Looked::Wait => self.wait(began, valid),
            Looked::Take(taking) => {
                self.world.actors[self.actor].sighting = None;
                self.goes_on(Doing::Taking(began, Rc::new(*taking)));
                Ok(())
            }
        }
    }

    fn wait(&mut self, began: i64, valid: bool) -> Stepped {
        if valid && self.want() == Want::Read {
            return Err(Violation(Rule::ServeWhileValid, "waits for somebody else"));
        }
        if self.world.now - began > patience(self.want()) {
            return Err(Violation(Rule::Answered, "waits longer than losers may"));
        }
        self.goes_on(Doing::Pausing(began));
        Ok(())
    }

    fn answer(&mut self, answer: Answer, stored: &Connection) -> Stepped {
        let valid = stored.tokens.valid(wall(self.now()));
        if valid && !matches!(answer, Answer::Serve | Answer::Again) {
            return Err(Violation(Rule::ServeWhileValid, "a valid token is not served"));
        }
        if answer == Answer::Again {
            self.goes_on(Doing::Asking(self.world.now));
        } else {
            self.end(Ended::Answer(answer));
        }
        Ok(())
    }

    /// Writes a lease and its intent; whether it was written.
    pub fn take(
        &mut self,
        began: i64,
        taking: &Rc<agent_identity_core::flight::turn::Taking<Connection>>,
    ) -> Result<bool, Violation> {
        let Condition::Version(version) = taking.condition else { panic!("the row is there") };
        let mut record = taking.stored.value.clone();
        if self.broken(Broken::NoIntent) {
            record.flight.intent = None;
        }
        let written = self.world.write(self.setting, version, &record)?;
        self.goes_on(if written {
            Doing::Holding(Rc::new(Rc::unwrap_or_clone(Rc::clone(taking)).written()))
        } else {
            Doing::Asking(began)
        });
        Ok(written)
    }

    /// Asks what is left of the lease, and sends.
    fn call(&mut self, holding: Rc<Holding<Connection>>) -> Stepped {
        if !holding.may_call(seconds(self.world.now)) && !self.broken(Broken::NoReserve) {
            return self.land(Rc::unwrap_or_clone(holding), Outcome::NotSent, None);
        }
        let sent = self.world.now;
        // What is on its way for a consent before concerns nobody.
        let family = self.world.provider.family;
        let on_their_way = |doing: &Doing| match doing {
            Doing::Calling(_, call) => {
                call.reply.is_none() && sent - call.sent < CALL && call.token >= family
            }
            _ => false,
        };
        let token = token(&holding.stored.value);
        if token >= family && self.world.actors.iter().any(|actor| on_their_way(&actor.doing)) {
            return Err(Violation(Rule::OneSender, "two calls are on their way"));
        }
        self.may_send(token, &holding.stored.value)?;
        match self.world.open.iter_mut().find(|(sent, ..)| *sent == token) {
            Some((_, _, times)) => *times = times.saturating_add(1).min(3),
            None => self.world.open.push((token, sent, 1)),
        }
        self.goes_on(Doing::Calling(holding, Call { token, sent, reply: None }));
        Ok(())
    }

    /// D5, said by what happened and not by what the row says.
    fn may_send(&self, token: u32, connection: &Connection) -> Stepped {
        let traits = self.setting.traits;
        let Some((_, first, _)) = self.world.open.iter().find(|(sent, ..)| *sent == token) else {
            return Ok(());
        };
        let skew = self.setting.skew();
        let in_grace = traits
            .grace
            .is_some_and(|grace| self.world.now - first < i64::try_from(grace.as_secs()).unwrap() + skew);
        if traits.rotates && !in_grace && connection.tokens.valid(wall(self.now())) {
            return Err(Violation(Rule::SentTwice, "while the access token is valid, outside a grace"));
        }
        Ok(())
    }

    /// The answer of a call is there, or will never be.
    pub fn answered(&mut self, holding: Rc<Holding<Connection>>, call: Call) -> Stepped {
        let asked_at = wall(call.sent + self.world.actors[self.actor].skew);
        let (outcome, came) = match call.reply {
            Some(Reply::Tokens(came)) => {
                let expires_at = Some(asked_at.plus(seconds(LIFE)));
                (Outcome::Tokens(Renewal { asked_at, expires_at, granted: [].into() }), Some(came))
            }
            Some(Reply::InvalidGrant) => (Outcome::GrantRefused, None),
            Some(Reply::Throttled) => (Outcome::Throttled(None), None),
            None if self.broken(Broken::LostIsNotSent) => (Outcome::NotSent, None),
            None => (Outcome::Unknown, None),
        };
        if outcome == Outcome::Throttled(None) {
            for (sent, _, times) in &mut self.world.open {
                *times -= u8::from(*sent == call.token);
            }
            self.world.open.retain(|(.., times)| *times > 0);
        }
        self.land(Rc::unwrap_or_clone(holding), outcome, came)
    }

    pub fn land(&mut self, holding: Holding<Connection>, outcome: Outcome, came: Option<u32>) -> Stepped {
        self.settle(holding.land(outcome), came)
    }

    fn settle(&mut self, mut landing: Landing<Connection>, came: Option<u32>) -> Stepped {
        let now = wall(self.now());
        let found = &landing.stored.value;
        let moved = found.tokens.generation != landing.before().tokens.generation;
        let (outcome, lease) = (landing.outcome().clone(), landing.lease().clone());
        let mut next = landing.settle(now, u8::MAX);
        if let Next::Write { record, seals } = &mut next
            && moved
            && self.broken(Broken::FirstTokensWin)
        {
            (record.tokens, *seals) = (landing.stored.value.tokens.clone(), false);
        }
        if moved && came.is_none() && self.broken(Broken::LeaseLeft) {
            next = Next::End(Landed { stored: landing.stored.clone(), wrote: false });
        }
        if moved && outcome == Outcome::GrantRefused && self.broken(Broken::LostRaceIsDead) {
            let mut record = landing.stored.value.clone();
            record.health =
                Health::NeedsConsent { reason: Reason::InvalidGrant, since: now, announced: false };
            next = Next::Write { record, seals: false };
        }
        match next {
            Next::End(landed) => self.landed(&outcome, landed, &lease, came),
            Next::Write { mut record, seals } => {
                if seals {
                    let generation = record.tokens.generation;
                    record.tokens.sealed = held(generation, came.unwrap(), 0).sealed;
                }
                if let Health::NeedsConsent { announced, .. } = &mut record.health
                    && self.broken(Broken::AnnouncedFirst)
                {
                    *announced = true;
                }
                landing.tries(&record);
                self.goes_on(Doing::Writing(Rc::new((landing, record)), came));
                Ok(())
            }
        }
    }

    /// Writes an outcome; whether it was written.
    pub fn store(
        &mut self,
        writing: &Rc<(Landing<Connection>, Connection)>,
        came: Option<u32>,
    ) -> Result<bool, Violation> {
        let (landing, record) = &**writing;
        let written = self.world.write(self.setting, landing.stored.version, record)?;
        if written {
            let (outcome, lease) = (landing.outcome().clone(), landing.lease().clone());
            let landed = landing.clone().written(record.clone());
            self.landed(&outcome, landed, &lease, came)?;
        } else {
            self.goes_on(Doing::Rereading(Rc::new(landing.clone()), came));
        }
        Ok(written)
    }

    fn landed(
        &mut self,
        outcome: &Outcome,
        landed: Landed<Connection>,
        lease: &Lease,
        came: Option<u32>,
    ) -> Stepped {
        let row = &self.world.row.value;
        let of_this_consent = |came: u32| came >= self.world.provider.family;
        // Who was frozen may have been taken over, which is as if it had died.
        let taken_over = self.world.actors[self.actor].thawed;
        if came.is_some_and(|came| of_this_consent(came) && token(row) < came) && !taken_over {
            return Err(Violation(Rule::Newest, "tokens came and were dropped for older ones"));
        }
        if row.flight.lease.as_ref() == Some(lease) {
            return Err(Violation(Rule::LeaseLeft, "a turn has ended and its lease is still there"));
        }
        let verdict = outcome.verdict(&landed);
        let Landed { stored, .. } = landed;
        if self.want() == Want::Read {
            self.answer(verdict.answer(&stored.value, wall(self.now())), &stored.value)?;
        } else {
            self.end(Ended::Nothing);
        }
        if let Verdict::Dead(_) = verdict {
            self.goes_on(Doing::Announcing(Rc::new(stored)));
        }
        Ok(())
    }
}

/// The small times have the proportions of the real ones.
#[test]
fn the_times_of_this_world_are_those_of_the_product_made_small() {
    let proportion = |limits: agent_identity_core::flight::Limits| {
        limits.lease_reserve <= limits.lease_life && limits.longest_look < limits.lease_reserve
    };
    assert!(proportion(LIMITS) && proportion(REAL));
    assert!(seconds(CALL) < LIMITS.lease_reserve);
}
