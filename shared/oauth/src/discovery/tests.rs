use agent_identity_core::http::HttpResponse;
use agent_identity_core::provider::Vendor;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn registration(vendor: Vendor, discovery: Option<Discovery>, tenant: Option<&str>) -> ClientRegistration {
    ClientRegistration { vendor, discovery, tenant_id: tenant.map(str::to_owned), client_id: "c".to_owned() }
}

fn metadata(authorization: &str, token: &str) -> Discovery {
    Discovery::Metadata(ServerMetadata {
        issuer: "https://as.example/".to_owned(),
        authorization_endpoint: authorization.to_owned(),
        token_endpoint: token.to_owned(),
        response_types: Vec::new(),
        token_endpoint_auth_methods: vec!["client_secret_post".to_owned()],
    })
}

fn known(registration: &ClientRegistration) -> Result<Server, OauthError> {
    match server_source(registration)? {
        ServerSource::Known(server) => Ok(server),
        ServerSource::Discover { url } => panic!("{url} is not known"),
    }
}

fn answer(document: &Value) -> HttpResponse {
    HttpResponse { status: 200, headers: Vec::new(), body: document.to_string().into_bytes() }
}

fn parse(url: &str, issuer: &str) -> Result<Server, OauthError> {
    let document = json!({
        "issuer": issuer,
        "authorization_endpoint": "https://as.example/authorize",
        "token_endpoint": "https://as.example/token",
    });
    parse_metadata(url, &answer(&document))
}

const ROOT: &str = "https://as.example/.well-known/oauth-authorization-server";

#[test]
fn a_tenants_endpoints_come_from_its_configuration() {
    let given = metadata("https://t.okta.example/authorize", "https://t.okta.example/token");
    let server = known(&registration(Vendor::Okta, Some(given), None)).unwrap();
    assert_eq!(server.issuer.as_deref(), Some("https://as.example/"));
    assert_eq!(server.authorization_endpoint, "https://t.okta.example/authorize");
    assert_eq!(server.token_endpoint, "https://t.okta.example/token");
    assert_eq!(server.token_endpoint_auth_methods, ["client_secret_post"]);
    let missing = server_source(&registration(Vendor::Okta, None, None));
    assert_eq!(missing, Err(OauthError::EndpointsMissing { vendor: "OktaOauth2" }));
}

#[test]
fn d3_built_in_endpoints_cannot_be_redirected() {
    let given = metadata("https://evil.example/authorize", "https://evil.example/token");
    let source = server_source(&registration(Vendor::Github, Some(given), None));
    assert_eq!(source, Err(OauthError::EndpointsFixed { vendor: "GithubOauth2" }));
}

#[test]
fn configured_endpoints_must_be_web_urls() {
    for (authorization, token) in [
        ("javascript:alert(1)", "https://as.example/token"),
        ("https://as.example/authorize", "https://user:pw@as.example/token"),
        ("https://as.example/authorize#x", "https://as.example/token"),
        ("https://as.example/authorize", ""),
    ] {
        let source = server_source(&registration(Vendor::Custom, Some(metadata(authorization, token)), None));
        assert!(matches!(source, Err(OauthError::Endpoint { .. })), "{authorization} {token}");
    }
}

#[test]
fn a_server_for_client_credentials_alone_needs_no_authorization_endpoint() {
    let given = metadata("", "https://as.example/token");
    assert!(known(&registration(Vendor::Custom, Some(given), None)).is_ok());
    let document = json!({"issuer": "https://as.example", "token_endpoint": "https://as.example/token"});
    assert_eq!(parse_metadata(ROOT, &answer(&document)).unwrap().authorization_endpoint, "");
}

#[test]
fn entra_is_asked_for_common_unless_a_tenant_is_given() {
    let server = known(&registration(Vendor::Microsoft, None, None)).unwrap();
    assert_eq!(server.token_endpoint, "https://login.microsoftonline.com/common/oauth2/v2.0/token");
    assert_eq!(server.issuer, None);
    let guid = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    let server = known(&registration(Vendor::Microsoft, None, Some(guid))).unwrap();
    assert_eq!(server.token_endpoint, format!("https://login.microsoftonline.com/{guid}/oauth2/v2.0/token"));
    assert_eq!(server.issuer, Some(format!("https://login.microsoftonline.com/{guid}/v2.0")));
    let server = known(&registration(Vendor::Microsoft, None, Some("contoso.onmicrosoft.com"))).unwrap();
    assert_eq!(server.issuer, None);
}

#[test]
fn a_tenant_cannot_lead_to_another_path_or_host() {
    for tenant in [
        "",
        ".",
        "..",
        "a/b",
        "../x",
        "common/..",
        "x",
        "a.b/",
        "a..b",
        "-a.b",
        "a.b?",
        "a.b#",
        "ä.de",
        "a%2fb.c",
    ] {
        let source = server_source(&registration(Vendor::Microsoft, None, Some(tenant)));
        assert_eq!(source, Err(OauthError::Tenant), "{tenant}");
    }
}

#[test]
fn a_discovery_url_stands_for_the_issuer_before_or_around_it() {
    for (url, issuer) in [
        ("https://as.example/.well-known/openid-configuration", "https://as.example"),
        ("https://as.example/.well-known/openid-configuration", "https://as.example/"),
        ("https://as.example/t/1/.well-known/openid-configuration", "https://as.example/t/1"),
        ("https://as.example/t/.well-known/oauth-authorization-server", "https://as.example/t/"),
        ("https://as.example/.well-known/oauth-authorization-server/t/1", "https://as.example/t/1"),
        ("https://as.example/.well-known/oauth-authorization-server/t", "https://as.example/t/"),
        ("https://as.example/.well-known/openid-configuration/t", "https://as.example/t"),
        ("https://as.example:8443/.well-known/openid-configuration", "https://as.example:8443"),
    ] {
        assert_eq!(parse(url, issuer).unwrap().issuer.as_deref(), Some(issuer), "{url}");
    }
}

#[test]
fn a_document_that_speaks_for_another_issuer_is_refused() {
    for issuer in [
        "https://as.example//",
        "https://AS.example",
        "http://as.example",
        "https://as.example/t",
        "https://as.example.evil",
        "https://as.example ",
        "https://evil.example",
        "",
    ] {
        let expected = "https://as.example".to_owned();
        assert_eq!(parse(ROOT, issuer), Err(OauthError::IssuerMismatch { expected }), "{issuer}");
    }
    assert!(parse(&format!("{ROOT}/t"), "https://as.example").is_err());
}

#[test]
fn a_url_from_which_no_issuer_follows_is_refused() {
    for url in [
        "https://as.example/",
        "https://as.example/.well-known/other",
        "https://as.example/.well-known/openid-configuration?x",
        "https://as.example/.well-known/openid-configuration#x",
        "https://as.example/.well-known/openid-configuration/",
        "https://as.example//.well-known/openid-configuration",
        "https://as.example/a/.well-known/openid-configuration/b",
        "https://as.example/a/../.well-known/openid-configuration",
        "https://as.example/%2e%2e/.well-known/openid-configuration",
        "https://as.example/.well-known/openid-configuration/.well-known/openid-configuration",
        "https://user@as.example/.well-known/openid-configuration",
        "https:///.well-known/openid-configuration",
        "file:///.well-known/openid-configuration",
    ] {
        assert!(parse(url, "https://as.example").is_err(), "{url}");
        let source = server_source(&registration(Vendor::Custom, Some(Discovery::Url(url.to_owned())), None));
        assert!(source.is_err(), "{url}");
    }
}

#[test]
fn only_entras_document_for_many_tenants_may_have_a_template_for_an_issuer() {
    let url = "https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration";
    let template = "https://login.microsoftonline.com/{tenantid}/v2.0";
    assert_eq!(parse(url, template).unwrap().issuer, None);
    let elsewhere = "https://as.example/common/v2.0/.well-known/openid-configuration";
    assert!(parse(elsewhere, template).is_err());
    assert!(parse(elsewhere, "https://as.example/{tenantid}/v2.0").is_err());
}

#[test]
fn a_document_has_to_have_its_endpoints_and_they_keep_to_https() {
    let with = |member: &str, value: Value| {
        let mut document = json!({
            "issuer": "https://as.example",
            "authorization_endpoint": "https://as.example/authorize",
            "token_endpoint": "https://as.example/token",
        });
        document[member] = value;
        parse_metadata(ROOT, &answer(&document))
    };
    assert!(with("x", Value::Null).is_ok());
    for value in [
        json!("http://as.example/x"),
        json!("/x"),
        json!(1),
        json!("javascript:x"),
        json!("https://as.example/#"),
    ] {
        assert!(with("token_endpoint", value.clone()).is_err(), "{value}");
        assert!(with("authorization_endpoint", value.clone()).is_err(), "{value}");
    }
    assert_eq!(
        with("token_endpoint", Value::Null),
        Err(OauthError::MetadataMember { member: "token_endpoint" })
    );
    assert_eq!(
        with("issuer", json!(["https://as.example"])),
        Err(OauthError::MetadataMember { member: "issuer" })
    );
}

#[test]
fn what_a_server_says_of_itself_is_kept() {
    let document = json!({
        "issuer": "https://as.example",
        "authorization_endpoint": "https://as.example/authorize?p=1",
        "token_endpoint": "https://as.example/token",
        "token_endpoint_auth_methods_supported": ["private_key_jwt", 7, "client_secret_post"],
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    });
    let server = parse_metadata(ROOT, &answer(&document)).unwrap();
    assert_eq!(server.token_endpoint_auth_methods, ["private_key_jwt", "client_secret_post"]);
    assert_eq!(server.code_challenge_methods, Some(vec!["S256".to_owned()]));
    assert!(server.iss_parameter);
}

#[test]
fn an_answer_that_is_no_document_is_refused() {
    let response = |status, body: &str| HttpResponse { status, headers: Vec::new(), body: body.into() };
    assert_eq!(parse_metadata(ROOT, &response(302, "{}")), Err(OauthError::MetadataStatus { status: 302 }));
    for body in ["", "[]", "<html>", "{", "\"x\""] {
        assert_eq!(parse_metadata(ROOT, &response(200, body)), Err(OauthError::MetadataNotJson), "{body}");
    }
}

#[test]
fn every_built_in_vendor_describes_its_discovery() {
    for vendor in Vendor::ALL {
        let described = described_discovery(&registration(*vendor, None, None));
        if catalogue::facts(*vendor).endpoints.is_none() {
            continue;
        }
        match described {
            Discovery::Url(url) => assert!(metadata::implied_issuer(&url).is_ok(), "{url}"),
            Discovery::Metadata(metadata) => {
                endpoint::parse("issuer", &metadata.issuer).unwrap();
                assert!(configured(&metadata).is_ok(), "{vendor:?}");
            }
        }
    }
    let github = described_discovery(&registration(Vendor::Github, None, None));
    assert_eq!(
        serde_json::to_value(github).unwrap(),
        json!({"authorizationServerMetadata": {
            "issuer": "https://github.com",
            "authorizationEndpoint": "https://github.com/login/oauth/authorize",
            "tokenEndpoint": "https://github.com/login/oauth/access_token",
            "responseTypes": ["code"],
            "tokenEndpointAuthMethods": ["client_secret_post"],
        }})
    );
    let guid = "72f988bf-86f1-41af-91ab-2d7cd011db47";
    assert_eq!(
        serde_json::to_value(described_discovery(&registration(Vendor::Microsoft, None, Some(guid))))
            .unwrap(),
        json!({"discoveryUrl": format!("https://login.microsoftonline.com/{guid}/v2.0/.well-known/openid-configuration")})
    );
}

#[test]
fn a_configured_discovery_is_described_as_it_was_given() {
    let given = Discovery::Url(ROOT.to_owned());
    assert_eq!(described_discovery(&registration(Vendor::Custom, Some(given.clone()), None)), given);
}

proptest! {
    #[test]
    fn no_document_makes_the_parser_panic(url in "https://as.example/\\PC{0,40}", status: u16, body: Vec<u8>) {
        let response = HttpResponse { status, headers: Vec::new(), body };
        let _ = parse_metadata(&url, &response);
        let _ = parse_metadata(ROOT, &response);
    }

    #[test]
    fn what_parses_speaks_for_its_url_and_has_usable_endpoints(
        issuer in "https://as.example/{0,2}",
        authorization in "(https?://|javascript:|)[a-z@#?/ ]{0,12}",
        token in "(https?://|javascript:|)[a-z@#?/ ]{0,12}",
        methods in proptest::collection::vec("[a-z_]{0,200}", 0..50),
    ) {
        let document = json!({
            "issuer": issuer,
            "authorization_endpoint": authorization,
            "token_endpoint": token,
            "token_endpoint_auth_methods_supported": methods,
        });
        if let Ok(server) = parse_metadata(ROOT, &answer(&document)) {
            prop_assert_eq!(server.issuer.as_deref().map(|i| i.trim_end_matches('/')), Some("https://as.example"));
            prop_assert!(endpoint::parse("x", &server.authorization_endpoint).is_ok());
            prop_assert!(endpoint::parse("x", &server.token_endpoint).is_ok());
            prop_assert!(server.token_endpoint.starts_with("https://"));
            prop_assert!(server.token_endpoint_auth_methods.len() <= 32);
        }
    }
}
