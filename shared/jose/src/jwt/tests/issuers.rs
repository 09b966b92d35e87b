//! When issuers are asked for their keys, how often, and what happens while they do not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_identity_core::issuer::{IssuerPolicy, TrustedIssuer};
use serde_json::json;

use super::support::{ISSUER, Setting, TestKey, claims, claims_with, record};
use crate::{COOL_DOWN, FRESH, MAX_ISSUERS, MAX_STALE};

/// Claims that outlive the tests.
fn lasting() -> serde_json::Value {
    claims_with(json!({"exp": 4_000_000_000_u32}))
}

fn unknown(setting: &Setting, kid: usize) -> String {
    let header = json!({"alg": "ES256", "kid": format!("unknown-{kid}")}).to_string();
    setting.key.token_of(header, lasting().to_string())
}

#[tokio::test]
async fn a_crowd_at_a_cold_start_asks_once() {
    let setting = Arc::new(Setting::new());
    let token = setting.key.token(&claims());
    let tasks: Vec<_> = (0..100)
        .map(|_| {
            let (setting, token) = (setting.clone(), token.clone());
            tokio::spawn(async move { setting.verify(&token).await.is_ok() })
        })
        .collect();
    for task in tasks {
        assert!(task.await.unwrap());
    }
    let asked = setting.origin.take_requests();
    assert_eq!(asked, ["https://idp.example/.well-known/openid-configuration", "https://idp.example/keys"]);
}

#[tokio::test]
async fn fresh_keys_cost_no_request() {
    let setting = Setting::new();
    let token = setting.key.token(&lasting());
    setting.verify(&token).await.unwrap();
    setting.origin.take_requests();
    setting.clock.advance(FRESH - Duration::from_millis(1));
    for _ in 0..10 {
        setting.verify(&token).await.unwrap();
    }
    assert!(setting.origin.take_requests().is_empty());
    setting.clock.advance(Duration::from_millis(1));
    setting.verify(&token).await.unwrap();
    assert_eq!(setting.origin.take_key_requests(), 1);
}

#[tokio::test]
async fn d25_a_flood_of_unknown_kids_asks_once_per_cool_down_and_known_keys_still_pass() {
    let setting = Setting::new();
    let known = setting.key.token(&lasting());
    setting.verify(&known).await.unwrap();
    setting.clock.advance(COOL_DOWN);
    setting.origin.take_requests();
    for round in 0..3 {
        assert_eq!(
            setting.refusal(&unknown(&setting, 0)).await,
            "unknown_key",
            "a set that is new enough says so"
        );
        for kid in 1..200 {
            assert_eq!(
                setting.refusal(&unknown(&setting, kid)).await,
                "keys",
                "a retryable answer, never invalid"
            );
            setting.verify(&known).await.unwrap();
        }
        assert_eq!(setting.origin.take_key_requests(), 1, "round {round}");
        setting.clock.advance(COOL_DOWN);
    }
}

#[tokio::test]
async fn d25_a_key_used_at_once_is_found_by_the_first_token_that_names_it() {
    let setting = Setting::new();
    setting.verify(&setting.key.token(&lasting())).await.unwrap();
    setting.clock.advance(COOL_DOWN);
    let next = TestKey::new("k2", "ES256");
    setting.origin.publish(ISSUER, &[setting.key.jwk(), next.jwk()]);
    setting.verify(&next.token(&lasting())).await.unwrap();

    // Unless an unknown kid caused a fetch just now: then it is found after the cool-down.
    setting.clock.advance(COOL_DOWN);
    assert_eq!(setting.refusal(&unknown(&setting, 1)).await, "unknown_key");
    let newest = TestKey::new("k3", "ES256");
    setting.origin.publish(ISSUER, &[setting.key.jwk(), newest.jwk()]);
    assert_eq!(setting.refusal(&newest.token(&lasting())).await, "keys");
    setting.clock.advance(COOL_DOWN);
    setting.verify(&newest.token(&lasting())).await.unwrap();
}

#[tokio::test]
async fn d25_a_set_that_was_being_read_before_the_token_came_does_not_make_it_invalid() {
    let setting = Arc::new(Setting::new());
    let gate = setting.origin.gate.write().await;
    let (other, token) = (setting.clone(), setting.key.token(&lasting()));
    let first = tokio::spawn(async move { other.verify(&token).await.is_ok() });
    while setting.origin.take_requests().is_empty() {
        tokio::task::yield_now().await;
    }
    setting.clock.advance(Duration::from_secs(1));
    let late = tokio::spawn({
        let setting = setting.clone();
        async move { setting.refusal(&unknown(&setting, 1)).await }
    });
    tokio::task::yield_now().await;
    drop(gate);
    assert!(first.await.unwrap());
    assert_eq!(late.await.unwrap(), "keys");
}

#[tokio::test]
async fn d25_a_key_published_five_minutes_before_its_first_use_is_never_refused() {
    // However far into the life of the set in memory it was published, and whatever floods there were.
    for published_after in [0, 1, 15, 29, 30, 31, 150, 299, 300] {
        let setting = Setting::new();
        setting.verify(&setting.key.token(&lasting())).await.unwrap();
        setting.clock.advance(Duration::from_secs(published_after));
        let next = TestKey::new("k2", "ES256");
        setting.origin.publish(ISSUER, &[setting.key.jwk(), next.jwk()]);
        for second in 0..300 {
            setting.clock.advance(Duration::from_secs(1));
            if second % 7 == 0 {
                let _ = setting.verify(&unknown(&setting, second)).await;
            }
        }
        assert!(setting.verify(&next.token(&lasting())).await.is_ok(), "{published_after}");
    }
}

#[tokio::test]
async fn while_the_issuer_is_down_known_keys_pass_for_a_day_and_it_is_asked_once_per_cool_down() {
    let setting = Setting::new();
    let known = setting.key.token(&lasting());
    setting.verify(&known).await.unwrap();
    setting.origin.is_down.store(true, Ordering::SeqCst);
    setting.origin.take_requests();
    setting.clock.advance(FRESH);
    for _ in 0..10 {
        for _ in 0..10 {
            setting.verify(&known).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(setting.refusal(&unknown(&setting, 1)).await, "keys");
        assert_eq!(setting.origin.take_requests().len(), 1);
        setting.clock.advance(COOL_DOWN);
    }
    setting.clock.advance(MAX_STALE - FRESH - COOL_DOWN * 10 - Duration::from_millis(1));
    setting.verify(&known).await.unwrap();
    setting.clock.advance(Duration::from_millis(1));
    assert_eq!(setting.refusal(&known).await, "keys", "after a day they are not believed any more");

    setting.origin.is_down.store(false, Ordering::SeqCst);
    setting.clock.advance(COOL_DOWN);
    setting.verify(&known).await.unwrap();
}

#[tokio::test]
async fn whoever_has_the_key_does_not_wait_for_an_issuer_that_is_known_to_be_down() {
    let setting = Setting::new();
    let known = setting.key.token(&lasting());
    setting.verify(&known).await.unwrap();
    setting.origin.is_down.store(true, Ordering::SeqCst);
    setting.clock.advance(FRESH);
    setting.verify(&known).await.unwrap();
    setting.clock.advance(COOL_DOWN);
    let _hanging = setting.origin.gate.write().await;
    for _ in 0..3 {
        setting.verify(&known).await.unwrap();
    }
}

#[tokio::test]
async fn a_key_that_the_issuer_withdrew_is_refused_once_its_set_is_read_again() {
    let setting = Setting::new();
    let old = setting.key.token(&lasting());
    setting.verify(&old).await.unwrap();
    setting.origin.publish(ISSUER, &[TestKey::new("k2", "ES256").jwk()]);
    setting.clock.advance(FRESH);
    assert_eq!(setting.refusal(&old).await, "unknown_key");
}

#[tokio::test]
async fn answers_that_are_no_key_set_leave_the_known_keys_alone() {
    let bad: Vec<(u16, Vec<u8>)> = vec![
        (500, Vec::new()),
        (302, Vec::new()),
        (200, b"<html>".to_vec()),
        (200, b"{}".to_vec()),
        (200, b"{\"keys\":{}}".to_vec()),
        (200, [b"[".repeat(100_000), b"]".repeat(100_000)].concat()),
        (200, format!("{{\"keys\":[{}{{}}]}}", "{},".repeat(100)).into_bytes()),
        (200, [b"{\"keys\":[]".to_vec(), b" ".repeat(256 * 1024), b"}".to_vec()].concat()),
    ];
    for (status, body) in bad {
        let setting = Setting::new();
        let known = setting.key.token(&lasting());
        setting.verify(&known).await.unwrap();
        setting.origin.page("https://idp.example/keys", status, body);
        setting.clock.advance(FRESH);
        assert_eq!(setting.refusal(&unknown(&setting, 1)).await, "keys", "{status}");
        setting.verify(&known).await.unwrap();
    }
}

#[tokio::test]
async fn metadata_that_are_not_the_issuers_or_point_to_odd_places_are_not_followed() {
    let setting = Setting::new();
    let place = "https://idp.example/.well-known/openid-configuration";
    for (issuer, jwks_uri) in [
        ("https://idp.example/", "https://idp.example/keys"),
        ("https://IDP.example", "https://idp.example/keys"),
        ("https://evil.example", "https://idp.example/keys"),
        (ISSUER, "file:///etc/passwd"),
        (ISSUER, "//idp.example/keys"),
        (ISSUER, "https://u@idp.example/keys"),
        (ISSUER, "https://idp.example/keys#x"),
        (ISSUER, ""),
    ] {
        setting.origin.page(place, 200, json!({"issuer": issuer, "jwks_uri": jwks_uri}).to_string());
        assert_eq!(setting.refusal(&setting.key.token(&lasting())).await, "keys", "{issuer} {jwks_uri}");
        assert_eq!(setting.origin.take_requests(), [place]);
        setting.clock.advance(COOL_DOWN);
    }
    for body in
        ["", "[]", "{}", r#"{"issuer":["https://idp.example"],"jwks_uri":"https://idp.example/keys"}"#]
    {
        setting.origin.page(place, 200, body);
        assert_eq!(setting.refusal(&setting.key.token(&lasting())).await, "keys", "{body}");
        setting.clock.advance(COOL_DOWN);
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_neither_stops_the_fetch_nor_causes_a_second() {
    let setting = Arc::new(Setting::new());
    let token = setting.key.token(&claims());
    let gate = setting.origin.gate.write().await;
    let (gone, wanted) = (setting.clone(), token.clone());
    let caller = tokio::spawn(async move { gone.verify(&wanted).await.is_ok() });
    while setting.origin.take_requests().is_empty() {
        tokio::task::yield_now().await;
    }
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());
    drop(gate);
    setting.verify(&token).await.unwrap();
    assert_eq!(setting.origin.take_requests(), ["https://idp.example/keys"]);
}

#[tokio::test]
async fn a_wall_clock_that_jumps_changes_nothing_about_the_life_of_keys() {
    let setting = Setting::new();
    let token = setting.key.token(&lasting());
    setting.verify(&token).await.unwrap();
    setting.origin.take_requests();
    setting.clock.set(agent_identity_core::Timestamp::from_seconds(3_000_000_000));
    setting.verify(&token).await.unwrap();
    assert!(setting.origin.take_requests().is_empty());
}

#[tokio::test]
async fn invented_issuers_neither_fill_memory_nor_get_round_the_cool_down_nor_push_out_a_trusted_one() {
    let setting = Setting::new();
    let known = setting.key.token(&lasting());
    setting.verify(&known).await.unwrap();
    let invented = |number: usize| {
        setting.key.token(&claims_with(json!({"iss": format!("https://evil.example/{number}"), "exp": 4e9})))
    };
    for number in 0..MAX_ISSUERS + 20 {
        assert_eq!(setting.verify_under(&invented(number), &IssuerPolicy::AnyIssuer).await, Err("keys"));
    }
    // One place is taken by the trusted issuer; each costs its two places of metadata.
    let asked = setting.origin.take_requests().len();
    assert_eq!(asked, 2 + (MAX_ISSUERS - 1) * 2);
    for number in 0..50 {
        assert_eq!(setting.verify_under(&invented(number), &IssuerPolicy::AnyIssuer).await, Err("keys"));
    }
    assert_eq!(setting.origin.take_requests().len(), 0);

    setting.clock.advance(COOL_DOWN);
    setting.verify_under(&invented(MAX_ISSUERS + 7), &IssuerPolicy::AnyIssuer).await.unwrap_err();
    assert_eq!(setting.origin.take_requests().len(), 2, "there is room again");
    setting.verify(&known).await.unwrap();
    assert!(setting.origin.take_requests().is_empty(), "the trusted issuer was never forgotten");

    let late = "https://late.example";
    setting.origin.publish(late, &[setting.key.jwk()]);
    setting.clock.advance(Duration::from_secs(1));
    for number in 0..MAX_ISSUERS + 20 {
        setting.verify_under(&invented(number), &IssuerPolicy::AnyIssuer).await.unwrap_err();
    }
    let policy = IssuerPolicy::Trusted(vec![TrustedIssuer { issuer: late.to_owned(), ..record() }]);
    let token = setting.key.token(&claims_with(json!({"iss": late})));
    assert!(setting.verify_under(&token, &policy).await.is_ok(), "a trusted issuer finds room in a flood");
    setting.origin.take_requests();
    setting.verify(&known).await.unwrap();
    assert!(setting.origin.take_requests().is_empty(), "and takes it from an invented one");
}

#[tokio::test]
async fn d4_an_issuer_that_nothing_names_is_announced_in_the_log_once() {
    struct Warnings(Arc<AtomicUsize>);

    impl tracing::Subscriber for Warnings {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            if *event.metadata().level() == tracing::Level::WARN {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        fn enter(&self, _: &tracing::span::Id) {}
        fn exit(&self, _: &tracing::span::Id) {}
    }

    let warnings = Arc::new(AtomicUsize::new(0));
    let _guard = tracing::subscriber::set_default(Warnings(warnings.clone()));
    let setting = Setting::new();
    let token = setting.key.token(&claims());
    setting.verify(&token).await.unwrap();
    assert_eq!(warnings.load(Ordering::SeqCst), 0, "this one is configured");
    for _ in 0..5 {
        setting.verify_under(&token, &IssuerPolicy::AnyIssuer).await.unwrap();
    }
    assert_eq!(warnings.load(Ordering::SeqCst), 1);
}
