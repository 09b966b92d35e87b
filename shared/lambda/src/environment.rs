//! The environment of a function (`AGENT_IDENTITY_*`), read once at its start.

use std::time::Duration;

use agent_identity_api::Gateway;
use agent_identity_aws::AwsSettings;
use agent_identity_core::arn::Place;
use agent_identity_core::authorizer::KeyPurpose;
use agent_identity_core::issuer::{IssuerPolicy, parse_trusted_issuers};
use agent_identity_core::principal::PrincipalArn;
use agent_identity_egress::AllowList;
use agent_identity_service::audit::DEFAULT_DAYS;

/// What is wrong with the environment, by the variable's name.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct EnvironmentError(String);

impl EnvironmentError {
    /// A variable that must be set is not.
    pub fn missing(name: &str) -> Self {
        Self(format!("{name} is not set"))
    }
}

/// What every function is told.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Region, endpoints.
    pub aws: AwsSettings,
    /// `AGENT_IDENTITY_TABLE`.
    pub table: String,
    /// `AGENT_IDENTITY_KMS_KEY_ID`: wraps the vault keys, and encrypts secrets.
    pub kms_key_id: String,
    /// `AGENT_IDENTITY_FORMER_KMS_KEY_IDS`, separated by commas: what they have wrapped unwraps until it is wrapped anew.
    pub former_kms_key_ids: Vec<String>,
    /// `AGENT_IDENTITY_AUTHORIZER_KMS_KEY_ID`: wraps the keys of authorizers, where they may have any.
    pub authorizer_kms_key_id: Option<String>,
    /// `AGENT_IDENTITY_AUTHORIZER_KEY_PURPOSES`, separated by commas: what they may be for; all, where it is not said.
    pub authorizer_key_purposes: Vec<KeyPurpose>,
    /// `AGENT_IDENTITY_AUDIT_KMS_KEY_ID`: signs how far the audit trail has come, where this process may (D18).
    pub audit_kms_key_id: Option<String>,
    /// `AGENT_IDENTITY_AUDIT_DAYS`: for how many days each day of the audit trail is kept in the table, 1 to 36,500.
    pub audit_days: u32,
    /// `AGENT_IDENTITY_USAGE_METRICS`: whether usage becomes metrics by workload and provider, each of which costs money.
    pub usage_metrics: bool,
    /// `AGENT_IDENTITY_USAGE_EVERY`, in seconds: so long may what was counted wait to be written; a minute.
    pub usage_every: Duration,
    /// `AGENT_IDENTITY_SECRET_PREFIX`.
    pub secret_prefix: String,
    /// `AGENT_IDENTITY_EVENT_BUS`.
    pub event_bus: String,
    /// The region and account of ARNs.
    pub place: Place,
    /// `AGENT_IDENTITY_PUBLIC_BASE_URL`, without a trailing slash.
    pub public_base_url: String,
    /// `AGENT_IDENTITY_TRUSTED_ISSUERS`: none is trusted by default (D4).
    pub issuers: IssuerPolicy,
    /// `AGENT_IDENTITY_EGRESS_ALLOW`.
    pub egress: AllowList,
    /// The contents of `AGENT_IDENTITY_EXTRA_CA_FILE`.
    pub extra_roots: Vec<u8>,
}

/// Who says whose a request is (`AGENT_IDENTITY_PRINCIPAL`).
#[derive(Clone, Debug)]
pub enum PrincipalSource {
    /// API Gateway, which has verified the signature.
    Iam {
        /// Where requests must have come through.
        gateway: Gateway,
        /// `AGENT_IDENTITY_ADMIN_ROLE`.
        administrator: Option<PrincipalArn>,
    },
    /// We verify the signature, with keys in the table.
    AccessKeys,
}

/// A variable that is set and not empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn required(get: &impl Fn(&str) -> Option<String>, name: &str) -> Result<String, EnvironmentError> {
    get(name).ok_or_else(|| EnvironmentError::missing(name))
}

impl Environment {
    /// Reads it; `get` gives a variable.
    ///
    /// # Errors
    /// When a variable is missing or is not what it must be.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        let wrong = |name: &str, why: &dyn std::fmt::Display| EnvironmentError(format!("{name}: {why}"));
        let aws = AwsSettings::from_environment(&get).map_err(|error| EnvironmentError(error.to_string()))?;
        let issuers = match get("AGENT_IDENTITY_TRUSTED_ISSUERS") {
            Some(text) => {
                parse_trusted_issuers(&text).map_err(|why| wrong("AGENT_IDENTITY_TRUSTED_ISSUERS", &why))?
            }
            None => Vec::new(),
        };
        let egress = match get("AGENT_IDENTITY_EGRESS_ALLOW") {
            Some(text) => {
                AllowList::parse(&text).map_err(|why| wrong("AGENT_IDENTITY_EGRESS_ALLOW", &why))?
            }
            None => AllowList::default(),
        };
        let extra_roots = match get("AGENT_IDENTITY_EXTRA_CA_FILE") {
            Some(path) => std::fs::read(&path)
                .map_err(|why| wrong("AGENT_IDENTITY_EXTRA_CA_FILE", &format!("{path}: {why}")))?,
            None => Vec::new(),
        };
        Ok(Self {
            place: Place {
                region: aws.region.clone(),
                account: required(&get, "AGENT_IDENTITY_ACCOUNT_ID")?,
            },
            aws,
            table: required(&get, "AGENT_IDENTITY_TABLE")?,
            kms_key_id: required(&get, "AGENT_IDENTITY_KMS_KEY_ID")?,
            former_kms_key_ids: get("AGENT_IDENTITY_FORMER_KMS_KEY_IDS")
                .map(|ids| ids.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
            authorizer_key_purposes: match get("AGENT_IDENTITY_AUTHORIZER_KEY_PURPOSES") {
                Some(text) => {
                    text.split(',').map(KeyPurpose::parse).collect::<Option<_>>().ok_or_else(|| {
                        wrong("AGENT_IDENTITY_AUTHORIZER_KEY_PURPOSES", &"has an unknown purpose")
                    })?
                }
                None => KeyPurpose::ALL.to_vec(),
            },
            authorizer_kms_key_id: get("AGENT_IDENTITY_AUTHORIZER_KMS_KEY_ID"),
            audit_kms_key_id: get("AGENT_IDENTITY_AUDIT_KMS_KEY_ID"),
            audit_days: match get("AGENT_IDENTITY_AUDIT_DAYS") {
                Some(text) => {
                    text.parse().ok().filter(|days| (1..=36_500).contains(days)).ok_or_else(|| {
                        wrong("AGENT_IDENTITY_AUDIT_DAYS", &"must be a number of days, 1 to 36500")
                    })?
                }
                None => DEFAULT_DAYS,
            },
            usage_metrics: match get("AGENT_IDENTITY_USAGE_METRICS").as_deref() {
                Some("true") => true,
                None | Some("false") => false,
                Some(_) => return Err(wrong("AGENT_IDENTITY_USAGE_METRICS", &"must be true or false")),
            },
            usage_every: match get("AGENT_IDENTITY_USAGE_EVERY") {
                Some(text) => Duration::from_secs(
                    text.parse().map_err(|why| wrong("AGENT_IDENTITY_USAGE_EVERY", &why))?,
                ),
                None => Duration::from_secs(60),
            },
            secret_prefix: required(&get, "AGENT_IDENTITY_SECRET_PREFIX")?,
            event_bus: required(&get, "AGENT_IDENTITY_EVENT_BUS")?,
            public_base_url: required(&get, "AGENT_IDENTITY_PUBLIC_BASE_URL")?
                .trim_end_matches('/')
                .to_owned(),
            issuers: IssuerPolicy::Trusted(issuers),
            egress,
            extra_roots,
        })
    }
}

impl PrincipalSource {
    /// Reads it; there is no default, so that nothing is open by accident.
    ///
    /// # Errors
    /// When a variable is missing or is not what it must be.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, EnvironmentError> {
        const NAME: &str = "AGENT_IDENTITY_PRINCIPAL";
        match required(&get, NAME)?.as_str() {
            "access-keys" => Ok(Self::AccessKeys),
            "iam" => Ok(Self::Iam {
                gateway: Gateway {
                    api_id: required(&get, "AGENT_IDENTITY_API_ID")?,
                    account_id: required(&get, "AGENT_IDENTITY_ACCOUNT_ID")?,
                },
                administrator: get("AGENT_IDENTITY_ADMIN_ROLE")
                    .map(|arn| PrincipalArn::parse(&arn))
                    .transpose()
                    .map_err(|why| EnvironmentError(format!("AGENT_IDENTITY_ADMIN_ROLE {why}")))?,
            }),
            other => Err(EnvironmentError(format!("{NAME} is `{other}`; it must be iam or access-keys"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [(&str, &str); 9] = [
        ("AWS_REGION", "eu-west-1"),
        ("AGENT_IDENTITY_ACCOUNT_ID", "123456789012"),
        ("AGENT_IDENTITY_TABLE", "table"),
        ("AGENT_IDENTITY_KMS_KEY_ID", "key"),
        ("AGENT_IDENTITY_SECRET_PREFIX", "agent-identity/"),
        ("AGENT_IDENTITY_EVENT_BUS", "bus"),
        ("AGENT_IDENTITY_PUBLIC_BASE_URL", "https://api.example/"),
        ("AGENT_IDENTITY_PRINCIPAL", "iam"),
        ("AGENT_IDENTITY_API_ID", "abc"),
    ];

    fn without<'a>(left_out: &'a str) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| {
            GOOD.iter()
                .find(|(key, _)| *key == name && name != left_out)
                .map(|(_, value)| (*value).to_owned())
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        for (name, _) in GOOD {
            let said = Environment::read(without(name))
                .map(|_| ())
                .and_then(|()| PrincipalSource::read(without(name)).map(|_| ()));
            assert!(said.unwrap_err().to_string().contains(name), "{name}");
        }
    }

    #[test]
    fn d4_no_issuer_is_trusted_by_default() {
        let environment = Environment::read(without("")).unwrap();
        assert!(matches!(environment.issuers, IssuerPolicy::Trusted(issuers) if issuers.is_empty()));
        assert_eq!(environment.public_base_url, "https://api.example");
    }

    #[test]
    fn the_audit_trail_is_kept_for_as_long_as_is_said() {
        let kept = |days: &'static str| {
            let read = without("");
            Environment::read(move |name| match name {
                "AGENT_IDENTITY_AUDIT_DAYS" => Some(days.to_owned()),
                name => read(name),
            })
            .map(|environment| environment.audit_days)
        };
        assert_eq!(Environment::read(without("")).unwrap().audit_days, DEFAULT_DAYS);
        assert_eq!(kept("30").unwrap(), 30);
        for wrong in ["0", "36501", "-1", "a year", ""] {
            assert!(kept(wrong).unwrap_err().to_string().contains("AGENT_IDENTITY_AUDIT_DAYS"), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_source_of_principals_is_refused() {
        let refused = PrincipalSource::read(|_| Some("none".to_owned()));
        assert!(refused.unwrap_err().to_string().contains("iam or access-keys"));
    }
}
