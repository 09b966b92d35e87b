//! The answer (RFC 7662 §2.2), read as strictly as a JWT's claims and by the same code.
//!
//! What cannot be read is no answer, and so no reason to refuse anybody: only an issuer that says so ends a user's session.

use agent_identity_core::Timestamp;
use agent_identity_core::http::HttpResponse;
use agent_identity_core::issuer::{TokenProfile, TokenRefused, VerifiedClaims};
use serde::de::MapAccess;

use super::unavailable;
use crate::jwt::claims::Claims;
use crate::jwt::members::{Fault, Members, Text, read as read_members};
use crate::jwt::refusal::refused;
use crate::jwt::{rule, times};

/// The largest answer, in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// What says of which kind the token is, and what each says of an access token, without case. `token_type` is the standard's
/// (RFC 6749 §7.1, RFC 7009 §2.1); Cognito and Ory write `token_use`, Keycloak writes `typ`.
const KINDS: [(&str, [&str; 2]); 3] = [
    ("token_type", ["bearer", "access_token"]),
    ("token_use", ["access", "access_token"]),
    ("typ", ["bearer", "at+jwt"]),
];

/// What decides besides the claims.
#[derive(Default)]
struct Answer {
    active: Option<bool>,
    has_end: bool,
    /// `cnf` (RFC 7800 §3.1).
    is_bound: bool,
    is_access: bool,
    is_other: bool,
}

impl<'de> Members<'de> for Answer {
    fn take<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "active" => self.active = Some(map.next_value()?),
            "exp" => {
                self.has_end = true;
                return Ok(false);
            }
            "cnf" => {
                self.is_bound = true;
                return Ok(false);
            }
            _ => {
                let Some((_, access)) = KINDS.iter().find(|(member, _)| *member == name) else {
                    return Ok(false);
                };
                let Text(kind) = map.next_value()?;
                if access.iter().any(|it| it.eq_ignore_ascii_case(&kind)) {
                    self.is_access = true;
                } else {
                    self.is_other = true;
                }
            }
        }
        Ok(true)
    }
}

/// What an issuer has said of a token, held to the profile.
///
/// # Errors
/// `Invalid` when it has said that the token is none for here, and `IssuerUnavailable` when it has said nothing that counts.
pub(super) fn read(
    response: &HttpResponse,
    profile: &TokenProfile,
    now: Timestamp,
) -> Result<VerifiedClaims, TokenRefused> {
    let text = body(response)?;
    let mut answer = Answer::default();
    read_members(text, &mut answer).map_err(|fault| match fault {
        Fault::Form => unavailable("its answer is not a JSON object of the right form"),
        Fault::Duplicate => unavailable("its answer has two members of one name"),
    })?;
    match answer.active {
        Some(true) => {}
        Some(false) => return Err(refused("inactive", "its issuer says that it is not active")),
        None => return Err(unavailable("its answer does not say whether the token is active")),
    }
    if answer.is_other || !answer.is_access {
        return Err(refused(
            "token_type",
            "its issuer does not say that it is an access token for any bearer",
        ));
    }
    if answer.is_bound {
        return Err(refused("bound", "it is bound to its sender (`cnf`), who cannot prove that here"));
    }
    if !answer.has_end {
        return Err(refused("claims", "its issuer does not say when it ends (`exp`)"));
    }
    claims(text, profile, now)
}

fn claims(text: &str, profile: &TokenProfile, now: Timestamp) -> Result<VerifiedClaims, TokenRefused> {
    let issuer = profile.issuers.first().map_or("", String::as_str);
    let looked_at = || profile.claims.iter().map(String::as_str);
    let wanted: Vec<&str> = std::iter::once(profile.subject_claim.as_str()).chain(looked_at()).collect();
    let claims = Claims::parse_said_by(issuer, text, &wanted)
        .map_err(|fault| unavailable(format!("of its answer, {fault}")))?;
    if !profile.issuers.iter().any(|issuer| *issuer == claims.issuer) {
        return Err(refused("issuer", "its issuer is not trusted here"));
    }
    times::check(&claims, now, profile.leeway, profile.max_age)?;
    let subject = rule::subject(&claims, &profile.subject_claim)?.to_owned();
    Ok(claims.hand_on(&profile.subject_claim, subject, looked_at(), Vec::new()))
}

fn body(response: &HttpResponse) -> Result<&str, TokenRefused> {
    match response.status {
        200 => {}
        status @ (401 | 403) => {
            return Err(unavailable(format!(
                "it does not let the authorizer's client ask (status {status})"
            )));
        }
        status => return Err(unavailable(format!("it answered with status {status}"))),
    }
    if response.body.len() > MAX_ANSWER {
        return Err(unavailable(format!("its answer has more than {MAX_ANSWER} bytes")));
    }
    std::str::from_utf8(&response.body).map_err(|_not_text| unavailable("its answer is not UTF-8"))
}
