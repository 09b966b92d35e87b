//! The token path under mutation: events and tokens that were once good, broken at every level at which they are read. Nothing
//! panics, and nothing passes but what an oracle of its own calls good. `FUZZ_CASES=1000000 cargo test -p authorizer mutated` runs it
//! for longer.

use std::sync::{Arc, LazyLock};

use agent_identity_core::encoding::{base64url, unbase64url};
use agent_identity_core::http::{HttpClient, HttpError, HttpRequest, HttpResponse};
use agent_identity_core::issuer::{LEEWAY, TokenProfile, TokenVerifier as _};
use agent_identity_core::{Clock as _, Secret};
use agent_identity_inbound::bearer_token;
use agent_identity_jose::JwtVerifier;
use agent_identity_testkit::FixedClock;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use proptest::prelude::*;
use proptest::sample::Index;
use serde::de::{Deserialize, DeserializeOwned, Deserializer, IgnoredAny};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::event::{Asked, Request};
use crate::settings::Settings;

const ISSUER: &str = "https://idp.example";
const ARN: &str = "arn:aws:execute-api:us-east-1:123456789012:api/prod/GET/orders/1";

/// What of a header decides. What else is in it has to be JSON, and may be a number that no double can hold.
#[derive(serde::Deserialize)]
struct Header {
    alg: String,
    #[serde(default, deserialize_with = "present")]
    crit: Option<IgnoredAny>,
    #[serde(default, deserialize_with = "present")]
    b64: Option<IgnoredAny>,
}

/// What of the claims decides.
#[derive(serde::Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    exp: f64,
    #[serde(default, deserialize_with = "present")]
    nbf: Option<f64>,
}

/// A member that is there is one that counts, if only as `null`.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(value: D) -> Result<Option<T>, D::Error> {
    T::deserialize(value).map(Some)
}

fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&unbase64url(part)?).ok()
}

/// An issuer, and the verifier that knows it.
struct World {
    runtime: Runtime,
    clock: Arc<FixedClock>,
    pair: EcdsaKeyPair,
    verifier: JwtVerifier,
    profile: TokenProfile,
}

struct Origin(Value);

#[async_trait::async_trait]
impl HttpClient for Origin {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let metadata = json!({"issuer": ISSUER, "jwks_uri": format!("{ISSUER}/keys")});
        let body = if request.url.ends_with("/keys") { &self.0 } else { &metadata };
        Ok(HttpResponse { status: 200, headers: Vec::new(), body: body.to_string().into_bytes() })
    }
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
    let point = pair.public_key().as_ref();
    let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "x": x, "y": y}]});
    let clock = Arc::new(FixedClock::default());
    World {
        runtime: tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap(),
        verifier: JwtVerifier::new(Arc::new(Origin(keys)), clock.clone()),
        clock,
        pair,
        profile: TokenProfile {
            issuers: vec![ISSUER.to_owned()],
            algorithms: Vec::new(),
            typ: None,
            subject_claim: "sub".to_owned(),
            leeway: LEEWAY,
            max_age: None,
            claims: vec!["aud".to_owned()],
        },
    }
});

impl World {
    fn claims(&self) -> Value {
        let now = self.clock.now().as_seconds();
        json!({"iss": ISSUER, "sub": "ada", "aud": "agents", "scope": "a b", "iat": now, "nbf": now, "exp": now + 3600})
    }

    fn signed(&self, header: &str, payload: &str) -> String {
        let input = format!("{}.{}", base64url(header), base64url(payload));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", base64url(signature))
    }

    /// What must be true of a token that passes, by other means than the ones under test.
    fn is_good(&self, token: &str) -> bool {
        let Some((input, signature)) = token.rsplit_once('.') else { return false };
        let Some((header, payload)) = input.split_once('.') else { return false };
        let (Some(header), Some(claims)) = (json::<Header>(header), json::<Claims>(payload)) else {
            return false;
        };
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref());
        let signature = unbase64url(signature).unwrap_or_default();
        let (now, leeway) = (self.clock.now().as_seconds() as f64, LEEWAY.as_secs_f64());
        key.verify(input.as_bytes(), &signature).is_ok()
            && header.alg == "ES256"
            && header.crit.is_none()
            && header.b64.is_none()
            && claims.iss == ISSUER
            && !claims.sub.is_empty()
            && claims.exp + leeway >= now
            && claims.nbf.is_none_or(|from| from - leeway <= now)
    }

    fn event(&self, token: &str) -> Value {
        json!({
            "version": "2.0", "type": "REQUEST", "routeArn": ARN, "methodArn": ARN,
            "headers": {"authorization": format!("Bearer {token}"), "x-agent-id": "support"},
            "identitySource": [format!("Bearer {token}"), "support"], "pathParameters": {"agentId": "support"},
            "queryStringParameters": {"a": "b"}, "stageVariables": {}, "requestContext": {"stage": "prod"},
        })
    }

    /// The path of a token, from the event to the claims: whether it passes, and the token that did.
    fn passes(&self, event: Value) -> Option<String> {
        let request = Request::parse(event, &Settings::default()).ok()?;
        let Asked { token, .. } = request.asked.ok()?;
        let token: Secret = bearer_token(&token)?;
        let profiles = [self.profile.clone()];
        self.runtime.block_on(self.verifier.verify_claims(&token, &profiles)).ok()?;
        Some(token.expose().to_owned())
    }
}

/// What is put in the place of something.
fn odd() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "none",
            "HS256",
            "RS256",
            "ES256",
            "ES384",
            "JWT",
            "at+jwt",
            "k",
            ISSUER,
            "https://idp.example/",
            "support",
            "agents",
            "1.0",
            "2.0",
            "TOKEN",
            "REQUEST",
            "\0",
            "*",
            "Bearer ",
            "Bearer x",
            ARN,
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{0,4}", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

#[derive(Clone, Debug)]
enum Change {
    /// A member gets another value, or goes.
    Set(Index, Option<Value>),
    /// A member of any name is added.
    Add(String, Value),
    /// The JSON text has a member twice.
    Twice(String, Value),
    /// The text is cut, or has a character more.
    Cut(Index),
    Insert(Index, char),
}

fn change() -> impl Strategy<Value = Change> {
    let name = prop_oneof![
        prop::sample::select(vec![
            "alg",
            "kid",
            "typ",
            "cty",
            "crit",
            "b64",
            "zip",
            "jwk",
            "jku",
            "iss",
            "sub",
            "aud",
            "exp",
            "nbf",
            "iat",
            "scope",
            "multiValueHeaders",
            "authorizationToken",
            "version",
            "type",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,6}",
    ];
    prop_oneof![
        4 => (any::<Index>(), prop::option::of(odd())).prop_map(|(at, value)| Change::Set(at, value)),
        2 => (name.clone(), odd()).prop_map(|(name, value)| Change::Add(name, value)),
        1 => (name, odd()).prop_map(|(name, value)| Change::Twice(name, value)),
        1 => any::<Index>().prop_map(Change::Cut),
        1 => (any::<Index>(), any::<char>()).prop_map(|(at, character)| Change::Insert(at, character)),
    ]
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(change(), 0..3)
}

/// The text of an object after these changes.
fn changed(mut object: Value, changes: &[Change]) -> String {
    let mut twice = String::new();
    for change in changes {
        let members = object.as_object_mut().unwrap();
        match change {
            Change::Set(at, value) if !members.is_empty() => {
                let name = members.keys().nth(at.index(members.len())).unwrap().clone();
                match value {
                    Some(value) => drop(members.insert(name, value.clone())),
                    None => drop(members.remove(&name)),
                }
            }
            Change::Add(name, value) => drop(members.insert(name.clone(), value.clone())),
            Change::Twice(name, value) => twice = format!("{}:{value},", Value::from(name.as_str())),
            _ => {}
        }
    }
    let mut text = object.to_string();
    text.insert_str(1, if text.len() > 2 { &twice } else { "" });
    text_changed(text, changes)
}

fn text_changed(mut text: String, changes: &[Change]) -> String {
    let place = |at: &Index, text: &str| {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        places.get(at.index(places.len().max(1))).copied().unwrap_or_default()
    };
    for change in changes {
        match change {
            Change::Cut(at) => text.truncate(place(at, &text)),
            Change::Insert(at, character) => text.insert(place(at, &text), *character),
            _ => {}
        }
    }
    text
}

fn cases() -> u32 {
    std::env::var("FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(20_000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mutated_token_or_event_passes_unless_it_is_good(
        header in changes(), payload in changes(), whole in changes(), event in changes(),
    ) {
        let world = &*WORLD;
        let header = changed(json!({"alg": "ES256", "kid": "k", "typ": "JWT"}), &header);
        let payload = changed(world.claims(), &payload);
        let token = text_changed(world.signed(&header, &payload), &whole);
        if let Ok(event) = serde_json::from_str(&changed(world.event(&token), &event))
            && let Some(passed) = world.passes(event)
        {
            prop_assert!(world.is_good(&passed), "{header} {payload} {passed}");
        }
    }
}

/// The oracle is no use where nothing passes.
#[test]
fn what_is_not_mutated_passes() {
    let world = &*WORLD;
    let token = world.signed(r#"{"alg":"ES256","kid":"k"}"#, &world.claims().to_string());
    assert_eq!(world.passes(world.event(&token)), Some(token.clone()));
    assert!(world.is_good(&token));
    for (header, payload, passes) in [
        // A number that is JSON and that no double can hold, where nobody reads it.
        (r#"{"alg":"ES256","kid":"k","jwk":[10E308]}"#, world.claims().to_string(), true),
        (r#"{"alg":"ES256","kid":"k","b64":null}"#, world.claims().to_string(), false),
        (
            r#"{"alg":"ES256","kid":"k"}"#,
            world.claims().to_string().replacen('{', r#"{"x":[10E308],"#, 1),
            true,
        ),
    ] {
        let token = world.signed(header, &payload);
        assert_eq!(world.is_good(&token), passes, "{header} {payload}");
        assert_eq!(world.passes(world.event(&token)).is_some(), passes, "{header} {payload}");
    }
}
