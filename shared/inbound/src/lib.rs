//! `AuthorizeRequest`: may the bearer of this token speak to this agent?
//!
//! It is what the authorizer function runs, so it knows `core` and nothing else: no axum, no OAuth, no cache library. It verifies, and may
//! issue a workload access token for who has passed. What is
//! *not* here: the events of API Gateway and where the agent's name is in them (the function's), how a token is verified
//! (`jose`, through the port), and writing authorizers (`service`).

mod authorize;
mod bearer;
mod cache;
mod denials;
mod peek;

pub use authorize::{AuthorizeRequest, Minting, Outcome, SessionContext, VerifiedSession};
pub use bearer::bearer_token;
pub use cache::{MAX_AGENTS, RULES_LIFE};
