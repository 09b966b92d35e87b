//! The one error of use cases: what the client sees and what the log sees are different fields, by type.

use std::fmt;

use crate::authorizer::Refused;
use crate::http::HttpError;
use crate::issuer::TokenRefused;
use crate::port::SecretError;
use crate::seal::SealError;
use crate::store::StoreError;

/// `Result` with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Which error of the wire it is (`contract.md` 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot be understood or breaks a limit. 400.
    Validation,
    /// The caller is known, but the credential in the body (WAT, user token) is not acceptable. 401.
    Unauthorized,
    /// The caller may not do this, or this session is not theirs. 403.
    AccessDenied,
    /// What the request names does not exist. 404.
    NotFound,
    /// It exists already, or somebody changed it at the same time. 409.
    Conflict,
    /// A limit of this deployment. 402.
    Quota,
    /// Too much at once, or the provider asks to wait. Try again. 429.
    Throttling,
    /// We failed, or a part that we depend on did. 500.
    Internal,
}

/// A field of the request that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The member, as a path: `oauth2ProviderConfigInput.customOauth2ProviderConfig.clientId`.
    pub name: String,
    /// What is wrong with it. Never repeats a sensitive value.
    pub message: String,
}

/// An error of a use case.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    fields: Vec<FieldError>,
    detail: Option<String>,
}

impl Error {
    /// An error with the text that the client sees.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), fields: Vec::new(), detail: None }
    }

    /// One field of the request is wrong.
    pub fn field(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { name: name.into(), message: message.into() }])
    }

    /// Several fields are wrong.
    pub fn fields(fields: Vec<FieldError>) -> Self {
        let message =
            fields.iter().map(|field| format!("{}: {}", field.name, field.message)).collect::<Vec<_>>();
        Self { fields, ..Self::new(ErrorKind::Validation, message.join("; ")) }
    }

    /// We failed: the client learns nothing but that, the log learns `detail`.
    pub fn internal(detail: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Internal,
            "an internal error occurred; the log has its cause under this request id",
        )
        .with_detail(detail)
    }

    /// Adds what only the log may see. Never a secret.
    #[must_use]
    pub fn with_detail(mut self, detail: impl fmt::Display) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    /// Which error it is.
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the client sees.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The fields that are wrong.
    pub fn field_list(&self) -> &[FieldError] {
        &self.fields
    }

    /// What only the log sees.
    pub fn detail(&self) -> Option<&str> {
        self.detail.as_deref()
    }
}

/// For the log, and for whoever is at the machine: with the detail. What a client is told when we failed says nothing else than
/// where the detail is, so there the detail is all.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.detail {
            Some(detail) if self.kind == ErrorKind::Internal => f.write_str(detail),
            Some(detail) => write!(f, "{} ({detail})", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(_) => {
                Self::new(ErrorKind::Conflict, "the resource was changed by another request at the same time")
            }
            StoreError::Busy(detail) => busy(detail),
            StoreError::Failed(_) => Self::internal(error),
        }
    }
}

/// The client may try again, whatever of the store it was that was asked.
fn busy(detail: String) -> Error {
    Error::new(ErrorKind::Throttling, "the store is busy, try again").with_detail(detail)
}

impl From<SealError> for Error {
    fn from(error: SealError) -> Self {
        match error {
            SealError::Busy(detail) => busy(detail),
            SealError::Broken | SealError::Lost | SealError::KeyUnavailable(_) => Self::internal(error),
        }
    }
}

impl From<SecretError> for Error {
    fn from(error: SecretError) -> Self {
        match &error {
            SecretError::NotFound(message) => Self::new(ErrorKind::Validation, message.clone()),
            SecretError::Denied(message) => Self::new(ErrorKind::AccessDenied, message.clone()),
            SecretError::Failed(_) => Self::internal(error),
            SecretError::Busy(detail) => busy(detail.clone()),
        }
    }
}

impl From<TokenRefused> for Error {
    fn from(error: TokenRefused) -> Self {
        match error {
            TokenRefused::Invalid { code, reason } => {
                Self::new(ErrorKind::Unauthorized, format!("the user token is not accepted: {reason}"))
                    .with_detail(code)
            }
            TokenRefused::KeysUnavailable(reason) => Self::new(
                ErrorKind::Throttling,
                "the key of the user token cannot be had from its issuer now: the issuer does not answer, or was asked less than 30 s ago \
                 and had no key of that `kid`; try again",
            )
            .with_detail(reason),
            TokenRefused::IssuerUnavailable(reason) => Self::new(
                ErrorKind::Throttling,
                "the user token is no JWT, and its issuer cannot be asked about it now; try again",
            )
            .with_detail(reason),
        }
    }
}

impl From<Refused> for Error {
    fn from(error: Refused) -> Self {
        match error {
            Refused::Token(refusal) => refusal.into(),
            Refused::Denied(denial) => Self::new(
                ErrorKind::Unauthorized,
                format!("the user token is not accepted: {}", denial.reason()),
            )
            .with_detail(denial.as_str()),
        }
    }
}

impl From<HttpError> for Error {
    fn from(error: HttpError) -> Self {
        match error {
            HttpError::Forbidden { .. } => Self::new(ErrorKind::Validation, error.to_string()),
            HttpError::NotSent { .. } | HttpError::Unknown { .. } => {
                Self::new(ErrorKind::Throttling, "the provider cannot be reached now, try again")
                    .with_detail(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_store_is_throttling_whatever_of_it_was_asked() {
        let busy = || StoreError::Busy("held".to_owned());
        for error in [
            Error::from(busy()),
            Error::from(SealError::from(busy())),
            Error::from(SecretError::from(busy())),
            Error::from(SecretError::from(SealError::from(busy()))),
        ] {
            assert_eq!((error.kind(), error.detail()), (ErrorKind::Throttling, Some("held")));
        }
        let failed = || StoreError::Failed("gone".to_owned());
        for error in [
            Error::from(failed()),
            Error::from(SealError::from(failed())),
            Error::from(SecretError::from(failed())),
            Error::from(SecretError::from(SealError::Broken)),
        ] {
            assert_eq!(error.kind(), ErrorKind::Internal);
        }
    }

    #[test]
    fn who_is_at_the_machine_reads_the_cause_and_a_client_does_not() {
        let error = Error::from(StoreError::Failed("attempt to write a readonly database".to_owned()));
        assert_eq!(error.to_string(), "the store failed: attempt to write a readonly database");
        assert!(!error.message().contains("readonly"));
        let error = Error::new(ErrorKind::Throttling, "try again").with_detail("why");
        assert_eq!(error.to_string(), "try again (why)");
    }
}
