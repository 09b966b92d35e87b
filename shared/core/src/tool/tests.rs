use proptest::prelude::*;
use serde_json::json;

use super::request::credential_header;
use super::*;
use crate::http::Method;

fn parts(url: &str) -> RequestParts {
    RequestParts {
        method: Method::Get,
        url: url.to_owned(),
        query: Default::default(),
        headers: Default::default(),
        body: None,
    }
}

fn template(url: &str) -> Result<RequestTemplate, String> {
    RequestTemplate::parse(parts(url)).map_err(|wrong| wrong[0].message.clone())
}

fn with(change: impl FnOnce(&mut RequestParts)) -> Result<RequestTemplate, Vec<String>> {
    let mut parts = parts("https://api.example.com/v1/{id}");
    change(&mut parts);
    RequestTemplate::parse(parts).map_err(|wrong| wrong.into_iter().map(|it| it.name).collect())
}

fn input(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn url_of(template: &RequestTemplate, value: Value) -> Result<String, String> {
    template.render(&input(value)).map(|it| it.url).map_err(|error| error.field_list()[0].name.clone())
}

#[test]
fn a_request_is_what_it_says_with_the_values_in_it() {
    let template = with(|parts| {
        parts.method = Method::Post;
        parts.query = [("q", "{q}"), ("fixed", "a b"), ("tag", "{tags}"), ("none", "{none}")]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into();
        parts.headers = [("X-Trace".to_owned(), "t-{id}".to_owned())].into();
        parts.body = Some(json!({"n": "{n}", "text": "{q}!", "none": "{none}", "list": ["{tags}", 1, "{none}"], "{q}": "{{}}"}));
    })
    .unwrap();
    let rendered = template
        .render(&input(json!({"id": "é/7"})))
        .map_err(|error| error.message().to_owned())
        .unwrap_err();
    assert!(rendered.contains("input.id: must not contain a slash"));
    let rendered =
        template.render(&input(json!({"id": "é7", "q": "a&b=c#", "n": 3, "tags": ["x", "y"]}))).unwrap_err();
    assert!(rendered.message().contains("`x-trace`"), "{rendered}");
    let rendered =
        template.render(&input(json!({"id": 7, "q": "a&b=c#é", "n": 3, "tags": ["x", "y"]}))).unwrap();
    assert_eq!(rendered.url, "https://api.example.com/v1/7?fixed=a%20b&q=a%26b%3Dc%23%C3%A9&tag=x&tag=y");
    assert_eq!(
        rendered.headers,
        [("x-trace", "t-7"), ("content-type", "application/json")].map(|(n, v)| (n.to_owned(), v.to_owned()))
    );
    let body: Value = serde_json::from_str(rendered.body.as_deref().unwrap()).unwrap();
    assert_eq!(body, json!({"n": 3, "text": "a&b=c#é!", "list": [["x", "y"], 1], "{q}": "{}"}));
    let again = RequestTemplate::parse(template.parts()).unwrap();
    assert_eq!(again, template);
    let stored: RequestTemplate = serde_json::from_value(serde_json::to_value(&template).unwrap()).unwrap();
    assert_eq!(stored, template);
    assert_eq!(Vec::from_iter(template.parameters()), ["id", "n", "none", "q", "tags"]);
}

#[test]
fn a_form_has_fields_and_lists_repeat_them() {
    let form = |body: Value| {
        with(|parts| {
            parts.method = Method::Post;
            parts.headers =
                [("Content-Type".to_owned(), "application/x-www-form-urlencoded".to_owned())].into();
            parts.body = Some(body);
        })
    };
    let rendered = form(json!({"a": "{a}", "b": "{b}", "c": 1})).unwrap();
    let rendered = rendered.render(&input(json!({"id": 1, "a": "x&y=z", "b": [1, true]}))).unwrap();
    assert_eq!(rendered.body.as_deref(), Some("a=x%26y%3Dz&b=1&b=true&c=1"));
    assert_eq!(form(json!({"a": {"b": 1}})).unwrap_err(), ["body"]);
    assert_eq!(form(json!("{a}")).unwrap_err(), ["body"]);
}

#[test]
fn a_body_that_is_an_absent_parameter_is_no_body() {
    let template = with(|parts| {
        parts.method = Method::Post;
        parts.body = Some(json!("{body}"));
    })
    .unwrap();
    let rendered = template.render(&input(json!({"id": 1}))).unwrap();
    assert_eq!((rendered.body, rendered.headers), (None, Vec::new()));
    let rendered = template.render(&input(json!({"id": 1, "body": [1]}))).unwrap();
    assert_eq!(rendered.body.as_deref(), Some("[1]"));
}

#[test]
fn d3_host_and_scheme_are_literals() {
    for url in [
        "https://{host}/",
        "{scheme}://a.example/",
        "https://a.example{x}/",
        "https://a.example:{port}/",
        "https://user@a.example/",
        "https://a.example\\@b/",
        "http://a.example/",
        "ftp://a.example/",
        "//a.example/",
        "https:///path",
        "https://a.example:0/",
        "https://a.example:99999/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://127.1/",
        "https://a..example/",
        "https://[::1/",
        "https://a.example/?q={q}",
        "https://a.example/#x",
        "https://a.example/../admin",
        "https://a.example/%2e%2E/admin",
        "https://a.example/a b",
        "https://a.example/é",
        "https://a.example/{open",
        "https://a.example/x{+path}",
        "https://a.example/{a b}",
    ] {
        assert!(template(url).is_err(), "{url}");
    }
    for url in [
        "https://a.example",
        "https://a.example:8443/x",
        "http://127.0.0.1:1/",
        "http://[::1]:80/",
        "https://[2001:db8::1]/{+x}",
    ] {
        assert!(template(url).is_ok(), "{url}");
    }
}

#[test]
fn a_value_in_the_path_is_no_way_out_of_it() {
    let one = template("https://a.example/users/{id}/mail").unwrap();
    for id in ["..", ".", "", "a/b", "../admin", "..\\admin", "a\\b", "a\r\nb", "a\0b"] {
        assert_eq!(url_of(&one, json!({ "id": id })), Err("input.id".to_owned()), "{id:?}");
    }
    assert_eq!(url_of(&one, json!({})), Err("input.id".to_owned()));
    assert_eq!(url_of(&one, json!({"id": null})), Err("input.id".to_owned()));
    assert_eq!(url_of(&one, json!({"id": ["a"]})), Err("input.id".to_owned()));
    assert_eq!(url_of(&one, json!({"id": "%2e%2e"})).unwrap(), "https://a.example/users/%252e%252e/mail");
    assert_eq!(url_of(&one, json!({"id": "a?b#c;d"})).unwrap(), "https://a.example/users/a%3Fb%23c%3Bd/mail");
    let two = template("https://a.example/{a}{b}").unwrap();
    assert!(url_of(&two, json!({"a": ".", "b": "."})).is_err());
    let dotted = template("https://a.example/.{a}/x").unwrap();
    assert!(url_of(&dotted, json!({"a": "."})).is_err());
    let open = template("https://a.example/files/{+path}").unwrap();
    assert_eq!(url_of(&open, json!({"path": "a/b c/d"})).unwrap(), "https://a.example/files/a/b%20c/d");
    for path in ["/etc", "a//b", "a/../b", "a/%2E./b", "..", "a/.", "a/"] {
        assert!(url_of(&open, json!({ "path": path })).is_err(), "{path}");
    }
}

#[test]
fn headers_that_say_who_calls_or_how_a_message_ends_are_not_a_tools() {
    for name in [
        "Authorization",
        "cookie",
        "HOST",
        "Content-Length",
        "Transfer-Encoding",
        "X-Forwarded-For",
        "Proxy-Anything",
        "te",
        "a b",
        "a:b",
        "",
        "a\r\nb",
    ] {
        let refused = with(|parts| parts.headers = [(name.to_owned(), "x".to_owned())].into()).unwrap_err();
        assert_eq!(refused, [format!("headers.{name}")]);
        let may_hold_a_credential = name == "Authorization";
        assert_eq!(credential_header(name).is_ok(), may_hold_a_credential, "{name}");
    }
    for text in ["a\r\nb: c", "a\nb", "é", "{+x}"] {
        assert!(
            with(|parts| parts.headers = [("x-a".to_owned(), text.to_owned())].into()).is_err(),
            "{text:?}"
        );
    }
    let template = with(|parts| parts.headers = [("x-a".to_owned(), "v={v}".to_owned())].into()).unwrap();
    for text in ["a\r\nauthorization: x", "a\nb", "\u{7f}", "é"] {
        assert!(template.render(&input(json!({"id": 1, "v": text}))).is_err(), "{text:?}");
    }
    assert!(with(|parts| parts.body = Some(json!({}))).is_err(), "a GET has no body");
}

#[test]
fn d3_injectable_hosts_admit_what_they_name_and_nothing_else() {
    let hosts = InjectableHosts::parse("API.example.com .svc.example.org:8443 127.0.0.1:9000").unwrap();
    let admits = |origin: &str| hosts.admit(&Origin::parse(origin).unwrap());
    assert!(admits("https://api.example.com") && admits("https://API.EXAMPLE.COM:443"));
    assert!(admits("https://a.svc.example.org:8443") && admits("https://a.b.svc.example.org:8443"));
    assert!(admits("http://127.0.0.1:9000"));
    for origin in [
        "https://api.example.com:8443",
        "https://example.com",
        "https://xapi.example.com",
        "https://api.example.com.evil.example",
        "https://svc.example.org:8443",
        "https://xsvc.example.org:8443",
        "https://a.svc.example.org",
        "http://127.0.0.1:9001",
        "http://127.0.0.1",
    ] {
        assert!(!admits(origin), "{origin}");
    }
    assert!(!InjectableHosts::parse("").unwrap().admit(&Origin::parse("https://a.example").unwrap()));
    for text in [".com", "*.example.com", "a@b.example", "https://a.example", "a.example/x", "a.example:x"] {
        assert!(InjectableHosts::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_credential_goes_where_it_is_placed() {
    let secret = Secret::new("s3/cr+t");
    let placed = |placement: Placement| match placement.place(&secret) {
        Placed::Header(name, value) => format!("{name}: {}", value.expose()),
        Placed::Query(pair) => pair.expose().to_owned(),
    };
    assert_eq!(placed(Placement::Bearer), "authorization: Bearer s3/cr+t");
    let header = Placement::Header { name: "x-api-key".to_owned(), prefix: "Token ".to_owned() };
    assert_eq!(placed(header), "x-api-key: Token s3/cr+t");
    assert_eq!(placed(Placement::Query { name: "api key".to_owned() }), "api%20key=s3%2Fcr%2Bt");
    assert_eq!(
        placed(Placement::Basic { username: Some("me".to_owned()) }),
        "authorization: Basic bWU6czMvY3IrdA=="
    );
    assert_eq!(placed(Placement::Basic { username: None }), "authorization: Basic czMvY3IrdA==");
}

#[test]
fn an_echoed_credential_is_redacted_in_every_form() {
    let secret = Secret::new("s3/cr+t\"x");
    let redaction = Placement::Basic { username: Some("me".to_owned()) }.redaction(&secret);
    let forms = [
        "s3/cr+t\"x".to_owned(),
        "s3/cr+t\\\"x".to_owned(),
        "s3\\/cr+t\\\"x".to_owned(),
        "s3%2Fcr%2Bt%22x".to_owned(),
        "s3%2fcr%2bt%22x".to_owned(),
        encoding::base64("s3/cr+t\"x"),
        encoding::base64("me:s3/cr+t\"x"),
    ];
    for form in forms {
        let text = redaction.apply_text(format!("<{form}><{form}>"));
        assert_eq!(text, "<[redacted]><[redacted]>", "{form}");
    }
    assert_eq!(redaction.apply_text("s3/cr".to_owned()), "s3/cr");
    assert_eq!(Placement::Bearer.redaction(&Secret::new("")).apply_text("abc".to_owned()), "abc");
    assert!(!format!("{redaction:?}").contains("s3"));
}

proptest! {
    /// Template injection: wherever a value stands, origin, literal path, names and their order stay what the tool says.
    #[test]
    fn a_value_is_never_more_than_a_value(text in "\\PC{0,30}|[\\x00-\\x7f]{0,30}|[./%2eEfF\\\\]{0,12}") {
        let template = with(|parts| {
            parts.method = Method::Post;
            parts.url = "https://api.example.com/v1/{p}/end".to_owned();
            parts.query = [("q".to_owned(), "{v}".to_owned()), ("z".to_owned(), "1".to_owned())].into();
            parts.headers = [("x-a".to_owned(), "{h}".to_owned())].into();
            parts.body = Some(json!({"b": "{v}", "c": "={v}"}));
        }).unwrap();
        let plain = "plain".to_owned();
        let path = json!({"p": text, "v": plain, "h": plain});
        if let Ok(rendered) = template.render(&input(path)) {
            let rest = rendered.url.strip_prefix("https://api.example.com/v1/").unwrap();
            let segment = rest.strip_suffix("/end?q=plain&z=1").unwrap();
            prop_assert!(!segment.is_empty() && !segment.contains(['/', '?', '#', '\\', '&']) && segment != ".." && segment != ".");
        }
        let query = json!({"p": plain, "v": text, "h": plain});
        let rendered = template.render(&input(query)).unwrap();
        let value = rendered.url.strip_prefix("https://api.example.com/v1/plain/end?q=").unwrap().strip_suffix("&z=1").unwrap();
        prop_assert!(!value.contains(['&', '#', '?', '=', '/', ' ']));
        let body: Value = serde_json::from_str(rendered.body.as_deref().unwrap()).unwrap();
        prop_assert_eq!(body, json!({"b": text, "c": format!("={text}")}));
        let header = json!({"p": plain, "v": plain, "h": text});
        if let Ok(rendered) = template.render(&input(header)) {
            prop_assert!(rendered.headers.iter().all(|(_, value)| value.bytes().all(|b| (0x20..0x7f).contains(&b))));
        }
    }

    #[test]
    fn nothing_of_a_secret_is_left_however_it_is_embedded(
        secret in "[!-~]{8,40}", before in "\\PC{0,10}", after in "\\PC{0,10}"
    ) {
        let redaction = Placement::Bearer.redaction(&Secret::new(secret.as_str()));
        let echoed = redaction.apply_text(format!("{before}{secret}{after}"));
        prop_assert!(!echoed.contains(&secret));
    }
}

fn any(methods: &[Method], url: &str) -> AnyRequest {
    AnyRequest::parse(methods, url).unwrap()
}

fn any_tool(request: AnyRequest, placement: Placement) -> Tool {
    Tool {
        id: Id::from_bytes([1; 16]),
        name: ToolName::parse("any").unwrap(),
        description: String::new(),
        input_schema: request.input_schema(),
        request: ToolRequest::Any(request),
        credential: Some(ToolCredential {
            provider: ProviderName::parse("p").unwrap(),
            flow: ToolFlow::ApiKey,
            scopes: BTreeSet::new(),
            resources: Vec::new(),
            audiences: Vec::new(),
            placement,
        }),
        allowed_workloads: Vec::new(),
        version: 1,
        created_at: Timestamp::from_seconds(0),
        updated_at: Timestamp::from_seconds(0),
    }
}

fn key_in(name: &str) -> Placement {
    Placement::Query { name: name.to_owned() }
}

#[test]
fn any_request_at_or_below_a_url_is_sent_as_it_came() {
    let tool = any_tool(
        any(&[Method::Get, Method::Post, Method::Get], "https://api.example.com/v1/"),
        Placement::Bearer,
    );
    let ToolRequest::Any(request) = &tool.request else { panic!() };
    assert_eq!(
        (request.methods(), request.url()),
        (&[Method::Get, Method::Post][..], "https://api.example.com/v1".to_owned())
    );
    let stored: Tool = serde_json::from_value(serde_json::to_value(&tool).unwrap()).unwrap();
    assert_eq!(stored, tool);
    let rendered = tool
        .render(&input(json!({
            "method": "POST", "path": "/v1/projects/a%2Fb/x;y=1", "query": "a=1&b=%20&a=2", "body": "é",
            "headers": {
                "X-One": "1", "Content-Type": "text/plain", "User-Agent": "curl/8", "Authorization": "Bearer mine", "COOKIE": "c=1",
                "X-Forwarded-For": "1.2.3.4", "X_Forwarded_Host": "evil.example", "X-HTTP-Method-Override": "DELETE", "X_HTTP_Method": "DELETE",
                "X-Original-URL": "/admin", "X-Rewrite-Url": "/admin", "Range": "bytes=0-3", "If-Range": "x", "Proxy-Authorization": "Basic x", "Accept-Encoding": "gzip", "Host": "evil.example",
            },
        })))
        .unwrap();
    assert_eq!(rendered.url, "https://api.example.com/v1/projects/a%2Fb/x;y=1?a=1&b=%20&a=2");
    assert_eq!((rendered.method, rendered.body.as_deref()), (Method::Post, Some("é")));
    let headers: Vec<_> =
        rendered.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("content-type", "text/plain"), ("user-agent", "curl/8"), ("x-one", "1")]);
    for path in ["/v1", "/v1/", "/v1//", "/v1/..a", "/v1/.well-known"] {
        assert!(tool.render(&input(json!({"method": "GET", "path": path}))).is_ok(), "{path}");
    }
}

#[test]
fn nothing_but_what_is_below_its_url_is_reached_whoever_reads_the_path() {
    let tool = any_tool(any(&[Method::Get], "https://api.example.com/v1/things"), key_in("key"));
    let field = |value: Value| tool.render(&input(value)).map_err(|error| error.field_list()[0].name.clone());
    for path in [
        "",
        "/",
        "v1/things",
        "/v1",
        "/v1/thingsX",
        "/v1/things%2f..%2f..",
        "/v1/things/..",
        "/v1/things/../admin",
        "/v1/things/%2e%2e/admin",
        "/v1/things/.%2E/admin",
        "/v1/things/%252e%252e/x",
        "/v1/things/..;/admin",
        "/v1/things/..;a=b/x",
        "/v1/things/%2e%2e%3b/x",
        "/v1/things/..%3Fx",
        "/v1/things/%2e%2e%3fx",
        "/v1/things/..%23x",
        "/v1/things/..%253Fx",
        "/v1/things/%c0%ae%c0%ae/admin",
        "/v1/things/%ff",
        "/v1/things/..%5cx",
        "/v1/things/a%5c..%5cx",
        "/v1/things/./x",
        "/V1/things",
        "/v1/things?x",
        "/v1/things#x",
        "/v1/things/a b",
        "/v1/things/a\r\nb",
        "/v1/things/é",
        "/v1/things/a\\b",
        "/v1/things/%0d%0a",
        "/v1/things/%250a",
        "/v1/things/%00",
        "/v1/things/{x}",
        "https://evil.example/v1/things",
        "//evil.example/v1/things",
        "@evil.example/v1/things",
    ] {
        assert_eq!(field(json!({"method": "GET", "path": path})), Err("input.path".to_owned()), "{path:?}");
    }
    for method in ["POST", "get", "TRACE", "CONNECT", ""] {
        assert_eq!(field(json!({"method": method, "path": "/v1/things"})), Err("input.method".to_owned()));
    }
    for query in ["a b", "a#b", "a\nb", "é"] {
        assert_eq!(
            field(json!({"method": "GET", "path": "/v1/things", "query": query})),
            Err("input.query".to_owned())
        );
    }
    for (name, value, at) in [
        ("x y", "1", "input.headers"),
        ("", "1", "input.headers"),
        ("x\r\ny", "1", "input.headers"),
        ("x", "a\r\nb", "input.headers.x"),
        ("x", "é", "input.headers.x"),
    ] {
        let given = json!({"method": "GET", "path": "/v1/things", "headers": {name: value}});
        assert_eq!(field(given), Err(at.to_owned()));
    }
    assert_eq!(
        field(json!({"method": "GET", "path": "/v1/things", "body": "x"})),
        Err("input.body".to_owned())
    );
}

#[test]
fn where_the_credential_goes_nothing_of_the_callers_goes() {
    let request = || any(&[Method::Get], "https://api.example.com");
    let by_query = any_tool(request(), key_in("api key"));
    let sent = |query: &str| {
        by_query.render(&input(json!({"method": "GET", "path": "/", "query": query}))).unwrap().url
    };
    assert_eq!(sent("api+key=mine&a=1&api%20key=x&%61pi+key&b"), "https://api.example.com/?a=1&b");
    assert_eq!(sent("api+key=mine"), "https://api.example.com/");
    let by_header =
        any_tool(request(), Placement::Header { name: "x-api-key".to_owned(), prefix: String::new() });
    let rendered = by_header
        .render(&input(
            json!({"method": "GET", "path": "/", "headers": {"X-API-Key": "mine", "x-other": "1"}}),
        ))
        .unwrap();
    assert_eq!(rendered.headers, [("x-other".to_owned(), "1".to_owned())]);
}

#[test]
fn where_all_requests_begin_is_literal() {
    for url in [
        "https://api.example.com/{x}",
        "https://{h}.example.com",
        "https://api.example.com/a//b",
        "https://api.example.com/../b",
        "https://api.example.com/a?b=c",
        "http://api.example.com",
        "api.example.com",
        "https://u@api.example.com",
    ] {
        assert!(AnyRequest::parse(&[Method::Get], url).is_err(), "{url}");
    }
}

proptest! {
    #[test]
    fn no_path_leaves_the_url_that_it_is_below(path in "(/|%2[ef53]|%3f|%c0%ae|%5c|\\.|;|v1|a|%|\\\\){0,12}") {
        let tool = any_tool(any(&[Method::Get], "https://api.example.com/v1"), Placement::Bearer);
        if let Ok(rendered) = tool.render(&input(json!({"method": "GET", "path": format!("/v1{path}")}))) {
            let path = rendered.url.strip_prefix("https://api.example.com").unwrap();
            // As servers read it that decode never, once or twice.
            let mut read = path.to_owned();
            for _ in 0..3 {
                let mut walked = Vec::new();
                for segment in read.split(['/', '\\']).map(|it| it.split([';', '?', '#']).next().unwrap()) {
                    match segment {
                        "" | "." => {}
                        ".." => drop(walked.pop()),
                        _ => walked.push(segment),
                    }
                }
                prop_assert_eq!(walked.first(), Some(&"v1"), "{}", path);
                read = percent_encoding::percent_decode_str(&read).decode_utf8_lossy().into_owned();
            }
        }
    }
}
