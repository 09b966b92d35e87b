//! Tokens held against the profiles of authorizers: the claims that their rules see, and profiles that differ.

use std::time::Duration;

use agent_identity_core::Secret;
use agent_identity_core::issuer::{
    Algorithm, ClaimValue, TokenProfile, TokenRefused, TokenVerifier as _, VerifiedClaims,
};
use serde_json::{Value, json};

use super::support::{ISSUER, SUBJECT, Setting, TestKey, claims_with, from_now, profile_of, record};

fn profile() -> TokenProfile {
    profile_of(&record())
}

async fn verify(
    setting: &Setting,
    token: &str,
    profiles: &[TokenProfile],
) -> Result<VerifiedClaims, &'static str> {
    setting.verifier.verify_claims(&Secret::new(token), profiles).await.map_err(|refusal| match refusal {
        TokenRefused::Invalid { code, .. } => code,
        _ => "keys",
    })
}

async fn claims_of(changes: Value) -> Result<VerifiedClaims, &'static str> {
    let setting = Setting::new();
    verify(&setting, &setting.key.token(&claims_with(changes)), &[profile()]).await
}

#[tokio::test]
async fn the_claims_that_rules_need_are_there() {
    let claims = claims_of(json!({
        "aud": ["one", "two"], "client_id": "front-end", "azp": "party", "scope": "openid things.read",
    }))
    .await
    .unwrap();
    assert_eq!(claims.audiences, ["one", "two"]);
    assert_eq!(
        (claims.client_id.as_deref(), claims.authorized_party.as_deref()),
        (Some("front-end"), Some("party"))
    );
    assert_eq!(claims.scopes, ["openid", "things.read"]);
    assert_eq!((claims.token.subject.as_str(), claims.met.as_slice()), (SUBJECT, &[0][..]));
}

#[tokio::test]
async fn a_token_of_another_audience_is_genuine_and_its_rule_is_not_ours() {
    assert_eq!(claims_of(json!({"aud": "somebody else"})).await.unwrap().audiences, ["somebody else"]);
    assert!(claims_of(json!({"aud": null})).await.unwrap().audiences.is_empty());
}

#[tokio::test]
async fn scopes_come_in_three_forms_and_no_other() {
    for (scopes, expected) in [
        (json!({"scope": "a b"}), vec!["a", "b"]),
        (json!({"scp": "a  b "}), vec!["a", "b"]),
        (json!({"scp": ["a", "b"]}), vec!["a", "b"]),
        (json!({"scope": "a", "scp": ["b"]}), vec!["a", "b"]),
        (json!({"scp": ["a b"]}), vec!["a b"]),
        (json!({"scope": ""}), vec![]),
        (json!({"scope": "a\tb"}), vec!["a\tb"]),
    ] {
        assert_eq!(claims_of(scopes.clone()).await.unwrap().scopes, expected, "{scopes}");
    }
    for wrong in
        [json!({"scope": 1}), json!({"scp": {"a": 1}}), json!({"scp": ["a", 1]}), json!({"scope": true})]
    {
        assert_eq!(claims_of(wrong.clone()).await, Err("claims"), "{wrong}");
    }
    let setting = Setting::new();
    let odd = setting.key.token(&claims_with(json!({"scope": 1})));
    assert!(
        setting
            .verifier
            .verify(&Secret::new(&*odd), &agent_identity_core::issuer::IssuerPolicy::Trusted(vec![record()]))
            .await
            .is_ok(),
        "nobody asks there"
    );
}

#[tokio::test]
async fn without_a_profile_nothing_passes_and_nothing_is_fetched() {
    let setting = Setting::new();
    let token = setting.key.token(&claims_with(json!({})));
    assert_eq!(verify(&setting, &token, &[]).await, Err("issuer"));
    let other = TokenProfile { issuers: vec!["https://other.example".to_owned()], ..profile() };
    assert_eq!(verify(&setting, &token, &[other]).await, Err("issuer"));
    assert!(setting.origin.take_requests().is_empty());
}

#[tokio::test]
async fn of_two_spellings_of_an_issuer_the_metadata_say_which_it_is() {
    let setting = Setting::new();
    let both = TokenProfile { issuers: vec![ISSUER.to_owned(), format!("{ISSUER}/")], ..profile() };
    let plain = setting.key.token(&claims_with(json!({})));
    assert!(verify(&setting, &plain, std::slice::from_ref(&both)).await.is_ok());
    let slash = setting.key.token(&claims_with(json!({"iss": format!("{ISSUER}/")})));
    assert_eq!(
        verify(&setting, &slash, &[both]).await,
        Err("keys"),
        "no keys are found for a name that it does not have"
    );
}

#[tokio::test]
async fn each_profile_is_met_on_its_own() {
    let setting = Setting::new();
    let strict_type = TokenProfile { typ: Some("at+jwt".to_owned()), ..profile() };
    let other_algorithm = TokenProfile { algorithms: vec![Algorithm::RS256], ..profile() };
    let other_issuer = TokenProfile { issuers: vec!["https://other.example".to_owned()], ..profile() };
    let named = TokenProfile { algorithms: vec![Algorithm::ES256], ..profile() };
    let young = TokenProfile { max_age: Some(Duration::from_secs(60)), ..profile() };
    let old = claims_with(json!({"iat": from_now(-300)}));
    let profiles = [strict_type, other_algorithm, other_issuer, young, named, profile()];
    assert_eq!(verify(&setting, &setting.key.token(&old), &profiles).await.unwrap().met, [4, 5]);
}

#[tokio::test]
async fn an_algorithm_that_one_profile_names_is_not_opened_to_another() {
    // A key that says nothing of its algorithm is RS256's, unless a rule names another by itself.
    let setting = Setting::with_key(TestKey::new("k", "PS256"));
    let mut jwk = setting.key.jwk();
    jwk.as_object_mut().unwrap().remove("alg");
    setting.origin.publish(ISSUER, &[jwk]);
    let naming = TokenProfile { algorithms: vec![Algorithm::PS256], ..profile() };
    let token = setting.key.token(&claims_with(json!({})));
    assert_eq!(verify(&setting, &token, &[profile()]).await, Err("key_algorithm"));
    assert_eq!(verify(&setting, &token, &[profile(), naming]).await.unwrap().met, [1]);
}

#[tokio::test]
async fn leeway_and_age_are_the_profiles_own() {
    let setting = Setting::new();
    let with = |leeway, max_age: Option<u64>| TokenProfile {
        leeway: Duration::from_secs(leeway),
        max_age: max_age.map(Duration::from_secs),
        ..profile()
    };
    let check = async |changes: Value, profile: TokenProfile| {
        verify(&setting, &setting.key.token(&claims_with(changes)), &[profile]).await.map(drop)
    };
    assert_eq!(check(json!({"exp": from_now(0)}), with(0, None)).await, Err("expired"));
    assert_eq!(check(json!({"exp": from_now(1)}), with(0, None)).await, Ok(()));
    assert_eq!(check(json!({"exp": from_now(-100)}), with(120, None)).await, Ok(()));
    assert_eq!(check(json!({"iat": from_now(5)}), with(0, None)).await, Err("issued_in_future"));
    assert_eq!(check(json!({"iat": from_now(-60)}), with(0, Some(60))).await, Err("too_old"));
    assert_eq!(check(json!({"iat": from_now(-59)}), with(0, Some(60))).await, Ok(()));
    assert_eq!(check(json!({"iat": from_now(-60)}), with(30, Some(60))).await, Ok(()));
    assert_eq!(check(json!({"iat": null}), with(30, Some(60))).await, Err("age_unknown"));
}

#[tokio::test]
async fn profiles_that_would_name_the_user_differently_do_not_both_hold() {
    let setting = Setting::new();
    let oid = TokenProfile { subject_claim: "oid".to_owned(), ..profile() };
    let token = setting.key.token(&claims_with(json!({"oid": "object"})));
    let claims = verify(&setting, &token, &[oid.clone(), profile()]).await.unwrap();
    assert_eq!((claims.token.subject.as_str(), claims.met), ("object", vec![0]));
    let without = setting.key.token(&claims_with(json!({})));
    assert_eq!(verify(&setting, &without, std::slice::from_ref(&oid)).await, Err("subject"));
    assert_eq!(verify(&setting, &without, &[oid, profile()]).await.unwrap().met, [1]);
}

async fn claim(name: &str, changes: Value) -> Result<Option<ClaimValue>, &'static str> {
    let setting = Setting::new();
    let token = setting.key.token(&claims_with(changes));
    let asking = TokenProfile { claims: vec!["unused".to_owned(), name.to_owned()], ..profile() };
    Ok(verify(&setting, &token, &[profile(), asking]).await?.custom(name).cloned())
}

#[tokio::test]
async fn a_claim_that_a_rule_looks_at_comes_in_the_form_that_it_has() {
    let text = |text: &str| Some(ClaimValue::Text(text.to_owned()));
    let texts = |list: &[&str]| Some(ClaimValue::Texts(list.iter().map(|it| (*it).to_owned()).collect()));
    for (value, expected) in [
        (json!("staff"), text("staff")),
        (json!(""), text("")),
        (json!(["a", "b"]), texts(&["a", "b"])),
        (json!([]), texts(&[])),
        (json!(["a", 1]), Some(ClaimValue::Other)),
        (json!([["a"]]), Some(ClaimValue::Other)),
        (json!(7), Some(ClaimValue::Other)),
        (json!(-7), Some(ClaimValue::Other)),
        (json!(true), Some(ClaimValue::Other)),
        (json!({"staff": "staff"}), Some(ClaimValue::Other)),
        (Value::Null, None),
    ] {
        assert_eq!(claim("group", json!({"group": value})).await, Ok(expected), "{value}");
    }
    assert_eq!(claims_of(json!({"group": "staff"})).await.unwrap().custom, [], "nobody asked for it");
}

#[tokio::test]
async fn claims_that_decide_anyway_can_be_looked_at_too() {
    let text = |text: &str| Ok(Some(ClaimValue::Text(text.to_owned())));
    assert_eq!(claim("iss", json!({})).await, text(ISSUER));
    assert_eq!(claim("sub", json!({})).await, text(SUBJECT));
    assert_eq!(claim("azp", json!({"azp": "party"})).await, text("party"));
    assert_eq!(claim("client_id", json!({"client_id": "client"})).await, text("client"));
    assert_eq!(claim("scp", json!({"scp": "a b"})).await, text("a b"));
    let list = ClaimValue::Texts(vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(claim("aud", json!({"aud": ["a", "b"]})).await, Ok(Some(list)));
    assert_eq!(claim("azp", json!({})).await, Ok(None));
}

#[tokio::test]
async fn a_claim_that_a_rule_looks_at_stands_once() {
    let setting = Setting::new();
    let twice = claims_with(json!({"group": "guest"}))
        .to_string()
        .replace("\"group\":\"guest\"", "\"group\":\"guest\",\"gr\\u006fup\":\"staff\"");
    assert!(twice.contains("gr\\u006fup"), "{twice}");
    let asking = TokenProfile { claims: vec!["group".to_owned()], ..profile() };
    let header = json!({"alg": "ES256", "kid": "k1", "typ": "JWT"}).to_string();
    let token = setting.key.token_of(header, twice);
    assert_eq!(verify(&setting, &token, &[asking]).await.unwrap_err(), "duplicate_member");
}

#[tokio::test]
async fn d15_the_time_of_the_sign_in_is_read_and_one_that_cannot_be_read_was_before_everything() {
    use agent_identity_core::Timestamp;
    let at = async |changes: Value| claims_of(changes).await.unwrap().token.auth_time;
    assert_eq!(at(json!({"auth_time": 1_700_000_000})).await, Some(Timestamp::from_seconds(1_700_000_000)));
    assert_eq!(at(json!({})).await, None);
    for unreadable in [json!("2024-01-01T00:00:00Z"), json!(-1), json!(1e300), json!([1]), json!({})] {
        assert_eq!(at(json!({"auth_time": unreadable})).await, Some(Timestamp::EPOCH), "{unreadable}");
    }
}
