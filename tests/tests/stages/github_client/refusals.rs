//! Everything that GitHub can refuse, each with its code.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use reqwest::Method;
use slipway_deploy::GithubCredential;
use slipway_protocol::ErrorCode;
use slipway_tests::github::{FaultEffect, Level, NewToken, OrganizationPolicy, PlantedFault, StandInServer};

use crate::github_client::support::{ClientWorld, OTHER, SECRETS, SHOP, put, put_into};

/// One way in which GitHub can refuse.
struct Refusal {
    name: &'static str,
    credential: fn(&ClientWorld) -> GithubCredential,
    /// Before the first request.
    arrange: fn(&ClientWorld),
    code: ErrorCode,
    says: &'static str,
    /// Seconds, from and to.
    wait: Option<(u64, u64)>,
}

const REFUSALS: &[Refusal] = &[
    Refusal {
        name: "the App isn't installed",
        credential: ClientWorld::app,
        arrange: |world| world.github.delete_installation(world.installation),
        code: ErrorCode::GithubNotInstalled,
        says: "find the App's installation on acme/Shop.Front (404): Not Found",
        wait: None,
    },
    Refusal {
        name: "the installation is suspended",
        credential: ClientWorld::app,
        arrange: |world| world.github.suspend_installation(world.installation, true),
        code: ErrorCode::GithubSuspended,
        says: "suspended",
        wait: None,
    },
    Refusal {
        name: "the installation lacks a permission",
        credential: ClientWorld::app,
        arrange: |world| {
            world.github.delete_installation(world.installation);
            world.github.install_app("acme", &[SHOP], &[("contents", Level::Read), ("secrets", Level::Read)]);
        },
        code: ErrorCode::GithubForbidden,
        says: "it needs secrets: write",
        wait: None,
    },
    Refusal {
        name: "no App has this id",
        credential: |world| GithubCredential::App {
            id: "1".to_owned(),
            private_key: world.github.app_private_key_pem().into(),
        },
        arrange: |_| {},
        code: ErrorCode::GithubCredentialRefused,
        says: "no GitHub App has this id",
        wait: None,
    },
    Refusal {
        name: "a token is unknown",
        credential: |_| GithubCredential::Token("ghp_000000000000000000000000000000000000".into()),
        arrange: |_| {},
        code: ErrorCode::GithubCredentialRefused,
        says: "(401): Bad credentials",
        wait: None,
    },
    Refusal {
        name: "a fine-grained token may only read",
        credential: |world| world.token(&NewToken::fine_grained(&[SHOP], &[("secrets", Level::Read)])),
        arrange: |_| {},
        code: ErrorCode::GithubForbidden,
        says: "Resource not accessible by personal access token; it needs secrets: write",
        wait: None,
    },
    Refusal {
        name: "a token doesn't see the repository",
        credential: |world| world.token(&NewToken::fine_grained(&[OTHER], &[("secrets", Level::Write)])),
        arrange: |_| {},
        code: ErrorCode::RepositoryNotFound,
        says: "(404): Not Found",
        wait: None,
    },
    Refusal {
        name: "the organization lets in only addresses on its list",
        credential: ClientWorld::app,
        arrange: |world| world.github.set_policy("acme", Some(OrganizationPolicy::IpAllowList(Vec::new()))),
        code: ErrorCode::GithubIpNotAllowed,
        says: "the `acme` organization has an IP allow list enabled",
        wait: None,
    },
    Refusal {
        name: "the organization wants tokens authorized for single sign-on",
        credential: |world| world.token(&NewToken::classic(&["repo"])),
        arrange: |world| world.github.set_policy("acme", Some(OrganizationPolicy::SingleSignOn)),
        code: ErrorCode::GithubSsoRequired,
        says: "SAML enforcement",
        wait: None,
    },
    Refusal {
        name: "the repository has as many secrets as GitHub allows",
        credential: ClientWorld::app,
        arrange: |world| (0..100).for_each(|at| world.github.set_secret(SHOP, &format!("S{at}"), "x")),
        code: ErrorCode::GithubSecretsFull,
        says: "has 100 Actions secrets already, and KEY isn't one of them",
        wait: None,
    },
    Refusal {
        name: "the repository is archived",
        credential: ClientWorld::app,
        arrange: |world| world.github.archive(SHOP, true),
        code: ErrorCode::GithubArchived,
        says: "write the secret KEY of acme/Shop.Front (403): Repository was archived",
        wait: None,
    },
    Refusal {
        name: "the hourly limit is used up",
        credential: ClientWorld::app,
        arrange: |world| world.github.exhaust_installation(world.installation),
        code: ErrorCode::GithubRateLimited,
        says: "GitHub's rate limit is used up",
        wait: Some((55, 61)),
    },
    Refusal {
        name: "a secondary limit says how long to wait",
        credential: ClientWorld::app,
        arrange: |world| plant_limit(world, 403, Some(7)),
        code: ErrorCode::GithubRateLimited,
        says: "it allows more in 7 s",
        wait: Some((7, 7)),
    },
    Refusal {
        name: "a secondary limit doesn't say how long to wait",
        credential: ClientWorld::app,
        arrange: |world| plant_limit(world, 403, None),
        code: ErrorCode::GithubRateLimited,
        says: "it allows more in 60 s",
        wait: Some((60, 60)),
    },
    Refusal {
        name: "a secondary limit comes as 429",
        credential: ClientWorld::app,
        arrange: |world| plant_limit(world, 429, None),
        code: ErrorCode::GithubRateLimited,
        says: "it allows more in 60 s",
        wait: Some((60, 60)),
    },
    Refusal {
        name: "GitHub is down",
        credential: ClientWorld::app,
        arrange: |world| plant(world, FaultEffect::Status(503)),
        code: ErrorCode::GithubUnavailable,
        says: "(tried 3 times): 503 Service Unavailable",
        wait: None,
    },
    Refusal {
        name: "GitHub can't be reached",
        credential: ClientWorld::app,
        arrange: |world| plant(world, FaultEffect::Cut),
        code: ErrorCode::GithubUnavailable,
        says: "(tried 3 times): ",
        wait: None,
    },
    Refusal {
        name: "GitHub finds a request invalid",
        credential: ClientWorld::app,
        arrange: |world| {
            let fault = PlantedFault::next(StandInServer::Api, SECRETS, FaultEffect::Status(422)).method(Method::PUT);
            world.github.plant(fault.times(usize::MAX));
        },
        code: ErrorCode::GithubRefused,
        says: "write the secret KEY of acme/Shop.Front (422)",
        wait: None,
    },
];

fn plant(world: &ClientWorld, effect: FaultEffect) {
    world.github.plant(PlantedFault::next(StandInServer::Api, "/", effect).times(usize::MAX));
}

fn plant_limit(world: &ClientWorld, status: u16, retry_after: Option<u64>) {
    world.github.plant(PlantedFault::next(
        StandInServer::Api,
        SECRETS,
        FaultEffect::SecondaryLimit { status, retry_after },
    ));
}

#[tokio::test]
async fn every_refusal_has_its_code_and_says_what_happened() -> anyhow::Result<()> {
    for row in REFUSALS {
        let world = ClientWorld::start()?;
        let client = world.client((row.credential)(&world))?;
        (row.arrange)(&world);
        let mut digests = BTreeMap::from([("KEY".to_owned(), "of an older value".to_owned())]);
        let error = put(&client, &[("KEY", "hunter2")], &mut digests).await.err().context(row.name)?;
        ensure!(error.code == row.code, "{}: {error}", row.name);
        ensure!(error.message.contains(row.says), "{}: {error}", row.name);
        let wait = error.retry_after.map(|wait| wait.as_secs());
        let expected = match (wait, row.wait) {
            (None, None) => true,
            (Some(wait), Some((from, to))) => (from..=to).contains(&wait),
            _ => false,
        };
        ensure!(expected, "{}: wait {wait:?}", row.name);
        ensure!(!format!("{error:?}").contains("hunter2"), "{}: {error:?}", row.name);
        ensure!(digests.is_empty() && world.github.secret_writes().is_empty(), "{}", row.name);
    }
    Ok(())
}

#[tokio::test]
async fn a_permission_or_installation_withdrawn_later_is_noticed_with_a_token_in_hand() -> anyhow::Result<()> {
    type Withdraw = fn(&ClientWorld);
    let suspend: Withdraw = |world| world.github.suspend_installation(world.installation, true);
    let uninstall: Withdraw = |world| world.github.delete_installation(world.installation);
    let withdrawals = [(suspend, ErrorCode::GithubSuspended), (uninstall, ErrorCode::GithubNotInstalled)];
    for (withdraw, code) in withdrawals {
        let world = ClientWorld::start()?;
        let client = world.client(world.app())?;
        put(&client, &[("KEY", "1")], &mut BTreeMap::new()).await?;
        withdraw(&world);
        let error = put(&client, &[("KEY", "2")], &mut BTreeMap::new()).await.err().context("withdrawn")?;
        assert_eq!(error.code, code, "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_refusal_that_cannot_pass_is_asked_for_once() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let unknown = GithubCredential::Token("ghp_000000000000000000000000000000000000".into());
    put(&world.client(unknown)?, &[("KEY", "x")], &mut BTreeMap::new()).await.err().context("unknown")?;
    assert_eq!(world.github.requests().len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_repository_outside_the_installation_is_not_installed() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let client = world.client(world.app())?;
    let error = put_into(&client, OTHER, &[("KEY", "x")], &mut BTreeMap::new()).await.err().context("outside")?;
    assert_eq!(error.code, ErrorCode::GithubNotInstalled);
    Ok(())
}
