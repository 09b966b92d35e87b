//! Who is asked, how often, and what happens when it does not answer.

use std::time::Duration;

use super::*;
use crate::opaque::gate::{BURST, IN_FLIGHT, REFILL};
use crate::opaque::known::REFUSAL_LIFE;
use crate::opaque::{ANSWER_LIFE, PATIENCE};

fn ada() -> Result<String, &'static str> {
    Ok("ada".to_owned())
}

#[tokio::test]
async fn an_answer_is_good_for_a_moment_and_a_revoked_token_ends_with_it() {
    let world = World::new().await;
    for _ in 0..50 {
        assert_eq!(world.user_of(TOKEN).await, ada());
    }
    assert_eq!(world.endpoint.take_asked(), 1);
    world.endpoint.says(TOKEN, 200, r#"{"active":false}"#);
    world.clock.advance(ANSWER_LIFE - Duration::from_millis(1));
    assert_eq!((world.user_of(TOKEN).await, world.endpoint.take_asked()), (ada(), 0));
    world.clock.advance(Duration::from_millis(1));
    for _ in 0..50 {
        assert_eq!(world.user_of(TOKEN).await, Err("inactive"));
    }
    assert_eq!(world.endpoint.take_asked(), 1);
    world.clock.advance(REFUSAL_LIFE);
    assert_eq!((world.user_of(TOKEN).await, world.endpoint.take_asked()), (Err("inactive"), 1));
}

#[tokio::test]
async fn no_answer_outlives_its_token() {
    let world = World::new().await;
    let end = world.clock.now().as_seconds() + 10;
    world.endpoint.says(TOKEN, 200, world.active(&json!({"exp": end})).to_string());
    assert_eq!(world.user_of(TOKEN).await, ada());
    world.endpoint.says(TOKEN, 200, r#"{"active":false}"#);
    world.clock.advance(Duration::from_secs(9));
    assert_eq!(world.user_of(TOKEN).await, ada());
    world.clock.advance(Duration::from_secs(1));
    assert_eq!((world.user_of(TOKEN).await, world.endpoint.take_asked()), (Err("inactive"), 2));
}

#[tokio::test]
async fn many_callers_with_one_token_cost_one_request_and_one_that_leaves_harms_none() {
    let world = Arc::new(World::new().await);
    let closed = world.endpoint.gate.write().await;
    let ask = || {
        let world = Arc::clone(&world);
        tokio::spawn(async move { world.user_of(TOKEN).await })
    };
    let first = ask();
    tokio::task::yield_now().await;
    let others: Vec<_> = (0..100).map(|_| ask()).collect();
    tokio::task::yield_now().await;
    first.abort();
    assert!(first.await.is_err());
    drop(closed);
    for other in others {
        assert_eq!(other.await.unwrap(), ada());
    }
    assert_eq!(world.endpoint.take_asked(), 1);
}

#[tokio::test]
async fn an_answer_is_for_one_state_of_one_authorizer_of_one_workload() {
    let mut world = World::new().await;
    assert_eq!((world.user_of(TOKEN).await, world.endpoint.take_asked()), (ada(), 1));
    let changed = Authorizer { version: 2, ..world.authorizer.clone() };
    let mut renamed = world.authorizer.clone();
    renamed.name = AuthorizerName::parse("others").unwrap();
    seal_secret(&*world.keys, &mut renamed).await;
    // Deleted and made anew under its name.
    let mut again = world.authorizer.clone();
    seal_secret(&*world.keys, &mut again).await;
    for authorizer in [changed, renamed, again] {
        world.authorizer = authorizer;
        assert_eq!((world.user_of(TOKEN).await, world.endpoint.take_asked()), (ada(), 1));
    }
    let profile = world.authorizer.profile();
    let other = Id::from_bytes([8; 16]);
    let said = world.introspector.introspect(&Secret::new(TOKEN), other, &world.authorizer, &profile).await;
    assert_eq!(code(&said.unwrap_err()), "unavailable", "of another workload the key does not even unwrap");
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_refuses_nobody_and_is_asked_again() {
    let world = World::new().await;
    world.endpoint.is_down.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!((world.user_of(TOKEN).await, world.endpoint.take_asked()), (Err("unavailable"), 1));
    }
    world.endpoint.is_down.store(false, Ordering::SeqCst);
    assert_eq!(world.user_of(TOKEN).await, ada());
    world.endpoint.is_down.store(true, Ordering::SeqCst);
    assert_eq!(world.user_of(TOKEN).await, ada(), "what it said stays good for its time");
    world.clock.advance(ANSWER_LIFE);
    assert_eq!(world.user_of(TOKEN).await, Err("unavailable"), "and no longer");
}

#[tokio::test(start_paused = true)]
async fn an_issuer_that_hangs_is_given_up() {
    let world = World::new().await;
    let closed = world.endpoint.gate.write().await;
    let began = tokio::time::Instant::now();
    assert_eq!(world.user_of(TOKEN).await, Err("unavailable"));
    assert_eq!(began.elapsed(), PATIENCE);
    drop(closed);
    assert_eq!(world.user_of(TOKEN).await, ada());
}

#[tokio::test]
async fn a_flood_of_invented_tokens_costs_an_endpoint_little_and_a_known_user_nothing() {
    let world = World::new().await;
    assert_eq!((world.user_of(TOKEN).await, world.endpoint.take_asked()), (ada(), 1));
    let mut codes: HashMap<_, usize> = HashMap::new();
    for number in 0..1000 {
        *codes.entry(world.user_of(&format!("invented-{number}")).await.unwrap_err()).or_default() += 1;
    }
    let burst = usize::try_from(BURST).unwrap();
    assert_eq!(codes, HashMap::from([("inactive", burst), ("unavailable", 1000 - burst)]));
    assert_eq!(world.endpoint.take_asked(), burst);
    world.clock.advance(ANSWER_LIFE);
    for number in 0..1000 {
        let _ = world.user_of(&format!("more-{number}")).await;
    }
    assert_eq!(world.endpoint.take_asked(), burst, "30 s fill the bucket, and no more");
    assert_eq!((world.user_of(TOKEN).await, world.endpoint.take_asked()), (ada(), 1));
    // Somebody new waits until there is a drop.
    world.endpoint.says("new", 200, world.active(&json!({})).to_string());
    assert_eq!(world.user_of("new").await, Err("unavailable"));
    world.clock.advance(Duration::from_secs(1) / REFILL);
    assert_eq!(world.user_of("new").await, ada());
}

#[tokio::test]
async fn genuine_tokens_come_in_any_number_and_few_are_asked_about_at_once() {
    let world = Arc::new(World::new().await);
    let closed = world.endpoint.gate.write().await;
    let asked: Vec<_> = (0..40)
        .map(|number| {
            let token = format!("genuine-{number}");
            world.endpoint.says(&token, 200, world.active(&json!({})).to_string());
            let world = Arc::clone(&world);
            tokio::spawn(async move { world.user_of(&token).await })
        })
        .collect();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.endpoint.bodies.lock().unwrap().len(), IN_FLIGHT);
    drop(closed);
    for answer in asked {
        assert_eq!(answer.await.unwrap(), ada());
    }
    for number in 40..500 {
        let token = format!("genuine-{number}");
        world.endpoint.says(&token, 200, world.active(&json!({})).to_string());
        assert_eq!(world.user_of(&token).await, ada(), "{number}");
    }
}

#[tokio::test]
async fn what_cannot_be_a_bearer_token_is_shown_to_nobody() {
    let world = World::new().await;
    for token in ["", "a b", "a&token=b", "a\n", "é", "a=b", &"x".repeat(16 * 1024 + 1)] {
        assert_eq!(code(&world.ask(token).await.unwrap_err()), "structure", "{token}");
    }
    assert_eq!(world.endpoint.take_asked(), 0);
    assert_eq!(world.user_of(&"x".repeat(16 * 1024)).await, Err("inactive"));
}

#[tokio::test]
async fn a_secret_that_was_moved_to_another_endpoint_or_client_is_sent_nowhere() {
    let mut world = World::new().await;
    let whole = world.authorizer.clone();
    let introspection = json!({"endpoint": "https://evil.example/introspect", "clientId": "agents"});
    world.authorizer.options.introspection = Some(serde_json::from_value(introspection).unwrap());
    assert_eq!(world.user_of(TOKEN).await, Err("unavailable"));
    let introspection = json!({"endpoint": format!("{ISSUER}/introspect"), "clientId": "others"});
    world.authorizer.options.introspection = Some(serde_json::from_value(introspection).unwrap());
    assert_eq!(world.user_of(TOKEN).await, Err("unavailable"));
    world.authorizer = Authorizer { introspection_secret: None, ..whole };
    assert_eq!(world.user_of(TOKEN).await, Err("unavailable"));
    assert_eq!(world.endpoint.take_asked(), 0);
}
