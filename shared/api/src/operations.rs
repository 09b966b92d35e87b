//! The operations of the wire: which path is which, and what each request goes through.

mod api_key_provider;
mod authorizer;
mod connection;
mod credential;
mod network;
mod oauth2_provider;
mod shapes;
mod tags;
mod token_vault;
pub(crate) mod tool;
mod usage;
mod user;
mod workload;
mod workload_token;

pub use authorizer::parse_authorizer;
pub use tool::{parse_tool, shown_tool};
pub use usage::shown_usage;

use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use agent_identity_core::Error;
use agent_identity_core::grant::{Action, Principal};
use agent_identity_service::audit::{self, Recorded};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;

use crate::fields::Members;
use crate::gate::{drain, read_body};
use crate::sigv4::SignedRequest;
use crate::{Api, Failure, GatewayCaller, Surface};

/// Which half of the operations one is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plane {
    /// Managing workloads, providers and rules.
    Control,
    /// Getting tokens and keys.
    Data,
    /// Calling tools with them.
    Tools,
}

impl Plane {
    const fn served_by<S: Surface>(self) -> bool {
        match self {
            Self::Control => S::CONTROL,
            Self::Data => S::DATA,
            Self::Tools => S::TOOLS,
        }
    }
}

/// How the paths of tags are written, each of which ends with an ARN.
const TAGS: &str = "/tags/{resourceArn}";

/// An operation under way.
type Working<'a> = Pin<Box<dyn Future<Output = Result<Value, Failure>> + Send + 'a>>;

macro_rules! operations {
    ($($variant:ident $plane:ident $method:ident $path:literal $status:ident => $module:ident::$handler:ident,)*) => {
        /// The operations, by their names on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        enum Operation { $($variant,)* }

        impl Operation {
            #[cfg(test)]
            const ALL: &'static [Self] = &[$(Self::$variant,)*];

            fn of(method: &Method, path: &str) -> Option<Self> {
                let path = if path.starts_with(tags::PREFIX) { TAGS } else { path };
                match path {
                    $($path if method == Method::$method => Some(Self::$variant),)*
                    _ => None,
                }
            }

            const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)* }
            }

            #[cfg(test)]
            const fn method(self) -> Method {
                match self { $(Self::$variant => Method::$method,)* }
            }

            #[cfg(test)]
            const fn path(self) -> &'static str {
                match self { $(Self::$variant => $path,)* }
            }

            const fn plane(self) -> Plane {
                match self { $(Self::$variant => Plane::$plane,)* }
            }

            const fn success(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)* }
            }

            /// Whether what it gives, and to whom, is on record in the audit trail (D18).
            const fn gives_credentials(self) -> bool {
                matches!(
                    self,
                    Self::GetWorkloadAccessToken
                        | Self::GetWorkloadAccessTokenForJWT
                        | Self::GetWorkloadAccessTokenForUserId
                        | Self::GetResourceOauth2Token
                        | Self::GetResourceApiKey
                        | Self::InvokeTool
                )
            }

            /// What is not served is not in the binary either: a branch that is never taken is not compiled (P6).
            fn call<'a, S: Surface>(self, api: &'a Api, principal: &'a Principal, body: Members) -> Working<'a> {
                match self {
                    $(Self::$variant => {
                        if const { Plane::$plane.served_by::<S>() } {
                            Box::pin($module::$handler(api, principal, body))
                        } else {
                            Box::pin(ready(Err(elsewhere(self))))
                        }
                    })*
                }
            }
        }
    };
}

operations! {
    CreateWorkloadIdentity Control POST "/identities/CreateWorkloadIdentity" CREATED => workload::create,
    GetWorkloadIdentity Control POST "/identities/GetWorkloadIdentity" OK => workload::get,
    UpdateWorkloadIdentity Control POST "/identities/UpdateWorkloadIdentity" OK => workload::update,
    DeleteWorkloadIdentity Control POST "/identities/DeleteWorkloadIdentity" NO_CONTENT => workload::delete,
    ListWorkloadIdentities Control POST "/identities/ListWorkloadIdentities" OK => workload::list,
    CreateApiKeyCredentialProvider Control POST "/identities/CreateApiKeyCredentialProvider" CREATED => api_key_provider::create,
    GetApiKeyCredentialProvider Control POST "/identities/GetApiKeyCredentialProvider" OK => api_key_provider::get,
    UpdateApiKeyCredentialProvider Control POST "/identities/UpdateApiKeyCredentialProvider" OK => api_key_provider::update,
    DeleteApiKeyCredentialProvider Control POST "/identities/DeleteApiKeyCredentialProvider" NO_CONTENT => api_key_provider::delete,
    ListApiKeyCredentialProviders Control POST "/identities/ListApiKeyCredentialProviders" OK => api_key_provider::list,
    CreateOauth2CredentialProvider Control POST "/identities/CreateOauth2CredentialProvider" CREATED => oauth2_provider::create,
    GetOauth2CredentialProvider Control POST "/identities/GetOauth2CredentialProvider" OK => oauth2_provider::get,
    UpdateOauth2CredentialProvider Control POST "/identities/UpdateOauth2CredentialProvider" OK => oauth2_provider::update,
    DeleteOauth2CredentialProvider Control POST "/identities/DeleteOauth2CredentialProvider" NO_CONTENT => oauth2_provider::delete,
    ListOauth2CredentialProviders Control POST "/identities/ListOauth2CredentialProviders" OK => oauth2_provider::list,
    PutAuthorizer Control POST "/identities/PutAuthorizer" OK => authorizer::put,
    GetAuthorizer Control POST "/identities/GetAuthorizer" OK => authorizer::get,
    DeleteAuthorizer Control POST "/identities/DeleteAuthorizer" NO_CONTENT => authorizer::delete,
    ListAuthorizers Control POST "/identities/ListAuthorizers" OK => authorizer::list,
    GetTokenVault Control POST "/identities/get-token-vault" OK => token_vault::get,
    SetTokenVaultCMK Control POST "/identities/set-token-vault-cmk" OK => token_vault::set_cmk,
    ResetTokenVaultKeyMaterial Control POST "/identities/reset-token-vault-key-material" OK => token_vault::reset,
    BlockUser Control POST "/identities/BlockUser" OK => user::block,
    UnblockUser Control POST "/identities/UnblockUser" OK => user::unblock,
    SignOutUser Control POST "/identities/SignOutUser" OK => user::sign_out,
    GetWorkloadAccessToken Data POST "/identities/GetWorkloadAccessToken" OK => workload_token::issue,
    GetWorkloadAccessTokenForJWT Data POST "/identities/GetWorkloadAccessTokenForJWT" OK => workload_token::issue_for_jwt,
    GetWorkloadAccessTokenForUserId Data POST "/identities/GetWorkloadAccessTokenForUserId" OK => workload_token::issue_for_user_id,
    GetResourceOauth2Token Data POST "/identities/oauth2/token" OK => credential::oauth2_token,
    GetResourceApiKey Data POST "/identities/api-key" OK => credential::api_key,
    CompleteResourceTokenAuth Data POST "/identities/CompleteResourceTokenAuth" OK => credential::complete,
    ListTagsForResource Control GET "/tags/{resourceArn}" OK => tags::list,
    TagResource Control POST "/tags/{resourceArn}" NO_CONTENT => tags::tag,
    UntagResource Control DELETE "/tags/{resourceArn}" NO_CONTENT => tags::untag,
    // Of the plane that holds what they are about.
    ListConnections Data POST "/identities/ListConnections" OK => connection::list,
    GetConnection Data POST "/identities/GetConnection" OK => connection::get,
    DeleteConnection Data POST "/identities/DeleteConnection" OK => connection::delete,
    RetryConnection Data POST "/identities/RetryConnection" OK => connection::retry,
    OffboardUser Data POST "/identities/OffboardUser" OK => connection::offboard,
    PutTool Control POST "/identities/PutTool" OK => tool::put,
    GetTool Control POST "/identities/GetTool" OK => tool::get,
    DeleteTool Control POST "/identities/DeleteTool" NO_CONTENT => tool::delete,
    ListTools Control POST "/identities/ListTools" OK => tool::list,
    GetUsage Control POST "/identities/GetUsage" OK => usage::get,
    InvokeTool Tools POST "/identities/InvokeTool" OK => tool::invoke,
}

/// Serves whatever is no page for a browser.
pub(crate) async fn serve<S: Surface>(State(api): State<Api>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let found = Operation::of(&parts.method, parts.uri.path());
    let Some(operation) = found.filter(|operation| operation.plane().served_by::<S>()) else {
        let refused = match found {
            Some(operation) => elsewhere(operation),
            None => unknown(&parts.method, parts.uri.path()),
        };
        let (path, status, error) = (shown(parts.uri.path()), refused.status.as_u16(), refused.name);
        tracing::info!(method = %parts.method, path, status, error, "refused");
        return drain(&api, body).await.err().unwrap_or(refused).into_response();
    };
    let mut principal = None;
    let served = Served { status: operation.success(), ..Served::begins(&api, operation.name()) };
    let outcome = perform::<S>(&api, operation, &parts, body, &mut principal).await;
    let name = principal.as_ref().map_or("-", |principal| principal.name.as_str());
    let outcome = match &principal {
        Some(_) if operation.gives_credentials() => served.ends(&api, name, outcome).await,
        _ => {
            served.log(&api, name, &outcome, &Recorded::default());
            outcome
        }
    };
    match outcome {
        Ok(value) if operation.success() == StatusCode::NO_CONTENT => {
            debug_assert!(value.is_null(), "an operation without content answers none");
            StatusCode::NO_CONTENT.into_response()
        }
        Ok(value) => json(operation.success(), &value),
        Err(failure) => failure.into_response(),
    }
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response {
    let mut response = (status, value.to_string()).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

async fn perform<S: Surface>(
    api: &Api,
    operation: Operation,
    parts: &http::request::Parts,
    body: Body,
    principal: &mut Option<Principal>,
) -> Result<Value, Failure> {
    if let Err(refused) = admit(api, parts).await {
        let _refused_already = drain(api, body).await;
        return Err(refused);
    }
    let body = read_body(api, body).await?;
    let signed = SignedRequest { body: &body, ..unread(parts) };
    let caller = principal.insert(api.authenticate.authenticate(&signed, gateway(parts)).await?);
    audit::note(|about| about.principal.clone_from(&caller.name));
    let members = if parts.uri.path().starts_with(tags::PREFIX) {
        tags::members(parts.uri.path(), parts.uri.query(), &body)?
    } else {
        read_object(&body)?
    };
    operation.call::<S>(api, caller, members).await
}

/// The members of a body that is a JSON object.
pub(crate) fn read_object(body: &[u8]) -> Result<Members, Failure> {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(map)) => Ok(Members::of_body(map)),
        Ok(_) => Err(Failure::cannot_parse(StatusCode::BAD_REQUEST, "the body must be a JSON object")),
        Err(error) => {
            let message = format!(
                "the body is not JSON: {} at line {}, column {}",
                match error.classify() {
                    serde_json::error::Category::Eof => "it ends too early",
                    _ => "a syntax error",
                },
                error.line(),
                error.column()
            );
            Err(Failure::cannot_parse(StatusCode::BAD_REQUEST, message))
        }
    }
}

/// The request without its body.
fn unread(parts: &http::request::Parts) -> SignedRequest<'_> {
    SignedRequest {
        method: parts.method.as_str(),
        raw_path: parts.uri.path(),
        raw_query: parts.uri.query(),
        headers: &parts.headers,
        body: &[],
    }
}

/// What can be refused by the headers alone is refused before the body costs memory.
async fn admit(api: &Api, parts: &http::request::Parts) -> Result<(), Failure> {
    no_browser(&parts.headers)?;
    api.authenticate.admit(&unread(parts), gateway(parts)).await
}

/// D21.
///
/// # Errors
/// For a request that a page has sent.
pub(crate) fn no_browser(headers: &HeaderMap) -> Result<(), Failure> {
    if !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    Err(Failure::new(
        "AccessDeniedException",
        StatusCode::FORBIDDEN,
        "operations are not for browsers: a request with an Origin header is refused",
    ))
}

/// Whom API Gateway has verified, if it is in front: what the adapter to Lambda says, and nothing that a client sent.
fn gateway(parts: &http::request::Parts) -> Option<&GatewayCaller> {
    parts.extensions.get()
}

/// An operation that is under way, as the log and the audit trail tell of it.
pub(crate) struct Served {
    operation: &'static str,
    status: StatusCode,
    began: Duration,
}

impl Served {
    /// It begins.
    pub(crate) fn begins(api: &Api, operation: &'static str) -> Self {
        audit::note(|about| operation.clone_into(&mut about.operation));
        Self { operation, status: StatusCode::OK, began: api.services.ports().clock.elapsed() }
    }

    /// It has come to this, and gives a credential or has used one. That does not leave before it is on record; where that is
    /// impossible it does not leave at all.
    pub(crate) async fn ends<T>(
        self,
        api: &Api,
        principal: &str,
        outcome: Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (outcome, recorded) = put_on_record(api, outcome).await;
        self.log(api, principal, &outcome, &recorded);
        outcome
    }

    /// The one line of a request in the log: the operation, who asked, what came of it.
    fn log<T>(&self, api: &Api, principal: &str, outcome: &Result<T, Failure>, recorded: &Recorded) {
        let Self { operation, status, began } = *self;
        let took = api.services.ports().clock.elapsed().saturating_sub(began);
        let Recorded { audit, workload, provider, user, answer } = recorded;
        let (audit, workload, provider) = (audit.as_deref(), workload.as_deref(), provider.as_deref());
        let (user, answer) = (user.as_deref(), *answer);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match outcome {
            // Most lines are this one, and pay for each byte: what goes without saying is not said (docs/performance.md).
            Ok(_) => tracing::info!(
                operation,
                principal,
                status = Some(status.as_u16()).filter(|status| *status != StatusCode::OK.as_u16()),
                micros,
                audit,
                workload,
                provider,
                user,
                answer,
                "served"
            ),
            Err(failure) => {
                let (status, error) = (failure.status.as_u16(), failure.name);
                let detail = failure.detail.as_deref().unwrap_or_default();
                if failure.status.is_server_error() {
                    tracing::error!(
                        operation, principal, status, error, detail, micros, audit, workload, provider, user,
                        "failed"
                    );
                } else {
                    tracing::info!(
                        operation, principal, status, error, detail, micros, audit, workload, provider, user,
                        "refused"
                    );
                }
            }
        }
    }
}

async fn put_on_record<T>(api: &Api, outcome: Result<T, Failure>) -> (Result<T, Failure>, Recorded) {
    let Some(trail) = &api.services.ports().trail else {
        return (outcome, Recorded::default());
    };
    match (trail.credential(outcome.as_ref().err().map(|failure| failure.name)).await, outcome) {
        (Ok(recorded), outcome) => (outcome, recorded),
        // Nobody may take this for an error after which to call again, and SDKs do that by themselves after others.
        (Err(unrecorded), Ok(_)) if audit::was_used() => {
            tracing::error!(%unrecorded, "a tool was called, and that is not on record");
            let message = "the tool was called, and that could not be put on record, so that its answer is not given; it may have been \
                           done: look before you call again";
            (Err(Failure::new("ConflictException", StatusCode::CONFLICT, message)), Recorded::default())
        }
        (Err(unrecorded), Ok(_)) => (Err(Error::from(unrecorded).into()), Recorded::default()),
        // Often for the same reason as the refusal: a store that is busy.
        (Err(unrecorded), Err(failure)) => {
            tracing::warn!(%unrecorded, "a refusal is not on record");
            (Err(failure), Recorded::default())
        }
    }
}

/// So much of a path that nobody knows is repeated.
fn shown(path: &str) -> String {
    path.chars().take(128).collect()
}

fn unknown(method: &Method, path: &str) -> Failure {
    let path = shown(path);
    Failure::new(
        "UnknownOperationException",
        StatusCode::NOT_FOUND,
        format!(
            "agent-identity does not serve {method} {path}: it has the Identity operations that its documentation lists. A client \
             for other parts of AgentCore needs an endpoint of its own"
        ),
    )
}

/// The operation exists, and this function is the wrong one: a route leads to it that should not.
fn elsewhere(operation: Operation) -> Failure {
    let (function, plane) = match operation.plane() {
        Plane::Control => ("credentials", "control"),
        Plane::Data => ("tokens", "data"),
        Plane::Tools => ("gateway", "tools"),
    };
    Failure::new(
        "UnknownOperationException",
        StatusCode::NOT_FOUND,
        format!(
            "this function does not serve {}: it is of the {plane} plane, which the function `{function}` serves",
            operation.name()
        ),
    )
}

/// Authorizes an action and hands its proof on.
pub(super) fn authorize<A: Action>(
    principal: &Principal,
    action: A,
) -> Result<agent_identity_core::grant::Authorized<'_, A>, Failure> {
    audit::note(|about| about.concerns(&action));
    Ok(principal.authorize(action)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_path_and_method_only() {
        assert_eq!(Operation::ALL.len(), 45);
        for operation in Operation::ALL {
            assert_eq!(Operation::of(&operation.method(), operation.path()), Some(*operation));
            let others = [Method::GET, Method::POST, Method::DELETE, Method::PUT];
            for method in others.iter().filter(|method| **method != operation.method()) {
                assert_ne!(Operation::of(method, operation.path()), Some(*operation));
            }
        }
        assert_eq!(Operation::of(&Method::GET, "/identities/GetWorkloadIdentity"), None);
        assert_eq!(Operation::of(&Method::PUT, "/tags/arn"), None);
        assert_eq!(Operation::of(&Method::POST, "/identities/getworkloadidentity"), None);
    }
}
