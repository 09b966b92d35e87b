//! What a policy asks of a token of one issuer (D4).

use agent_identity_core::issuer::{Algorithm, IssuerPolicy, TokenRefused, TrustedIssuer};

use super::claims::Claims;
use super::header::is_type;
use super::members::Texts;
use super::refusal::refused;

/// The longest subject, in bytes.
const MAX_SUBJECT: usize = 1024;

/// Tokens that are of no declared type, or of one that is made for this (RFC 9068 §2.1). Others (logout tokens, proofs of
/// possession, client assertions) have the same claims and mean something else (RFC 8725 §3.11): a record must name them.
const USUAL_TYPES: [&str; 2] = ["JWT", "at+jwt"];

/// The record that a token must satisfy, or none where any issuer will do.
pub(super) enum Rule<'p> {
    /// The issuer's record.
    Record(&'p TrustedIssuer),
    /// Embedded mode on loopback with no configuration at all.
    AnyIssuer,
}

impl<'p> Rule<'p> {
    /// The claims that identify users under this policy.
    pub(super) fn subject_claims(policy: &IssuerPolicy) -> Vec<&str> {
        match policy {
            IssuerPolicy::Trusted(records) => records.iter().map(|it| it.subject_claim.as_str()).collect(),
            IssuerPolicy::AnyIssuer => vec!["sub"],
        }
    }

    /// The rules for this issuer, of which a token must satisfy one; none when it is not trusted.
    pub(super) fn of_issuer(policy: &'p IssuerPolicy, issuer: &str) -> Vec<Self> {
        match policy {
            IssuerPolicy::Trusted(records) => {
                records.iter().filter(|record| record.issuer == issuer).map(Self::Record).collect()
            }
            IssuerPolicy::AnyIssuer => vec![Self::AnyIssuer],
        }
    }

    /// Whether a record names the issuer.
    pub(super) const fn is_record(&self) -> bool {
        matches!(self, Self::Record(_))
    }

    /// Whether the record lists this algorithm by name.
    pub(super) fn names(&self, algorithm: Algorithm) -> bool {
        matches!(self, Self::Record(record) if record.algorithms.contains(&algorithm))
    }

    pub(super) fn accepts_algorithm(&self, algorithm: Algorithm) -> bool {
        match self {
            Self::Record(record) => record.algorithms.is_empty() || record.algorithms.contains(&algorithm),
            Self::AnyIssuer => true,
        }
    }

    pub(super) fn accepts_type(&self, typ: Option<&str>) -> bool {
        match self {
            Self::Record(record) => accepts_type(record.typ.as_deref(), typ),
            Self::AnyIssuer => accepts_type(None, typ),
        }
    }

    /// The name and value of the claim that identifies the user, if the token is for us.
    fn check<'c>(&self, claims: &'c Claims<'_>) -> Result<(&'p str, &'c str), TokenRefused> {
        let subject_claim = match self {
            Self::Record(record) => {
                if !is_for_audience(record, claims) && !is_for_client(record, claims) {
                    return Err(refused(
                        "audience",
                        "neither its `aud` nor its `client_id` or `azp` is one that is accepted from its issuer",
                    ));
                }
                record.subject_claim.as_str()
            }
            Self::AnyIssuer => "sub",
        };
        Ok((subject_claim, subject(claims, subject_claim)?))
    }
}

/// Whether a token may have this `typ`, where `required` may be asked for.
pub(super) fn accepts_type(required: Option<&str>, typ: Option<&str>) -> bool {
    match (required, typ) {
        (Some(required), typ) => typ.is_some_and(|typ| is_type(typ, required)),
        (None, None) => true,
        (None, Some(typ)) => USUAL_TYPES.iter().any(|usual| is_type(typ, usual)),
    }
}

/// The value of the claim that identifies the user.
pub(crate) fn subject<'c>(claims: &'c Claims<'_>, claim: &str) -> Result<&'c str, TokenRefused> {
    claims.subject(claim).filter(|subject| !subject.is_empty() && subject.len() <= MAX_SUBJECT).ok_or_else(
        || refused("subject", "the claim that identifies the user is missing, empty, too long or not a text"),
    )
}

/// The first of the rules that the token satisfies.
///
/// # Errors
/// How it fails the first of them.
pub(super) fn check_any<'p, 'c>(
    rules: &[Rule<'p>],
    claims: &'c Claims<'_>,
) -> Result<(&'p str, &'c str), TokenRefused> {
    let mut failure = None;
    for rule in rules {
        match rule.check(claims) {
            Ok(subject) => return Ok(subject),
            Err(refusal) => {
                failure.get_or_insert(refusal);
            }
        }
    }
    Err(failure.unwrap_or_else(|| refused("issuer", "its issuer is not trusted here")))
}

fn is_for_audience(record: &TrustedIssuer, claims: &Claims<'_>) -> bool {
    let audiences = claims.audiences.as_ref().map_or(&[][..], Texts::list);
    audiences.iter().any(|audience| record.audiences.iter().any(|accepted| accepted == audience))
}

/// Whether every client that the token names is accepted: `azp` and `client_id` that differ are not ours to choose from.
fn is_for_client(record: &TrustedIssuer, claims: &Claims<'_>) -> bool {
    let mut named = [&claims.client_id, &claims.authorized_party].into_iter().flatten().peekable();
    named.peek().is_some() && named.all(|client| record.clients.iter().any(|accepted| accepted == client))
}
