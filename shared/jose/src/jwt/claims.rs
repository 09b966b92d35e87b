//! The claims of a token that decide (RFC 7519 §4.1), and no others.

use std::borrow::Cow;

use agent_identity_core::Timestamp;
use agent_identity_core::issuer::{ClaimValue, TokenRefused, VerifiedClaims, VerifiedToken};
use serde::de::MapAccess;

use super::members::{AnyValue, Fault, Members, Text, Texts, read};
use super::refusal::refused;
use super::times::{NumericDate, sign_in};

/// What a payload says.
pub(crate) struct Claims<'de> {
    /// `iss`: one text.
    pub(crate) issuer: Cow<'de, str>,
    /// `exp`.
    pub(crate) expires_at: Timestamp,
    /// `nbf`.
    pub(crate) not_before: Option<Timestamp>,
    /// `iat`.
    pub(crate) issued_at: Option<Timestamp>,
    /// `aud`, in either form.
    pub(crate) audiences: Option<Texts<'de>>,
    /// `client_id` (RFC 9068 §2.2).
    pub(crate) client_id: Option<Cow<'de, str>>,
    /// `azp` (OpenID Connect Core §2).
    pub(crate) authorized_party: Option<Cow<'de, str>>,
    /// `auth_time` (OpenID Connect Core §2).
    pub(crate) auth_time: Option<Timestamp>,
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
    pub(crate) fn parse(text: &'de str, wanted: &[&str]) -> Result<Self, TokenRefused> {
        Self::read(text, Raw { wanted, ..Raw::default() }, None)
    }

    /// Reads a payload, with its scopes as well.
    pub(crate) fn parse_with_scopes(text: &'de str, wanted: &[&str]) -> Result<Self, TokenRefused> {
        Self::read(text, Raw { wanted, reads_scopes: true, ..Raw::default() }, None)
    }

    /// Reads what `issuer` said of a token, with its scopes: there `iss` may be left out (RFC 7662 §2.2).
    pub(crate) fn parse_said_by(
        issuer: &'de str,
        text: &'de str,
        wanted: &[&str],
    ) -> Result<Self, TokenRefused> {
        Self::read(text, Raw { wanted, reads_scopes: true, ..Raw::default() }, Some(issuer))
    }

    fn read(text: &'de str, mut raw: Raw<'de, '_>, said_by: Option<&'de str>) -> Result<Self, TokenRefused> {
        read(text, &mut raw).map_err(|fault| match fault {
            Fault::Form => refused(
                "claims",
                "its payload is not a JSON object, or one of `iss`, `aud`, `exp`, `nbf`, `iat`, `client_id`, `azp`, \
                 `scope`, `scp` has the wrong form",
            ),
            Fault::Duplicate => refused("duplicate_member", "its payload has two claims of one name"),
        })?;
        let issuer = raw.iss.map(|text| text.0).or(said_by.map(Cow::Borrowed));
        let (Some(issuer), Some(NumericDate(expires_at))) = (issuer, raw.exp) else {
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
    pub(crate) fn subject(&self, claim: &str) -> Option<&str> {
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
    pub(crate) fn scopes(&self) -> Vec<String> {
        [&self.scope, &self.scp].into_iter().flatten().flat_map(Texts::scopes).collect()
    }

    /// The value of a claim that a rule looks at, whether it decides anything else or not.
    pub(crate) fn value(&self, claim: &str) -> Option<ClaimValue> {
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

    /// As they are handed to rules that look at these claims besides, of a token that met the profiles in these places.
    pub(crate) fn hand_on<'n>(
        self,
        subject_claim: &str,
        subject: String,
        looked_at: impl Iterator<Item = &'n str>,
        met: Vec<usize>,
    ) -> VerifiedClaims {
        VerifiedClaims {
            token: VerifiedToken {
                issuer: self.issuer.to_string(),
                subject_claim: subject_claim.to_owned(),
                subject,
                expires_at: self.expires_at,
                issued_at: self.issued_at,
                auth_time: self.auth_time,
            },
            scopes: self.scopes(),
            custom: looked_at.filter_map(|name| Some((name.to_owned(), self.value(name)?))).collect(),
            audiences: self.audiences.map(Texts::into_list).unwrap_or_default(),
            client_id: self.client_id.map(Cow::into_owned),
            authorized_party: self.authorized_party.map(Cow::into_owned),
            met,
        }
    }
}
