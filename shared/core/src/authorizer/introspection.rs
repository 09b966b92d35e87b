//! Tokens that nobody but their issuer can read: where an authorizer asks about them, and as which client (RFC 7662, ADR 0025).

use serde::{Deserialize, Serialize};

use super::discovery_url::{MAX_URL, after_scheme};
use super::{Authorizer, AuthorizerKey};
use crate::Secret;
use crate::name::{AuthorizerName, parsed_text};
use crate::seal::Context;

/// `options.introspection`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Introspection {
    /// Where the issuer answers.
    pub endpoint: IntrospectionEndpoint,
    /// The client that asks.
    pub client_id: String,
    /// How it proves who it is.
    #[serde(default)]
    pub client_authentication: IntrospectionAuthentication,
    /// With what, on its way from who gives it to where it is sealed: it is in no record, and never given back.
    #[serde(skip)]
    pub client_secret: Option<Secret>,
}

/// How a client proves who it is (RFC 6749 §2.3.1), by the names of RFC 8414 §2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum IntrospectionAuthentication {
    /// In the `authorization` header.
    #[default]
    #[serde(rename = "client_secret_basic")]
    Basic,
    /// In the body.
    #[serde(rename = "client_secret_post")]
    Post,
}

/// The client's secret, as the record holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntrospectionSecret {
    /// The key that it is sealed under.
    pub key: AuthorizerKey,
    /// Base64url of what that made of it.
    pub sealed: String,
}

impl Introspection {
    /// What its client's secret is bound to: a record that was changed to name another endpoint or client opens it no more.
    pub fn context(&self, authorizer: &AuthorizerName) -> Context {
        let fields = [authorizer.as_str(), self.endpoint.as_str(), &self.client_id];
        Context::new("introspection client secret", fields.map(str::as_bytes))
    }
}

impl Authorizer {
    /// Whom it asks about tokens, with the sealed secret of the client that asks.
    pub fn introspects(&self) -> Option<(&Introspection, &IntrospectionSecret)> {
        self.options.introspection.as_ref().zip(self.introspection_secret.as_ref())
    }
}

/// The URL of an introspection endpoint, valid by construction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IntrospectionEndpoint(String);

impl IntrospectionEndpoint {
    /// The URL: http or https with a host, plain characters, no user, query or fragment. Whether http, or this host, may be asked
    /// at all is the egress guard's to say.
    ///
    /// # Errors
    /// The text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !(1..=MAX_URL).contains(&text.chars().count()) {
            return Err(format!("must have 1 to {MAX_URL} characters"));
        }
        if after_scheme(text).is_none() {
            return Err(
                "must be https://HOST[:PORT][/PATH], of plain characters, without user, query or fragment"
                    .to_owned(),
            );
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

parsed_text!(IntrospectionEndpoint);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_endpoint_is_a_plain_url() {
        for good in [
            "https://idp.example/introspect",
            "http://127.0.0.1:9/token/introspection",
            "https://idp.example",
        ] {
            assert_eq!(IntrospectionEndpoint::parse(good).unwrap().as_str(), good);
        }
        for wrong in [
            "",
            "idp.example",
            "/introspect",
            "https://",
            "https:///introspect",
            "ftp://idp.example/introspect",
            "https://client:secret@idp.example/introspect",
            "https://idp.example/introspect#x",
            "https://idp.example/introspect?token=x",
            "https://idp.example\\@evil/",
            "https://idp.example/a b",
            "https://idp.éxample/",
            &format!("https://{}", "a".repeat(MAX_URL)),
        ] {
            assert!(IntrospectionEndpoint::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_secret_is_neither_written_nor_read_nor_shown() {
        let text = json!({"endpoint": "https://idp.example/i", "clientId": "agents", "clientAuthentication": "client_secret_post"});
        let mut made: Introspection = serde_json::from_value(text.clone()).unwrap();
        made.client_secret = Some(Secret::new("the-secret-of-the-client"));
        assert_eq!(serde_json::to_value(&made).unwrap(), text);
        assert!(!format!("{made:?}").contains("the-secret"));
        let mut with_secret = text;
        with_secret["clientSecret"] = json!("the-secret-of-the-client");
        assert!(serde_json::from_value::<Introspection>(with_secret).is_err());
    }

    #[test]
    fn a_secret_is_bound_to_its_authorizer_endpoint_and_client() {
        let made = |endpoint: &str, client: &str| Introspection {
            endpoint: IntrospectionEndpoint::parse(endpoint).unwrap(),
            client_id: client.to_owned(),
            client_authentication: IntrospectionAuthentication::Basic,
            client_secret: None,
        };
        let name = |text: &str| AuthorizerName::parse(text).unwrap();
        let bound = made("https://idp.example/i", "agents").context(&name("people"));
        assert_eq!(bound, made("https://idp.example/i", "agents").context(&name("people")));
        for other in [
            made("https://idp.example/j", "agents").context(&name("people")),
            made("https://idp.example/i", "agent").context(&name("people")),
            made("https://idp.example/i", "agents").context(&name("others")),
        ] {
            assert_ne!(bound, other);
        }
    }
}
