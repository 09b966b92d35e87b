//! Who is in the story: a company's identity provider, a calendar vendor with its own, an API, and the server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use agent_identity_core::issuer::{TrustedIssuer, default_subject_claim};
use agent_identity_core::random::handle;
use agent_identity_core::{Clock, Secret};
use agent_identity_egress::AllowList;
use agent_identity_local::{SystemClock, SystemRandom};

use super::idp::{self, Client, GrantType, IdentityProvider};
use super::tool::{self, ProtectedApi};
use crate::CommandResult;
use crate::client;
use crate::compose::DEFAULT_REGION;
use crate::data_dir::DefaultKey;
use agent_identity_service::audit::DEFAULT_DAYS;

use crate::serve::{DEFAULT_REFRESH_EVERY, Plan, Server};

/// How long the vendor's access tokens live, in seconds: short, so that one runs out while you watch.
pub const VENDOR_TOKEN_SECONDS: u32 = 3;

/// The scope that opens the calendar.
pub const CALENDAR_SCOPE: &str = "calendar.read";

/// The client of the app at the company's provider.
pub const APP_CLIENT: &str = "my-app";

/// The client of the agent at the vendor.
pub const AGENT_CLIENT: &str = "my-agent-at-the-vendor";

/// Where the app would answer its user's browser; the story looks at the redirect instead of following it.
pub const APP_URL: &str = "http://localhost:8081";

/// Everybody.
pub struct World {
    /// Signs the user in.
    pub company: IdentityProvider,
    /// Gives tokens for the calendar.
    pub vendor: IdentityProvider,
    /// The calendar and the weather.
    pub api: ProtectedApi,
    /// The weather's key.
    pub api_key: Secret,
    /// The app's secret at the company's provider.
    pub app_secret: Secret,
    /// The agent's secret at the vendor.
    pub agent_secret: Secret,
    /// The server's URL.
    pub url: String,
    /// The access key that the server made.
    pub key: DefaultKey,
    /// The server, until nobody needs it.
    pub server: tokio::task::JoinHandle<bool>,
}

fn secret() -> Secret {
    Secret::new(handle(&SystemRandom))
}

async fn provider(
    scopes: Vec<idp::Scope>,
    audience: &str,
    seconds: u32,
) -> std::io::Result<IdentityProvider> {
    IdentityProvider::start(idp::Config {
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        scopes,
        audience: audience.to_owned(),
        access_token_seconds: seconds,
        id_token_seconds: 3600,
    })
    .await
}

impl World {
    /// Starts everybody, on free ports of this machine.
    ///
    /// # Errors
    /// When a port or the directory cannot be had.
    pub async fn start(directory: &Path) -> CommandResult<Self> {
        let (app_secret, agent_secret, api_key) = (secret(), secret(), secret());
        let company = provider(Vec::new(), "https://app.example", 3600).await?;
        let callback = format!("{APP_URL}/signed-in");
        company.register_client(Client {
            id: APP_CLIENT.to_owned(),
            name: "The app".to_owned(),
            secret: app_secret.clone(),
            redirect_uris: vec![callback],
            grant_types: vec![GrantType::AuthorizationCode],
        });
        let audience = "https://calendar.example";
        let scopes = vec![idp::Scope { name: CALENDAR_SCOPE, meaning: "read your calendar" }];
        let vendor = provider(scopes, audience, VENDOR_TOKEN_SECONDS).await?;
        vendor.register_client(Client {
            id: AGENT_CLIENT.to_owned(),
            name: "my-agent".to_owned(),
            secret: agent_secret.clone(),
            redirect_uris: Vec::new(),
            grant_types: vec![GrantType::AuthorizationCode, GrantType::RefreshToken],
        });
        let api = ProtectedApi::start(tool::Config {
            verifier: vendor.verifier(),
            audience: audience.to_owned(),
            calendar_scope: CALENDAR_SCOPE.to_owned(),
            api_key: api_key.clone(),
        })
        .await?;
        let allowed = [company.issuer(), vendor.issuer(), api.origin()]
            .map(|origin| origin.trim_start_matches("http://").parse());
        let plan = Plan {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            public_base_url: None,
            egress: AllowList::new(allowed.into_iter().collect::<Result<Vec<_>, _>>()?),
            issuers: vec![TrustedIssuer {
                issuer: company.issuer().to_owned(),
                audiences: vec![APP_CLIENT.to_owned()],
                clients: Vec::new(),
                algorithms: Vec::new(),
                typ: None,
                subject_claim: default_subject_claim(),
            }],
            region: DEFAULT_REGION.to_owned(),
            extra_roots: Vec::new(),
            webhook: None,
            refresh_every: DEFAULT_REFRESH_EVERY,
            audit_days: DEFAULT_DAYS,
        };
        let server = Server::start(directory, plan).await?;
        let url = server.url.clone();
        let key = DefaultKey::read(directory)?.ok_or("the server made no access key")?;
        let server = tokio::spawn(server.run(std::future::pending()));
        Ok(Self { company, vendor, api, api_key, app_secret, agent_secret, url, key, server })
    }

    /// The time.
    pub fn now() -> agent_identity_core::Timestamp {
        SystemClock.now()
    }

    /// A client of the server, with its key.
    ///
    /// # Errors
    /// When the server's address is none.
    pub fn client(&self) -> CommandResult<client::Client> {
        let DefaultKey { access_key_id, secret_access_key } = &self.key;
        client::Client::new(&self.url, DEFAULT_REGION, access_key_id, secret_access_key, Vec::new())
    }
}
