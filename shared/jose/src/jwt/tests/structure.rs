//! Tokens that are not three parts of strict base64url, or too large.

use agent_identity_core::encoding::base64url;
use agent_identity_core::issuer::MAX_TOKEN_BYTES;
use serde_json::json;

use super::support::{Setting, claims, claims_with};

#[tokio::test]
async fn d20_a_token_beyond_16_kib_is_refused_unseen() {
    let setting = Setting::new();
    let padded = |length: usize| setting.key.token(&claims_with(json!({"padding": "x".repeat(length)})));
    let overhead = padded(0).len();
    let fits = padded((MAX_TOKEN_BYTES - overhead) * 3 / 4 - 3);
    assert!(fits.len() <= MAX_TOKEN_BYTES && fits.len() > MAX_TOKEN_BYTES - 16, "{}", fits.len());
    assert!(setting.verify(&fits).await.is_ok());
    setting.origin.take_requests();
    for size in [MAX_TOKEN_BYTES + 1, 64 * 1024, 1024 * 1024] {
        assert_eq!(setting.refusal(&padded(size)).await, "too_large");
        assert_eq!(setting.refusal(&"a.".repeat(size)).await, "too_large");
    }
    assert!(setting.origin.take_requests().is_empty());
}

#[tokio::test]
async fn a_jwe_five_parts_two_parts_and_json_serialisation_are_refused() {
    let setting = Setting::new();
    let token = setting.key.token(&claims());
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let jwe = base64url(r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#);
    for bad in [
        format!("{jwe}.a.b.c.d"),
        format!("{token}.{payload}.{signature}"),
        format!("{header}.{payload}"),
        header.to_owned(),
        String::new(),
        format!("{token}."),
        format!(".{token}"),
        json!({"protected": header, "payload": payload, "signature": signature}).to_string(),
        json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]})
            .to_string(),
    ] {
        assert_eq!(setting.refusal(&bad).await, "structure", "{bad}");
    }
    for bad in [format!("{{{header}.{payload}.{signature}}}"), format!("Bearer {token}")] {
        assert_eq!(setting.refusal(&bad).await, "encoding", "{bad}");
    }
}

#[tokio::test]
async fn base64url_that_is_not_canonical_is_refused() {
    let setting = Setting::new();
    let token = setting.key.token(&claims());
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    // 64 bytes leave 4 unused bits in the last of 86 characters.
    let with_unused_bits = {
        let (head, last) = signature.split_at(signature.len() - 1);
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let index = alphabet.find(last).unwrap();
        format!("{head}{}", &alphabet[index + 1..index + 2])
    };
    for bad in [
        format!("{header}.{payload}.{with_unused_bits}"),
        format!("{header}.{payload}.{signature}=="),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload} .{signature}"),
        format!("{header}\n.{payload}.{signature}"),
        format!("{token}\n"),
        format!(" {token}"),
        format!("{header}.{payload}.{}+/", &signature[2..]),
        format!("{header}.{payload}.%20{signature}"),
        format!("{header}.{payload}.\u{0}{signature}"),
        format!("{header}.{payload}.ä{signature}"),
    ] {
        assert_eq!(setting.refusal(&bad).await, "encoding", "{bad:?}");
    }
}

#[tokio::test]
async fn invalid_utf8_is_refused_wherever_it_is() {
    let setting = Setting::new();
    let header = br#"{"alg":"ES256","kid":"k1"}"#;
    let text = claims().to_string();
    let in_ignored = [text.trim_end_matches('}').as_bytes(), b",\"x\":\"\xff\"}"].concat();
    assert_eq!(setting.refusal(&setting.key.token_of(header, in_ignored)).await, "encoding");
    let in_header = b"{\"alg\":\"ES256\",\"kid\":\"k1\",\"x\":\"\xc3\x28\"}";
    assert_eq!(setting.refusal(&setting.key.token_of(in_header, &text)).await, "encoding");
    let overlong = [text.trim_end_matches('}').as_bytes(), b",\"x\":\"\xc0\xae\"}"].concat();
    assert_eq!(setting.refusal(&setting.key.token_of(header, overlong)).await, "encoding");
}

#[tokio::test]
async fn what_is_not_one_json_object_is_refused() {
    let setting = Setting::new();
    let (good_header, good_claims) = (r#"{"alg":"ES256","kid":"k1"}"#, claims().to_string());
    for bad in [
        "",
        "null",
        "[]",
        "\"x\"",
        "7",
        "{",
        "{}{}",
        "{} x",
        "{\"a\":}",
        "{'a':1}",
        "{\"a\":NaN}",
        "\u{feff}{}",
    ] {
        assert_eq!(setting.refusal(&setting.key.token_of(bad, &good_claims)).await, "header", "{bad}");
        assert_eq!(setting.refusal(&setting.key.token_of(good_header, bad)).await, "claims", "{bad}");
    }
    let nested = setting.key.token(&claims());
    assert_eq!(setting.refusal(&setting.key.token_of(good_header, nested)).await, "claims");
}

#[tokio::test]
async fn deep_nesting_neither_passes_as_a_claim_nor_harms_elsewhere() {
    let setting = Setting::new();
    let (open, close) = ("[".repeat(5000), "]".repeat(5000));
    let deep = format!("{open}{close}");
    let with = |name: &str| {
        format!("{},\"{name}\":{deep}}}", claims_with(json!({name: null})).to_string().trim_end_matches('}'))
    };
    for name in ["aud", "exp", "iss", "client_id"] {
        let token = setting.key.token_of(r#"{"alg":"ES256","kid":"k1"}"#, with(name));
        assert_eq!(setting.refusal(&token).await, "claims", "{name}");
    }
    let token = setting.key.token_of(r#"{"alg":"ES256","kid":"k1"}"#, with("sub"));
    assert_eq!(setting.refusal(&token).await, "subject");
    let token = setting.key.token_of(r#"{"alg":"ES256","kid":"k1"}"#, with("unread"));
    assert!(setting.verify(&token).await.is_ok());
    for name in ["kid", "alg", "typ"] {
        let token = setting.key.token_of(format!("{{\"{name}\":{deep}}}"), claims().to_string());
        assert_eq!(setting.refusal(&token).await, "header", "{name}");
    }
}
