//! The audit trail as it is written (D18, ADR 0031): changes in the transaction that makes them, credentials before they leave.
//!
//! Who is at work is known to the task ([`About`]): the wire says which request and principal it is, the use cases note for which
//! workload, provider and user. [`AuditedStore`] sees every write, so that no use case can forget to tell.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_identity_core::audit::{
    Chain, ChainId, Day, END, Head, LINES, Link, LinkHash, OK, Record, SignedHead,
};
use agent_identity_core::grant::Action;
use agent_identity_core::port::{Digest, HeadSigner};
use agent_identity_core::random::Random;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::store::{
    Condition, Consistency, Due, Key, Kind, MAX_BATCH, Query, Row, Store, StoreError, Write,
};
use agent_identity_core::user::UserKey;
use agent_identity_core::{Clock, Error, ProviderName, Result, Timestamp, WorkloadName, encoding};
use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

mod read;
mod usage;

pub use read::Found;

/// Most records in one link: what one of them waits for others is bounded.
const GROUP: usize = 256;

/// So much of a user's key is in a log line: 96 bits, of which no two users have the same.
const SHORT_USER: usize = 24;

/// Who is at work, on what, for whom.
#[derive(Clone, Debug)]
pub struct About {
    /// A principal's name, or what else acts.
    pub principal: String,
    /// As on the wire.
    pub operation: String,
    /// The request's id.
    pub request: Option<String>,
    /// The workload.
    pub workload: Option<WorkloadName>,
    /// The provider.
    pub provider: Option<ProviderName>,
    /// The user.
    pub user: Option<UserKey>,
    /// Whether that provider is there: a name that somebody made up is on record, and is not counted by.
    pub found: bool,
    /// Whether the credential has gone into a request: what that has done is done, whatever becomes of the record.
    pub used: bool,
    /// What a good answer gave where it gave no credential, or what else must be said of it: [`CONSENT`], [`ACCOUNT_REPLACED`].
    pub answer: Option<&'static str>,
}

/// The user must consent first.
pub const CONSENT: &str = "consent";

/// The user has not consented yet.
pub const PENDING: &str = "pending";

/// The user consented with another account than the one that is there, and its tokens are kept beside.
pub const ACCOUNT_BESIDE: &str = "account_kept_beside";

/// The same, and the one that was there has made room (`forceAuthentication`).
pub const ACCOUNT_REPLACED: &str = "account_replaced";

/// What cannot be put on record is not given.
const UNRECORDED: &str = "unrecorded";

impl About {
    /// Somebody, who does something.
    pub fn new(principal: impl Into<String>, operation: impl Into<String>) -> Self {
        Self {
            principal: principal.into(),
            operation: operation.into(),
            request: None,
            workload: None,
            provider: None,
            user: None,
            found: false,
            used: false,
            answer: None,
        }
    }

    /// The schedule: what comes due is done for nobody who asks.
    pub fn schedule() -> Self {
        Self::new("agent-identity", "schedule")
    }

    /// What an action names.
    pub fn concerns(&mut self, action: &impl Action) {
        self.workload = action.workload().cloned().or(self.workload.take());
        self.provider = action.provider().cloned().or(self.provider.take());
    }

    fn outcome<'a>(&self, error: Option<&'a str>) -> &'a str {
        error.or(self.answer).unwrap_or(OK)
    }

    fn record(self, error: Option<&str>) -> Record {
        let outcome = self.outcome(error).to_owned();
        Record {
            at: None,
            principal: self.principal,
            operation: self.operation,
            outcome,
            workload: self.workload.map(|name| name.as_str().to_owned()),
            provider: self.provider.map(|name| name.as_str().to_owned()),
            user: self.user.map(|user| user.to_string()),
            request: self.request,
            changed: Vec::new(),
        }
    }
}

tokio::task_local! {
    static ABOUT: RefCell<About>;
}

/// Does some work of which the trail shall know whose it is.
pub async fn about<F: Future>(about: About, work: F) -> F::Output {
    ABOUT.scope(RefCell::new(about), work).await
}

/// Adds to what is known of the work under way. Nothing where nobody said whose it is.
pub fn note(add: impl FnOnce(&mut About)) {
    let _nobody_said = ABOUT.try_with(|about| add(&mut about.borrow_mut()));
}

/// Whether the work under way has put a credential, or none, into a request of a tool.
pub fn was_used() -> bool {
    ABOUT.try_with(|about| about.borrow().used).unwrap_or(false)
}

/// What is known of the work under way.
fn noted() -> About {
    // What a process does by itself: keys that it makes, leases that it takes over.
    ABOUT.try_with(|about| about.borrow().clone()).unwrap_or_else(|_| About::new("agent-identity", "-"))
}

/// What of a record must be on the request's log line, where that is what keeps it: together they say what [`Link`] does.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// `CHAIN:NUMBER:PREVIOUS`.
    pub audit: Option<String>,
    /// The workload.
    pub workload: Option<String>,
    /// The provider.
    pub provider: Option<String>,
    /// The beginning of the user's key.
    pub user: Option<String>,
    /// What a good answer gave where it gave no credential.
    pub answer: Option<&'static str>,
}

/// Where records of credentials go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Into the store, before the answer leaves.
    Rows,
    /// Onto the request's one log line.
    Lines,
}

/// How long the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Until it is told to end: a chain grows with it.
    Long,
    /// A command: each change is a chain of its own, which ends and is signed at once.
    Brief,
}

/// Who signs how far a chain has come.
#[derive(Clone)]
pub enum Signing {
    /// This process, now and then: it has the key.
    Here(Arc<dyn HeadSigner>),
    /// The schedule ([`Services::due_work`](crate::Services::due_work)): each link is due until its head is signed. The key, where
    /// this process may use it, is for that and for verifying.
    Scheduled(Option<Arc<dyn HeadSigner>>),
}

impl Signing {
    fn signer(&self) -> Option<&Arc<dyn HeadSigner>> {
        match self {
            Self::Here(signer) => Some(signer),
            Self::Scheduled(signer) => signer.as_ref(),
        }
    }
}

/// How the trail of a process is kept.
#[derive(Clone)]
pub struct Terms {
    /// Where records of credentials go.
    pub kept: Kept,
    /// How long the process lives.
    pub life: Life,
    /// Who signs.
    pub signing: Signing,
    /// How many days each day is kept, after which all of it is gone at once.
    pub days: u32,
    /// Whether what is counted is told to the log too, where it becomes metrics (ADR 0034).
    pub usage_metrics: bool,
}

/// How many days the trail is kept where nobody says otherwise.
pub const DEFAULT_DAYS: u32 = 400;

/// The chains of this process.
pub struct Trail {
    /// As it is, without [`AuditedStore`] around it.
    store: Arc<dyn Store>,
    digest: Arc<dyn Digest>,
    random: Arc<dyn Random>,
    clock: Arc<dyn Clock>,
    terms: Terms,
    /// Chains of changes that no transaction has at the moment.
    resting: Mutex<Vec<Chain>>,
    /// Who waits for the next link of credentials.
    waiting: Mutex<Vec<Waiting>>,
    /// The chain of credentials; whoever has it writes for all who wait.
    credentials: tokio::sync::Mutex<Option<Chain>>,
    /// The chain of log lines.
    lines: Mutex<Option<Chain>>,
    /// How far that one had come when it was said last.
    noted: Mutex<Option<Head>>,
    /// What was asked for.
    counters: usage::Counters,
    /// What was signed last, and of which day, by chain.
    signed: tokio::sync::Mutex<Vec<Head>>,
}

struct Waiting {
    record: Record,
    done: oneshot::Sender<Result<(), StoreError>>,
}

fn again(error: &StoreError) -> StoreError {
    match error {
        StoreError::Busy(reason) => StoreError::Busy(reason.clone()),
        StoreError::Conflict(_) | StoreError::Failed(_) => {
            StoreError::Failed(format!("the audit trail cannot be written: {error}"))
        }
    }
}

impl Trail {
    /// The trail in `store`.
    pub fn new(
        store: Arc<dyn Store>,
        digest: Arc<dyn Digest>,
        random: Arc<dyn Random>,
        clock: Arc<dyn Clock>,
        terms: Terms,
    ) -> Self {
        Self {
            store,
            digest,
            random,
            clock,
            terms,
            resting: Mutex::default(),
            waiting: Mutex::default(),
            credentials: tokio::sync::Mutex::default(),
            lines: Mutex::default(),
            noted: Mutex::default(),
            counters: usage::Counters::default(),
            signed: tokio::sync::Mutex::default(),
        }
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// When all of a day goes.
    fn expiry(&self, day: Day) -> Option<Timestamp> {
        let kept = u64::from(self.terms.days).saturating_mul(24 * 3600);
        Some(day.ends().plus(Duration::from_secs(kept)))
    }

    /// This chain if it is of today, or a new one; and the one that ended with its day.
    fn of_today(&self, chain: Option<Chain>, now: Timestamp) -> (Chain, Option<Chain>) {
        match chain {
            Some(chain) if chain.day() == Day::of(now) => (chain, None),
            yesterdays => (Chain::begin(&*self.random, now), yesterdays),
        }
    }

    /// Puts on record that a credential was given, or by which error it was not, by what is noted of the work under way: into the
    /// store, where it survives a crash when this returns; or as members for the request's log line.
    ///
    /// # Errors
    /// Those of the store. Then the credential must not leave.
    pub async fn credential(&self, error: Option<&str>) -> Result<Recorded, StoreError> {
        let about = noted();
        let (answer, used, outcome) = (about.answer, about.used, about.outcome(error));
        let counted_by = usage::counted_by(&about);
        let record = about.record(error);
        let recorded = match self.terms.kept {
            Kept::Lines => Ok(Recorded { answer, ..self.line(record) }),
            Kept::Rows => {
                self.row(Record { at: Some(self.now()), ..record }).await.map(|()| Recorded::default())
            }
        };
        if let Some(counted_by) = counted_by {
            self.count(counted_by, if recorded.is_ok() || used { outcome } else { UNRECORDED });
        }
        recorded
    }

    fn line(&self, mut record: Record) -> Recorded {
        record.user = record.user.map(|user| user.chars().take(SHORT_USER).collect());
        let (workload, provider, user) =
            (record.workload.clone(), record.provider.clone(), record.user.clone());
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut chain, _yesterdays) = self.of_today(lines.take(), self.now());
        let link = chain.next_line(record);
        chain.advance(&link, &*self.digest);
        *lines = Some(chain);
        let audit = Some(format!("{}:{}:{}", link.chain, link.sequence, link.previous));
        Recorded { audit, workload, provider, user, answer: None }
    }

    /// Writes all that waits in one link, or waits for who does.
    async fn row(&self, record: Record) -> Result<(), StoreError> {
        let (done, mut written) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Waiting { record, done });
        let mut chain = self.credentials.lock().await;
        // Whoever waits longest is in the first group, and this one is in a group at the latest when all before are written.
        loop {
            match written.try_recv() {
                Ok(written) => return written,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Closed) => {
                    return Err(StoreError::Failed("whoever wrote the audit trail has gone".to_owned()));
                }
            }
            let group: Vec<Waiting> = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let most = waiting.len().min(GROUP);
                waiting.drain(..most).collect()
            };
            let records: Vec<Record> = group.iter().map(|waiting| waiting.record.clone()).collect();
            let outcome = self.append(&mut chain, records).await;
            for waiting in group {
                let told = outcome.as_ref().map_err(again).copied();
                let _gone = waiting.done.send(told);
            }
        }
    }

    fn put(&self, link: &Link, day: Day) -> Result<Write, StoreError> {
        let key = link.key(day);
        let due = matches!(self.terms.signing, Signing::Scheduled(_)).then(|| Due::of(&key, self.now()));
        record::put(key, Condition::Absent, link, self.expiry(day), due).map_err(unwritten)
    }

    /// One link more. A chain of which nobody knows how far it has come is left as it is: another begins.
    async fn append(&self, chain: &mut Option<Chain>, records: Vec<Record>) -> Result<(), StoreError> {
        if records.is_empty() {
            return Ok(());
        }
        let (mut current, yesterdays) = self.of_today(chain.take(), self.now());
        if let Some(yesterdays) = yesterdays {
            self.end_chain(yesterdays).await;
        }
        let link = current.next(records);
        match self.store.write(vec![self.put(&link, current.day())?]).await {
            Ok(()) => {
                current.advance(&link, &*self.digest);
                *chain = Some(current);
                Ok(())
            }
            Err(StoreError::Busy(reason)) => {
                *chain = Some(current);
                Err(StoreError::Busy(reason))
            }
            Err(error) => Err(error),
        }
    }

    /// A chain ends as it should.
    async fn end_chain(&self, mut chain: Chain) {
        let now = self.now();
        let link = chain.next(vec![end(now)]);
        let written = match self.put(&link, chain.day()) {
            Ok(write) => self.store.write(vec![write]).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {
                chain.advance(&link, &*self.digest);
                self.sign(&chain, now).await;
            }
            Err(error) => tracing::warn!(%error, "a chain of the audit trail has no end"),
        }
    }

    /// Signs how far this process's chains have come, where they have moved since.
    pub async fn sign_heads(&self) {
        let now = self.now();
        let mut chains: Vec<Chain> = self.resting.lock().unwrap_or_else(PoisonError::into_inner).clone();
        chains.extend(self.credentials.lock().await.clone());
        for chain in chains {
            self.sign(&chain, now).await;
        }
    }

    async fn sign(&self, chain: &Chain, now: Timestamp) {
        let (Signing::Here(signer), Some(head)) = (&self.terms.signing, chain.head(now)) else { return };
        let mut signed = self.signed.lock().await;
        let before = signed.iter().position(|before| before.chain == head.chain);
        if before.and_then(|before| signed.get(before)).is_some_and(|it| it.sequence >= head.sequence) {
            return;
        }
        match self.replace_head(&**signer, &head, chain.day()).await {
            Ok(()) => {
                before.map(|before| signed.swap_remove(before));
                // Of chains that have ended nothing more is to be signed.
                signed.retain(|other| Day::of(other.at) == Day::of(now));
                signed.push(head);
            }
            Err(error) => tracing::warn!(%error, "how far the audit trail has come could not be signed"),
        }
    }

    /// Heads are written by one process alone, one after another.
    async fn replace_head(&self, signer: &dyn HeadSigner, head: &Head, day: Day) -> Result<()> {
        let before = self.store.get(&head.key(day), Consistency::Strong).await?;
        self.put_head(signer, head, day, before.map(|row| row.version)).await
    }

    async fn put_head(
        &self,
        signer: &dyn HeadSigner,
        head: &Head,
        day: Day,
        before: Option<u64>,
    ) -> Result<()> {
        let condition = before.map_or(Condition::Absent, Condition::Version);
        let signed = signed(signer, head.clone()).await?;
        let write = record::put(head.key(day), condition, &signed, self.expiry(day), None)?;
        Ok(self.store.write(vec![write]).await?)
    }

    /// Signs how far chains have come by these links, and takes those from what is due. What fails comes with the next tick.
    pub async fn sign_links(&self, rows: Vec<Row>) {
        let mut chains: BTreeMap<(String, ChainId), Vec<Stored<Link>>> = BTreeMap::new();
        for row in rows {
            match record::parse::<Link>(&row) {
                Ok(stored) => {
                    let of = (row.key.partition, stored.value.chain.clone());
                    chains.entry(of).or_default().push(stored);
                }
                Err(error) => tracing::error!(%error, "a link of the audit trail is broken"),
            }
        }
        for ((partition, chain), links) in chains {
            let day = Day::of_partition(&partition).unwrap_or_else(|| self.today());
            if let Err(error) = self.sign_chain(day, links).await {
                tracing::error!(%error, %chain, "a chain of the audit trail was not signed");
            }
        }
    }

    /// Goes on from what was signed before, link by link, and signs no other history: whoever can write to the store could make the
    /// chain anew, with one link more that is to be signed. What is after a link that is not to be seen yet waits for it.
    async fn sign_chain(&self, day: Day, mut links: Vec<Stored<Link>>) -> Result<()> {
        let signer = self.terms.signing.signer().ok_or_else(|| {
            Error::internal("the audit trail cannot be signed: AGENT_IDENTITY_AUDIT_KMS_KEY_ID is not set")
        })?;
        links.sort_by_key(|stored| stored.value.sequence);
        let Some(first) = links.first() else { return Ok(()) };
        let mut head =
            Head { chain: first.value.chain.clone(), sequence: 0, hash: LinkHash::none(), at: self.now() };
        let before: Option<Stored<SignedHead>> =
            record::get(&*self.store, &head.key(day), Consistency::Strong).await?;
        if let Some(Stored { value: SignedHead { head: before, .. }, .. }) = &before {
            (head.sequence, head.hash) = (before.sequence, before.hash.clone());
        }
        let signed_before = head.sequence;
        for Stored { value: link, .. } in &links {
            if link.sequence > head.sequence.saturating_add(1) {
                break;
            }
            if link.sequence > head.sequence {
                if !link.previous.matches(&head.hash) {
                    let sequence = link.sequence;
                    return Err(Error::internal(format!(
                        "what is before link {sequence} is not what was signed"
                    )));
                }
                (head.sequence, head.hash) = (link.sequence, link.hash(&*self.digest));
            }
        }
        if head.sequence > signed_before {
            self.put_head(&**signer, &head, day, before.map(|before| before.version)).await?;
        }
        // After the head, so that none is forgotten.
        links.retain(|stored| stored.value.sequence <= head.sequence);
        for some in links.chunks(MAX_BATCH) {
            let writes = some.iter().map(|stored| stored.replace(&stored.value, self.expiry(day), None));
            self.store.write(writes.collect::<Result<_>>()?).await?;
        }
        Ok(())
    }

    /// Ends the chains of this process, and writes what it has counted: it is about to end.
    pub async fn end(&self) {
        self.write_usage(Duration::ZERO).await;
        let mut chains: Vec<Chain> =
            std::mem::take(&mut *self.resting.lock().unwrap_or_else(PoisonError::into_inner));
        chains.extend(self.credentials.lock().await.take());
        for chain in chains {
            self.end_chain(chain).await;
        }
    }

    /// Puts on record that something is about to be changed that is not in the store: `put external-secret/NAME`. Before it is, so
    /// that nothing is changed unseen.
    ///
    /// # Errors
    /// Those of the store. Then it must not be changed.
    pub async fn announce(&self, change: String) -> Result<(), StoreError> {
        self.record_with(Vec::new(), vec![change]).await
    }

    /// Does the writes, and puts on record in the same transaction that they were done.
    async fn change(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        let changed = writes.iter().filter_map(described).collect();
        self.record_with(writes, changed).await
    }

    async fn record_with(&self, writes: Vec<Write>, changed: Vec<String>) -> Result<(), StoreError> {
        let now = self.now();
        self.write_record(writes, Record { at: Some(now), changed, ..noted().record(None) }).await
    }

    /// Says in a chain of rows how far the chain of this process's log lines has come, if it has moved and that was not said for so long:
    /// with that chain it is signed. What cannot be said now is said after as long again; nobody's answer depends on it.
    pub async fn note_lines(&self, older: Duration) {
        let now = self.now();
        let head = {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(head) = lines.as_ref().and_then(|chain| chain.head(now)) else { return };
            let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *noted {
                Some(before) if before.chain == head.chain => {
                    if before.sequence == head.sequence || now < before.at.plus(older) {
                        return;
                    }
                }
                // A new one is let go so long before it costs a write.
                _ => {
                    *noted = Some(Head { sequence: 0, ..head });
                    return;
                }
            }
            *noted = Some(head.clone());
            head
        };
        let record = About::new("agent-identity", LINES).record(None);
        let record = Record { at: Some(now), changed: vec![head.note()], ..record };
        if let Err(error) = self.write_record(Vec::new(), record).await {
            tracing::warn!(%error, "how far the audit trail in the log has come could not be put on record");
        }
    }

    async fn write_record(&self, mut writes: Vec<Write>, record: Record) -> Result<(), StoreError> {
        let now = self.now();
        let resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let (mut chain, yesterdays) = self.of_today(resting, now);
        if let Some(yesterdays) = yesterdays {
            self.end_chain(yesterdays).await;
        }
        let mut records = vec![record];
        if self.terms.life == Life::Brief {
            records.push(end(now));
        }
        let link = chain.next(records);
        let of_link = writes.len();
        writes.push(self.put(&link, chain.day())?);
        let outcome = self.store.write(writes).await;
        match &outcome {
            Ok(()) => chain.advance(&link, &*self.digest),
            // The link is there: an earlier transaction's answer was lost, and with it how far the chain has come.
            Err(StoreError::Conflict(index)) if *index == of_link => {
                return Err(StoreError::Busy("the audit trail".to_owned()));
            }
            Err(StoreError::Conflict(_) | StoreError::Busy(_)) => {}
            // Nobody knows: another chain begins.
            Err(StoreError::Failed(_)) => return outcome,
        }
        if outcome.is_ok() && link.ends() {
            self.sign(&chain, now).await;
        } else {
            self.resting.lock().unwrap_or_else(PoisonError::into_inner).push(chain);
        }
        outcome
    }
}

impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trail").field("kept", &self.terms.kept).finish_non_exhaustive()
    }
}

/// The record that a chain ends with.
fn end(now: Timestamp) -> Record {
    Record { at: Some(now), ..About::new("agent-identity", END).record(None) }
}

fn unwritten(error: Error) -> StoreError {
    StoreError::Failed(error.to_string())
}

async fn signed(signer: &dyn HeadSigner, head: Head) -> Result<SignedHead> {
    let signature = signer.sign(&head.framed()).await.map_err(Error::internal)?;
    Ok(SignedHead { head, signature: encoding::hex(&signature) })
}

/// Whether a write changes what somebody decided: which workloads, providers, rules, callers, bans and keys there are.
const fn is_of_configuration(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Workload
            | Kind::Oauth2Provider
            | Kind::ApiKeyProvider
            | Kind::Tool
            | Kind::Authorizer
            | Kind::Principal
            | Kind::AccessKey
            | Kind::Denial
            | Kind::VaultKey
    )
}

/// A write as the trail tells it: `put workload/4f…`. `None` for what is only looked at, and what goes without saying.
fn described(write: &Write) -> Option<String> {
    let (verb, key) = match write {
        Write::Put { key, .. } => ("put", key),
        Write::Delete { key, .. } => ("delete", key),
        Write::Check { .. } => return None,
    };
    let told = is_of_configuration(key.kind) || matches!(key.kind, Kind::Connection | Kind::UserKey);
    let sort = if key.sort.is_empty() { String::new() } else { format!("/{}", key.sort) };
    told.then(|| format!("{verb} {}/{}{sort}", key.kind.as_str(), key.partition))
}

/// Whether a transaction is told: it changes configuration, or begins, replaces or ends a connection. What a refresh writes is a
/// connection alone, and is not.
fn is_told(writes: &[Write]) -> bool {
    let touches = |wanted: fn(&Write) -> bool| writes.iter().any(wanted);
    touches(|write| !matches!(write, Write::Check { .. }) && is_of_configuration(write.key().kind))
        || touches(|write| matches!(write, Write::Delete { key, .. } if key.kind == Kind::Connection))
        || touches(|write| matches!(write, Write::Put { key, .. } if key.kind == Kind::Connection))
            && touches(|write| {
                matches!(write, Write::Put { key, .. }
                    if matches!(key.kind, Kind::ConsentSession | Kind::ConnectionEntry))
            })
}

/// A store whose changes are on record.
pub struct AuditedStore {
    inner: Arc<dyn Store>,
    trail: Arc<Trail>,
}

impl AuditedStore {
    /// Around the store that the trail is in.
    pub fn new(trail: Arc<Trail>) -> Self {
        Self { inner: Arc::clone(&trail.store), trail }
    }
}

#[async_trait]
impl Store for AuditedStore {
    async fn get(&self, key: &Key, consistency: Consistency) -> Result<Option<Row>, StoreError> {
        self.inner.get(key, consistency).await
    }

    async fn batch_get(
        &self,
        keys: &[Key],
        consistency: Consistency,
    ) -> Result<Vec<Option<Row>>, StoreError> {
        self.inner.batch_get(keys, consistency).await
    }

    async fn read_ahead(&self, keys: &[Key]) {
        self.inner.read_ahead(keys).await;
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        if is_told(&writes) { self.trail.change(writes).await } else { self.inner.write(writes).await }
    }

    async fn query(&self, query: Query) -> Result<Vec<Row>, StoreError> {
        self.inner.query(query).await
    }

    async fn due(&self, shard: u16, until: Timestamp, limit: usize) -> Result<Vec<Row>, StoreError> {
        self.inner.due(shard, until, limit).await
    }
}
