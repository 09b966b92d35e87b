//! Scopes as they come back: renamed, summed up, shortened or left out (D13).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use agent_identity_core::name::Scope;
use serde::Deserialize;

/// How the scopes of a response relate to those that were asked for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeRules {
    /// A scope, and others whose presence means that it was granted too: other names for it, or larger scopes.
    #[serde(default)]
    pub granted_by: BTreeMap<String, Vec<String>>,
    /// Scopes that are granted without being named.
    #[serde(default)]
    pub never_returned: Vec<String>,
    /// Ends of scopes that are granted without being named.
    #[serde(default)]
    pub never_returned_suffixes: Vec<String>,
    /// Beginnings that a scope may lose or gain.
    #[serde(default)]
    pub optional_prefixes: Vec<String>,
    /// Whether case does not matter.
    #[serde(default)]
    pub ignore_case: bool,
}

/// Asks for a refresh token (OpenID Connect Core §11) and is no power of the access token: whether it was granted shows
/// in the refresh token, and many servers leave it out of `scope`.
const OFFLINE_ACCESS: &str = "offline_access";

impl ScopeRules {
    /// Which of `asked` are granted when `returned` were named.
    pub(super) fn granted(&self, asked: &BTreeSet<Scope>, returned: &BTreeSet<Scope>) -> BTreeSet<Scope> {
        let returned: BTreeSet<Cow<'_, str>> =
            returned.iter().map(|scope| self.plain(scope.as_str())).collect();
        asked.iter().filter(|scope| self.is_granted(scope.as_str(), &returned)).cloned().collect()
    }

    fn is_granted(&self, asked: &str, returned: &BTreeSet<Cow<'_, str>>) -> bool {
        let plain = self.plain(asked);
        let others = self.granted_by.get(plain.as_ref()).into_iter().flatten();
        returned.contains(&plain)
            || others.into_iter().any(|other| returned.contains(&self.plain(other)))
            || plain == OFFLINE_ACCESS
            || self.never_returned.iter().any(|never| plain == self.plain(never))
            || self.never_returned_suffixes.iter().any(|suffix| asked.ends_with(suffix.as_str()))
    }

    fn plain<'a>(&self, scope: &'a str) -> Cow<'a, str> {
        let folded =
            if self.ignore_case { Cow::Owned(scope.to_ascii_lowercase()) } else { Cow::Borrowed(scope) };
        match self.optional_prefixes.iter().find_map(|prefix| folded.strip_prefix(prefix.as_str())) {
            Some(rest) if !rest.is_empty() => Cow::Owned(rest.to_owned()),
            _ => folded,
        }
    }
}
