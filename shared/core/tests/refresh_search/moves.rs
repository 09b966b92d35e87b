//! All that can happen next in a world.

use std::rc::Rc;

use agent_identity_core::connection::Connection;
use agent_identity_core::flight::turn::Holding;
use agent_identity_core::refresh::Outcome;

use super::provider::Reply;
use super::step::Step;
use super::world::{Actor, CALL, Call, Doing, FOR_EVER, Rule, Setting, Violation, World};

/// What happened between two worlds.
#[derive(Clone, Copy, Debug)]
pub enum Move {
    Tick,
    Acts,
    ProviderActs,
    Hears,
    LosesAnswer,
    NeverArrives,
    NothingSent,
    LosesWriteAnswer,
    Dies,
    Freezes,
    FreezesBeforeTheCall,
    Wakes,
    Throttled,
    ConsentsAgain,
    Revokes,
}

pub type Moved = (Option<usize>, Move, Result<World, Violation>);

struct Moves<'a> {
    world: &'a World,
    setting: &'a Setting,
    found: Vec<Moved>,
}

impl Moves<'_> {
    fn add(
        &mut self,
        actor: Option<usize>,
        moved: Move,
        change: impl FnOnce(&mut World) -> Result<(), Violation>,
    ) {
        let mut to = self.world.clone();
        to.ended = None;
        let changed = change(&mut to).map(|()| {
            to.forget();
            to
        });
        self.found.push((actor, moved, changed));
    }

    /// As [`Moves::add`], of what may happen only so often.
    fn fault(&mut self, actor: usize, moved: Move, change: impl FnOnce(&mut World) -> Result<(), Violation>) {
        if self.world.faults > 0 {
            self.add(Some(actor), moved, |to| {
                to.faults -= 1;
                change(to)
            });
        }
    }
}

/// Whether tokens are on the way that are lost with this actor.
fn brings_tokens(actor: &Actor) -> bool {
    match &actor.doing {
        Doing::Calling(_, call) => matches!(call.reply, Some(Reply::Tokens(_))),
        Doing::Writing(_, came) | Doing::Rereading(_, came) => came.is_some(),
        _ => false,
    }
}

pub fn moves(world: &World, setting: &Setting) -> Vec<Moved> {
    let mut all = Moves { world, setting, found: Vec::new() };
    for (index, actor) in world.actors.iter().enumerate() {
        if let Doing::Calling(holding, call) = &actor.doing {
            calls(&mut all, index, holding, call);
        } else if !actor.frozen && !matches!(actor.doing, Doing::Pausing(_)) {
            all.add(Some(index), Move::Acts, |to| acts(to, setting, index));
        }
        if actor.frozen {
            all.add(Some(index), Move::Wakes, |to| {
                to.actors[index].frozen = false;
                to.actors[index].thawed = true;
                Ok(())
            });
        } else {
            faults(&mut all, index);
        }
    }
    if may_tick(world) {
        all.add(None, Move::Tick, |to| {
            tick(to);
            Ok(())
        });
    }
    if world.outside > 0 && world.faults > 0 {
        all.add(None, Move::ConsentsAgain, |to| {
            (to.outside, to.faults) = (to.outside - 1, to.faults - 1);
            to.consent();
            Ok(())
        });
        if !world.provider.dead {
            all.add(None, Move::Revokes, |to| {
                (to.outside, to.faults) = (to.outside - 1, to.faults - 1);
                to.provider.dead = true;
                Ok(())
            });
        }
    }
    all.found
}

/// What nobody else can tell apart is one move: a look follows at once on what led to it, and the call on the lease.
fn acts(world: &mut World, setting: &Setting, index: usize) -> Result<(), Violation> {
    loop {
        Step { world, setting, actor: index }.next().unwrap_or(Ok(()))?;
        if !matches!(world.actors[index].doing, Doing::Asking(_) | Doing::Holding(_) | Doing::Rereading(..)) {
            return Ok(());
        }
    }
}

/// Time passes while everybody waits. Who has something to do does it at once, unless frozen.
fn may_tick(world: &World) -> bool {
    world.actors.iter().all(|actor| {
        actor.frozen
            || match &actor.doing {
                Doing::Idle | Doing::Pausing(_) => true,
                Doing::Calling(_, call) => world.now - call.sent < CALL,
                _ => false,
            }
    })
}

pub fn tick(world: &mut World) {
    world.now += 1;
    for actor in &mut world.actors {
        if let Doing::Pausing(began) = actor.doing
            && !actor.frozen
        {
            actor.doing = Doing::Asking(began);
        }
    }
}

/// What becomes of a call: the provider takes it while it is on its way, and whoever made it hears, or does not.
fn calls(all: &mut Moves<'_>, index: usize, holding: &Rc<Holding<Connection>>, call: &Call) {
    let setting = all.setting;
    let actor = &all.world.actors[index];
    let late = all.world.now - call.sent > CALL;
    let answered = |to: &mut World, reply| {
        let call = Call { reply, ..*call };
        Step { world: to, setting, actor: index }.answered(Rc::clone(holding), call)
    };
    if call.reply.is_none() && !late {
        for reply in replies(all.world, call) {
            all.add(Some(index), Move::ProviderActs, |to| {
                let reply = commit(to, setting, call, reply)?;
                if actor.frozen {
                    to.actors[index].doing = Doing::Calling(Rc::clone(holding), Call { reply, ..*call });
                    return Ok(());
                }
                answered(to, reply)
            });
            if !actor.frozen {
                all.fault(index, Move::LosesAnswer, |to| {
                    let reply = commit(to, setting, call, reply)?;
                    to.excuses += u8::from(matches!(reply, Some(Reply::Tokens(_))));
                    answered(to, None)
                });
                all.fault(index, Move::Dies, |to| {
                    let reply = commit(to, setting, call, reply)?;
                    to.excuses += u8::from(matches!(reply, Some(Reply::Tokens(_))));
                    to.actors[index] = Actor::new(actor.want, actor.skew);
                    Ok(())
                });
            }
        }
        if !actor.frozen {
            all.fault(index, Move::Throttled, |to| answered(to, Some(Reply::Throttled)));
            all.fault(index, Move::NeverArrives, |to| answered(to, None));
        }
    } else if !actor.frozen {
        // Woken: the answer may lie there; too late, the call may have timed out.
        if call.reply.is_some() {
            all.add(Some(index), Move::Hears, |to| answered(to, call.reply));
        }
        if late {
            all.add(Some(index), Move::LosesAnswer, |to| answered(to, None));
        }
    }
}

/// What the provider may say; `None`: by its rules. Of a consent before, it may say anything.
fn replies(world: &World, call: &Call) -> Vec<Option<Reply>> {
    if call.token < world.provider.family {
        vec![Some(Reply::InvalidGrant), Some(Reply::Tokens(call.token))]
    } else {
        vec![None]
    }
}

fn commit(
    world: &mut World,
    setting: &Setting,
    call: &Call,
    reply: Option<Reply>,
) -> Result<Option<Reply>, Violation> {
    if reply.is_some() {
        return Ok(reply);
    }
    let (reply, reuse) = world.provider.refresh(call.token, world.now, setting.traits);
    if reuse {
        // D6: 0 with a grace that is longer than recovery, and else no more than what fell between two commits.
        if world.excuses == 0 || setting.traits.grace == Some(FOR_EVER) {
            return Err(Violation(Rule::Lost, "the provider took a refresh token for stolen"));
        }
        world.excuses -= 1;
    }
    Ok(Some(reply))
}

fn faults(all: &mut Moves<'_>, index: usize) {
    let (world, setting) = (all.world, all.setting);
    let actor = &world.actors[index];
    if matches!(actor.doing, Doing::Idle | Doing::Asking(_)) {
        return;
    }
    let excused = u8::from(brings_tokens(actor));
    // Who has written nothing yet leaves nothing behind.
    if !matches!(actor.doing, Doing::Pausing(_) | Doing::Taking(..)) {
        all.fault(index, Move::Dies, |to| {
            to.excuses += excused;
            to.actors[index] = Actor::new(actor.want, actor.skew);
            Ok(())
        });
    }
    all.fault(index, Move::Freezes, |to| {
        // For as long as it is frozen, it is as good as dead.
        to.excuses += u8::from(excused > 0 || matches!(actor.doing, Doing::Calling(..)));
        to.actors[index].frozen = true;
        Ok(())
    });
    match &actor.doing {
        Doing::Taking(began, taking) => {
            all.fault(index, Move::FreezesBeforeTheCall, |to| {
                (Step { world: to, setting, actor: index }).take(*began, taking)?;
                to.actors[index].frozen = true;
                Ok(())
            });
            all.fault(index, Move::NothingSent, |to| {
                (Step { world: to, setting, actor: index }).take(*began, taking)?;
                if let Doing::Holding(holding) = to.actors[index].doing.clone() {
                    let holding = Rc::unwrap_or_clone(holding);
                    Step { world: to, setting, actor: index }.land(holding, Outcome::NotSent, None)?;
                }
                Ok(())
            });
            for made in [true, false] {
                all.fault(index, Move::LosesWriteAnswer, |to| {
                    let mut step = Step { world: to, setting, actor: index };
                    if !made || step.take(*began, taking)? {
                        to.actors[index].doing = Doing::Doubting(Rc::clone(taking));
                    }
                    Ok(())
                });
            }
        }
        // It is written again, until it is in conflict with itself.
        Doing::Writing(writing, came) => all.fault(index, Move::LosesWriteAnswer, |to| {
            if (Step { world: to, setting, actor: index }).store(writing, *came)? {
                to.ended = None;
                to.actors[index].doing = Doing::Writing(Rc::clone(writing), *came);
            }
            Ok(())
        }),
        _ => {}
    }
}
