//! The wire of `agent-identity`: rest-json operations, errors, SigV4, the browser's endpoints.
//!
//! [`router`] makes one axum router from an [`Api`] value; the same router serves the laptop and Lambda.

mod agent;
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

pub use agent::{MCP_PATH, METADATA, Sessions, TOOL_PATH, agent_routes, protected_resource};
pub use authenticate::iam::{Gateway, GatewayCaller, IamPrincipals};
pub use authenticate::{AccessKeys, Authenticate};
pub use failure::Failure;
pub use gate::{Hosts, RequestId, one_value};
pub use operations::{parse_authorizer, parse_tool, shown_tool, shown_usage};
pub use tokio_util::sync::CancellationToken;
pub use tokio_util::task::TaskTracker;

/// What the router serves.
#[derive(Clone)]
pub struct Api {
    /// The use cases.
    pub services: Arc<Services>,
    /// Who signed a request.
    pub authenticate: Arc<dyn Authenticate>,
    /// Which `Host` headers are served (D21).
    pub hosts: Hosts,
    /// Work that goes on when its client has gone: a refresh must reach the store. Wait for it before the process ends.
    pub work: TaskTracker,
    /// Cancelled when the process is about to end: half-sent requests are not waited for.
    pub stopping: CancellationToken,
}

/// Which operations a process serves: a function has the permissions, and the code, of its own part only.
pub trait Surface: Copy + Send + Sync + 'static {
    /// Managing workloads, providers, rules and tools.
    const CONTROL: bool;
    /// Getting tokens and keys, and the browser's endpoints.
    const DATA: bool;
    /// Calling tools.
    const TOOLS: bool;
}

macro_rules! surfaces {
    ($($(#[$doc:meta])* $name:ident $control:literal $data:literal $tools:literal,)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug)]
            pub struct $name;

            impl Surface for $name {
                const CONTROL: bool = $control;
                const DATA: bool = $data;
                const TOOLS: bool = $tools;
            }
        )*
    };
}

surfaces! {
    /// All of them.
    All true true true,
    /// The control plane.
    Control true false false,
    /// The data plane.
    Data false true false,
    /// Calls of tools.
    Tools false false true,
}

/// The routes of a surface, and `more` of the binary's own, which pass the same gate.
pub fn router<S: Surface>(api: Api, more: Router<Api>) -> Router {
    use agent_identity_service::consent::{AUTHORIZE_PATH, CALLBACK_PATH, RETURN_PATH};
    let browser = if S::DATA {
        Router::new()
            .route(AUTHORIZE_PATH, get(browser::open).post(browser::begin))
            .route(&format!("{CALLBACK_PATH}{{provider}}"), get(browser::callback))
            .route(RETURN_PATH, get(browser::returned))
    } else {
        Router::new()
    };
    Router::new()
        .route(gate::HEALTH, get(gate::health))
        .merge(browser)
        .merge(more)
        .fallback(any(operations::serve::<S>))
        .method_not_allowed_fallback(any(operations::serve::<S>))
        .layer(axum::middleware::from_fn_with_state(api.clone(), gate::pass))
        .with_state(api)
}
