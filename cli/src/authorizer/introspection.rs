//! Whom an authorizer asks about tokens that are no JWTs, on the command line.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::MAX_BYTES;
use crate::{CommandError, CommandResult, input};

/// Who is asked about tokens that are no JWTs (RFC 7662).
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Tokens that only their issuer can read")]
pub struct IntrospectionArgs {
    /// The issuer's introspection endpoint
    #[arg(long, value_name = "URL", requires_all = ["introspection_client", "introspection_secret"])]
    introspection_endpoint: Option<String>,
    /// The client that asks there
    #[arg(long, value_name = "ID", requires = "introspection_endpoint")]
    introspection_client: Option<String>,
    /// The file that holds the client's secret; - is stdin. It is needed each time: a secret is never given back
    #[arg(long, value_name = "FILE")]
    introspection_secret: Option<PathBuf>,
    /// How the client proves who it is [default: client_secret_basic]
    #[arg(long, value_name = "METHOD", requires = "introspection_endpoint")]
    introspection_authentication: Option<String>,
}

impl IntrospectionArgs {
    /// Puts it into the body of PutAuthorizer; the secret also where a configuration says the rest.
    ///
    /// # Errors
    /// When the secret cannot be read, or there is nothing that it is for.
    pub fn add_to(&self, body: &mut Value, stdin_is_read: bool) -> CommandResult {
        let Some(file) = &self.introspection_secret else { return Ok(()) };
        if stdin_is_read && file == Path::new("-") {
            return Err(CommandError("--config and --introspection-secret cannot both be stdin".to_owned()));
        }
        let text = input::text_of(file, "--introspection-secret", MAX_BYTES)?;
        let secret = text.strip_suffix('\n').unwrap_or(&text);
        let secret = secret.strip_suffix('\r').unwrap_or(secret);
        let members = body.as_object_mut().map(|body| body.entry("options").or_insert_with(|| json!({})));
        let options = members.and_then(Value::as_object_mut);
        let options = options.ok_or_else(|| CommandError("`options` must be an object".to_owned()))?;
        if let Some(endpoint) = &self.introspection_endpoint {
            let mut made = Map::from_iter([
                ("endpoint".to_owned(), json!(endpoint)),
                ("clientId".to_owned(), json!(self.introspection_client)),
            ]);
            if let Some(way) = &self.introspection_authentication {
                made.insert("clientAuthentication".to_owned(), json!(way));
            }
            options.insert("introspection".to_owned(), Value::Object(made));
        }
        let introspection = options.get_mut("introspection").and_then(Value::as_object_mut);
        let introspection = introspection.ok_or_else(|| {
            CommandError(
                "--introspection-secret needs an --introspection-endpoint, or a --config that has one"
                    .to_owned(),
            )
        })?;
        introspection.insert("clientSecret".to_owned(), json!(secret));
        Ok(())
    }
}

/// Whether the body of PutAuthorizer holds the secret.
pub fn has_secret(body: &Value) -> bool {
    body.pointer("/options/introspection/clientSecret").is_some()
}
