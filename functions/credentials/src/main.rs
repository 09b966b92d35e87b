//! The control plane on Lambda: workload identities, credential providers, authorizers.

use agent_identity_lambda::StartError;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), StartError> {
    agent_identity_lambda::serve::<agent_identity_api::Control>().await
}
