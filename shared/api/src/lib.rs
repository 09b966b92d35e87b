//! The wire of `agent-identity`: rest-json operations, errors, SigV4, the browser's endpoints.
//!
//! [`router`] makes one axum router from an [`Api`] value; the same router serves the laptop and Lambda.

mod authenticate;
mod browser;
mod failure;
mod fields;
mod gate;
mod operations;
pub mod sigv4;

use std::sync::Arc;

use agent_identity_service::Services;
use axum::Router;
use axum::routing::{any, get};

pub use authenticate::iam::{Gateway, GatewayCaller, IamPrincipals};
pub use authenticate::{AccessKeys, Authenticate};
pub use failure::Failure;
pub use gate::{Hosts, RequestId};
pub use operations::parse_authorizer;
pub use tokio_util::sync::CancellationToken;
pub use tokio_util::task::TaskTracker;

/// What the router serves.
#[derive(Clone)]
pub struct Api {
    /// The use cases.
    pub services: Arc<Services>,
    /// Who signed a request.
    pub authenticate: Arc<dyn Authenticate>,
    /// Which operations it serves.
    pub surface: Surface,
    /// Which `Host` headers are served (D21).
    pub hosts: Hosts,
    /// Work that goes on when its client has gone: a refresh must reach the store. Wait for it before the process ends.
    pub work: TaskTracker,
    /// Cancelled when the process is about to end: half-sent requests are not waited for.
    pub stopping: CancellationToken,
}

/// Which operations a process serves: a function has the permissions of its own half only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// All of them, and the browser's endpoints.
    All,
    /// Managing workloads, providers and rules.
    Control,
    /// Getting tokens and keys, and the browser's endpoints.
    Data,
}

/// The routes, and `more` of the binary's own, which pass the same gate.
pub fn router(api: Api, more: Router<Api>) -> Router {
    use agent_identity_service::consent::{AUTHORIZE_PATH, CALLBACK_PATH, RETURN_PATH};
    let browser = match api.surface {
        Surface::Control => Router::new(),
        Surface::All | Surface::Data => Router::new()
            .route(AUTHORIZE_PATH, get(browser::open).post(browser::begin))
            .route(&format!("{CALLBACK_PATH}{{provider}}"), get(browser::callback))
            .route(RETURN_PATH, get(browser::returned)),
    };
    Router::new()
        .route(gate::HEALTH, get(gate::health))
        .merge(browser)
        .merge(more)
        .fallback(any(operations::serve))
        .method_not_allowed_fallback(any(operations::serve))
        .layer(axum::middleware::from_fn_with_state(api.clone(), gate::pass))
        .with_state(api)
}
