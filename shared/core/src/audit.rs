//! The audit trail (D18): who changed what, and who got which credential, for which user and agent, in chains of hashes.
//!
//! A process writes chains of its own, so that nobody waits for another's. A chain is a row of links; each holds the hash of the
//! one before it, and some records. Where a chain has come is signed now and then ([`Head`]). What can be told from chains and
//! heads afterwards is in [`verify`].

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use crate::encoding::{base64url, length_prefixed, unbase64url};
use crate::port::Digest;
use crate::random::{self, Random};
use crate::store::{Key, Kind};
use crate::{Timestamp, encoding};

pub mod verify;

/// What a record's `outcome` is when it worked; else it is the name of the error.
pub const OK: &str = "ok";

/// The operation of the record that a chain ends with, when its process ends as it should.
pub const END: &str = "EndOfChain";

/// The operation of a record that says how far a chain of log lines has come ([`Head::note`]).
pub const LINES: &str = "LogLines";

/// One thing that was done, or refused. Names and digests: no secret, no text of a client beyond what is stored anyway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// When. A log line has its time beside it, and none here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// Who asked: a principal's name.
    pub principal: String,
    /// For what, as on the wire.
    pub operation: String,
    /// [`OK`], or the name of the error.
    pub outcome: String,
    /// The workload, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<String>,
    /// The provider, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The user, by key ([`crate::user::UserKey`]) or the beginning of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The request, as the response's `x-amzn-requestid` says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// Which rows were written: `put workload/4f…`, `delete connection/…`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed: Vec<String>,
}

impl Record {
    /// What is hashed. A member that is added later must not change what records without it give.
    fn framed(&self) -> Vec<u8> {
        let optional = |text: &Option<String>| text.clone().unwrap_or_default().into_bytes();
        let at = self.at.map(|at| at.as_millis().to_be_bytes().to_vec()).unwrap_or_default();
        let members = [
            at,
            self.principal.clone().into_bytes(),
            self.operation.clone().into_bytes(),
            self.outcome.clone().into_bytes(),
            optional(&self.workload),
            optional(&self.provider),
            optional(&self.user),
            optional(&self.request),
            length_prefixed(self.changed.iter().map(String::as_bytes)),
        ];
        length_prefixed(members.iter().map(Vec::as_slice))
    }
}

/// The name of a chain: random, so that no two processes have the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(String);

impl ChainId {
    /// A new one, of 72 random bits in 12 characters.
    pub fn random(random: &dyn Random) -> Self {
        Self(base64url(random::bytes::<9>(random)))
    }

    /// As it was written.
    pub fn parse(text: &str) -> Option<Self> {
        (unbase64url(text)?.len() == 9).then(|| Self(text.to_owned()))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The hash of a link: SHA-256, or the beginning of it where bytes count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkHash(Vec<u8>);

/// So much of a hash is repeated in a log line: nobody finds another text with the same 128 bits.
pub const SHORT_HASH: usize = 16;

impl LinkHash {
    /// What the first link of a chain names.
    pub fn none() -> Self {
        Self(vec![0; 32])
    }

    /// The beginning of it.
    #[must_use]
    pub fn short(&self) -> Self {
        Self(self.0.iter().copied().take(SHORT_HASH).collect())
    }

    /// Whether one is the other, or its beginning.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0) || other.0.starts_with(&self.0)
    }

    /// As it was written: at least [`SHORT_HASH`] bytes.
    pub fn parse(text: &str) -> Option<Self> {
        unbase64url(text).filter(|bytes| (SHORT_HASH..=32).contains(&bytes.len())).map(Self)
    }
}

impl fmt::Display for LinkHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url(&self.0))
    }
}

impl Serialize for LinkHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LinkHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not the hash of a link"))
    }
}

/// One link of a chain: what was done since the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Whose link.
    pub chain: ChainId,
    /// Which one: 1, 2, 3.
    pub sequence: u64,
    /// The hash of the one before.
    pub previous: LinkHash,
    /// What was done; at least one.
    pub records: Vec<Record>,
}

impl Link {
    /// Its hash: over everything in it, framed.
    pub fn hash(&self, digest: &dyn Digest) -> LinkHash {
        let sequence = self.sequence.to_be_bytes();
        let records: Vec<Vec<u8>> = self.records.iter().map(Record::framed).collect();
        let head: [&[u8]; 4] =
            [b"agent-identity audit link 1", self.chain.as_str().as_bytes(), &sequence, &self.previous.0];
        let framed = length_prefixed(head.into_iter().chain(records.iter().map(Vec::as_slice)));
        LinkHash(digest.sha256(&framed).to_vec())
    }

    /// Where it is kept.
    pub fn key(&self, day: Day) -> Key {
        // Padded, so that the order of rows is that of links.
        Key::of(Kind::Audit, day.partition(&self.chain), format!("{}/{:012}", self.chain, self.sequence))
    }

    /// From the members of a log line: `audit` says where in which chain, the others what was done. `None` for any other line.
    pub fn of_line(line: &Value) -> Option<Self> {
        let text = |name: &str| line.get(name).and_then(Value::as_str).map(str::to_owned);
        let audit = text("audit")?;
        let mut parts = audit.splitn(3, ':');
        let chain = ChainId::parse(parts.next()?)?;
        let sequence = parts.next()?.parse().ok()?;
        let previous = LinkHash::parse(parts.next()?)?;
        let record = Record {
            at: None,
            principal: text("principal")?,
            operation: text("operation")?,
            outcome: text("error").unwrap_or_else(|| OK.to_owned()),
            workload: text("workload"),
            provider: text("provider"),
            user: text("user"),
            request: text("requestId"),
            changed: Vec::new(),
        };
        Some(Self { chain, sequence, previous, records: vec![record] })
    }

    /// Whether its chain ends with it.
    pub fn ends(&self) -> bool {
        self.records.last().is_some_and(|record| record.operation == END)
    }
}

/// Days since 1 January 1970, UTC. A chain is of one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(i64);

/// Over so many partitions a day's chains are spread.
pub const SHARDS: u8 = 16;

impl Day {
    /// The day of an instant.
    pub const fn of(at: Timestamp) -> Self {
        Self(at.as_seconds().div_euclid(24 * 3600))
    }

    /// With this number.
    pub const fn from_number(days: i64) -> Self {
        Self(days)
    }

    /// From `YYYY-MM-DD`.
    ///
    /// # Errors
    /// The text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "must be a day such as 2026-11-26".to_owned();
        let parts: Vec<&str> = text.split('-').collect();
        let [year, month, day] = parts.as_slice() else { return Err(wrong()) };
        let number = |text: &str, digits: usize| {
            let plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<i64>().ok().filter(|_| plain).ok_or_else(wrong)
        };
        let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days_of_month = match month {
            4 | 6 | 9 | 11 => 30,
            2 if leap => 29,
            2 => 28,
            1..=12 => 31,
            _ => return Err(wrong()),
        };
        if !(1..=days_of_month).contains(&day) {
            return Err(wrong());
        }
        // Years that begin in March end with the leap day: 365 days each, and 153 days in five months.
        let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let leap_days = years.div_euclid(4) - years.div_euclid(100) + years.div_euclid(400);
        // 719,468 days from 1 March of the year 0 to 1 January 1970.
        Ok(Self(365 * years + leap_days + (153 * months + 2) / 5 + day - 1 - 719_468))
    }

    /// Its number.
    pub const fn number(self) -> i64 {
        self.0
    }

    /// The instant after it.
    pub const fn ends(self) -> Timestamp {
        Timestamp::from_seconds(self.0.saturating_add(1).saturating_mul(24 * 3600))
    }

    /// Its partitions.
    pub fn partitions(self) -> impl Iterator<Item = String> {
        (0..SHARDS).map(move |shard| format!("{}#{shard:x}", self.0))
    }

    fn partition(self, chain: &ChainId) -> String {
        // A chain's name is random, so that any sum of it spreads.
        let shard = chain.as_str().bytes().fold(0_u8, u8::wrapping_add) % SHARDS;
        format!("{}#{shard:x}", self.0)
    }

    /// The day that a partition of links is of.
    pub fn of_partition(partition: &str) -> Option<Self> {
        partition.split_once('#')?.0.parse().ok().map(Self)
    }

    /// Its one partition, for what is not spread: heads, usage.
    pub fn undivided(self) -> String {
        self.0.to_string()
    }
}

/// How far a chain has come: what is signed, so that an end that is cut off is missed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Whose.
    pub chain: ChainId,
    /// Its last link.
    pub sequence: u64,
    /// That one's hash.
    pub hash: LinkHash,
    /// When this was signed.
    pub at: Timestamp,
}

impl Head {
    /// What is signed.
    pub fn framed(&self) -> Vec<u8> {
        let (sequence, at) = (self.sequence.to_be_bytes(), self.at.as_millis().to_be_bytes());
        let members: [&[u8]; 5] =
            [b"agent-identity audit head 1", self.chain.as_str().as_bytes(), &sequence, &self.hash.0, &at];
        length_prefixed(members)
    }

    /// The same as the one change of a record of [`LINES`]: a chain of log lines is signed with the chain of rows that says this.
    pub fn note(&self) -> String {
        format!("lines {}:{}:{}", self.chain, self.sequence, self.hash)
    }

    /// How far a chain of log lines had come when this link was written, if it says so.
    pub fn noted_in(link: &Link) -> impl Iterator<Item = Self> {
        let notes = link.records.iter().filter(|record| record.operation == LINES);
        notes.filter_map(|record| {
            let mut parts = record.changed.first()?.strip_prefix("lines ")?.splitn(3, ':');
            Some(Self {
                chain: ChainId::parse(parts.next()?)?,
                sequence: parts.next()?.parse().ok()?,
                hash: LinkHash::parse(parts.next()?)?,
                at: record.at?,
            })
        })
    }

    /// Where it is kept: each chain has one.
    pub fn key(&self, day: Day) -> Key {
        Key::of(Kind::AuditHead, day.undivided(), self.chain.as_str())
    }
}

/// A head with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    /// What is signed.
    pub head: Head,
    /// By [`crate::port::HeadSigner`], in lower-case hexadecimal.
    pub signature: String,
}

impl SignedHead {
    /// The signature's bytes; none when they are no hexadecimal.
    pub fn signature(&self) -> Vec<u8> {
        encoding::unhex(&self.signature).unwrap_or_default()
    }
}

/// A chain as its process has it in memory.
#[derive(Clone, Debug)]
pub struct Chain {
    id: ChainId,
    day: Day,
    sequence: u64,
    last: LinkHash,
}

impl Chain {
    /// A new one, of today.
    pub fn begin(random: &dyn Random, now: Timestamp) -> Self {
        Self { id: ChainId::random(random), day: Day::of(now), sequence: 0, last: LinkHash::none() }
    }

    /// The day that it is of.
    pub const fn day(&self) -> Day {
        self.day
    }

    /// The link that comes next, with these records.
    pub fn next(&self, records: Vec<Record>) -> Link {
        Link {
            chain: self.id.clone(),
            sequence: self.sequence.saturating_add(1),
            previous: self.last.clone(),
            records,
        }
    }

    /// The same with the hash of the one before cut short, for a log line.
    pub fn next_line(&self, record: Record) -> Link {
        Link { previous: self.last.short(), ..self.next(vec![record]) }
    }

    /// The link is kept.
    pub fn advance(&mut self, link: &Link, digest: &dyn Digest) {
        self.sequence = link.sequence;
        self.last = link.hash(digest);
    }

    /// How far it has come; `None` when there is no link yet.
    pub fn head(&self, at: Timestamp) -> Option<Head> {
        (self.sequence > 0).then(|| Head {
            chain: self.id.clone(),
            sequence: self.sequence,
            hash: self.last.clone(),
            at,
        })
    }
}
