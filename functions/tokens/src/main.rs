//! The data plane on Lambda: workload access tokens, OAuth2 tokens, API keys, and the browser's endpoints.

use agent_identity_lambda::StartError;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), StartError> {
    agent_identity_lambda::serve::<agent_identity_api::Data>().await
}
