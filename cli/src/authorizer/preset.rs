//! Presets on the command line.

use agent_identity_core::authorizer::preset::{EntraVersion, Made, Preset};
use serde_json::{Value, json};

use crate::{CommandError, CommandResult};

/// Which preset, and what it is made from.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Presets")]
pub struct PresetArgs {
    /// Make the configuration for an identity provider; `authorizer presets` says what each takes
    #[arg(long, value_enum)]
    preset: Option<Name>,
    /// Region of a Cognito user pool
    #[arg(long)]
    region: Option<String>,
    /// Id of a Cognito user pool
    #[arg(long)]
    user_pool: Option<String>,
    /// Domain at Okta or Auth0, such as example.okta.com
    #[arg(long)]
    domain: Option<String>,
    /// Id of an Okta authorization server [default: default]
    #[arg(long, value_name = "ID")]
    authorization_server: Option<String>,
    /// Id of an Entra tenant
    #[arg(long, value_name = "GUID")]
    tenant: Option<String>,
    /// Which tokens an API of Entra asks for, as its manifest says [default: v2]
    #[arg(long, value_name = "VERSION", value_parser = entra_version)]
    entra_version: Option<EntraVersion>,
    /// Issuer of any other provider, or the URL of its metadata
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// An audience that may pass (repeatable)
    #[arg(long)]
    audience: Vec<String>,
    /// A client that may pass (repeatable; one for okta and entra)
    #[arg(long)]
    client: Vec<String>,
    /// A scope that a token must have (repeatable, all are needed)
    #[arg(long)]
    scope: Vec<String>,
    /// Hand a workload access token of the agent on with each session
    #[arg(long)]
    issue_workload_access_token: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Name {
    /// Amazon Cognito
    Cognito,
    /// Okta
    Okta,
    /// Microsoft Entra ID
    Entra,
    /// Auth0
    Auth0,
    /// Any OpenID Connect provider
    Oidc,
}

fn entra_version(text: &str) -> Result<EntraVersion, String> {
    match text {
        "v1" => Ok(EntraVersion::V1),
        "v2" => Ok(EntraVersion::V2),
        _ => Err("must be v1 or v2".to_owned()),
    }
}

impl PresetArgs {
    /// What the preset makes of it, as the body of PutAuthorizer.
    ///
    /// # Errors
    /// When something is missing, wrong, or not for this preset.
    pub fn made(&self) -> CommandResult<Value> {
        let name =
            self.preset.ok_or_else(|| CommandError("name a --preset, or give a --config".to_owned()))?;
        self.only_for(name)?;
        let needed = |flag: &str, value: &Option<String>| {
            value.clone().ok_or_else(|| CommandError(format!("--{flag} is needed for this preset")))
        };
        let one_client = || match self.client.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one.clone())),
            _ => Err(CommandError(
                "one --client only: a custom claim has one value; put one authorizer for each".to_owned(),
            )),
        };
        let (audiences, clients) = (self.audience.clone(), self.client.clone());
        let preset = match name {
            Name::Cognito => Preset::Cognito {
                region: needed("region", &self.region)?,
                user_pool: needed("user-pool", &self.user_pool)?,
                clients,
            },
            Name::Okta => Preset::Okta {
                domain: needed("domain", &self.domain)?,
                authorization_server: self
                    .authorization_server
                    .clone()
                    .unwrap_or_else(|| "default".to_owned()),
                audiences,
                client: one_client()?,
            },
            Name::Entra => Preset::Entra {
                tenant: needed("tenant", &self.tenant)?,
                version: self.entra_version.unwrap_or(EntraVersion::V2),
                audiences,
                client: one_client()?,
            },
            Name::Auth0 => Preset::Auth0 { domain: needed("domain", &self.domain)?, audiences, clients },
            Name::Oidc => Preset::Oidc { issuer: needed("issuer", &self.issuer)?, audiences, clients },
        };
        let Made { configuration, mut options } = preset.make(&self.scope)?;
        options.issues_workload_access_token = self.issue_workload_access_token;
        Ok(json!({
            "authorizerConfiguration": { "customJWTAuthorizer": configuration },
            "options": options,
        }))
    }

    /// A flag that a preset has no use for is a misunderstanding, and must not be passed over.
    fn only_for(&self, name: Name) -> CommandResult {
        use Name::{Auth0, Cognito, Entra, Oidc, Okta};
        let flags: [(&str, bool, &[Name]); 8] = [
            ("region", self.region.is_some(), &[Cognito]),
            ("user-pool", self.user_pool.is_some(), &[Cognito]),
            ("domain", self.domain.is_some(), &[Okta, Auth0]),
            ("authorization-server", self.authorization_server.is_some(), &[Okta]),
            ("tenant", self.tenant.is_some(), &[Entra]),
            ("entra-version", self.entra_version.is_some(), &[Entra]),
            ("issuer", self.issuer.is_some(), &[Oidc]),
            ("audience", !self.audience.is_empty(), &[Okta, Entra, Auth0, Oidc]),
        ];
        match flags.iter().find(|(_, is_set, presets)| *is_set && !presets.contains(&name)) {
            Some(("audience", ..)) => Err(CommandError(
                "--audience is not for this preset: access tokens of Cognito have no audience".to_owned(),
            )),
            Some((flag, ..)) => Err(CommandError(format!("--{flag} is not for this preset"))),
            None => Ok(()),
        }
    }
}
