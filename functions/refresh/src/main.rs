//! The scheduled refresh on Lambda: ticks of the schedule and messages of the queue.

use agent_identity_lambda::StartError;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), StartError> {
    agent_identity_lambda::refresh().await
}
