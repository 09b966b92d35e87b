//! One issuer: the keys of it that are in memory, and whether anybody is asked for newer ones now.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use agent_identity_core::issuer::TokenRefused;
use tokio::sync::watch;

use super::issuers::{COOL_DOWN, FRESH, MAX_STALE};
use super::key_set::{KeySet, Lookup, Wanted};

/// By so much the clocks of two machines that keep time may differ. A set of the store takes the place of one that this process
/// read itself only when it is newer by more.
const CLOCKS_APART: Duration = Duration::from_secs(5);

/// One issuer. All times are those of `Clock::elapsed`.
pub(crate) struct Issuer {
    name: String,
    state: RwLock<State>,
    used_millis: AtomicU64,
    is_trusted: AtomicBool,
    is_announced: AtomicBool,
}

#[derive(Default)]
pub(super) struct State {
    /// The newest set that is known.
    known: Option<Known>,
    /// A channel that closes when the last attempt to get a newer one ends.
    attempt: Option<watch::Receiver<()>>,
    /// Before this neither the store nor the issuer is asked.
    rests_until: Duration,
    /// Why the issuer gave none when it was last asked, if so.
    failure: Option<String>,
}

/// A set, and how old it is.
struct Known {
    keys: Arc<KeySet>,
    /// When it was put here, and how old it was then.
    since: (Duration, Duration),
    /// When this process began to read it from the issuer, if it did.
    asked_at: Option<Duration>,
}

impl Known {
    fn age(&self, now: Duration) -> Duration {
        let (put_at, age) = self.since;
        now.saturating_sub(put_at).saturating_add(age)
    }
}

/// What the set in memory says.
pub(super) struct Said {
    pub(super) lookup: Lookup,
    /// Whether it may be used without asking anybody.
    pub(super) is_fresh: bool,
    asked_at: Option<Duration>,
}

impl Said {
    /// Whether it has a key for the token, or knows that a newer set would not help.
    pub(super) const fn has_key(&self) -> bool {
        !matches!(self.lookup, Lookup::Unknown)
    }

    /// The answer to a token that came at `arrived`. Only a set that this process began to read after that can say that there
    /// is no such key (D25): of one in the store nobody knows to the second when it was read.
    pub(super) fn answer(self, arrived: Duration) -> Option<Lookup> {
        (self.has_key() || self.asked_at.is_some_and(|at| at >= arrived)).then_some(self.lookup)
    }
}

impl State {
    /// What the set in memory says; `None` when there is none, or it is too old.
    pub(super) fn lookup(&self, wanted: Wanted<'_>, now: Duration) -> Option<Said> {
        let known = self.known.as_ref()?;
        let age = known.age(now);
        (age < MAX_STALE).then(|| Said {
            lookup: known.keys.find(wanted),
            is_fresh: age < FRESH,
            asked_at: known.asked_at,
        })
    }

    /// The attempt that is under way.
    pub(super) fn running(&self) -> Option<watch::Receiver<()>> {
        let ended = self.attempt.as_ref()?;
        ended.has_changed().is_ok().then(|| ended.clone())
    }

    pub(super) fn may_ask(&self, now: Duration) -> bool {
        now >= self.rests_until
    }

    pub(super) fn began(&mut self, ended: watch::Receiver<()>) {
        self.attempt = Some(ended);
    }

    pub(super) const fn is_failing(&self) -> bool {
        self.failure.is_some()
    }
}

impl Issuer {
    pub(super) fn new(name: &str) -> Self {
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

    pub(super) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a record names it.
    pub(super) fn is_trusted(&self) -> bool {
        self.is_trusted.load(Ordering::Relaxed)
    }

    /// A token of it came.
    pub(super) fn used(&self, is_trusted: bool, now: Duration) {
        self.used_millis.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        if is_trusted && !self.is_trusted() {
            self.is_trusted.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn used_millis(&self) -> u64 {
        self.used_millis.load(Ordering::Relaxed)
    }

    /// Whether nobody would be asked twice within [`COOL_DOWN`] if it were forgotten.
    pub(super) fn is_at_rest(&self, now: Duration) -> bool {
        let state = self.read();
        state.running().is_none() && state.may_ask(now)
    }

    /// Nobody is asked before `until`.
    pub(super) fn rest(&self, until: Duration) {
        self.write().rests_until = until;
    }

    /// Takes a set of the store, of this age, if it is newer than the one that is here; whether it did.
    pub(super) fn adopt(&self, keys: KeySet, age: Duration, now: Duration) -> bool {
        let mut state = self.write();
        let is_newer = state.known.as_ref().is_none_or(|known| {
            // Rows follow each other; the age of one beside what this process read itself is known to some seconds.
            let margin = if known.asked_at.is_some() { CLOCKS_APART } else { Duration::ZERO };
            age.saturating_add(margin) < known.age(now)
        });
        if is_newer {
            state.known = Some(Known { keys: Arc::new(keys), since: (now, age), asked_at: None });
            if age < FRESH {
                state.failure = None;
            }
        }
        is_newer
    }

    /// Takes a set of the issuer, whose reading began at `asked_at`.
    pub(super) fn take(&self, keys: KeySet, asked_at: Duration) {
        let known =
            Known { keys: Arc::new(keys), since: (asked_at, Duration::ZERO), asked_at: Some(asked_at) };
        let mut state = self.write();
        state.known = Some(known);
        state.failure = None;
    }

    /// The issuer gave no keys. Those that are there stay.
    pub(super) fn fail(&self, reason: String) {
        tracing::warn!(issuer = %self.name, %reason, "the keys of an issuer could not be read");
        self.write().failure = Some(reason);
    }

    /// It has not answered for so long that nobody who has a key should wait for it.
    pub(super) fn is_slow(&self, waited: Duration) {
        self.write()
            .failure
            .get_or_insert_with(|| format!("it has not answered within {} s", waited.as_secs()));
    }

    pub(super) fn unavailable(&self) -> TokenRefused {
        TokenRefused::KeysUnavailable(self.read().failure.clone().unwrap_or_else(|| {
            format!(
                "the token names an unknown key, and the issuer was asked less than {} s ago",
                COOL_DOWN.as_secs()
            )
        }))
    }
}
