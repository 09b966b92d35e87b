//! The scheduled prefetch: the keys of every issuer that somebody trusts, read before a token needs them (design 9, D25).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_identity_core::http::HttpClient;
use agent_identity_core::issuer::{IssuerPolicy, without_slash};
use agent_identity_core::store::{Consistency, DIRECTORY, Key, Kind, MAX_BATCH, Query, Row, Store};
use agent_identity_core::{Clock, Result, Timestamp};
use tokio::task::JoinSet;

use super::fetch::{Fetched, fetch_either};
use super::issuer_url::is_issuer_url;
use super::issuers::{FRESH, MAX_ISSUERS};
use super::shared::{Found, SharedKeys, as_read, cool_down_of, keys_of, parse_asked_at, parse_keys};

/// How often [`KeyPrefetch::renew`] is to be called.
pub const PREFETCH_EVERY: Duration = Duration::from_secs(60);

/// So old are keys when they are read again: with the next call they would be older than is fresh.
const RENEW_AFTER: Duration = FRESH.saturating_sub(PREFETCH_EVERY).saturating_sub(Duration::from_secs(30));

/// So many issuers are asked at the same time.
const AT_ONCE: usize = 8;

/// So long one may take in all, metadata and keys.
const ONE_ISSUER: Duration = Duration::from_secs(10);

/// No issuer is begun with later than this after a call began: what is over comes with the next.
const BUDGET: Duration = Duration::from_secs(25);

/// Rows of an issuer: keys and cool-down, of its name without and with a terminating slash.
const ROWS: usize = 4;

/// Most issuers of the directory that are read in one query.
const PAGE: usize = 250;

/// Keeps the keys of trusted issuers in the store, so that a process that starts needs no issuer.
pub struct KeyPrefetch {
    http: Arc<dyn HttpClient>,
    shared: SharedKeys,
    configured: Vec<String>,
    /// Issuers that did not answer, and why: told once, and asked last.
    failing: Mutex<HashMap<String, String>>,
}

/// What a call of [`KeyPrefetch::renew`] came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Renewed {
    /// So many issuers are trusted.
    pub issuers: usize,
    /// Of so many the keys were read anew.
    pub renewed: usize,
    /// So many did not answer. Their keys of before stay.
    pub failed: usize,
    /// So many are due and had to be left for the next call.
    pub left: usize,
}

/// An issuer whose keys are to be read.
struct DueIssuer {
    /// Its name, without a terminating slash.
    name: String,
    /// The rows of both forms of its name, as they were read.
    rows: Vec<Row>,
    fetched_at: Option<Timestamp>,
}

impl KeyPrefetch {
    /// For the issuers that authorizers name, which are in the store's directory, and those of the configuration.
    pub fn new(
        http: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
        store: Arc<dyn Store>,
        policy: &IssuerPolicy,
    ) -> Self {
        let configured = policy.trusted().iter().map(|record| record.issuer.clone()).collect();
        let shared = SharedKeys { store, clock, writes_keys: true };
        Self { http, shared, configured, failing: Mutex::default() }
    }

    /// Reads the keys that will not be fresh any more at the next call, and those of issuers that were asked for an unknown
    /// one. An issuer that does not answer stops no other, and its keys stay as they are.
    ///
    /// # Errors
    /// Those of the store, when it cannot say who is trusted or what it has.
    pub async fn renew(&self) -> Result<Renewed> {
        let began = self.shared.clock.elapsed();
        let issuers = self.issuers().await?;
        let mut due = self.due(&issuers).await?;
        let mut outcome = Renewed { issuers: issuers.len(), ..Renewed::default() };
        {
            let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
            due.sort_by_key(|issuer| (failing.contains_key(&issuer.name), issuer.fetched_at));
        }
        let mut due = due.into_iter();
        let mut running = JoinSet::new();
        loop {
            let in_time = self.shared.clock.elapsed().saturating_sub(began) < BUDGET;
            while in_time && running.len() < AT_ONCE {
                let Some(issuer) = due.next() else { break };
                let (http, shared) = (Arc::clone(&self.http), self.shared.clone());
                running.spawn(async move {
                    let result = read_again(&*http, &shared, issuer.rows, &issuer.name).await;
                    (issuer.name, result)
                });
            }
            match running.join_next().await {
                Some(Ok((name, Ok(())))) => {
                    outcome.renewed += 1;
                    self.failing.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                }
                Some(Ok((name, Err(reason)))) => {
                    outcome.failed += 1;
                    self.note_failure(name, reason);
                }
                Some(Err(_panic)) => outcome.failed += 1,
                None => break,
            }
        }
        outcome.left = due.len();
        Ok(outcome)
    }

    /// The names of all trusted issuers, each without a terminating slash: their metadata say whether they have one.
    async fn issuers(&self) -> Result<BTreeSet<String>> {
        let mut names: BTreeSet<String> = self.configured.iter().cloned().collect();
        let mut after = None;
        loop {
            let query = Query {
                kind: Kind::Issuer,
                partition: DIRECTORY.to_owned(),
                after: after.take(),
                limit: PAGE,
            };
            let page = self.shared.store.query(query).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|row| row.key.sort.clone());
            names.extend(page.into_iter().map(|row| row.key.sort));
            if is_last || names.len() >= MAX_ISSUERS {
                break;
            }
        }
        let usable = names.iter().filter(|name| is_issuer_url(name));
        Ok(usable.map(|name| without_slash(name).to_owned()).collect())
    }

    async fn due(&self, issuers: &BTreeSet<String>) -> Result<Vec<DueIssuer>> {
        let mut due = Vec::new();
        let issuers: Vec<&String> = issuers.iter().collect();
        for some in issuers.chunks(MAX_BATCH / ROWS) {
            let keys: Vec<Key> = some
                .iter()
                .flat_map(|name| [(*name).clone(), format!("{name}/")])
                .flat_map(|name| [keys_of(&name), cool_down_of(&name)])
                .filter(|key| is_issuer_url(&key.partition))
                .collect();
            let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
            for row in self.shared.store.batch_get(&keys, Consistency::Eventual).await?.into_iter().flatten()
            {
                let name = without_slash(&row.key.partition).to_owned();
                rows.entry(name).or_default().push(row);
            }
            let now = self.shared.clock.now();
            due.extend(
                some.iter()
                    .filter_map(|name| due_issuer(name, rows.remove(name.as_str()).unwrap_or_default(), now)),
            );
        }
        Ok(due)
    }

    fn note_failure(&self, name: String, reason: String) {
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.get(&name) != Some(&reason) {
            tracing::warn!(issuer = name, %reason, "the keys of an issuer could not be read; those of before stay");
            failing.insert(name, reason);
        }
    }
}

/// The issuer, if its keys are to be read.
fn due_issuer(name: &str, rows: Vec<Row>, now: Timestamp) -> Option<DueIssuer> {
    let of_kind = |kind: Kind| rows.iter().filter(move |row| row.key.kind == kind);
    let newest = of_kind(Kind::Jwks).filter_map(|row| parse_keys(row, now)).max_by_key(|it| it.fetched_at);
    let asked_at = of_kind(Kind::JwksCoolDown).filter_map(|row| parse_asked_at(row, now)).max();
    let is_fresh = newest.as_ref().is_some_and(|found| {
        found.age < RENEW_AFTER && asked_at.is_none_or(|asked_at| asked_at <= found.fetched_at)
    });
    let fetched_at = newest.map(|found| found.fetched_at);
    (!is_fresh).then(|| DueIssuer { name: name.to_owned(), rows, fetched_at })
}

/// Reads an issuer's keys and keeps them.
async fn read_again(
    http: &dyn HttpClient,
    shared: &SharedKeys,
    rows: Vec<Row>,
    name: &str,
) -> Result<(), String> {
    let fetched_at = shared.clock.now();
    let fetched = tokio::time::timeout(ONE_ISSUER, fetch_either(http, name))
        .await
        .map_err(|_elapsed| format!("it has not answered within {} s", ONE_ISSUER.as_secs()))??;
    if !is_issuer_url(&fetched.issuer) {
        return Err("its metadata give it a name that no token can have".to_owned());
    }
    let key = keys_of(&fetched.issuer);
    let before = rows.iter().find(|row| row.key == key);
    tell_changes(&fetched, before.and_then(|row| parse_keys(row, fetched_at)));
    shared.keep(fetched, fetched_at, as_read(before)).await.map_err(|error| error.to_string())
}

/// One line for a change; never a key.
fn tell_changes(fetched: &Fetched, before: Option<Found>) {
    let before: BTreeSet<Option<String>> = before.into_iter().flat_map(|found| found.kids).collect();
    let now: BTreeSet<Option<String>> = fetched.published.jwks.iter().map(|jwk| jwk.kid.clone()).collect();
    let (added, removed) = (now.difference(&before).count(), before.difference(&now).count());
    if added + removed > 0 {
        tracing::info!(issuer = fetched.issuer, added, removed, "an issuer's keys have changed");
    }
}
