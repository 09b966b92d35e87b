//! Tags on resources (`contract.md` appendix A: `TagsMap`).

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::WorkloadName;

/// Tags by key. Our own settings that AWS's shapes have no member for are tags too; their keys begin with [`PREFIX`].
pub type Tags = BTreeMap<String, String>;

/// Begins the keys of tags that this product reads.
pub const PREFIX: &str = "agent-identity:";

/// `agent-identity:shared-client-tokens` = `true` on an OAuth2 provider: its client-credentials tokens are one for all
/// workloads (D24).
pub const SHARED_CLIENT_TOKENS: &str = "agent-identity:shared-client-tokens";

/// `agent-identity:interstitial` = `false` on a workload or provider: its caller has a consent screen of its own (D12).
pub const INTERSTITIAL: &str = "agent-identity:interstitial";

/// `agent-identity:injectable-hosts` on a provider: the hosts that tools may send its credentials to, and no others (D3).
pub const INJECTABLE_HOSTS: &str = "agent-identity:injectable-hosts";

/// `agent-identity:allowed-workloads` on a provider: names of the workloads that may use it, separated by spaces. Without it, all
/// that the caller's grants allow.
pub const ALLOWED_WORKLOADS: &str = "agent-identity:allowed-workloads";

/// `agent-identity:refreshes-per-minute` on an OAuth2 provider: how many of its connections the schedule refreshes in a minute. Without
/// it, all that are due.
pub const REFRESHES_PER_MINUTE: &str = "agent-identity:refreshes-per-minute";

/// What [`REFRESHES_PER_MINUTE`] says.
pub fn refreshes_per_minute(tags: &Tags) -> Option<NonZeroU32> {
    tags.get(REFRESHES_PER_MINUTE)?.parse().ok()
}

/// `agent-identity:keep-alive-days` on an OAuth2 provider: for how many days after a connection's token was last asked for the schedule
/// keeps the connection alive. Without it, for ever.
pub const KEEP_ALIVE_DAYS: &str = "agent-identity:keep-alive-days";

/// What [`KEEP_ALIVE_DAYS`] says.
pub fn keep_alive(tags: &Tags) -> Option<Duration> {
    let days: NonZeroU32 = tags.get(KEEP_ALIVE_DAYS)?.parse().ok()?;
    Some(Duration::from_secs(u64::from(days.get()) * 24 * 3600))
}

/// Whether a provider with these tags is for this workload.
pub fn allows_workload(tags: &Tags, workload: &WorkloadName) -> bool {
    tags.get(ALLOWED_WORKLOADS)
        .is_none_or(|names| names.split_whitespace().any(|name| name == workload.as_str()))
}
