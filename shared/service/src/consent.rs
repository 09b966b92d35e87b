//! Consent: offering a session, the browser's way through it, and completing it (`design.md` 7, D11, D12).

mod browser;
mod complete;

pub use browser::{Arrival, ConsentPage, Departure, ProviderReturn};
pub use complete::{CompleteConsent, UserIdentifier};

use std::collections::{BTreeMap, BTreeSet};

use agent_identity_core::consent::{ConsentSession, ReturnTo, SESSION_LIFE, SessionUri, Stage};
use agent_identity_core::error::ErrorKind;
use agent_identity_core::flight::{Flight, InFlight as _};
use agent_identity_core::name::Scope;
use agent_identity_core::provider::Oauth2Provider;
use agent_identity_core::record;
use agent_identity_core::secret::{Secret, sealed_form, sealed_form_option};
use agent_identity_core::store::Consistency;
use agent_identity_core::user::UserKey;
use agent_identity_core::workload::{ReturnUrl, Workload};
use agent_identity_core::{Error, Result, random};
use serde::{Deserialize, Serialize};
use url::form_urlencoded;

use crate::Services;
use crate::oauth2_token::{Oauth2TokenAnswer, Oauth2TokenRequest};
use crate::vault::zeroize_json;
use crate::workload_token::Bearer;

/// Where `authorizationUrl` points, below the public base URL.
pub const AUTHORIZE_PATH: &str = "/identities/oauth2/authorize";

/// Where `callbackUrl` points, below the public base URL; the provider's id follows.
pub const CALLBACK_PATH: &str = "/identities/oauth2/callback/";

/// The built-in return page for loopback development.
pub const RETURN_PATH: &str = "/identities/oauth2/return";

/// What of a session is nobody's business, sealed in its row.
#[derive(Serialize, Deserialize)]
struct SessionSecrets {
    /// RFC 7636 §4.1.
    #[serde(serialize_with = "sealed_form")]
    code_verifier: Secret,
    /// Given back to the return URL.
    #[serde(serialize_with = "sealed_form_option", default)]
    custom_state: Option<Secret>,
    /// Further parameters of the authorization request.
    #[serde(default)]
    custom_parameters: BTreeMap<String, String>,
}

/// Most bytes of the resources and audiences of a consent together: they are kept beside its tokens, and must leave room for
/// the longest.
const MAX_TARGETS: usize = 32 * 1024;

const SESSION_LABEL: &str = "consent session";
const CODE_LABEL: &str = "authorization code";

impl Services {
    /// The provider's own callback URL: a path of its own for each is the defence against mix-up (RFC 9700 §4.4.2).
    pub fn callback_url(&self, provider: &Oauth2Provider) -> String {
        format!("{}{CALLBACK_PATH}{}", self.config.public_base_url, provider.id.hyphenated())
    }

    /// Begins a session and says where to send the user.
    pub(crate) async fn offer_consent(
        &self,
        bearer: &Bearer,
        user: UserKey,
        provider: &Oauth2Provider,
        request: Oauth2TokenRequest,
        held: BTreeSet<Scope>,
        target: String,
    ) -> Result<Oauth2TokenAnswer> {
        let workload = self
            .by_id::<Workload>(bearer.workload.id, Consistency::Strong)
            .await?
            .ok_or_else(|| Error::new(ErrorKind::Unauthorized, "the workload identity was deleted"))?;
        let return_to = self.return_to(&workload.value, request.return_url)?;
        let targets = request.resources.iter().chain(&request.audiences).map(String::len).sum::<usize>();
        if targets > MAX_TARGETS {
            return Err(Error::field(
                "resources",
                format!("have, with the audiences, more than {MAX_TARGETS} bytes together"),
            ));
        }
        // Fails early, and with the provider's name, when its endpoints cannot be found.
        self.server(provider).await?;
        let uri = SessionUri::from_handle(&random::handle(&*self.ports.random));
        let key = uri.key(&*self.ports.digest);
        let secrets = SessionSecrets {
            code_verifier: Secret::new(random::handle(&*self.ports.random)),
            custom_state: request.custom_state,
            custom_parameters: request.custom_parameters,
        };
        let session = ConsentSession {
            workload: bearer.workload.id,
            provider: provider.id,
            provider_generation: provider.generation,
            user,
            wat: bearer.claims.id,
            scopes: request.scopes.union(&held).cloned().collect(),
            resources: request.resources,
            audiences: request.audiences,
            target,
            label: request.label,
            replaces_account: request.force_authentication,
            kept_beside: None,
            return_to,
            sealed: self.seal_consent(SESSION_LABEL, &key, &zeroize_json(&secrets)?).await?,
            expires_at: self.now().plus(SESSION_LIFE),
            code_digest: None,
            stage: Stage::Offered,
            flight: Flight::default(),
        };
        let write = record::create(key, &session, session.row_ends())?;
        self.ports.store.write(vec![write, workload.check()]).await?;
        Ok(Oauth2TokenAnswer::Consent { authorization_url: self.authorization_url(&uri), session: uri })
    }

    /// Where the user of a session is sent. It names the session, so it is for them only.
    pub(crate) fn authorization_url(&self, session: &SessionUri) -> Secret {
        let query: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("request_uri", session.as_str())
            .finish();
        Secret::new(format!("{}{AUTHORIZE_PATH}?{query}", self.config.public_base_url))
    }

    /// Where the browser shall go in the end: a registered return URL, or the built-in page where there is none and
    /// development is on loopback.
    fn return_to(&self, workload: &Workload, asked: Option<ReturnUrl>) -> Result<ReturnTo> {
        match asked {
            Some(url) if workload.return_urls.iter().any(|registered| registered.admits(&url)) => {
                Ok(ReturnTo::Url(url))
            }
            Some(url) => Err(Error::field(
                "resourceOauth2ReturnUrl",
                format!(
                    "`{}` is not registered on the workload identity `{}`; add it with UpdateWorkloadIdentity",
                    url.as_str(),
                    workload.name
                ),
            )),
            None if self.config.built_in_return_page && workload.return_urls.is_empty() => {
                Ok(ReturnTo::BuiltInPage)
            }
            None => Err(Error::field(
                "resourceOauth2ReturnUrl",
                "You must register and use at least one ResourceOauth2ReturnUrl on your workload identity to use this flow",
            )),
        }
    }
}
