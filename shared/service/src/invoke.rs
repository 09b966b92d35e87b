//! `InvokeTool`: calls a tool for an agent, with the credential that the agent does not get (`design.md` 11).
//!
//! What a tool answers is data, whatever its status; that it could not be reached is data too. Errors are ours: who may not call it,
//! input that is not as its schema says, a credential that cannot be had.

use std::collections::BTreeMap;
use std::time::Duration;

use agent_identity_core::connection::Connection;
use agent_identity_core::consent::SessionUri;
use agent_identity_core::error::ErrorKind;
use agent_identity_core::grant::{Action, Principal, Role};
use agent_identity_core::http::{HttpError, HttpRequest, HttpResponse};
use agent_identity_core::name::{Label, ToolName};
use agent_identity_core::provider::{ApiKeyProvider, Oauth2Provider, SecretSource};
use agent_identity_core::store::Consistency;
use agent_identity_core::tag::Tags;
use agent_identity_core::tool::{Placed, Redaction, Rendered, Tool, ToolCredential, ToolFlow};
use agent_identity_core::user::UserKey;
use agent_identity_core::wat::{WatClaims, WatUser};
use agent_identity_core::workload::ReturnUrl;
use agent_identity_core::{Error, ProviderName, Result, Secret, Timestamp, WorkloadName};
use serde_json::{Map, Value};

use crate::Services;
use crate::audit::{CONSENT, note};
use crate::oauth2_token::{Flow, Oauth2TokenAnswer, Oauth2TokenRequest, of_no_account};
use crate::page::{Page, PageRequest};
use crate::tags::provider_allows;
use crate::tool::{LiveTool, callable, may_inject};
use crate::workload_token::Bearer;

/// How long a tool may take to the last byte of its answer: API Gateway waits 30 s for all of it.
const TOOL_TIME: Duration = Duration::from_secs(25);

/// Most bytes of the headers that a tool's answer keeps, names and values together.
const MAX_HEADERS: usize = 16 * 1024;

/// Headers that are about one connection (RFC 9110 §7.6.1), about the body as it was, or about whose browser it is.
const DROPPED_HEADERS: [&str; 13] = [
    "alt-svc",
    "connection",
    "content-encoding",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A call.
#[derive(Clone, Debug)]
pub struct ToolCall {
    /// Which tool.
    pub tool: ToolName,
    /// Its input.
    pub input: Map<String, Value>,
    /// Which of the user's accounts at the tool's provider.
    pub label: Label,
    /// The consent session that an earlier call has begun, if it is that which shall give the credential.
    pub consent: Option<SessionUri>,
    /// Where a consent shall return to, should one be needed.
    pub return_url: Option<ReturnUrl>,
    /// Given back to the return URL as `state`.
    pub custom_state: Option<Secret>,
}

/// The verified session of an agent's user: what its authorizer has let pass.
#[derive(Clone, Debug)]
pub struct ToolSession {
    /// The agent.
    pub agent: WorkloadName,
    /// The user.
    pub user: UserKey,
    /// Who vouches for the user.
    pub issuer: String,
    /// When the session ends.
    pub expires_at: Timestamp,
}

/// What came of a call.
#[derive(Debug)]
pub enum ToolOutcome {
    /// The tool has answered.
    Answered(ToolAnswer),
    /// The user must consent first.
    Consent {
        /// Where. Names the session, so it is for this user only.
        authorization_url: Secret,
        /// What to poll with.
        session: SessionUri,
    },
    /// The tool has not answered, or not so that it can be passed on.
    Failed {
        /// Which trouble.
        code: ToolTrouble,
        /// What happened, and whether the tool may have done what it was asked.
        message: String,
    },
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolTrouble {
    /// No byte of the request left: nothing was done.
    Unreachable,
    /// The request left, and no whole answer came: it may have been done.
    UnknownOutcome,
    /// The answer is in a form in which nobody can tell whether it gives the credential away.
    Unreadable,
}

impl ToolTrouble {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "UNREACHABLE",
            Self::UnknownOutcome => "UNKNOWN_OUTCOME",
            Self::Unreadable => "UNREADABLE",
        }
    }
}

/// A tool's answer, without the credential should it have been in it.
#[derive(Clone, Debug)]
pub struct ToolAnswer {
    /// The status code.
    pub status: u16,
    /// The headers, by names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

/// Has a tool called: not the same as reading its credential.
struct InvokeTool {
    workload: WorkloadName,
    provider: Option<ProviderName>,
}

impl Action for InvokeTool {
    const OPERATION: &'static str = "InvokeTool";

    fn role(&self) -> Role {
        Role::Use
    }

    fn workload(&self) -> Option<&WorkloadName> {
        Some(&self.workload)
    }

    fn provider(&self) -> Option<&ProviderName> {
        self.provider.as_ref()
    }
}

/// A credential, or what must happen before there is one.
enum Got {
    Credential(Secret),
    Consent(Secret, SessionUri),
}

/// What a call needs besides its tool.
struct Calling<'a> {
    bearer: &'a Bearer,
    tool: &'a Tool,
    call: &'a ToolCall,
}

impl Services {
    /// Calls a tool for the workload and user of a workload access token.
    ///
    /// # Errors
    /// `Unauthorized` for a bad workload access token; `AccessDenied`, also where the tool's API refuses the credential; `NotFound`,
    /// also for a tool that is not for this workload; `Validation` of the input; `Throttling` when the credential cannot be had now.
    pub async fn invoke_tool(
        &self,
        principal: &Principal,
        workload_token: &Secret,
        call: &ToolCall,
    ) -> Result<ToolOutcome> {
        let bearer = self.bearer(workload_token, None).await?;
        let live = self.live_tool(&call.tool).await?;
        let provider = note_provider(&live.tool);
        principal.authorize(InvokeTool { workload: bearer.workload.name.clone(), provider })?;
        self.run(&bearer, &live, call).await
    }

    /// Calls a tool for the user of a verified session.
    ///
    /// # Errors
    /// As [`Services::invoke_tool`].
    pub async fn invoke_tool_in_session(
        &self,
        session: &ToolSession,
        call: &ToolCall,
    ) -> Result<ToolOutcome> {
        let bearer = self.bearer_of_session(session).await?;
        let live = self.live_tool(&call.tool).await?;
        note_provider(&live.tool);
        self.run(&bearer, &live, call).await
    }

    /// The tools that the agent of a verified session may call.
    ///
    /// # Errors
    /// `Unauthorized` once the session has ended; `Validation` on the page's token.
    pub async fn tools_in_session(&self, session: &ToolSession, page: &PageRequest) -> Result<Page<Tool>> {
        self.bearer_of_session(session).await?.alive(self.now())?;
        self.tools_of(&session.agent, page).await
    }

    async fn bearer_of_session(&self, session: &ToolSession) -> Result<Bearer> {
        let ToolSession { agent, user, issuer, expires_at } = session;
        let workload = self.workload_named(agent).await?;
        note(|about| {
            about.workload = Some(agent.clone());
            about.user = Some(*user);
        });
        let user = WatUser {
            key: *user,
            issuer: Some(issuer.clone()),
            expires_at: Some(*expires_at),
            signed_in_at: None,
        };
        let claims =
            WatClaims::issue(&*self.ports.random, self.now(), workload.id, workload.epoch, Some(user));
        Ok(Bearer { claims, workload })
    }

    async fn run(&self, bearer: &Bearer, live: &LiveTool, call: &ToolCall) -> Result<ToolOutcome> {
        let tool = callable(live, &bearer.workload.name)?;
        live.check(&Value::Object(call.input.clone()))?;
        bearer.alive(self.now())?;
        let calling = Calling { bearer, tool, call };
        let rendered = tool.render(&call.input)?;
        let Some(credential) = &tool.credential else {
            return Ok(outcome(tool, self.send(&rendered, None).await?, None));
        };
        let secret = match self.credential_of(&calling, credential).await? {
            Got::Credential(secret) => secret,
            Got::Consent(authorization_url, session) => {
                note(|about| about.answer = Some(CONSENT));
                return Ok(ToolOutcome::Consent { authorization_url, session });
            }
        };
        let answered = self.send(&rendered, Some(credential.placement.place(&secret))).await?;
        if !matches!(&answered, Ok(response) if response.status == 401) {
            return Ok(outcome(tool, answered, Some(credential.placement.redaction(&secret))));
        }
        // The API has done nothing: with another credential it may be asked once more.
        if let Some(other) = self.another_credential(&calling, credential, &secret).await? {
            let answered = self.send(&rendered, Some(credential.placement.place(&other))).await?;
            if !matches!(&answered, Ok(response) if response.status == 401) {
                return Ok(outcome(tool, answered, Some(credential.placement.redaction(&other))));
            }
        }
        Err(not_taken(tool, credential))
    }

    /// The inner error is the tool's.
    async fn send(
        &self,
        rendered: &Rendered,
        placed: Option<Placed>,
    ) -> Result<Result<HttpResponse, HttpError>> {
        let Rendered { method, url, headers, body } = rendered;
        let mut request =
            HttpRequest::new(*method, url.as_str(), Vec::new(), body.as_deref().map(Secret::new));
        request.within = Some(TOOL_TIME);
        request.headers =
            headers.iter().map(|(name, value)| (name.clone().into(), Secret::new(value.as_str()))).collect();
        match placed {
            Some(Placed::Header(name, value)) => request.headers.push((name.into(), value)),
            Some(Placed::Query(pair)) => request.secret_query = Some(pair),
            None => {}
        }
        match self.ports.http.send(request).await {
            Err(forbidden @ HttpError::Forbidden { .. }) => Err(forbidden.into()),
            unsent @ Err(HttpError::NotSent { .. }) => Ok(unsent),
            answered => {
                note(|about| about.used = true);
                Ok(answered)
            }
        }
    }

    async fn credential_of(&self, calling: &Calling<'_>, credential: &ToolCredential) -> Result<Got> {
        let Calling { bearer, tool, .. } = calling;
        let admits = |tags: &Tags| {
            provider_allows(tags, &credential.provider, &bearer.workload.name)?;
            may_inject(tags, &credential.provider, tool.request.origin())
        };
        if credential.flow == ToolFlow::ApiKey {
            of_no_account(&calling.call.label)?;
            let provider = self.live_api_key_provider(&credential.provider).await?;
            admits(&provider.tags)?;
            return Ok(Got::Credential(self.api_key_of(&provider).await?));
        }
        let provider = self.live_oauth2_provider(&credential.provider).await?;
        admits(&provider.tags)?;
        let request = calling.token_request(credential);
        match self.oauth2_token(bearer, &provider, request).await? {
            Oauth2TokenAnswer::Token(token) => Ok(Got::Credential(token)),
            Oauth2TokenAnswer::Consent { authorization_url, session } => {
                Ok(Got::Consent(authorization_url, session))
            }
            Oauth2TokenAnswer::InProgress(session) => {
                Ok(Got::Consent(self.authorization_url(&session), session))
            }
        }
    }

    /// Another credential than the one that the tool's API has just refused: that of one forced refresh, or one that came meanwhile.
    async fn another_credential(
        &self,
        calling: &Calling<'_>,
        credential: &ToolCredential,
        refused: &Secret,
    ) -> Result<Option<Secret>> {
        let Calling { bearer, .. } = calling;
        if credential.flow == ToolFlow::ApiKey {
            return self.another_api_key(&credential.provider, refused).await;
        }
        let name = credential.provider.as_str();
        let provider = self.by_name::<Oauth2Provider>(name, Consistency::Strong).await?.value;
        let request = calling.token_request(credential);
        match (credential.flow, bearer.claims.user) {
            (ToolFlow::UserFederation, Some(user)) => {
                let key = Connection::key(bearer.workload.id, user, provider.id, &self.target(&request));
                self.replaced_access(&provider, &key, refused).await
            }
            (ToolFlow::M2m, _) => {
                let wanted = request.client_token();
                self.replaced_client_token(&bearer.workload, &provider, &wanted, refused).await
            }
            (ToolFlow::UserFederation | ToolFlow::ApiKey, _) => Ok(None),
        }
    }

    /// The key as it is now, if it is another: what was read from memory may be older.
    async fn another_api_key(&self, name: &ProviderName, refused: &Secret) -> Result<Option<Secret>> {
        self.caches.api_key_providers.forget(name.as_str()).await;
        let provider = self.by_name::<ApiKeyProvider>(name.as_str(), Consistency::Strong).await?.value;
        if let SecretSource::External(_) = &provider.secret {
            self.forget_external(&provider.secret, name).await;
        }
        let key = self.api_key_of(&provider).await?;
        Ok(Some(key).filter(|key| key != refused))
    }
}

impl Calling<'_> {
    fn token_request(&self, credential: &ToolCredential) -> Oauth2TokenRequest {
        Oauth2TokenRequest {
            workload_token: Secret::new(""),
            provider: credential.provider.clone(),
            scopes: credential.scopes.clone(),
            flow: match credential.flow {
                ToolFlow::M2m => Flow::M2m,
                ToolFlow::UserFederation | ToolFlow::ApiKey => Flow::UserFederation,
            },
            label: self.call.label.clone(),
            session: self.call.consent.clone(),
            return_url: self.call.return_url.clone(),
            force_authentication: false,
            custom_parameters: BTreeMap::new(),
            custom_state: self.call.custom_state.clone(),
            resources: credential.resources.clone(),
            audiences: credential.audiences.clone(),
        }
    }
}

/// Notes whose credential a tool is called with. That provider is there, or was when the tool was stored.
fn note_provider(tool: &Tool) -> Option<ProviderName> {
    let provider = tool.credential.as_ref().map(|it| it.provider.clone());
    note(|about| {
        about.found = provider.is_some();
        about.provider.clone_from(&provider);
    });
    provider
}

fn not_taken(tool: &Tool, credential: &ToolCredential) -> Error {
    let cure = match credential.flow {
        ToolFlow::UserFederation => {
            "and it cannot be renewed now: the user may have to consent again (GetResourceOauth2Token with forceAuthentication)"
        }
        ToolFlow::M2m => "and another one as well: look what the client may do there",
        ToolFlow::ApiKey => "set another one with UpdateApiKeyCredentialProvider",
    };
    Error::new(
        ErrorKind::AccessDenied,
        format!(
            "{} does not take the credential of the provider `{}` (401); {cure}",
            tool.request.origin().authority(),
            credential.provider
        ),
    )
}

/// What the caller gets of an answer.
fn outcome(
    tool: &Tool,
    answered: Result<HttpResponse, HttpError>,
    redaction: Option<Redaction>,
) -> ToolOutcome {
    let failed = |code: ToolTrouble, message: String| ToolOutcome::Failed { code, message };
    let response = match answered {
        Ok(response) => response,
        Err(error @ HttpError::Unknown { .. }) => {
            return failed(
                ToolTrouble::UnknownOutcome,
                format!("{error}; it may have been done all the same"),
            );
        }
        Err(error) => return failed(ToolTrouble::Unreachable, format!("{error}; nothing was sent")),
    };
    let encoding = response.header("content-encoding").unwrap_or("identity");
    if !response.body.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        let message = format!(
            "{} answered in the encoding `{}` although it was asked for none; it may have been done all the same",
            tool.request.origin().authority(),
            encoding.chars().take(32).collect::<String>()
        );
        return failed(ToolTrouble::Unreadable, message);
    }
    let clean_text = |text: String| match &redaction {
        Some(redaction) => redaction.apply_text(text),
        None => text,
    };
    let (mut headers, mut bytes) = (BTreeMap::<String, String>::new(), 0);
    for (name, value) in response.headers {
        if DROPPED_HEADERS.contains(&name.as_str()) {
            continue;
        }
        let (name, value) = (clean_text(name), clean_text(value));
        bytes += name.len() + value.len();
        if bytes > MAX_HEADERS {
            break;
        }
        headers
            .entry(name)
            .and_modify(|before| {
                before.push_str(", ");
                before.push_str(&value);
            })
            .or_insert(value);
    }
    let body = match &redaction {
        Some(redaction) => redaction.apply(response.body),
        None => response.body,
    };
    ToolOutcome::Answered(ToolAnswer { status: response.status, headers, body })
}
