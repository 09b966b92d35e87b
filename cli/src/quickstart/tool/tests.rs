//! The protected API over real sockets, with tokens of a real provider.

use std::time::Duration;

use axum::http::Method;

use super::super::idp::tests::{Answer, World, send};
use super::*;

struct Api {
    world: World,
    api: ProtectedApi,
}

impl Api {
    async fn start() -> Self {
        let world = World::start().await;
        let api = ProtectedApi::start(Config {
            verifier: world.idp.verifier(),
            audience: "https://calendar.example".into(),
            calendar_scope: "calendar.read".into(),
            api_key: Secret::new("weather-key"),
        })
        .await
        .unwrap();
        Self { world, api }
    }

    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        send(Method::GET, &format!("{}{path}", self.api.origin()), headers, String::new()).await
    }

    async fn calendar(&self, token: &str) -> Answer {
        self.get("/calendar", &[("authorization", &format!("Bearer {token}"))]).await
    }
}

#[tokio::test]
async fn the_calendar_is_that_of_the_user_in_the_token() {
    let api = Api::start().await;
    let tokens = api.world.user_tokens().await;
    let answer = api.calendar(tokens["access_token"].as_str().unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["user"], "ada");
    let machine = api.calendar(&api.world.machine_token("calendar.read").await).await;
    assert_eq!(machine.json()["user"], "app");
}

#[tokio::test]
async fn without_a_token_the_calendar_says_what_it_wants_and_no_more() {
    let api = Api::start().await;
    for headers in [vec![], vec![("authorization", "Basic YTpi")], vec![("authorization", "Bearer")]] {
        let answer = api.get("/calendar", &headers).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"calendar\"");
    }
}

#[tokio::test]
async fn an_expired_foreign_or_id_token_does_not_open_the_calendar() {
    let api = Api::start().await;
    let tokens = api.world.user_tokens().await;
    let access_token = tokens["access_token"].as_str().unwrap();
    let foreign = World::start().await.machine_token("calendar.read").await;
    for token in [tokens["id_token"].as_str().unwrap(), "made-up", &foreign] {
        let answer = api.calendar(token).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""));
    }
    assert_eq!(api.calendar(access_token).await.status, StatusCode::OK);
    api.world.clock.forward(Duration::from_secs(60));
    let answer = api.calendar(access_token).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header("www-authenticate").contains("the token expired"));
}

#[tokio::test]
async fn a_token_for_another_audience_or_scope_does_not_open_the_calendar() {
    let api = Api::start().await;
    let answer = api.calendar(&api.world.machine_token("mail.read").await).await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.header("www-authenticate").contains("error=\"insufficient_scope\""));

    let other = ProtectedApi::start(Config {
        verifier: api.world.idp.verifier(),
        audience: "https://another.example".into(),
        calendar_scope: "calendar.read".into(),
        api_key: Secret::new("k"),
    })
    .await
    .unwrap();
    let token = format!("Bearer {}", api.world.machine_token("calendar.read").await);
    let url = format!("{}/calendar", other.origin());
    let answer = send(Method::GET, &url, &[("authorization", &token)], String::new()).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.header("www-authenticate").contains("another audience"));
}

#[tokio::test]
async fn the_weather_wants_its_key() {
    let api = Api::start().await;
    assert_eq!(api.get("/weather", &[("x-api-key", "weather-key")]).await.status, StatusCode::OK);
    for headers in [vec![], vec![("x-api-key", "guess")], vec![("x-api-key", "")]] {
        let answer = api.get("/weather", &headers).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.header("www-authenticate").starts_with("ApiKey "));
    }
}
