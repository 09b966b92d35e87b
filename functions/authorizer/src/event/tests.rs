use serde_json::{Value, json};

use super::*;
use crate::settings::Settings;

const API: &str = "arn:aws:execute-api:us-east-1:123456789012:api";

fn settings(variables: &[(&str, &str)]) -> Settings {
    let get = |name: &str| {
        let name = name.strip_prefix("AGENT_IDENTITY_").unwrap();
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    };
    Settings::from_environment(get).unwrap()
}

fn nothing() -> Settings {
    Settings::default()
}

fn of_support() -> Settings {
    settings(&[("AGENT", "support")])
}

fn arn(route: &str) -> String {
    format!("{API}/prod/{route}")
}

fn with(mut event: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().unwrap() {
        event[name] = value.clone();
    }
    event
}

fn token_event() -> Value {
    json!({"type": "TOKEN", "methodArn": arn("GET/orders/1"), "authorizationToken": "Bearer a.b.c"})
}

fn rest(changes: &Value) -> Value {
    let event = json!({
        "type": "REQUEST", "methodArn": arn("GET/agents/support/orders"),
        "headers": {"Authorization": "Bearer a.b.c"}, "multiValueHeaders": {"Authorization": ["Bearer a.b.c"]},
        "pathParameters": null, "stageVariables": null, "queryStringParameters": null,
        "multiValueQueryStringParameters": null,
    });
    with(event, changes)
}

fn websocket(changes: &Value) -> Value {
    with(rest(&json!({"methodArn": arn("$connect")})), changes)
}

fn http_2(changes: &Value) -> Value {
    let event = json!({
        "version": "2.0", "type": "REQUEST", "routeArn": arn("GET/orders/1"),
        "headers": {"authorization": "Bearer a.b.c", "x-agent-id": "support"},
        "identitySource": ["Bearer a.b.c", "support"],
    });
    with(event, changes)
}

fn asked(event: Value, settings: &Settings) -> Result<Asked, &'static str> {
    Request::parse(event, settings).unwrap().asked
}

fn agent(event: Value, settings: &Settings) -> Result<String, &'static str> {
    asked(event, settings).map(|asked| asked.agent)
}

fn token(event: Value, settings: &Settings) -> Result<String, &'static str> {
    asked(event, settings).map(|asked| asked.token)
}

fn resource(event: Value, settings: &Settings) -> String {
    match Request::parse(event, settings).unwrap().form {
        Form::Policy { resource, .. } => resource,
        Form::Simple => "simple".to_owned(),
    }
}

#[test]
fn d14_a_token_event_takes_its_agent_from_the_configuration_only() {
    assert_eq!(asked(token_event(), &nothing()), Err("no_agent"));
    let wanted = Asked { token: "Bearer a.b.c".to_owned(), agent: "support".to_owned() };
    assert_eq!(asked(token_event(), &of_support()), Ok(wanted));
    assert_eq!(resource(token_event(), &of_support()), arn("*"));
}

#[test]
fn d14_a_policy_for_an_agent_that_the_request_names_is_for_that_route_alone() {
    for event in [rest(&json!({})), rest(&json!({"version": "1.0"}))] {
        let event = with(event, &json!({"pathParameters": {"agentId": "support"}}));
        assert_eq!(agent(event.clone(), &nothing()), Ok("support".to_owned()));
        assert_eq!(resource(event, &nothing()), arn("GET/agents/support/orders"));
    }
}

#[test]
fn d14_configured_routes_are_the_agents_own() {
    let routes = settings(&[("ROUTES", "*/agents/{agentId}/*")]);
    let event = rest(&json!({"pathParameters": {"agentId": "support"}}));
    assert_eq!(resource(event.clone(), &routes), arn("*/agents/support/*"));
    let routes = settings(&[("ROUTES", "GET/orders/*"), ("AGENT", "support")]);
    assert_eq!(resource(event, &routes), arn("GET/orders/*"));
    assert_eq!(resource(token_event(), &routes), arn("GET/orders/*"));
}

#[test]
fn d14_the_caller_cannot_write_a_pattern_into_a_policy() {
    let routes = settings(&[("ROUTES", "*/agents/{agentId}/*")]);
    let by_header = settings(&[("IDENTITY_SOURCES", "method.request.header.x-agent-id")]);
    let named = json!({"headers": {"x-agent-id": "*"}});
    assert_eq!(resource(rest(&named), &by_header), arn("GET/agents/support/orders"));
    for name in ["*", "s*", "supp?rt"] {
        let event = rest(&json!({"pathParameters": {"agentId": name}}));
        assert_eq!(resource(event, &routes), arn("GET/agents/support/orders"), "{name}");
    }
    for route in ["GET/agents/support/*", "GET/agents/support/o?ders", "*/agents/support/orders"] {
        let event = rest(&json!({"pathParameters": {"agentId": "support"}, "methodArn": arn(route)}));
        assert_eq!(Request::parse(event, &nothing()), Err("wildcard_in_path"), "{route}");
    }
}

#[test]
fn d14_a_header_names_the_agent_only_as_an_identity_source() {
    assert_eq!(agent(http_2(&json!({})), &nothing()), Ok("support".to_owned()));
    let without = json!({"identitySource": ["Bearer a.b.c"]});
    assert_eq!(agent(http_2(&without), &nothing()), Err("no_agent"));
    let of_1_0 =
        json!({"version": "1.0", "methodArn": arn("GET/x"), "identitySource": "Bearer a.b.c,support"});
    assert_eq!(agent(http_2(&of_1_0), &nothing()), Ok("support".to_owned()));
}

#[test]
fn d14_what_an_event_does_not_say_of_identity_sources_the_configuration_says() {
    let headers = json!({"headers": {"Authorization": "Bearer a.b.c", "X-Agent-Id": "support"}});
    let is_source = "method.request.header.Authorization,method.request.header.X-Agent-Id";
    for event in [rest(&headers), websocket(&headers)] {
        assert_eq!(agent(event.clone(), &nothing()), Err("no_agent"));
        assert_eq!(
            agent(event.clone(), &settings(&[("IDENTITY_SOURCES", is_source)])),
            Ok("support".to_owned())
        );
        let is_none = settings(&[("IDENTITY_SOURCES", "method.request.header.Authorization")]);
        assert_eq!(agent(event, &is_none), Err("no_agent"));
    }
    let other_header =
        settings(&[("IDENTITY_SOURCES", "$request.header.Authorization,$request.header.x-tenant")]);
    assert_eq!(
        agent(http_2(&json!({})), &other_header),
        Err("no_agent"),
        "names count, and not equal values"
    );
}

#[test]
fn two_agents_that_disagree_are_none() {
    assert_eq!(agent(http_2(&json!({})), &settings(&[("AGENT", "other")])), Err("agents_disagree"));
    assert_eq!(
        agent(http_2(&json!({"pathParameters": {"agentId": "third"}})), &nothing()),
        Err("agents_disagree")
    );
    assert_eq!(
        agent(http_2(&json!({"stageVariables": {"agentId": "third"}})), &nothing()),
        Err("agents_disagree")
    );
    assert_eq!(agent(http_2(&json!({})), &of_support()), Ok("support".to_owned()));
}

#[test]
fn every_kind_has_its_form() {
    let policy = |event, settings: &Settings| match Request::parse(event, settings).unwrap().form {
        Form::Policy { fails_as_401, .. } => Some(fails_as_401),
        Form::Simple => None,
    };
    assert_eq!(policy(token_event(), &of_support()), Some(true));
    assert_eq!(policy(rest(&json!({})), &of_support()), Some(true));
    assert_eq!(policy(websocket(&json!({})), &of_support()), Some(true));
    assert_eq!(policy(rest(&json!({"version": "1.0"})), &of_support()), Some(true));
    assert_eq!(policy(http_2(&json!({})), &of_support()), None);
    let with_policy = settings(&[("AGENT", "support"), ("RESPONSE", "policy")]);
    assert_eq!(policy(http_2(&json!({})), &with_policy), Some(false));
    assert_eq!(resource(http_2(&json!({})), &with_policy), arn("*"));
    assert_eq!(resource(http_2(&json!({})), &settings(&[("RESPONSE", "policy")])), arn("*"));
}

#[test]
fn a_token_in_both_header_and_query_is_none() {
    let sources = "route.request.header.Authorization,route.request.querystring.token";
    let with_parameter = settings(&[("AGENT", "support"), ("IDENTITY_SOURCES", sources)]);
    for (name, settings) in [("access_token", of_support()), ("token", with_parameter.clone())] {
        for member in ["queryStringParameters", "multiValueQueryStringParameters"] {
            let is_multi = member.starts_with("multi");
            let value = if is_multi { json!(["x.y.z"]) } else { json!("x.y.z") };
            let changes = json!({member: {name: value}});
            assert_eq!(token(websocket(&changes), &settings), Err("two_tokens"), "{name} {member}");
        }
    }
    let query = json!({"queryStringParameters": {"access_token": "x.y.z"}});
    for event in [rest(&query), http_2(&query), rest(&with(query.clone(), &json!({"version": "1.0"})))] {
        assert_eq!(token(event, &of_support()), Err("two_tokens"));
    }
    let elsewhere = json!({"queryStringParameters": {"token": "one of the API's own"}});
    assert_eq!(token(rest(&elsewhere), &with_parameter), Ok("Bearer a.b.c".to_owned()));
}

#[test]
fn a_token_in_the_query_counts_at_connect_alone_and_only_where_it_is_an_identity_source() {
    let sources = settings(&[("AGENT", "support"), ("IDENTITY_SOURCES", "route.request.querystring.token")]);
    let query = json!({"headers": {}, "multiValueHeaders": {}, "queryStringParameters": {"token": "x.y.z"}});
    assert_eq!(token(websocket(&query), &sources), Ok("Bearer x.y.z".to_owned()));
    assert_eq!(token(websocket(&query), &of_support()), Ok(String::new()));
    assert_eq!(token(rest(&query), &sources), Ok(String::new()));
    let twice = json!({"multiValueQueryStringParameters": {"token": ["x.y.z", "u.v.w"]}});
    assert_eq!(token(websocket(&with(query, &twice)), &sources), Err("two_tokens"));
}

#[test]
fn a_header_that_comes_twice_is_not_chosen_from() {
    for headers in [
        json!({"multiValueHeaders": {"Authorization": ["Bearer a.b.c", "Bearer d.e.f"]}}),
        json!({"headers": {"Authorization": "Bearer a.b.c", "authorization": "Bearer d.e.f"}}),
    ] {
        assert_eq!(token(rest(&headers), &of_support()), Err("repeated_header"), "{headers}");
    }
    let agents = json!({"headers": {"X-Agent-Id": "one", "x-agent-id": "two"}});
    assert_eq!(agent(rest(&agents), &nothing()), Err("repeated_header"));
}

#[test]
fn what_is_no_authorizer_event_is_refused() {
    for event in [
        json!(null),
        json!([]),
        json!({}),
        json!({"type": "TOKEN"}),
        json!({"type": "REQUEST", "headers": {"authorization": 1}}),
        json!({"version": "3.0", "type": "REQUEST"}),
        json!({"version": "2.0", "type": "TOKEN"}),
        json!({"type": "TOKEN", "methodArn": "nonsense", "authorizationToken": "x"}),
        json!({"type": "TOKEN", "methodArn": 7}),
        json!({"type": "REQUEST", "methodArn": "arn:aws:s3:::bucket/prod/GET/x"}),
    ] {
        assert!(Request::parse(event.clone(), &of_support()).is_err(), "{event}");
    }
}

proptest::proptest! {
    #[test]
    fn any_arn_is_read_without_a_panic(arn in "\\PC{0,60}", agent in "\\PC{0,20}") {
        if let Ok(resource) = resource::allowed(&arn, Some(&agent), false, &of_support()) {
            proptest::prop_assert!(resource.ends_with("/*") || resource == arn);
        }
        if let Ok(resource) = resource::allowed(&arn, Some(&agent), true, &nothing()) {
            proptest::prop_assert!(resource == arn);
        }
    }
}
