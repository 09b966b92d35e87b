//! What the trail records of credentials, counted (`core/src/usage.rs`). Each process counts for itself and now and then writes what it
//! has into rows of its own: no counter is shared, and no request waits for one. A process that is killed loses what it has counted
//! since; the trail has it still. Counted is too what could not be put on record.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_identity_core::audit::Day;
use agent_identity_core::random::{self, Random};
use agent_identity_core::record;
use agent_identity_core::store::{Condition, Consistency, Kind, MAX_VALUE_BYTES};
use agent_identity_core::usage::{self, Counts, Total, UsageOf, UsagePath, Used};
use agent_identity_core::{ProviderName, Result, Timestamp, WorkloadName};

use super::{About, CONSENT, PENDING, Trail};
use crate::page::each_row;

/// Most bytes that a row grows to: half of what a row may have.
const MAX_BYTES: usize = MAX_VALUE_BYTES / 2;

/// Bytes of a line beside its names.
const LINE_BYTES: usize = 160;

/// What a request is counted by; `None` for what is no request for a provider's credential. A provider that nobody has found is no
/// name.
pub(super) fn counted_by(about: &About) -> Option<UsageOf> {
    let path = UsagePath::of(&about.operation)?;
    let workload = about.workload.as_ref().map_or("", WorkloadName::as_str).to_owned();
    let provider = about.provider.as_ref().filter(|_| about.found);
    Some(UsageOf { workload, provider: provider.map_or("", ProviderName::as_str).to_owned(), path })
}

/// What was counted on a day, and written.
#[derive(Debug, Default)]
struct Entry {
    counts: Counts,
    /// As they were last told to the metrics.
    told: Counts,
}

/// The counters of a row.
#[derive(Debug)]
struct Sheet {
    day: Day,
    /// Its row's name.
    name: String,
    entries: BTreeMap<UsageOf, Entry>,
    /// Of the row, about.
    bytes: usize,
    /// How many requests were counted.
    counted: u64,
    /// How many of them are in the row.
    written: u64,
    /// Since when some are not, or when that was last tried.
    waits_since: Timestamp,
    /// The row's version as it was written last.
    version: Option<u64>,
}

impl Sheet {
    fn new(day: Day, random: &dyn Random, now: Timestamp) -> Self {
        Self {
            day,
            name: random::handle(random),
            entries: BTreeMap::new(),
            bytes: 0,
            counted: 0,
            written: 0,
            waits_since: now,
            version: None,
        }
    }

    fn waits(&self) -> bool {
        self.counted > self.written
    }

    fn is_due(&self, now: Timestamp, older: Duration) -> bool {
        self.waits() && now.since(self.waits_since) >= older
    }

    fn count(&mut self, of: UsageOf, outcome: &str, now: Timestamp) {
        let line = of.workload.len() + of.provider.len() + LINE_BYTES;
        let entry = self.entries.entry(of).or_insert_with(|| {
            self.bytes += line;
            Entry::default()
        });
        entry.counts.count(outcome, &[CONSENT, PENDING]);
        if !self.waits() {
            self.waits_since = now;
        }
        self.counted = self.counted.saturating_add(1);
    }

    fn list(&self) -> Vec<Used> {
        self.entries.iter().map(|(of, entry)| Used { of: of.clone(), counts: entry.counts }).collect()
    }

    /// A line of the log for each that has moved, which is a metric on AWS.
    fn tell(&mut self) {
        // A dimension of a metric cannot be empty.
        let name = |name: &str| if name.is_empty() { "-".to_owned() } else { name.to_owned() };
        for (of, entry) in &mut self.entries {
            let moved = entry.counts.since(entry.told);
            if moved != Counts::default() {
                let (workload, provider, path) = (name(&of.workload), name(&of.provider), of.path.as_str());
                let Counts { given, waiting, refused } = moved;
                tracing::info!(workload, provider, path, given, waiting, refused, "usage");
                entry.told = entry.counts;
            }
        }
    }
}

/// The counters of this process.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Those of today count. Others have ended with their day, and wait to be written.
    sheets: Mutex<Vec<Sheet>>,
    /// Whoever has it writes.
    writing: tokio::sync::Mutex<()>,
}

impl Counters {
    fn sheets(&self) -> MutexGuard<'_, Vec<Sheet>> {
        self.sheets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sheet as it is about to be written.
struct Page {
    day: Day,
    name: String,
    version: Option<u64>,
    counted: u64,
    list: Vec<Used>,
}

impl Trail {
    /// Counts a request with its outcome.
    pub(super) fn count(&self, of: UsageOf, outcome: &str) {
        let now = self.now();
        let mut sheets = self.counters.sheets();
        let today = Day::of(now);
        // The one that has its line already, or has place for another.
        let there = sheets.iter().position(|sheet| sheet.day == today && sheet.entries.contains_key(&of));
        let there = there.or_else(|| sheets.iter().rposition(|it| it.day == today && it.bytes < MAX_BYTES));
        if there.is_none() {
            sheets.push(Sheet::new(today, &*self.random, now));
        }
        let there = there.unwrap_or(sheets.len().saturating_sub(1));
        if let Some(sheet) = sheets.get_mut(there) {
            sheet.count(of, outcome, now);
        }
    }

    /// Writes what was counted, if some of it waits for longer than this; what cannot be written now, after as long again. Where
    /// that is some time, nobody waits for another who writes.
    pub async fn write_usage(&self, older: Duration) {
        let is_due = |sheet: &Sheet| sheet.is_due(self.now(), older);
        if !self.counters.sheets().iter().any(is_due) {
            return;
        }
        let _writing = if older.is_zero() {
            self.counters.writing.lock().await
        } else {
            let Ok(turn) = self.counters.writing.try_lock() else { return };
            turn
        };
        for page in self.due_pages(older) {
            let written = self.write_page(&page).await;
            if let Some(sheet) = self.counters.sheets().iter_mut().find(|sheet| sheet.name == page.name) {
                sheet.waits_since = self.now();
                if let Some(version) = written {
                    (sheet.version, sheet.written) = (Some(version), page.counted);
                }
            }
        }
        let today = Day::of(self.now());
        self.counters.sheets().retain(|sheet| sheet.day == today || sheet.waits());
    }

    fn due_pages(&self, older: Duration) -> Vec<Page> {
        let now = self.now();
        let mut sheets = self.counters.sheets();
        let due = sheets.iter_mut().filter(|sheet| sheet.is_due(now, older)).map(|sheet| {
            if self.terms.usage_metrics {
                sheet.tell();
            }
            let (day, name, version) = (sheet.day, sheet.name.clone(), sheet.version);
            Page { day, name, version, counted: sheet.counted, list: sheet.list() }
        });
        due.collect()
    }

    /// The row's version then. Nobody else writes it, so that a version other than this is one whose answer was lost.
    async fn write_page(&self, page: &Page) -> Option<u64> {
        let key = usage::key(page.day, &page.name);
        let mut version = page.version;
        for _ in 0..2 {
            let condition = version.map_or(Condition::Absent, Condition::Version);
            let put = record::put(key.clone(), condition, &page.list, self.expiry(page.day), None);
            let write = put.inspect_err(|error| tracing::error!(%error, "usage cannot be written")).ok()?;
            let Err(error) = self.store.write(vec![write]).await else {
                return Some(version.map_or(1, |version| version.saturating_add(1)));
            };
            let there = self.store.get(&key, Consistency::Strong).await.map(|row| row.map(|row| row.version));
            match there {
                Ok(there) if there != version => version = there,
                _ => {
                    tracing::warn!(%error, "usage could not be written, and will be later");
                    return None;
                }
            }
        }
        None
    }

    /// How often credentials were asked for on these days: what is written, and what this process has counted since.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn usage(&self, days: impl IntoIterator<Item = Day>) -> Result<Total> {
        // Nothing is written meanwhile: what this process has counted is here, whether or not it is in its rows too.
        let _writing = self.counters.writing.lock().await;
        let own: Vec<(Day, String, Vec<Used>)> = {
            let sheets = self.counters.sheets();
            sheets.iter().map(|sheet| (sheet.day, sheet.name.clone(), sheet.list())).collect()
        };
        let mut total = Total::default();
        for day in days {
            each_row(&*self.store, Kind::Usage, &day.undivided(), |row| {
                if own.iter().all(|(_, name, _)| *name != row.key.sort) {
                    total.add(record::parse::<Vec<Used>>(row)?.value);
                }
                Ok(())
            })
            .await?;
            for (_, _, list) in own.iter().filter(|(of, _, _)| *of == day) {
                total.add(list.iter().cloned());
            }
        }
        Ok(total)
    }
}
