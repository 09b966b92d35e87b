//! Trusted issuers (D4), and the port that verifies a user's token.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::authorizer::Authorizer;
use crate::workload::Workload;
use crate::{Id, Secret, Timestamp};

mod form;
mod record;
mod text;

pub use form::{has_jwt_form, is_bearer_form};
pub use record::{IssuerRecord, settle_subject_claim, without_slash};
pub use text::parse_trusted_issuers;

/// The largest inbound token that is looked at, in bytes (D20).
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// How far the clocks of an issuer and of this machine may differ, unless a rule says otherwise. A token is good for so long
/// after its `exp`, and from so long before its `nbf` and `iat`. Machines that keep time are within a second of each other.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Signature algorithms that a user's token may have. There is no `none` and no HMAC, by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519 (RFC 8037, RFC 9864).
    EdDSA,
}

/// An issuer whose tokens open sessions, and what such a token must say: an issuer alone is not enough (D4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedIssuer {
    /// The `iss` claim, compared byte for byte.
    pub issuer: String,
    /// Accepted `aud` values; a token needs one of them, or one of `clients`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// Accepted `client_id` or `azp` values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// Accepted algorithms; empty means every [`Algorithm`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<Algorithm>,
    /// The `typ` header that a token must have (compared without case and without `application/`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typ: Option<String>,
    /// The claim that identifies the user (D10).
    #[serde(default = "default_subject_claim")]
    pub subject_claim: String,
}

/// `sub` (OpenID Connect Core §2).
pub fn default_subject_claim() -> String {
    "sub".to_owned()
}

/// Which tokens are acceptable.
#[derive(Clone, Debug)]
pub enum IssuerPolicy {
    /// Tokens of these issuers, held to their rules.
    Trusted(Vec<TrustedIssuer>),
    /// Tokens of any issuer whose keys discovery finds: embedded mode on loopback with no configuration at all (D4).
    AnyIssuer,
}

impl IssuerPolicy {
    /// The issuers that it names, if it names any.
    pub fn trusted(&self) -> &[TrustedIssuer] {
        match self {
            Self::Trusted(issuers) => issuers,
            Self::AnyIssuer => &[],
        }
    }
}

/// What a verified token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// The `iss` claim.
    pub issuer: String,
    /// The name of the claim that identified the user.
    pub subject_claim: String,
    /// Its value.
    pub subject: String,
    /// The `exp` claim.
    pub expires_at: Timestamp,
    /// The `iat` claim, if any.
    pub issued_at: Option<Timestamp>,
    /// The `auth_time` claim, if any: when the user signed in (OpenID Connect Core §2).
    pub auth_time: Option<Timestamp>,
}

impl VerifiedToken {
    /// When the user signed in, as far as the token says: `auth_time`, or else `iat` (D15).
    pub fn signed_in_at(&self) -> Option<Timestamp> {
        self.auth_time.or(self.issued_at)
    }
}

/// What a token of one issuer must be before its claims are looked at by a rule ([`crate::authorizer`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenProfile {
    /// The `iss` claims that stand for the issuer, compared byte for byte.
    pub issuers: Vec<String>,
    /// As [`TrustedIssuer::algorithms`].
    pub algorithms: Vec<Algorithm>,
    /// As [`TrustedIssuer::typ`].
    pub typ: Option<String>,
    /// As [`TrustedIssuer::subject_claim`].
    pub subject_claim: String,
    /// In place of [`LEEWAY`].
    pub leeway: Duration,
    /// How long after its `iat` a token is good, at most; it must have one then.
    pub max_age: Option<Duration>,
    /// Further claims that a rule looks at, by name: these alone are kept.
    pub claims: Vec<String>,
}

/// The value of a claim that a rule looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimValue {
    /// A text.
    Text(String),
    /// A list of texts and of nothing else.
    Texts(Vec<String>),
    /// Anything else, which no rule can be about.
    Other,
}

/// The claims of a token that met at least one profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedClaims {
    /// Who, from whom, until when.
    pub token: VerifiedToken,
    /// The `aud` claim.
    pub audiences: Vec<String>,
    /// The `client_id` claim (RFC 9068 §2.2).
    pub client_id: Option<String>,
    /// The `azp` claim (OpenID Connect Core §2).
    pub authorized_party: Option<String>,
    /// The `scope` claim (RFC 9068 §2.2.3) and the `scp` claim, which some issuers write in its place.
    pub scopes: Vec<String>,
    /// The claims that some profile asked for by name, as far as the token has them.
    pub custom: Vec<(String, ClaimValue)>,
    /// Which of the profiles it met, by their places, in order. They agree on who the user is.
    pub met: Vec<usize>,
}

impl VerifiedClaims {
    /// The value of a claim that some profile asked for.
    pub fn custom(&self, name: &str) -> Option<&ClaimValue> {
        self.custom.iter().find(|(claim, _)| claim == name).map(|(_, value)| value)
    }
}

/// Why a token was refused. The code is stable, for logs; the caller learns less.
#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenRefused {
    /// The token does not pass. `reason` never holds the token or a claim's value.
    #[error("{reason}")]
    Invalid {
        /// A stable code, such as `expired` or `signature`.
        code: &'static str,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// The issuer's keys cannot be had now; the same token may pass later.
    #[error("the issuer's keys cannot be read: {0}")]
    KeysUnavailable(String),
    /// Only the issuer can say what the token is, and it cannot be asked now; the same token may pass later.
    #[error("the issuer cannot be asked about the token: {0}")]
    IssuerUnavailable(String),
}

/// Verifies users' tokens. Made by `jose`.
#[async_trait]
pub trait TokenVerifier: Send + Sync {
    /// Verifies signature, times, issuer and the issuer's rules.
    ///
    /// # Errors
    /// [`TokenRefused`].
    async fn verify(&self, token: &Secret, policy: &IssuerPolicy) -> Result<VerifiedToken, TokenRefused>;

    /// Verifies header, issuer, signature and times against each of the profiles, and gives the claims for their rules. That
    /// the token is *for us* is theirs to say: on its own this proves nothing but who issued it (D4).
    ///
    /// # Errors
    /// [`TokenRefused`], of the profile that the token came furthest with.
    async fn verify_claims(
        &self,
        token: &Secret,
        profiles: &[TokenProfile],
    ) -> Result<VerifiedClaims, TokenRefused>;

    /// Asks the issuer of an authorizer about a token that nobody else can read (RFC 7662), and holds the answer to the authorizer's
    /// profile, as the claims of a JWT are; `met` is not filled. On its own it proves no more than [`TokenVerifier::verify_claims`].
    ///
    /// # Errors
    /// [`TokenRefused`].
    async fn introspect(
        &self,
        _token: &Secret,
        _workload: Id<Workload>,
        _authorizer: &Authorizer,
        _profile: &TokenProfile,
    ) -> Result<VerifiedClaims, TokenRefused> {
        Err(TokenRefused::IssuerUnavailable("nobody is asked about tokens here".to_owned()))
    }
}
