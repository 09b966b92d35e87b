//! Why a signature is refused, under AWS's names. The texts are AWS's where AWS has one.

use http::StatusCode;

/// Why a request's signature is refused. The text helps the one who signs and holds no secret and no signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigV4Error {
    /// There is no `Authorization` header; a signature in the query does not count (D22).
    #[error("Missing Authentication Token")]
    MissingAuthenticationToken,

    /// The signature cannot be read: a part is missing, doubled, too long or malformed.
    #[error("{0}")]
    IncompleteSignature(String),

    /// The signature can be read, but is not one for this request, this service or this moment.
    #[error("{0}")]
    InvalidSignature(String),

    /// Nobody here has this access key, or not with this session token. The caller's to find out.
    #[error("The security token included in the request is invalid.")]
    UnrecognizedClient,

    /// The access key was a temporary one and has ended. The caller's to find out.
    #[error("The security token included in the request is expired")]
    ExpiredToken,
}

impl SigV4Error {
    /// AWS's name of the error, for `x-amzn-errortype`.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::MissingAuthenticationToken => "MissingAuthenticationTokenException",
            Self::IncompleteSignature(_) => "IncompleteSignatureException",
            Self::InvalidSignature(_) => "InvalidSignatureException",
            Self::UnrecognizedClient => "UnrecognizedClientException",
            Self::ExpiredToken => "ExpiredTokenException",
        }
    }

    /// The HTTP status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::IncompleteSignature(_) => StatusCode::BAD_REQUEST,
            _ => StatusCode::FORBIDDEN,
        }
    }

    pub(super) fn incomplete(message: impl Into<String>) -> Self {
        Self::IncompleteSignature(message.into())
    }

    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::InvalidSignature(message.into())
    }
}
