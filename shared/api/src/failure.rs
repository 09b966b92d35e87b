//! The one place where errors become responses (`contract.md` 1).

use agent_identity_core::Error;
use agent_identity_core::error::ErrorKind;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::sigv4::SigV4Error;

/// An error of the wire: AWS's name, the status, the body's members.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The name in `x-amzn-errortype`.
    pub name: &'static str,
    /// The status.
    pub status: StatusCode,
    /// What the client sees.
    pub message: String,
    /// For `ValidationException`: why, and which fields.
    pub validation: Option<Validation>,
    /// What only the log sees.
    pub detail: Option<String>,
}

/// The members of a `ValidationException` besides its message.
#[derive(Clone, Debug)]
pub struct Validation {
    /// `CannotParse` or `FieldValidationFailed`.
    pub reason: &'static str,
    /// (name, message) of each field.
    pub fields: Vec<(String, String)>,
}

impl Failure {
    /// A failure with a name, a status and a message.
    pub fn new(name: &'static str, status: StatusCode, message: impl Into<String>) -> Self {
        Self { name, status, message: message.into(), validation: None, detail: None }
    }

    /// The body cannot be read as JSON of an object.
    pub fn cannot_parse(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        let fields = vec![("body".to_owned(), message.clone())];
        Self {
            validation: Some(Validation { reason: "CannotParse", fields }),
            ..Self::new("ValidationException", status, message)
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (name, status) = match error.kind() {
            ErrorKind::Validation => ("ValidationException", StatusCode::BAD_REQUEST),
            ErrorKind::Unauthorized => ("UnauthorizedException", StatusCode::UNAUTHORIZED),
            ErrorKind::AccessDenied => ("AccessDeniedException", StatusCode::FORBIDDEN),
            ErrorKind::NotFound => ("ResourceNotFoundException", StatusCode::NOT_FOUND),
            ErrorKind::Conflict => ("ConflictException", StatusCode::CONFLICT),
            ErrorKind::Quota => ("ServiceQuotaExceededException", StatusCode::PAYMENT_REQUIRED),
            ErrorKind::Throttling => ("ThrottlingException", StatusCode::TOO_MANY_REQUESTS),
            ErrorKind::Internal => ("InternalServerException", StatusCode::INTERNAL_SERVER_ERROR),
        };
        let validation = (error.kind() == ErrorKind::Validation).then(|| Validation {
            reason: "FieldValidationFailed",
            fields: error
                .field_list()
                .iter()
                .map(|field| (field.name.clone(), field.message.clone()))
                .collect(),
        });
        Self {
            name,
            status,
            message: error.message().to_owned(),
            validation,
            detail: error.detail().map(str::to_owned),
        }
    }
}

impl From<SigV4Error> for Failure {
    fn from(error: SigV4Error) -> Self {
        Self::new(error.code(), error.status(), error.to_string())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut body = json!({ "message": self.message });
        if let (Some(validation), Some(members)) = (self.validation, body.as_object_mut()) {
            let fields: Vec<_> = validation
                .fields
                .into_iter()
                .map(|(name, message)| json!({ "name": name, "message": message }))
                .collect();
            members.insert("reason".to_owned(), json!(validation.reason));
            members.insert("fieldList".to_owned(), json!(fields));
        }
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("x-amzn-errortype", HeaderValue::from_static(self.name));
        response
    }
}
