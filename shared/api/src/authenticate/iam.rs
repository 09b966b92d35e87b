//! IAM principals: API Gateway verifies the signature and says in the request context whose it is.
//!
//! Whoever may invoke the function can write any request context. What keeps them out is the function's resource policy,
//! which names our API alone; that the context names this API and this account is checked here as well.

use std::sync::Arc;

use agent_identity_core::grant::{Grant, Principal};
use agent_identity_core::principal::PrincipalArn;
use agent_identity_core::{ProviderName, Secret};
use agent_identity_service::Services;
use agent_identity_service::read_ahead::{Foreseen, NamedProvider};
use async_trait::async_trait;
use http::StatusCode;

use super::Authenticate;
use crate::failure::Failure;
use crate::sigv4::SignedRequest;

/// Whom API Gateway has verified, from the request context of the event. The adapter to Lambda puts it into the extensions
/// of the HTTP request; nothing that a client sends can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayCaller {
    /// `requestContext.apiId`.
    pub api_id: String,
    /// `requestContext.accountId`: the account of the API.
    pub account_id: String,
    /// `requestContext.authorizer.iam.userArn`.
    pub user_arn: String,
}

/// Where callers must have come through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The id of our API.
    pub api_id: String,
    /// The account that it is in.
    pub account_id: String,
}

/// Callers that IAM has authorized at our API, each with the grants stored for it (D1). A signature alone is refused: of
/// keys that are not ours nobody here can verify one.
pub struct IamPrincipals {
    services: Arc<Services>,
    expected: Gateway,
    administrator: Option<PrincipalArn>,
}

impl IamPrincipals {
    /// `administrator` has all grants from the start, whatever is stored: the role that the deployment names. Like every
    /// role it is known without its path ([`PrincipalArn`]).
    pub fn new(services: Arc<Services>, expected: Gateway, administrator: Option<PrincipalArn>) -> Self {
        Self { services, expected, administrator }
    }

    /// The ARN under which the caller's grants are stored.
    fn arn(&self, caller: Option<&GatewayCaller>) -> Result<PrincipalArn, Failure> {
        let caller = caller.ok_or_else(|| refused("the request has no IAM caller in its context"))?;
        if caller.api_id.is_empty() || caller.api_id != self.expected.api_id {
            return Err(refused(format!("the request came through the API `{}`", caller.api_id)));
        }
        if caller.account_id.is_empty() || caller.account_id != self.expected.account_id {
            return Err(refused(format!("the request came through the account `{}`", caller.account_id)));
        }
        PrincipalArn::parse(&caller.user_arn)
            .map_err(|why| refused(format!("the caller's ARN `{}` {why}", caller.user_arn)))
    }
}

/// What came another way learns nothing more; the log does.
fn refused(detail: impl Into<String>) -> Failure {
    Failure {
        detail: Some(detail.into()),
        ..Failure::new(
            "UnrecognizedClientException",
            StatusCode::FORBIDDEN,
            "this deployment takes callers that AWS IAM has authorized at its API, and no others: sign for execute-api and \
             send to the API's URL",
        )
    }
}

#[async_trait]
impl Authenticate for IamPrincipals {
    async fn admit(&self, _: &SignedRequest<'_>, gateway: Option<&GatewayCaller>) -> Result<(), Failure> {
        self.arn(gateway).map(drop)
    }

    async fn authenticate(
        &self,
        request: &SignedRequest<'_>,
        gateway: Option<&GatewayCaller>,
    ) -> Result<Principal, Failure> {
        let arn = self.arn(gateway)?;
        if self.administrator.as_ref() == Some(&arn) {
            return Ok(Principal { name: arn.to_string(), grants: vec![Grant::everything()] });
        }
        Ok(Principal::clone(&*self.services.iam_principal(&arn, || foreseen(request)).await?))
    }
}

/// What a request for a credential will read besides the grants of its caller. Whatever is wrong with it, it says later.
fn foreseen(request: &SignedRequest<'_>) -> Option<Foreseen> {
    let provider = match request.raw_path {
        "/identities/oauth2/token" => NamedProvider::Oauth2,
        "/identities/api-key" => NamedProvider::ApiKey,
        _ => return None,
    };
    let body: serde_json::Value = serde_json::from_slice(request.body).ok()?;
    let member = |name: &str| body.get(name)?.as_str();
    Some(Foreseen {
        workload_token: Secret::new(member("workloadIdentityToken")?),
        provider: provider(ProviderName::parse(member("resourceCredentialProviderName")?).ok()?),
    })
}
