//! Tags on resources (`contract.md` appendix A: `TagsMap`).

use std::collections::BTreeMap;

/// Tags by key. Our own settings that AWS's shapes have no member for are tags too; their keys begin with [`PREFIX`].
pub type Tags = BTreeMap<String, String>;

/// Begins the keys of tags that this product reads.
pub const PREFIX: &str = "agent-identity:";

/// `agent-identity:shared-client-tokens` = `true` on an OAuth2 provider: its client-credentials tokens are one for all
/// workloads (D24).
pub const SHARED_CLIENT_TOKENS: &str = "agent-identity:shared-client-tokens";

/// `agent-identity:interstitial` = `false` on a workload or provider: its caller has a consent screen of its own (D12).
pub const INTERSTITIAL: &str = "agent-identity:interstitial";
