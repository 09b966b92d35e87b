use agent_identity_core::provider::Vendor;

use super::*;
use crate::discovery::known_server;

fn registration(vendor: Vendor) -> ClientRegistration {
    ClientRegistration { vendor, discovery: None, tenant_id: None, client_id: "cl:1".to_owned() }
}

fn custom_server(revocation_endpoint: Option<&str>) -> Server {
    Server {
        issuer: None,
        authorization_endpoint: String::new(),
        token_endpoint: "https://as.example/token".to_owned(),
        refresh_endpoint: None,
        revocation_endpoint: revocation_endpoint.map(str::to_owned),
        token_endpoint_auth_methods: Vec::new(),
        code_challenge_methods: None,
        iss_parameter: false,
    }
}

fn built(vendor: Vendor, server: &Server, kind: TokenKind, proof: ClientProof<'_>) -> Option<HttpRequest> {
    let registration = registration(vendor);
    let token = Secret::new("t0ken+");
    RevocationRequest { registration: &registration, server, token: &token, kind, proof }.build()
}

fn header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.expose())
}

#[test]
fn rfc_7009_names_the_token_and_its_kind_and_proves_the_client() {
    let (server, secret) = (custom_server(Some("https://as.example/revoke")), Secret::new("s3cret"));
    for (kind, hint) in [(TokenKind::Refresh, "refresh_token"), (TokenKind::Access, "access_token")] {
        let request = built(Vendor::Custom, &server, kind, ClientProof::Post(&secret)).unwrap();
        assert_eq!((request.method, request.url.as_str()), (Method::Post, "https://as.example/revoke"));
        assert_eq!(
            request.body.unwrap().expose(),
            format!("token=t0ken%2B&token_type_hint={hint}&client_id=cl%3A1&client_secret=s3cret")
        );
    }
    let request = built(Vendor::Custom, &server, TokenKind::Refresh, ClientProof::Basic(&secret)).unwrap();
    assert_eq!(header(&request, "authorization"), Some("Basic Y2wlM0ExOnMzY3JldA=="));
    assert!(!request.body.unwrap().expose().contains("client"));
}

#[test]
fn notion_gets_json_here_too() {
    let (server, secret) = (known_server(Vendor::Notion, None).unwrap(), Secret::new("s3cret"));
    let request = built(Vendor::Notion, &server, TokenKind::Refresh, ClientProof::Basic(&secret)).unwrap();
    assert_eq!(header(&request, "content-type"), Some("application/json"));
    assert_eq!(request.body.unwrap().expose(), r#"{"token":"t0ken+","token_type_hint":"refresh_token"}"#);
}

#[test]
fn where_no_endpoint_is_known_nothing_is_asked() {
    let (server, secret) = (custom_server(None), Secret::new("s3cret"));
    for kind in [TokenKind::Refresh, TokenKind::Access] {
        assert!(built(Vendor::Custom, &server, kind, ClientProof::Basic(&secret)).is_none());
    }
}

#[test]
fn github_ends_the_grant_by_its_access_token() {
    let (server, secret) = (known_server(Vendor::Github, None).unwrap(), Secret::new("s3cret"));
    let request = built(Vendor::Github, &server, TokenKind::Access, ClientProof::Post(&secret)).unwrap();
    assert_eq!(
        (request.method, request.url.as_str()),
        (Method::Delete, "https://api.github.com/applications/cl%3A1/grant")
    );
    assert_eq!(request.body.as_ref().unwrap().expose(), r#"{"access_token":"t0ken+"}"#);
    assert!(header(&request, "authorization").unwrap().starts_with("Basic "));
    assert!(built(Vendor::Github, &server, TokenKind::Refresh, ClientProof::Post(&secret)).is_none());
    assert!(built(Vendor::Github, &server, TokenKind::Access, ClientProof::Assertion(&secret)).is_none());
}

#[test]
fn slack_and_dropbox_take_the_access_token_as_the_bearer() {
    let secret = Secret::new("s3cret");
    for vendor in [Vendor::Slack, Vendor::Dropbox] {
        let server = known_server(vendor, None).unwrap();
        let request = built(vendor, &server, TokenKind::Access, ClientProof::Post(&secret)).unwrap();
        assert_eq!(header(&request, "authorization"), Some("Bearer t0ken+"));
        assert!(request.body.is_none() && !request.url.contains("t0ken"));
        assert!(built(vendor, &server, TokenKind::Refresh, ClientProof::Post(&secret)).is_none());
    }
}

#[test]
fn an_answer_says_what_was_done() {
    let parsed = |vendor: Vendor, status: u16, body: &str| {
        let response = HttpResponse { status, headers: Vec::new(), body: body.as_bytes().to_vec() };
        parse_revocation_response(catalogue::facts(vendor), &response)
    };
    let revoked = [
        (Vendor::Custom, 200, ""),
        (Vendor::Custom, 204, ""),
        (Vendor::Google, 200, "{}"),
        (Vendor::Google, 400, r#"{"error":"invalid_token"}"#),
        (Vendor::Slack, 200, r#"{"ok":true,"revoked":true}"#),
        (Vendor::Slack, 200, r#"{"ok":false,"error":"token_revoked"}"#),
        (Vendor::Dropbox, 200, "null"),
        (Vendor::Github, 204, ""),
    ];
    for (vendor, status, body) in revoked {
        assert_eq!(parsed(vendor, status, body), RevocationAnswer::Revoked, "{vendor:?} {status} {body}");
    }
    let unsupported = parsed(Vendor::Custom, 400, r#"{"error":"unsupported_token_type"}"#);
    assert_eq!(unsupported, RevocationAnswer::Unsupported);
    for (vendor, status, body) in [
        (Vendor::Custom, 400, r#"{"error":"invalid_request"}"#),
        (Vendor::Custom, 404, "no such page, SECRET"),
        (Vendor::Custom, 302, ""),
        (Vendor::Custom, 400, r#"{"error":"SECRET"}"#),
        (Vendor::Slack, 200, r#"{"ok":true,"revoked":false}"#),
        (Vendor::Slack, 200, r#"{"ok":false,"error":"not_allowed_token_type"}"#),
    ] {
        match parsed(vendor, status, body) {
            RevocationAnswer::Refused(reason) => assert!(!reason.contains("SECRET"), "{reason}"),
            other => panic!("{vendor:?} {status} {body}: {other:?}"),
        }
    }
    for (status, body) in [
        (401, r#"{"error":"invalid_client"}"#),
        (503, ""),
        (429, ""),
        (408, ""),
        (200, r#"{"error":"temporarily_unavailable"}"#),
    ] {
        let answer = parsed(Vendor::Custom, status, body);
        assert!(matches!(answer, RevocationAnswer::Later { .. }), "{status} {body}: {answer:?}");
    }
}
