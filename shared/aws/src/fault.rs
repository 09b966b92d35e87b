//! What a failed call to AWS means: nothing happened, nobody knows, or refused for good.

use aws_sdk_dynamodb::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

/// How a call failed.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The service refused for now, and did nothing.
    Busy(String),
    /// No answer, half an answer, or an error of the service's own: it may have been done.
    Unknown(String),
    /// The service refused, and will again.
    Refused {
        /// The error's code.
        code: String,
        /// Its message, for the log.
        message: String,
    },
}

impl Fault {
    /// What it says, for the log.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Busy(reason) | Self::Unknown(reason) => reason,
            Self::Refused { code, message } => format!("{code}: {message}"),
        }
    }

    /// Whether it is this refusal.
    pub(crate) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }
}

/// Codes of errors after which nothing was done and the same call may succeed.
const BUSY: [&str; 12] = [
    "KmsThrottlingException",
    "LimitExceededException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "Throttling",
    "ThrottlingError",
    "ThrottlingException",
    "TransactionConflictException",
    "TransactionInProgressException",
];

/// Reads a failed call.
pub(crate) fn fault<E, R>(error: SdkError<E, R>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
    R: std::fmt::Debug,
{
    let Some(code) = error.code().map(str::to_owned) else {
        return Fault::Unknown(DisplayErrorContext(&error).to_string());
    };
    let message = error.message().unwrap_or_default().to_owned();
    if BUSY.contains(&code.as_str()) {
        Fault::Busy(format!("{code}: {message}"))
    } else if code.starts_with("Internal") || code == "ServiceUnavailable" {
        Fault::Unknown(format!("{code}: {message}"))
    } else {
        Fault::Refused { code, message }
    }
}
