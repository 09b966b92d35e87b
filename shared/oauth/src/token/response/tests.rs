use proptest::prelude::*;
use serde_json::json;

use super::*;

fn response(status: u16, body: impl AsRef<[u8]>) -> HttpResponse {
    HttpResponse { status, headers: Vec::new(), body: body.as_ref().to_vec() }
}

fn read(vendor: Vendor, body: &Value) -> Result<Tokens, TokenFailure> {
    parse_token_response(vendor, &response(200, body.to_string()))
}

fn with(member: &str, value: Value) -> Result<Tokens, TokenFailure> {
    let mut body = json!({"access_token": "at", "token_type": "Bearer"});
    body[member] = value;
    read(Vendor::Custom, &body)
}

fn scopes(text: &str) -> Option<BTreeSet<Scope>> {
    Some(text.split_whitespace().map(|scope| Scope::parse(scope).unwrap()).collect())
}

fn refused(code: RefusalCode, status: u16) -> Result<Tokens, TokenFailure> {
    Err(TokenFailure::Refused { code, status })
}

#[test]
fn the_example_of_rfc_6749_is_read() {
    let body = json!({
        "access_token": "2YotnFZFEjr1zCsicMWpAA",
        "token_type": "Bearer",
        "expires_in": 3600,
        "refresh_token": "tGzv3JOkF0XG5Qx2TlKWIA",
        "scope": "read write",
        "example_parameter": "example_value"
    });
    let expected = Tokens {
        access_token: Secret::new("2YotnFZFEjr1zCsicMWpAA"),
        refresh_token: Some(Secret::new("tGzv3JOkF0XG5Qx2TlKWIA")),
        expires_in: Some(Duration::from_secs(3600)),
        scope: scopes("read write"),
        id_token: None,
    };
    assert_eq!(read(Vendor::Custom, &body), Ok(expected));
}

#[test]
fn d13_a_missing_scope_is_not_an_empty_one() {
    assert_eq!(with("x", json!(1)).unwrap().scope, None);
    for value in [json!(null), json!(""), json!(" "), json!([]), json!([""]), json!(7)] {
        assert_eq!(with("scope", value.clone()).unwrap().scope, None, "{value}");
    }
}

#[test]
fn scopes_are_read_as_each_provider_writes_them() {
    let scope =
        |vendor, value: Value| read(vendor, &json!({"access_token": "at", "scope": value})).unwrap().scope;
    assert_eq!(scope(Vendor::Github, json!("repo,gist")), scopes("repo gist"));
    assert_eq!(scope(Vendor::Linkedin, json!("email, openid")), scopes("email openid"));
    assert_eq!(scope(Vendor::Twitch, json!(["a:b", "c:d"])), scopes("a:b c:d"));
    assert_eq!(scope(Vendor::Custom, json!("a,b c")), scopes("a,b c"));
    assert_eq!(scope(Vendor::Custom, json!(["a b", "c", 7])), scopes("a b c"));
}

#[test]
fn githubs_form_is_read() {
    let body = "access_token=gho_1&scope=repo%2Cgist&token_type=bearer\n";
    let tokens = parse_token_response(Vendor::Github, &response(200, body)).unwrap();
    assert_eq!((tokens.access_token, tokens.scope), (Secret::new("gho_1"), scopes("gist repo")));
    let body = "error=bad_verification_code&error_description=x";
    assert_eq!(
        parse_token_response(Vendor::Github, &response(200, body)),
        refused(RefusalCode::InvalidGrant, 200)
    );
}

#[test]
fn slacks_user_token_is_found_where_it_is_nested() {
    let body = json!({
        "ok": true,
        "app_id": "A1",
        "authed_user": {
            "id": "U1", "scope": "channels:read,chat:write", "access_token": "xoxp-1", "token_type": "user",
            "refresh_token": "xoxe-1", "expires_in": 43200
        },
        "access_token": "xoxb-bot", "token_type": "bot", "scope": "commands", "refresh_token": "xoxe-bot"
    });
    let tokens = read(Vendor::Slack, &body).unwrap();
    assert_eq!(tokens.access_token, Secret::new("xoxp-1"));
    assert_eq!(tokens.refresh_token, Some(Secret::new("xoxe-1")));
    assert_eq!(tokens.scope, scopes("channels:read chat:write"));
    assert_eq!(tokens.expires_in, Some(Duration::from_secs(43_200)));
}

#[test]
fn slacks_refreshed_token_is_found_at_the_top() {
    let body = json!({
        "ok": true, "access_token": "xoxe.xoxp-2", "token_type": "user", "refresh_token": "xoxe-2",
        "expires_in": 43200, "scope": "chat:write", "authed_user": {"id": "U1"}
    });
    assert_eq!(read(Vendor::Slack, &body).unwrap().access_token, Secret::new("xoxe.xoxp-2"));
}

#[test]
fn an_error_with_status_200_is_an_error() {
    let slack = |error: &str| read(Vendor::Slack, &json!({"ok": false, "error": error}));
    assert_eq!(slack("invalid_refresh_token"), refused(RefusalCode::InvalidGrant, 200));
    assert_eq!(slack("bad_client_secret"), refused(RefusalCode::InvalidClient, 200));
    assert_eq!(slack("unheard_of"), refused(RefusalCode::Other, 200));
    assert_eq!(slack("ratelimited"), Err(TokenFailure::Throttled { retry_after: None }));
    assert!(matches!(slack("internal_error"), Err(TokenFailure::Unusable { .. })));
    assert_eq!(
        read(Vendor::Slack, &json!({"ok": false, "access_token": "x"})),
        refused(RefusalCode::Other, 200)
    );
    let github = json!({"error": "bad_refresh_token", "access_token": "x"});
    assert_eq!(read(Vendor::Github, &github), refused(RefusalCode::InvalidGrant, 200));
}

#[test]
fn d8_a_vendors_own_codes_mean_what_the_rfc_would_say() {
    use RefusalCode::{InvalidClient, InvalidGrant};
    let says = |vendor, error: &str| read(vendor, &json!({"ok": false, "error": error}));
    for (vendor, error, code) in [
        (Vendor::Github, "bad_refresh_token", InvalidGrant),
        (Vendor::Github, "bad_verification_code", InvalidGrant),
        (Vendor::Github, "incorrect_client_credentials", InvalidClient),
        (Vendor::Slack, "code_already_used", InvalidGrant),
        (Vendor::Slack, "invalid_code", InvalidGrant),
        (Vendor::Slack, "invalid_refresh_token", InvalidGrant),
        (Vendor::Slack, "bad_client_secret", InvalidClient),
        (Vendor::Slack, "invalid_client_id", InvalidClient),
    ] {
        assert_eq!(says(vendor, error), refused(code, 200), "{error}");
    }
    for error in ["fatal_error", "internal_error", "request_timeout", "service_unavailable"] {
        assert!(matches!(says(Vendor::Slack, error), Err(TokenFailure::Unusable { .. })), "{error}");
    }
}

#[test]
fn d8_each_refusal_keeps_its_code() {
    for code in RefusalCode::ALL {
        let body = json!({"error": code.as_str(), "error_description": "hunter2"}).to_string();
        let parsed = parse_token_response(Vendor::Custom, &response(400, body));
        assert_eq!(parsed, refused(code, 400));
    }
    for body in ["", "<html>hunter2", "[]", "{\"error\": {\"code\": 190}}", "{\"error\": \"hunter2\"}"] {
        assert_eq!(
            parse_token_response(Vendor::Facebook, &response(401, body)),
            refused(RefusalCode::Other, 401)
        );
    }
    // A vendor's own codes are nobody else's.
    let body = json!({"error": "bad_refresh_token"}).to_string();
    assert_eq!(parse_token_response(Vendor::Custom, &response(400, body)), refused(RefusalCode::Other, 400));
}

#[test]
fn d5_an_answer_that_says_nothing_leaves_the_outcome_unknown() {
    let grant = json!({"error": "invalid_grant"}).to_string();
    for (status, body) in [
        (500, grant.as_str()),
        (502, "<html>"),
        (503, ""),
        (408, grant.as_str()),
        (302, ""),
        (100, ""),
        (200, ""),
        (200, "<html>access_token=x"),
        (200, "{\"access_token\": \"tr"),
        (200, "[]"),
        (200, "{}"),
        (200, "{\"access_token\": null}"),
        (200, "{\"access_token\": \"\"}"),
        (200, "{\"access_token\": 7}"),
        (204, ""),
        (400, "{\"error\": \"server_error\"}"),
    ] {
        let parsed = parse_token_response(Vendor::Custom, &response(status, body));
        assert!(matches!(parsed, Err(TokenFailure::Unusable { .. })), "{status} {body} {parsed:?}");
    }
}

#[test]
fn a_provider_that_asks_to_wait_is_waited_for() {
    let wait = |value: &str| {
        let headers = vec![("retry-after".to_owned(), value.to_owned())];
        parse_token_response(Vendor::Custom, &HttpResponse { status: 429, headers, body: Vec::new() })
    };
    let throttled =
        |seconds: Option<u64>| Err(TokenFailure::Throttled { retry_after: seconds.map(Duration::from_secs) });
    assert_eq!(wait("7"), throttled(Some(7)));
    assert_eq!(wait("99999999999"), throttled(Some(86_400)));
    for text in ["-1", "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "99999999999999999999999"] {
        assert_eq!(wait(text), throttled(None), "{text}");
    }
    let busy = response(400, json!({"error": "temporarily_unavailable"}).to_string());
    assert_eq!(parse_token_response(Vendor::Microsoft, &busy), throttled(None));
}

#[test]
fn a_life_is_read_from_numbers_and_texts_and_kept_within_limits() {
    let life = |value: Value| with("expires_in", value).unwrap().expires_in;
    for value in [json!(3600), json!(3600.9), json!("3600"), json!(" 3600 "), json!("3600.5"), json!("3.6e3")]
    {
        assert_eq!(life(value.clone()), Some(Duration::from_secs(3600)), "{value}");
    }
    for value in [json!(0), json!(-1), json!("-3600"), json!(-1e300)] {
        assert_eq!(life(value.clone()), Some(Duration::ZERO), "{value}");
    }
    for value in [json!(u64::MAX), json!(1e300), json!("99999999999999999999"), json!("inf")] {
        assert_eq!(life(value.clone()), Some(MAX_LIFE), "{value}");
    }
    for value in [json!(null), json!(""), json!("soon"), json!("NaN"), json!([3600]), json!({}), json!(true)]
    {
        assert_eq!(life(value.clone()), None, "{value}");
    }
}

#[test]
fn a_token_that_is_not_a_bearer_token_is_refused() {
    for value in [json!("DPoP"), json!("mac"), json!(""), json!(7), json!("user"), json!("bot")] {
        assert!(matches!(with("token_type", value.clone()), Err(TokenFailure::Unusable { .. })), "{value}");
    }
    for value in [json!("bearer"), json!("BEARER"), json!(null)] {
        assert!(with("token_type", value.clone()).is_ok(), "{value}");
    }
}

#[test]
fn tokens_that_cannot_be_kept_or_sent_are_refused() {
    let access = |text: String| with("access_token", json!(text));
    assert!(access("a".repeat(MAX_ACCESS_TOKEN)).is_ok());
    for text in ["a".repeat(MAX_ACCESS_TOKEN + 1), "a\r\nx: y".to_owned(), "ä".to_owned(), "\0".to_owned()] {
        assert!(matches!(access(text), Err(TokenFailure::Unusable { .. })));
    }
    let refresh = |text: String| with("refresh_token", json!(text));
    assert!(refresh("a".repeat(MAX_REFRESH_TOKEN)).is_ok());
    assert!(refresh("a".repeat(MAX_REFRESH_TOKEN + 1)).is_err());
    assert_eq!(refresh(String::new()).unwrap().refresh_token, None);
}

#[test]
fn a_bad_id_token_costs_no_grant() {
    assert_eq!(with("id_token", json!("a.b.c")).unwrap().id_token, Some(Secret::new("a.b.c")));
    for value in [json!("a".repeat(MAX_REFRESH_TOKEN + 1)), json!(7), json!("ä")] {
        assert_eq!(with("id_token", value).unwrap().id_token, None);
    }
}

#[test]
fn an_account_is_what_an_id_token_for_this_client_says() {
    use agent_identity_core::encoding::base64url;
    let account = |claims: &Value| {
        let token = format!("e30.{}.sig", base64url(claims.to_string()));
        with("id_token", json!(token)).unwrap().account("client")
    };
    let good = json!({"iss": "https://idp.example", "sub": "ada", "aud": "client"});
    let known = Account { issuer: "https://idp.example".to_owned(), subject: "ada".to_owned() };
    assert_eq!(account(&good), Some(known.clone()));
    let changed = |member: &str, value: Value| {
        let mut claims = good.clone();
        claims[member] = value;
        account(&claims)
    };
    assert_eq!(changed("aud", json!(["other", "client"])), Some(known));
    let long = json!("a".repeat(MAX_ACCOUNT + 1));
    for (member, value) in [
        ("aud", json!("clients")),
        ("aud", json!(["other"])),
        ("aud", json!(null)),
        ("sub", json!("")),
        ("sub", json!(7)),
        ("sub", long.clone()),
        ("iss", json!("")),
        ("iss", long),
    ] {
        assert_eq!(changed(member, value.clone()), None, "{member} {value}");
    }
    for token in ["a.b.c", "e30", "..", "e30.!.s"] {
        assert_eq!(with("id_token", json!(token)).unwrap().account("client"), None, "{token}");
    }
}

#[test]
fn a_failure_repeats_nothing_of_the_body() {
    for body in [
        json!({"error": "hunter2", "error_description": "hunter2"}),
        json!({"access_token": "hunter2\n"}),
        json!({"access_token": "hunter2", "token_type": "hunter2"}),
        json!("hunter2"),
    ] {
        for status in [200, 400, 500] {
            let failure =
                parse_token_response(Vendor::Custom, &response(status, body.to_string())).unwrap_err();
            assert!(!format!("{failure:?}").contains("hunter2"), "{failure:?}");
        }
    }
}

/// Any JSON that a broken or hostile server may put into a member.
fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "\\PC{0,20}".prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
        "[0-9.e-]{0,8}".prop_map(Value::from),
        Just(Value::from("bearer")),
        proptest::collection::vec("[a-z, ]{0,9}", 0..4).prop_map(Value::from),
        "[a-z]{1,9}".prop_map(|text| json!({"access_token": text, "token_type": "user"})),
    ]
}

fn within_limits(tokens: &Tokens) -> bool {
    let fits = |secret: &Secret, longest| {
        (1..=longest).contains(&secret.expose().len())
            && secret.expose().bytes().all(|b| (0x20..=0x7e).contains(&b))
    };
    fits(&tokens.access_token, MAX_ACCESS_TOKEN)
        && tokens.refresh_token.as_ref().is_none_or(|token| fits(token, MAX_REFRESH_TOKEN))
        && tokens.id_token.as_ref().is_none_or(|token| fits(token, MAX_REFRESH_TOKEN))
        && tokens.expires_in.is_none_or(|life| life <= MAX_LIFE)
        && tokens.scope.as_ref().is_none_or(|scope| (1..=MAX_SCOPES).contains(&scope.len()))
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(
        vendor in proptest::sample::select(Vendor::ALL),
        status: u16,
        body: Vec<u8>,
        retry_after in "\\PC{0,20}",
    ) {
        let headers = vec![("retry-after".to_owned(), retry_after)];
        let parsed = parse_token_response(vendor, &HttpResponse { status, headers, body });
        prop_assert!(parsed.is_err() || (200..300).contains(&status));
    }

    #[test]
    fn what_parses_is_within_limits(
        vendor in proptest::sample::select(Vendor::ALL),
        members in proptest::collection::btree_map(
            proptest::sample::select(vec![
                "access_token", "refresh_token", "expires_in", "scope", "token_type", "id_token", "error", "ok", "authed_user",
            ]),
            any_value(),
            0..9,
        ),
    ) {
        if let Ok(tokens) = read(vendor, &json!(members)) {
            prop_assert!(within_limits(&tokens), "{tokens:?}");
        }
    }

    #[test]
    fn forms_are_read_within_the_same_limits(body in "(access_token|refresh_token|expires_in|scope|error)=[ -~]{0,30}(&(access_token|expires_in|scope)=[ -~]{0,30}){0,3}") {
        if let Ok(tokens) = parse_token_response(Vendor::Github, &response(200, body)) {
            prop_assert!(within_limits(&tokens), "{tokens:?}");
        }
    }
}
