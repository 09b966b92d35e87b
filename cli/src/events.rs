//! Events of embedded mode: in the log, and at a webhook, signed as <https://www.standardwebhooks.com> says (specification, "Webhook
//! headers" and "Signature scheme").

use std::sync::{Arc, Mutex, PoisonError};

use agent_identity_core::http::{HttpClient, HttpRequest, Method};
use agent_identity_core::port::{Event, Events};
use agent_identity_core::random::{self, Random};
use agent_identity_core::seal::Key32;
use agent_identity_core::{Clock, Secret, encoding};
use async_trait::async_trait;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use url::Url;

use crate::compose::{self, DEFAULT_REGION, Settings};
use crate::{CommandResult, DataArgs, output};

/// Events that wait, at most: a webhook that does not answer must not fill the memory.
const MAX_PENDING: usize = 1000;

/// What the secret of a webhook begins with.
const SECRET_PREFIX: &str = "whsec_";

/// Options of `webhook-secret`.
#[derive(Debug, clap::Args)]
pub struct WebhookSecretArgs {
    #[command(flatten)]
    data: DataArgs,
}

/// Runs `webhook-secret`.
///
/// # Errors
/// When the data directory cannot be used.
pub async fn run(args: WebhookSecretArgs) -> CommandResult {
    let local = compose::open_existing(&args.data.path()?, Settings::offline(DEFAULT_REGION)).await?;
    output::print(&format!("{SECRET_PREFIX}{}", STANDARD.encode(local.webhook_key.expose())))
}

/// `--webhook`.
///
/// # Errors
/// The text says what is wrong. Whether it may be reached is the egress guard's to say.
pub fn webhook_url(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    match url.scheme() {
        "https" | "http" if plain && url.has_host() => Ok(text.to_owned()),
        _ => Err("must be https://HOST[:PORT]/PATH, without user and fragment".to_owned()),
    }
}

/// Where events are posted.
pub struct Webhook {
    url: String,
    key: hmac::Key,
    http: Arc<dyn HttpClient>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    pending: Mutex<Vec<Event>>,
}

impl Webhook {
    /// The webhook at this URL, signed with this key.
    pub fn new(
        url: String,
        key: &Key32,
        http: Arc<dyn HttpClient>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        Self { url, key, http, clock, random, pending: Mutex::default() }
    }

    async fn post(&self, event: &Event) -> Result<(), String> {
        let now = self.clock.now().as_seconds();
        let id = format!("msg_{}", encoding::hex(&random::bytes::<16>(&*self.random)));
        let body = json!({ "type": event.what(), "timestamp": now, "data": event.detail() }).to_string();
        let signed = hmac::sign(&self.key, format!("{id}.{now}.{body}").as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(signed.as_ref()));
        let headers = vec![
            ("content-type", Secret::new("application/json")),
            ("user-agent", Secret::new(concat!("agent-identity/", env!("CARGO_PKG_VERSION")))),
            ("webhook-id", Secret::new(id)),
            ("webhook-timestamp", Secret::new(now.to_string())),
            ("webhook-signature", Secret::new(signature)),
        ];
        let request = HttpRequest::new(Method::Post, self.url.clone(), headers, Some(Secret::new(body)));
        match self.http.send(request).await {
            Ok(response) if (200..300).contains(&response.status) => Ok(()),
            Ok(response) => Err(format!("the webhook answered with status {}", response.status)),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Events of one machine.
pub struct LocalEvents {
    webhook: Option<Webhook>,
}

impl LocalEvents {
    /// To the log, and to the webhook if there is one.
    pub const fn new(webhook: Option<Webhook>) -> Self {
        Self { webhook }
    }

    /// Posts what waits. What the webhook does not take is not kept: it is in the log.
    pub async fn flush(&self) {
        let Some(webhook) = &self.webhook else { return };
        let pending = std::mem::take(&mut *webhook.pending.lock().unwrap_or_else(PoisonError::into_inner));
        for event in pending {
            if let Err(reason) = webhook.post(&event).await {
                not_told(&event, &reason);
            }
        }
    }
}

fn not_told(event: &Event, reason: &str) {
    tracing::error!(what = event.what(), reason, "an event could not be posted to the webhook");
}

fn log(event: &Event) {
    let (what, detail) = (event.what(), event.detail());
    tracing::warn!(what, %detail, "event");
}

#[async_trait]
impl Events for LocalEvents {
    fn emit(&self, event: Event) {
        log(&event);
        let Some(webhook) = &self.webhook else { return };
        let mut pending = webhook.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.len() < MAX_PENDING {
            pending.push(event);
        } else {
            not_told(&event, "too many wait");
        }
    }

    async fn tell(&self, event: Event) -> Result<(), String> {
        log(&event);
        match &self.webhook {
            None => Ok(()),
            Some(webhook) => webhook.post(&event).await.inspect_err(|reason| not_told(&event, reason)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_has_a_host_and_hides_nothing() {
        for text in ["https://hooks.example/agent-identity", "http://127.0.0.1:9000/"] {
            assert_eq!(webhook_url(text).as_deref(), Ok(text));
        }
        for text in [
            "",
            "hooks.example",
            "ftp://hooks.example/",
            "https://u:p@hooks.example/",
            "https://hooks.example/#x",
        ] {
            assert!(webhook_url(text).is_err(), "{text}");
        }
    }
}
