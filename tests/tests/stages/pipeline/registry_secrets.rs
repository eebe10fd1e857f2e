//! Credentials for images: those that CI pushes with are the repository's own or the request's, never the workers'; and on
//! the server one is for root alone, out of reach of the project.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use slipway_deploy::{DeploymentWork, RegistryCredentialSource};
use slipway_protocol::{Action, PushDeployer, Stage};
use slipway_tests::world::{Generation, Sample, Variant};

use crate::pipeline::scene::AttemptScene;

const OWN: [(&str, &str); 3] =
    [("REGISTRY_PASSWORD", "may-push-7c1d"), ("REGISTRY_URL", "ghcr.io"), ("REGISTRY_USER", "acme-robot")];
const FOR_CI: RegistryCredentialSource = RegistryCredentialSource::Request { for_ci: true };

fn told(scene: &AttemptScene) -> String {
    std::mem::take(&mut *scene.heard.lines.lock().unwrap()).join("\n")
}

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
    let heard = told(&scene);
    assert!(heard.contains("warning: REGISTRY_PASSWORD, REGISTRY_URL, REGISTRY_USER were once"), "{heard}");
    let digests = done.reports[&Stage::Secrets].github_digests.clone().unwrap();
    assert!(digests.contains_key("DOTENV") && !digests.contains_key("REGISTRY_USER"), "{:?}", digests.keys());

    scene.run_stages(DeploymentWork { action: Action::Undeploy, ..work }, &[Stage::Secrets]).unwrap();
    assert!(own(&scene), "undeploying has removed them");
    assert_eq!(scene.github.secrets("acme/shop").len(), OWN.len(), "something of the deployment is left");
}

#[test]
fn the_workers_credential_is_root_s_alone_and_github_gets_only_a_request_s() {
    let scene = AttemptScene::new();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let done = scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).unwrap();
    let digests =
        |done: &crate::pipeline::scene::FinishedAttempt| done.reports[&Stage::Secrets].github_digests.clone().unwrap();
    let login = scene.world.registry_credential();
    let auth = STANDARD.encode(format!("{}:{}", login.username, login.password));
    let secrets = scene.github.secrets("acme/shop");
    let holding: Vec<_> =
        secrets.iter().filter(|(_, value)| value.contains(&login.password)).map(|(name, _)| name).collect();
    assert!(holding.is_empty() && secrets.contains_key("DEPLOY_SSH_KEY"), "{holding:?} of {:?}", secrets.keys());
    assert_eq!(done.reports[&Stage::Env].facts["registry_credential"], "fleet");
    let server = scene.world.target(0);
    let file = || server.sh("cd /etc/slipway/registry; stat -c '%a %U' . shop; cat shop").unwrap();
    assert_eq!(file(), format!("700 root\n600 root\n{auth}"));
    assert_eq!(server.sh("ls -d /dev/shm/slipway.* 2>/dev/null || :").unwrap(), "");

    // A version before has written it into the repository, in the same minute as everything else.
    for (name, value) in [("REGISTRY_PASSWORD", login.password.as_str()), ("REGISTRY_USER", &login.username)] {
        scene.github.set_secret("acme/shop", name, value);
    }
    // Its .env had it as well. Somebody has put it elsewhere, too.
    let upgrade = format!(
        "cd /opt/services/shop; echo 'SLIPWAY_REGISTRY_AUTH=\"{auth}\"' >>.env; echo NPM_TOKEN={} >>.env; \
         echo {auth} >infra/login",
        login.password
    );
    server.sh(&upgrade).unwrap();
    let mut known = digests(&done);
    known.extend(["REGISTRY_PASSWORD", "REGISTRY_USER"].map(|name| (name.to_owned(), "a digest".to_owned())));
    told(&scene);
    let done = scene.run(scene.work(&sample, &commit, "shop", &known)).unwrap();
    let heard = told(&scene);
    assert!(heard.contains("REGISTRY_PASSWORD, REGISTRY_USER were removed"), "{heard}");
    assert!(!scene.github.secrets("acme/shop").keys().any(|name| name.starts_with("REGISTRY_")));
    assert_eq!(server.sh("grep -c SLIPWAY_REGISTRY_AUTH /opt/services/shop/.env || :").unwrap(), "0\n");
    let leaks = done.reports[&Stage::Secrets].facts["leaks"].to_string();
    for place in ["/opt/services/shop/infra/login", "/opt/services/shop/.env, which", "one of the project's containers"]
    {
        assert!(leaks.contains(place), "{place}: {leaks}");
    }
    assert!(heard.contains("secret-leaked"), "{heard}");

    // The request's own, for CI to push with; another request takes it back.
    let mut work = scene.work(&sample, &commit, "shop", &digests(&done));
    work.registry = Some(scene.registry(FOR_CI));
    let done = scene.run_stages(work.clone(), &[Stage::Secrets]).unwrap();
    let secrets = scene.github.secrets("acme/shop");
    assert_eq!(secrets["REGISTRY_PASSWORD"], login.password);
    assert_eq!((secrets["REGISTRY_URL"].as_str(), &secrets["REGISTRY_USER"]), ("ghcr.io", &login.username));
    work.github_digests = digests(&done);
    work.request.repository.pushes_deployed_by = PushDeployer::Webhook;
    let done = scene.run_stages(work.clone(), &[Stage::Secrets]).unwrap();
    let names: Vec<String> = scene.github.secrets("acme/shop").into_keys().collect();
    assert_eq!(names, OWN.map(|(name, _)| name), "CI still pushes images");
    assert_eq!(server.sh("ls /etc/slipway/registry").unwrap(), "", "nobody but Slipway pulls any more");
    work.github_digests = digests(&done);
    work.registry = Some(scene.registry(RegistryCredentialSource::Request { for_ci: false }));
    work.request.repository.pushes_deployed_by = PushDeployer::CiJob;
    let done = scene.run_stages(work.clone(), &[Stage::Secrets]).unwrap();
    let secrets = scene.github.secrets("acme/shop");
    assert!(secrets.contains_key("DOTENV") && !secrets.keys().any(|name| name.starts_with("REGISTRY_")), "{secrets:?}");
    assert_eq!(file(), format!("700 root\n600 root\n{auth}"));

    work.github_digests = digests(&done);
    scene.run_stages(DeploymentWork { action: Action::Undeploy, ..work }, &[Stage::Secrets]).unwrap();
    assert_eq!(server.sh("ls /etc/slipway/registry").unwrap(), "");
}
