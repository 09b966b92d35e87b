//! Issuing and opening workload access tokens (D20).

use std::sync::Arc;

use agent_identity_core::authorizer::{AgentRules, KeyOwner, KeyPurpose};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Action, Authorized, Role};
use agent_identity_core::issuer::{TokenRefused, VerifiedToken, without_slash};
use agent_identity_core::name::UserId;
use agent_identity_core::seal::{Context, Purpose, SealError};
use agent_identity_core::store::Consistency;
use agent_identity_core::user::{UserKey, UserName};
use agent_identity_core::wat::{MintedWat, WatClaims, WatUser};
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, Id, Result, Secret, Timestamp, WorkloadName, encoding};

use zeroize::Zeroizing;

use crate::Services;
use crate::audit::note;
use crate::directory::not_found;
use crate::read_ahead::Wanted;

/// Gets a token of the workload alone.
#[derive(Clone, Debug)]
pub struct IssueWorkloadToken {
    /// The workload.
    pub workload: WorkloadName,
}

/// Gets a token for the user whose JWT it is.
#[derive(Clone, Debug)]
pub struct IssueWorkloadTokenForJwt {
    /// The workload.
    pub workload: WorkloadName,
    /// The user's token.
    pub user_token: Secret,
}

/// Gets a token for a user that the caller vouches for.
#[derive(Clone, Debug)]
pub struct IssueWorkloadTokenForUserId {
    /// The workload.
    pub workload: WorkloadName,
    /// The user.
    pub user_id: UserId,
}

macro_rules! minting {
    ($type:ty, $operation:literal, $role:ident) => {
        impl Action for $type {
            const OPERATION: &'static str = $operation;

            fn role(&self) -> Role {
                Role::$role
            }

            fn workload(&self) -> Option<&WorkloadName> {
                Some(&self.workload)
            }
        }
    };
}
minting!(IssueWorkloadToken, "GetWorkloadAccessToken", MintJwt);
minting!(IssueWorkloadTokenForJwt, "GetWorkloadAccessTokenForJWT", MintJwt);
minting!(IssueWorkloadTokenForUserId, "GetWorkloadAccessTokenForUserId", MintUserid);

/// An opened workload access token, with its workload.
#[derive(Clone, Debug)]
pub(crate) struct Bearer {
    pub(crate) claims: WatClaims,
    pub(crate) workload: Arc<Workload>,
}

impl Bearer {
    /// D20: past the end of the JWT behind it, a token may only poll the sessions that it started.
    ///
    /// # Errors
    /// `Unauthorized`.
    pub(crate) fn alive(&self, now: Timestamp) -> Result<()> {
        match self.claims.jwt_expires_at {
            Some(end) if now >= end => Err(Error::new(
                ErrorKind::Unauthorized,
                "the workload access token is not accepted: the user token behind it has ended; get a new one",
            )),
            _ => Ok(()),
        }
    }
}

/// The action of reading a credential of a provider, for the workload that a workload access token names.
macro_rules! reading {
    ($type:ident, $operation:literal) => {
        struct $type {
            workload: agent_identity_core::WorkloadName,
            provider: agent_identity_core::ProviderName,
        }

        impl $type {
            fn by(
                bearer: &crate::workload_token::Bearer,
                provider: &agent_identity_core::ProviderName,
            ) -> Self {
                Self { workload: bearer.workload.name.clone(), provider: provider.clone() }
            }
        }

        impl agent_identity_core::grant::Action for $type {
            const OPERATION: &'static str = $operation;

            fn role(&self) -> agent_identity_core::grant::Role {
                agent_identity_core::grant::Role::Read
            }

            fn workload(&self) -> Option<&agent_identity_core::WorkloadName> {
                Some(&self.workload)
            }

            fn provider(&self) -> Option<&agent_identity_core::ProviderName> {
                Some(&self.provider)
            }
        }
    };
}
pub(crate) use reading;

const WAT_LABEL: &str = "workload access token";

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Unauthorized, format!("the workload access token is not accepted: {why}"))
}

fn not_ours() -> Error {
    refused("it was not issued here, or was changed")
}

fn claims_of(opened: Result<Zeroizing<Vec<u8>>, SealError>) -> Result<WatClaims> {
    match opened {
        Ok(plaintext) => serde_json::from_slice(&plaintext).map_err(|_not_claims| not_ours()),
        Err(SealError::Broken | SealError::Lost) => Err(not_ours()),
        Err(error) => Err(error.into()),
    }
}

impl Services {
    /// Issues a token of the workload alone.
    ///
    /// # Errors
    /// `NotFound` for an unknown workload.
    pub async fn issue_workload_token(
        &self,
        authorized: Authorized<'_, IssueWorkloadToken>,
    ) -> Result<Secret> {
        self.mint(&authorized.action().workload, None).await
    }

    /// Issues a token for the user whose JWT passes: one of the workload's authorizers, or, where it has none, the rules of
    /// the deployment (D4).
    ///
    /// # Errors
    /// `NotFound`; `Unauthorized` when the JWT does not pass; `Throttling` when its issuer's keys cannot be read now.
    pub async fn issue_workload_token_for_jwt(
        &self,
        authorized: Authorized<'_, IssueWorkloadTokenForJwt>,
    ) -> Result<Secret> {
        let IssueWorkloadTokenForJwt { workload, user_token } = authorized.action();
        let user = self.prove(workload, user_token).await?;
        self.mint(workload, Some(user)).await
    }

    /// Issues a token for a user that the caller vouches for.
    ///
    /// # Errors
    /// `NotFound` for an unknown workload.
    pub async fn issue_workload_token_for_user_id(
        &self,
        authorized: Authorized<'_, IssueWorkloadTokenForUserId>,
    ) -> Result<Secret> {
        let IssueWorkloadTokenForUserId { workload, user_id } = authorized.action();
        let signed_in_at = Some(self.now());
        let user =
            WatUser { key: self.key_of_user_id(user_id), issuer: None, expires_at: None, signed_in_at };
        self.mint(workload, Some(user)).await
    }

    /// The key of a user that the caller vouches for.
    pub(crate) fn key_of_user_id(&self, user_id: &UserId) -> UserKey {
        self.user_key(&UserName::UserId(user_id.as_str().to_owned()))
    }

    /// The key of the user whose JWT passes for this workload, and who is let in.
    pub(crate) async fn key_of_user_token(
        &self,
        workload: &Workload,
        user_token: &Secret,
    ) -> Result<UserKey> {
        let user = self.prove(&workload.name, user_token).await?;
        self.let_in(user.key, workload.id, user.signed_in_at).await?;
        Ok(user.key)
    }

    pub(crate) fn user_key(&self, name: &UserName) -> UserKey {
        name.key(&*self.ports.digest)
    }

    async fn prove(&self, workload: &WorkloadName, user_token: &Secret) -> Result<WatUser> {
        let rules = self.agent_rules(workload, Consistency::Strong).await?;
        let token = if rules.is_empty() {
            let token = self.ports.verifier.verify(user_token, &self.config.issuers).await?;
            self.known_by(&token).await?;
            token
        } else {
            rules.judge(&*self.ports.verifier, user_token).await?.claims.token
        };
        let signed_in_at = token.signed_in_at();
        let name = UserName::Jwt {
            issuer: token.issuer.clone(),
            subject_claim: token.subject_claim,
            subject: token.subject,
        };
        Ok(WatUser {
            key: self.user_key(&name),
            issuer: Some(token.issuer),
            expires_at: Some(token.expires_at),
            signed_in_at,
        })
    }

    /// D10: a user has one name, whichever way their token came in. An issuer whose users are known by another claim than the
    /// deployment's rules say lets nobody in by these.
    async fn known_by(&self, token: &VerifiedToken) -> Result<()> {
        let issuer = without_slash(&token.issuer);
        let read = async {
            let record = self.issuer_record(issuer, Consistency::Eventual).await?;
            Ok(record.map(|record| record.subject_claim))
        };
        match self.caches.subject_claims.get(issuer, read).await? {
            Some(claim) if claim != token.subject_claim => Err(TokenRefused::Invalid {
                code: "subject_claim",
                reason: format!(
                    "users of its issuer are known by `{claim}`, which an authorizer says, and the deployment's rules say `{}`",
                    token.subject_claim
                ),
            }
            .into()),
            _ => Ok(()),
        }
    }

    /// The authorizers of a workload, as they were at most one cache life ago.
    pub(crate) async fn agent_rules(
        &self,
        workload: &WorkloadName,
        consistency: Consistency,
    ) -> Result<Arc<AgentRules>> {
        let issuers = self.trusted_issuers();
        let read = async {
            Ok(Arc::new(AgentRules::read(&*self.ports.store, workload, issuers, consistency).await?))
        };
        self.caches.agent_rules.get(workload, read).await
    }

    async fn mint(&self, workload: &WorkloadName, user: Option<WatUser>) -> Result<Secret> {
        let workload = self.workload_named(workload).await?;
        if let Some(user) = &user {
            note(|about| about.user = Some(user.key));
            self.let_in(user.key, workload.id, user.signed_in_at).await?;
        }
        let claims = WatClaims::issue(&*self.ports.random, self.now(), workload.id, workload.epoch, user);
        let plaintext = serde_json::to_vec(&claims).map_err(Error::internal)?;
        let sealed = self.ports.sealer.seal(Purpose::Wat, &Context::new(WAT_LABEL, []), &plaintext).await?;
        Ok(Secret::new(encoding::base64url(sealed)))
    }

    /// The workload of a name, as it was at most one cache life ago.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) async fn workload_named(&self, name: &WorkloadName) -> Result<Arc<Workload>> {
        let name = name.as_str();
        let read = async { Ok(self.id_of::<Workload>(name, Consistency::Eventual).await?.value) };
        let id = self.caches.workload_names.get(name, read).await?;
        self.live_workload(id).await?.ok_or_else(|| not_found::<Workload>(name))
    }

    /// A workload as it is, at most one cache life ago.
    pub(crate) async fn live_workload(&self, id: Id<Workload>) -> Result<Option<Arc<Workload>>> {
        let read = async {
            match self.by_id::<Workload>(id, Consistency::Eventual).await? {
                Some(stored) => Ok(Arc::new(stored.value)),
                None => Err(Error::new(ErrorKind::NotFound, "the workload identity was deleted")),
            }
        };
        match self.caches.workloads.get(&id, read).await {
            Ok(workload) => Ok(Some(workload)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens a workload access token that was sealed here and has not ended.
    ///
    /// # Errors
    /// `Unauthorized`.
    pub(crate) async fn open_workload_token(&self, sealed: &[u8]) -> Result<WatClaims> {
        let claims = match MintedWat::parse(sealed) {
            Some(minted) => self.open_minted(&minted).await?,
            None => {
                claims_of(self.ports.sealer.open(Purpose::Wat, &Context::new(WAT_LABEL, []), sealed).await)?
            }
        };
        if self.now() >= claims.expires_at {
            return Err(refused("it has ended; get a new one"));
        }
        Ok(claims)
    }

    /// Opens what an authorizer has issued (D16): with a key that one of the agent's authorizers has now, and for the workload
    /// that the authorizer is for.
    async fn open_minted(&self, minted: &MintedWat<'_>) -> Result<WatClaims> {
        let keys = self.ports.authorizer_keys.as_ref().ok_or_else(not_ours)?;
        let mut rules = self.agent_rules(&minted.agent, Consistency::Eventual).await?;
        if rules.minting_key(minted.key).is_none() {
            // The authorizer may be newer than what is in memory.
            self.caches.agent_rules.forget(&minted.agent).await;
            rules = self.agent_rules(&minted.agent, Consistency::Strong).await?;
        }
        let (Some(key), Some(workload)) = (rules.minting_key(minted.key), rules.workload()) else {
            return Err(refused("the authorizer that issued it is not there any more"));
        };
        let owner = KeyOwner { workload, purpose: KeyPurpose::Mint };
        let context = MintedWat::context(minted.key, &minted.agent);
        let claims = claims_of(keys.open(owner, key, &context, minted.sealed).await)?;
        if claims.workload != workload || claims.user.is_none() {
            return Err(not_ours());
        }
        Ok(claims)
    }

    /// Opens a workload access token and checks that it is alive: not ended, its workload not deleted, its epoch current, its
    /// user not banned (D15).
    ///
    /// # Errors
    /// `Unauthorized`; `AccessDenied` for a blocked user.
    pub(crate) async fn bearer(&self, token: &Secret, wanted: Option<Wanted<'_>>) -> Result<Bearer> {
        let sealed = encoding::unbase64url(token.expose()).ok_or_else(not_ours)?;
        let is_cold = match wanted {
            Some(wanted) => self.read_ahead_of_bearer(token, &sealed, wanted).await,
            None => false,
        };
        let claims = self.open_workload_token(&sealed).await?;
        if let Some(wanted) = wanted {
            self.read_ahead_of_credential(&claims, &sealed, wanted, is_cold).await;
        }
        let workload = self
            .live_workload(claims.workload)
            .await?
            .ok_or_else(|| refused("its workload identity was deleted"))?;
        note(|about| {
            about.workload = Some(workload.name.clone());
            about.user = claims.user;
        });
        if workload.epoch != claims.epoch {
            return Err(refused("its workload identity has ended all tokens issued before; get a new one"));
        }
        if let Some(user) = claims.user {
            self.let_in(user, workload.id, claims.sign_in()).await?;
        }
        Ok(Bearer { claims, workload })
    }
}
