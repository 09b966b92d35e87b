//! Getting an OAuth2 token out of the vault: M2M and USER_FEDERATION (`design.md` 7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use agent_identity_core::connection::{Connection, ConnectionTarget, Health};
use agent_identity_core::consent::{ConsentSession, SessionUri, Stage};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::Principal;
use agent_identity_core::name::{Label, Scope};
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::record::{self, Stored};
use agent_identity_core::refresh::Decision;
use agent_identity_core::store::{Consistency, Key};
use agent_identity_core::user::UserKey;
use agent_identity_core::workload::ReturnUrl;
use agent_identity_core::{Error, ProviderName, Result, Secret};
use agent_identity_oauth::authorize::is_reserved;

use crate::Services;
use crate::audit::{CONSENT, PENDING, note};
use crate::client_credentials::ClientTokenRequest;
use crate::read_ahead::Wanted;
use crate::refresh::{Access, terms};
use crate::tags::provider_allows;
use crate::workload_token::{Bearer, reading};

/// Which flow gets the token (`Oauth2FlowType`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The authorization-code flow, for a user.
    UserFederation,
    /// Client credentials, for no user.
    M2m,
    /// RFC 8693 or RFC 7523; not yet.
    OnBehalfOf,
}

/// A request for an OAuth2 token.
#[derive(Clone, Debug)]
pub struct Oauth2TokenRequest {
    /// The workload access token; empty where a tool is called, whose caller has shown it already.
    pub workload_token: Secret,
    /// The provider.
    pub provider: ProviderName,
    /// Scopes that the token must have.
    pub scopes: BTreeSet<Scope>,
    /// Which flow.
    pub flow: Flow,
    /// Which of the user's accounts at the provider.
    pub label: Label,
    /// The session that is polled.
    pub session: Option<SessionUri>,
    /// Where a consent shall return to.
    pub return_url: Option<ReturnUrl>,
    /// Whether to begin a new consent whatever is there.
    pub force_authentication: bool,
    /// Further parameters of the request to the provider.
    pub custom_parameters: BTreeMap<String, String>,
    /// Given back to the return URL as `state`.
    pub custom_state: Option<Secret>,
    /// RFC 8707 resources.
    pub resources: Vec<String>,
    /// Audiences.
    pub audiences: Vec<String>,
}

impl Oauth2TokenRequest {
    /// What of it makes a client-credentials token another one.
    pub(crate) fn client_token(&self) -> ClientTokenRequest<'_> {
        ClientTokenRequest {
            scopes: &self.scopes,
            resources: &self.resources,
            audiences: &self.audiences,
            custom_parameters: &self.custom_parameters,
        }
    }
}

/// The answer.
#[derive(Clone, Debug)]
pub enum Oauth2TokenAnswer {
    /// The access token.
    Token(Secret),
    /// A consent is needed: send the user there.
    Consent {
        /// Where. Names the session, so it is for this user only.
        authorization_url: Secret,
        /// What to poll with.
        session: SessionUri,
    },
    /// The session that was polled is not completed yet.
    InProgress(SessionUri),
}

reading!(ReadOauth2Token, "GetResourceOauth2Token");

impl Services {
    /// An OAuth2 token, or what must happen before there is one.
    ///
    /// # Errors
    /// `Unauthorized` for a bad workload access token; `AccessDenied`, also for a session of somebody else, scopes that
    /// the user refused, a failed session; `Validation`; `NotFound`; `Throttling`.
    pub async fn get_oauth2_token(
        &self,
        principal: &Principal,
        request: Oauth2TokenRequest,
    ) -> Result<Oauth2TokenAnswer> {
        note(|about| about.provider = Some(request.provider.clone()));
        let bearer = self.bearer(&request.workload_token, Some(Wanted::Token(&request))).await?;
        principal.authorize(ReadOauth2Token::by(&bearer, &request.provider))?;
        let provider = self.live_oauth2_provider(&request.provider).await?;
        provider_allows(&provider.tags, &provider.name, &bearer.workload.name)?;
        if let Some(name) =
            request.custom_parameters.keys().find(|name| is_reserved(provider.registration.vendor, name))
        {
            return Err(Error::field(
                "customParameters",
                format!("`{name}` is sent by agent-identity itself and cannot be set here"),
            ));
        }
        let answer = self.oauth2_token(&bearer, &provider, request).await;
        match &answer {
            Ok(Oauth2TokenAnswer::Consent { .. }) => note(|about| about.answer = Some(CONSENT)),
            Ok(Oauth2TokenAnswer::InProgress(_)) => note(|about| about.answer = Some(PENDING)),
            Ok(Oauth2TokenAnswer::Token(_)) | Err(_) => {}
        }
        answer
    }

    /// A token for who may have it.
    pub(crate) async fn oauth2_token(
        &self,
        bearer: &Bearer,
        provider: &Oauth2Provider,
        request: Oauth2TokenRequest,
    ) -> Result<Oauth2TokenAnswer> {
        match request.flow {
            Flow::OnBehalfOf => Err(Error::field(
                "oauth2Flow",
                "ON_BEHALF_OF_TOKEN_EXCHANGE is not supported yet; use USER_FEDERATION or M2M",
            )),
            Flow::M2m => {
                of_no_account(&request.label)?;
                bearer.alive(self.now())?;
                let token = self.client_token(&bearer.workload, provider, &request.client_token()).await?;
                Ok(Oauth2TokenAnswer::Token(token))
            }
            Flow::UserFederation => self.federated(bearer, provider, request).await,
        }
    }

    /// A provider as it is, at most one cache life ago.
    pub(crate) async fn live_oauth2_provider(&self, name: &ProviderName) -> Result<Arc<Oauth2Provider>> {
        let read = async {
            Ok(Arc::new(self.by_name::<Oauth2Provider>(name.as_str(), Consistency::Eventual).await?.value))
        };
        self.caches
            .oauth2_providers
            .get(name.as_str(), read)
            .await
            .inspect(|_| note(|about| about.found = true))
    }

    /// What of a request makes a connection another one.
    pub(crate) fn target(&self, request: &Oauth2TokenRequest) -> String {
        let Oauth2TokenRequest { label, resources, audiences, .. } = request;
        ConnectionTarget { label, resources, audiences }.text(&*self.ports.digest)
    }

    async fn federated(
        &self,
        bearer: &Bearer,
        provider: &Oauth2Provider,
        request: Oauth2TokenRequest,
    ) -> Result<Oauth2TokenAnswer> {
        let user = bearer.claims.user.ok_or_else(|| {
            Error::field(
                "workloadIdentityToken",
                "names no user, and USER_FEDERATION needs one; get it with GetWorkloadAccessTokenForJWT or \
                 GetWorkloadAccessTokenForUserId",
            )
        })?;
        if let Some(uri) = &request.session {
            return self.poll(bearer, user, provider, uri, &request.scopes).await;
        }
        bearer.alive(self.now())?;
        let target = self.target(&request);
        let key = Connection::key(bearer.workload.id, user, provider.id, &target);
        if !request.force_authentication {
            let warm: Option<Stored<Connection>> =
                record::get(&*self.ports.store, &key, Consistency::Eventual).await?;
            if let Some(Stored { value: connection, .. }) = &warm
                && connection.granted.is_superset(&request.scopes)
                && connection.decide(self.now(), terms(provider)) == Decision::Serve
            {
                let token = self.serve(connection).await?;
                self.mark_used(connection, terms(provider)).await;
                return Ok(Oauth2TokenAnswer::Token(token));
            }
        }
        // A miss, an expiry or anything stale is confirmed by consistent reads before a refresh or a consent (D17).
        let provider =
            self.by_name::<Oauth2Provider>(request.provider.as_str(), Consistency::Strong).await?.value;
        let key = Connection::key(bearer.workload.id, user, provider.id, &target);
        // Step-up and a forced consent ask for what was granted too: the new connection takes the place of the old one.
        let mut held: BTreeSet<Scope> = BTreeSet::new();
        let stored: Option<Stored<Connection>> =
            record::get(&*self.ports.store, &key, Consistency::Strong).await?;
        if let Some(Stored { value: mut connection, .. }) = stored
            && connection.provider_generation == provider.generation
        {
            if !request.force_authentication {
                if connection.granted.is_superset(&request.scopes)
                    && let Access::Token(token, found) = self.connection_access(&provider, &key).await?
                {
                    if found.granted.is_superset(&request.scopes) {
                        self.mark_used(&found, terms(&provider)).await;
                        return Ok(Oauth2TokenAnswer::Token(token));
                    }
                    // The refresh gave less than there was (RFC 6749 §6).
                    connection = *found;
                }
                if connection.health == Health::Active {
                    refused_scopes(&connection, &request.scopes)?;
                }
            }
            held = connection.granted;
        }
        self.offer_consent(bearer, user, &provider, request, held, target).await
    }

    /// The answer that concerns one session only (D13).
    async fn poll(
        &self,
        bearer: &Bearer,
        user: UserKey,
        provider: &Oauth2Provider,
        uri: &SessionUri,
        scopes: &BTreeSet<Scope>,
    ) -> Result<Oauth2TokenAnswer> {
        let session = self.session(uri).await?.value;
        owned(&session, bearer, user)?;
        if session.provider != provider.id {
            return Err(Error::new(
                ErrorKind::AccessDenied,
                "the session belongs to another credential provider",
            ));
        }
        if session.wat != bearer.claims.id {
            bearer.alive(self.now())?;
        }
        match session.stage {
            Stage::Offered | Stage::Bound(_) | Stage::Returned { .. } => {
                Ok(Oauth2TokenAnswer::InProgress(uri.clone()))
            }
            Stage::Failed(failure) => Err(Error::new(ErrorKind::AccessDenied, failure.message())),
            Stage::Completed => {
                if let Some(kept) = &session.kept_beside {
                    return Err(beside(&session.label, kept));
                }
                let provider =
                    self.by_name::<Oauth2Provider>(provider.name.as_str(), Consistency::Strong).await?.value;
                let key = Connection::key(session.workload, user, provider.id, &session.target);
                let connection: Option<Stored<Connection>> =
                    record::get(&*self.ports.store, &key, Consistency::Strong).await?;
                if let Some(connection) = connection {
                    covers(&connection.value, scopes)?;
                }
                match self.connection_access(&provider, &key).await? {
                    Access::Token(token, connection) => {
                        // A refresh may have given less than there was (RFC 6749 §6).
                        covers(&connection, scopes)?;
                        Ok(Oauth2TokenAnswer::Token(token))
                    }
                    Access::Consent(reason) => Err(consent_gone(reason.as_str())),
                    Access::None => Err(consent_gone("deleted")),
                }
            }
        }
    }

    /// A session by its uri.
    ///
    /// # Errors
    /// `AccessDenied` when it is unknown or has ended.
    pub(crate) async fn session(&self, uri: &SessionUri) -> Result<Stored<ConsentSession>> {
        let key: Key = uri.key(&*self.ports.digest);
        let stored: Option<Stored<ConsentSession>> =
            record::get(&*self.ports.store, &key, Consistency::Strong).await?;
        stored.filter(|session| self.now() < session.value.expires_at).ok_or_else(|| {
            Error::new(
                ErrorKind::AccessDenied,
                "Invalid or expired session: it is unknown or has ended (sessions live 10 minutes); start again",
            )
        })
    }
}

/// What belongs to no user has no accounts to choose from.
pub(crate) fn of_no_account(label: &Label) -> Result<()> {
    if *label == Label::default() {
        return Ok(());
    }
    Err(Error::field(
        "connectionLabel",
        "names an account of a user, and this credential is the workload's own",
    ))
}

/// D25: what another account gave is not given out for the one that was asked for.
fn beside(asked: &Label, kept: &Label) -> Error {
    Error::new(
        ErrorKind::AccessDenied,
        format!(
            "the user consented with another account than that of the connection `{asked}`; it is kept beside it: ask for \
             connectionLabel `{kept}`, or again with forceAuthentication to replace the account of `{asked}`"
        ),
    )
}

fn consent_gone(reason: &str) -> Error {
    Error::new(
        ErrorKind::AccessDenied,
        format!(
            "the consent of this session no longer gives a token ({reason}); start again without sessionUri"
        ),
    )
}

/// Wrong workload and wrong user are two errors.
fn owned(session: &ConsentSession, bearer: &Bearer, user: UserKey) -> Result<()> {
    if session.workload != bearer.workload.id {
        return Err(Error::new(ErrorKind::AccessDenied, "the session belongs to another workload identity"));
    }
    if session.user != user {
        return Err(Error::new(ErrorKind::AccessDenied, "the session belongs to another user"));
    }
    Ok(())
}

/// Whether the consent of a session gave these scopes.
fn covers(connection: &Connection, wanted: &BTreeSet<Scope>) -> Result<()> {
    if connection.granted.is_superset(wanted) {
        return Ok(());
    }
    refused_scopes(connection, wanted)?;
    Err(Error::field(
        "scopes",
        "are not all in the consent that this session gave; start again without sessionUri",
    ))
}

/// D13: scopes that a completed consent asked for and did not get are refused, not asked for again.
fn refused_scopes(connection: &Connection, wanted: &BTreeSet<Scope>) -> Result<()> {
    let refused: Vec<&str> = wanted
        .difference(&connection.granted)
        .filter(|scope| connection.asked.contains(*scope))
        .map(Scope::as_str)
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::AccessDenied,
        format!(
            "the user's consent does not include the scopes {}; ask again with forceAuthentication",
            refused.join(" ")
        ),
    ))
}
