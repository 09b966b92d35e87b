//! Attacks through the header.

use agent_identity_core::encoding::base64url;
use agent_identity_core::issuer::{IssuerPolicy, TrustedIssuer};
use serde_json::{Value, json};

use super::support::{Setting, TestKey, claims, record, unsigned};

#[tokio::test]
async fn alg_none_in_every_case_variant_is_refused() {
    let setting = Setting::new();
    let real = base64url(setting.key.sign(b"x"));
    for bits in 0..16_u8 {
        let spelt: String = "none"
            .chars()
            .enumerate()
            .map(|(at, c)| if bits >> at & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        let input = unsigned(json!({"alg": spelt, "kid": "k1"}).to_string(), claims().to_string());
        assert_eq!(setting.refusal(&input).await, "structure");
        assert_eq!(setting.refusal(&format!("{input}.")).await, "signature");
        assert_eq!(setting.refusal(&format!("{input}.{real}")).await, "algorithm");
    }
}

#[tokio::test]
async fn an_alg_that_is_missing_odd_or_not_allowed_is_refused() {
    let setting = Setting::new();
    for alg in [
        "",
        " ES256",
        "es256",
        "ES256 ",
        "ES256\u{0}",
        "HS256",
        "HS384",
        "HS512",
        "ES512",
        "ES256K",
        "Ed448",
        "X25519",
        "RSA-OAEP",
        "dir",
        "A256GCM",
        "RS1",
        "ESP256",
    ] {
        let token = setting.key.token_with_header(&json!({"alg": alg, "kid": "k1"}));
        assert_eq!(setting.refusal(&token).await, "algorithm", "{alg}");
    }
    assert_eq!(setting.refusal(&setting.key.token_with_header(&json!({"kid": "k1"}))).await, "algorithm");
    for alg in [json!(null), json!(1), json!(["ES256"]), json!({"alg": "ES256"}), json!(true)] {
        let token = setting.key.token_with_header(&json!({"alg": alg, "kid": "k1"}));
        assert_eq!(setting.refusal(&token).await, "header", "{alg}");
    }
}

#[tokio::test]
async fn hmac_with_the_bytes_of_a_public_key_is_refused() {
    use aws_lc_rs::hmac;
    for alg in ["RS256", "ES256"] {
        let setting = Setting::with_key(TestKey::new("k1", alg));
        let der = setting.key.public_bytes();
        let standard = base64url(&der).replace('-', "+").replace('_', "/");
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{standard}\n-----END PUBLIC KEY-----");
        let secrets = [
            pem.clone().into_bytes(),
            format!("{pem}\n").into_bytes(),
            der,
            standard.into_bytes(),
            setting.key.jwk().to_string().into_bytes(),
            setting.key.jwk()["x"].to_string().into_bytes(),
            Vec::new(),
        ];
        for (name, algorithm) in
            [("HS256", hmac::HMAC_SHA256), ("HS384", hmac::HMAC_SHA384), ("HS512", hmac::HMAC_SHA512)]
        {
            for secret in &secrets {
                for kid in [json!({"alg": name, "kid": "k1"}), json!({"alg": name})] {
                    let input = unsigned(kid.to_string(), claims().to_string());
                    let tag = hmac::sign(&hmac::Key::new(algorithm, secret), input.as_bytes());
                    let token = format!("{input}.{}", base64url(tag));
                    assert_eq!(setting.refusal(&token).await, "algorithm");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_published_hmac_key_is_never_used() {
    let setting = Setting::new();
    let secret =
        json!({"kty": "oct", "kid": "shared", "k": base64url([1; 32]), "alg": "HS256", "use": "sig"});
    setting.origin.publish(super::support::ISSUER, &[secret, setting.key.jwk()]);
    let input = unsigned(r#"{"alg":"HS256","kid":"shared"}"#, claims().to_string());
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &[1; 32]);
    let tag = aws_lc_rs::hmac::sign(&key, input.as_bytes());
    assert_eq!(setting.refusal(&format!("{input}.{}", base64url(tag))).await, "algorithm");
    let token = setting.key.token_with_header(&json!({"alg": "ES256", "kid": "shared"}));
    assert_eq!(setting.refusal(&token).await, "unknown_key");
}

#[tokio::test]
async fn keys_that_the_token_brings_are_neither_used_nor_fetched() {
    let setting = Setting::new();
    let attacker = TestKey::new("k1", "ES256");
    setting.origin.publish("https://evil.example", &[attacker.jwk()]);
    let mut places: Vec<Value> = [
        "https://evil.example/keys",
        "https://idp.example@evil.example/keys",
        "https://evil.example#idp.example/keys",
        "//evil.example/keys",
        "https://idp.example/../keys",
        "https://idp.example/redirect?to=https://evil.example/keys",
        "file:///etc/passwd",
        "http://169.254.169.254/latest/meta-data",
    ]
    .into_iter()
    .flat_map(|url| [json!({"jku": url}), json!({"x5u": url})])
    .collect();
    places.push(json!({"jwk": attacker.jwk()}));
    places.push(json!({"x5c": ["MIIB"], "x5t": "abc", "x5t#S256": "abc"}));
    for place in places {
        for kid in [Some("k1"), None] {
            let mut header = place.clone();
            header["alg"] = json!("ES256");
            if let Some(kid) = kid {
                header["kid"] = json!(kid);
            }
            assert_eq!(setting.refusal(&attacker.token_with_header(&header)).await, "signature", "{header}");
            assert!(
                setting.verify(&setting.key.token_with_header(&header)).await.is_ok(),
                "they are ignored"
            );
        }
    }
    for url in setting.origin.take_requests() {
        assert!(url.starts_with("https://idp.example/"), "{url}");
    }
}

#[tokio::test]
async fn odd_kids_find_nothing_and_reach_nothing() {
    let setting = Setting::new();
    setting.verify(&setting.key.token(&claims())).await.unwrap();
    setting.clock.advance_elapsed(crate::COOL_DOWN);
    setting.origin.take_requests();
    let mut is_first = true;
    for kid in [
        "",
        "../../../../dev/null",
        "/dev/null",
        "k1' OR '1'='1",
        "k1;sleep 5",
        "$(id)",
        "K1",
        "k1 ",
        "k1/../k1",
    ] {
        let token = setting.key.token_with_header(&json!({"alg": "ES256", "kid": kid}));
        assert_eq!(setting.refusal(&token).await, if is_first { "unknown_key" } else { "keys" }, "{kid}");
        is_first = false;
    }
    for kid in ["k1\n", "k1\r\nforged: line", "k1\u{0}", "\u{7f}", "k\u{131}", "\u{202e}k1", &"k".repeat(257)]
    {
        let token = setting.key.token_with_header(&json!({"alg": "ES256", "kid": kid}));
        assert_eq!(setting.refusal(&token).await, "kid", "{kid:?}");
    }
    for kid in [json!(1), json!(null), json!(["k1"]), json!({}), json!(true)] {
        let token = setting.key.token_with_header(&json!({"alg": "ES256", "kid": kid}));
        assert_eq!(setting.refusal(&token).await, "header", "{kid}");
    }
    for url in setting.origin.take_requests() {
        assert!(
            url == "https://idp.example/keys"
                || url == "https://idp.example/.well-known/openid-configuration"
        );
    }
}

#[tokio::test]
async fn crit_and_b64_are_refused_whatever_they_say() {
    let setting = Setting::new();
    for more in [
        json!({"crit": ["exp"], "exp": 1}),
        json!({"crit": ["b64"], "b64": false}),
        json!({"crit": ["b64"], "b64": true}),
        json!({"crit": []}),
        json!({"crit": null}),
        json!({"crit": "b64"}),
        json!({"b64": false}),
        json!({"b64": true}),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "k1"});
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(setting.refusal(&setting.key.token_with_header(&header)).await, "critical", "{header}");
    }
    // RFC 7797: signed over the payload that is not encoded.
    let input =
        format!("{}.{}", base64url(r#"{"alg":"ES256","kid":"k1","b64":false,"crit":["b64"]}"#), claims());
    let token = format!("{input}.{}", base64url(setting.key.sign(input.as_bytes())));
    assert!(setting.verify(&token).await.is_err());
}

#[tokio::test]
async fn compressed_and_nested_tokens_are_refused() {
    let setting = Setting::new();
    let header = json!({"alg": "ES256", "kid": "k1", "zip": "DEF"});
    assert_eq!(setting.refusal(&setting.key.token_with_header(&header)).await, "compressed");
    for cty in ["JWT", "jwt", "application/jwt"] {
        let header = json!({"alg": "ES256", "kid": "k1", "cty": cty});
        assert_eq!(setting.refusal(&setting.key.token_with_header(&header)).await, "nested");
    }
}

#[tokio::test]
async fn two_header_members_of_one_name_are_refused() {
    let setting = Setting::new();
    for header in [
        r#"{"alg":"none","alg":"ES256","kid":"k1"}"#,
        r#"{"alg":"ES256","alg":"none","kid":"k1"}"#,
        r#"{"alg":"ES256","kid":"k1","kid":"k2"}"#,
        r#"{"alg":"ES256","kid":"k1","k\u0069d":"k2"}"#,
        r#"{"alg":"ES256","kid":"k1","unread":1,"unread":2}"#,
        r#"{"alg":"ES256","kid":"k1","typ":"JWT","typ":"at+jwt"}"#,
    ] {
        let token = setting.key.token_of(header, claims().to_string());
        assert_eq!(setting.refusal(&token).await, "duplicate_member", "{header}");
    }
}

#[tokio::test]
async fn an_id_token_is_no_access_token_where_at_jwt_is_required() {
    let setting = Setting::new();
    let policy = IssuerPolicy::Trusted(vec![TrustedIssuer { typ: Some("at+jwt".to_owned()), ..record() }]);
    let typed = |typ: &str| setting.key.token_with_header(&json!({"alg": "ES256", "kid": "k1", "typ": typ}));
    for good in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/at+JWT"] {
        assert!(setting.verify_under(&typed(good), &policy).await.is_ok(), "{good}");
    }
    for bad in [
        "JWT",
        "",
        "application/",
        "at+jwt ",
        "application/application/at+jwt",
        "text/at+jwt",
        "id_token+jwt",
    ] {
        assert_eq!(setting.verify_under(&typed(bad), &policy).await, Err("typ"), "{bad}");
    }
    assert_eq!(setting.verify_under(&setting.key.token(&claims()), &policy).await, Err("typ"));
}

#[tokio::test]
async fn a_token_made_for_something_else_is_refused_unless_the_record_names_its_type() {
    let setting = Setting::new();
    let typed = |typ: &str| setting.key.token_with_header(&json!({"alg": "ES256", "kid": "k1", "typ": typ}));
    for good in ["JWT", "jwt", "at+jwt"] {
        assert!(setting.verify(&typed(good)).await.is_ok(), "{good}");
    }
    for bad in ["logout+jwt", "dpop+jwt", "secevent+jwt", "client-authentication+jwt", "oauth-authz-req+jwt"]
    {
        assert_eq!(setting.refusal(&typed(bad)).await, "typ", "{bad}");
        assert_eq!(setting.verify_under(&typed(bad), &IssuerPolicy::AnyIssuer).await, Err("typ"), "{bad}");
    }
    let policy =
        IssuerPolicy::Trusted(vec![TrustedIssuer { typ: Some("vendor+jwt".to_owned()), ..record() }]);
    assert!(setting.verify_under(&typed("vendor+jwt"), &policy).await.is_ok());
}
