//! An issuer in memory that signs whatever a test wants, and counts what it is asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use agent_identity_core::encoding::base64url;
use agent_identity_core::http::{HttpClient, HttpError, HttpRequest, HttpResponse};
use agent_identity_core::issuer::{
    IssuerPolicy, LEEWAY, TokenProfile, TokenRefused, TokenVerifier as _, TrustedIssuer, VerifiedToken,
};
use agent_identity_core::{Clock as _, Secret};
use agent_identity_testkit::FixedClock;
use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use serde_json::{Value, json};

use crate::JwtVerifier;

pub(crate) const ISSUER: &str = "https://idp.example";
pub(crate) const SUBJECT: &str = "user-of-the-test";

/// A world behind the HTTP port.
#[derive(Default)]
pub(crate) struct Origin {
    pages: Mutex<HashMap<String, (u16, Vec<u8>)>>,
    requests: Mutex<Vec<String>>,
    pub(crate) is_down: AtomicBool,
    /// Answers wait while a test holds this for writing.
    pub(crate) gate: tokio::sync::RwLock<()>,
}

impl Origin {
    pub(crate) fn page(&self, url: &str, status: u16, body: impl Into<Vec<u8>>) {
        self.pages.lock().unwrap().insert(url.to_owned(), (status, body.into()));
    }

    /// Serves metadata and keys of an issuer at the usual places.
    pub(crate) fn publish(&self, issuer: &str, keys: &[Value]) {
        let base = issuer.trim_end_matches('/');
        let metadata = json!({"issuer": issuer, "jwks_uri": format!("{base}/keys")});
        self.page(&format!("{base}/.well-known/openid-configuration"), 200, metadata.to_string());
        self.page(&format!("{base}/keys"), 200, json!({"keys": keys}).to_string());
    }

    /// What was asked since the last time this was called.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// How often key sets were asked for since then.
    pub(crate) fn take_key_requests(&self) -> usize {
        self.take_requests().iter().filter(|url| url.ends_with("/keys")).count()
    }
}

#[async_trait]
impl HttpClient for Origin {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.requests.lock().unwrap().push(request.url.clone());
        let _open = self.gate.read().await;
        tokio::task::yield_now().await;
        if self.is_down.load(Ordering::SeqCst) {
            let target = "idp.example:443".to_owned();
            return Err(HttpError::NotSent { target, reason: "connection refused".to_owned() });
        }
        let page = self.pages.lock().unwrap().get(&request.url).cloned();
        let (status, body) = page.unwrap_or((404, Vec::new()));
        Ok(HttpResponse { status, headers: Vec::new(), body })
    }
}

/// A key pair of the issuer, or of an attacker.
pub(crate) struct TestKey {
    pub(crate) kid: String,
    pub(crate) alg: &'static str,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    /// As PKCS#8, since the pair is bound to one form of signatures.
    Ec(Vec<u8>),
    Ed(Ed25519KeyPair),
}

impl TestKey {
    pub(crate) fn new(kid: &str, alg: &'static str) -> Self {
        let pair = match alg {
            "ES256" | "ES384" => Pair::Ec(
                EcdsaKeyPair::generate_pkcs8(fixed(alg), &SystemRandom::new()).unwrap().as_ref().to_vec(),
            ),
            "EdDSA" | "Ed25519" => Pair::Ed(Ed25519KeyPair::generate().unwrap()),
            _ => Pair::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        };
        Self { kid: kid.to_owned(), alg, pair }
    }

    /// Its public half as a JWK.
    pub(crate) fn jwk(&self) -> Value {
        let mut jwk = match &self.pair {
            Pair::Rsa(_) => {
                // RSAPublicKey (RFC 8017 A.1.1), of 2048 bits: nine bytes, the modulus, two bytes, the exponent.
                let der = self.public_bytes();
                json!({"kty": "RSA", "n": base64url(&der[9..265]), "e": base64url(&der[267..])})
            }
            Pair::Ec(_) => {
                let point = self.public_bytes();
                let (x, y) = point[1..].split_at(point.len() / 2);
                let crv = if self.alg == "ES256" { "P-256" } else { "P-384" };
                json!({"kty": "EC", "crv": crv, "x": base64url(x), "y": base64url(y)})
            }
            Pair::Ed(pair) => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(pair.public_key())}),
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.alg);
        jwk["use"] = json!("sig");
        jwk
    }

    /// The public key in its raw form: a point, or RSA's DER.
    pub(crate) fn public_bytes(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Ec(pkcs8) => {
                EcdsaKeyPair::from_pkcs8(fixed(self.alg), pkcs8).unwrap().public_key().as_ref().to_vec()
            }
            Pair::Ed(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.sign_as(self.alg, message)
    }

    /// A signature by another algorithm of the same kind of key.
    pub(crate) fn sign_as(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Rsa(pair) => {
                let encoding: &'static dyn signature::RsaEncoding = match alg {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    other => panic!("{other}"),
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).unwrap();
                signature
            }
            Pair::Ec(pkcs8) => {
                let form = if alg == "DER" { &signature::ECDSA_P256_SHA256_ASN1_SIGNING } else { fixed(alg) };
                let pair = EcdsaKeyPair::from_pkcs8(form, pkcs8).unwrap();
                pair.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Pair::Ed(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with the usual header and these claims.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.token_of(json!({"alg": self.alg, "kid": self.kid}).to_string(), claims.to_string())
    }

    /// A token with this header and the usual claims.
    pub(crate) fn token_with_header(&self, header: &Value) -> String {
        self.token_of(header.to_string(), claims().to_string())
    }

    /// A token of exactly these texts.
    pub(crate) fn token_of(&self, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
        let input = unsigned(header, claims);
        let signature = self.sign(input.as_bytes());
        format!("{input}.{}", base64url(signature))
    }
}

fn fixed(alg: &str) -> &'static signature::EcdsaSigningAlgorithm {
    match alg {
        "ES256" => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        "ES384" => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        other => panic!("{other}"),
    }
}

/// The first two parts of a token.
pub(crate) fn unsigned(header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    format!("{}.{}", base64url(header), base64url(claims))
}

/// Claims that pass.
pub(crate) fn claims() -> Value {
    let now = FixedClock::default().now().as_seconds();
    json!({"iss": ISSUER, "sub": SUBJECT, "aud": "agents", "iat": now, "exp": now + 600})
}

/// Those, with some changed; `null` removes one.
pub(crate) fn claims_with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// Seconds from the tests' now, as a `NumericDate`.
pub(crate) fn from_now(seconds: i64) -> i64 {
    FixedClock::default().now().as_seconds() + seconds
}

/// The record of the issuer that the tests trust.
pub(crate) fn record() -> TrustedIssuer {
    TrustedIssuer {
        issuer: ISSUER.to_owned(),
        audiences: vec!["agents".to_owned()],
        clients: Vec::new(),
        algorithms: Vec::new(),
        typ: None,
        subject_claim: "sub".to_owned(),
    }
}

/// What an authorizer would ask of the tokens of that issuer.
pub(crate) fn profile_of(record: &TrustedIssuer) -> TokenProfile {
    TokenProfile {
        issuers: vec![record.issuer.clone()],
        algorithms: record.algorithms.clone(),
        typ: record.typ.clone(),
        subject_claim: record.subject_claim.clone(),
        leeway: LEEWAY,
        max_age: None,
        claims: Vec::new(),
    }
}

/// A verifier, and an issuer with one key.
pub(crate) struct Setting {
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) verifier: Arc<JwtVerifier>,
    pub(crate) key: TestKey,
}

impl Setting {
    pub(crate) fn new() -> Self {
        Self::with_key(TestKey::new("k1", "ES256"))
    }

    pub(crate) fn with_key(key: TestKey) -> Self {
        let clock = Arc::new(FixedClock::default());
        let origin = Arc::new(Origin::default());
        origin.publish(ISSUER, &[key.jwk()]);
        let verifier = Arc::new(JwtVerifier::new(origin.clone(), clock.clone()));
        Self { clock, origin, verifier, key }
    }

    /// What the verifier says, with the code of a refusal (`keys` when the keys are unavailable). Holds that no refusal
    /// repeats anything of the token.
    pub(crate) async fn verify_under(
        &self,
        token: &str,
        policy: &IssuerPolicy,
    ) -> Result<VerifiedToken, &'static str> {
        let result = self.verifier.verify(&Secret::new(token), policy).await;
        if let IssuerPolicy::Trusted(records) = policy
            && let [record] = records.as_slice()
        {
            self.agrees(token, record, &result).await;
        }
        result.map_err(|refusal| {
            let (shown, code) = match &refusal {
                TokenRefused::Invalid { code, .. } => (refusal.to_string(), *code),
                _ => (refusal.to_string(), "keys"),
            };
            for part in token.split('.').filter(|part| part.len() > 8) {
                assert!(!shown.contains(part), "{shown}");
            }
            for value in [SUBJECT, "attacker", "evil"] {
                assert!(!shown.contains(value), "{shown}");
            }
            code
        })
    }

    /// Every attack of these tests meets `verify_claims` too: it refuses the same tokens, but for those of another audience,
    /// which its rules refuse.
    async fn agrees(
        &self,
        token: &str,
        record: &TrustedIssuer,
        verified: &Result<VerifiedToken, TokenRefused>,
    ) {
        let claims = self.verifier.verify_claims(&Secret::new(token), &[profile_of(record)]).await;
        let code = |refusal: &TokenRefused| match refusal {
            TokenRefused::Invalid { code, .. } => *code,
            _ => "keys",
        };
        match (verified, &claims) {
            (Ok(verified), Ok(claims)) => assert_eq!(claims.token, *verified),
            (Err(refusal), claims) if code(refusal) == "audience" => {
                assert!(claims.is_ok() || claims.as_ref().is_err_and(|other| code(other) == "subject"));
            }
            // The second look comes within the cool-down of the first.
            (Err(one), Err(other)) if code(one) == "unknown_key" => {
                assert!(["unknown_key", "keys"].contains(&code(other)));
            }
            (Err(one), Err(other)) => assert_eq!(code(one), code(other)),
            _ => panic!("they disagree: {verified:?}, {claims:?}"),
        }
    }

    pub(crate) async fn verify(&self, token: &str) -> Result<VerifiedToken, &'static str> {
        self.verify_under(token, &IssuerPolicy::Trusted(vec![record()])).await
    }

    /// The code of the refusal of a token that must not pass.
    pub(crate) async fn refusal(&self, token: &str) -> &'static str {
        self.verify(token).await.expect_err("the token must be refused")
    }

    /// The code of the refusal of these claims, well signed.
    pub(crate) async fn refusal_of(&self, changes: Value) -> &'static str {
        self.refusal(&self.key.token(&claims_with(changes))).await
    }
}
