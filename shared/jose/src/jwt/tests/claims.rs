//! Attacks through well-signed claims: of another issuer, for another audience, at another time.

use std::time::Duration;

use agent_identity_core::issuer::{IssuerPolicy, LEEWAY, TrustedIssuer};
use serde_json::json;

use super::support::{ISSUER, SUBJECT, Setting, claims, claims_with, from_now, record};

const HEADER: &str = r#"{"alg":"ES256","kid":"k1"}"#;

#[tokio::test]
async fn an_issuer_that_is_not_trusted_is_refused_before_anything_is_fetched() {
    let setting = Setting::new();
    for iss in [
        "https://evil.example",
        "https://idp.example/",
        "https://IDP.example",
        "HTTPS://idp.example",
        "http://idp.example",
        "https://idp.example ",
        " https://idp.example",
        "https://idp.example:443",
        "https://idp.example.",
        "https://idp.example#",
        "https://idp.example?",
        "https://idp.example%2f",
        "https://idp.examplе",
        "https://idp\u{3002}example",
        "",
    ] {
        assert_eq!(setting.refusal_of(json!({"iss": iss})).await, "issuer", "{iss}");
    }
    let nobody = IssuerPolicy::Trusted(Vec::new());
    assert_eq!(setting.verify_under(&setting.key.token(&claims()), &nobody).await, Err("issuer"));
    assert!(setting.origin.take_requests().is_empty());
}

#[tokio::test]
async fn a_trailing_slash_belongs_to_the_issuer() {
    let setting = Setting::new();
    let issuer = "https://tenant.example/";
    setting.origin.publish(issuer, &[setting.key.jwk()]);
    let policy = IssuerPolicy::Trusted(vec![TrustedIssuer { issuer: issuer.to_owned(), ..record() }]);
    let token = setting.key.token(&claims_with(json!({"iss": issuer})));
    assert!(setting.verify_under(&token, &policy).await.is_ok());
    let token = setting.key.token(&claims_with(json!({"iss": "https://tenant.example"})));
    assert_eq!(setting.verify_under(&token, &policy).await, Err("issuer"));
}

#[tokio::test]
async fn an_issuer_that_is_not_one_text_is_refused() {
    let setting = Setting::new();
    for iss in [
        json!([ISSUER]),
        json!([ISSUER, "https://evil.example"]),
        json!({"iss": ISSUER}),
        json!(1),
        json!(true),
    ] {
        assert_eq!(setting.refusal_of(json!({"iss": iss})).await, "claims", "{iss}");
    }
    assert_eq!(setting.refusal_of(json!({"iss": null})).await, "claims", "no iss");
    let text = claims_with(json!({"iss": null})).to_string().replacen('{', "{\"iss\":null,", 1);
    assert_eq!(setting.refusal(&setting.key.token_of(HEADER, text)).await, "claims");
}

#[tokio::test]
async fn two_claims_of_one_name_are_refused() {
    let setting = Setting::new();
    for more in [
        r#""iss":"https://evil.example""#,
        r#""sub":"admin""#,
        r#""exp":99999999999"#,
        r#""aud":"agents""#,
        r#""\u0073ub":"admin""#,
        r#""unread":1,"unread":1"#,
    ] {
        let text = claims().to_string();
        let (before, after) =
            (text.replacen('{', &format!("{{{more},"), 1), text.replace('}', &format!(",{more}}}")));
        for text in [before, after] {
            assert_eq!(
                setting.refusal(&setting.key.token_of(HEADER, text)).await,
                "duplicate_member",
                "{more}"
            );
        }
    }
}

#[tokio::test]
async fn a_payload_has_at_most_256_claims() {
    let setting = Setting::new();
    let with = |number: usize| {
        let mut claims = claims();
        let members = claims.as_object_mut().unwrap();
        for place in members.len()..number {
            members.insert(format!("c{place}"), json!(1));
        }
        setting.key.token(&claims)
    };
    assert!(setting.verify(&with(256)).await.is_ok());
    assert_eq!(setting.refusal(&with(257)).await, "claims");
}

#[tokio::test]
async fn an_expired_token_is_refused_and_one_within_the_leeway_is_not() {
    let setting = Setting::new();
    let token = setting.key.token(&claims());
    setting.clock.advance(Duration::from_secs(600) + LEEWAY - Duration::from_millis(1));
    assert!(setting.verify(&token).await.is_ok());
    setting.clock.advance(Duration::from_millis(1));
    assert_eq!(setting.refusal(&token).await, "expired");
}

#[tokio::test]
async fn an_expiry_that_is_missing_or_odd_is_refused() {
    let setting = Setting::new();
    assert_eq!(setting.refusal_of(json!({"exp": null})).await, "claims", "no exp");
    for exp in [
        "null",
        "\"1900000000\"",
        "\"\"",
        "-1",
        "-1.5",
        "1e308",
        "1e400",
        "-1e308",
        "253402300800",
        "1767225600000000",
        "18446744073709551615",
        "18446744073709551616",
        "99999999999999999999999999",
        "[1900000000]",
        "{}",
        "true",
        "NaN",
        "Infinity",
        "0x7fffffff",
        "01900000000",
        "+1900000000",
        "1900000000.",
        ".5",
        "1_900_000_000",
    ] {
        let text =
            claims_with(json!({"exp": null})).to_string().replacen('{', &format!("{{\"exp\":{exp},"), 1);
        assert_eq!(setting.refusal(&setting.key.token_of(HEADER, text)).await, "claims", "{exp}");
    }
    for exp in ["0", "-0", "0.0", "1e-300", "1"] {
        let text =
            claims_with(json!({"exp": null})).to_string().replacen('{', &format!("{{\"exp\":{exp},"), 1);
        assert_eq!(setting.refusal(&setting.key.token_of(HEADER, text)).await, "expired", "{exp}");
    }
    for exp in [json!(from_now(60) as f64 + 0.5), json!(253_402_300_799_i64), json!(1.9e9)] {
        assert!(setting.verify(&setting.key.token(&claims_with(json!({"exp": exp})))).await.is_ok(), "{exp}");
    }
}

#[tokio::test]
async fn a_token_from_the_future_is_refused_beyond_the_leeway() {
    let setting = Setting::new();
    let leeway = i64::try_from(LEEWAY.as_secs()).unwrap();
    for (claim, code) in [("nbf", "not_yet_valid"), ("iat", "issued_in_future")] {
        assert_eq!(setting.refusal_of(json!({claim: from_now(leeway + 1)})).await, code);
        assert!(
            setting.verify(&setting.key.token(&claims_with(json!({claim: from_now(leeway)})))).await.is_ok()
        );
        for odd in [json!("1"), json!(-1), json!(1e300), json!([1]), json!(false)] {
            assert_eq!(setting.refusal_of(json!({claim: odd})).await, "claims", "{claim} {odd}");
        }
        let text =
            claims_with(json!({claim: null})).to_string().replacen('{', &format!("{{\"{claim}\":null,"), 1);
        assert_eq!(setting.refusal(&setting.key.token_of(HEADER, text)).await, "claims", "{claim} null");
    }
    assert!(setting.verify(&setting.key.token(&claims_with(json!({"iat": null})))).await.is_ok());
}

#[tokio::test]
async fn the_signature_comes_before_the_time() {
    let setting = Setting::new();
    let attacker = super::support::TestKey::new("k1", "ES256");
    let expired = attacker.token(&claims_with(json!({"exp": 1, "aud": "elsewhere"})));
    assert_eq!(setting.refusal(&expired).await, "signature");
}

#[tokio::test]
async fn d4_a_token_for_another_audience_is_refused() {
    let setting = Setting::new();
    for aud in [
        json!("elsewhere"),
        json!("Agents"),
        json!("agents "),
        json!("agent"),
        json!("agents,elsewhere"),
        json!(""),
        json!([]),
        json!(["elsewhere"]),
        json!(null),
    ] {
        assert_eq!(setting.refusal_of(json!({"aud": aud})).await, "audience", "{aud}");
    }
    for aud in [
        json!(7),
        json!({"agents": true}),
        json!([["agents"]]),
        json!(["agents", 1]),
        json!(["agents", null]),
    ] {
        assert_eq!(setting.refusal_of(json!({"aud": aud})).await, "claims", "{aud}");
    }
    for aud in [json!("agents"), json!(["agents"]), json!(["elsewhere", "agents"])] {
        assert!(setting.verify(&setting.key.token(&claims_with(json!({"aud": aud})))).await.is_ok(), "{aud}");
    }
}

#[tokio::test]
async fn d4_a_record_without_audiences_and_clients_accepts_nothing() {
    let setting = Setting::new();
    let empty = TrustedIssuer { audiences: Vec::new(), ..record() };
    let token = setting.key.token(&claims_with(json!({"client_id": "app", "azp": "app"})));
    assert_eq!(setting.verify_under(&token, &IssuerPolicy::Trusted(vec![empty])).await, Err("audience"));
}

#[tokio::test]
async fn d4_a_token_of_another_client_is_refused() {
    let setting = Setting::new();
    let by_client = TrustedIssuer { audiences: Vec::new(), clients: vec!["app".to_owned()], ..record() };
    let policy = IssuerPolicy::Trusted(vec![by_client]);
    for (changes, expected) in [
        (json!({"azp": "app"}), Ok(())),
        (json!({"client_id": "app"}), Ok(())),
        (json!({"client_id": "app", "azp": "app"}), Ok(())),
        (json!({}), Err("audience")),
        (json!({"azp": "other"}), Err("audience")),
        (json!({"client_id": "app", "azp": "other"}), Err("audience")),
        (json!({"client_id": "other", "azp": "app"}), Err("audience")),
        (json!({"aud": "app"}), Err("audience")),
        (json!({"azp": ["app"]}), Err("claims")),
        (json!({"client_id": 1}), Err("claims")),
    ] {
        let token = setting.key.token(&claims_with(changes.clone()));
        assert_eq!(setting.verify_under(&token, &policy).await.map(drop), expected, "{changes}");
    }
    let either = TrustedIssuer { clients: vec!["app".to_owned()], ..record() };
    let token = setting.key.token(&claims_with(json!({"aud": "elsewhere", "client_id": "app"})));
    assert!(setting.verify_under(&token, &IssuerPolicy::Trusted(vec![either])).await.is_ok());
}

#[tokio::test]
async fn a_subject_that_is_missing_empty_or_odd_is_refused() {
    let setting = Setting::new();
    for sub in [
        json!(null),
        json!(""),
        json!(7),
        json!(["a"]),
        json!({"a": 1}),
        json!(true),
        json!("x".repeat(1025)),
    ] {
        assert_eq!(setting.refusal_of(json!({"sub": sub})).await, "subject");
    }
    let longest = setting.key.token(&claims_with(json!({"sub": "x".repeat(1024)})));
    assert!(setting.verify(&longest).await.is_ok());
}

#[tokio::test]
async fn d4_any_issuer_passes_by_its_own_keys_and_only_as_itself() {
    let setting = Setting::new();
    let token = setting.key.token(&claims_with(json!({"aud": "whatever"})));
    let verified = setting.verify_under(&token, &IssuerPolicy::AnyIssuer).await.unwrap();
    assert_eq!((verified.subject_claim.as_str(), verified.subject.as_str()), ("sub", SUBJECT));

    // Its metadata must be its own.
    let (imposter, mut metadata) = ("https://imposter.example", json!({"issuer": ISSUER}));
    metadata["jwks_uri"] = json!("https://idp.example/keys");
    setting.origin.page(&format!("{imposter}/.well-known/openid-configuration"), 200, metadata.to_string());
    let token = setting.key.token(&claims_with(json!({"iss": imposter})));
    assert_eq!(setting.verify_under(&token, &IssuerPolicy::AnyIssuer).await, Err("keys"));
}

#[tokio::test]
async fn d4_any_issuer_is_still_a_plain_url() {
    let setting = Setting::new();
    for iss in [
        "",
        "accounts.example",
        "ftp://idp.example",
        "file:///etc/passwd",
        "https://",
        "https://u:p@idp.example",
        "https://idp.example?x=1",
        "https://idp.example#x",
        "https://idp.example\\@evil.example",
        "https://idp.example/ä",
        "https://idp.example/\r\nHost: evil",
        "javascript:alert(1)",
        "//idp.example",
    ] {
        let token = setting.key.token(&claims_with(json!({"iss": iss})));
        assert_eq!(setting.verify_under(&token, &IssuerPolicy::AnyIssuer).await, Err("issuer"), "{iss}");
    }
    assert!(setting.origin.take_requests().is_empty());
}
