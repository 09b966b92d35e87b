//! The request (RFC 7662 §2.1).

use std::fmt::Write as _;

use agent_identity_core::Secret;
use agent_identity_core::authorizer::{Introspection, IntrospectionAuthentication};
use agent_identity_core::encoding::base64;
use agent_identity_core::http::{HttpRequest, Method};

/// Asks what a token is, as the client whose secret this is.
pub(super) fn introspection(introspection: &Introspection, secret: &Secret, token: &Secret) -> HttpRequest {
    let mut headers = vec![
        ("accept", Secret::new("application/json")),
        ("content-type", Secret::new("application/x-www-form-urlencoded")),
    ];
    let mut parameters = vec![("token", token.expose()), ("token_type_hint", "access_token")];
    let client_id = introspection.client_id.as_str();
    match introspection.client_authentication {
        IntrospectionAuthentication::Basic => headers.push(("authorization", basic(client_id, secret))),
        IntrospectionAuthentication::Post => {
            parameters.extend([("client_id", client_id), ("client_secret", secret.expose())]);
        }
    }
    let body = parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value)));
    let body = Secret::new(body.collect::<Vec<_>>().join("&"));
    HttpRequest::new(Method::Post, introspection.endpoint.as_str(), headers, Some(body))
}

/// Both halves are form-encoded before they are joined (RFC 6749 §2.3.1): a colon in them would move the border.
fn basic(client_id: &str, secret: &Secret) -> Secret {
    let pair = format!("{}:{}", escaped(client_id), escaped(secret.expose()));
    Secret::new(format!("Basic {}", base64(pair)))
}

/// As `application/x-www-form-urlencoded` has it, with a space as `%20`, which every reader takes for one.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a `String` cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use agent_identity_core::authorizer::IntrospectionEndpoint;

    use super::*;

    fn asked(client_authentication: IntrospectionAuthentication) -> HttpRequest {
        let client = Introspection {
            endpoint: IntrospectionEndpoint::parse("https://idp.example/introspect").unwrap(),
            client_id: "ci%d:1".to_owned(),
            client_authentication,
            client_secret: None,
        };
        introspection(&client, &Secret::new("s3c+r&t =é"), &Secret::new("a+b/c~d=="))
    }

    fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
        request.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.expose())
    }

    #[test]
    fn the_client_proves_itself_in_the_header_and_nowhere_else() {
        let request = asked(IntrospectionAuthentication::Basic);
        assert_eq!((request.method, request.url.as_str()), (Method::Post, "https://idp.example/introspect"));
        let pair = base64("ci%25d%3A1:s3c%2Br%26t%20%3D%C3%A9");
        assert_eq!(header(&request, "authorization"), Some(format!("Basic {pair}").as_str()));
        assert_eq!(header(&request, "accept"), Some("application/json"));
        assert_eq!(header(&request, "content-type"), Some("application/x-www-form-urlencoded"));
        let body = request.body.as_ref().unwrap();
        assert_eq!(body.expose(), "token=a%2Bb%2Fc%7Ed%3D%3D&token_type_hint=access_token");
    }

    #[test]
    fn the_client_proves_itself_in_the_body_where_that_was_asked_for() {
        let request = asked(IntrospectionAuthentication::Post);
        assert_eq!(header(&request, "authorization"), None);
        let body = request.body.as_ref().unwrap().expose().to_owned();
        assert!(
            body.ends_with("&client_id=ci%25d%3A1&client_secret=s3c%2Br%26t%20%3D%C3%A9"),
            "in the body, once"
        );
    }
}
