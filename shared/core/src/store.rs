//! The port for rows: what SQLite, DynamoDB and the memory of tests have in common.
//!
//! A row is addressed by (kind, partition, sort). The partition key of every adapter begins with the kind, so that a
//! role can be held to kinds (`dynamodb:LeadingKeys`, D16). Values are bytes; typed access is [`crate::record`].

use async_trait::async_trait;

use crate::{Timestamp, encoding};

mod ahead;
mod limits;

pub use ahead::ReadAhead;
pub use limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES, check_keys, check_writes};

/// What a row is. The text is part of the stored key: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A workload identity, by id.
    Workload,
    /// Directory of workload names: sort = name, value = id.
    WorkloadName,
    /// An OAuth2 credential provider, by id.
    Oauth2Provider,
    /// Directory of OAuth2 provider names.
    Oauth2ProviderName,
    /// An API-key credential provider, by id.
    ApiKeyProvider,
    /// Directory of API-key provider names.
    ApiKeyProviderName,
    /// A tool, by id.
    Tool,
    /// Directory of tool names.
    ToolName,
    /// A connection: partition = workload and user, sort = provider and label.
    Connection,
    /// Where connections are found: partition = user, workload or provider, sort = the connection's id.
    ConnectionEntry,
    /// A grant to be ended at its provider: partition = user.
    Revocation,
    /// A client-credentials token: partition = digest of its parameters (D24).
    ClientToken,
    /// A consent session, by the digest of its handle.
    ConsentSession,
    /// A user's own key, wrapped: deleting it is the shred (D19).
    UserKey,
    /// The inbound JWT behind a workload access token (D20).
    InboundJwt,
    /// An access key with its principal's grants; one directory partition.
    AccessKey,
    /// The grants of an IAM principal, by its ARN; one directory partition.
    Principal,
    /// The inbound rules of an agent, all of them: partition = name of its workload.
    Authorizer,
    /// An issuer that some authorizer names, by its URL; one directory partition.
    Issuer,
    /// The keys that an issuer published last: partition = its URL.
    Jwks,
    /// When an issuer was last asked for a key that it had not published: partition = its URL (D16, D25).
    JwksCoolDown,
    /// That a user is blocked, or signed out, for which workloads: partition = user (D15).
    Denial,
    /// A wrapped version of a vault key: partition = purpose, sort = version.
    VaultKey,
    /// A link of the audit trail: partition = day and shard, sort = chain and number (D18).
    Audit,
    /// How far a chain of the audit trail has come, signed: partition = day, sort = chain (D18).
    AuditHead,
    /// What a process has counted on a day: partition = day, sort = process.
    Usage,
}

impl Kind {
    /// All of them, by how often they are read.
    pub const ALL: [Self; 26] = [
        Self::Connection,
        Self::ClientToken,
        Self::ConsentSession,
        Self::Workload,
        Self::WorkloadName,
        Self::Oauth2Provider,
        Self::Oauth2ProviderName,
        Self::ApiKeyProvider,
        Self::ApiKeyProviderName,
        Self::Tool,
        Self::ToolName,
        Self::UserKey,
        Self::InboundJwt,
        Self::Authorizer,
        Self::Denial,
        Self::Jwks,
        Self::JwksCoolDown,
        Self::Issuer,
        Self::Principal,
        Self::AccessKey,
        Self::VaultKey,
        Self::ConnectionEntry,
        Self::Revocation,
        Self::Audit,
        Self::AuditHead,
        Self::Usage,
    ];

    /// The kind with this text form.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The stable text form, used in stored keys.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::WorkloadName => "workload-name",
            Self::Oauth2Provider => "oauth2-provider",
            Self::Oauth2ProviderName => "oauth2-provider-name",
            Self::ApiKeyProvider => "api-key-provider",
            Self::ApiKeyProviderName => "api-key-provider-name",
            Self::Tool => "tool",
            Self::ToolName => "tool-name",
            Self::Connection => "connection",
            Self::ConnectionEntry => "connection-entry",
            Self::Revocation => "revocation",
            Self::ClientToken => "client-token",
            Self::ConsentSession => "consent-session",
            Self::UserKey => "user-key",
            Self::InboundJwt => "inbound-jwt",
            Self::AccessKey => "access-key",
            Self::Principal => "principal",
            Self::Authorizer => "authorizer",
            Self::Issuer => "issuer",
            Self::Jwks => "jwks",
            Self::JwksCoolDown => "jwks-cooldown",
            Self::Denial => "denial",
            Self::VaultKey => "vault-key",
            Self::Audit => "audit",
            Self::AuditHead => "audit-head",
            Self::Usage => "usage",
        }
    }
}

/// The address of a row. `partition` and `sort` are at most 1,024 bytes each; `sort` may be empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What it is.
    pub kind: Kind,
    /// The part that spreads load.
    pub partition: String,
    /// The part that orders rows of one partition, bytewise.
    pub sort: String,
}

impl Key {
    /// A row that has its partition to itself.
    pub fn single(kind: Kind, partition: impl Into<String>) -> Self {
        Self { kind, partition: partition.into(), sort: String::new() }
    }

    /// A row in the kind's one directory partition: few rows, listed by name.
    pub fn directory(kind: Kind, sort: impl Into<String>) -> Self {
        Self { kind, partition: DIRECTORY.to_owned(), sort: sort.into() }
    }

    /// A row of a partition with several.
    pub fn of(kind: Kind, partition: impl Into<String>, sort: impl Into<String>) -> Self {
        Self { kind, partition: partition.into(), sort: sort.into() }
    }
}

/// The partition of kinds that are listed as a whole.
pub const DIRECTORY: &str = "directory";

/// When a row must be looked at again, in one of [`DUE_SHARDS`] shards of the sparse due index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The shard, below [`DUE_SHARDS`].
    pub shard: u16,
    /// The time.
    pub at: Timestamp,
}

/// Number of shards of the due index.
pub const DUE_SHARDS: u16 = 16;

impl Due {
    /// The entry of the row with this key: a row is always in the same shard, and rows spread over all of them.
    pub fn of(key: &Key, at: Timestamp) -> Self {
        // FNV-1a, and the finish of SplitMix64, without which keys that differ at their end only would share a shard. The same
        // on every machine and in every release.
        let framed = encoding::length_prefixed([
            key.kind.as_str().as_bytes(),
            key.partition.as_bytes(),
            key.sort.as_bytes(),
        ]);
        let hash = framed.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let shard = (hash ^ (hash >> 31)) % u64::from(DUE_SHARDS);
        Self { shard: u16::try_from(shard).unwrap_or(0), at }
    }
}

/// A row as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its address.
    pub key: Key,
    /// Moves by one with every write; the first is 1.
    pub version: u64,
    /// From this instant the row does not exist: reads leave it out, and the store may remove it whenever it likes.
    pub expires_at: Option<Timestamp>,
    /// Its entry in the due index, if it has one.
    pub due: Option<Due>,
    /// The value; at most 350 KiB.
    pub bytes: Vec<u8>,
}

/// What must be true of a row for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is no such row (or it has expired).
    Absent,
    /// The row exists and has exactly this version.
    Version(u64),
}

/// One of the writes of [`Store::write`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Put the row; its new version is one more than the condition's (1 for [`Condition::Absent`]).
    Put {
        /// Its address.
        key: Key,
        /// What must be true before.
        condition: Condition,
        /// As [`Row::expires_at`].
        expires_at: Option<Timestamp>,
        /// As [`Row::due`].
        due: Option<Due>,
        /// As [`Row::bytes`].
        bytes: Vec<u8>,
    },
    /// Delete the row, which must have this version.
    Delete {
        /// Its address.
        key: Key,
        /// The version that it must have.
        version: u64,
    },
    /// Write nothing, but fail the whole unless this holds.
    Check {
        /// The row looked at.
        key: Key,
        /// What must be true.
        condition: Condition,
    },
}

impl Write {
    /// The address of the row that it concerns.
    pub fn key(&self) -> &Key {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } | Self::Check { key, .. } => key,
        }
    }
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consistency {
    /// May miss writes of the last second; half the price.
    Eventual,
    /// Sees every write acknowledged before it began. For decisions.
    Strong,
}

/// A range of one partition, in ascending order of `sort`.
#[derive(Clone, Debug)]
pub struct Query {
    /// What to list.
    pub kind: Kind,
    /// In which partition.
    pub partition: String,
    /// Only rows whose `sort` is greater than this.
    pub after: Option<String>,
    /// At most so many rows.
    pub limit: usize,
}

/// Most rows that [`Store::batch_get`] and [`Store::write`] take at once (DynamoDB's limit for both).
pub const MAX_BATCH: usize = 100;

/// Why a store could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A condition did not hold; nothing was written. The index is that of the first write that failed, in the order given.
    #[error("a condition on write {0} did not hold")]
    Conflict(usize),
    /// The store refuses for now (throttled, locked too long). Nothing was written; try again later.
    #[error("the store is busy: {0}")]
    Busy(String),
    /// The store does not work, or the outcome of a write is unknown.
    #[error("the store failed: {0}")]
    Failed(String),
}

/// Rows, with conditions. Every adapter passes the contract suite in `testkit`.
#[async_trait]
pub trait Store: Send + Sync {
    /// The row with this key; expired rows do not exist.
    ///
    /// # Errors
    /// [`StoreError::Busy`], [`StoreError::Failed`].
    async fn get(&self, key: &Key, consistency: Consistency) -> Result<Option<Row>, StoreError>;

    /// The rows with these keys (at most [`MAX_BATCH`], no duplicates), in their order.
    ///
    /// # Errors
    /// As [`Store::get`]; also `Failed` when more than [`MAX_BATCH`] keys are asked for. A part of the answer is never given.
    async fn batch_get(&self, keys: &[Key], consistency: Consistency)
    -> Result<Vec<Option<Row>>, StoreError>;

    /// Says which rows will be asked for at once. A store for which every call costs reads them in one ([`ReadAhead`]), and
    /// then finds them for reads with [`Consistency::Eventual`]; a store that is near has no use for it. Never fails: what it
    /// did not bring is read as ever.
    async fn read_ahead(&self, _keys: &[Key]) {}

    /// All the writes or none. Each key at most once, at most [`MAX_BATCH`]. When it returns `Ok`, they survive a crash.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a condition did not hold (an expired row counts as absent); `Busy`, `Failed`.
    async fn write(&self, writes: Vec<Write>) -> Result<(), StoreError>;

    /// A range of one partition; sees every write acknowledged before it began.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn query(&self, query: Query) -> Result<Vec<Row>, StoreError>;

    /// Rows of one shard that are due at `until` or before, earliest first, at most `limit`. Costs what it returns.
    ///
    /// # Errors
    /// As [`Store::get`].
    async fn due(&self, shard: u16, until: Timestamp, limit: usize) -> Result<Vec<Row>, StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(sort: &str) -> u16 {
        Due::of(&Key::of(Kind::Connection, "w#u", sort), Timestamp::EPOCH).shard
    }

    #[test]
    fn a_row_stays_in_its_shard_across_releases() {
        assert_eq!([shard(""), shard("a"), shard("b")], [11, 1, 6]);
    }

    #[test]
    fn rows_spread_over_all_shards() {
        let mut counts = [0; DUE_SHARDS as usize];
        for index in 0..1_600 {
            counts[usize::from(shard(&format!("provider#{index}")))] += 1;
        }
        assert!(counts.iter().all(|count| (50..=150).contains(count)), "{counts:?}");
    }
}
