//! Where the records are that a command manages: in a data directory, or in the table of a deployment on AWS.

use std::sync::Arc;

use agent_identity_service::Services;

use crate::compose::{self, DEFAULT_REGION, Settings};
use crate::{CommandResult, DataArgs};

/// Whose records.
#[derive(Clone, Debug, clap::Args)]
pub struct StoreArgs {
    #[command(flatten)]
    data: DataArgs,
    #[cfg(feature = "aws")]
    #[command(flatten)]
    aws: aws::AwsArgs,
}

impl StoreArgs {
    /// The use cases over these records; a data directory is made if `make` says so and there is none.
    ///
    /// # Errors
    /// When the data directory cannot be used, or the deployment is not named.
    pub async fn services(&self, make: bool) -> CommandResult<Arc<Services>> {
        #[cfg(feature = "aws")]
        if let Some(services) = self.aws.services()? {
            return Ok(services);
        }
        let (path, settings) = (self.data.path()?, Settings::offline(DEFAULT_REGION));
        let local = if make {
            compose::open(&path, settings).await?
        } else {
            compose::open_existing(&path, settings).await?
        };
        Ok(local.services)
    }

    /// The use cases over a deployment's table, for what a data directory has no use for. Its KMS key may be left out where
    /// nothing is sealed or opened.
    ///
    /// # Errors
    /// When the deployment is not named.
    #[cfg(feature = "aws")]
    pub fn deployment(&self) -> CommandResult<Arc<Services>> {
        self.aws.deployment()
    }
}

#[cfg(feature = "aws")]
mod aws {
    use std::sync::Arc;

    use agent_identity_aws::AwsSettings;
    use agent_identity_core::arn::Place;
    use agent_identity_core::issuer::IssuerPolicy;
    use agent_identity_egress::AllowList;
    use agent_identity_lambda::{Composed, Environment};
    use agent_identity_service::Services;

    use crate::compose::ACCOUNT;
    use crate::{CommandError, CommandResult};

    /// Which store.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
    enum Kind {
        /// A data directory on this machine
        Sqlite,
        /// The table of a deployment on AWS
        Dynamodb,
    }

    /// A deployment on AWS, reached with the credentials in the environment.
    #[derive(Clone, Debug, clap::Args)]
    pub struct AwsArgs {
        /// Where the records are; dynamodb takes AWS credentials and region from the environment
        #[arg(long, value_name = "STORE", value_enum, default_value = "sqlite")]
        store: Kind,
        /// The deployment's table: the stack's output TableName
        #[arg(long, value_name = "TABLE", env = "AGENT_IDENTITY_TABLE")]
        table: Option<String>,
        /// The deployment's KMS key: the stack's output VaultKeyArn
        #[arg(long, value_name = "KEY", env = "AGENT_IDENTITY_KMS_KEY_ID")]
        kms_key_id: Option<String>,
        /// A KMS key of before, until SetTokenVaultCMK has been called
        #[arg(long, value_name = "KEY", env = "AGENT_IDENTITY_FORMER_KMS_KEY_IDS", value_delimiter = ',')]
        former_kms_key_id: Vec<String>,
        /// Instead of AWS's own endpoints
        #[arg(long, value_name = "URL")]
        endpoint_url: Option<String>,
    }

    impl AwsArgs {
        /// The use cases over a deployment's table, if one is meant.
        pub fn services(&self) -> CommandResult<Option<Arc<Services>>> {
            if self.store == Kind::Sqlite {
                return Ok(None);
            }
            self.compose(needed(&self.kms_key_id, "--kms-key-id")?).map(Some)
        }

        /// The same, where nothing else can be meant.
        pub fn deployment(&self) -> CommandResult<Arc<Services>> {
            if self.store == Kind::Sqlite {
                return Err(CommandError(
                    "this is about a deployment on AWS, and a data directory has none of it: add --store dynamodb".to_owned(),
                ));
            }
            self.compose(self.kms_key_id.clone().unwrap_or_default())
        }

        fn compose(&self, kms_key_id: String) -> CommandResult<Arc<Services>> {
            let aws = AwsSettings::from_environment(|name| match &self.endpoint_url {
                Some(url) if name == "AWS_ENDPOINT_URL" => Some(url.clone()),
                Some(_) if name.starts_with("AWS_ENDPOINT_URL_") => None,
                _ => std::env::var(name).ok(),
            })?;
            let environment = Environment {
                table: needed(&self.table, "--table")?,
                kms_key_id,
                former_kms_key_ids: self.former_kms_key_id.clone(),
                secret_prefix: String::new(),
                event_bus: String::new(),
                place: Place { region: aws.region.clone(), account: ACCOUNT.to_owned() },
                aws,
                public_base_url: String::new(),
                issuers: IssuerPolicy::Trusted(Vec::new()),
                egress: AllowList::default(),
                extra_roots: Vec::new(),
            };
            Ok(Composed::new(&environment).services)
        }
    }

    fn needed(value: &Option<String>, flag: &str) -> CommandResult<String> {
        value.clone().ok_or_else(|| CommandError(format!("--store dynamodb needs {flag}")))
    }
}
