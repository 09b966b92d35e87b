//! The claims of a token that decide (RFC 7519 §4.1), and no others.

use std::borrow::Cow;

use agent_identity_core::Timestamp;
use agent_identity_core::issuer::{ClaimValue, TokenRefused};
use serde::de::MapAccess;

use super::members::{AnyValue, Fault, Members, Text, Texts, read};
use super::refusal::refused;
use super::times::{NumericDate, sign_in};

/// What a payload says.
pub(super) struct Claims<'de> {
    /// `iss`: one text.
    pub(super) issuer: Cow<'de, str>,
    /// `exp`.
    pub(super) expires_at: Timestamp,
    /// `nbf`.
    pub(super) not_before: Option<Timestamp>,
    /// `iat`.
    pub(super) issued_at: Option<Timestamp>,
    /// `aud`, in either form.
    pub(super) audiences: Option<Texts<'de>>,
    /// `client_id` (RFC 9068 §2.2).
    pub(super) client_id: Option<Cow<'de, str>>,
    /// `azp` (OpenID Connect Core §2).
    pub(super) authorized_party: Option<Cow<'de, str>>,
    /// `auth_time` (OpenID Connect Core §2).
    pub(super) auth_time: Option<Timestamp>,
    /// `scope`, if scopes were asked for.
    scope: Option<Texts<'de>>,
    /// `scp`, which some issuers write in its place.
    scp: Option<Texts<'de>>,
    /// The other claims that were asked for: those that name users, and those that rules look at.
    others: Vec<(String, AnyValue<'de>)>,
}

#[derive(Default)]
struct Raw<'de, 'w> {
    wanted: &'w [&'w str],
    reads_scopes: bool,
    iss: Option<Text<'de>>,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    aud: Option<Texts<'de>>,
    client_id: Option<Text<'de>>,
    azp: Option<Text<'de>>,
    scope: Option<Texts<'de>>,
    scp: Option<Texts<'de>>,
    auth_time: Option<AnyValue<'de>>,
    others: Vec<(String, AnyValue<'de>)>,
}

impl<'de> Members<'de> for Raw<'de, '_> {
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "iss" => self.iss = Some(map.next_value()?),
            "exp" => self.exp = Some(map.next_value()?),
            "nbf" => self.nbf = Some(map.next_value()?),
            "iat" => self.iat = Some(map.next_value()?),
            "aud" => self.aud = Some(map.next_value()?),
            "client_id" => self.client_id = Some(map.next_value()?),
            "azp" => self.azp = Some(map.next_value()?),
            "scope" if self.reads_scopes => self.scope = Some(map.next_value()?),
            "scp" if self.reads_scopes => self.scp = Some(map.next_value()?),
            "auth_time" => self.auth_time = Some(map.next_value()?),
            _ if self.wanted.contains(&name) => self.others.push((name.to_owned(), map.next_value()?)),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Claims<'de> {
    /// Reads a payload, with these claims besides those that always decide.
    pub(super) fn parse(text: &'de str, wanted: &[&str]) -> Result<Self, TokenRefused> {
        Self::read(text, Raw { wanted, ..Raw::default() })
    }

    /// Reads a payload, with its scopes as well.
    pub(super) fn parse_with_scopes(text: &'de str, wanted: &[&str]) -> Result<Self, TokenRefused> {
        Self::read(text, Raw { wanted, reads_scopes: true, ..Raw::default() })
    }

    fn read(text: &'de str, mut raw: Raw<'de, '_>) -> Result<Self, TokenRefused> {
        read(text, &mut raw).map_err(|fault| match fault {
            Fault::Form => refused(
                "claims",
                "its payload is not a JSON object, or one of `iss`, `aud`, `exp`, `nbf`, `iat`, `client_id`, `azp`, \
                 `scope`, `scp` has the wrong form",
            ),
            Fault::Duplicate => refused("duplicate_member", "its payload has two claims of one name"),
        })?;
        let (Some(Text(issuer)), Some(NumericDate(expires_at))) = (raw.iss, raw.exp) else {
            return Err(refused("claims", "it must have the claims `iss` and `exp`"));
        };
        Ok(Self {
            issuer,
            expires_at,
            not_before: raw.nbf.map(|date| date.0),
            issued_at: raw.iat.map(|date| date.0),
            audiences: raw.aud,
            client_id: raw.client_id.map(|text| text.0),
            authorized_party: raw.azp.map(|text| text.0),
            auth_time: raw.auth_time.as_ref().map(sign_in),
            scope: raw.scope,
            scp: raw.scp,
            others: raw.others,
        })
    }

    /// The value of the claim that identifies the user, if it is a text.
    pub(super) fn subject(&self, claim: &str) -> Option<&str> {
        match claim {
            "client_id" => self.client_id.as_deref(),
            "azp" => self.authorized_party.as_deref(),
            _ => self.others.iter().find(|(name, _)| name == claim).and_then(|(_, value)| match value {
                AnyValue::Text(text) => Some(text.as_ref()),
                _ => None,
            }),
        }
    }

    /// The scopes, if they were asked for.
    pub(super) fn scopes(&self) -> Vec<String> {
        [&self.scope, &self.scp].into_iter().flatten().flat_map(Texts::scopes).collect()
    }

    /// The value of a claim that a rule looks at, whether it decides anything else or not.
    pub(super) fn value(&self, claim: &str) -> Option<ClaimValue> {
        let text = |text: &Cow<'_, str>| ClaimValue::Text(text.clone().into_owned());
        match claim {
            "iss" => Some(text(&self.issuer)),
            "aud" => self.audiences.as_ref().map(Texts::value),
            "client_id" => self.client_id.as_ref().map(text),
            "azp" => self.authorized_party.as_ref().map(text),
            "scope" => self.scope.as_ref().map(Texts::value),
            "scp" => self.scp.as_ref().map(Texts::value),
            _ => self.others.iter().find(|(name, _)| name == claim).map(|(_, value)| match value {
                AnyValue::Text(found) => text(found),
                AnyValue::Texts(list) => {
                    ClaimValue::Texts(list.iter().map(|it| it.clone().into_owned()).collect())
                }
                AnyValue::Number(_) | AnyValue::Other => ClaimValue::Other,
            }),
        }
    }
}
