use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::issuer::{ClaimValue, TrustedIssuer, VerifiedToken};

fn authorizer(configuration: serde_json::Value, options: serde_json::Value) -> Authorizer {
    let mut configuration = configuration;
    configuration["discoveryUrl"] = json!("https://idp.example/.well-known/openid-configuration");
    Authorizer {
        name: AuthorizerName::parse("people").unwrap(),
        version: 1,
        subject_claim: "sub".to_owned(),
        configuration: serde_json::from_value(configuration).unwrap(),
        options: serde_json::from_value(options).unwrap(),
        minting_key: None,
        introspection_secret: None,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

fn claims() -> VerifiedClaims {
    VerifiedClaims {
        token: VerifiedToken {
            issuer: "https://idp.example".to_owned(),
            subject_claim: "sub".to_owned(),
            subject: "ada".to_owned(),
            expires_at: Timestamp::from_seconds(100),
            issued_at: None,
            auth_time: None,
        },
        audiences: vec!["other".to_owned(), "agents".to_owned()],
        client_id: Some("front-end".to_owned()),
        authorized_party: None,
        scopes: vec!["read".to_owned(), "write".to_owned()],
        custom: Vec::new(),
        met: vec![0],
    }
}

fn check(configuration: serde_json::Value, claims: &VerifiedClaims) -> Result<(), Denial> {
    authorizer(configuration, json!({})).check(claims)
}

#[test]
fn everything_that_is_configured_must_hold() {
    let all = |audience: &str, client: &str, scope: &str| {
        check(
            json!({"allowedAudience": [audience], "allowedClients": [client], "allowedScopes": [scope]}),
            &claims(),
        )
    };
    assert_eq!(all("agents", "front-end", "read"), Ok(()));
    assert_eq!(all("x", "front-end", "read"), Err(Denial::Audience));
    assert_eq!(all("agents", "x", "read"), Err(Denial::Client));
    assert_eq!(all("agents", "front-end", "x"), Err(Denial::Scope));
    assert_eq!(all("x", "x", "x"), Err(Denial::Audience), "in a fixed order");
}

#[test]
fn d4_an_issuer_alone_is_not_enough() {
    assert_eq!(check(json!({}), &claims()), Err(Denial::NoRule));
}

#[test]
fn one_audience_of_several_is_enough_and_all_scopes_are_needed() {
    assert_eq!(check(json!({"allowedAudience": ["x", "agents"]}), &claims()), Ok(()));
    assert_eq!(check(json!({"allowedScopes": ["read", "write"]}), &claims()), Ok(()));
    assert_eq!(check(json!({"allowedScopes": ["read", "admin"]}), &claims()), Err(Denial::Scope));
}

#[test]
fn a_token_without_the_claim_does_not_pass_its_rule() {
    let bare = VerifiedClaims { audiences: Vec::new(), client_id: None, scopes: Vec::new(), ..claims() };
    assert_eq!(check(json!({"allowedAudience": ["agents"]}), &bare), Err(Denial::Audience));
    assert_eq!(check(json!({"allowedClients": ["front-end"]}), &bare), Err(Denial::Client));
    assert_eq!(check(json!({"allowedScopes": ["read"]}), &bare), Err(Denial::Scope));
}

#[test]
fn names_are_compared_byte_for_byte() {
    assert_eq!(check(json!({"allowedAudience": ["Agents"]}), &claims()), Err(Denial::Audience));
    assert_eq!(check(json!({"allowedAudience": ["agents "]}), &claims()), Err(Denial::Audience));
    assert_eq!(check(json!({"allowedScopes": ["rea"]}), &claims()), Err(Denial::Scope));
}

#[test]
fn azp_names_the_client_only_where_that_was_asked_for_and_two_that_differ_are_both_looked_at() {
    let rule = json!({"allowedClients": ["front-end"]});
    let azp_only =
        VerifiedClaims { client_id: None, authorized_party: Some("front-end".to_owned()), ..claims() };
    assert_eq!(check(rule.clone(), &azp_only), Err(Denial::Client));
    let with_azp = authorizer(rule, json!({"azpAsClient": true}));
    assert_eq!(with_azp.check(&azp_only), Ok(()));
    assert_eq!(with_azp.check(&claims()), Ok(()));
    let differing = VerifiedClaims { authorized_party: Some("evil".to_owned()), ..claims() };
    assert_eq!(with_azp.check(&differing), Err(Denial::Client));
}

#[test]
fn a_record_with_a_rule_that_is_not_understood_is_not_read() {
    let configuration = json!({
        "discoveryUrl": "https://idp.example/.well-known/openid-configuration",
        "allowedAudience": ["a"],
        "ruleOfLater": [],
    });
    assert!(serde_json::from_value::<CustomJwtAuthorizer>(configuration).is_err());
    assert!(serde_json::from_value::<AuthorizerOptions>(json!({"optionOfLater": true})).is_err());
    let introspection = json!({"endpoint": "https://idp.example/i", "clientId": "a", "memberOfLater": true});
    assert!(serde_json::from_value::<AuthorizerOptions>(json!({"introspection": introspection})).is_err());
}

#[test]
fn the_configuration_is_awss_json() {
    let text = json!({
        "discoveryUrl": "https://idp.example/.well-known/openid-configuration",
        "allowedAudience": ["b", "a"],
        "allowedScopes": ["x"],
    });
    let configuration: CustomJwtAuthorizer = serde_json::from_value(text.clone()).unwrap();
    assert_eq!(serde_json::to_value(&configuration).unwrap(), text);
}

#[test]
fn the_issuer_is_what_stands_before_the_well_known_path() {
    let issuers = |url: &str| DiscoveryUrl::parse(url).unwrap().issuers();
    assert_eq!(
        issuers("https://idp.example/t/v2.0/.well-known/openid-configuration"),
        ["https://idp.example/t/v2.0", "https://idp.example/t/v2.0/"]
    );
    assert_eq!(
        issuers("https://idp.example/.well-known/oauth-authorization-server/tenant")[0],
        "https://idp.example/tenant",
        "RFC 8414 §3.1"
    );
    assert_eq!(
        issuers("https://idp.example/.well-known/oauth-authorization-server")[0],
        "https://idp.example"
    );
    for wrong in [
        "",
        "https://idp.example",
        "https://idp.example/.well-known/openid-configuration/",
        "https://idp.example/.well-known/openid-configuration?x",
        "https://idp.example/.well-known/something-else",
        "https://idp.example/.well-known/openid-configurations",
        "https://idp.example/.well-known/oauth-authorization-server/",
        "https://idp.example/.well-known/oauth-authorization-server//tenant",
        "https://idp.example/.well-known/oauth-authorization-server/tenant/",
        "https://idp.example/one/.well-known/oauth-authorization-server/two",
        "https://idp.example/.well-known/openid-configuration/.well-known/openid-configuration",
        "https://idp.example//.well-known/openid-configuration",
        "https:///.well-known/openid-configuration",
        "https://u@idp.example/.well-known/openid-configuration",
        "https://idp.example\\@evil/.well-known/openid-configuration",
        "https://idp.example?x/.well-known/openid-configuration",
        "https://idp.example/a b/.well-known/openid-configuration",
        "https://idp.éxample/.well-known/openid-configuration",
        "ftp://idp.example/.well-known/openid-configuration",
        "/.well-known/openid-configuration",
    ] {
        assert!(DiscoveryUrl::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_profile_carries_the_options() {
    let options = json!({"leewaySeconds": 5, "requiredTyp": "at+jwt", "algorithms": ["ES256"], "maxTokenAgeSeconds": 60});
    let profile = Authorizer { subject_claim: "oid".to_owned(), ..authorizer(json!({}), options) }.profile();
    assert_eq!(profile.leeway, Duration::from_secs(5));
    assert_eq!((profile.typ.as_deref(), profile.subject_claim.as_str()), (Some("at+jwt"), "oid"));
    assert_eq!(
        (profile.algorithms, profile.max_age),
        (vec![Algorithm::ES256], Some(Duration::from_secs(60)))
    );
    let plain = authorizer(json!({}), json!({})).profile();
    assert_eq!((plain.leeway, plain.max_age), (LEEWAY, None));
}

fn rules(authorizers: Vec<Authorizer>, issuers: &[TrustedIssuer]) -> AgentRules {
    AgentRules::new(AgentAuthorizers { workload: Id::from_bytes([1; 16]), epoch: 1, authorizers }, issuers)
}

#[test]
fn d10_where_the_deployment_says_that_another_claim_names_the_users_no_token_passes() {
    let record = |issuer: &str, claim: &str| TrustedIssuer {
        issuer: issuer.to_owned(),
        audiences: vec!["a".to_owned()],
        clients: Vec::new(),
        algorithms: Vec::new(),
        typ: None,
        subject_claim: claim.to_owned(),
    };
    let issuers = |issuers: &[TrustedIssuer]| {
        rules(vec![authorizer(json!({}), json!({}))], issuers).profiles[0].issuers.clone()
    };
    let both = ["https://idp.example", "https://idp.example/"];
    assert_eq!(issuers(&[]), both);
    assert_eq!(issuers(&[record("https://idp.example", "sub")]), both);
    assert_eq!(issuers(&[record("https://other.example", "oid")]), both);
    assert!(issuers(&[record("https://idp.example", "oid")]).is_empty());
    assert!(issuers(&[record("https://idp.example/", "oid")]).is_empty());
}

#[test]
fn authorizers_stand_by_name_and_a_name_stands_once() {
    let named = |name: &str, version| Authorizer {
        name: AuthorizerName::parse(name).unwrap(),
        version,
        ..authorizer(json!({}), json!({}))
    };
    let mut all = AgentAuthorizers { workload: Id::from_bytes([1; 16]), epoch: 1, authorizers: Vec::new() };
    for (name, version) in [("b", 1), ("a", 1), ("c", 1), ("b", 2)] {
        all.put(named(name, version));
    }
    let stand: Vec<_> = all.authorizers.iter().map(|it| (it.name.as_str(), it.version)).collect();
    assert_eq!(stand, [("a", 1), ("b", 2), ("c", 1)]);
    assert_eq!(all.get(&AuthorizerName::parse("b").unwrap()).unwrap().version, 2);
}

fn custom(kind: &str, operator: &str, value: serde_json::Value) -> serde_json::Value {
    let member = if value.is_array() { "matchValueStringList" } else { "matchValueString" };
    json!({
        "inboundTokenClaimName": "group", "inboundTokenClaimValueType": kind,
        "authorizingClaimMatchValue": {"claimMatchValue": {member: value}, "claimMatchOperator": operator},
    })
}

/// Whether a token whose claim has this value keeps the rule.
fn holds(rule: &serde_json::Value, value: Option<ClaimValue>) -> bool {
    let custom = value.map(|value| ("group".to_owned(), value)).into_iter().collect();
    match check(json!({ "customClaims": [rule] }), &VerifiedClaims { custom, ..claims() }) {
        Ok(()) => true,
        Err(denial) => {
            assert_eq!(denial, Denial::Claim);
            false
        }
    }
}

fn text(text: &str) -> Option<ClaimValue> {
    Some(ClaimValue::Text(text.to_owned()))
}

fn texts(list: &[&str]) -> Option<ClaimValue> {
    Some(ClaimValue::Texts(list.iter().map(|it| (*it).to_owned()).collect()))
}

#[test]
fn a_text_equals_its_value_or_has_it_as_a_word_and_never_as_a_part_of_one() {
    let equals = custom("STRING", "EQUALS", json!("admin"));
    let contains = custom("STRING", "CONTAINS", json!("admin"));
    for (value, is_equal, is_contained) in [
        ("admin", true, true),
        ("staff admin", false, true),
        ("admin staff", false, true),
        ("nonadmin", false, false),
        ("admins", false, false),
        ("Admin", false, false),
        ("admin,staff", false, false),
        ("staff\tadmin", false, false),
        ("", false, false),
    ] {
        assert_eq!(holds(&equals, text(value)), is_equal, "{value:?}");
        assert_eq!(holds(&contains, text(value)), is_contained, "{value:?}");
    }
}

#[test]
fn a_list_has_the_value_or_one_of_the_values() {
    let contains = custom("STRING_ARRAY", "CONTAINS", json!("b"));
    let any = custom("STRING_ARRAY", "CONTAINS_ANY", json!(["b", "c"]));
    assert!(holds(&contains, texts(&["a", "b"])) && holds(&any, texts(&["a", "b"])));
    assert!(!holds(&contains, texts(&["a", "c"])) && holds(&any, texts(&["a", "c"])));
    for other in [texts(&["a"]), texts(&[]), texts(&["a b"])] {
        assert!(!holds(&contains, other.clone()) && !holds(&any, other));
    }
}

#[test]
fn a_claim_that_is_absent_or_of_another_form_does_not_hold() {
    let of_text = [custom("STRING", "EQUALS", json!("a")), custom("STRING", "CONTAINS", json!("a"))];
    let of_list = [
        custom("STRING_ARRAY", "CONTAINS", json!("a")),
        custom("STRING_ARRAY", "CONTAINS_ANY", json!(["a"])),
    ];
    for rule in of_text.iter().chain(&of_list) {
        assert!(!holds(rule, None) && !holds(rule, Some(ClaimValue::Other)), "{rule}");
    }
    assert!(of_text.iter().all(|rule| holds(rule, text("a")) && !holds(rule, texts(&["a"]))));
    assert!(of_list.iter().all(|rule| holds(rule, texts(&["a"])) && !holds(rule, text("a"))));
}

#[test]
fn all_custom_claims_must_hold_beside_everything_else() {
    let rule = |value: &str| custom("STRING", "EQUALS", json!(value));
    let found = VerifiedClaims { custom: vec![("group".to_owned(), text("a").unwrap())], ..claims() };
    assert_eq!(check(json!({"customClaims": [rule("a")], "allowedAudience": ["agents"]}), &found), Ok(()));
    assert_eq!(check(json!({"customClaims": [rule("a"), rule("b")]}), &found), Err(Denial::Claim));
    let other_audience = json!({"customClaims": [rule("a")], "allowedAudience": ["x"]});
    assert_eq!(check(other_audience, &found), Err(Denial::Audience));
    let named = authorizer(json!({"customClaims": [rule("a"), rule("b")]}), json!({}));
    assert_eq!(named.profile().claims, ["group", "group"]);
}

#[test]
fn what_only_some_workloads_may_call_no_users_token_passes() {
    let rules = json!({"allowedAudience": ["agents"], "allowedWorkloadConfiguration": {"workloadIdentities": ["agent"]}});
    assert_eq!(check(rules, &claims()), Err(Denial::Workload));
    let alone = json!({"allowedWorkloadConfiguration": {"workloadIdentities": ["agent"]}});
    assert_eq!(check(alone, &claims()), Err(Denial::NoRule));
}

proptest! {
    /// Whatever AWS may mean by CONTAINS on a text, a part of it is the least: nothing passes here that would not there.
    #[test]
    fn contains_on_a_text_never_lets_more_pass_than_a_part_of_it_would(value in "[ab]{1,2}", found in "[ab ]{0,6}") {
        if holds(&custom("STRING", "CONTAINS", json!(value)), text(&found)) {
            prop_assert!(found.contains(&value));
        }
        if holds(&custom("STRING", "EQUALS", json!(value)), text(&found)) {
            prop_assert_eq!(&found, &value);
            prop_assert!(holds(&custom("STRING", "CONTAINS", json!(value)), text(&found)));
        }
    }

    /// The rules that are shown one by one are those that decide.
    #[test]
    fn a_token_passes_if_every_rule_that_is_shown_holds(audience in "[ab]", client in "[ab]", scope in "[ab]", group in "[ab]") {
        let rules = authorizer(json!({
            "allowedAudience": ["a"], "allowedClients": ["a"], "allowedScopes": ["a"],
            "customClaims": [custom("STRING", "EQUALS", json!("a"))],
        }), json!({}));
        let claims = VerifiedClaims {
            audiences: vec![audience], client_id: Some(client), scopes: vec![scope],
            custom: vec![("group".to_owned(), ClaimValue::Text(group))], ..claims()
        };
        let broken: Vec<_> = rules.rules().filter(|rule| !rules.holds(*rule, &claims)).collect();
        prop_assert_eq!(rules.check(&claims).err(), broken.first().map(|rule| rule.denial()));
        prop_assert_eq!(rules.rules().count(), 4);
    }
}

proptest! {
    /// Whoever passes has an allowed audience, an allowed client and all scopes, where each was asked for.
    #[test]
    fn nothing_passes_that_breaks_a_rule(
        audience in proptest::collection::vec("[ab]", 0..3), clients in proptest::collection::vec("[ab]", 0..3),
        scopes in proptest::collection::vec("[ab]", 0..3), has_audience in proptest::collection::vec("[abc]", 0..3),
        client in proptest::option::of("[abc]"), has_scopes in proptest::collection::vec("[abc]", 0..3),
    ) {
        let configuration =
            json!({"allowedAudience": audience, "allowedClients": clients, "allowedScopes": scopes});
        let claims = VerifiedClaims {
            audiences: has_audience.clone(), client_id: client.clone(), scopes: has_scopes.clone(), ..claims()
        };
        let audience_holds = audience.is_empty() || has_audience.iter().any(|it| audience.contains(it));
        let client_holds = clients.is_empty() || client.is_some_and(|it| clients.contains(&it));
        let scopes_hold = scopes.iter().all(|it| has_scopes.contains(it));
        let has_rule = !(audience.is_empty() && clients.is_empty() && scopes.is_empty());
        prop_assert_eq!(
            check(configuration, &claims).is_ok(),
            has_rule && audience_holds && client_holds && scopes_hold
        );
    }

    #[test]
    fn a_discovery_url_round_trips_and_its_issuers_are_plain(text in "https?://[a-z@#?/ \\\\]{0,12}(/.well-known/(openid-configuration|oauth-authorization-server)(/[a-z]{0,3})?)?") {
        if let Ok(url) = DiscoveryUrl::parse(&text) {
            prop_assert_eq!(url.as_str(), &text);
            prop_assert!(url.issuers().iter().all(|issuer| !issuer.contains(['@', '#', '?', ' ', '\\'])));
        }
    }
}
