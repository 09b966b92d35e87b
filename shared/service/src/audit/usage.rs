//! What the trail records of credentials, counted (`core/src/usage.rs`). Each process counts for itself and now and then writes what it
//! has into rows of its own: no counter is shared, and no request waits for one. A process that is killed loses what it has counted
//! since; the trail has it still.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent_identity_core::audit::{Day, Record};
use agent_identity_core::random::{self, Random};
use agent_identity_core::record;
use agent_identity_core::store::{Condition, Consistency, Kind};
use agent_identity_core::usage::{self, Counts, Total, UsageOf, UsagePath, Used};
use agent_identity_core::{Result, Timestamp};

use super::{CONSENT, PENDING, Trail};
use crate::page::each_row;

/// Most lines of a row: it stays far below what a row may have.
const MAX_LINES: usize = 1000;

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
    /// By workload, then provider, so that to count allocates nothing.
    entries: [HashMap<String, HashMap<String, Entry>>; 2],
    lines: usize,
    /// Since when something is not written; `None` if all is.
    unwritten: Option<Timestamp>,
    /// The row's version as it was written last.
    version: Option<u64>,
}

impl Sheet {
    fn new(day: Day, random: &dyn Random) -> Self {
        Self {
            day,
            name: random::handle(random),
            entries: Default::default(),
            lines: 0,
            unwritten: None,
            version: None,
        }
    }

    fn count(&mut self, path: UsagePath, record: &Record, now: Timestamp) {
        let workload = record.workload.as_deref().unwrap_or_default();
        let provider = record.provider.as_deref().unwrap_or_default();
        let of_path = match path {
            UsagePath::Direct => &mut self.entries[0],
            UsagePath::Gateway => &mut self.entries[1],
        };
        if !of_path.contains_key(workload) {
            of_path.insert(workload.to_owned(), HashMap::new());
        }
        if let Some(of_workload) = of_path.get_mut(workload) {
            if !of_workload.contains_key(provider) {
                of_workload.insert(provider.to_owned(), Entry::default());
                self.lines += 1;
            }
            if let Some(entry) = of_workload.get_mut(provider) {
                entry.counts.count(&record.outcome, &[CONSENT, PENDING]);
            }
        }
        self.unwritten.get_or_insert(now);
    }

    fn each(&mut self, mut see: impl FnMut(UsageOf, &mut Entry)) {
        for (path, workloads) in [UsagePath::Direct, UsagePath::Gateway].into_iter().zip(&mut self.entries) {
            for (workload, providers) in workloads {
                for (provider, entry) in providers {
                    let of = UsageOf { workload: workload.clone(), provider: provider.clone(), path };
                    see(of, entry);
                }
            }
        }
    }

    fn list(&mut self) -> Vec<Used> {
        let mut list = Vec::new();
        self.each(|of, entry| list.push(Used { of, counts: entry.counts }));
        list.sort_by(|one, other| one.of.cmp(&other.of));
        list
    }

    /// A line of the log for each that has moved, which is a metric on AWS.
    fn tell(&mut self) {
        self.each(|of, entry| {
            let Counts { given, waiting, refused } = entry.counts.since(entry.told);
            if (given, waiting, refused) != (0, 0, 0) {
                // A dimension of a metric cannot be empty.
                let name = |name: String| if name.is_empty() { "-".to_owned() } else { name };
                let (workload, provider, path) = (name(of.workload), name(of.provider), of.path.as_str());
                tracing::info!(workload, provider, path, given, waiting, refused, "usage");
                entry.told = entry.counts;
            }
        });
    }
}

/// The counters of this process.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// The last one counts. Those before it have ended with their day, or are full, and wait to be written.
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
    list: Vec<Used>,
}

impl Trail {
    /// Counts what a record says.
    pub(super) fn count(&self, record: &Record) {
        let Some(path) = UsagePath::of(&record.operation) else { return };
        let now = self.now();
        let mut sheets = self.counters.sheets();
        if sheets.last().is_none_or(|sheet| sheet.day != Day::of(now) || sheet.lines >= MAX_LINES) {
            sheets.push(Sheet::new(Day::of(now), &*self.random));
        }
        if let Some(sheet) = sheets.last_mut() {
            sheet.count(path, record, now);
        }
    }

    /// Writes what was counted, if some of it waits for longer than this. What cannot be written now is written later.
    pub async fn write_usage(&self, older: Duration) {
        let _writing = self.counters.writing.lock().await;
        for page in self.unwritten(older) {
            let written = self.write_page(&page).await;
            if let Some(sheet) = self.counters.sheets().iter_mut().find(|sheet| sheet.name == page.name) {
                match written {
                    Some(version) => sheet.version = Some(version),
                    None => drop(sheet.unwritten.get_or_insert(self.now())),
                }
            }
        }
        let mut sheets = self.counters.sheets();
        let last = sheets.pop();
        sheets.retain(|sheet| sheet.unwritten.is_some());
        sheets.extend(last);
    }

    fn unwritten(&self, older: Duration) -> Vec<Page> {
        let now = self.now();
        let mut sheets = self.counters.sheets();
        let last = sheets.len().saturating_sub(1);
        let mut pages = Vec::new();
        for (place, sheet) in sheets.iter_mut().enumerate() {
            let waits = sheet.unwritten.is_some_and(|since| place < last || now.since(since) >= older);
            if waits {
                if self.terms.usage_metrics {
                    sheet.tell();
                }
                sheet.unwritten = None;
                let (day, name, version) = (sheet.day, sheet.name.clone(), sheet.version);
                pages.push(Page { day, name, version, list: sheet.list() });
            }
        }
        pages
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
            let mut sheets = self.counters.sheets();
            sheets.iter_mut().map(|sheet| (sheet.day, sheet.name.clone(), sheet.list())).collect()
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
