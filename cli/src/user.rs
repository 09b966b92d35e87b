//! `agent-identity user`: banning users now, and not when their tokens end (D15).

use std::sync::Arc;

use agent_identity_core::WorkloadName;
use agent_identity_core::name::UserId;
use agent_identity_service::Services;
use agent_identity_service::denial::{Ban, BlockUser, NamedUser, SignOutUser, UnblockUser};
use agent_identity_service::revocation::OffboardUser;
use clap::Subcommand;
use serde_json::json;

use crate::store::{ReachArgs, StoreArgs, administrator};
use crate::{CommandResult, connections, output};

/// Options of `user`.
#[derive(Debug, clap::Args)]
pub struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Let a user in no more
    Block(BanArgs),
    /// Let a user in again; a sign-out stays
    Unblock(BanArgs),
    /// Make a user sign in again
    SignOut(BanArgs),
    /// Let a user in no more, for any agent, and delete all their connections
    Offboard(OfUserArgs),
}

#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("who").required(true).multiple(true).args(["issuer", "user_id"])))]
struct OfUserArgs {
    #[command(flatten)]
    who: WhoArgs,
    #[command(flatten)]
    reach: Box<ReachArgs>,
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A user, by the name that they are known by.
#[derive(Clone, Debug, clap::Args)]
pub struct WhoArgs {
    /// The issuer of the user's tokens
    #[arg(long, value_name = "URL", requires = "subject")]
    issuer: Option<String>,
    /// The value of the claim that names the user there
    #[arg(long, value_name = "TEXT", requires = "issuer")]
    subject: Option<String>,
    /// A user that callers vouch for, by id
    #[arg(long, value_name = "ID", conflicts_with_all = ["issuer", "subject"], value_parser = UserId::parse)]
    user_id: Option<UserId>,
}

impl WhoArgs {
    fn named(&self) -> CommandResult<NamedUser> {
        Ok(self.user().ok_or("name the user by --issuer and --subject, or by --user-id")?)
    }

    /// Whom, if anybody was named.
    pub fn user(&self) -> Option<NamedUser> {
        match (&self.issuer, &self.subject, &self.user_id) {
            (Some(issuer), Some(subject), _) => {
                Some(NamedUser::Jwt { issuer: issuer.clone(), subject: subject.clone() })
            }
            (_, _, user_id) => user_id.clone().map(NamedUser::UserId),
        }
    }
}

#[derive(Debug, clap::Args)]
struct BanArgs {
    /// For this agent alone [default: for all]
    #[arg(long, value_name = "AGENT", value_parser = WorkloadName::parse)]
    agent: Option<WorkloadName>,
    #[command(flatten)]
    of: OfUserArgs,
}

impl BanArgs {
    async fn opened(&self) -> CommandResult<(Arc<Services>, Option<WorkloadName>, NamedUser)> {
        let user = self.of.who.named()?;
        Ok((self.of.store.reaching(&self.of.reach).await?, self.agent.clone(), user))
    }
}

/// Runs the command.
///
/// # Errors
/// When the store cannot be used, or there is no such agent.
pub async fn run(args: UserArgs) -> CommandResult {
    let admin = administrator();
    match args.command {
        UserCommand::Block(args) => {
            let (services, agent, user) = args.opened().await?;
            let ban = services.block_user(admin.authorize(BlockUser { agent, user })?).await?;
            told(&args, &ban, "is blocked")
        }
        UserCommand::Unblock(args) => {
            let (services, agent, user) = args.opened().await?;
            let ban = services.unblock_user(admin.authorize(UnblockUser { agent, user })?).await?;
            told(&args, &ban, "is not blocked")
        }
        UserCommand::SignOut(args) => {
            let (services, agent, user) = args.opened().await?;
            let ban = services.sign_out_user(admin.authorize(SignOutUser { agent, user })?).await?;
            told(&args, &ban, "is signed out")
        }
        UserCommand::Offboard(args) => offboard(args).await,
    }
}

/// Calls again until all is deleted, and says each as it is.
async fn offboard(args: OfUserArgs) -> CommandResult {
    let (admin, user) = (administrator(), args.who.named()?);
    let services = args.store.reaching(&args.reach).await?;
    let mut deleted = Vec::new();
    loop {
        let action = OffboardUser { user: user.clone() };
        let gone = services.offboard_user(admin.authorize(action)?).await?;
        if !args.json {
            for connection in &gone.deleted {
                output::print(&connections::told(connection))?;
            }
        }
        deleted.extend(gone.deleted);
        if gone.complete {
            break;
        }
    }
    if args.json {
        let ended: Vec<_> = deleted.iter().map(connections::ended).collect();
        return output::print(&json!({ "blocked": true, "connections": ended }).to_string());
    }
    let count = deleted.len();
    output::print(&format!(
        "the user is blocked for all agents, which holds within 30 seconds; {count} connections were deleted"
    ))
}

fn told(args: &BanArgs, ban: &Ban, done: &str) -> CommandResult {
    if args.of.json {
        let shown = json!({
            "agentId": args.agent,
            "blocked": ban.denial.blocked,
            "notBefore": ban.denial.not_before.map(|at| at.as_seconds_f64()),
            "subjectClaim": ban.subject_claim,
        });
        return output::print(&shown.to_string());
    }
    let agent = args.agent.as_ref().map_or_else(|| "all agents".to_owned(), WorkloadName::to_string);
    let known = ban.subject_claim.as_ref().map_or_else(String::new, |claim| format!(", known by {claim},"));
    output::print(&format!("the user{known} {done} for {agent}; it holds within 30 seconds"))
}
