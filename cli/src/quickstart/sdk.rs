//! What an AWS SDK does: a signed POST for each operation.

use agent_identity_api::sigv4::{Service, SignedRequest, SigningCredentials, sign};
use agent_identity_core::Secret;
use agent_identity_core::http::{HttpClient as _, HttpRequest, Method};
use agent_identity_egress::{AllowList, GuardedClient};
use http::{HeaderMap, HeaderValue, header};
use serde_json::Value;

use super::world::World;
use crate::compose::DEFAULT_REGION;
use crate::{CommandError, CommandResult};

/// A client of the server.
pub struct Sdk<'w> {
    world: &'w World,
    client: GuardedClient,
}

impl<'w> Sdk<'w> {
    /// A client with the server's own key.
    ///
    /// # Errors
    /// When the server's address is none.
    pub fn new(world: &'w World) -> CommandResult<Self> {
        let authority = world.url.trim_start_matches("http://");
        Ok(Self { world, client: GuardedClient::new(AllowList::new(vec![authority.parse()?]), Vec::new()) })
    }

    /// Calls an operation and gives its answer.
    ///
    /// # Errors
    /// When it is refused; the text has the error's name and message.
    pub async fn call(&self, path: &str, body: &Value) -> CommandResult<Value> {
        let body = body.to_string();
        let authority = self.world.url.trim_start_matches("http://");
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(authority)?);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let signed = SignedRequest {
            method: "POST",
            raw_path: path,
            raw_query: None,
            headers: &headers,
            body: body.as_bytes(),
        };
        let credentials = SigningCredentials {
            access_key_id: &self.world.key.access_key_id,
            secret_access_key: &self.world.key.secret_access_key,
            session_token: None,
            region: DEFAULT_REGION,
            service: Service::BedrockAgentcore,
        };
        let added = sign(&credentials, &signed, World::now())?;
        let text = |name: &str| -> CommandResult<Secret> {
            let value = added.get(name).ok_or("the signature is incomplete")?;
            Ok(Secret::new(value.to_str()?))
        };
        let headers = vec![
            ("content-type", Secret::new("application/json")),
            ("authorization", text("authorization")?),
            ("x-amz-date", text("x-amz-date")?),
        ];
        let url = format!("{}{path}", self.world.url);
        let request = HttpRequest::new(Method::Post, url, headers, Some(Secret::new(body)));
        let response = self.client.send(request).await?;
        let answer: Value =
            if response.body.is_empty() { Value::Null } else { serde_json::from_slice(&response.body)? };
        if response.status >= 300 {
            let name = response.header("x-amzn-errortype").unwrap_or("error");
            let message = answer.get("message").and_then(Value::as_str).unwrap_or_default();
            return Err(CommandError(format!("{path}: {} {name}: {message}", response.status)));
        }
        Ok(answer)
    }
}

/// A text member of an answer.
///
/// # Errors
/// When it is not there.
pub fn text<'a>(answer: &'a Value, name: &str) -> CommandResult<&'a str> {
    answer.get(name).and_then(Value::as_str).ok_or_else(|| format!("the answer has no `{name}`").into())
}
