use proptest::prelude::*;
use url::Url;

use super::*;
use crate::discovery::known_server;

struct Given {
    registration: ClientRegistration,
    server: Server,
    scopes: BTreeSet<Scope>,
    resources: Vec<String>,
    audiences: Vec<String>,
    custom: BTreeMap<String, String>,
}

impl Given {
    fn of(vendor: Vendor, scopes: &str) -> Self {
        let server = known_server(vendor, None).unwrap_or_else(|_| Server {
            issuer: None,
            authorization_endpoint: "https://as.example/authorize".to_owned(),
            token_endpoint: "https://as.example/token".to_owned(),
            refresh_endpoint: None,
            revocation_endpoint: None,
            token_endpoint_auth_methods: Vec::new(),
            code_challenge_methods: None,
            iss_parameter: false,
        });
        Self {
            registration: ClientRegistration {
                vendor,
                discovery: None,
                tenant_id: None,
                client_id: "client 1".to_owned(),
            },
            server,
            scopes: scopes.split_whitespace().map(|scope| Scope::parse(scope).unwrap()).collect(),
            resources: Vec::new(),
            audiences: Vec::new(),
            custom: BTreeMap::new(),
        }
    }

    fn url(&self) -> Result<String, OauthError> {
        AuthorizationRequest {
            registration: &self.registration,
            server: &self.server,
            redirect_uri: "https://us.example/identities/oauth2/callback/1",
            scopes: &self.scopes,
            state: "st4te",
            code_challenge: "ch4llenge",
            resources: &self.resources,
            audiences: &self.audiences,
            custom_parameters: &self.custom,
        }
        .url()
    }
}

#[test]
fn google_is_asked_for_offline_access_and_consent() {
    assert_eq!(
        Given::of(Vendor::Google, "openid https://www.googleapis.com/auth/drive.readonly").url().unwrap(),
        "https://accounts.google.com/o/oauth2/v2/auth?response_type=code&client_id=client%201\
         &redirect_uri=https%3A%2F%2Fus.example%2Fidentities%2Foauth2%2Fcallback%2F1\
         &scope=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fdrive.readonly%20openid&state=st4te\
         &code_challenge=ch4llenge&code_challenge_method=S256&access_type=offline&prompt=consent"
    );
}

#[test]
fn slack_is_asked_for_scopes_of_the_user_and_not_of_a_bot() {
    assert_eq!(
        Given::of(Vendor::Slack, "chat:write channels:read").url().unwrap(),
        "https://slack.com/oauth/v2/authorize?response_type=code&client_id=client%201\
         &redirect_uri=https%3A%2F%2Fus.example%2Fidentities%2Foauth2%2Fcallback%2F1\
         &user_scope=channels%3Aread%2Cchat%3Awrite&state=st4te\
         &code_challenge=ch4llenge&code_challenge_method=S256"
    );
}

#[test]
fn notion_is_asked_without_scopes() {
    assert_eq!(
        Given::of(Vendor::Notion, "").url().unwrap(),
        "https://api.notion.com/v1/oauth/authorize?response_type=code&client_id=client%201\
         &redirect_uri=https%3A%2F%2Fus.example%2Fidentities%2Foauth2%2Fcallback%2F1&state=st4te\
         &code_challenge=ch4llenge&code_challenge_method=S256&owner=user"
    );
}

#[test]
fn pkce_is_sent_to_all_but_those_that_cannot_take_it() {
    let without: Vec<Vendor> = Vendor::ALL
        .iter()
        .copied()
        .filter(|vendor| !Given::of(*vendor, "a").url().unwrap().contains("code_challenge_method=S256"))
        .collect();
    assert_eq!(without, [Vendor::Linkedin, Vendor::Reddit, Vendor::Twitch]);
}

#[test]
fn the_scope_that_brings_a_refresh_token_is_added_unless_nothing_was_asked_for() {
    let scope = |given: &Given| {
        let url = Url::parse(&given.url().unwrap()).unwrap();
        url.query_pairs().find(|(name, _)| name == "scope").map(|(_, value)| value.into_owned())
    };
    assert_eq!(scope(&Given::of(Vendor::Salesforce, "api")).as_deref(), Some("api refresh_token"));
    assert_eq!(scope(&Given::of(Vendor::Salesforce, "refresh_token")).as_deref(), Some("refresh_token"));
    assert_eq!(scope(&Given::of(Vendor::Salesforce, "")), None);
}

#[test]
fn resources_and_audiences_are_repeated_and_replace_the_catalogues_audience() {
    let mut given = Given::of(Vendor::Atlassian, "read:me");
    assert!(given.url().unwrap().contains("&audience=api.atlassian.com&prompt=consent"));
    given.resources = vec!["https://a.example/".to_owned(), "https://b.example/".to_owned()];
    given.audiences = vec!["x".to_owned(), "y".to_owned()];
    assert!(given.url().unwrap().ends_with(
        "&prompt=consent&resource=https%3A%2F%2Fa.example%2F&resource=https%3A%2F%2Fb.example%2F&audience=x&audience=y"
    ));
    assert!(!given.url().unwrap().contains("api.atlassian.com"));
}

#[test]
fn the_endpoints_own_query_is_kept() {
    let mut given = Given::of(Vendor::Custom, "");
    for (endpoint, start) in [
        ("https://b2c.example/a?p=x%20y", "https://b2c.example/a?p=x%20y&response_type=code&"),
        ("https://b2c.example/a?", "https://b2c.example/a?response_type=code&"),
        ("https://b2c.example", "https://b2c.example?response_type=code&"),
    ] {
        given.server.authorization_endpoint = endpoint.to_owned();
        assert!(given.url().unwrap().starts_with(start), "{}", given.url().unwrap());
    }
}

#[test]
fn an_endpoint_that_brings_our_parameters_is_refused() {
    let mut given = Given::of(Vendor::Custom, "");
    for name in ["client_id", "redirect_uri", "State", "request_uri"] {
        given.server.authorization_endpoint = format!("https://as.example/authorize?{name}=evil");
        assert_eq!(given.url(), Err(OauthError::EndpointQuery { name: name.to_owned() }));
    }
    given.server.authorization_endpoint = String::new();
    assert_eq!(given.url(), Err(OauthError::NoAuthorizationEndpoint));
}

#[test]
fn d24_a_caller_cannot_set_what_we_send() {
    for name in [
        "response_type",
        "client_id",
        "client_secret",
        "redirect_uri",
        "scope",
        "user_scope",
        "state",
        "code",
        "code_challenge",
        "code_challenge_method",
        "code_verifier",
        "grant_type",
        "refresh_token",
        "resource",
        "audience",
        "nonce",
        "request",
        "request_uri",
        "response_mode",
        "client_assertion",
        "client_assertion_type",
        "client_assertion_x",
        "Client_ID",
        "REQUEST_URI",
    ] {
        for vendor in Vendor::ALL {
            assert!(is_reserved(*vendor, name), "{vendor:?} {name}");
        }
        let mut given = Given::of(Vendor::Custom, "");
        given.custom.insert(name.to_owned(), "x".to_owned());
        assert_eq!(given.url(), Err(OauthError::ReservedParameter { name: name.to_owned() }));
    }
}

#[test]
fn d24_what_the_catalogue_sends_is_reserved_for_its_vendor_alone() {
    for (vendor, name) in [
        (Vendor::Google, "access_type"),
        (Vendor::Google, "prompt"),
        (Vendor::Dropbox, "token_access_type"),
        (Vendor::Reddit, "duration"),
        (Vendor::Notion, "Owner"),
    ] {
        assert!(is_reserved(vendor, name), "{vendor:?} {name}");
        assert!(!is_reserved(Vendor::Custom, name), "{name}");
    }
    let mut given = Given::of(Vendor::Custom, "");
    given.custom.insert("prompt".to_owned(), "login".to_owned());
    assert!(given.url().unwrap().ends_with("&prompt=login"));
}

/// RFC 7636 appendix B, by a digest that knows one input.
struct AppendixB;

impl Digest for AppendixB {
    fn sha256(&self, bytes: &[u8]) -> [u8; 32] {
        assert_eq!(bytes, b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        [
            19, 211, 30, 150, 26, 26, 216, 236, 47, 22, 177, 12, 76, 152, 46, 8, 118, 168, 120, 173, 109,
            241, 68, 86, 110, 225, 137, 74, 203, 112, 249, 195,
        ]
    }
}

#[test]
fn the_code_challenge_is_that_of_rfc_7636_appendix_b() {
    let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
    assert_eq!(code_challenge(&verifier, &AppendixB), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
}

proptest! {
    #[test]
    fn every_parameter_arrives_once_and_as_it_was_given(
        vendor in proptest::sample::select(Vendor::ALL),
        client_id in "\\PC{1,40}",
        custom in proptest::collection::btree_map("[a-zA-Z0-9_.-]{1,20}", "\\PC{1,40}", 0..4),
    ) {
        let mut given = Given::of(vendor, "a b");
        given.registration.client_id = client_id.clone();
        given.custom = custom.clone();
        let Ok(url) = given.url() else {
            prop_assert!(custom.keys().any(|name| is_reserved(vendor, name)));
            return Ok(());
        };
        let url = Url::parse(&url).unwrap();
        let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let value = |name: &str| {
            let values: Vec<&str> = pairs.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
            assert_eq!(values.len(), 1, "{name}");
            values[0]
        };
        prop_assert_eq!(value("client_id"), &client_id);
        prop_assert_eq!(value("state"), "st4te");
        for (name, given) in &custom {
            prop_assert_eq!(value(name), given);
        }
    }
}
