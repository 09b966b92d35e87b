//! The claims of a token that decide (RFC 7519 §4.1), and no others.

use std::borrow::Cow;

use agent_identity_core::Timestamp;
use agent_identity_core::issuer::TokenRefused;
use serde::de::MapAccess;

use super::members::{Fault, MaybeText, Members, Text, Texts, read};
use super::refusal::refused;
use super::times::NumericDate;

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
    pub(super) audiences: Vec<Cow<'de, str>>,
    /// `client_id` (RFC 9068 §2.2).
    pub(super) client_id: Option<Cow<'de, str>>,
    /// `azp` (OpenID Connect Core §2).
    pub(super) authorized_party: Option<Cow<'de, str>>,
    /// `scope` and `scp`, if they were asked for.
    pub(super) scopes: Vec<String>,
    /// Claims that some issuer's record names as its subject, as far as they are texts.
    subjects: Vec<(Cow<'de, str>, Cow<'de, str>)>,
}

#[derive(Default)]
struct Raw<'de, 'w> {
    subject_claims: &'w [&'w str],
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
    subjects: Vec<(Cow<'de, str>, Cow<'de, str>)>,
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
            _ if self.subject_claims.contains(&name) => {
                if let MaybeText(Some(text)) = map.next_value()? {
                    self.subjects.push((Cow::Owned(name.to_owned()), text));
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Claims<'de> {
    /// Reads a payload, with the claims that may identify the user.
    pub(super) fn parse(text: &'de str, subject_claims: &[&str]) -> Result<Self, TokenRefused> {
        Self::read(text, Raw { subject_claims, ..Raw::default() })
    }

    /// Reads a payload, with its scopes as well.
    pub(super) fn parse_with_scopes(text: &'de str, subject_claims: &[&str]) -> Result<Self, TokenRefused> {
        Self::read(text, Raw { subject_claims, reads_scopes: true, ..Raw::default() })
    }

    fn read(text: &'de str, mut raw: Raw<'de, '_>) -> Result<Self, TokenRefused> {
        read(text, &mut raw).map_err(|fault| match fault {
            Fault::Form => refused(
                "claims",
                "its payload is not a JSON object, or one of `iss`, `aud`, `exp`, `nbf`, `iat`, `client_id`, `azp`, `scope`, \
                 `scp` has the wrong form",
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
            audiences: raw.aud.map(Texts::into_list).unwrap_or_default(),
            client_id: raw.client_id.map(|text| text.0),
            authorized_party: raw.azp.map(|text| text.0),
            scopes: [raw.scope, raw.scp].into_iter().flatten().flat_map(Texts::into_scopes).collect(),
            subjects: raw.subjects,
        })
    }

    /// The value of the claim that identifies the user, if it is a text.
    pub(super) fn subject(&self, claim: &str) -> Option<&str> {
        match claim {
            "client_id" => self.client_id.as_deref(),
            "azp" => self.authorized_party.as_deref(),
            _ => self.subjects.iter().find(|(name, _)| name == claim).map(|(_, value)| value.as_ref()),
        }
    }
}
