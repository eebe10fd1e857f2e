//! A server that GitHub doesn't let fetch: the code names the cause, which git alone doesn't tell, and a token that was
//! withdrawn meanwhile is replaced.

use std::collections::BTreeMap;

use slipway_deploy::{Deployer, DeployerConfig, GithubCredential, StageError};
use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::github::{Level, OrganizationPolicy};
use slipway_tests::world::{Generation, Sample, Variant, net};

use crate::pipeline::scene::AttemptScene;

const SHOP: &str = "acme/shop";
const GRANTED: [(&str, Level); 2] = [("contents", Level::Read), ("secrets", Level::Write)];

/// Clones a new commit, with the deployer's tokens of before.
fn clone_next(scene: &AttemptScene, sample: &Sample) -> Result<(), StageError> {
    let commit = scene.world.publish_variant(sample, Variant::Healthy).unwrap();
    let work = scene.work(sample, &commit, "shop", &BTreeMap::new());
    scene.run_stages(work, &[Stage::Clone]).map(drop).map_err(|failed| failed.1)
}

#[test]
fn why_github_refuses_a_server_is_told_and_a_token_that_was_withdrawn_is_replaced() {
    let mut scene = AttemptScene::new();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    scene.publish(&sample, Variant::Healthy);
    let private_key = scene.github.app_private_key_pem().into();
    let github = GithubCredential::App { id: scene.github.app_id().to_string(), private_key };
    // Without it the workers can't ask the registry, whose certificate is the world's.
    let ca_file = Some(scene.world.ca_pem());
    scene.deployer = Deployer::new(DeployerConfig { github, ca_file, ..scene.config.clone() }).unwrap();
    let installation = scene.github.install_app("acme", &[SHOP], &GRANTED);
    clone_next(&scene, &sample).unwrap();

    scene.github.suspend_installation(installation, true);
    let error = clone_next(&scene, &sample).unwrap_err();
    assert_eq!(error.code, ErrorCode::GithubSuspended, "{error}");
    scene.github.suspend_installation(installation, false);
    clone_next(&scene, &sample).unwrap();

    // The token at hand stops working with the installation that it's of.
    scene.github.delete_installation(installation);
    let error = clone_next(&scene, &sample).unwrap_err();
    assert_eq!(error.code, ErrorCode::GithubNotInstalled, "{error}");
    scene.github.install_app("acme", &[SHOP], &GRANTED);
    clone_next(&scene, &sample).unwrap();
    let newest = scene.github.installation_tokens().pop().unwrap();
    scene.github.revoke(&newest);
    clone_next(&scene, &sample).unwrap();

    // The workers' address is on the list, also as they reach themselves in the world, and the server's isn't.
    let policy = OrganizationPolicy::IpAllowList(vec![net::WORKER.into(), net::GITHUB_API.into()]);
    scene.github.set_policy("acme", Some(policy));
    let error = clone_next(&scene, &sample).unwrap_err();
    assert_eq!(error.code, ErrorCode::GithubIpNotAllowed, "{error}");
    let address = scene.world.target(0).ip().to_string();
    assert!(error.message.contains(&address), "{error}");
    scene.github.set_policy("acme", None);

    // Git follows to the new name, under which CI keeps the images of this commit.
    let commit = scene.world.git().publish(&sample).unwrap();
    scene.github.rename(SHOP, "store").unwrap();
    let work = scene.work(&sample, &commit, "shop", &BTreeMap::new());
    let (stage, error) = *scene.run_stages(work, &[Stage::Clone, Stage::Env]).map(drop).unwrap_err();
    assert_eq!((stage, error.code), (Stage::Env, ErrorCode::RepositoryMoved), "{error:?}");
    assert!(error.message.contains("acme/shop is acme/store on GitHub by now"), "{error}");
}
