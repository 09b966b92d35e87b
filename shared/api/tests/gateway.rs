//! Behind API Gateway: whose request it is, and which half of the operations a function serves (D1).
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use agent_identity_api::{
    All, Api, CancellationToken, Control, Data, Gateway, GatewayCaller, Hosts, IamPrincipals, Surface,
    TaskTracker, Tools, router,
};
use agent_identity_core::grant::Grant;
use agent_identity_core::principal::PrincipalArn;
use agent_identity_testkit::Calls;
use axum::Router;
use axum::body::Body;
use http::Request;
use world::{World, send};

const ROLE: &str = "arn:aws:iam::123456789012:role/agents";
const SESSION: &str = "arn:aws:sts::123456789012:assumed-role/agents/ada@example.com";
const ADMIN: &str = "arn:aws:sts::123456789012:assumed-role/deployer/ci";

fn arn(text: &str) -> PrincipalArn {
    PrincipalArn::parse(text).unwrap()
}

fn app<S: Surface>(world: &World, _: S) -> Router {
    let expected = Gateway { api_id: "a1b2c3".to_owned(), account_id: "123456789012".to_owned() };
    let administrator = Some(arn("arn:aws:iam::123456789012:role/ci/deployer"));
    let api = Api {
        services: Arc::clone(&world.services),
        authenticate: Arc::new(IamPrincipals::new(Arc::clone(&world.services), expected, administrator)),
        hosts: Hosts::Any,
        work: TaskTracker::new(),
        stopping: CancellationToken::new(),
    };
    router::<S>(api, Router::new())
}

fn caller(user_arn: &str) -> GatewayCaller {
    GatewayCaller {
        api_id: "a1b2c3".to_owned(),
        account_id: "123456789012".to_owned(),
        user_arn: user_arn.to_owned(),
    }
}

fn request(operation: &str, caller: Option<GatewayCaller>) -> Request<Body> {
    let mut request = Request::post(format!("/identities/{operation}")).body(Body::from("{}")).unwrap();
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller);
    }
    request
}

/// Status and error of listing workloads as this caller.
async fn list(app: &Router, caller: Option<GatewayCaller>) -> (u16, String, String) {
    let (status, headers, body) = send(app, request("ListWorkloadIdentities", caller)).await;
    let error = headers.lines().find_map(|line| line.strip_prefix("x-amzn-errortype: "));
    (status, error.unwrap_or_default().to_owned(), body)
}

#[tokio::test]
async fn d1_a_session_has_the_grants_of_its_role_and_nobody_has_any_before_they_are_given() {
    let world = World::new("https://identity.example", Duration::ZERO);
    let app = app(&world, All);
    let (status, error, body) = list(&app, Some(caller(SESSION))).await;
    assert_eq!((status, error.as_str()), (403, "AccessDeniedException"));
    assert!(body.contains(ROLE) && body.contains("admin"), "{body}");

    let grants = vec![Grant::parse("admin operation=List*").unwrap()];
    world.services.put_principal(&arn("arn:aws:iam::123456789012:role/team/agents"), grants).await.unwrap();
    assert_eq!(list(&app, Some(caller(SESSION))).await.0, 200);
    assert_eq!(list(&app, Some(caller(&SESSION.replace("agents", "others")))).await.0, 403);
    assert_eq!(list(&app, Some(caller("arn:aws:iam::123456789012:user/agents"))).await.0, 403);
    let other_account = SESSION.replace("123456789012", "999999999999");
    assert_eq!(list(&app, Some(caller(&other_account))).await.0, 403, "a role of the same name elsewhere");

    world.services.delete_principal(&arn(ROLE)).await.unwrap();
    assert_eq!(list(&app, Some(caller(SESSION))).await.0, 403);
}

#[tokio::test]
async fn d1_the_role_that_the_deployment_names_has_all_grants_from_the_start() {
    let world = World::new("https://identity.example", Duration::ZERO);
    let app = app(&world, All);
    assert_eq!(list(&app, Some(caller(ADMIN))).await.0, 200);
    assert_eq!(list(&app, Some(caller(&ADMIN.replace("sts", "iam")))).await.0, 403);
}

#[tokio::test]
async fn d1_a_caller_that_did_not_come_through_our_api_is_refused_whatever_it_signs() {
    let world = World::new("https://identity.example", Duration::ZERO);
    let app = app(&world, All);
    let forged = [
        None,
        Some(GatewayCaller { api_id: "evil".to_owned(), ..caller(ADMIN) }),
        Some(GatewayCaller { api_id: String::new(), ..caller(ADMIN) }),
        Some(GatewayCaller { account_id: "999999999999".to_owned(), ..caller(ADMIN) }),
        Some(GatewayCaller { account_id: String::new(), ..caller(ADMIN) }),
        Some(caller("")),
        Some(caller("deployer")),
        Some(caller("arn:aws:sts::123456789012:assumed-role/deployer")),
    ];
    for forged in forged {
        let shown = format!("{forged:?}");
        let mut request = request("ListWorkloadIdentities", forged);
        let signature = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/execute-api/aws4_request, \
             SignedHeaders=host;x-amz-date, Signature=0000000000000000000000000000000000000000000000000000000000000000";
        request.headers_mut().insert("authorization", signature.parse().unwrap());
        request.headers_mut().insert("x-amz-date", "20260101T000000Z".parse().unwrap());
        let (status, headers, body) = send(&app, request).await;
        assert_eq!(status, 403, "{shown}");
        assert!(headers.contains("x-amzn-errortype: UnrecognizedClientException"), "{shown}: {headers}");
        assert!(!body.contains("a1b2c3") && !body.contains("evil"), "{body}");
    }
    assert_eq!(world.store.take_calls(), Calls::default(), "nothing was looked up");
}

#[tokio::test]
async fn grants_are_remembered_and_so_is_that_there_are_none() {
    let world = World::new("https://identity.example", Duration::from_secs(30));
    let app = app(&world, All);
    for _ in 0..3 {
        assert_eq!(list(&app, Some(caller(SESSION))).await.0, 403);
    }
    assert_eq!(world.store.take_calls().get, 1);
    // What this process changes it sees at once.
    world.services.put_principal(&arn(ROLE), vec![Grant::everything()]).await.unwrap();
    assert_eq!(list(&app, Some(caller(SESSION))).await.0, 200);
    let listed = world.services.list_principals().await.unwrap();
    assert_eq!(listed.iter().map(|it| it.principal.name.as_str()).collect::<Vec<_>>(), [ROLE]);
    assert!(world.services.delete_principal(&arn("arn:aws:iam::123456789012:user/x")).await.is_err());
}

#[tokio::test]
async fn putting_a_principal_again_replaces_its_grants_and_keeps_when_it_was_made() {
    let world = World::new("https://identity.example", Duration::ZERO);
    let first = world.services.put_principal(&arn(ROLE), vec![Grant::everything()]).await.unwrap();
    world.clock.advance(Duration::from_secs(5));
    let second = world.services.put_principal(&arn(ROLE), Vec::new()).await.unwrap();
    assert_eq!(second.created_at, first.created_at);
    assert!(second.updated_at > first.updated_at && second.principal.grants.is_empty());
    assert_eq!(world.services.list_principals().await.unwrap(), [second]);
}

const CONTROL: [&str; 3] =
    ["CreateWorkloadIdentity", "ListOauth2CredentialProviders", "DeleteApiKeyCredentialProvider"];
const DATA: [&str; 6] = [
    "GetWorkloadAccessToken",
    "GetWorkloadAccessTokenForJWT",
    "GetWorkloadAccessTokenForUserId",
    "oauth2/token",
    "api-key",
    "CompleteResourceTokenAuth",
];

#[tokio::test]
async fn a_function_serves_its_half_and_says_which_one_serves_the_other() {
    let world = World::new("https://identity.example", Duration::ZERO);
    let halves = [
        (app(&world, Control), &CONTROL[..], &DATA[..], "tokens"),
        (app(&world, Data), &DATA, &CONTROL, "credentials"),
        (app(&world, Tools), &["InvokeTool"], &DATA, "tokens"),
        (app(&world, Data), &DATA, &["InvokeTool"], "gateway"),
    ];
    for (app, served, refused, other) in halves {
        for operation in served {
            let (_, headers, body) = send(&app, request(operation, Some(caller(ADMIN)))).await;
            assert!(!headers.contains("UnknownOperation"), "{operation}: {body}");
        }
        for operation in refused {
            let (status, headers, body) = send(&app, request(operation, Some(caller(ADMIN)))).await;
            assert_eq!(status, 404, "{operation}");
            assert!(headers.contains("x-amzn-errortype: UnknownOperationException"), "{headers}");
            assert!(body.contains(&format!("`{other}`")), "{body}");
        }
    }
}

#[tokio::test]
async fn the_browsers_endpoints_are_with_the_tokens() {
    let world = World::new("https://identity.example", Duration::ZERO);
    for (app, is_there) in [
        (app(&world, All), true),
        (app(&world, Data), true),
        (app(&world, Control), false),
        (app(&world, Tools), false),
    ] {
        for path in ["authorize?request_uri=urn:x", "callback/00000000-0000-0000-0000-000000000000", "return"]
        {
            let get = Request::get(format!("/identities/oauth2/{path}")).body(Body::empty()).unwrap();
            let (_, headers, body) = send(&app, get).await;
            assert_eq!(!headers.contains("UnknownOperationException"), is_there, "{path}: {body}");
        }
        let health = Request::get("/healthz").body(Body::empty()).unwrap();
        assert_eq!(send(&app, health).await.0, 200);
    }
}
