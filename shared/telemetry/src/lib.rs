//! JSON logs on stderr, with caps that no setting lifts.
//!
//! Not here: what is logged. Secrets are types that do not print (`core` has them), so redaction is not a
//! filter on text but the absence of a way to write them.

mod lambda;

use tracing::{Level, Metadata};
use tracing_subscriber::filter::{EnvFilter, ParseError, Targets, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

/// Crates that would log whole requests, headers and bodies included, at DEBUG or TRACE.
const TALKATIVE: [&str; 6] = ["aws", "h2", "hyper", "hyper_util", "rustls", "tower"];

/// Whether an event may be logged at all: talkative crates never below INFO, whatever the environment says.
fn admitted(metadata: &Metadata<'_>) -> bool {
    let root = metadata.target().split("::").next().unwrap_or_default();
    let talkative = TALKATIVE.contains(&root) || root.starts_with("aws_");
    !talkative || *metadata.level() <= Level::INFO
}

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The filter is none.
    #[error("--log is no log filter such as info or agent_identity_service=debug: {0}")]
    Filter(ParseError),
    /// Logging was started already.
    #[error("logging cannot be started: {0}")]
    Started(TryInitError),
}

/// What is logged on Lambda: INFO of our own crates, WARN of all others. The runtime's span has the request id.
const INFO_ON_LAMBDA: [&str; 8] = [
    "agent_identity_api",
    "agent_identity_aws",
    "agent_identity_inbound",
    "agent_identity_jose",
    "agent_identity_lambda",
    "agent_identity_service",
    "authorizer",
    "lambda_runtime",
];

/// For all layers at once: a filter of one layer alone is asked again for each span that a line stands in.
///
/// Not an [`EnvFilter`]: there is nothing to read, and its regular expressions would be a tenth of the authorizer.
fn on_lambda() -> Targets {
    Targets::new().with_default(Level::WARN).with_targets(INFO_ON_LAMBDA.map(|target| (target, Level::INFO)))
}

/// Whether a text is a log filter.
///
/// # Errors
/// The text says what is wrong with it.
pub fn check(filter: &str) -> Result<(), String> {
    EnvFilter::try_new(filter).map(drop).map_err(|error| error.to_string())
}

/// Sends logs to stderr as JSON lines. `filter` has the syntax of `tracing_subscriber::EnvFilter`, such as
/// `info` or `agent_identity_service=debug`.
///
/// # Errors
/// When the filter is none, or logging was started already.
pub fn start(filter: &str) -> Result<(), StartError> {
    let filter = EnvFilter::try_new(filter).map_err(StartError::Filter)?;
    let json = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(std::io::stderr)
        .with_filter(filter)
        .with_filter(filter_fn(admitted));
    tracing_subscriber::registry().with(json).try_init().map_err(StartError::Started)
}

/// Sends logs to stdout as JSON lines with the request id and X-Ray trace of the invocation, and metrics in the lines.
///
/// # Errors
/// When logging was started already.
pub fn start_on_lambda() -> Result<(), StartError> {
    tracing_subscriber::registry()
        .with(on_lambda())
        .with(lambda::JsonLines)
        .try_init()
        .map_err(StartError::Started)
}

/// The same for a function whose failures are answers, of which its own lines have told: without a second line for each of them.
///
/// # Errors
/// When logging was started already.
pub fn start_on_lambda_telling_failures() -> Result<(), StartError> {
    let lines =
        lambda::JsonLines.with_filter(filter_fn(|it| !repeats_a_failure(it))).with_filter(on_lambda());
    tracing_subscriber::registry().with(lines).try_init().map_err(StartError::Started)
}

/// Whether the event is what the runtime says when a handler gives an error. What it says of a panic has a field more.
fn repeats_a_failure(metadata: &Metadata<'_>) -> bool {
    metadata.is_event()
        && metadata.target() == "lambda_runtime::layers::panic"
        && metadata.fields().field("error").is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_and_a_panic_always() {
        struct Admitted(std::sync::Arc<std::sync::Mutex<Vec<bool>>>);
        impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Admitted {
            fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
                self.0.lock().unwrap().push(!repeats_a_failure(event.metadata()));
            }
        }
        let admitted = std::sync::Arc::default();
        let layer = Admitted(std::sync::Arc::clone(&admitted));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let error = "Unauthorized";
            // As `lambda_runtime` writes them.
            tracing::error!(target: "lambda_runtime::layers::panic", "{error:?}");
            tracing::error!(target: "lambda_runtime::layers::panic", ?error, "user handler panicked");
            tracing::error!(target: "lambda_runtime::layers::api_client", "{error:?}");
        });
        assert_eq!(*admitted.lock().unwrap(), [false, true, true]);
    }

    #[test]
    fn on_lambda_our_own_crates_speak_and_others_warn() {
        let filter = on_lambda();
        // The authorizer's own line comes from its binary.
        for ours in ["authorizer", "agent_identity_api::operations", "agent_identity_lambda::refresh"] {
            assert!(
                filter.would_enable(ours, &Level::INFO) && !filter.would_enable(ours, &Level::DEBUG),
                "{ours}"
            );
        }
        // Its span has the request id.
        assert!(filter.would_enable("lambda_runtime::layers::otel", &Level::INFO));
        for other in ["aws_smithy_runtime", "hyper_util::client", "rustls"] {
            assert!(
                filter.would_enable(other, &Level::WARN) && !filter.would_enable(other, &Level::INFO),
                "{other}"
            );
        }
    }
}
