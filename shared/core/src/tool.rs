//! Tools: an HTTP request each, of which an agent fills in the parameters, sent with a credential that the agent does not see
//! (`design.md` 11, D3).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::grant::Pattern;
use crate::name::{Scope, ToolName};
use crate::{Id, ProviderName, Secret, Timestamp, WorkloadName, encoding};

mod any;
pub mod openapi;
mod origin;
mod redact;
mod request;
mod template;

pub use any::AnyRequest;
pub use origin::{InjectableHosts, Origin};
pub use redact::Redaction;
pub use request::{Rendered, RequestParts, RequestTemplate, credential_header};

/// A tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tool {
    /// Its id, new at each create (D9).
    pub id: Id<Tool>,
    /// Its name, unique among tools.
    pub name: ToolName,
    /// What it does, for the agent that chooses among tools.
    pub description: String,
    /// What its input must be: a JSON Schema of an object.
    pub input_schema: Map<String, Value>,
    /// What is sent.
    pub request: ToolRequest,
    /// With which credential; none for an API that is open to all.
    pub credential: Option<ToolCredential>,
    /// Which workloads may call it.
    pub allowed_workloads: Vec<Pattern>,
    /// Moves with every change, from 1.
    pub version: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Tool {
    /// Whether this workload may call it. Default: no.
    pub fn allows(&self, workload: &WorkloadName) -> bool {
        self.allowed_workloads.iter().any(|pattern| pattern.matches(workload.as_str()))
    }

    /// The request with this input, which is as the schema says; without the credential.
    ///
    /// # Errors
    /// `Validation`, naming the member of the input that cannot be sent.
    pub fn render(&self, input: &Map<String, Value>) -> crate::Result<Rendered> {
        match &self.request {
            ToolRequest::Template(template) => template.render(input),
            ToolRequest::Any(any) => any.render(input, self.credential.as_ref().map(|it| &it.placement)),
        }
    }
}

/// What a tool sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ToolRequest {
    /// One request, with the input's values in it.
    Template(RequestTemplate),
    /// The request that the input is.
    Any(AnyRequest),
}

impl ToolRequest {
    /// Where it goes.
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Template(template) => template.origin(),
            Self::Any(any) => any.origin(),
        }
    }
}

/// Which credential a tool is called with, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolCredential {
    /// Of which provider.
    pub provider: ProviderName,
    /// How it is got.
    pub flow: ToolFlow,
    /// Scopes that an OAuth2 token must have.
    pub scopes: BTreeSet<Scope>,
    /// RFC 8707 resources of an OAuth2 token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Audiences of an OAuth2 token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub audiences: Vec<String>,
    /// Where it goes.
    pub placement: Placement,
}

/// How a tool's credential is got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToolFlow {
    /// The access token of the user's connection.
    #[serde(rename = "USER_FEDERATION")]
    UserFederation,
    /// The workload's own access token.
    #[serde(rename = "M2M")]
    M2m,
    /// The key of an API-key provider.
    #[serde(rename = "API_KEY")]
    ApiKey,
}

impl ToolFlow {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::UserFederation, Self::M2m, Self::ApiKey];

    /// The text on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UserFederation => "USER_FEDERATION",
            Self::M2m => "M2M",
            Self::ApiKey => "API_KEY",
        }
    }
}

/// Where a credential goes in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Placement {
    /// `Authorization: Bearer …` (RFC 6750 §2.1).
    Bearer,
    /// A header, after `prefix`.
    Header {
        /// In lower case.
        name: String,
        /// Such as `Token `; often empty.
        prefix: String,
    },
    /// A parameter of the query, for APIs that have no other way.
    Query {
        /// Its name.
        name: String,
    },
    /// `Authorization: Basic …` (RFC 7617), as the password of `username`; without one, the credential is `user:password` itself.
    Basic {
        /// The user name.
        username: Option<String>,
    },
}

/// A credential as it goes into one request.
#[derive(Clone, Debug)]
pub enum Placed {
    /// A header: its name in lower case, and its value.
    Header(String, Secret),
    /// A parameter of the query, percent-encoded.
    Query(Secret),
}

impl Placement {
    /// The header that it takes, in lower case.
    pub fn header(&self) -> Option<&str> {
        match self {
            Self::Bearer | Self::Basic { .. } => Some("authorization"),
            Self::Header { name, .. } => Some(name),
            Self::Query { .. } => None,
        }
    }

    /// Puts `credential` in its place.
    pub fn place(&self, credential: &Secret) -> Placed {
        let value = credential.expose();
        let header =
            |text: String| Placed::Header(self.header().unwrap_or_default().to_owned(), Secret::new(text));
        match self {
            Self::Bearer => header(format!("Bearer {value}")),
            Self::Header { prefix, .. } => header(format!("{prefix}{value}")),
            Self::Query { name } => {
                Placed::Query(Secret::new(format!("{}={}", template::escape(name), template::escape(value))))
            }
            Self::Basic { username } => {
                header(format!("Basic {}", encoding::base64(self.basic_pair(username.as_deref(), value))))
            }
        }
    }

    fn basic_pair(&self, username: Option<&str>, value: &str) -> String {
        match username {
            Some(username) => format!("{username}:{value}"),
            None => value.to_owned(),
        }
    }

    /// The forms in which an answer could give the credential away.
    pub fn redaction(&self, credential: &Secret) -> Redaction {
        let value = credential.expose();
        match self {
            Self::Basic { username } => {
                let pair = self.basic_pair(username.as_deref(), value);
                let password = value.split_once(':').map_or(value, |(_, password)| password);
                Redaction::of([value, password, &encoding::base64(&pair)])
            }
            Self::Bearer | Self::Header { .. } | Self::Query { .. } => Redaction::of([value]),
        }
    }
}

#[cfg(test)]
mod tests;
