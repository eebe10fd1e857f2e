//! Rate limits, and faults that a test plants.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use slipway_tests::github::{FaultEffect, PlantedFault, RateLimits, StandInServer};

use crate::github_stand_in::support::{ApiAnswer, SHOP, StandInWorld, now};

fn repository() -> String {
    format!("/repos/{SHOP}")
}

#[tokio::test]
async fn the_rate_limit_counts_down_in_the_headers() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    for remaining in ["4999", "4998", "4997"] {
        let answer = world.get(&repository(), &token).await?;
        assert_eq!(answer.header("x-ratelimit-limit"), "5000");
        assert_eq!(answer.header("x-ratelimit-remaining"), remaining);
        assert_eq!(answer.header("x-ratelimit-resource"), "core");
        let reset: i64 = answer.header("x-ratelimit-reset").parse()?;
        assert!(reset > now() + 3500 && reset <= now() + 3600);
    }
    Ok(())
}

#[tokio::test]
async fn an_exhausted_limit_refuses_until_its_window_ends() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.github.set_limits(RateLimits { hourly: 2, ..RateLimits::default() });
    for _ in 0..2 {
        assert_eq!(world.get(&repository(), &token).await?.status, 200);
    }
    let refused = world.get(&repository(), &token).await?;
    refused.is(403, &format!("API rate limit exceeded for installation ID {}.", world.installation))?;
    assert_eq!(refused.header("x-ratelimit-remaining"), "0");
    assert_eq!(refused.header("retry-after"), "");

    let reset: i64 = refused.header("x-ratelimit-reset").parse()?;
    world.github.set_clock_offset(reset - now() - 5);
    assert_eq!(world.get(&repository(), &token).await?.status, 403);
    Ok(())
}

#[tokio::test]
async fn an_installation_can_be_left_with_no_requests() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.github.exhaust_installation(world.installation);
    assert_eq!(world.get(&repository(), &token).await?.status, 403);
    // The app itself is counted apart.
    assert_eq!(world.get("/app", &world.good_jwt()?).await?.status, 200);
    world.github.set_clock_offset(61);
    assert_eq!(world.get(&repository(), &token).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_secondary_limit_says_when_to_come_again() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    for (status, retry_after) in [(429, Some(7)), (403, None)] {
        let effect = FaultEffect::SecondaryLimit { status, retry_after };
        world.github.plant(PlantedFault::next(StandInServer::Api, "/repos/acme", effect));
        let answer = world.get(&repository(), &token).await?;
        assert_eq!(answer.status, status);
        assert!(answer.message().starts_with("You have exceeded a secondary rate limit"), "{answer:?}");
        assert_eq!(answer.header("retry-after"), retry_after.map(|seconds| seconds.to_string()).unwrap_or_default());
        assert_ne!(answer.header("x-ratelimit-remaining"), "0");
    }
    assert_eq!(world.get(&repository(), &token).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn too_many_writes_in_a_minute_hit_the_secondary_limit() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.github.set_limits(RateLimits { writes_per_minute: 2, ..RateLimits::default() });
    assert_eq!(world.put_secret(SHOP, "A", "1", &token).await?.status, 201);
    assert_eq!(world.put_secret(SHOP, "B", "2", &token).await?.status, 201);
    let refused = world.put_secret(SHOP, "C", "3", &token).await?;
    assert_eq!(refused.status, 403);
    assert!(refused.header("retry-after").parse::<u64>()? <= 60);
    assert_eq!(world.get(&repository(), &token).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_fault_hits_as_often_as_told_and_only_what_it_matches() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    let fault =
        PlantedFault::next(StandInServer::Api, "/repos/", FaultEffect::Status(502)).method(Method::GET).times(2);
    world.github.plant(fault);
    let secret = json!({});
    assert_eq!(
        world.send(Method::PUT, &format!("{}/actions/secrets/A", repository()), &token, &secret).await?.status,
        422
    );
    world.get(&repository(), &token).await?.is(502, "Server Error")?;
    assert_eq!(world.get(&repository(), &token).await?.status, 502);
    assert_eq!(world.get(&repository(), &token).await?.status, 200);

    world.github.plant(PlantedFault::next(StandInServer::Api, "/", FaultEffect::Status(503)).times(usize::MAX));
    let page = world.get(&repository(), &token).await?;
    assert_eq!(page.status, 503);
    assert_eq!(page.body, Value::Null);
    world.github.clear_faults();
    assert_eq!(world.get(&repository(), &token).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn a_cut_connection_does_nothing_and_a_lost_answer_has_done_it() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    let path = format!("{}/actions/secrets/", repository());
    for (effect, stored) in [(FaultEffect::Cut, 0), (FaultEffect::LostAnswer, 1)] {
        world.github.plant(PlantedFault::next(StandInServer::Api, &path, effect).method(Method::PUT));
        assert!(world.put_secret(SHOP, "NAME", "value", &token).await.is_err());
        assert_eq!(world.github.secrets(SHOP).len(), stored);
        assert_eq!(world.github.requests().last().map(|request| request.status), Some(0));
    }
    Ok(())
}

#[tokio::test]
async fn an_answer_can_break_off_or_be_slow() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.github.plant(PlantedFault::next(StandInServer::Api, "/repos/", FaultEffect::CutBody(10)));
    let response = world.request(Method::GET, &repository()).bearer_auth(&token).send().await;
    let read = match response {
        Ok(response) => ApiAnswer::read(response).await,
        Err(error) => Err(error.into()),
    };
    assert!(read.is_err(), "{read:?}");

    let delay = Duration::from_millis(300);
    world.github.plant(PlantedFault::next(StandInServer::Api, "/repos/", FaultEffect::Slow(delay)));
    let began = Instant::now();
    assert_eq!(world.get(&repository(), &token).await?.status, 200);
    assert!(began.elapsed() >= delay);
    Ok(())
}
