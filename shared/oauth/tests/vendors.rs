//! Every named vendor's authorization and token requests, and what the catalogue promises, held against the facts that were
//! compiled (`providers.json`). Expectations are computed from those facts alone, so that a wrong edit of the catalogue
//! fails here.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise; clippy knows a test only by its own function"
)]

use std::collections::{BTreeMap, BTreeSet};

use agent_identity_core::Secret;
use agent_identity_core::http::{HttpRequest, Method};
use agent_identity_core::name::Scope;
use agent_identity_core::provider::{
    ClientAuthentication, ClientRegistration, Discovery, ServerMetadata, Vendor,
};
use agent_identity_oauth::assertion::client_authentication;
use agent_identity_oauth::authorize::AuthorizationRequest;
use agent_identity_oauth::catalogue::{self, Rotation};
use agent_identity_oauth::discovery::{Server, ServerSource, server_source};
use agent_identity_oauth::token::{ClientProof, TokenGrant, TokenRequest};
use serde_json::{Value, json};

const CLIENT: &str = "client-1";
const SECRET: &str = "s3cret/+";
const CALLBACK: &str = "https://us.example/identities/oauth2/callback/1";

/// What the catalogue knows better than the compiled facts, and why.
const SLACK: &str = "slack"; // Acts for the user, so `user_scope`; without rotation its tokens do not end.
const GITHUB: &str = "github"; // A refresh token comes from a GitHub App, whose facts are these: both tokens are replaced.

/// Where grants are revoked, read since: GitHub REST, "Delete an app authorization"; Slack, `auth.revoke`; Dropbox's SDKs,
/// `tokenRevoke`. Google's in others' words alone: it is to be read in "Using OAuth 2.0 for Web Server Applications".
const REVOCATION_READ_SINCE: [(&str, &str); 4] = [
    ("google", "https://oauth2.googleapis.com/revoke"),
    (GITHUB, "https://api.github.com/applications/{client_id}/grant"),
    (SLACK, "https://slack.com/api/auth.revoke"),
    ("dropbox", "https://api.dropboxapi.com/2/auth/token/revoke"),
];

struct Fact {
    vendor: Vendor,
    json: Value,
}

fn facts() -> Vec<Fact> {
    let file: Value = serde_json::from_str(include_str!("providers.json")).unwrap();
    let facts: Vec<Fact> = file["providers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|json| Fact {
            vendor: Vendor::parse(json["agentcore_vendor"].as_str().unwrap()).unwrap(),
            json: json.clone(),
        })
        .collect();
    assert_eq!(facts.len(), Vendor::ALL.len() - 1, "all but the custom vendor");
    facts
}

impl Fact {
    fn text(&self, name: &str) -> &str {
        self.json[name].as_str().unwrap_or_else(|| panic!("{}: {name}", self.id()))
    }

    fn id(&self) -> &str {
        self.json["id"].as_str().unwrap()
    }

    fn unverified(&self, name: &str) -> bool {
        let list = self.json["unverified_fields"].as_array().unwrap();
        list.iter().any(|field| field == name || field == "all")
    }

    /// A URL with its variables filled as a customer would.
    fn url(&self, name: &str) -> String {
        let mut url = self.text(name).to_owned();
        for (variable, value) in [
            ("{tenant}", "common"),
            ("{login_host}", "login.salesforce.com"),
            ("{domain}", "customer.example"),
            ("{authServerPath}", "default/"),
            ("{tld}", "eu"),
            ("{environmentId}", "env-1"),
            ("{subdomain}", "customer"),
            ("{host}", "customer.example"),
            ("{appId}", "app-1"),
        ] {
            url = url.replace(variable, value);
        }
        assert!(!url.contains('{'), "{url}");
        url
    }

    fn is_configured(&self) -> bool {
        ["okta", "onelogin", "pingone", "cyberark", "fusionauth", "auth0", "cognito"].contains(&self.id())
    }

    fn registration(&self) -> ClientRegistration {
        let metadata = || {
            Discovery::Metadata(ServerMetadata {
                issuer: "https://customer.example".to_owned(),
                authorization_endpoint: self.url("authorization_url"),
                token_endpoint: self.url("token_url"),
                response_types: Vec::new(),
                token_endpoint_auth_methods: Vec::new(),
            })
        };
        ClientRegistration {
            vendor: self.vendor,
            discovery: self.is_configured().then(metadata),
            tenant_id: None,
            client_id: CLIENT.to_owned(),
        }
    }

    fn server(&self) -> Server {
        match server_source(&self.registration()).unwrap() {
            ServerSource::Known(server) => server,
            ServerSource::Discover { url } => panic!("{}: {url}", self.id()),
        }
    }

    fn separator(&self) -> &str {
        self.text("scope_separator")
    }

    fn sends_pkce(&self) -> bool {
        self.text("pkce") != "unsupported"
    }

    fn params(&self, name: &str) -> Vec<(String, String)> {
        let params = self.json[name].as_object().unwrap().iter();
        let params = params.map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()));
        // A placeholder is for the caller to fill.
        params.filter(|(_, value)| !value.starts_with('<')).collect()
    }

    /// The expected request, from its parameters in order.
    fn expected(
        &self,
        mut parameters: Vec<(String, String)>,
        fixed: &str,
    ) -> (Vec<(&'static str, String)>, String) {
        let mut headers = vec![("accept", "application/json".to_owned())];
        let basic = self.text("client_auth_default") == "basic";
        if !basic {
            parameters.push(("client_id".to_owned(), CLIENT.to_owned()));
            parameters.push(("client_secret".to_owned(), SECRET.to_owned()));
        }
        parameters.extend(self.params(fixed));
        let body = if self.text("token_request_body") == "json" {
            headers.push(("content-type", "application/json".to_owned()));
            let object: BTreeMap<String, String> = parameters.into_iter().collect();
            serde_json::to_string(&object).unwrap()
        } else {
            headers.push(("content-type", "application/x-www-form-urlencoded".to_owned()));
            form(&parameters)
        };
        headers.push(("user-agent", format!("agent-identity/{}", env!("CARGO_PKG_VERSION"))));
        if basic {
            // base64("client-1:s3cret%2F%2B")
            headers.push(("authorization", "Basic Y2xpZW50LTE6czNjcmV0JTJGJTJC".to_owned()));
        }
        (headers, body)
    }

    fn request(&self, grant: TokenGrant<'_>) -> HttpRequest {
        let (registration, server, secret) = (self.registration(), self.server(), Secret::new(SECRET));
        let proof = match client_authentication(None, self.vendor, &server) {
            ClientAuthentication::Basic => ClientProof::Basic(&secret),
            ClientAuthentication::Post => ClientProof::Post(&secret),
            ClientAuthentication::PrivateKeyJwt => panic!("{} has no key", self.id()),
        };
        TokenRequest {
            registration: &registration,
            server: &server,
            grant,
            proof,
            resources: &[],
            audiences: &[],
            custom_parameters: &BTreeMap::new(),
        }
        .build()
    }

    fn check(&self, request: &HttpRequest, expected: (Vec<(&'static str, String)>, String)) {
        let (headers, body) = expected;
        assert_eq!(request.method, Method::Post, "{}", self.id());
        assert_eq!(request.url, self.url("token_url"), "{}", self.id());
        let sent: Vec<(&str, String)> =
            request.headers.iter().map(|(name, value)| (name.as_ref(), value.expose().to_owned())).collect();
        assert_eq!(sent, headers, "{}", self.id());
        let sent = request.body.as_ref().unwrap().expose();
        if self.text("token_request_body") == "json" {
            let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(read(sent), read(&body), "{}", self.id());
        } else {
            assert_eq!(sent, body, "{}", self.id());
        }
    }
}

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

/// RFC 6749 appendix B, written anew.
fn form(parameters: &[(String, String)]) -> String {
    let escape = |text: &str| -> String {
        let escape = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        };
        text.bytes().map(escape).collect()
    };
    let pairs: Vec<String> = parameters.iter().map(|(k, v)| format!("{}={}", escape(k), escape(v))).collect();
    pairs.join("&")
}

fn scopes(texts: &[&str]) -> BTreeSet<Scope> {
    texts.iter().map(|text| Scope::parse(text).unwrap()).collect()
}

#[test]
fn each_vendors_authorization_url_is_that_of_the_facts() {
    for fact in facts() {
        let asked = ["zeta:read", "alpha.write"];
        let mut all: Vec<&str> = asked.to_vec();
        all.extend(
            fact.json["default_scopes"].as_array().unwrap().iter().map(|scope| scope.as_str().unwrap()),
        );
        all.sort_unstable();
        let scope_parameter = if fact.id() == SLACK { "user_scope" } else { "scope" };
        let mut expected = vec![
            pair("response_type", "code"),
            pair("client_id", CLIENT),
            pair("redirect_uri", CALLBACK),
            pair(scope_parameter, all.join(fact.separator())),
            pair("state", "st4te"),
        ];
        if fact.sends_pkce() {
            expected.extend([pair("code_challenge", "ch4llenge"), pair("code_challenge_method", "S256")]);
        }
        expected.extend(fact.params("authorization_params"));
        let url = AuthorizationRequest {
            registration: &fact.registration(),
            server: &fact.server(),
            redirect_uri: CALLBACK,
            scopes: &scopes(&asked),
            state: "st4te",
            code_challenge: "ch4llenge",
            resources: &[],
            audiences: &[],
            custom_parameters: &BTreeMap::new(),
        }
        .url()
        .unwrap();
        assert_eq!(url, format!("{}?{}", fact.url("authorization_url"), form(&expected)), "{}", fact.id());
    }
}

#[test]
fn each_vendors_code_exchange_is_that_of_the_facts() {
    for fact in facts() {
        let (code, code_verifier) = (Secret::new("c0de+"), Secret::new("v3rifier"));
        let grant = TokenGrant::AuthorizationCode {
            code: &code,
            redirect_uri: CALLBACK,
            code_verifier: &code_verifier,
        };
        let mut parameters = vec![
            pair("grant_type", "authorization_code"),
            pair("code", "c0de+"),
            pair("redirect_uri", CALLBACK),
        ];
        if fact.sends_pkce() {
            parameters.push(pair("code_verifier", "v3rifier"));
        }
        fact.check(&fact.request(grant), fact.expected(parameters, "token_params"));
    }
}

#[test]
fn each_vendors_refresh_is_that_of_the_facts() {
    for fact in facts() {
        assert!(fact.json["refresh_url"].is_null(), "{}: refreshes go to the token endpoint", fact.id());
        let refresh_token = Secret::new("r3fresh");
        let parameters = vec![pair("grant_type", "refresh_token"), pair("refresh_token", "r3fresh")];
        let grant = TokenGrant::RefreshToken { refresh_token: &refresh_token };
        fact.check(&fact.request(grant), fact.expected(parameters, "refresh_params"));
    }
}

#[test]
fn each_vendors_client_credentials_request_is_that_of_the_facts() {
    let mut vendors = Vec::new();
    for fact in facts() {
        if !fact.json["grant_types"].as_array().unwrap().contains(&json!("client_credentials")) {
            continue;
        }
        let scopes = scopes(&["b", "a"]);
        let parameters =
            vec![pair("grant_type", "client_credentials"), pair("scope", ["a", "b"].join(fact.separator()))];
        fact.check(
            &fact.request(TokenGrant::ClientCredentials { scopes: &scopes }),
            fact.expected(parameters, "token_params"),
        );
        vendors.push(fact.id().to_owned());
    }
    assert_eq!(vendors, ["microsoft", "salesforce", "okta", "auth0", "cognito"]);
}

#[test]
fn only_vendors_with_tenants_take_endpoints_from_their_configuration() {
    for fact in facts() {
        assert_eq!(catalogue::facts(fact.vendor).endpoints.is_none(), fact.is_configured(), "{}", fact.id());
    }
    assert!(catalogue::facts(Vendor::Custom).endpoints.is_none());
}

#[test]
fn d5_a_refresh_is_said_to_be_repeatable_only_where_the_vendors_documents_were_read() {
    for fact in facts() {
        let refresh = &fact.json["refresh_token"];
        let read = fact.json["lifetimes_read_in_vendor_docs"] == true;
        let expected = match refresh["rotates"].as_str().unwrap() {
            _ if fact.unverified("rotates") => Rotation::Unknown,
            "never" if read => Rotation::Never,
            "always" => Rotation::Always,
            "configurable" => Rotation::Configurable,
            "sometimes" => Rotation::Sometimes,
            "n/a" if fact.id() == GITHUB => Rotation::Always,
            "never" | "unknown" | "n/a" => Rotation::Unknown,
            other => panic!("{other}"),
        };
        let facts = catalogue::facts(fact.vendor);
        assert_eq!(facts.rotation, expected, "{}", fact.id());
        assert_eq!(
            facts.refresh_invalidates_prior,
            fact.id() == GITHUB || refresh["refresh_invalidates_prior_access_token"] == true,
            "{}",
            fact.id()
        );
    }
}

#[test]
fn no_unverified_duration_or_url_is_promised() {
    for fact in facts() {
        let known = catalogue::facts(fact.vendor);
        let seconds =
            |value: &Value, name: &str| if fact.unverified(name) { None } else { value[name].as_u64() };
        let refresh = &fact.json["refresh_token"];
        let shipped = |duration: Option<std::time::Duration>| duration.map(|duration| duration.as_secs());
        assert_eq!(shipped(known.reuse_grace), seconds(refresh, "reuse_grace_s"), "{}", fact.id());
        assert_eq!(shipped(known.idle_ttl), seconds(refresh, "idle_ttl_s"), "{}", fact.id());
        assert_eq!(shipped(known.absolute_ttl), seconds(refresh, "absolute_ttl_s"), "{}", fact.id());
        let default_ttl = seconds(&fact.json["access_token"], "default_ttl_s").filter(|_| fact.id() != SLACK);
        assert_eq!(shipped(known.default_ttl), default_ttl, "{}", fact.id());

        let url = |name: &str| {
            (!fact.unverified(name) && fact.json[name].is_string()).then(|| fact.json[name].as_str().unwrap())
        };
        if let Some(endpoints) = &known.endpoints {
            let filled = |text: &str| text.replace("login.salesforce.com", "{login_host}");
            let plain = |text: &str| text.replace("{tenantid}", "{tenant}");
            assert_eq!(endpoints.issuer.as_deref().map(filled), url("issuer").map(plain), "{}", fact.id());
            assert_eq!(
                endpoints.discovery_url.as_deref().map(filled),
                url("discovery_url").map(plain),
                "{}",
                fact.id()
            );
        }
        let since = REVOCATION_READ_SINCE.iter().find(|(id, _)| *id == fact.id());
        if let Some((_, url)) = since {
            assert_eq!(known.revocation_endpoint.as_deref(), Some(*url), "{}", fact.id());
        } else if let Some(revocation) = &known.revocation_endpoint {
            assert_eq!(*revocation, fact.url("revocation_url"), "{}", fact.id());
            assert!(
                !fact.unverified("revocation_url") && fact.json["revocation_note"].is_null(),
                "{}",
                fact.id()
            );
        }
    }
}
