//! What issuers say, and what is made of it.

use agent_identity_core::issuer::ClaimValue;
use serde_json::json;

use super::*;

#[tokio::test]
async fn an_answer_is_read_as_the_claims_of_a_jwt_are() {
    let claim = json!({
        "inboundTokenClaimName": "groups", "inboundTokenClaimValueType": "STRING_ARRAY",
        "authorizingClaimMatchValue": {
            "claimMatchValue": {"matchValueString": "staff"}, "claimMatchOperator": "CONTAINS"},
    });
    let world = World::with(json!({"customClaims": [claim]}), json!({})).await;
    let now = world.clock.now().as_seconds();
    let changes = json!({
        "aud": ["a", "b"], "azp": "other", "auth_time": now - 60, "groups": ["staff"], "scp": ["more"], "nbf": now,
        "username": "x", "jti": "y",
    });
    world.endpoint.says(TOKEN, 200, world.active(&changes).to_string());
    let claims = world.ask(TOKEN).await.unwrap();
    assert_eq!((claims.token.issuer.as_str(), claims.token.subject.as_str()), (ISSUER, "ada"));
    assert_eq!(claims.token.subject_claim, "sub");
    assert_eq!(claims.token.expires_at.as_seconds(), now + 600);
    assert_eq!(claims.token.issued_at.map(Timestamp::as_seconds), Some(now));
    assert_eq!(claims.token.auth_time.map(Timestamp::as_seconds), Some(now - 60));
    assert_eq!(
        (claims.audiences, claims.client_id),
        (vec!["a".to_owned(), "b".to_owned()], Some("front-end".to_owned()))
    );
    assert_eq!(claims.authorized_party.as_deref(), Some("other"));
    assert_eq!(claims.scopes, ["chat.write", "profile", "more"]);
    assert_eq!(claims.custom, [("groups".to_owned(), ClaimValue::Texts(vec!["staff".to_owned()]))]);
}

#[tokio::test]
async fn only_true_is_active() {
    let world = World::new().await;
    assert_eq!(world.said(200, r#"{"active":false}"#).await, Err("inactive"));
    assert_eq!(world.said_with(json!({"active": false})).await, Err("inactive"));
    for odd in [json!("true"), json!(1), json!([true]), json!("false"), json!({})] {
        assert_eq!(world.said_with(json!({"active": odd})).await, Err("unavailable"), "{odd}");
    }
    assert_eq!(world.said_with(json!({"active": null})).await, Err("unavailable"));
}

#[tokio::test]
async fn what_is_no_answer_refuses_nobody() {
    let world = World::new().await;
    let good = world.active(&json!({})).to_string();
    for status in [201, 204, 302, 400, 401, 403, 404, 429, 500, 503] {
        assert_eq!(world.said(status, good.clone()).await, Err("unavailable"), "{status}");
    }
    let twice = good.replacen('{', r#"{"sub":"eve","#, 1);
    let active_twice = good.replacen('{', r#"{"active":true,"#, 1);
    let escaped = good.replacen('{', r#"{"\u0061ctive":false,"#, 1);
    for body in [
        "",
        "null",
        "[]",
        "true",
        "<html>",
        "{",
        r#""active""#,
        &format!("[{good}]"),
        &format!("{good}{good}"),
        &format!("{good},"),
        &twice,
        &active_twice,
        &escaped,
        // A signed answer (RFC 9701), which nobody asked for.
        "eyJhbGciOiJFUzI1NiJ9.e30.AAAA",
    ] {
        assert_eq!(world.said(200, body).await, Err("unavailable"), "{body}");
    }
    assert_eq!(world.said(200, b"{\"active\":true,\"sub\":\"\xff\"}".to_vec()).await, Err("unavailable"));
    let large = json!({"padding": "x".repeat(64 * 1024)});
    assert_eq!(world.said_with(large).await, Err("unavailable"));
    assert_eq!(world.said(200, good).await, Ok("ada".to_owned()));
}

#[tokio::test]
async fn members_of_the_wrong_form_make_it_no_answer() {
    let world = World::new().await;
    for (name, odd) in [
        ("iss", json!(["https://idp.example"])),
        ("aud", json!(7)),
        ("aud", json!(["a", 7])),
        ("client_id", json!(["front-end"])),
        ("scope", json!({"a": true})),
        ("exp", json!("4102444800")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("iat", json!("now")),
        ("nbf", json!([0])),
        ("token_type", json!(["Bearer"])),
        ("token_use", json!(true)),
    ] {
        assert_eq!(world.said_with(json!({name: odd})).await, Err("unavailable"), "{name}: {odd}");
    }
}

#[tokio::test]
async fn it_must_be_of_the_issuer_and_say_who_and_until_when() {
    let world = World::new().await;
    let now = world.clock.now().as_seconds();
    for (changes, refusal) in [
        (json!({"iss": "https://idp.example.evil"}), "issuer"),
        (json!({"iss": ""}), "issuer"),
        (json!({"exp": null}), "claims"),
        (json!({"exp": now - 31}), "expired"),
        (json!({"nbf": now + 31}), "not_yet_valid"),
        (json!({"iat": now + 31}), "issued_in_future"),
        (json!({"sub": null}), "subject"),
        (json!({"sub": ""}), "subject"),
        (json!({"sub": 7}), "subject"),
        (json!({"sub": ["ada"]}), "subject"),
    ] {
        assert_eq!(world.said_with(changes.clone()).await, Err(refusal), "{changes}");
    }
    for changes in [
        json!({"iss": null}),
        json!({"iss": "https://idp.example/"}),
        json!({"exp": now - 29}),
        json!({"iat": null}),
    ] {
        assert_eq!(world.said_with(changes.clone()).await, Ok("ada".to_owned()), "{changes}");
    }
    let nameless = world.active(&json!({"iss": null})).to_string();
    world.endpoint.says("nameless", 200, nameless);
    assert_eq!(
        world.ask("nameless").await.unwrap().token.issuer,
        ISSUER,
        "who says nothing says it of itself"
    );
}

#[tokio::test]
async fn the_age_of_a_token_counts_from_its_iat() {
    let world =
        World::with(json!({"allowedClients": ["x"]}), json!({"maxTokenAgeSeconds": 60, "leewaySeconds": 0}))
            .await;
    let now = world.clock.now().as_seconds();
    assert_eq!(world.said_with(json!({"iat": now - 59})).await, Ok("ada".to_owned()));
    assert_eq!(world.said_with(json!({"iat": now - 60})).await, Err("too_old"));
    assert_eq!(world.said_with(json!({"iat": null})).await, Err("age_unknown"));
}

#[tokio::test]
async fn a_refresh_token_is_none_for_here_nor_is_one_that_is_bound_to_its_sender() {
    let world = World::new().await;
    for passes in [
        json!({"token_type": "bearer"}),
        json!({"token_type": "access_token"}),
        json!({"token_type": null, "token_use": "access_token"}),
        json!({"token_type": null, "typ": "Bearer"}),
        json!({"token_use": "access", "typ": "at+jwt"}),
    ] {
        assert_eq!(world.said_with(passes.clone()).await, Ok("ada".to_owned()), "{passes}");
    }
    for refused in [
        // What `oidc-provider` says of a refresh token.
        json!({"token_type": null}),
        json!({"token_type": "refresh_token"}),
        json!({"token_type": "DPoP"}),
        json!({"token_type": "N_A"}),
        json!({"token_type": ""}),
        json!({"token_type": null, "token_use": "refresh_token"}),
        json!({"token_use": "refresh_token"}),
        json!({"token_use": "id"}),
        // And Keycloak.
        json!({"typ": "Refresh"}),
    ] {
        assert_eq!(world.said_with(refused.clone()).await, Err("token_type"), "{refused}");
    }
    for bound in [json!({"x5t#S256": "x"}), json!({}), json!("x")] {
        assert_eq!(world.said_with(json!({"cnf": bound})).await, Err("bound"), "{bound}");
    }
}
