//! What GitHub asks of every request, and who sees which repository.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use slipway_tests::github::{Level, NewRepository, NewToken};

use crate::github_stand_in::support::{ApiAnswer, OTHER, SHOP, StandInWorld};

#[tokio::test]
async fn a_request_without_a_user_agent_is_forbidden_and_not_in_json() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let answer = ApiAnswer::read(world.bare_request(Method::GET, "/app").send().await?).await?;
    assert_eq!(answer.status, 403);
    assert!(answer.text.contains("User-Agent header"), "{answer:?}");
    assert!(answer.body.is_null());
    Ok(())
}

#[tokio::test]
async fn an_unknown_api_version_is_a_bad_request_and_a_known_one_is_confirmed() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    for (version, status) in [("2026-03-10", 200), ("2022-11-28", 200), ("2019-01-01", 400)] {
        let request = world.request(Method::GET, &format!("/repos/{SHOP}")).bearer_auth(&token);
        let answer = ApiAnswer::read(request.header("x-github-api-version", version).send().await?).await?;
        assert_eq!(answer.status, status, "{version}");
        assert_eq!(answer.header("x-github-api-version-selected") == version, status == 200);
    }
    Ok(())
}

#[tokio::test]
async fn an_error_has_githubs_three_fields_and_a_request_id() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let answer = world.get(&format!("/repos/{SHOP}"), "ghp_nobody").await?;
    answer.is(401, "Bad credentials")?;
    assert_eq!(answer.body["status"], "401");
    assert_eq!(answer.body["documentation_url"], "https://docs.github.com/rest");
    assert!(!answer.header("x-github-request-id").is_empty());
    Ok(())
}

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_not_found() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.get("/repos", &token).await?.is(404, "Not Found")?;
    world.send(Method::PATCH, &format!("/repos/{SHOP}"), &token, &json!({})).await?.is(404, "Not Found")?;
    Ok(())
}

#[tokio::test]
async fn only_json_can_be_asked_for_and_sent() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    let request = world.request(Method::GET, &format!("/repos/{SHOP}")).bearer_auth(&token);
    assert_eq!(request.header("accept", "text/plain").send().await?.status(), 415);

    let path = format!("/repos/{SHOP}/deployments");
    let request = world.request(Method::POST, &path).bearer_auth(&token).body("ref=main");
    ApiAnswer::read(request.send().await?).await?.is(400, "Problems parsing JSON")?;
    world.send(Method::POST, &path, &token, &json!([])).await?.is(400, "Body should be a JSON object")?;
    Ok(())
}

#[tokio::test]
async fn names_of_repositories_ignore_case() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    let answer = world.get("/repos/ACME/shop.FRONT", &token).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body["full_name"], SHOP);
    Ok(())
}

#[tokio::test]
async fn a_renamed_repository_redirects_those_who_may_see_it() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.github.rename(SHOP, "store")?;

    let moved = world.get(&format!("/repos/{SHOP}"), &token).await?;
    moved.is(301, "Moved Permanently")?;
    let location = moved.header("location").to_owned();
    let path = location.split_once("/repositories/").map_or("", |(_, id)| id);
    let found = world.get(&format!("/repositories/{path}"), &token).await?;
    assert_eq!(found.body["full_name"], "acme/store");

    let put = world.send(Method::PUT, &format!("/repos/{SHOP}/actions/secrets/A"), &token, &json!({})).await?;
    assert_eq!(put.status, 307);
    let stranger = world.github.add_token(&NewToken::fine_grained(&[OTHER], &[]));
    world.get(&format!("/repos/{SHOP}"), &stranger).await?.is(404, "Not Found")?;
    Ok(())
}

#[tokio::test]
async fn a_private_repository_is_not_found_for_strangers_and_a_public_one_is_read_by_all() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let public = NewRepository { private: false, ..NewRepository::default() };
    world.github.add_repository("acme", "public", &public)?;
    let anonymous = |path: &str| world.request(Method::GET, path).send();
    assert_eq!(anonymous(&format!("/repos/{SHOP}")).await?.status(), 404);
    assert_eq!(anonymous("/repos/acme/public").await?.status(), 200);
    assert_eq!(anonymous("/repos/acme/public/actions/secrets").await?.status(), 401);
    Ok(())
}

#[tokio::test]
async fn a_fine_grained_token_reaches_its_repositories_with_its_permissions() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.github.add_token(&NewToken::fine_grained(&[SHOP], &[("contents", Level::Read)]));
    assert!(token.starts_with("github_pat_"));
    assert_eq!(world.get(&format!("/repos/{SHOP}"), &token).await?.status, 200);
    world.get(&format!("/repos/{OTHER}"), &token).await?.is(404, "Not Found")?;
    let refused = world.get(&format!("/repos/{SHOP}/actions/secrets"), &token).await?;
    refused.is(403, "Resource not accessible by personal access token")?;
    assert_eq!(refused.header("x-accepted-github-permissions"), "secrets=read");
    Ok(())
}

#[tokio::test]
async fn a_classic_token_shows_its_scopes_and_its_end() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = NewToken::classic(&["repo", "workflow"]).expires_in(Duration::from_secs(60));
    let token = world.github.add_token(&token);
    let answer = world.get(&format!("/repos/{SHOP}"), &token).await?;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-oauth-scopes"), "repo, workflow");
    assert!(answer.header("github-authentication-token-expiration").ends_with(" UTC"));

    world.github.set_clock_offset(61);
    world.get(&format!("/repos/{SHOP}"), &token).await?.is(401, "Bad credentials")?;
    let scopeless = world.github.add_token(&NewToken::classic(&["workflow"]));
    world.get(&format!("/repos/{SHOP}"), &scopeless).await?.is(404, "Not Found")?;
    Ok(())
}

#[tokio::test]
async fn the_log_tells_who_asked_and_never_a_token() -> anyhow::Result<()> {
    let world = StandInWorld::start()?;
    let token = world.token(&json!({})).await?;
    world.get(&format!("/repos/{SHOP}"), &token).await?;
    world.get(&format!("/repos/{SHOP}"), "ghp_nobody").await?;
    let log = world.github.requests();
    let callers: Vec<_> = log.iter().map(|request| request.caller.as_str()).collect();
    assert_eq!(callers, ["app", &format!("installation {}", world.installation), "refused"]);
    assert!(!format!("{log:?}").contains(&token));
    Ok(())
}

#[tokio::test]
async fn dropping_the_stand_in_frees_its_addresses() -> anyhow::Result<()> {
    let StandInWorld { github, .. } = StandInWorld::start()?;
    let addresses = [github.api_addr(), github.git_addr()];
    drop(github);
    for address in addresses {
        std::net::TcpListener::bind(address)?;
    }
    Ok(())
}
