//! Calls to token endpoints: what is prepared before the lease, what is sent under it, and what became of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::error::ErrorKind;
use agent_identity_core::http::{HttpError, HttpRequest};
use agent_identity_core::provider::{ClientAuthentication, Oauth2Provider};
use agent_identity_core::{Error, Id, Result, Secret};
use agent_identity_oauth::assertion;
use agent_identity_oauth::catalogue;
use agent_identity_oauth::discovery::Server;
use agent_identity_oauth::revocation::RevocationWay;
use agent_identity_oauth::token::{
    ClientProof, RefusalCode, TokenFailure, TokenGrant, TokenRequest, Tokens, parse_token_response,
};

use crate::Services;
use crate::server::misconfigured;

/// All that a token request needs besides its grant. Made before a lease is taken, since it may take its time.
pub(crate) struct Client {
    pub(crate) server: Arc<Server>,
    proof: Proof,
}

enum Proof {
    Basic(Secret),
    Post(Secret),
    Assertion(Secret),
}

/// What became of a call (D5, D8).
pub(crate) enum Outcome {
    /// Tokens came.
    Tokens(Box<Tokens>),
    /// The provider refused, definitely.
    Refused(RefusalCode),
    /// The provider asks to wait; it did nothing.
    Throttled(Option<Duration>),
    /// No byte left.
    NotSent(Error),
    /// It may or may not have happened.
    Unknown(String),
}

/// The longest wait that a provider can impose: a wrong `Retry-After` must not end a connection.
const LONGEST_WAIT: Duration = Duration::from_secs(900);

impl Services {
    /// Finds the provider's server and proves who the client is.
    ///
    /// # Errors
    /// `Validation` when the configuration is not usable, or a secret or key is missing; `Throttling` when they cannot be read
    /// now.
    pub(crate) async fn client(&self, provider: &Oauth2Provider) -> Result<Client> {
        let server = self.server(provider).await?;
        let method = assertion::client_authentication(
            provider.client_authentication,
            provider.registration.vendor,
            &server,
        );
        let proof = match method {
            ClientAuthentication::Basic => Proof::Basic(self.client_secret(provider).await?),
            ClientAuthentication::Post => Proof::Post(self.client_secret(provider).await?),
            ClientAuthentication::PrivateKeyJwt => {
                Proof::Assertion(self.client_assertion(provider, &server).await?)
            }
        };
        Ok(Client { server, proof })
    }

    async fn client_secret(&self, provider: &Oauth2Provider) -> Result<Secret> {
        let secret = self.reveal(&provider.client_secret, &provider.name).await?;
        if secret.is_empty() {
            return Err(misconfigured(
                provider,
                &"it has no client secret yet; set it with UpdateOauth2CredentialProvider",
            ));
        }
        Ok(secret)
    }

    async fn client_assertion(&self, provider: &Oauth2Provider, server: &Server) -> Result<Secret> {
        let config = provider
            .private_key_jwt
            .as_ref()
            .ok_or_else(|| misconfigured(provider, &"PRIVATE_KEY_JWT needs privateKeyJwtConfig"))?;
        let jti = Id::<Client>::random(&*self.ports.random).to_string();
        let kid = self.ports.signing_keys.key_id(&config.key_arn).await?;
        let input = assertion::signing_input(
            config,
            kid.as_deref(),
            &provider.registration.client_id,
            &server.token_endpoint,
            self.now(),
            &jti,
        );
        let signature = self
            .ports
            .signing_keys
            .sign(&config.key_arn, config.algorithm, input.as_bytes(), &provider.name)
            .await?;
        Ok(assertion::assemble(&input, &signature))
    }

    /// Sends one token request and says what became of it.
    pub(crate) async fn call(&self, provider: &Oauth2Provider, request: HttpRequest) -> Outcome {
        let response = match self.ports.http.send(request).await {
            Ok(response) => response,
            Err(error @ HttpError::Unknown { .. }) => return Outcome::Unknown(error.to_string()),
            Err(error @ (HttpError::Forbidden { .. } | HttpError::NotSent { .. })) => {
                return Outcome::NotSent(out_of_reach(provider, error));
            }
        };
        match parse_token_response(provider.registration.vendor, &response) {
            Ok(tokens) => Outcome::Tokens(Box::new(tokens)),
            Err(TokenFailure::Refused { code, .. }) => Outcome::Refused(code),
            Err(TokenFailure::Throttled { retry_after }) => {
                Outcome::Throttled(retry_after.map(|wait| wait.min(LONGEST_WAIT)))
            }
            Err(TokenFailure::Unusable { reason }) => Outcome::Unknown(reason),
        }
    }
}

impl Client {
    /// How the client proves itself.
    pub(crate) fn proof(&self) -> ClientProof<'_> {
        match &self.proof {
            Proof::Basic(secret) => ClientProof::Basic(secret),
            Proof::Post(secret) => ClientProof::Post(secret),
            Proof::Assertion(assertion) => ClientProof::Assertion(assertion),
        }
    }

    /// Whether the provider has a way to revoke, which takes access tokens and no others.
    pub(crate) fn ends_by_access_token(&self, provider: &Oauth2Provider) -> bool {
        let way = catalogue::facts(provider.registration.vendor).revocation_way;
        self.server.revocation_endpoint.is_some() && way != RevocationWay::Rfc7009
    }

    /// The token request for a grant.
    pub(crate) fn request(
        &self,
        provider: &Oauth2Provider,
        grant: TokenGrant<'_>,
        resources: &[String],
        audiences: &[String],
        custom_parameters: &BTreeMap<String, String>,
    ) -> HttpRequest {
        TokenRequest {
            registration: &provider.registration,
            server: &self.server,
            grant,
            proof: self.proof(),
            resources,
            audiences,
            custom_parameters,
        }
        .build()
    }
}

/// What the client of ours is told when the provider refused.
pub(crate) fn refusal(provider: &Oauth2Provider, code: RefusalCode) -> Error {
    misconfigured(provider, &format!("the provider answered `{}`", code.as_str()))
}

/// What the client of ours is told when a server of the provider's cannot be reached: which provider, and what kind of trouble.
pub(crate) fn out_of_reach(provider: &Oauth2Provider, error: HttpError) -> Error {
    match &error {
        // It will stay so, and the text says what would allow it.
        HttpError::Forbidden { .. } => error.into(),
        HttpError::NotSent { reason, .. } | HttpError::Unknown { reason, .. } => Error::new(
            ErrorKind::Throttling,
            format!("the provider `{}` cannot be reached now: {reason}; try again", provider.name),
        )
        .with_detail(error),
    }
}

/// What the client of ours is told when the provider cannot be asked now.
pub(crate) fn unavailable(provider: &Oauth2Provider, detail: impl std::fmt::Display) -> Error {
    Error::new(
        ErrorKind::Throttling,
        format!("the provider `{}` gives no usable answer now; try again", provider.name),
    )
    .with_detail(detail)
}
