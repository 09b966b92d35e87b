//! Where the records are that a command manages: in a data directory, or in the table of a deployment on AWS.

use std::path::PathBuf;
use std::sync::Arc;

use agent_identity_core::grant::{Grant, Principal};
use agent_identity_core::issuer::IssuerPolicy;
use agent_identity_egress::AllowList;
use agent_identity_service::Services;

use crate::compose::{self, DEFAULT_REGION, Settings};
use crate::events::webhook_url;
use crate::serve::{EGRESS_HELP, ISSUER_HELP, Issuers, extra_roots, trusted_issuers};
use crate::{CommandResult, DataArgs};

/// How who sits at the machine is called.
pub const ADMINISTRATOR: &str = "administrator";

/// Who sits at the machine and holds the store may do everything with it.
pub fn administrator() -> Principal {
    Principal { name: ADMINISTRATOR.to_owned(), grants: vec![Grant::everything()] }
}

/// What a command must know of the deployment, to decide or to reach an issuer as its processes do.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ReachArgs {
    /// Where requests may go besides the public internet.
    #[arg(long, value_name = "HOST:PORT", help = EGRESS_HELP, env = "AGENT_IDENTITY_EGRESS_ALLOW", value_parser = AllowList::parse)]
    allow_egress: Vec<AllowList>,
    /// Whose tokens open sessions.
    #[arg(long, value_name = "ISSUER", help = ISSUER_HELP, env = "AGENT_IDENTITY_TRUSTED_ISSUERS", value_parser = trusted_issuers)]
    trusted_issuer: Vec<Issuers>,
    /// PEM file with further roots for outbound TLS
    #[arg(long, value_name = "FILE", env = "AGENT_IDENTITY_EXTRA_CA_FILE")]
    extra_ca_file: Option<PathBuf>,
    /// Post events there, signed with the secret that `agent-identity webhook-secret` prints
    #[arg(long, value_name = "URL", env = "AGENT_IDENTITY_WEBHOOK", value_parser = webhook_url)]
    webhook: Option<String>,
}

impl ReachArgs {
    fn settings(&self) -> CommandResult<Settings> {
        Ok(Settings {
            issuers: IssuerPolicy::Trusted(self.trusted_issuer.iter().flat_map(|it| it.0.clone()).collect()),
            egress: self.allow_egress.iter().cloned().collect(),
            extra_roots: extra_roots(self.extra_ca_file.as_deref())?,
            webhook: self.webhook.clone(),
            ..Settings::offline(DEFAULT_REGION)
        })
    }
}

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
        let settings = Settings::offline(DEFAULT_REGION);
        #[cfg(feature = "aws")]
        if let Some(services) = self.aws.services()? {
            return Ok(services);
        }
        let path = self.data.path()?;
        let local = if make {
            compose::open(&path, settings).await?
        } else {
            compose::open_existing(&path, settings).await?
        };
        Ok(local.services)
    }

    /// The use cases over records that are there, reaching issuers as the deployment does.
    ///
    /// # Errors
    /// When the data directory cannot be used, or the deployment is not named.
    pub async fn reaching(&self, reach: &ReachArgs) -> CommandResult<Arc<Services>> {
        let settings = reach.settings()?;
        #[cfg(feature = "aws")]
        if let Some(services) = self.aws.reaching(&settings)? {
            return Ok(services);
        }
        Ok(compose::open_existing(&self.data.path()?, settings).await?.services)
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
    use agent_identity_core::authorizer::KeyPurpose;
    use agent_identity_lambda::{Composed, Environment, kms_signer};
    use agent_identity_service::Services;
    use agent_identity_service::audit::{DEFAULT_DAYS, Life};

    use crate::compose::{ACCOUNT, DEFAULT_REGION, Settings};
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
        /// The KMS key over the keys of authorizers, where the deployment has one: the stack's output AuthorizerKeyArn
        #[arg(long, value_name = "KEY", env = "AGENT_IDENTITY_AUTHORIZER_KMS_KEY_ID")]
        authorizer_kms_key_id: Option<String>,
        /// The KMS key that signs the audit trail, for `audit verify`: the stack's output AuditKeyArn
        #[arg(long, value_name = "KEY", env = "AGENT_IDENTITY_AUDIT_KMS_KEY_ID")]
        audit_kms_key_id: Option<String>,
        /// How long the deployment keeps each day of the audit trail, for what a command changes: the stack's parameter AuditDays
        #[arg(long, value_name = "DAYS", default_value_t = DEFAULT_DAYS, env = "AGENT_IDENTITY_AUDIT_DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
        audit_days: u32,
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
            self.compose(needed(&self.kms_key_id, "--kms-key-id")?, &Settings::offline(DEFAULT_REGION))
                .map(Some)
        }

        /// The same, where nothing is sealed or opened: the KMS key may be left out.
        pub fn reaching(&self, settings: &Settings) -> CommandResult<Option<Arc<Services>>> {
            if self.store == Kind::Sqlite {
                return Ok(None);
            }
            self.compose(self.kms_key_id.clone().unwrap_or_default(), settings).map(Some)
        }

        /// The same, where nothing else can be meant.
        pub fn deployment(&self) -> CommandResult<Arc<Services>> {
            if self.store == Kind::Sqlite {
                return Err(CommandError(
                    "this is about a deployment on AWS, and a data directory has none of it: add --store dynamodb".to_owned(),
                ));
            }
            self.compose(self.kms_key_id.clone().unwrap_or_default(), &Settings::offline(DEFAULT_REGION))
        }

        fn compose(&self, kms_key_id: String, settings: &Settings) -> CommandResult<Arc<Services>> {
            let aws = AwsSettings::from_environment(|name| match &self.endpoint_url {
                Some(url) if name == "AWS_ENDPOINT_URL" => Some(url.clone()),
                Some(_) if name.starts_with("AWS_ENDPOINT_URL_") => None,
                _ => std::env::var(name).ok(),
            })?;
            let environment = Environment {
                table: needed(&self.table, "--table")?,
                kms_key_id,
                former_kms_key_ids: self.former_kms_key_id.clone(),
                authorizer_kms_key_id: self.authorizer_kms_key_id.clone(),
                // What the caller's own permissions on the key allow.
                authorizer_key_purposes: KeyPurpose::ALL.to_vec(),
                audit_kms_key_id: self.audit_kms_key_id.clone(),
                audit_days: self.audit_days,
                usage_metrics: false,
                usage_every: std::time::Duration::ZERO,
                secret_prefix: String::new(),
                event_bus: String::new(),
                place: Place { region: aws.region.clone(), account: ACCOUNT.to_owned() },
                aws,
                public_base_url: String::new(),
                issuers: settings.issuers.clone(),
                egress: settings.egress.clone(),
                extra_roots: settings.extra_roots.clone(),
            };
            Ok(Composed::new(&environment, Life::Brief, Some(kms_signer)).services)
        }
    }

    fn needed(value: &Option<String>, flag: &str) -> CommandResult<String> {
        value.clone().ok_or_else(|| CommandError(format!("--store dynamodb needs {flag}")))
    }
}
