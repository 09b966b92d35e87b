//! What an authorizer needs to ask an issuer about tokens (ADR 0025).

use agent_identity_core::authorizer::{
    AgentAuthorizers, AuthorizerOptions, Introspection, IntrospectionSecret, KeyOwner, KeyPurpose,
};
use agent_identity_core::name::AuthorizerName;
use agent_identity_core::workload::Workload;
use agent_identity_core::{Error, Id, Result, Secret, encoding};

use crate::Services;

/// A token that nobody can read says not whose it is. It must be shown to one issuer alone, or one would see another's tokens.
pub(super) fn only_one(
    all: &AgentAuthorizers,
    name: &AuthorizerName,
    options: &AuthorizerOptions,
) -> Result<()> {
    let mut others = all.authorizers.iter().filter(|other| other.name != *name);
    match others.find(|other| other.options.introspection.is_some()) {
        Some(other) if options.introspection.is_some() => Err(Error::field(
            "options.introspection",
            format!(
                "is for one authorizer of an agent, and `{}` has it: a token must not be shown to an issuer that it is not of",
                other.name
            ),
        )),
        _ => Ok(()),
    }
}

impl Services {
    /// Seals the secret of the client that asks under a key of its own: another with each change, so that whoever may write
    /// authorizers need not be able to open any.
    pub(super) async fn seal_client_secret(
        &self,
        workload: Id<Workload>,
        name: &AuthorizerName,
        introspection: Option<&Introspection>,
        secret: Option<&Secret>,
    ) -> Result<Option<IntrospectionSecret>> {
        let Some(introspection) = introspection else { return Ok(None) };
        let secret =
            secret.ok_or_else(|| Error::field("options.introspection.clientSecret", "is required"))?;
        let owner = KeyOwner { workload, purpose: KeyPurpose::Introspection };
        let keys = self.authorizer_keys()?;
        let key = keys.create(owner).await?;
        let context = introspection.context(name);
        let sealed = keys.seal(owner, &key, &context, secret.expose().as_bytes()).await?;
        Ok(Some(IntrospectionSecret { key, sealed: encoding::base64url(sealed) }))
    }
}
