//! Deployments on commits' pages, as the worker's announcer makes them.

use slipway_deploy::github::GithubDeploymentState;
use slipway_protocol::{DeploymentId, ErrorCode};
use slipway_tests::github::Level;

use crate::github_client::support::{ClientWorld, SHOP, shop};

const GRANTED: [(&str, Level); 2] = [("contents", Level::Read), ("deployments", Level::Write)];

#[tokio::test]
async fn a_deployment_is_made_once_and_told_in_githubs_words() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    world.github.delete_installation(world.installation);
    world.github.install_app("acme", &[SHOP], &GRANTED);
    let client = world.client(world.app())?;
    let (commit, id) = (world.commit()?, DeploymentId(uuid::Uuid::new_v4()));
    // A check that has failed is none of ours to judge.
    world.github.report_check(SHOP, commit.as_str(), "ci", "failure");
    let number = client.create_deployment(&shop(), &commit, "vps-1", id, false).await?;
    assert_eq!(client.create_deployment(&shop(), &commit, "vps-1", id, true).await?, number, "it's found again");
    let other = DeploymentId(uuid::Uuid::new_v4());
    assert_ne!(client.create_deployment(&shop(), &commit, "vps-1", other, true).await?, number, "that one is another");

    client.add_deployment_status(&shop(), number, GithubDeploymentState::InProgress, "at it", None).await?;
    let url = "http://[fd18::10]:8080";
    client.add_deployment_status(&shop(), number, GithubDeploymentState::Success, "done", Some(url)).await?;
    let deployments = world.github.deployments(SHOP);
    assert_eq!(deployments.len(), 2);
    assert_eq!((&deployments[0].sha[..], &deployments[0].environment[..]), (commit.as_str(), "vps-1"));
    let told: Vec<_> = deployments[0].statuses.iter().map(|s| (&s.state[..], &s.environment_url[..])).collect();
    assert_eq!(told, [("in_progress", ""), ("success", url)]);
    Ok(())
}

#[tokio::test]
async fn without_the_permission_it_is_named() -> anyhow::Result<()> {
    let world = ClientWorld::start()?;
    let client = world.client(world.app())?;
    let id = DeploymentId(uuid::Uuid::new_v4());
    let error = client.create_deployment(&shop(), &world.commit()?, "vps-1", id, false).await.err();
    let error = error.ok_or_else(|| anyhow::anyhow!("it was allowed"))?;
    assert_eq!(error.code, ErrorCode::GithubForbidden, "{error}");
    assert!(error.message.contains("it needs deployments: write"), "{error}");
    assert!(world.github.deployments(SHOP).is_empty());
    Ok(())
}
