//! What the functions share: their environment, the use cases composed from the adapters on AWS, events in and answers out.
//!
//! What is *not* here: rules and use cases (`core`, `service`), and the authorizer, which links none of this so that it starts
//! fast.

mod compose;
mod environment;
#[cfg(feature = "runtime")]
mod http;
#[cfg(feature = "runtime")]
mod refresh;
#[cfg(feature = "runtime")]
mod session;

pub use compose::{Composed, SignerOf, kms_signer};
pub use environment::{Environment, EnvironmentError, PrincipalSource, variable};
#[cfg(feature = "runtime")]
pub use http::serve;
#[cfg(feature = "runtime")]
pub use refresh::refresh;

#[cfg(feature = "runtime")]
use agent_identity_service::audit::Life;

/// Why a function does not start.
pub type StartError = Box<dyn std::error::Error + Send + Sync>;

/// Starts the log, then composes the use cases; what keeps the function from starting is in the log.
#[cfg(feature = "runtime")]
fn start<T>(
    sign: Option<SignerOf>,
    compose: impl FnOnce(Composed) -> Result<T, StartError>,
) -> Result<T, StartError> {
    agent_identity_telemetry::start_on_lambda()?;
    let started = Environment::read(variable)
        .map_err(StartError::from)
        .and_then(|environment| compose(Composed::new(&environment, Life::Long, sign)));
    started.inspect_err(|error| tracing::error!(%error, "the function cannot start"))
}
