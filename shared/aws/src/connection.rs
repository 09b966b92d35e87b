//! How AWS is reached: region, credentials, endpoints, time limits, one HTTP client for all services.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_sdk_dynamodb::config::{BehaviorVersion, IdentityCache, SharedHttpClient};
use aws_types::SdkConfig;
use aws_types::region::Region;
use aws_types::sdk_config::{RetryConfig, TimeoutConfig};

use crate::http::{Http1, Roots};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one attempt of a call may take.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a call may take with its repetitions.
const CALL_TIMEOUT: Duration = Duration::from_secs(8);

/// Attempts of a call that is safe to repeat.
const ATTEMPTS: u32 = 4;

/// Why AWS cannot be reached as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// Where AWS is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsSettings {
    /// The region.
    pub region: String,
    /// Instead of DynamoDB's own endpoint.
    pub dynamodb: Option<String>,
    /// Instead of KMS's own endpoint.
    pub kms: Option<String>,
    /// Instead of Secrets Manager's own endpoint.
    pub secrets_manager: Option<String>,
    /// Instead of SQS's own endpoint.
    pub sqs: Option<String>,
    /// Instead of EventBridge's own endpoint.
    pub eventbridge: Option<String>,
}

impl AwsSettings {
    /// From the variables that the AWS SDKs read: `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_<SERVICE>` (AWS SDKs
    /// and Tools Reference Guide, "Service-specific endpoints"). `get` gives a variable.
    ///
    /// # Errors
    /// When there is no region.
    pub fn from_environment(get: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let set = |name: &str| get(name).filter(|value| !value.is_empty());
        let region = set("AWS_REGION")
            .or_else(|| set("AWS_DEFAULT_REGION"))
            .ok_or_else(|| SettingsError("AWS_REGION is not set".to_owned()))?;
        let endpoint =
            |service: &str| set(&format!("AWS_ENDPOINT_URL_{service}")).or_else(|| set("AWS_ENDPOINT_URL"));
        Ok(Self {
            region,
            dynamodb: endpoint("DYNAMODB"),
            kms: endpoint("KMS"),
            secrets_manager: endpoint("SECRETS_MANAGER"),
            sqs: endpoint("SQS"),
            eventbridge: endpoint("EVENTBRIDGE"),
        })
    }

    /// Whom the endpoints have their certificates from: those that are not AWS's own, from whomever the system trusts.
    fn roots(&self) -> Roots {
        let endpoints = [&self.dynamodb, &self.kms, &self.secrets_manager, &self.sqs, &self.eventbridge];
        let is_foreign = endpoints.into_iter().flatten().any(|endpoint| endpoint.starts_with("https:"));
        if is_foreign { Roots::System } else { Roots::Amazon }
    }
}

/// What all clients share. Making it opens nothing.
#[derive(Clone, Debug)]
pub struct AwsConnection {
    settings: AwsSettings,
    config: SdkConfig,
}

impl AwsConnection {
    /// With the credentials of the environment, which are read again for each call: Lambda may renew them.
    pub fn new(settings: AwsSettings) -> Self {
        let http = SharedHttpClient::new(Http1::new(settings.roots(), CONNECT_TIMEOUT));
        Self::with(settings, http, SharedCredentialsProvider::new(EnvironmentCredentials))
    }

    /// For tests of the requests: what is sent goes to `http`.
    #[cfg(test)]
    pub(crate) fn with_credentials(settings: AwsSettings, http: SharedHttpClient) -> Self {
        let credentials = Credentials::new("AKIATEST", "secret", None, None, "test");
        Self::with(settings, http, SharedCredentialsProvider::new(credentials))
    }

    fn with(settings: AwsSettings, http: SharedHttpClient, credentials: SharedCredentialsProvider) -> Self {
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new(settings.region.clone()))
            .credentials_provider(credentials)
            .identity_cache(IdentityCache::no_cache())
            .http_client(http)
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_attempt_timeout(ATTEMPT_TIMEOUT)
                    .operation_timeout(CALL_TIMEOUT)
                    .build(),
            )
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(ATTEMPTS)
                    .with_initial_backoff(Duration::from_millis(50))
                    .with_max_backoff(Duration::from_secs(1)),
            )
            .build();
        Self { settings, config }
    }

    fn at(&self, endpoint: Option<&String>) -> SdkConfig {
        let mut config = self.config.to_builder();
        config.set_endpoint_url(endpoint.cloned());
        config.build()
    }

    /// A client that repeats what failed in passing: for calls that are safe to repeat.
    pub(crate) fn dynamodb(&self) -> aws_sdk_dynamodb::Client {
        aws_sdk_dynamodb::Client::new(&self.at(self.settings.dynamodb.as_ref()))
    }

    /// A client that makes each call once: whoever writes must know what became of every attempt.
    pub(crate) fn dynamodb_once(&self) -> aws_sdk_dynamodb::Client {
        let config = aws_sdk_dynamodb::config::Builder::from(&self.at(self.settings.dynamodb.as_ref()))
            .retry_config(RetryConfig::disabled())
            .build();
        aws_sdk_dynamodb::Client::from_conf(config)
    }

    pub(crate) fn kms(&self) -> aws_sdk_kms::Client {
        aws_sdk_kms::Client::new(&self.at(self.settings.kms.as_ref()))
    }

    pub(crate) fn secrets_manager(&self) -> aws_sdk_secretsmanager::Client {
        aws_sdk_secretsmanager::Client::new(&self.at(self.settings.secrets_manager.as_ref()))
    }

    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.at(self.settings.sqs.as_ref()))
    }

    pub(crate) fn eventbridge(&self) -> aws_sdk_eventbridge::Client {
        aws_sdk_eventbridge::Client::new(&self.at(self.settings.eventbridge.as_ref()))
    }
}

/// The credentials in `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, as Lambda gives them.
#[derive(Debug)]
struct EnvironmentCredentials;

impl ProvideCredentials for EnvironmentCredentials {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let found = match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => {
                Ok(Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None, "environment"))
            }
            _ => Err(CredentialsError::not_loaded("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set")),
        };
        future::ProvideCredentials::ready(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<AwsSettings, SettingsError> {
        AwsSettings::from_environment(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_endpoint_of_a_service_wins_over_the_one_of_all() {
        let settings = settings(&[
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
            ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:2"),
            ("AWS_ENDPOINT_URL_KMS", ""),
        ])
        .unwrap();
        assert_eq!(settings.dynamodb.as_deref(), Some("http://127.0.0.1:2"));
        assert_eq!(settings.kms.as_deref(), Some("http://127.0.0.1:1"));
    }

    #[test]
    fn an_endpoint_that_is_not_awss_own_is_trusted_as_the_system_says() {
        let roots =
            |url| settings(&[("AWS_REGION", "eu-west-1"), ("AWS_ENDPOINT_URL_KMS", url)]).unwrap().roots();
        assert_eq!(roots(""), Roots::Amazon);
        assert_eq!(roots("http://127.0.0.1:1"), Roots::Amazon, "there is no certificate");
        assert_eq!(roots("https://kms.example"), Roots::System);
    }

    #[test]
    fn no_region_is_an_error_that_names_the_variable() {
        assert!(settings(&[]).unwrap_err().to_string().contains("AWS_REGION"));
    }
}
