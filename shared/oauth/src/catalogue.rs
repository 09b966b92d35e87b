//! The provider catalogue: what is known of each vendor's OAuth 2, as data (`catalogue.json`).
//!
//! Only facts that somebody read in the vendor's own documents stand there as guarantees. What is not known is absent, and
//! absent means the careful reading: a refresh may replace the refresh token and the old one is dead at once.

mod scopes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::LazyLock;
use std::time::Duration;

use agent_identity_core::name::Scope;
use agent_identity_core::provider::{ClientAuthentication, Vendor};
use serde::{Deserialize, Deserializer};

use crate::revocation::RevocationWay;

pub use scopes::ScopeRules;

/// What is known of one vendor.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// The endpoints; `None` where they differ by tenant and come from the provider's configuration.
    #[serde(default)]
    pub endpoints: Option<Endpoints>,
    /// Where tokens are revoked, where that is known; may have `{client_id}` in it.
    #[serde(default)]
    pub revocation_endpoint: Option<String>,
    /// How tokens are revoked there.
    #[serde(default)]
    pub revocation_way: RevocationWay,
    /// How a client proves itself when its configuration does not say; `None` leaves it to the server's metadata.
    #[serde(default)]
    pub client_authentication: Option<ClientAuthentication>,
    /// How token requests are written.
    #[serde(default)]
    pub token_body: TokenBody,
    /// Whether the provider takes PKCE.
    pub pkce: Pkce,
    /// The name of the parameter that carries a user's scopes.
    #[serde(default = "scope_parameter")]
    pub scope_parameter: String,
    /// What stands between scopes in requests.
    #[serde(default = "scope_separator")]
    pub scope_separator: String,
    /// Scopes that are asked for besides the caller's, without which no refresh token comes.
    #[serde(default)]
    pub default_scopes: BTreeSet<Scope>,
    /// Further parameters of authorization requests.
    #[serde(default)]
    pub authorization_params: BTreeMap<String, String>,
    /// Further parameters of token requests that are not refreshes.
    #[serde(default)]
    pub token_params: BTreeMap<String, String>,
    /// Further parameters of refreshes.
    #[serde(default)]
    pub refresh_params: BTreeMap<String, String>,
    /// Whether a refresh that does not repeat its scopes may be refused.
    #[serde(default)]
    pub resend_scope: bool,
    /// Whether a refresh replaces the refresh token.
    pub rotation: Rotation,
    /// How long a superseded refresh token is still taken; `None` means not at all.
    #[serde(default, deserialize_with = "seconds")]
    pub reuse_grace: Option<Duration>,
    /// Whether a refresh kills the access token before it. Not known counts as no.
    #[serde(default)]
    pub refresh_invalidates_prior: bool,
    /// How long an access token lives whose answer does not say; `None` means that nobody knows.
    #[serde(default, deserialize_with = "seconds")]
    pub default_ttl: Option<Duration>,
    /// How long a refresh token lives unused.
    #[serde(default, deserialize_with = "seconds")]
    pub idle_ttl: Option<Duration>,
    /// How long a refresh token, or its family, lives whatever is done with it.
    #[serde(default, deserialize_with = "seconds")]
    pub absolute_ttl: Option<Duration>,
    /// Members under which a token response may nest the user's tokens; looked at before its top level.
    #[serde(default)]
    pub nested_tokens: Vec<String>,
    /// Values of `token_type` that mean a bearer token here, besides `bearer` itself.
    #[serde(default)]
    pub token_types: Vec<String>,
    /// The vendor's own error codes, and what RFC 6749 would say.
    #[serde(default)]
    pub error_codes: BTreeMap<String, String>,
    /// How `scope` is written in token responses; an array is read in any case.
    #[serde(default)]
    pub response_scopes: ResponseScopes,
    /// How the scopes of a response relate to those that were asked for (D13).
    #[serde(default)]
    pub scopes: ScopeRules,
}

/// Endpoints that are the same for every customer, but for `{tenant}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// The issuer, where there is one.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The discovery document, where there is one. Described to clients, never read: the endpoints stand here.
    #[serde(default)]
    pub discovery_url: Option<String>,
    /// `authorization_endpoint`.
    pub authorization_endpoint: String,
    /// `token_endpoint`.
    pub token_endpoint: String,
    /// Where refreshes go, if not to the token endpoint.
    #[serde(default)]
    pub refresh_endpoint: Option<String>,
}

/// How a token request is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenBody {
    /// `application/x-www-form-urlencoded` (RFC 6749 §4.1.3).
    #[default]
    Form,
    /// A JSON object.
    Json,
}

/// Whether a provider takes PKCE (RFC 7636).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pkce {
    /// It refuses requests without.
    Required,
    /// It takes it.
    Supported,
    /// Not known; who does not know it must ignore it (RFC 6749 §3.1).
    Unknown,
    /// It cannot take it.
    Unsupported,
}

impl Pkce {
    /// Whether it is sent.
    pub fn is_sent(self) -> bool {
        self != Self::Unsupported
    }
}

/// Whether a refresh replaces the refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// Never: a refresh whose answer was lost may be repeated freely (D5).
    Never,
    /// Always.
    Always,
    /// As the customer's administrator chose.
    Configurable,
    /// Sometimes.
    Sometimes,
    /// Not known.
    Unknown,
}

/// How `scope` is written in token responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseScopes {
    /// Separated by spaces (RFC 6749 §3.3).
    #[default]
    Spaces,
    /// Separated by commas or spaces.
    Commas,
}

impl Facts {
    /// Which of the scopes `asked` for a token has whose response named `returned` (D13). Without a word of the provider:
    /// all (RFC 6749 §5.1). Never more than was asked for.
    pub fn granted(&self, asked: &BTreeSet<Scope>, returned: Option<&BTreeSet<Scope>>) -> BTreeSet<Scope> {
        match returned {
            Some(returned) => self.scopes.granted(asked, returned),
            None => asked.clone(),
        }
    }
}

/// What is known of this vendor.
#[expect(clippy::expect_used, reason = "the file is a part of the program, and a test reads it whole")]
pub fn facts(vendor: Vendor) -> &'static Facts {
    static CATALOGUE: LazyLock<HashMap<Vendor, Facts>> =
        LazyLock::new(|| parse().expect("catalogue.json parses"));
    CATALOGUE.get(&vendor).expect("catalogue.json has every vendor")
}

fn parse() -> serde_json::Result<HashMap<Vendor, Facts>> {
    serde_json::from_str(include_str!("../catalogue.json"))
}

fn scope_parameter() -> String {
    "scope".to_owned()
}

fn scope_separator() -> String {
    " ".to_owned()
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_secs))
}

#[cfg(test)]
mod tests;
