//! Drills in moved time: what users notice of an outage, and how often tokens of each life are refreshed.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::sync::Arc;
use std::time::Duration;

use agent_identity_service::Services;
use world::{AGENT, Reply, World};

async fn tick(services: &Arc<Services>) {
    services.tick(|work| tokio::spawn(work)).await.unwrap();
    // What the tick has begun ends: nothing here waits for time.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Lets a connection of tokens that live so many seconds be kept by a tick and a read every `step` seconds, a tick a minute at most, while the
/// provider answers as `is_up` says of the second: how often it was asked, and which reads failed.
async fn live(life: u64, seconds: u64, step: u64, is_up: impl Fn(u64) -> bool) -> (usize, Vec<u64>) {
    let (world, _) = World::connected(life).await;
    let (mut failed, mut second) = (Vec::new(), 0);
    while second < seconds {
        second += step;
        world.clock.advance(Duration::from_secs(step));
        // What was not asked for is not answered later.
        world.provider.forget();
        let name: &'static str = format!("{second}").leak();
        for _ in 0..4 {
            world.provider.will(if is_up(second) { Reply::Tokens(name, life) } else { Reply::Status(503) });
        }
        if second / 60 > (second - step) / 60 {
            tick(&world.services).await;
        }
        let wat = world.wat(AGENT, "ada").await;
        if world.token(&wat).await.is_err() {
            failed.push(second);
        }
    }
    // The first token came with the consent.
    (world.provider.seen("refresh_token").len(), failed)
}

#[tokio::test]
async fn an_outage_of_ten_minutes_is_no_error_for_anybody_whose_tokens_live_an_hour() {
    // Whenever it begins in the life of the token.
    for begins in (0..3600).step_by(300) {
        let (_, failed) = live(3600, 5400, 30, |second| !(begins..begins + 600).contains(&second)).await;
        assert_eq!(failed, [0; 0], "an outage from second {begins} on");
    }
}

#[tokio::test]
async fn tokens_of_each_life_are_refreshed_no_more_often_than_their_margin_says() {
    for life in [30, 120, 900, 1800, 3600, 4 * 3600, 24 * 3600] {
        let seconds = (5 * life).max(1800);
        // Reads and ticks at least as often as the margin is long.
        let step = if life > 4 * 3600 { 600 } else { (life / 6).clamp(5, 60) };
        let (refreshes, failed) = live(life, seconds, step, |_| true).await;
        assert_eq!(failed, [0; 0], "a life of {life} s");
        // Half of a short life, and all but the margin of a long one.
        let between = life - (life / 2).min(15 * 60);
        let bound = seconds / between + 1;
        assert!(
            (bound / 2..=bound).contains(&(refreshes as u64)),
            "{refreshes} refreshes in {seconds} s of a life of {life} s: {bound}"
        );
    }
}
