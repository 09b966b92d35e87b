//! What clients may know of an agent before they have a token (RFC 9728).

use serde_json::{Value, json};

use super::Authorizer;

/// Whose tokens an agent takes, and the scopes to ask for: what the metadata of a protected resource has of it (RFC 9728 §2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protection {
    /// `authorization_servers`: the issuers of its authorizers.
    pub issuers: Vec<String>,
    /// `scopes_supported`: the scopes that they ask for, under the names that are advertised.
    pub scopes: Vec<String>,
}

impl Protection {
    /// The metadata of the resource that this agent is behind (RFC 9728 §3.2).
    pub fn metadata(&self, resource: &str) -> Value {
        let mut metadata = json!({
            "resource": resource,
            "authorization_servers": self.issuers,
            "bearer_methods_supported": ["header"],
        });
        if let (false, Some(members)) = (self.scopes.is_empty(), metadata.as_object_mut()) {
            members.insert("scopes_supported".to_owned(), json!(self.scopes));
        }
        metadata
    }

    /// Of an agent with these authorizers; `None` where there is none, and so nobody whose tokens are taken.
    pub fn of(authorizers: &[Authorizer]) -> Option<Self> {
        let mut protection = Self::default();
        for authorizer in authorizers {
            protection.add(authorizer);
        }
        (!authorizers.is_empty()).then_some(protection)
    }

    fn add(&mut self, authorizer: &Authorizer) {
        let rules = &authorizer.configuration;
        push_new(&mut self.issuers, rules.discovery_url.issuer());
        for scope in &rules.allowed_scopes {
            let advertised = rules.advertised_scope_mapping.get(scope).unwrap_or(scope);
            push_new(&mut self.scopes, advertised.clone());
        }
    }
}

fn push_new(all: &mut Vec<String>, one: String) {
    if !all.contains(&one) {
        all.push(one);
    }
}
