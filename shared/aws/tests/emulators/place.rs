//! Where the emulators are, and what the tests make there.

use agent_identity_aws::{AwsConnection, AwsSettings};
use agent_identity_core::random::Random;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};

/// The region of everything that the tests make.
pub const REGION: &str = "us-east-1";

/// The base URL in this variable, which `tests/emulators.py up` prints.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run `bash tests/run aws`"))
}

/// DynamoDB Local.
pub fn dynamodb_local() -> String {
    variable("AGENT_IDENTITY_TEST_DYNAMODB_LOCAL")
}

/// moto, all services.
pub fn moto() -> String {
    variable("AGENT_IDENTITY_TEST_MOTO")
}

/// A connection to one emulator for all services.
pub fn connection(endpoint: &str) -> AwsConnection {
    let settings = AwsSettings::from_environment(|name| match name {
        "AWS_REGION" => Some(REGION.to_owned()),
        "AWS_ENDPOINT_URL" => Some(endpoint.to_owned()),
        _ => None,
    });
    AwsConnection::new(settings.unwrap())
}

/// The system's randomness: several test processes share one emulator.
pub struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).unwrap();
    }
}

/// What every client of the tests themselves is made of.
pub fn config(endpoint: &str) -> aws_types::SdkConfig {
    aws_types::SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(REGION))
        .endpoint_url(endpoint)
        .credentials_provider(aws_types::sdk_config::SharedCredentialsProvider::new(Credentials::new(
            "test", "test", None, None, "test",
        )))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build()
}
