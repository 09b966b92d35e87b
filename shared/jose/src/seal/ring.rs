//! The versions of one purpose's vault key that this process holds unwrapped, and for how long.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use agent_identity_core::seal::{Key32, SealError};

/// How long an unwrapped key, and the knowledge of which version is current, are used without asking again: the time in
/// which a disabled key stops working and a rotation by another process is noticed.
pub const KEY_LIFE: Duration = Duration::from_secs(5 * 60);

/// From this age on one caller renews, while the others go on with what there is.
const RENEW_AFTER: Duration = Duration::from_secs(4 * 60);

/// After a failed renewal, how long until the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// How far beyond the current version a sealed value may point and still be worth a look at the store: another process
/// may have rotated within [`KEY_LIFE`]. Anything beyond is refused without I/O, which spares the store from garbage.
const MAX_AHEAD: u32 = 16;

/// One version of a key.
#[derive(Clone)]
pub(super) struct Version {
    pub(super) number: u32,
    pub(super) key: Arc<Key32>,
}

/// What a ring knows about a version.
pub(super) enum Known {
    /// Use it.
    Fresh(Version),
    /// Use it, unless a renewal, which is due, says otherwise.
    Due(Version),
    /// It must be read.
    Unread,
    /// There is no such version.
    Nonsense,
}

struct Held {
    key: Arc<Key32>,
    since: Duration,
}

#[derive(Default)]
struct State {
    held: BTreeMap<u32, Held>,
    /// The highest version, and when that was read.
    current: Option<(u32, Duration)>,
    /// Not before this is a renewal tried again.
    retry_at: Option<Duration>,
    /// How many loads have ended, and how the last one did.
    loads: u64,
    failure: Option<SealError>,
}

impl State {
    /// The version, if it is held and neither its key nor the knowledge of `read_at` is too old.
    fn usable(&self, number: u32, read_at: Duration, now: Duration) -> Known {
        let Some(held) = self.held.get(&number) else { return Known::Unread };
        let version = Version { number, key: Arc::clone(&held.key) };
        match now.saturating_sub(held.since.min(read_at)) {
            age if age >= KEY_LIFE => Known::Unread,
            age if age >= RENEW_AFTER && self.retry_at.is_none_or(|at| now >= at) => Known::Due(version),
            _ => Known::Fresh(version),
        }
    }
}

/// The keys of one purpose. Times are those of `Clock::elapsed`.
#[derive(Default)]
pub(super) struct Ring {
    state: RwLock<State>,
    /// Held while reading from the store, so that many callers cost one read.
    pub(super) loading: tokio::sync::Mutex<()>,
}

impl Ring {
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The current version.
    pub(super) fn current(&self, now: Duration) -> Known {
        self.read(|state| match state.current {
            Some((number, read_at)) => state.usable(number, read_at, now),
            None => Known::Unread,
        })
    }

    /// One version by its number.
    pub(super) fn version(&self, number: u32, now: Duration) -> Known {
        self.read(|state| match state.current {
            _ if number == 0 => Known::Nonsense,
            Some((current, read_at))
                if number > current.saturating_add(MAX_AHEAD) && now.saturating_sub(read_at) < KEY_LIFE =>
            {
                Known::Nonsense
            }
            _ => state.usable(number, now, now),
        })
    }

    /// The highest version known, however old that knowledge is.
    pub(super) fn highest(&self) -> Option<u32> {
        self.read(|state| state.current.map(|(number, _)| number))
    }

    /// How many loads have ended.
    pub(super) fn loads(&self) -> u64 {
        self.read(|state| state.loads)
    }

    /// How the last load failed, if it did.
    pub(super) fn failure(&self) -> Option<SealError> {
        self.read(|state| state.failure.clone())
    }

    /// Keeps a version, and drops those whose life is over.
    pub(super) fn keep(&self, number: u32, key: Key32, now: Duration) -> Version {
        let key = Arc::new(key);
        self.write(|state| {
            state.held.retain(|_, held| now.saturating_sub(held.since) < KEY_LIFE);
            state.held.insert(number, Held { key: Arc::clone(&key), since: now });
        });
        Version { number, key }
    }

    /// Notes which version is the highest, as of `read_at`. Never goes back: versions are not deleted while in use.
    pub(super) fn note_current(&self, number: u32, read_at: Duration) {
        self.write(|state| {
            if state.current.is_none_or(|(known, _)| number >= known) {
                state.current = Some((number, read_at));
            }
        });
    }

    /// Notes how a load ended.
    pub(super) fn note_load(&self, failure: Option<SealError>, now: Duration) {
        self.write(|state| {
            state.loads += 1;
            state.retry_at = failure.as_ref().map(|_| now.saturating_add(RETRY_AFTER));
            state.failure = failure;
        });
    }
}
