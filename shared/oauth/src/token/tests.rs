use agent_identity_core::provider::Vendor;
use proptest::prelude::*;
use serde_json::json;
use url::form_urlencoded;

use super::*;

fn server() -> Server {
    Server {
        issuer: None,
        authorization_endpoint: "https://as.example/authorize".to_owned(),
        token_endpoint: "https://as.example/token".to_owned(),
        refresh_endpoint: None,
        revocation_endpoint: None,
        token_endpoint_auth_methods: Vec::new(),
        code_challenge_methods: None,
        iss_parameter: false,
    }
}

fn registration(vendor: Vendor) -> ClientRegistration {
    ClientRegistration { vendor, discovery: None, tenant_id: None, client_id: "cl:1".to_owned() }
}

struct Given {
    registration: ClientRegistration,
    server: Server,
    resources: Vec<String>,
    custom: BTreeMap<String, String>,
}

impl Given {
    fn of(vendor: Vendor) -> Self {
        Self {
            registration: registration(vendor),
            server: server(),
            resources: Vec::new(),
            custom: BTreeMap::new(),
        }
    }

    fn build(&self, grant: TokenGrant<'_>, proof: ClientProof<'_>) -> HttpRequest {
        TokenRequest {
            registration: &self.registration,
            server: &self.server,
            grant,
            proof,
            resources: &self.resources,
            audiences: &[],
            custom_parameters: &self.custom,
        }
        .build()
    }

    fn body(&self, grant: TokenGrant<'_>, proof: ClientProof<'_>) -> String {
        self.build(grant, proof).body.unwrap().expose().to_owned()
    }
}

fn header(request: &HttpRequest, name: &str) -> Option<String> {
    request.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.expose().to_owned())
}

fn scopes(text: &str) -> BTreeSet<Scope> {
    text.split_whitespace().map(|scope| Scope::parse(scope).unwrap()).collect()
}

#[test]
fn notion_gets_json_and_basic() {
    let (code, code_verifier, secret) =
        (Secret::new("c0de"), Secret::new("v3rifier"), Secret::new("s3c+ret"));
    let grant = TokenGrant::AuthorizationCode {
        code: &code,
        redirect_uri: "https://us.example/cb",
        code_verifier: &code_verifier,
    };
    let request = Given::of(Vendor::Notion).build(grant, ClientProof::Basic(&secret));
    assert_eq!(header(&request, "content-type").as_deref(), Some("application/json"));
    // cl%3A1:s3c%2Bret
    assert_eq!(header(&request, "authorization").as_deref(), Some("Basic Y2wlM0ExOnMzYyUyQnJldA=="));
    let body: Value = serde_json::from_str(request.body.unwrap().expose()).unwrap();
    assert_eq!(
        body,
        json!({
            "grant_type": "authorization_code",
            "code": "c0de",
            "redirect_uri": "https://us.example/cb",
            "code_verifier": "v3rifier",
        })
    );
}

#[test]
fn each_proof_goes_where_it_belongs() {
    let (refresh_token, secret) = (Secret::new("r"), Secret::new("s"));
    let grant = TokenGrant::RefreshToken { refresh_token: &refresh_token };
    let given = Given::of(Vendor::Custom);
    let start = "grant_type=refresh_token&refresh_token=r";
    assert_eq!(given.body(grant, ClientProof::Basic(&secret)), start);
    assert_eq!(
        given.body(grant, ClientProof::Post(&secret)),
        format!("{start}&client_id=cl%3A1&client_secret=s")
    );
    assert_eq!(given.body(grant, ClientProof::Public), format!("{start}&client_id=cl%3A1"));
    assert_eq!(
        given.body(grant, ClientProof::Assertion(&secret)),
        format!(
            "{start}&client_id=cl%3A1&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3A\
             client-assertion-type%3Ajwt-bearer&client_assertion=s"
        )
    );
    for proof in [ClientProof::Post(&secret), ClientProof::Public, ClientProof::Assertion(&secret)] {
        assert_eq!(header(&given.build(grant, proof), "authorization"), None);
    }
}

#[test]
fn no_code_verifier_goes_to_who_cannot_take_pkce() {
    let (code, code_verifier) = (Secret::new("c"), Secret::new("v"));
    let grant =
        TokenGrant::AuthorizationCode { code: &code, redirect_uri: "r", code_verifier: &code_verifier };
    let has = |vendor| Given::of(vendor).body(grant, ClientProof::Public).contains("code_verifier");
    assert!(has(Vendor::Custom) && has(Vendor::X) && !has(Vendor::Linkedin));
}

#[test]
fn refreshes_go_to_their_own_endpoint_where_there_is_one() {
    let mut given = Given::of(Vendor::Custom);
    given.server.refresh_endpoint = Some("https://as.example/refresh".to_owned());
    let (token, scopes) = (Secret::new("r"), BTreeSet::new());
    let url = |grant| given.build(grant, ClientProof::Public).url;
    assert_eq!(url(TokenGrant::RefreshToken { refresh_token: &token }), "https://as.example/refresh");
    assert_eq!(url(TokenGrant::ClientCredentials { scopes: &scopes }), "https://as.example/token");
}

#[test]
fn scopes_are_repeated_in_a_refresh_only_to_who_wants_them() {
    let (refresh_token, scopes) = (Secret::new("r"), scopes("User.Read"));
    let grant = TokenGrant::ScopedRefreshToken { refresh_token: &refresh_token, scopes: &scopes };
    let body = |vendor| Given::of(vendor).body(grant, ClientProof::Public);
    let start = "grant_type=refresh_token&refresh_token=r";
    assert_eq!(body(Vendor::Microsoft), format!("{start}&scope=User.Read%20offline_access&client_id=cl%3A1"));
    assert_eq!(body(Vendor::Custom), format!("{start}&client_id=cl%3A1"));
}

#[test]
fn resources_are_repeated_and_become_an_array_in_json() {
    let scopes = scopes("a b");
    let grant = TokenGrant::ClientCredentials { scopes: &scopes };
    let mut given = Given::of(Vendor::Custom);
    given.resources = vec!["x".to_owned(), "y".to_owned(), "z".to_owned()];
    assert_eq!(
        given.body(grant, ClientProof::Public),
        "grant_type=client_credentials&scope=a%20b&client_id=cl%3A1&resource=x&resource=y&resource=z"
    );
    given.registration.vendor = Vendor::Notion;
    let body: Value = serde_json::from_str(&given.body(grant, ClientProof::Public)).unwrap();
    assert_eq!(body["resource"], json!(["x", "y", "z"]));
}

#[test]
fn d24_reserved_parameters_never_reach_the_token_endpoint() {
    let mut given = Given::of(Vendor::Custom);
    for name in ["grant_type", "client_id", "Client_Assertion", "scope", "code_verifier"] {
        given.custom.insert(name.to_owned(), "evil".to_owned());
    }
    given.custom.insert("organization".to_owned(), "o".to_owned());
    let scopes = BTreeSet::new();
    let body = given.body(TokenGrant::ClientCredentials { scopes: &scopes }, ClientProof::Public);
    assert_eq!(body, "grant_type=client_credentials&client_id=cl%3A1&organization=o");
}

#[test]
fn nothing_of_a_request_shows_its_secrets() {
    let (refresh_token, secret) = (Secret::new("hunter2"), Secret::new("hunter3"));
    let grant = TokenGrant::RefreshToken { refresh_token: &refresh_token };
    for proof in [ClientProof::Basic(&secret), ClientProof::Post(&secret)] {
        let request = Given::of(Vendor::Custom).build(grant, proof);
        assert!(!format!("{request:?} {grant:?} {proof:?}").contains("hunter"));
        assert!(!request.url.contains("hunter"));
    }
}

proptest! {
    #[test]
    fn basic_credentials_come_back_out_whatever_they_hold(client_id in "\\PC{1,40}", secret in "\\PC{1,40}") {
        let header = basic(&client_id, &Secret::new(secret.clone()));
        let decoded = STANDARD.decode(header.expose().strip_prefix("Basic ").unwrap()).unwrap();
        let text = String::from_utf8(decoded).unwrap();
        let (id, password) = text.split_once(':').unwrap();
        let unescape = |text: &str| {
            form_urlencoded::parse(format!("x={text}").as_bytes()).next().unwrap().1.into_owned()
        };
        prop_assert_eq!((unescape(id), unescape(password)), (client_id, secret));
    }
}
