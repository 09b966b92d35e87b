//! Authorization requests (RFC 6749 §4.1.1, RFC 7636 §4.3).

use std::collections::{BTreeMap, BTreeSet};

use agent_identity_core::name::Scope;
use agent_identity_core::port::Digest;
use agent_identity_core::provider::{ClientRegistration, Vendor};
use agent_identity_core::{Secret, encoding};

use crate::catalogue::{self, Facts};
use crate::discovery::Server;
use crate::parameter::{self, Parameters};
use crate::{OauthError, endpoint};

/// What an authorization request is made of.
#[derive(Clone, Copy, Debug)]
pub struct AuthorizationRequest<'a> {
    /// Whose client it is.
    pub registration: &'a ClientRegistration,
    /// Where it goes.
    pub server: &'a Server,
    /// `redirect_uri`: the provider's own callback.
    pub redirect_uri: &'a str,
    /// The scopes asked for. The catalogue adds those without which no refresh token comes.
    pub scopes: &'a BTreeSet<Scope>,
    /// `state`.
    pub state: &'a str,
    /// `code_challenge`, see [`code_challenge`].
    pub code_challenge: &'a str,
    /// Resources (RFC 8707 §2.1).
    pub resources: &'a [String],
    /// Audiences; they replace the catalogue's own.
    pub audiences: &'a [String],
    /// The caller's own parameters; none of them [reserved](is_reserved).
    pub custom_parameters: &'a BTreeMap<String, String>,
}

impl AuthorizationRequest<'_> {
    /// The URL for the user's browser. The same request gives the same text.
    ///
    /// # Errors
    /// [`OauthError`]: the endpoint is missing or unusable, or a parameter of the caller's is reserved.
    pub fn url(&self) -> Result<String, OauthError> {
        let endpoint = &self.server.authorization_endpoint;
        if endpoint.is_empty() {
            return Err(OauthError::NoAuthorizationEndpoint);
        }
        let url = endpoint::parse("authorization_endpoint", endpoint)?;
        if let Some((name, _)) = url.query_pairs().find(|(name, _)| parameter::is_protocol(name)) {
            return Err(OauthError::EndpointQuery { name: name.into_owned() });
        }
        let reserved = |name: &&String| is_reserved(self.registration.vendor, name);
        if let Some(name) = self.custom_parameters.keys().find(reserved) {
            return Err(OauthError::ReservedParameter { name: name.clone() });
        }
        let joint = match url.query() {
            None => "?",
            Some("") => "",
            Some(_) => "&",
        };
        Ok(format!("{endpoint}{joint}{}", parameter::form(&self.parameters())))
    }

    fn parameters(&self) -> Parameters<'_> {
        let facts = catalogue::facts(self.registration.vendor);
        let mut parameters: Parameters<'_> = vec![
            ("response_type".into(), "code".into()),
            ("client_id".into(), self.registration.client_id.as_str().into()),
            ("redirect_uri".into(), self.redirect_uri.into()),
        ];
        if let Some(scope) = self.scope(facts) {
            parameters.push((facts.scope_parameter.as_str().into(), scope.into()));
        }
        parameters.push(("state".into(), self.state.into()));
        if facts.pkce.is_sent() {
            parameters.push(("code_challenge".into(), self.code_challenge.into()));
            parameters.push(("code_challenge_method".into(), "S256".into()));
        }
        for (name, value) in &facts.authorization_params {
            if name != "audience" || self.audiences.is_empty() {
                parameters.push((name.into(), value.into()));
            }
        }
        parameters.extend(targets(self.resources, self.audiences));
        parameters.extend(self.custom_parameters.iter().map(|(name, value)| (name.into(), value.into())));
        parameters
    }

    /// Whoever asks for nothing gets the provider's own choice (RFC 6749 §3.3), which an added scope would replace.
    fn scope(&self, facts: &Facts) -> Option<String> {
        if self.scopes.is_empty() {
            return None;
        }
        let all: BTreeSet<&str> =
            self.scopes.iter().chain(&facts.default_scopes).map(Scope::as_str).collect();
        Some(all.into_iter().collect::<Vec<_>>().join(&facts.scope_separator))
    }
}

/// `resource` and `audience`, repeated (RFC 8707 §2).
pub(crate) fn targets<'a>(resources: &'a [String], audiences: &'a [String]) -> Parameters<'a> {
    let resources = resources.iter().map(|resource| ("resource".into(), resource.into()));
    let audiences = audiences.iter().map(|audience| ("audience".into(), audience.into()));
    resources.chain(audiences).collect()
}

/// Whether a caller may not set this parameter (D24): it carries the protocol, or the catalogue sends it to this vendor.
pub fn is_reserved(vendor: Vendor, name: &str) -> bool {
    parameter::is_reserved(vendor, name)
}

/// `code_challenge` by S256 (RFC 7636 §4.2).
pub fn code_challenge(verifier: &Secret, digest: &dyn Digest) -> String {
    encoding::base64url(digest.sha256(verifier.expose().as_bytes()))
}

#[cfg(test)]
mod tests;
