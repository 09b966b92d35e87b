//! How a client proves itself: which method, and `private_key_jwt` assertions (RFC 7523 §2.2).

use std::time::Duration;

use agent_identity_core::provider::{ClientAuthentication, PrivateKeyJwt, Vendor};
use agent_identity_core::{Secret, Timestamp, encoding};
use serde_json::{Map, Value};

use crate::catalogue;
use crate::discovery::{Server, method_name};

/// How long an assertion lives: long enough for clocks that differ, and for a slow call.
pub const ASSERTION_LIFE: Duration = Duration::from_secs(300);

/// What is signed: header and claims (RFC 7515 §5.1). `iss` and `sub` are the client, `aud` the token endpoint unless the
/// configuration names another; `kid` is the key's, unless the configuration names another: a client with several keys
/// registered says which one it is.
pub fn signing_input(
    config: &PrivateKeyJwt,
    kid: Option<&str>,
    client_id: &str,
    token_endpoint: &str,
    now: Timestamp,
    jti: &str,
) -> String {
    let mut header = object(&config.header_claims);
    header.insert("alg".to_owned(), config.algorithm.as_str().into());
    header.insert("typ".to_owned(), "JWT".into());
    if let Some(kid) = kid {
        header.entry("kid").or_insert_with(|| kid.into());
    }
    let mut claims = object(&config.payload_claims);
    claims.entry("aud").or_insert_with(|| token_endpoint.into());
    claims.remove("nbf");
    for (name, value) in [
        ("iss", Value::from(client_id)),
        ("sub", client_id.into()),
        ("jti", jti.into()),
        ("iat", now.as_seconds().into()),
        ("exp", now.plus(ASSERTION_LIFE).as_seconds().into()),
    ] {
        claims.insert(name.to_owned(), value);
    }
    let part = |object| encoding::base64url(Value::Object(object).to_string());
    format!("{}.{}", part(header), part(claims))
}

fn object(claims: &std::collections::BTreeMap<String, String>) -> Map<String, Value> {
    claims.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect()
}

/// The assertion: what was signed, and its signature (RFC 7515 §7.1).
pub fn assemble(signing_input: &str, signature: &[u8]) -> Secret {
    Secret::new(format!("{signing_input}.{}", encoding::base64url(signature)))
}

/// Which method a client uses: the configured one, or the vendor's, or the first of ours that the server takes, or
/// `client_secret_basic`, which is what a server means that does not say (RFC 8414 §2).
pub fn client_authentication(
    configured: Option<ClientAuthentication>,
    vendor: Vendor,
    server: &Server,
) -> ClientAuthentication {
    let taken = |method: &ClientAuthentication| {
        server.token_endpoint_auth_methods.iter().any(|name| name == method_name(*method))
    };
    configured
        .or(catalogue::facts(vendor).client_authentication)
        .or_else(|| {
            [ClientAuthentication::Basic, ClientAuthentication::Post, ClientAuthentication::PrivateKeyJwt]
                .into_iter()
                .find(taken)
        })
        .unwrap_or(ClientAuthentication::Basic)
}

#[cfg(test)]
mod tests;
