//! Consent: one browser, one user, one use (D3, D9, D11, D12, D13, D20, D24).

mod world;

use std::sync::Arc;
use std::time::Duration;

use agent_identity_core::error::ErrorKind;
use agent_identity_core::{ProviderName, Secret, WorkloadName};
use agent_identity_service::consent::{Arrival, CompleteConsent, UserIdentifier};
use agent_identity_service::oauth2_provider::{DeleteOauth2Provider, UpdateOauth2Provider};
use agent_identity_service::oauth2_token::{Flow, Oauth2TokenAnswer};
use agent_identity_service::workload::DeleteWorkload;
use tokio::sync::Notify;
use world::{AGENT, CALENDAR, Reply, World, config, refused, request, scopes};

#[tokio::test]
async fn the_four_refusals_of_a_session_are_four_texts() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    let wrong_user = refused(world.complete(&session, "eve").await);
    world.create_workload("other").await;
    let mut foreign = request(&world.wat("other", "ada").await);
    foreign.session = Some(session.clone());
    let wrong_workload = refused(world.services.get_oauth2_token(&world.admin, foreign).await);
    let used = refused(world.services.begin_consent(&session, None).await);
    world.clock.advance(Duration::from_secs(601));
    let expired = refused(world.complete(&session, "ada").await);
    let texts = [wrong_user, wrong_workload, used, expired];
    for (index, (kind, text)) in texts.iter().enumerate() {
        assert_eq!(*kind, ErrorKind::AccessDenied);
        assert!(texts.iter().skip(index + 1).all(|(_, other)| other != text), "{text}");
    }
}

#[tokio::test]
async fn d11_completing_twice_at_once_sends_the_code_once_and_both_are_told_that_it_is_done() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("first", Arc::clone(&gate)));
    let both = async { tokio::join!(world.complete(&session, "ada"), world.complete(&session, "ada")) };
    let open = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        gate.notify_one();
    };
    let ((first, second), ()) = tokio::join!(both, open);
    first.unwrap();
    second.unwrap();
    world.complete(&session, "ada").await.unwrap();
    assert_eq!(world.provider.seen("code"), ["code"]);
    assert_eq!(refused(world.complete(&session, "eve").await).0, ErrorKind::AccessDenied);
}

#[tokio::test]
async fn d11_a_code_whose_answer_was_lost_is_never_sent_again_and_an_older_connection_stays() {
    let (world, wat) = World::connected(600).await;
    let mut again = request(&wat);
    again.force_authentication = true;
    let session = world.consented(again).await;
    world.provider.will(Reply::Lost);
    let (kind, text) = refused(world.complete(&session, "ada").await);
    assert_eq!(kind, ErrorKind::AccessDenied);
    assert!(text.contains("lost"), "{text}");
    assert_eq!(refused(world.complete(&session, "ada").await), (kind, text));
    assert_eq!(world.provider.seen("code").len(), 2, "one for each session");
    assert_eq!(world.token(&wat).await.unwrap(), "access-first");
}

#[tokio::test]
async fn d11_a_process_that_dies_in_mid_exchange_leaves_a_session_that_says_so() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    world.provider.will(Reply::Held("never", Arc::new(Notify::new())));
    let dead = tokio::time::timeout(Duration::from_millis(50), world.complete(&session, "ada")).await;
    assert!(dead.is_err());
    // Whoever waits gives up after 8 s; the next one has watched longer, and in the end the lease is dead.
    let other = world.another_process(2, &world.clock);
    let clock = Arc::clone(&world.clock);
    let time = tokio::spawn(async move { World::awake_for(&clock, 60).await });
    let outcome = loop {
        let user = UserIdentifier::UserId(agent_identity_core::name::UserId::parse("ada").unwrap());
        let request = CompleteConsent { session: session.clone(), user };
        match refused(other.complete_consent(&world.admin, request).await) {
            (ErrorKind::Throttling, _) => {}
            other => break other,
        }
    };
    time.abort();
    assert!(outcome.1.contains("lost"), "{outcome:?}");
    assert_eq!(world.provider.seen("code").len(), 1);
}

#[tokio::test]
async fn a_code_that_was_never_sent_can_be_completed_again() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    world.provider.will(Reply::NotSent);
    assert_eq!(refused(world.complete(&session, "ada").await).0, ErrorKind::Throttling);
    world.provider.will(Reply::Tokens("first", 600));
    world.complete(&session, "ada").await.unwrap();
    assert_eq!(world.token(&wat).await.unwrap(), "access-first");
}

#[tokio::test]
async fn d12_opening_the_page_changes_nothing_and_one_browser_goes_on() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.offered(request(&wat)).await;
    let before = world.store.rows();
    match world.services.open_consent_page(&session, None).await.unwrap() {
        Arrival::Page(page) => {
            assert_eq!((page.workload.as_str(), page.provider.as_str()), (AGENT, CALENDAR));
            assert_eq!((page.host.as_str(), page.scopes), ("provider.example", vec!["read".to_owned()]));
        }
        Arrival::GoOn => panic!("there is a page"),
    }
    assert_eq!(world.store.rows(), before);
    let (cookie, state) = world.departed(&session).await;
    let elsewhere = world.services.begin_consent(&session, Some(&Secret::new("another"))).await;
    assert!(refused(elsewhere).1.contains("another browser"));
    for other in [None, Some(&Secret::new("another"))] {
        let page = world.services.open_consent_page(&session, other).await;
        assert!(refused(page).1.contains("another browser"), "the page says so already");
    }
    assert!(world.services.open_consent_page(&session, Some(&cookie)).await.is_ok());
    let stranger = Secret::new(agent_identity_core::encoding::base64url([1; 32]));
    assert!(refused(world.returned(&state, &stranger, Some("code")).await).1.contains("another browser"));
    world.returned(&state, &cookie, Some("code")).await.unwrap();
    assert!(refused(world.returned(&state, &cookie, Some("code")).await).1.contains("already used"));
}

#[tokio::test]
async fn going_on_twice_in_one_browser_ends_the_first_state() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.offered(request(&wat)).await;
    let (cookie, first_state) = world.departed(&session).await;
    world.services.begin_consent(&session, Some(&cookie)).await.unwrap();
    assert_eq!(refused(world.returned(&first_state, &cookie, Some("code")).await).0, ErrorKind::AccessDenied);
}

#[tokio::test]
async fn d12_clicks_of_one_browser_at_once_all_go_on_and_those_of_another_do_not() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let session = world.offered(request(&wat)).await;
    let cookie = world.services.browser_cookie(None);
    assert_eq!(world.services.browser_cookie(Some(&cookie)), cookie);
    let clicks = (0..8).map(|_| {
        let (services, session, cookie) = (Arc::clone(&world.services), session.clone(), cookie.clone());
        tokio::spawn(async move { services.begin_consent(&session, Some(&cookie)).await })
    });
    for click in clicks.collect::<Vec<_>>() {
        assert_eq!(click.await.unwrap().unwrap().cookie, cookie);
    }
    let other = world.services.browser_cookie(None);
    assert!(
        refused(world.services.begin_consent(&session, Some(&other)).await).1.contains("another browser")
    );
}

#[tokio::test]
async fn a_user_who_refuses_is_brought_back_and_the_poll_says_so() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let mut wanted = request(&wat);
    wanted.custom_state = Some(Secret::new("my state&x"));
    let session = world.offered(wanted).await;
    let (cookie, state) = world.departed(&session).await;
    let back = world.returned(&state, &cookie, None).await.unwrap();
    assert!(back.expose().starts_with(&format!("{}?session_id=urn%3A", world::RETURN)), "{}", back.expose());
    assert!(back.expose().ends_with("&state=my+state%26x&error=access_denied"), "{}", back.expose());
    let mut poll = request(&wat);
    poll.session = Some(session);
    let (kind, text) = refused(world.services.get_oauth2_token(&world.admin, poll).await);
    assert!(kind == ErrorKind::AccessDenied && text.contains("did not consent"), "{text}");
}

#[tokio::test]
async fn d13_a_poll_concerns_its_session_and_refused_scopes_are_named() {
    let (world, wat) = World::connected(600).await;
    let mut more = request(&wat);
    more.scopes = scopes(&["read", "write"]);
    let session = world.offered(more.clone()).await;
    let mut poll = more.clone();
    poll.session = Some(session.clone());
    let answer = world.services.get_oauth2_token(&world.admin, poll.clone()).await.unwrap();
    assert!(matches!(answer, Oauth2TokenAnswer::InProgress(uri) if uri == session));
    let (cookie, state) = world.departed(&session).await;
    world.returned(&state, &cookie, Some("code")).await.unwrap();
    world.provider.will(Reply::Scoped("second", "read"));
    world.complete(&session, "ada").await.unwrap();
    for request in [more.clone(), poll] {
        let (kind, text) = refused(world.services.get_oauth2_token(&world.admin, request).await);
        assert_eq!(kind, ErrorKind::AccessDenied);
        assert!(text.contains("write") && !text.contains("scopes read"), "{text}");
    }
    assert_eq!(world.token(&wat).await.unwrap(), "access-second");
    more.force_authentication = true;
    world.offered(more).await;
}

#[tokio::test]
async fn step_up_asks_for_the_union() {
    let (world, wat) = World::connected(600).await;
    let mut more = request(&wat);
    more.scopes = scopes(&["write"]);
    let session = world.offered(more).await;
    let location = world.services.begin_consent(&session, None).await.unwrap().location;
    assert!(
        location.expose().contains("scope=read+write") || location.expose().contains("scope=read%20write")
    );
}

#[tokio::test]
async fn d3_a_changed_registration_ends_what_was_connected_before() {
    let (world, wat) = World::connected(600).await;
    let in_flight = {
        let mut again = request(&wat);
        again.force_authentication = true;
        world.consented(again).await
    };
    let action = UpdateOauth2Provider {
        name: ProviderName::parse(CALENDAR).unwrap(),
        config: config("https://evil.example", "client", None),
    };
    world.services.update_oauth2_provider(world.admin.authorize(action).unwrap()).await.unwrap();
    assert!(
        refused(world.complete(&in_flight, "ada").await).1.contains("calendar"),
        "its secret is gone: it cannot be redirected"
    );
    assert!(matches!(world.get(&wat).await.unwrap(), Oauth2TokenAnswer::Consent { .. }));
    assert_eq!(world.provider.seen("code").len(), 1, "nothing was sent to the new endpoint");
}

#[tokio::test]
async fn d3_an_edit_that_redirects_nothing_keeps_connection_and_secret() {
    let (world, _) = World::connected(600).await;
    let action = UpdateOauth2Provider {
        name: ProviderName::parse(CALENDAR).unwrap(),
        config: config("https://provider.example", "client", None),
    };
    world.services.update_oauth2_provider(world.admin.authorize(action).unwrap()).await.unwrap();
    let wat = world.later(601).await;
    world.provider.will(Reply::Tokens("second", 600));
    assert_eq!(world.token(&wat).await.unwrap(), "access-second");
}

#[tokio::test]
async fn d9_a_name_made_anew_inherits_nothing() {
    let (world, wat) = World::connected(600).await;
    let callback = world.provider_id(CALENDAR).await;
    let delete = DeleteOauth2Provider { name: ProviderName::parse(CALENDAR).unwrap() };
    world.services.delete_oauth2_provider(world.admin.authorize(delete).unwrap()).await.unwrap();
    assert_eq!(world.secrets.managed_versions(), 0);
    world.create_provider(CALENDAR).await;
    assert_ne!(world.provider_id(CALENDAR).await, callback);
    assert!(matches!(world.get(&wat).await.unwrap(), Oauth2TokenAnswer::Consent { .. }));
    let delete = DeleteWorkload { name: WorkloadName::parse(AGENT).unwrap() };
    world.services.delete_workload(world.admin.authorize(delete).unwrap()).await.unwrap();
    world.create_workload(AGENT).await;
    assert_eq!(refused(world.get(&wat).await).0, ErrorKind::Unauthorized);
}

#[tokio::test]
async fn d10_another_jwt_of_the_same_user_completes_and_the_same_subject_elsewhere_does_not() {
    let world = World::with_calendar().await;
    let end = world.now().as_seconds() + 600;
    let wat = world.wat_for_jwt(AGENT, &format!("https://idp|ada|{end}")).await;
    let session = world.consented(request(&wat)).await;
    let complete = |jwt: String| {
        let user = UserIdentifier::UserToken(Secret::new(jwt));
        world.services.complete_consent(&world.admin, CompleteConsent { session: session.clone(), user })
    };
    assert!(refused(complete(format!("https://other|ada|{end}")).await).1.contains("another user"));
    assert!(
        refused(world.complete(&session, "ada").await).1.contains("another user"),
        "a user id is no JWT's user"
    );
    world.provider.will(Reply::Tokens("first", 600));
    complete(format!("https://idp|ada|{}", end + 100)).await.unwrap();
}

#[tokio::test]
async fn d20_past_the_end_of_its_jwt_a_token_only_polls_what_it_started() {
    let world = World::with_calendar().await;
    let end = world.now().as_seconds() + 60;
    let wat = world.wat_for_jwt(AGENT, &format!("https://idp|ada|{end}")).await;
    let later = world.wat_for_jwt(AGENT, &format!("https://idp|ada|{end}")).await;
    let session = world.consented(request(&wat)).await;
    world.provider.will(Reply::Tokens("first", 600));
    let user = UserIdentifier::UserToken(Secret::new(format!("https://idp|ada|{end}")));
    world
        .services
        .complete_consent(&world.admin, CompleteConsent { session: session.clone(), user })
        .await
        .unwrap();
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(refused(world.get(&wat).await).0, ErrorKind::Unauthorized);
    let mut poll = request(&wat);
    poll.session = Some(session);
    assert!(world.services.get_oauth2_token(&world.admin, poll.clone()).await.is_ok());
    poll.workload_token = later;
    assert_eq!(refused(world.services.get_oauth2_token(&world.admin, poll).await).0, ErrorKind::Unauthorized);
}

#[tokio::test]
async fn d24_a_client_token_belongs_to_all_of_its_parameters() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let mut wanted = request(&wat);
    wanted.flow = Flow::M2m;
    let mut requests = vec![wanted.clone()];
    let mut vary = |change: fn(&mut agent_identity_service::oauth2_token::Oauth2TokenRequest)| {
        let mut other = wanted.clone();
        change(&mut other);
        requests.push(other);
    };
    vary(|request| request.scopes = scopes(&["write"]));
    vary(|request| request.resources = vec!["https://a".to_owned()]);
    vary(|request| request.audiences = vec!["https://a".to_owned()]);
    vary(|request| drop(request.custom_parameters.insert("tenant".to_owned(), "x".to_owned())));
    for round in 0..2 {
        for request in &requests {
            if round == 0 {
                world.provider.will(Reply::Tokens("machine", 3600));
            }
            world.services.get_oauth2_token(&world.admin, request.clone()).await.unwrap();
        }
    }
    assert_eq!(world.provider.seen("grant_type").len(), requests.len());
    world.create_workload("other").await;
    let mut other = wanted;
    other.workload_token = world.wat("other", "ada").await;
    world.provider.will(Reply::Tokens("machine", 3600));
    world.services.get_oauth2_token(&world.admin, other).await.unwrap();
    assert_eq!(
        world.provider.seen("grant_type").len(),
        requests.len() + 1,
        "another workload, another token"
    );
}

#[tokio::test]
async fn d24_parameters_that_we_send_cannot_be_set() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    for name in [
        "redirect_uri",
        "state",
        "code_challenge",
        "client_id",
        "request",
        "request_uri",
        "response_mode",
        "client_assertion",
    ] {
        let mut wanted = request(&wat);
        wanted.custom_parameters.insert(name.to_owned(), "x".to_owned());
        let (kind, text) = refused(world.services.get_oauth2_token(&world.admin, wanted).await);
        assert!(kind == ErrorKind::Validation && text.contains(name), "{name}: {text}");
    }
}

#[tokio::test]
async fn a_session_that_ends_while_its_code_is_exchanged_still_connects() {
    let world = Arc::new(World::with_calendar().await);
    let wat = world.wat(AGENT, "ada").await;
    let session = world.consented(request(&wat)).await;
    world.clock.advance(Duration::from_secs(598));
    let gate = Arc::new(Notify::new());
    world.provider.will(Reply::Held("first", Arc::clone(&gate)));
    let completing = {
        let (world, session) = (Arc::clone(&world), session.clone());
        tokio::spawn(async move { world.complete(&session, "ada").await })
    };
    while world.provider.seen("code").is_empty() {
        tokio::task::yield_now().await;
    }
    world.clock.advance(Duration::from_secs(3));
    gate.notify_one();
    completing.await.unwrap().unwrap();
    let wat = world.wat(AGENT, "ada").await;
    assert_eq!(world.token(&wat).await.unwrap(), "access-first");
}

#[tokio::test]
async fn d20_past_the_end_of_its_jwt_a_token_reads_no_api_key() {
    use agent_identity_service::api_key_provider::{CreateApiKeyProvider, GivenSecret};
    let world = World::with_calendar().await;
    let name = ProviderName::parse("keys").unwrap();
    let secret = GivenSecret::Managed(Secret::new("k"));
    let action = CreateApiKeyProvider { name: name.clone(), secret, tags: std::collections::BTreeMap::new() };
    world.services.create_api_key_provider(world.admin.authorize(action).unwrap()).await.unwrap();
    let end = world.now().as_seconds() + 60;
    let wat = world.wat_for_jwt(AGENT, &format!("https://idp|ada|{end}")).await;
    assert_eq!(world.services.get_api_key(&world.admin, &wat, &name).await.unwrap(), Secret::new("k"));
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(
        refused(world.services.get_api_key(&world.admin, &wat, &name).await).0,
        ErrorKind::Unauthorized
    );
}

#[tokio::test]
async fn d2_who_may_edit_one_provider_cannot_name_somebody_elses_secret() {
    use agent_identity_core::grant::{Grant, Principal};
    use agent_identity_core::provider::SecretReference;
    use agent_identity_service::api_key_provider::{CreateApiKeyProvider, GivenSecret};
    let world = World::new();
    let grants = vec![Grant::parse("admin,read,mint-userid provider=evil*").unwrap()];
    let evil = Principal { name: "access-key/evil".to_owned(), grants };
    let reference = SecretReference { secret_id: "prod".to_owned(), json_key: "k".to_owned() };
    let create = |secret| CreateApiKeyProvider {
        name: ProviderName::parse("evil1").unwrap(),
        secret,
        tags: std::collections::BTreeMap::new(),
    };
    let action = evil.authorize(create(GivenSecret::External(reference))).unwrap();
    assert_eq!(refused(world.services.create_api_key_provider(action).await).0, ErrorKind::AccessDenied);
    let action = evil.authorize(create(GivenSecret::Managed(Secret::new("mine")))).unwrap();
    world.services.create_api_key_provider(action).await.unwrap();
}

#[tokio::test]
async fn a_client_that_the_provider_does_not_know_is_not_sent_at_every_call() {
    let world = World::with_calendar().await;
    let wat = world.wat(AGENT, "ada").await;
    let mut wanted = request(&wat);
    wanted.flow = Flow::M2m;
    world.provider.will(Reply::Error("invalid_client"));
    for _ in 0..20 {
        world.services.get_oauth2_token(&world.admin, wanted.clone()).await.unwrap_err();
    }
    assert_eq!(world.provider.seen("grant_type").len(), 1);
}

#[tokio::test]
async fn a_client_token_that_is_valid_is_served_although_the_client_cannot_be_prepared() {
    use agent_identity_core::port::SecretStore as _;
    use agent_identity_core::provider::SecretSource;
    use agent_identity_service::oauth2_provider::GetOauth2Provider;
    let world = World::with_calendar().await;
    let mut wanted = request(&world.wat(AGENT, "ada").await);
    wanted.flow = Flow::M2m;
    world.provider.will(Reply::Tokens("machine", 600));
    world.services.get_oauth2_token(&world.admin, wanted.clone()).await.unwrap();
    let get = GetOauth2Provider { name: ProviderName::parse(CALENDAR).unwrap() };
    let provider = world.services.get_oauth2_provider(world.admin.authorize(get).unwrap()).await.unwrap();
    let SecretSource::Managed(stored) = &provider.client_secret else { panic!("it is managed") };
    world.secrets.delete(&stored.arn).await.unwrap();
    world.clock.advance(Duration::from_secs(400));
    wanted.workload_token = world.wat(AGENT, "ada").await;
    assert!(world.services.get_oauth2_token(&world.admin, wanted).await.is_ok());
}

#[tokio::test]
async fn d24_a_provider_may_share_its_client_tokens_between_workloads() {
    use agent_identity_core::tag::SHARED_CLIENT_TOKENS;
    use agent_identity_service::oauth2_provider::CreateOauth2Provider;
    let world = World::new();
    let action = CreateOauth2Provider {
        name: ProviderName::parse(CALENDAR).unwrap(),
        config: config("https://provider.example", "client", Some("s3cret")),
        tags: std::iter::once((SHARED_CLIENT_TOKENS.to_owned(), "true".to_owned())).collect(),
    };
    world.services.create_oauth2_provider(world.admin.authorize(action).unwrap()).await.unwrap();
    world.provider.will(Reply::Tokens("machine", 3600));
    for name in ["agent-a", "agent-b"] {
        world.create_workload(name).await;
        let mut wanted = request(&world.wat(name, "ada").await);
        wanted.flow = Flow::M2m;
        world.services.get_oauth2_token(&world.admin, wanted).await.unwrap();
    }
    assert_eq!(world.provider.seen("grant_type").len(), 1);
}

#[tokio::test]
async fn d11_a_code_that_the_provider_put_off_was_sent_and_is_not_sent_again() {
    for reply in [Reply::Status(429), Reply::Error("temporarily_unavailable"), Reply::Error("slow_down")] {
        let (world, wat) = World::connected(600).await;
        let mut again = request(&wat);
        again.force_authentication = true;
        let session = world.consented(again).await;
        world.provider.will(reply);
        let (kind, text) = refused(world.complete(&session, "ada").await);
        assert!(kind == ErrorKind::AccessDenied && text.contains("asked to wait"), "{text}");
        assert!(text.contains("start again"), "{text}");
        assert_eq!(refused(world.complete(&session, "ada").await), (kind, text));
        assert_eq!(world.provider.seen("code").len(), 2, "one for each session");
        assert_eq!(world.token(&wat).await.unwrap(), "access-first");
    }
}

#[tokio::test]
async fn a_forced_consent_asks_for_what_was_granted_too() {
    let (world, wat) = World::connected(600).await;
    let mut forced = request(&wat);
    (forced.scopes, forced.force_authentication) = (scopes(&["write"]), true);
    let session = world.offered(forced).await;
    let location = world.services.begin_consent(&session, None).await.unwrap().location;
    assert!(
        location.expose().contains("scope=read+write") || location.expose().contains("scope=read%20write")
    );
}

#[tokio::test]
async fn resources_that_leave_no_room_for_tokens_are_refused_before_anybody_consents() {
    let world = World::with_calendar().await;
    let mut wanted = request(&world.wat(AGENT, "ada").await);
    wanted.resources =
        (0..20).map(|number| format!("https://api.example/{number}{}", "a".repeat(2000))).collect();
    let (kind, text) = refused(world.services.get_oauth2_token(&world.admin, wanted).await);
    assert!(kind == ErrorKind::Validation && text.contains("resources"), "{text}");
}

#[tokio::test]
async fn a_provider_that_cannot_be_reached_is_named_with_the_kind_of_trouble() {
    let world = World::with_calendar().await;
    let mut wanted = request(&world.wat(AGENT, "ada").await);
    wanted.flow = Flow::M2m;
    world.provider.will(Reply::NotSent);
    let (kind, text) = refused(world.services.get_oauth2_token(&world.admin, wanted).await);
    assert_eq!(kind, ErrorKind::Throttling);
    assert_eq!(text, "the provider `calendar` cannot be reached now: test; try again");
}

#[tokio::test]
async fn a_return_url_that_is_not_ascii_is_percent_encoded_on_the_way_back() {
    use agent_identity_core::workload::ReturnUrl;
    use agent_identity_service::workload::UpdateWorkload;
    let world = World::with_calendar().await;
    let url = ReturnUrl::parse("https://app.example/zur\u{fc}ck?a=\u{20ac}").unwrap();
    let update =
        UpdateWorkload { name: WorkloadName::parse(AGENT).unwrap(), return_urls: Some(vec![url.clone()]) };
    world.services.update_workload(world.admin.authorize(update).unwrap()).await.unwrap();
    let mut wanted = request(&world.wat(AGENT, "ada").await);
    wanted.return_url = Some(url);
    let session = world.offered(wanted).await;
    let (cookie, state) = world.departed(&session).await;
    let back = world.returned(&state, &cookie, Some("code")).await.unwrap();
    let expected = "https://app.example/zur%C3%BCck?a=%E2%82%AC&session_id=";
    assert!(back.expose().starts_with(expected), "{}", back.expose());
}
