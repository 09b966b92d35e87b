//! The keys of all issuers in memory: who is asked for newer ones, when, and how often at most.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use agent_identity_core::issuer::TokenRefused;
use tokio::sync::watch;

use super::issuer::Issuer;
use super::key_set::{Lookup, Wanted};
use super::sources::Sources;

/// For so long a set is used without asking again, whatever `max-age` says: the time in which a withdrawn key stops.
pub const FRESH: Duration = Duration::from_secs(5 * 60);
/// For so long a set is used while its issuer does not answer.
pub const MAX_STALE: Duration = Duration::from_secs(24 * 3600);
/// An issuer is asked at most once in this time, whatever tokens say and however it answers.
pub const COOL_DOWN: Duration = Duration::from_secs(30);
/// The keys of at most so many issuers are kept.
pub const MAX_ISSUERS: usize = 1000;

/// So long whoever has a key, though an old one, waits to hear whether it is still good.
const PATIENCE: Duration = Duration::from_secs(2);

/// So many attempts a token takes part in: one that another token began, and its own.
const ATTEMPTS: usize = 3;

/// The issuers whose keys were asked for. All times are those of `Clock::elapsed`.
pub(crate) struct Issuers {
    sources: Arc<Sources>,
    known: RwLock<HashMap<String, Arc<Issuer>>>,
}

/// What to do for a token at one moment.
enum Step {
    /// Answer with this.
    Answer(Lookup),
    /// Wait for the attempt that closes this channel, then look again.
    Wait(watch::Receiver<()>),
    /// No key, and nobody may be asked now.
    Nothing,
}

impl Issuers {
    /// None known yet.
    pub(crate) fn new(sources: Sources) -> Self {
        Self { sources: Arc::new(sources), known: RwLock::default() }
    }

    /// The key for a token of `name`. No I/O while a fresh set has it. `is_trusted` says that a record names the issuer.
    ///
    /// # Errors
    /// [`TokenRefused::KeysUnavailable`].
    pub(crate) async fn key(
        &self,
        name: &str,
        is_trusted: bool,
        wanted: Wanted<'_>,
    ) -> Result<(Arc<Issuer>, Lookup), TokenRefused> {
        let arrived = self.sources.clock.elapsed();
        let issuer = self.issuer(name, is_trusted, arrived)?;
        for _ in 0..ATTEMPTS {
            match self.step(&issuer, wanted, self.sources.clock.elapsed()) {
                Step::Answer(lookup) => return Ok((issuer, lookup)),
                Step::Nothing => break,
                // Boxed, since it is rare and large, and would be a part of every verification.
                Step::Wait(ended) => Box::pin(self.wait(&issuer, wanted, ended)).await,
            }
            let said = issuer.read().lookup(wanted, self.sources.clock.elapsed());
            if let Some(lookup) = said.and_then(|said| said.answer(arrived)) {
                return Ok((issuer, lookup));
            }
        }
        Err(issuer.unavailable())
    }

    fn step(&self, issuer: &Arc<Issuer>, wanted: Wanted<'_>, now: Duration) -> Step {
        if let Some(said) = issuer.read().lookup(wanted, now).filter(|said| said.has_key() && said.is_fresh) {
            return Step::Answer(said.lookup);
        }
        let mut state = issuer.write();
        let running = state.running().or_else(|| {
            state.may_ask(now).then(|| {
                let ended = self.sources.begin(issuer, wanted);
                state.began(ended.clone());
                ended
            })
        });
        match running {
            Some(ended) => Step::Wait(ended),
            None => match state.lookup(wanted, now).filter(|said| said.has_key()) {
                Some(said) => Step::Answer(said.lookup),
                None => Step::Nothing,
            },
        }
    }

    /// Waits for the end of an attempt, which sends something when it has found a set that may do. Whoever has a key from
    /// there, or had one, does not wait long: an issuer that hangs must not hang those whom it has let in.
    async fn wait(&self, issuer: &Issuer, wanted: Wanted<'_>, mut attempt: watch::Receiver<()>) {
        loop {
            let (has_key, is_failing) = {
                let state = issuer.read();
                let said = state.lookup(wanted, self.sources.clock.elapsed());
                (said.is_some_and(|said| said.has_key()), state.is_failing())
            };
            let changed = attempt.changed();
            if !has_key {
                if changed.await.is_err() {
                    return;
                }
                continue;
            }
            // It did not answer last time: no need to wait to hear that again.
            if is_failing {
                return;
            }
            match tokio::time::timeout(PATIENCE, changed).await {
                Ok(Ok(())) => {}
                Ok(Err(_ended)) => return,
                Err(_elapsed) => {
                    issuer.is_slow(PATIENCE);
                    return;
                }
            }
        }
    }

    fn issuer(&self, name: &str, is_trusted: bool, now: Duration) -> Result<Arc<Issuer>, TokenRefused> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        let issuer = match known {
            Some(issuer) => issuer,
            None => {
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                if known.len() >= MAX_ISSUERS && !known.contains_key(name) {
                    make_room(&mut known, is_trusted, now)?;
                }
                Arc::clone(known.entry(name.to_owned()).or_insert_with(|| Arc::new(Issuer::new(name))))
            }
        };
        issuer.used(is_trusted, now);
        Ok(issuer)
    }
}

/// Forgets one issuer. Not one that was asked just now, or a crowd of invented issuers would get round [`COOL_DOWN`]; and
/// one that a record names only for another such.
fn make_room(
    known: &mut HashMap<String, Arc<Issuer>>,
    for_trusted: bool,
    now: Duration,
) -> Result<(), TokenRefused> {
    let victim = known
        .values()
        .filter(|issuer| for_trusted || (!issuer.is_trusted() && issuer.is_at_rest(now)))
        .min_by_key(|issuer| (issuer.is_trusted(), issuer.used_millis()))
        .map(|issuer| issuer.name().to_owned());
    match victim.and_then(|name| known.remove(&name)) {
        Some(_) => Ok(()),
        None => Err(TokenRefused::KeysUnavailable(format!(
            "the keys of {MAX_ISSUERS} other issuers were asked for within the last seconds"
        ))),
    }
}
