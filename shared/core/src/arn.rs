//! ARNs as this deployment spells them (`contract.md` 3.3: AWS has three spellings, clients validate none).

use crate::{ProviderName, WorkloadName};

/// What stands between place and name.
const WORKLOADS: &str = "workload-identity-directory/default/workload-identity";
const OAUTH2_PROVIDERS: &str = "token-vault/default/oauth2credentialprovider";
const API_KEY_PROVIDERS: &str = "token-vault/default/apikeycredentialprovider";

/// Where this deployment is: the region and the account that its ARNs name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Such as `us-east-1`.
    pub region: String,
    /// Twelve digits; `000000000000` in embedded mode.
    pub account: String,
}

impl Place {
    /// A workload identity's ARN.
    pub fn workload(&self, name: &WorkloadName) -> String {
        format!("{}:{WORKLOADS}/{name}", self.identity())
    }

    /// An OAuth2 credential provider's ARN.
    pub fn oauth2_provider(&self, name: &ProviderName) -> String {
        format!("{}:{OAUTH2_PROVIDERS}/{name}", self.identity())
    }

    /// An API-key credential provider's ARN.
    pub fn api_key_provider(&self, name: &ProviderName) -> String {
        format!("{}:{API_KEY_PROVIDERS}/{name}", self.identity())
    }

    /// The synthetic ARN of a secret kept by the local store.
    pub fn secret(&self, name: &str) -> String {
        format!("arn:aws:secretsmanager:{}:{}:secret:{name}", self.region, self.account)
    }

    /// The synthetic ARN of a signing key kept by the local store; `id` is a hyphenated UUID.
    pub fn signing_key(&self, id: &str) -> String {
        format!("arn:aws:kms:{}:{}:key/{id}", self.region, self.account)
    }

    /// The resource of ours that this ARN names; `None` for one of another place, or of nothing that is kept here.
    pub fn parse(&self, arn: &str) -> Option<Resource> {
        let rest = arn.strip_prefix(&self.identity())?.strip_prefix(':')?;
        let (kind, name) = rest.rsplit_once('/')?;
        match kind {
            WORKLOADS => Some(Resource::Workload(WorkloadName::parse(name).ok()?)),
            OAUTH2_PROVIDERS => Some(Resource::Oauth2Provider(ProviderName::parse(name).ok()?)),
            API_KEY_PROVIDERS => Some(Resource::ApiKeyProvider(ProviderName::parse(name).ok()?)),
            _ => None,
        }
    }

    fn identity(&self) -> String {
        format!("arn:aws:bedrock-agentcore:{}:{}", self.region, self.account)
    }
}

/// What an ARN of this deployment names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A workload identity.
    Workload(WorkloadName),
    /// An OAuth2 credential provider.
    Oauth2Provider(ProviderName),
    /// An API-key credential provider.
    ApiKeyProvider(ProviderName),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_names_what_it_was_made_for_and_nothing_of_another_place() {
        let place = Place { region: "eu-west-1".to_owned(), account: "000000000000".to_owned() };
        let (agent, provider) =
            (WorkloadName::parse("agent").unwrap(), ProviderName::parse("slack").unwrap());
        assert_eq!(place.parse(&place.workload(&agent)), Some(Resource::Workload(agent.clone())));
        let oauth2 = place.oauth2_provider(&provider);
        assert_eq!(place.parse(&oauth2), Some(Resource::Oauth2Provider(provider.clone())));
        let api_key = place.api_key_provider(&provider);
        assert_eq!(place.parse(&api_key), Some(Resource::ApiKeyProvider(provider)));
        let elsewhere = Place { region: "us-east-1".to_owned(), ..place.clone() };
        assert_eq!(elsewhere.parse(&oauth2), None);
        for arn in ["", "arn", &format!("{oauth2}/x"), &oauth2.replace("slack", "a b"), &place.secret("x")] {
            assert_eq!(place.parse(arn), None, "{arn}");
        }
    }
}
