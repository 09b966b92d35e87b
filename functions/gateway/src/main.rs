//! Tools on Lambda: called with the credential injected, for who has signed a request or for the users of an agent, also over MCP.

use agent_identity_lambda::StartError;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), StartError> {
    agent_identity_lambda::serve::<agent_identity_api::Tools>().await
}
