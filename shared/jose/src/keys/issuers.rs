//! The keys of all issuers in memory: who is asked for them, when, and how often at most.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use agent_identity_core::Clock;
use agent_identity_core::http::HttpClient;
use agent_identity_core::issuer::TokenRefused;
use tokio::sync::watch;

use super::fetch::fetch;
use super::key_set::{KeySet, Lookup, Wanted};

/// For so long a set is used without asking again, whatever `max-age` says: the time in which a withdrawn key stops.
pub const FRESH: Duration = Duration::from_secs(5 * 60);
/// For so long a set is used while its issuer does not answer.
pub const MAX_STALE: Duration = Duration::from_secs(24 * 3600);
/// An issuer is asked at most once in this time, whatever tokens say and however it answers.
pub const COOL_DOWN: Duration = Duration::from_secs(30);
/// The keys of at most so many issuers are kept.
pub const MAX_ISSUERS: usize = 1000;

/// The issuers whose keys were asked for. All times are those of `Clock::elapsed`.
pub(crate) struct Issuers {
    http: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
    known: RwLock<HashMap<String, Arc<Issuer>>>,
}

/// One issuer.
pub(crate) struct Issuer {
    name: String,
    state: RwLock<State>,
    used_millis: AtomicU64,
    is_trusted: AtomicBool,
    is_announced: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The last set that was read, and when its reading began.
    keys: Option<(Arc<KeySet>, Duration)>,
    /// When the last attempt to read one began, and a channel that closes when it ends.
    attempt: Option<(Duration, watch::Receiver<()>)>,
    /// Why the last attempt that ended failed, if it did.
    failure: Option<String>,
}

/// What to do for a token at one moment.
enum Step {
    /// Answer with this.
    Answer(Lookup),
    /// Wait for the attempt that closes this channel, then look again.
    Wait(watch::Receiver<()>),
    /// No key, and the issuer may not be asked now.
    Nothing,
}

impl Issuers {
    /// None known yet.
    pub(crate) fn new(http: Arc<dyn HttpClient>, clock: Arc<dyn Clock>) -> Self {
        Self { http, clock, known: RwLock::default() }
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
        let arrived = self.clock.elapsed();
        let issuer = self.issuer(name, is_trusted, arrived)?;
        let lookup = match self.step(&issuer, wanted, arrived) {
            Step::Answer(lookup) => lookup,
            Step::Nothing => return Err(issuer.unavailable()),
            Step::Wait(mut ended) => {
                // Nothing is ever sent: this is the end of the attempt, however it ended.
                let _ = ended.changed().await;
                let state = issuer.read();
                match state.lookup(wanted, self.clock.elapsed()) {
                    // Only a set read after the token came can say that there is no such key (D25).
                    Some((Lookup::Unknown, read_at)) if read_at >= arrived => Lookup::Unknown,
                    Some((Lookup::Unknown, _)) | None => {
                        drop(state);
                        return Err(issuer.unavailable());
                    }
                    Some((lookup, _)) => lookup,
                }
            }
        };
        Ok((issuer, lookup))
    }

    fn step(&self, issuer: &Arc<Issuer>, wanted: Wanted<'_>, now: Duration) -> Step {
        let mut is_stale = false;
        {
            let state = issuer.read();
            match state.lookup(wanted, now) {
                Some((Lookup::Unknown, _)) | None => {}
                Some((lookup, read_at)) if now.saturating_sub(read_at) < FRESH => {
                    return Step::Answer(lookup);
                }
                Some(_) => is_stale = true,
            }
        }
        let mut state = issuer.state.write().unwrap_or_else(PoisonError::into_inner);
        let is_failing = state.failure.is_some();
        let running = state.running().or_else(|| self.begin(issuer, &mut state, now));
        match running {
            // The issuer did not answer last time: whoever has its key need not wait to hear that again.
            Some(ended) if !(is_stale && is_failing) => Step::Wait(ended),
            _ => match state.lookup(wanted, now) {
                Some((Lookup::Unknown, _)) | None => Step::Nothing,
                Some((lookup, _)) => Step::Answer(lookup),
            },
        }
    }

    /// Begins to read the issuer's keys, unless that was done just now.
    fn begin(&self, issuer: &Arc<Issuer>, state: &mut State, now: Duration) -> Option<watch::Receiver<()>> {
        if !state.may_ask(now) {
            return None;
        }
        let (done, ended) = watch::channel(());
        state.attempt = Some((now, ended.clone()));
        let (http, issuer) = (Arc::clone(&self.http), Arc::clone(issuer));
        // A task of its own: a caller that goes away must not undo what others wait for, and what has been counted.
        tokio::spawn(async move {
            let result = fetch(&*http, &issuer.name).await;
            issuer.note(result, now);
            drop(done);
        });
        Some(ended)
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
        issuer.used_millis.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if is_trusted && !issuer.is_trusted.load(Ordering::Relaxed) {
            issuer.is_trusted.store(true, Ordering::Relaxed);
        }
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
    let is_trusted = |issuer: &Issuer| issuer.is_trusted.load(Ordering::Relaxed);
    let victim = known
        .values()
        .filter(|issuer| for_trusted || (!is_trusted(issuer) && issuer.is_at_rest(now)))
        .min_by_key(|issuer| (is_trusted(issuer), issuer.used_millis.load(Ordering::Relaxed)))
        .map(|issuer| issuer.name.clone());
    match victim.and_then(|name| known.remove(&name)) {
        Some(_) => Ok(()),
        None => Err(TokenRefused::KeysUnavailable(format!(
            "the keys of {MAX_ISSUERS} other issuers were asked for within the last seconds"
        ))),
    }
}

impl State {
    /// What the set in memory says, and when it was read; `None` when there is none, or it is too old.
    fn lookup(&self, wanted: Wanted<'_>, now: Duration) -> Option<(Lookup, Duration)> {
        let (keys, read_at) = self.keys.as_ref()?;
        (now.saturating_sub(*read_at) < MAX_STALE).then(|| (keys.find(wanted), *read_at))
    }

    fn running(&self) -> Option<watch::Receiver<()>> {
        let (_, ended) = self.attempt.as_ref()?;
        ended.has_changed().is_ok().then(|| ended.clone())
    }

    fn may_ask(&self, now: Duration) -> bool {
        self.attempt.as_ref().is_none_or(|(begun, _)| now.saturating_sub(*begun) >= COOL_DOWN)
    }
}

impl Issuer {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: RwLock::default(),
            used_millis: AtomicU64::default(),
            is_trusted: AtomicBool::default(),
            is_announced: AtomicBool::default(),
        }
    }

    /// The `iss` of its tokens.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is the first call.
    pub(crate) fn announce(&self) -> bool {
        !self.is_announced.load(Ordering::Relaxed) && !self.is_announced.swap(true, Ordering::Relaxed)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_at_rest(&self, now: Duration) -> bool {
        let state = self.read();
        state.running().is_none() && state.may_ask(now)
    }

    fn note(&self, result: Result<KeySet, String>, begun: Duration) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(keys) => {
                state.keys = Some((Arc::new(keys), begun));
                state.failure = None;
            }
            // The keys that are there stay.
            Err(reason) => {
                tracing::warn!(issuer = %self.name, %reason, "the keys of an issuer could not be read");
                state.failure = Some(reason);
            }
        }
    }

    fn unavailable(&self) -> TokenRefused {
        TokenRefused::KeysUnavailable(self.read().failure.clone().unwrap_or_else(|| {
            format!(
                "the token names an unknown key, and the issuer was asked less than {} s ago",
                COOL_DOWN.as_secs()
            )
        }))
    }
}
