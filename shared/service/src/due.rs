//! The scheduled refresh: what is due is found by the due index, and each connection refreshed on its own (`design.md` 8).

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_identity_core::connection::{Connection, Reason};
use agent_identity_core::flight::{InFlight as _, LEASE_LIFE};
use agent_identity_core::port::Event;
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::refresh::pace::Pace;
use agent_identity_core::refresh::{RefreshTerms, Verdict, Want};
use agent_identity_core::revocation::Upstream;
use agent_identity_core::store::{
    Condition, Consistency, DUE_SHARDS, Due, Key, Kind, MAX_BATCH, Row, StoreError, Write,
};
use agent_identity_core::tag::refreshes_per_minute;
use agent_identity_core::{Error, Id, Result, Timestamp};
use futures_util::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::Services;
use crate::connection::ConnectionShown;
use crate::flight::{Turn, due};
use crate::refresh::{Attempt, terms};
use crate::user_key::HeldKey;

/// How long the scheduled refresh waits for whoever else has the turn: long enough to have watched a dead holder's lease for
/// its whole life (D7). Nobody is waiting for it.
const PATIENCE: Duration = LEASE_LIFE.saturating_add(Duration::from_secs(5));

/// When what could not be opened to destroy its refresh token is tried again. Until then nobody else can open it either.
const FORGET_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// Something to look at, as it travels through a queue: `{"version":1,"key":{"partition":"…","sort":"…"}}` for a connection,
/// with `"kind":"revocation"` before the partition for a grant that its provider is to be told has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Message", into = "Message")]
pub struct DueWork {
    /// Its row.
    pub key: Key,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Message {
    version: u32,
    key: MessageKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageKey {
    #[serde(default, skip_serializing_if = "WorkKind::is_connection")]
    kind: WorkKind,
    partition: String,
    sort: String,
}

/// What may be due.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WorkKind {
    #[default]
    Connection,
    Revocation,
}

impl WorkKind {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    fn is_connection(&self) -> bool {
        *self == Self::Connection
    }

    fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Connection => Some(Self::Connection),
            Kind::Revocation => Some(Self::Revocation),
            _ => None,
        }
    }
}

/// Most rows of one shard that a tick looks at; what is over comes with the next.
pub const LIMIT_PER_SHARD: usize = 500;

/// How much of what is due is done at the same time: as long as one waits for its provider, others may do.
pub const AT_ONCE: usize = 64;

/// How far providers with a pace have spent it, as this process knows: whoever runs the schedule. One that starts knows nothing, and
/// lets a minute's worth go.
#[derive(Default)]
pub(crate) struct Paces(Mutex<HashMap<Id<Oauth2Provider>, Pace>>);

impl Paces {
    fn of(&self, provider: Id<Oauth2Provider>) -> Pace {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&provider).copied().unwrap_or_default()
    }

    fn set(&self, provider: Id<Oauth2Provider>, pace: Pace) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(provider, pace);
    }
}

/// What a tick does of what is due.
pub type WorkOff = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The only form of the message so far.
const MESSAGE_VERSION: u32 = 1;

impl From<DueWork> for Message {
    fn from(DueWork { key: Key { kind, partition, sort } }: DueWork) -> Self {
        let kind = WorkKind::of(kind).unwrap_or_default();
        Self { version: MESSAGE_VERSION, key: MessageKey { kind, partition, sort } }
    }
}

impl TryFrom<Message> for DueWork {
    type Error = String;

    fn try_from(Message { version, key }: Message) -> Result<Self, String> {
        if version != MESSAGE_VERSION {
            return Err(format!("has version {version}; this release reads {MESSAGE_VERSION}"));
        }
        let kind = match key.kind {
            WorkKind::Connection => Kind::Connection,
            WorkKind::Revocation => Kind::Revocation,
        };
        Ok(Self { key: Key::of(kind, key.partition, key.sort) })
    }
}

/// What a scheduled look at a connection came to. In each case its due entry is now where it belongs, unless somebody else
/// has the turn and moves it when they are done.
#[derive(Debug)]
pub enum Refreshed {
    /// It has new tokens.
    Renewed,
    /// It was not due (any more): somebody else refreshed it, or the same message came twice.
    NotDue,
    /// Somebody else was refreshing it all the while.
    InFlight,
    /// There is no such connection.
    Gone,
    /// Its workload or its provider was deleted, so that it gives nothing to anybody (D9). It was destroyed, and its provider told.
    Orphaned,
    /// Its user must consent again, which was announced.
    NeedsConsent(Reason),
    /// It is well, but its provider will end it soon, which was announced.
    EndAnnounced,
    /// Its grant has been dead for so long that its refresh token was destroyed (D8). It is never due again.
    Forgotten,
    /// The provider did not give new tokens this time; the connection comes due again by itself.
    PutOff {
        /// When.
        until: Option<Timestamp>,
        /// Why not now.
        error: Error,
    },
}

impl Refreshed {
    /// The stable code, for logs and metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Renewed => "renewed",
            Self::NotDue => "not_due",
            Self::InFlight => "in_flight",
            Self::Gone => "gone",
            Self::Orphaned => "orphaned",
            Self::NeedsConsent(_) => "needs_consent",
            Self::EndAnnounced => "end_announced",
            Self::Forgotten => "forgotten",
            Self::PutOff { .. } => "put_off",
        }
    }
}

impl Services {
    /// What is due now, at most `limit_per_shard` of each shard, the longest due first. What is left over
    /// is still due at the next tick. Reads what is due and nothing else. What of it is the audit trail's is signed at once.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn due_work(&self, limit_per_shard: usize) -> Result<Vec<DueWork>> {
        let (mut found, mut links, mut connections) = (Vec::new(), Vec::new(), Vec::new());
        for row in self.due_rows(limit_per_shard).await? {
            match row.key.kind {
                Kind::Audit => links.push(row),
                Kind::Connection => connections.push(row),
                kind if WorkKind::of(kind).is_some() => found.push(DueWork { key: row.key }),
                _ => {}
            }
        }
        if let Some(trail) = &self.ports.trail {
            trail.sign_links(links).await;
        }
        found.extend(self.at_their_pace(connections).await?.into_iter().map(|key| DueWork { key }));
        Ok(found)
    }

    /// Of connections that are due those that may be refreshed now, the longest due first. What is over its provider's pace comes due
    /// again when its turn is, so that it is not in the way of what is due at others.
    async fn at_their_pace(&self, mut due: Vec<Row>) -> Result<Vec<Key>> {
        due.sort_by_key(|row| row.due.map(|due| due.at));
        let providers: HashSet<_> = due.iter().filter_map(|row| Connection::provider_of(&row.key)).collect();
        let rates = self.rates(&providers).await?;
        let (now, mut planned) = (self.now(), HashMap::new());
        let (mut ready, mut moved) = (Vec::new(), Vec::new());
        for row in due {
            let rate = Connection::provider_of(&row.key).and_then(|id| Some((id, *rates.get(&id)?)));
            let Some((provider, per_minute)) = rate else {
                ready.push(row.key);
                continue;
            };
            let plan = planned.entry(provider).or_insert_with(|| self.paces.of(provider));
            let turn = plan.take(per_minute, now);
            if turn <= now {
                self.paces.set(provider, *plan);
                ready.push(row.key);
                continue;
            }
            let due = Some(Due::of(&row.key, turn));
            moved.push(self.move_due(row, due));
        }
        stream::iter(moved)
            .buffer_unordered(AT_ONCE)
            .for_each(|moved| async move {
                if let Err(error) = moved {
                    tracing::warn!(%error, "what is over its provider's pace could not be moved, and is still due");
                }
            })
            .await;
        Ok(ready)
    }

    /// How many a minute, of those of these providers for which that is said.
    async fn rates(
        &self,
        providers: &HashSet<Id<Oauth2Provider>>,
    ) -> Result<HashMap<Id<Oauth2Provider>, NonZeroU32>> {
        let keys: Vec<Key> =
            providers.iter().map(|id| Key::single(Kind::Oauth2Provider, id.to_string())).collect();
        let mut rates = HashMap::new();
        for keys in keys.chunks(MAX_BATCH) {
            for row in self.ports.store.batch_get(keys, Consistency::Eventual).await?.iter().flatten() {
                // One that cannot be read is in the way of its own connections alone.
                let Ok(Stored { value: provider, .. }) = record::parse::<Oauth2Provider>(row) else {
                    continue;
                };
                rates.extend(refreshes_per_minute(&provider.tags).map(|rate| (provider.id, rate)));
            }
        }
        Ok(rates)
    }

    async fn due_rows(&self, limit_per_shard: usize) -> Result<Vec<Row>> {
        let (now, mut found) = (self.now(), Vec::new());
        for shard in 0..DUE_SHARDS {
            found.extend(self.ports.store.due(shard, now, limit_per_shard).await?);
        }
        Ok(found)
    }

    /// The connections among what is due now, as [`Services::due_work`] would find them, and nothing is done about them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn due_connections(&self, limit_per_shard: usize) -> Result<Vec<ConnectionShown>> {
        let rows = self.due_rows(limit_per_shard).await?;
        let connections = rows.iter().filter(|row| row.key.kind == Kind::Connection);
        let addresses = connections
            .map(|row| Ok(record::parse::<Connection>(row)?.value.address()))
            .collect::<Result<Vec<_>>>()?;
        self.show(addresses).await
    }

    /// A tick where the schedule and those who work for it are one process: does what is due now, [`AT_ONCE`] at the same time, and
    /// says how much that was. A task that dies takes no other with it. Each outcome is stored when it returns, and logged.
    ///
    /// # Errors
    /// Those of the store, when it is asked what is due.
    pub async fn tick(self: &Arc<Self>, spawn: impl Fn(WorkOff) -> JoinHandle<()>) -> Result<usize> {
        let due = self.due_work(LIMIT_PER_SHARD).await?;
        let found = due.len();
        let working = due.into_iter().map(|due| {
            let services = Arc::clone(self);
            spawn(Box::pin(async move { services.log_work(&due).await }))
        });
        stream::iter(working)
            .buffer_unordered(AT_ONCE)
            .for_each(|ended| async move {
                if let Err(error) = ended {
                    tracing::error!(%error, "a scheduled refresh died");
                }
            })
            .await;
        Ok(found)
    }

    async fn log_work(&self, due: &DueWork) {
        match self.work_off(due).await {
            Ok(outcome) => tracing::info!(outcome, kind = due.key.kind.as_str(), "refresh"),
            Err(error) => {
                tracing::error!(%error, kind = due.key.kind.as_str(), "what is due could not be worked off")
            }
        }
    }

    /// Does what is due, and says what it came to as a stable code. Told twice, it does it once, or what is as good as once.
    ///
    /// # Errors
    /// As [`Services::refresh_connection`].
    pub async fn work_off(&self, due: &DueWork) -> Result<&'static str> {
        if due.key.kind == Kind::Revocation {
            return Ok(self.revoke_due(&due.key).await?.map_or("gone", Upstream::as_str));
        }
        Ok(self.refresh_connection(&due.key).await?.as_str())
    }

    /// `RefreshConnection`: refreshes a connection if it is due, in the same turn and by the same rules as a read does. Told
    /// twice, it does it once. Its outcome is stored when it returns.
    ///
    /// # Errors
    /// Only where *we* failed (the store, the vault), so that trying again may help: what a provider answers is an outcome.
    pub async fn refresh_connection(&self, key: &Key) -> Result<Refreshed> {
        let Some(row) = self.ports.store.get(key, Consistency::Strong).await? else {
            return Ok(Refreshed::Gone);
        };
        if row.key.kind != Kind::Connection || row.due.is_none_or(|due| due.at > self.now()) {
            return Ok(Refreshed::NotDue);
        }
        let stored = match record::parse::<Connection>(&row) {
            Ok(stored) => stored,
            Err(broken) => {
                // Nobody can mend it by trying again.
                self.move_due(row, None).await?;
                return Err(broken);
            }
        };
        let Some(provider) = self.provider_in_use(&stored.value).await? else {
            if let Some(pending) = self.destroy(&stored).await? {
                self.tell(pending).await;
            }
            return Ok(Refreshed::Orphaned);
        };
        let terms = terms(&provider);
        if let Some(reason) = stored.value.unannounced() {
            // Whoever found it out did not live to tell, or to say so.
            self.announce(stored, terms, reason).await;
            return Ok(Refreshed::NeedsConsent(reason));
        }
        if stored.value.forgotten_at().is_some_and(|at| at <= self.now()) {
            return self.forget(stored, terms).await;
        }
        if stored.value.is_of_a_changed_provider(terms) {
            return self.provider_changed(stored, terms).await;
        }
        let (stored, told) = self.announce_end(stored, terms).await?;
        if told && stored.value.due(terms, self.now()).is_none_or(|at| at > self.now()) {
            return Ok(Refreshed::EndAnnounced);
        }
        if stored.value.used_at.is_none() {
            // From before that was kept: counted from here.
            self.mark_used(&stored.value, terms).await;
        }
        if let Some(stop) = self.stopped(&provider) {
            return self.put_off_until(stored, stop.until, self.suspended(&provider, stop)).await;
        }
        match self.turn(key, Want::Schedule, terms, PATIENCE, || None).await? {
            Turn::Mine(taken) => {
                let Attempt { verdict, connection, trouble, is_lost, .. } =
                    self.attempt(&provider, taken).await?;
                Ok(match (verdict, trouble) {
                    (Verdict::Dead(reason), _) => Refreshed::NeedsConsent(reason),
                    (Verdict::Overtaken, _) if connection.flight.lease.is_some() => Refreshed::InFlight,
                    // A lost race: there are newer tokens.
                    (Verdict::Overtaken, _) => Refreshed::NotDue,
                    (Verdict::Failed, _) if is_lost => Refreshed::NeedsConsent(Reason::KeyLost),
                    (Verdict::Failed, Some(error)) => {
                        Refreshed::PutOff { until: connection.due(terms, self.now()), error }
                    }
                    (Verdict::Renewed | Verdict::Superseded | Verdict::Failed, _) => Refreshed::Renewed,
                })
            }
            Turn::Held => Ok(Refreshed::InFlight),
            Turn::Settled(None) => Ok(Refreshed::Gone),
            Turn::Settled(Some(settled)) => {
                // Nobody has written it since, and it is not due as it says.
                if settled.version == row.version {
                    let due = due(key, &settled.value, terms, self.now());
                    self.write_unless_newer(settled.replace(&settled.value, None, due)?).await?;
                }
                Ok(Refreshed::NotDue)
            }
        }
    }

    /// Tells others that a grant is about to end, if it is and they were not told, and then puts on record that they were.
    async fn announce_end(
        &self,
        stored: Stored<Connection>,
        terms: RefreshTerms,
    ) -> Result<(Stored<Connection>, bool)> {
        let now = self.now();
        let Some((_, ends_at)) = stored.value.end_notice(terms).filter(|(from, _)| *from <= now) else {
            return Ok((stored, false));
        };
        let of = stored.value.address().party();
        self.ports.events.tell(Event::AboutToEnd { of, ends_at, at: now }).await.map_err(Error::internal)?;
        let told = stored.value.with_announced_end(ends_at);
        let due = due(&stored.key, &told, terms, now);
        if !self.write_unless_newer(stored.replace(&told, None, due)?).await? {
            return Ok((stored, false));
        }
        Ok((Stored { version: stored.version.saturating_add(1), value: told, ..stored }, true))
    }

    /// The provider of a connection, unless it or the connection's workload was deleted.
    pub(crate) async fn provider_in_use(&self, connection: &Connection) -> Result<Option<Oauth2Provider>> {
        let keys = [
            Key::single(Kind::Workload, connection.workload.to_string()),
            Key::single(Kind::Oauth2Provider, connection.provider.to_string()),
        ];
        match self.ports.store.batch_get(&keys, Consistency::Strong).await?.as_slice() {
            [Some(_), Some(provider)] => Ok(Some(record::parse(provider)?.value)),
            _ => Ok(None),
        }
    }

    /// D3: tokens of an older generation are never sent anywhere.
    async fn provider_changed(
        &self,
        mut stored: Stored<Connection>,
        terms: RefreshTerms,
    ) -> Result<Refreshed> {
        let (now, reason) = (self.now(), Reason::ProviderChanged);
        let changed = stored.value.of_a_changed_provider(now);
        let due = due(&stored.key, &changed, terms, now);
        if !self.write_unless_newer(stored.replace(&changed, None, due)?).await? {
            return Ok(Refreshed::InFlight);
        }
        stored = Stored { version: stored.version.saturating_add(1), value: changed, ..stored };
        self.announce(stored, terms, reason).await;
        Ok(Refreshed::NeedsConsent(reason))
    }

    /// D8: the refresh token of a dead grant is destroyed. Its access token may live on.
    async fn forget(&self, stored: Stored<Connection>, terms: RefreshTerms) -> Result<Refreshed> {
        let now = self.now();
        let sealed = async {
            let mut forgotten = stored.value.without_refresh_token();
            let user_key = self.opening_user_key(stored.value.user).await?;
            let material = self.open_connection(&stored.value).await?;
            let Some((HeldKey { key, .. }, mut material)) = user_key.zip(material) else {
                // Lost with the vault key over it: nothing is left to destroy.
                forgotten.tokens.expires_at = Some(now);
                return Ok(forgotten);
            };
            material.refresh_token = None;
            forgotten.tokens.sealed =
                self.seal_connection(&key, &forgotten, forgotten.tokens.generation, &material)?;
            Ok::<_, Error>(forgotten)
        };
        let forgotten = match sealed.await {
            Ok(forgotten) => forgotten,
            Err(error) => return self.put_off_until(stored, now.plus(FORGET_AGAIN), error).await,
        };
        let due = due(&stored.key, &forgotten, terms, now);
        let written = self.write_unless_newer(stored.replace(&forgotten, None, due)?).await?;
        Ok(if written { Refreshed::Forgotten } else { Refreshed::NotDue })
    }

    /// Moves the due entry of a row and leaves it as it is.
    async fn put_off_until(
        &self,
        stored: Stored<Connection>,
        until: Timestamp,
        error: Error,
    ) -> Result<Refreshed> {
        let due = Some(Due::of(&stored.key, until));
        self.write_unless_newer(stored.replace(&stored.value, None, due)?).await?;
        Ok(Refreshed::PutOff { until: Some(until), error })
    }

    /// Gives a row another due entry, or none, and leaves it as it is.
    async fn move_due(&self, row: Row, due: Option<Due>) -> Result<bool> {
        let Row { key, version, expires_at, bytes, .. } = row;
        let condition = Condition::Version(version);
        self.write_unless_newer(Write::Put { key, condition, expires_at, due, bytes }).await
    }

    /// Whether it was written: somebody else's newer row stays as it is, with the due entry that they gave it.
    pub(crate) async fn write_unless_newer(&self, write: Write) -> Result<bool> {
        match self.ports.store.write(vec![write]).await {
            Ok(()) => Ok(true),
            Err(StoreError::Conflict(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
