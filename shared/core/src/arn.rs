//! ARNs as this deployment spells them (`contract.md` 3.3: AWS has three spellings, clients validate none).

use crate::{ProviderName, WorkloadName};

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
        format!("{}:workload-identity-directory/default/workload-identity/{name}", self.identity())
    }

    /// An OAuth2 credential provider's ARN.
    pub fn oauth2_provider(&self, name: &ProviderName) -> String {
        format!("{}:token-vault/default/oauth2credentialprovider/{name}", self.identity())
    }

    /// An API-key credential provider's ARN.
    pub fn api_key_provider(&self, name: &ProviderName) -> String {
        format!("{}:token-vault/default/apikeycredentialprovider/{name}", self.identity())
    }

    /// The synthetic ARN of a secret kept by the local store.
    pub fn secret(&self, name: &str) -> String {
        format!("arn:aws:secretsmanager:{}:{}:secret:{name}", self.region, self.account)
    }

    /// The synthetic ARN of a signing key kept by the local store; `id` is a hyphenated UUID.
    pub fn signing_key(&self, id: &str) -> String {
        format!("arn:aws:kms:{}:{}:key/{id}", self.region, self.account)
    }

    fn identity(&self) -> String {
        format!("arn:aws:bedrock-agentcore:{}:{}", self.region, self.account)
    }
}
