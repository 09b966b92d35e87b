//! What the function is told, and the use case composed from it. Nothing is opened here.

use std::sync::Arc;

use agent_identity_aws::{AwsConnection, AwsSettings, DynamoRows, DynamoStore, KmsWrapper};
use agent_identity_core::Clock;
use agent_identity_core::issuer::parse_trusted_issuers;
use agent_identity_core::random::Random;
use agent_identity_core::seal::AuthorizerKeys;
use agent_identity_core::store::ReadAhead;
use agent_identity_egress::{AllowList, GuardedClient};
use agent_identity_inbound::{AuthorizeRequest, Minting};
use agent_identity_jose::{JwtVerifier, RootedAuthorizerKeys};
use agent_identity_system::{Sha256, SystemClock, SystemRandom};
use lambda_runtime::Error;

use crate::settings::Settings;

/// The use case, and how API Gateway asks for it.
pub struct Authorizer {
    pub authorize: AuthorizeRequest,
    /// How it is attached.
    pub settings: Settings,
}

impl Authorizer {
    /// From what [`Settings`] reads, and `AGENT_IDENTITY_TABLE`, `_TRUSTED_ISSUERS`, `_EGRESS_ALLOW`, `_EXTRA_CA_FILE`, `_AUTHORIZER_KMS_KEY_ID`, and what the AWS SDKs read.
    ///
    /// # Errors
    /// When a variable is missing or is not what it must be.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let settings = Settings::from_environment(set)?;
        let connection = AwsConnection::new(AwsSettings::from_environment(set)?);
        let table = set("AGENT_IDENTITY_TABLE").ok_or("AGENT_IDENTITY_TABLE is not set")?;
        let issuers = match set("AGENT_IDENTITY_TRUSTED_ISSUERS") {
            Some(text) => parse_trusted_issuers(&text)
                .map_err(|why| format!("AGENT_IDENTITY_TRUSTED_ISSUERS: {why}"))?,
            None => Vec::new(),
        };
        let egress = match set("AGENT_IDENTITY_EGRESS_ALLOW") {
            Some(text) => {
                AllowList::parse(&text).map_err(|why| format!("AGENT_IDENTITY_EGRESS_ALLOW: {why}"))?
            }
            None => AllowList::default(),
        };
        let extra_roots = match set("AGENT_IDENTITY_EXTRA_CA_FILE") {
            Some(path) => {
                std::fs::read(&path).map_err(|why| format!("AGENT_IDENTITY_EXTRA_CA_FILE: {path}: {why}"))?
            }
            None => Vec::new(),
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let random: Arc<dyn Random> = Arc::new(SystemRandom);
        // Where it is not told of a root key, it issues nothing and asks nobody about opaque tokens (D16).
        let keys = set("AGENT_IDENTITY_AUTHORIZER_KMS_KEY_ID").map(|key| {
            let root = Arc::new(KmsWrapper::new(connection.clone(), key, Vec::new()));
            let keys = RootedAuthorizerKeys::new(root, Arc::clone(&clock), Arc::clone(&random));
            Arc::new(keys) as Arc<dyn AuthorizerKeys>
        });
        let minting = keys.clone().map(|keys| Minting { keys, random: Arc::clone(&random) });
        let table = DynamoStore::new(connection, table, Arc::clone(&clock), random);
        let rows = Arc::new(DynamoRows::new(table));
        let store = Arc::new(ReadAhead::new(rows, Arc::clone(&clock)));
        let http = Arc::new(GuardedClient::new(egress, extra_roots));
        // The keys of issuers are written by the refresh function alone (D16).
        let verifier =
            JwtVerifier::with_store(http, Arc::clone(&clock), store.clone(), false).introspecting(keys);
        let (verifier, digest) = (Arc::new(verifier), Arc::new(Sha256));
        Ok(Self {
            authorize: AuthorizeRequest::new(store, verifier, digest, clock, issuers, minting),
            settings,
        })
    }
}
