//! What works, and what survives a fault.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use slipway_deploy::github::GithubClient;
use slipway_deploy::{DeployerConfig, GithubCredential};
use slipway_protocol::ErrorCode;
use slipway_tests::github::{FaultEffect, Level, NewToken, PlantedFault, StandInServer};

use crate::github_client::support::{ClientWorld, GRANTED, OTHER, SECRETS, SHOP, put, shop};

#[tokio::test]
async fn only_secrets_whose_value_changed_are_written() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let client = world.client(world.app())?;
    let mut digests = BTreeMap::new();
    let first = put(&client, &[("HOST", "192.0.2.1"), ("KEY", "hunter2")], &mut digests).await?;
    assert_eq!((first.changed.as_slice(), first.unchanged), (["HOST".to_owned(), "KEY".to_owned()].as_slice(), 0));
    assert_eq!(world.asked("GET", "/public-key"), 1);
    let requests = world.github.requests().len();

    // Nothing to do is nothing to ask.
    let second = put(&client, &[("HOST", "192.0.2.1"), ("KEY", "hunter2")], &mut digests).await?;
    assert_eq!((second.changed.len(), second.unchanged), (0, 2));
    assert_eq!(world.github.requests().len(), requests);

    let third = put(&client, &[("HOST", "192.0.2.1"), ("KEY", "hunter3")], &mut digests).await?;
    assert_eq!((third.changed.as_slice(), third.unchanged), (["KEY".to_owned()].as_slice(), 1));
    let expected = [("HOST", "192.0.2.1"), ("KEY", "hunter3")].map(|(n, v)| (n.to_owned(), v.to_owned()));
    assert_eq!(world.github.secrets(SHOP), BTreeMap::from(expected));
    assert_eq!(world.github.tokens_minted(), 1);
    Ok(())
}

#[tokio::test]
async fn every_kind_of_credential_writes_secrets() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let fine = NewToken::fine_grained(&[SHOP], &[("secrets", Level::Write)]);
    for credential in [world.app(), world.token(&NewToken::classic(&["repo"])), world.token(&fine)] {
        let client = world.client(credential)?;
        put(&client, &[("KEY", "ÄÖ'\"$\\\n")], &mut BTreeMap::new()).await?;
        assert_eq!(world.github.secrets(SHOP)["KEY"], "ÄÖ'\"$\\\n");
    }
    Ok(())
}

#[tokio::test]
async fn the_token_that_goes_to_a_server_fetches_this_repository_and_can_do_nothing_else() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    world.github.install_app("acme", &[OTHER], &GRANTED);
    let token = world.client(world.app())?.repository_token(&shop()).await?;
    let fetch = |repository: &str| {
        let url = format!("http://127.0.0.1:{}/{repository}.git", world.github.git_addr().port());
        let basic = STANDARD.encode(format!("x-access-token:{}", token.expose_secret()));
        Command::new("git")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "http.extraHeader")
            .env("GIT_CONFIG_VALUE_0", format!("Authorization: Basic {basic}"))
            .args(["ls-remote", &url])
            .output()
            .map(|output| output.status.success())
    };
    ensure!(fetch(SHOP)?, "the repository can't be fetched");
    ensure!(!fetch(OTHER)?, "another repository can be fetched");
    let error = put(&world.client(GithubCredential::Token(token.into()))?, &[("KEY", "x")], &mut BTreeMap::new()).await;
    assert_eq!(error.map_err(|e| e.code), Err(ErrorCode::GithubForbidden));
    Ok(())
}

#[tokio::test]
async fn a_refused_installation_token_is_replaced_once() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let client = world.client(world.app())?;
    put(&client, &[("KEY", "1")], &mut BTreeMap::new()).await?;
    // Installed anew: the token at hand stops working.
    world.github.delete_installation(world.installation);
    world.github.install_app("acme", &[SHOP], &GRANTED);
    put(&client, &[("KEY", "2")], &mut BTreeMap::new()).await?;
    assert_eq!(world.github.secrets(SHOP)["KEY"], "2");
    assert_eq!(world.github.tokens_minted(), 2);
    Ok(())
}

#[tokio::test]
async fn a_public_key_that_changes_between_two_writes_is_fetched_again() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let client = world.client(world.app())?;
    let slow = FaultEffect::Slow(Duration::from_secs(2));
    world.github.plant(PlantedFault::next(StandInServer::Api, &format!("{SECRETS}A"), slow).method(Method::PUT));
    let mut digests = BTreeMap::new();
    let rotate = async {
        while world.github.secret_writes().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        world.github.rotate_public_key(SHOP);
    };
    let (written, ()) = tokio::join!(put(&client, &[("A", "1"), ("B", "2"), ("C", "3")], &mut digests), rotate);
    assert_eq!(written?.changed, ["A", "B", "C"]);
    assert_eq!(world.asked("GET", "/public-key"), 2);
    assert_eq!(world.asked("PUT", "/B"), 2);
    assert_eq!(world.github.secrets(SHOP)["C"], "3");
    Ok(())
}

#[tokio::test]
async fn a_renamed_repository_is_found_by_its_old_name() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    world.github.rename(SHOP, "New.Shop")?;
    let client = world.client(world.token(&NewToken::classic(&["repo"])))?;
    put(&client, &[("KEY", "value")], &mut BTreeMap::new()).await?;
    assert_eq!(world.github.secrets("acme/New.Shop")["KEY"], "value");
    assert_eq!(world.github.secret_writes().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_short_fault_is_ridden_out_wherever_it_hits() -> anyhow::Result<()> {
    let faults = [
        FaultEffect::Status(500),
        FaultEffect::Status(502),
        FaultEffect::Status(503),
        FaultEffect::Cut,
        FaultEffect::LostAnswer,
        FaultEffect::CutBody(5),
    ];
    let places = ["/repos/acme/Shop.Front/installation", "/app/installations", SECRETS];
    let runs = faults.iter().flat_map(|effect| places.map(|place| (effect.clone(), place)));
    let runs = runs.map(|(effect, place)| async move {
        let world = ClientWorld::start()?;
        world.github.plant(PlantedFault::next(StandInServer::Api, place, effect.clone()));
        let client = world.client(world.app())?;
        put(&client, &[("KEY", "value")], &mut BTreeMap::new()).await.context(format!("{effect:?} at {place}"))?;
        ensure!(world.github.secrets(SHOP)["KEY"] == "value");
        anyhow::Ok(())
    });
    futures_util::future::try_join_all(runs).await?;
    Ok(())
}

#[tokio::test]
async fn what_was_written_before_a_failure_is_not_written_again() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let client = world.client(world.app())?;
    let outage = PlantedFault::next(StandInServer::Api, &format!("{SECRETS}C"), FaultEffect::Status(503)).times(3);
    world.github.plant(outage);
    let desired = [("A", "1"), ("B", "2"), ("C", "3"), ("D", "4")];
    let mut digests = BTreeMap::new();
    let error = put(&client, &desired, &mut digests).await.err().context("an outage")?;
    assert_eq!(error.code, ErrorCode::GithubUnavailable);
    assert_eq!(digests.keys().collect::<Vec<_>>(), ["A", "B"]);
    let again = put(&client, &desired, &mut digests).await?;
    assert_eq!((again.changed.as_slice(), again.unchanged), (["C".to_owned(), "D".to_owned()].as_slice(), 2));
    Ok(())
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_mistaken_for_the_old_value() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let client = world.client(world.app())?;
    let mut digests = BTreeMap::new();
    put(&client, &[("KEY", "old")], &mut digests).await?;
    world
        .github
        .plant(PlantedFault::next(StandInServer::Api, SECRETS, FaultEffect::LostAnswer).method(Method::PUT).times(3));
    put(&client, &[("KEY", "new")], &mut digests).await.err().context("lost answers")?;
    // Back to the old value, which GitHub has no more.
    put(&client, &[("KEY", "old")], &mut digests).await?;
    assert_eq!(world.github.secrets(SHOP)["KEY"], "old");
    Ok(())
}

#[tokio::test]
async fn a_private_authority_is_trusted_when_its_file_is_given_and_only_then() -> anyhow::Result<()> {
    let world = ClientWorld::start_with_tls()?;
    put(&world.client(world.app())?, &[("KEY", "value")], &mut BTreeMap::new()).await?;
    let config = DeployerConfig { ca_file: None, ..world.config(world.app()) };
    let error = put(&GithubClient::new(&config)?, &[("KEY", "value")], &mut BTreeMap::new()).await;
    let error = error.err().context("an unknown authority")?;
    assert_eq!(error.code, ErrorCode::GithubUnavailable);
    ensure!(error.message.contains("certificate"), "{error}");
    Ok(())
}
