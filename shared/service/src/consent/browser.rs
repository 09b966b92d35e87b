//! The browser's part: from our page to the provider and back (D12).

use agent_identity_core::consent::{
    Browser, ConsentSession, Failure, ReturnTo, SESSION_LIFE, SessionUri, Stage,
};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::flight::InFlight as _;
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::record::Stored;
use agent_identity_core::seal::{Context, Purpose, SealError};
use agent_identity_core::store::{Consistency, StoreError};
use agent_identity_core::tag::{INTERSTITIAL, Tags};
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, Id, Result, Secret, encoding, random};
use agent_identity_oauth::authorize::{AuthorizationRequest, code_challenge};
use url::form_urlencoded;

use super::{CODE_LABEL, RETURN_PATH, SESSION_LABEL, SessionSecrets};
use crate::Services;

/// What the page says before the user goes on.
#[derive(Clone, Debug)]
pub struct ConsentPage {
    /// The agent.
    pub workload: String,
    /// The provider's name.
    pub provider: String,
    /// The vendor, as AWS names it.
    pub vendor: &'static str,
    /// The host that the browser will go to.
    pub host: String,
    /// What is asked for.
    pub scopes: Vec<String>,
}

/// What a browser gets that opens an authorization URL.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// The page; nothing has changed yet.
    Page(ConsentPage),
    /// The caller has a page of its own (`agent-identity:interstitial` = `false`): it may go on at once.
    GoOn,
}

/// Where a browser goes next, and the cookie that binds it.
#[derive(Clone, Debug)]
pub struct Departure {
    /// The provider's authorization URL.
    pub location: Secret,
    /// The cookie's value.
    pub cookie: Secret,
}

/// What the provider sent back with the browser.
#[derive(Clone, Debug)]
pub struct ProviderReturn {
    /// The id in the callback's path.
    pub provider: Id<Oauth2Provider>,
    /// `state`.
    pub state: Secret,
    /// `code`.
    pub code: Option<Secret>,
    /// `iss` (RFC 9207).
    pub issuer: Option<String>,
    /// `error`.
    pub error: Option<String>,
}

/// The longest authorization code that is kept, in bytes.
const MAX_CODE: usize = 4096;

fn refused(message: &str) -> Error {
    Error::new(ErrorKind::AccessDenied, message)
}

fn another_browser() -> Error {
    refused(
        "this consent was begun in another browser; open the link again in the browser where it began, or start again",
    )
}

fn used() -> Error {
    refused("this consent was already used: its link leads to the provider once; start again")
}

fn used_code() -> Error {
    refused("this authorization code was already used: a code is accepted once; start again")
}

fn used_state() -> Error {
    refused(
        "this state was already used: a state is accepted once, with the code that came with it; start again",
    )
}

impl Services {
    /// The cookie of a browser: the one that it sent, if it is one of ours, or a fresh one. It is given with the page already, so
    /// that each click on it says who clicked; two consents in one browser share it.
    pub fn browser_cookie(&self, sent: Option<&Secret>) -> Secret {
        match sent {
            Some(sent) if encoding::unbase64url(sent.expose()).is_some_and(|bytes| bytes.len() == 32) => {
                sent.clone()
            }
            _ => Secret::new(random::handle(&*self.ports.random)),
        }
    }

    /// Whether this browser may go to the provider for this session: the first that does, and it as often as it likes.
    fn may_go_on(&self, session: &ConsentSession, cookie: Option<&Secret>) -> Result<()> {
        match &session.stage {
            Stage::Offered => Ok(()),
            Stage::Bound(browser) if cookie.is_some_and(|cookie| self.is_bound(browser, cookie)) => Ok(()),
            Stage::Bound(_) => Err(another_browser()),
            Stage::Returned { .. } | Stage::Completed | Stage::Failed(_) => Err(used()),
        }
    }

    /// Looks at a session for a browser that opened its URL. Changes nothing.
    ///
    /// # Errors
    /// `AccessDenied` when the session is unknown, has ended, is past this step or belongs to another browser.
    pub async fn open_consent_page(&self, uri: &SessionUri, cookie: Option<&Secret>) -> Result<Arrival> {
        let session = self.session(uri).await?.value;
        self.may_go_on(&session, cookie)?;
        let (workload, provider) = self.parties(&session).await?;
        let skips = |tags: &Tags| tags.get(INTERSTITIAL).is_some_and(|value| value == "false");
        if skips(&workload.tags) || skips(&provider.tags) {
            return Ok(Arrival::GoOn);
        }
        let server = self.server(&provider).await?;
        let host = url::Url::parse(&server.authorization_endpoint)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned))
            .unwrap_or_default();
        // What is asked for besides, so that a refresh token comes; shown, since the user agrees to that too.
        let defaults = &agent_identity_oauth::catalogue::facts(provider.registration.vendor).default_scopes;
        let asked = session.scopes.iter().chain(defaults.iter().filter(|_| !session.scopes.is_empty()));
        let scopes: std::collections::BTreeSet<&str> =
            asked.map(agent_identity_core::name::Scope::as_str).collect();
        Ok(Arrival::Page(ConsentPage {
            workload: workload.name.to_string(),
            provider: provider.name.to_string(),
            vendor: provider.registration.vendor.as_str(),
            host,
            scopes: scopes.into_iter().map(str::to_owned).collect(),
        }))
    }

    /// Binds the session to one browser and makes its state. `cookie` is what the browser already has, if anything.
    ///
    /// # Errors
    /// `AccessDenied` when the session is unknown, has ended, is past this step or belongs to another browser.
    pub async fn begin_consent(&self, uri: &SessionUri, cookie: Option<&Secret>) -> Result<Departure> {
        let cookie = self.browser_cookie(cookie);
        loop {
            if let Some(location) = self.bind(uri, &cookie).await? {
                return Ok(Departure { location, cookie });
            }
            // Somebody was faster: another click of this browser, or another browser. The next look says which.
        }
    }

    /// Where this browser goes, and the session bound to it; nothing when the session was changed meanwhile.
    async fn bind(&self, uri: &SessionUri, cookie: &Secret) -> Result<Option<Secret>> {
        let stored = self.session(uri).await?;
        let session = &stored.value;
        self.may_go_on(session, Some(cookie))?;
        let (_, provider) = self.parties(session).await?;
        let server = self.server(&provider).await?;
        let secrets = self.session_secrets(&stored).await?;
        let state = self.make_state(uri, &provider).await?;
        let challenge = code_challenge(&secrets.code_verifier, &*self.ports.digest);
        let location = AuthorizationRequest {
            registration: &provider.registration,
            server: &server,
            redirect_uri: &self.callback_url(&provider),
            scopes: &session.scopes,
            state: state.expose(),
            code_challenge: &challenge,
            resources: &session.resources,
            audiences: &session.audiences,
            custom_parameters: &secrets.custom_parameters,
        }
        .url()
        .map_err(|error| crate::server::misconfigured(&provider, &error))?;
        let browser = Browser { cookie: self.fingerprint(cookie), state: self.fingerprint(&state) };
        let bound = ConsentSession { stage: Stage::Bound(browser), ..session.clone() };
        match self.ports.store.write(vec![stored.replace(&bound, bound.row_ends(), None)?]).await {
            Ok(()) => Ok(Some(Secret::new(location))),
            Err(StoreError::Conflict(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the browser back from the provider, keeps the code sealed, and says where it goes next. The code is not
    /// exchanged before the application has confirmed the user.
    ///
    /// # Errors
    /// `AccessDenied`: a state that is not ours, another provider's callback, another browser, a replay, an ended session.
    pub async fn return_from_provider(
        &self,
        answer: ProviderReturn,
        cookie: Option<&Secret>,
    ) -> Result<Secret> {
        let uri = self.read_state(&answer).await?;
        let stored = self.session(&uri).await?;
        let session = &stored.value;
        if session.provider != answer.provider {
            return Err(refused("this callback belongs to another credential provider"));
        }
        let browser = match &session.stage {
            Stage::Bound(browser) => browser,
            Stage::Offered => return Err(another_browser()),
            Stage::Returned { .. } | Stage::Completed | Stage::Failed(_) => {
                let same_code =
                    answer.code.as_ref().map(|code| self.fingerprint(code)) == session.code_digest;
                return Err(if same_code { used_code() } else { used_state() });
            }
        };
        if !cookie.is_some_and(|cookie| self.is_bound(browser, cookie)) {
            return Err(another_browser());
        }
        if browser.state != self.fingerprint(&answer.state) {
            return Err(used_state());
        }
        let (_, provider) = self.parties(session).await?;
        let stage = match self.judge(&provider, session, &answer).await? {
            Ok(code) => Stage::Returned {
                browser: browser.clone(),
                code: self.seal_consent(CODE_LABEL, &stored.key, code.expose().as_bytes()).await?,
            },
            Err(failure) => Stage::Failed(failure),
        };
        let error = match &stage {
            Stage::Failed(Failure::AccessDenied) => Some("access_denied"),
            Stage::Failed(_) => Some("server_error"),
            _ => None,
        };
        let code_digest = answer.code.as_ref().map(|code| self.fingerprint(code));
        let next = ConsentSession { stage, code_digest, ..session.clone() };
        let location = self.way_back(&uri, &stored, error).await?;
        match self.ports.store.write(vec![stored.replace(&next, next.row_ends(), None)?]).await {
            Ok(()) => Ok(location),
            Err(StoreError::Conflict(_)) => Err(used_code()),
            // Its sealed code is of this call alone; the user could not come back a second time.
            Err(error) if self.is_stored_after(&error, &stored.key, &next).await => Ok(location),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether what came back is a code for this session, or a failure of it.
    async fn judge(
        &self,
        provider: &Oauth2Provider,
        session: &ConsentSession,
        answer: &ProviderReturn,
    ) -> Result<std::result::Result<Secret, Failure>> {
        let server = self.server(provider).await?;
        // RFC 9207 §2.4: a server that says it sends `iss` must, and what is sent must be the one that was asked.
        let issuer_fits = match (&answer.issuer, &server.issuer) {
            (Some(sent), Some(known)) => sent == known,
            (Some(_), None) => true,
            (None, _) => !server.iss_parameter,
        };
        if !issuer_fits {
            return Err(refused(
                "this answer does not come from the authorization server that was asked (iss)",
            ));
        }
        if provider.generation != session.provider_generation {
            return Ok(Err(Failure::ProviderChanged));
        }
        Ok(match (&answer.code, answer.error.as_deref()) {
            (_, Some("access_denied")) => Err(Failure::AccessDenied),
            (_, Some(_)) => Err(Failure::ProviderError),
            (Some(code), None) if !code.is_empty() && code.expose().len() <= MAX_CODE => Ok(code.clone()),
            _ => Err(Failure::ProviderError),
        })
    }

    /// `returnUrl?session_id=…&state=…`, or the built-in page.
    async fn way_back(
        &self,
        uri: &SessionUri,
        stored: &Stored<ConsentSession>,
        error: Option<&str>,
    ) -> Result<Secret> {
        let custom_state = self.session_secrets(stored).await?.custom_state;
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("session_id", uri.as_str());
        if let Some(state) = &custom_state {
            query.append_pair("state", state.expose());
        }
        if let Some(error) = error {
            query.append_pair("error", error);
        }
        let base = match &stored.value.return_to {
            ReturnTo::Url(url) => in_ascii(url.as_str()),
            ReturnTo::BuiltInPage => format!("{}{RETURN_PATH}", self.config.public_base_url),
        };
        let separator = if base.contains('?') { '&' } else { '?' };
        Ok(Secret::new(format!("{base}{separator}{}", query.finish())))
    }

    /// The workload and the provider of a session, as they are now.
    ///
    /// # Errors
    /// `AccessDenied` when one of them was deleted.
    pub(crate) async fn parties(&self, session: &ConsentSession) -> Result<(Workload, Oauth2Provider)> {
        let workload = self.by_id::<Workload>(session.workload, Consistency::Strong).await?;
        let provider = self.by_id::<Oauth2Provider>(session.provider, Consistency::Strong).await?;
        match (workload, provider) {
            (Some(workload), Some(provider)) => Ok((workload.value, provider.value)),
            _ => Err(refused("the agent or the credential provider of this consent was deleted")),
        }
    }

    pub(super) async fn session_secrets(&self, stored: &Stored<ConsentSession>) -> Result<SessionSecrets> {
        let plaintext = self.open_consent(SESSION_LABEL, &stored.key, &stored.value.sealed).await?;
        serde_json::from_slice(&plaintext)
            .map_err(|_hidden| Error::internal("a session's secrets are broken"))
    }

    /// A fresh `state`: the session's name and a nonce, sealed, so that it says nothing and cannot be made by others.
    async fn make_state(&self, uri: &SessionUri, provider: &Oauth2Provider) -> Result<Secret> {
        let nonce = random::bytes::<16>(&*self.ports.random);
        let plaintext = [nonce.as_slice(), uri.as_str().as_bytes()].concat();
        let context = state_context(provider.id);
        let sealed = self.ports.sealer.seal(Purpose::Consent, &context, &plaintext).await?;
        Ok(Secret::new(encoding::base64url(sealed)))
    }

    async fn read_state(&self, answer: &ProviderReturn) -> Result<SessionUri> {
        let not_ours = || {
            refused(
                "the `state` is not one of this callback: it belongs to another credential provider, or to nobody",
            )
        };
        let sealed = encoding::unbase64url(answer.state.expose()).ok_or_else(not_ours)?;
        let context = state_context(answer.provider);
        let plaintext = match self.ports.sealer.open(Purpose::Consent, &context, &sealed).await {
            Ok(plaintext) => plaintext,
            Err(SealError::Broken | SealError::Lost) => return Err(not_ours()),
            Err(error) => return Err(error.into()),
        };
        plaintext
            .get(16..)
            .and_then(|uri| std::str::from_utf8(uri).ok())
            .and_then(|uri| SessionUri::parse(uri).ok())
            .ok_or_else(not_ours)
    }

    fn fingerprint(&self, secret: &Secret) -> String {
        encoding::hex(&self.ports.digest.sha256(secret.expose().as_bytes()))
    }

    /// Whether the browser with this cookie is the one that began.
    pub(super) fn is_bound(&self, browser: &Browser, cookie: &Secret) -> bool {
        browser.cookie == self.fingerprint(cookie)
    }

    /// How long the cookie of a consent is kept by the browser, in seconds.
    pub fn consent_cookie_seconds(&self) -> u64 {
        SESSION_LIFE.as_secs()
    }
}

/// The URL as a header can carry it: what is not ASCII is percent-encoded (RFC 3986 §2.5), which is what a browser makes of it
/// anyway.
fn in_ascii(url: &str) -> String {
    let mut ascii = String::with_capacity(url.len());
    for byte in url.bytes() {
        match byte {
            0..=127 => ascii.push(char::from(byte)),
            128.. => ascii.push_str(&format!("%{byte:02X}")),
        }
    }
    ascii
}

fn state_context(provider: Id<Oauth2Provider>) -> Context {
    Context::new("state", [provider.as_bytes().as_slice()])
}
