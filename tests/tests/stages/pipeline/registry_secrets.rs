//! The registry's secrets in a repository are those that its own CI pushes with: the workers' credential, which may only
//! read, never takes their place.

use std::collections::BTreeMap;

use slipway_deploy::DeploymentWork;
use slipway_protocol::{Action, Stage};
use slipway_tests::world::{Generation, Sample, Variant};

use crate::pipeline::scene::AttemptScene;

const OWN: [(&str, &str); 3] =
    [("REGISTRY_PASSWORD", "may-push-7c1d"), ("REGISTRY_URL", "ghcr.io"), ("REGISTRY_USER", "acme-robot")];

#[test]
fn the_registry_secrets_that_ci_pushes_with_stay_as_the_repository_has_them() {
    let scene = AttemptScene::new();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let own = |scene: &AttemptScene| {
        let secrets = scene.github.secrets("acme/shop");
        OWN.iter().all(|(name, value)| secrets.get(*name).is_some_and(|held| held == value))
    };
    for (name, value) in OWN {
        scene.github.set_secret("acme/shop", name, value);
    }
    let done = scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).unwrap();
    assert!(own(&scene), "the first deployment has changed them: {:?}", scene.github.secret_writes());
    let mut digests = done.reports[&Stage::Secrets].github_digests.clone().unwrap();
    assert!(digests.contains_key("DOTENV") && !digests.contains_key("REGISTRY_USER"), "{:?}", digests.keys());

    // A version before has written them, and somebody has put CI's in their place since.
    digests.extend(OWN.map(|(name, _)| (name.to_owned(), "a digest".to_owned())));
    let work = scene.work(&sample, &commit, "shop", &digests);
    let done = scene.run_stages(work.clone(), &[Stage::Secrets]).unwrap();
    assert!(own(&scene), "a later deployment has changed them: {:?}", scene.github.secret_writes());
    let told = scene.heard.lines.lock().unwrap().join("\n");
    assert!(told.contains("warning: REGISTRY_PASSWORD, REGISTRY_URL, REGISTRY_USER"), "{told}");
    let digests = done.reports[&Stage::Secrets].github_digests.clone().unwrap();
    assert!(digests.contains_key("DOTENV") && !digests.contains_key("REGISTRY_USER"), "{:?}", digests.keys());

    scene.run_stages(DeploymentWork { action: Action::Undeploy, ..work }, &[Stage::Secrets]).unwrap();
    assert!(own(&scene), "undeploying has removed them");
    assert_eq!(scene.github.secrets("acme/shop").len(), OWN.len(), "something of the deployment is left");
}

#[test]
fn a_repository_never_gets_the_credential_that_images_are_read_with() {
    let scene = AttemptScene::new();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).unwrap();
    let password = &scene.world.registry_credential().password;
    let secrets = scene.github.secrets("acme/shop");
    let holding: Vec<_> = secrets.iter().filter(|(_, value)| value.contains(password)).map(|(name, _)| name).collect();
    assert!(holding.is_empty() && secrets.contains_key("DEPLOY_SSH_KEY"), "{holding:?} of {:?}", secrets.keys());
}
