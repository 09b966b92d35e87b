//! Banning users now (D15): the operations, and the check at every use of a user's token.

use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::denial::{Denied, MAX_AGE, UserDenial, UserDenials, denies};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Action, Authorized, Role};
use agent_identity_core::issuer::{default_subject_claim, without_slash};
use agent_identity_core::name::UserId;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::store::{Condition, Consistency, Key, StoreError};
use agent_identity_core::user::{UserKey, UserName};
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, Id, Result, Timestamp, WorkloadName};
use moka::future::Cache;

use crate::audit::note;
use crate::directory::ATTEMPTS;
use crate::{Config, Services};

/// Whom a ban is about.
#[derive(Clone, Debug)]
pub enum NamedUser {
    /// Known by the JWTs of an issuer.
    Jwt {
        /// The issuer. With and without a terminating slash it is one.
        issuer: String,
        /// The value of the claim that names its users.
        subject: String,
    },
    /// Vouched for by callers.
    UserId(UserId),
}

macro_rules! on_user {
    ($(#[$doc:meta] $type:ident $operation:literal,)*) => {$(
        #[$doc]
        #[derive(Clone, Debug)]
        pub struct $type {
            /// For which agent; for all of them if it is `None`.
            pub agent: Option<WorkloadName>,
            /// Whom.
            pub user: NamedUser,
        }

        impl Action for $type {
            const OPERATION: &'static str = $operation;

            fn role(&self) -> Role {
                Role::Admin
            }

            fn workload(&self) -> Option<&WorkloadName> {
                self.agent.as_ref()
            }

            fn concerns_all_workloads(&self) -> bool {
                self.agent.is_none()
            }
        }
    )*};
}
on_user! {
    /// Lets a user in no more.
    BlockUser "BlockUser",
    /// Lets a user in again; a sign-out stays.
    UnblockUser "UnblockUser",
    /// Makes a user sign in again: what they signed in before is worth nothing.
    SignOutUser "SignOutUser",
}

/// What stands against a user now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// For the agent, or for all.
    pub denial: UserDenial,
    /// By which claim the user is known, if by a JWT (D10).
    pub subject_claim: Option<String>,
}

/// Users, at most.
const CAPACITY: u64 = 10_000;

/// What stands against users, each as it was when it was read.
pub(crate) struct Denials {
    known: Cache<UserKey, Arc<Known>>,
    life: Duration,
}

struct Known {
    /// `Clock::elapsed` before it was read.
    read_at: Duration,
    records: UserDenials,
}

impl Denials {
    pub(crate) fn new(config: &Config) -> Self {
        let known = Cache::builder().max_capacity(CAPACITY).time_to_live(MAX_AGE).build();
        Self { known, life: config.record_cache }
    }

    /// What was read at most so long ago.
    async fn known(&self, user: UserKey, now: Duration, age: Duration) -> Option<Arc<Known>> {
        self.known.get(&user).await.filter(|known| now.saturating_sub(known.read_at) < age)
    }
}

impl Services {
    /// The row of denials that a use of this user's token will read.
    pub(crate) async fn missing_denials(&self, user: UserKey) -> Option<Key> {
        let (denials, now) = (&self.caches.denials, self.ports.clock.elapsed());
        match denials.known(user, now, denials.life).await {
            Some(_) => None,
            None => Some(UserDenials::key(user)),
        }
    }

    /// Lets a user in who signed in at this time, or not (D15): by what stood against them at most one cache life ago, or at most
    /// five minutes ago while the store does not answer.
    ///
    /// # Errors
    /// `AccessDenied` when they are blocked, `Unauthorized` when they must sign in again; those of the store.
    pub(crate) async fn let_in(
        &self,
        user: UserKey,
        workload: Id<Workload>,
        signed_in_at: Option<Timestamp>,
    ) -> Result<()> {
        let known = self.denials(user).await?;
        match denies(known.records.of(workload), signed_in_at, None) {
            None => Ok(()),
            Some(denied) => {
                let kind = match denied {
                    Denied::Blocked => ErrorKind::AccessDenied,
                    Denied::SignedOut => ErrorKind::Unauthorized,
                };
                Err(Error::new(kind, denied.reason()).with_detail(denied.as_str()))
            }
        }
    }

    async fn denials(&self, user: UserKey) -> Result<Arc<Known>> {
        let (denials, now) = (&self.caches.denials, self.ports.clock.elapsed());
        if let Some(known) = denials.known(user, now, denials.life).await {
            return Ok(known);
        }
        match self.read_denials(user).await {
            Ok(records) => {
                let known = Arc::new(Known { read_at: now, records });
                denials.known.insert(user, Arc::clone(&known)).await;
                Ok(known)
            }
            Err(error) => denials.known(user, now, MAX_AGE).await.ok_or(error),
        }
    }

    async fn read_denials(&self, user: UserKey) -> Result<UserDenials> {
        let row = self.ports.store.get(&UserDenials::key(user), Consistency::Eventual).await?;
        UserDenials::of_row(row.as_ref())
    }

    /// Blocks a user: no token of theirs is believed any more, within 30 seconds, for an agent or for all.
    ///
    /// # Errors
    /// `NotFound` for an unknown agent; `Conflict` when others keep writing.
    pub async fn block_user(&self, authorized: Authorized<'_, BlockUser>) -> Result<Ban> {
        let BlockUser { agent, user } = authorized.into_action();
        self.ban(agent, &user, |before| UserDenial { blocked: true, ..before }).await
    }

    /// Takes a block from a user.
    ///
    /// # Errors
    /// As [`Services::block_user`].
    pub async fn unblock_user(&self, authorized: Authorized<'_, UnblockUser>) -> Result<Ban> {
        let UnblockUser { agent, user } = authorized.into_action();
        self.ban(agent, &user, |before| UserDenial { blocked: false, ..before }).await
    }

    /// Signs a user out: tokens of sign-ins until now are not believed any more, within 30 seconds.
    ///
    /// # Errors
    /// As [`Services::block_user`].
    pub async fn sign_out_user(&self, authorized: Authorized<'_, SignOutUser>) -> Result<Ban> {
        let SignOutUser { agent, user } = authorized.into_action();
        let now = self.now();
        self.ban(agent, &user, |before| UserDenial { not_before: before.not_before.max(Some(now)), ..before })
            .await
    }

    pub(crate) async fn ban(
        &self,
        agent: Option<WorkloadName>,
        user: &NamedUser,
        change: impl Fn(UserDenial) -> UserDenial,
    ) -> Result<Ban> {
        let workload = match &agent {
            Some(name) => Some(self.id_of::<Workload>(name.as_str(), Consistency::Strong).await?.value),
            None => None,
        };
        let (users, subject_claim) = self.keys_of(user).await?;
        note(|about| {
            about.workload.clone_from(&agent);
            about.user = users.first().copied();
        });
        for _ in 0..ATTEMPTS {
            let (mut writes, mut after) = (Vec::new(), UserDenial::default());
            for user in &users {
                let key = UserDenials::key(*user);
                let stored: Option<Stored<UserDenials>> =
                    record::get(&*self.ports.store, &key, Consistency::Strong).await?;
                let mut all = stored.as_ref().map(|stored| stored.value.clone()).unwrap_or_default();
                after = all.change(workload, &change);
                match stored {
                    Some(stored) if all.is_nothing() => writes.push(stored.delete()),
                    Some(stored) => writes.push(stored.replace(&all, None, None)?),
                    None if all.is_nothing() => {}
                    None => writes.push(record::put(key, Condition::Absent, &all, None, None)?),
                }
            }
            match self.ports.store.write(writes).await {
                Err(StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    self.caches.denials.known.invalidate_all();
                    return Ok(Ban { denial: after, subject_claim });
                }
            }
        }
        Err(StoreError::Conflict(0).into())
    }

    /// All keys that the user may be known by, so that no way in is forgotten: the issuer with and without a terminating slash, and
    /// each claim that is said to name its users.
    pub(crate) async fn keys_of(&self, user: &NamedUser) -> Result<(Vec<UserKey>, Option<String>)> {
        let (issuer, subject) = match user {
            NamedUser::UserId(user_id) => return Ok((vec![self.key_of_user_id(user_id)], None)),
            NamedUser::Jwt { issuer, subject } => (without_slash(issuer), subject),
        };
        let recorded = self.issuer_record(issuer, Consistency::Strong).await?.map(|it| it.subject_claim);
        let configured = self.trusted_issuers().iter().filter(|it| without_slash(&it.issuer) == issuer);
        let mut claims: Vec<String> =
            recorded.into_iter().chain(configured.map(|it| it.subject_claim.clone())).collect();
        if claims.is_empty() {
            claims.push(default_subject_claim());
        }
        let first = claims.first().cloned();
        claims.sort();
        claims.dedup();
        let mut keys = Vec::new();
        for subject_claim in claims {
            for issuer in [issuer.to_owned(), format!("{issuer}/")] {
                let name =
                    UserName::Jwt { issuer, subject_claim: subject_claim.clone(), subject: subject.clone() };
                keys.push(self.user_key(&name));
            }
        }
        Ok((keys, first))
    }
}
