//! Connections and client-credentials tokens: what the vault keeps, and the pure rule of what a read does with it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::encoding;
use crate::flight::{Flight, InFlight, LEASE_LIFE};
use crate::name::Scope;
use crate::provider::Oauth2Provider;
use crate::secret::{Secret, sealed_form, sealed_form_option};
use crate::store::{Key, Kind};
use crate::user::UserKey;
use crate::workload::Workload;
use crate::{Id, Timestamp};

/// A connection: tokens of one user at one provider, for one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// The workload.
    pub workload: Id<Workload>,
    /// The user.
    pub user: UserKey,
    /// The provider.
    pub provider: Id<Oauth2Provider>,
    /// Which account, and for which resources and audiences (see [`ConnectionTarget`]).
    pub target: String,
    /// RFC 8707 resources that the tokens were asked for. A refresh asks for them again (§2.2): a provider that is not told
    /// may give an access token for another.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Audiences that the tokens were asked for, as the resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// The provider's generation when the tokens were obtained (D3).
    pub provider_generation: u32,
    /// Scopes that were asked for in the consent.
    pub asked: BTreeSet<Scope>,
    /// Scopes that the provider granted.
    pub granted: BTreeSet<Scope>,
    /// The tokens.
    pub tokens: HeldTokens,
    /// Whether it works.
    pub health: Health,
    /// Who is refreshing it.
    pub flight: Flight,
}

/// A client-credentials token; belongs to no user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientToken {
    /// The tokens; `None` while the first are being fetched.
    pub tokens: Option<HeldTokens>,
    /// When the row may go: a while after the token ended.
    pub row_ends: Timestamp,
    /// Who is fetching.
    pub flight: Flight,
}

/// Tokens as they are at rest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldTokens {
    /// Moves only when tokens change; in the AAD; compared after `invalid_grant` (D19).
    pub generation: u64,
    /// When they were obtained.
    pub obtained_at: Timestamp,
    /// When the access token ends; `None` if nobody said.
    pub expires_at: Option<Timestamp>,
    /// Whether there is a refresh token.
    pub refreshable: bool,
    /// [`TokenMaterial`], sealed; base64url.
    pub sealed: String,
}

/// What is sealed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenMaterial {
    /// The access token.
    #[serde(rename = "a", serialize_with = "sealed_form")]
    pub access_token: Secret,
    /// The refresh token.
    #[serde(rename = "r", serialize_with = "sealed_form_option", default)]
    pub refresh_token: Option<Secret>,
}

/// Whether a connection works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// As far as we know.
    Active,
    /// The user must consent again.
    NeedsConsent {
        /// Why: a stable code.
        reason: Reason,
        /// Since when.
        since: Timestamp,
    },
}

/// Why a user must consent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The provider says that the grant is dead.
    InvalidGrant,
    /// The answer of a refresh was lost, and the provider no longer takes the old token (D5).
    LostRotation,
    /// The provider's registration changed since (D3).
    ProviderChanged,
    /// The access token ended and there is no refresh token.
    Expired,
}

impl Reason {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidGrant => "invalid_grant",
            Self::LostRotation => "lost_rotation",
            Self::ProviderChanged => "provider_changed",
            Self::Expired => "expired",
        }
    }
}

/// What a connection is for, besides workload, user and provider. AWS's API names neither accounts nor targets of
/// connections: a plain call uses the account labelled `default`. Tokens for different `resources` or `audiences` are
/// different connections, since an access token for one is not one for the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionTarget<'a> {
    /// The account's label.
    pub label: &'a str,
    /// RFC 8707 resources asked for.
    pub resources: &'a [String],
    /// Audiences asked for.
    pub audiences: &'a [String],
}

/// The label of a plain call.
pub const DEFAULT_LABEL: &str = "default";

impl ConnectionTarget<'_> {
    /// The text form in keys and AADs: unambiguous, with the parameters in the order of their text.
    pub fn text(&self, digest: &dyn crate::port::Digest) -> String {
        if self.resources.is_empty() && self.audiences.is_empty() {
            return self.label.to_owned();
        }
        let sorted = |list: &[String]| {
            let set: BTreeSet<&str> = list.iter().map(String::as_str).collect();
            encoding::length_prefixed(set.iter().map(|item| item.as_bytes()))
        };
        let framed = encoding::length_prefixed([&*sorted(self.resources), &*sorted(self.audiences)]);
        format!("{}#{}", self.label, encoding::hex(&digest.sha256(&framed)))
    }
}

impl Connection {
    /// Where the connection of these is stored.
    pub fn key(workload: Id<Workload>, user: UserKey, provider: Id<Oauth2Provider>, target: &str) -> Key {
        Key::of(Kind::Connection, format!("{workload}#{user}"), format!("{provider}#{target}"))
    }
}

impl InFlight for Connection {
    type Terms = RefreshTerms;

    /// When the scheduled refresh should look at it. It agrees with [`Connection::decide`]: from then on, and not before, a
    /// read would refresh. But where a refresh kills the access token before it, nobody's token is ended unasked: then it is
    /// the token's own end.
    fn due(&self, terms: RefreshTerms, now: Timestamp) -> Option<Timestamp> {
        let end = self.tokens.expires_at?;
        let refreshable = self.tokens.refreshable
            && self.health == Health::Active
            && self.provider_generation == terms.generation;
        if !refreshable {
            return None;
        }
        let traits = terms.traits;
        let ripe = if traits.kills_access_token { end } else { end.minus(self.tokens.margin(traits)) };
        let mut at = self.flight.retry_at.map_or(ripe, |retry_at| ripe.max(retry_at));
        if let Some(intent) = &self.flight.intent
            && traits.rotates
        {
            let in_grace = traits.grace.is_some_and(|grace| at.max(now) < intent.since.plus(grace));
            if !in_grace {
                at = at.max(end);
            }
        }
        // Whoever holds the lease moves the entry when the call has ended. This is for when they never do.
        Some(if self.flight.lease.is_some() { at.max(now.plus(LEASE_LIFE)) } else { at })
    }

    fn flight(&self) -> &Flight {
        &self.flight
    }

    fn flight_mut(&mut self) -> &mut Flight {
        &mut self.flight
    }

    fn row_ends(&self) -> Option<Timestamp> {
        None
    }
}

impl InFlight for ClientToken {
    type Terms = ();

    /// Nobody waits for a token of no user: it is fetched when it is asked for.
    fn due(&self, (): (), _: Timestamp) -> Option<Timestamp> {
        None
    }

    fn flight(&self) -> &Flight {
        &self.flight
    }

    fn flight_mut(&mut self) -> &mut Flight {
        &mut self.flight
    }

    fn row_ends(&self) -> Option<Timestamp> {
        Some(self.row_ends)
    }
}

/// What of a provider's behaviour decides about refreshing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTraits {
    /// Whether a refresh may replace the refresh token; unknown counts as yes.
    pub rotates: bool,
    /// How long a superseded refresh token is still taken, where that is known.
    pub grace: Option<Duration>,
    /// Whether a refresh kills the access token before it: then it is done late.
    pub kills_access_token: bool,
}

/// What of a provider decides about refreshing its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefreshTerms {
    /// The provider's generation (D3).
    pub generation: u32,
    /// How its refreshes behave.
    pub traits: RefreshTraits,
}

/// How early a token is refreshed, at most.
pub const MARGIN: Duration = Duration::from_secs(300);

/// How early where a refresh kills the access token before it.
pub const LATE_MARGIN: Duration = Duration::from_secs(10);

/// What a read does with tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve the access token as it is.
    Serve,
    /// Refresh; should that not succeed, serve the access token, which is still valid.
    RefreshOrServe,
    /// Refresh: the access token has ended.
    Refresh,
    /// An attempt failed a moment ago: say so, and when to come back.
    Wait(Timestamp),
    /// Only a new consent helps.
    Consent(Reason),
}

impl HeldTokens {
    /// Whether the access token can be used at `now`.
    pub fn valid(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }

    /// How early these tokens are refreshed: min(configured, lifetime / 2), so that short-lived tokens are not refreshed on
    /// every read.
    pub fn margin(&self, traits: RefreshTraits) -> Duration {
        let configured = if traits.kills_access_token { LATE_MARGIN } else { MARGIN };
        match self.expires_at {
            Some(end) => configured.min(end.since(self.obtained_at) / 2),
            None => Duration::ZERO,
        }
    }

    fn fresh(&self, now: Timestamp, traits: RefreshTraits) -> bool {
        self.expires_at.is_none_or(|end| now < end.minus(self.margin(traits)))
    }
}

impl Connection {
    /// What a read at `now` does with this connection, when the provider is of generation `generation`.
    pub fn decide(&self, now: Timestamp, generation: u32, traits: RefreshTraits) -> Decision {
        if self.provider_generation != generation {
            return Decision::Consent(Reason::ProviderChanged);
        }
        if self.tokens.fresh(now, traits) {
            return Decision::Serve;
        }
        let valid = self.tokens.valid(now);
        if let Health::NeedsConsent { reason, .. } = self.health {
            return if valid { Decision::Serve } else { Decision::Consent(reason) };
        }
        if !self.tokens.refreshable {
            return if valid { Decision::Serve } else { Decision::Consent(Reason::Expired) };
        }
        if let Some(intent) = &self.flight.intent
            && self.flight.lease.is_none()
            && traits.rotates
        {
            // D5: the outcome of a refresh is unknown, and this provider rotates. Outside a grace the old token is replayed
            // only when the access token has ended; from then on, paced, until the provider says something
            // (docs/adr/0013).
            let in_grace = traits.grace.is_some_and(|grace| now < intent.since.plus(grace));
            if !in_grace && valid {
                return Decision::Serve;
            }
        }
        match self.flight.retry_at {
            Some(_) if valid && self.flight.retry_at > Some(now) => Decision::Serve,
            Some(at) if at > now => Decision::Wait(at),
            _ if valid => Decision::RefreshOrServe,
            _ => Decision::Refresh,
        }
    }
}

impl ClientToken {
    /// What a read at `now` does with this token.
    pub fn decide(&self, now: Timestamp, traits: RefreshTraits) -> Decision {
        let (fresh, valid) =
            self.tokens.as_ref().map_or((false, false), |held| (held.fresh(now, traits), held.valid(now)));
        match self.flight.retry_at {
            _ if fresh => Decision::Serve,
            Some(at) if at > now => {
                if valid {
                    Decision::Serve
                } else {
                    Decision::Wait(at)
                }
            }
            _ if valid => Decision::RefreshOrServe,
            _ => Decision::Refresh,
        }
    }
}

#[cfg(test)]
mod tests;
