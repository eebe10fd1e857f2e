//! Which commit is said to serve once the project's own CI has put its images in the place of Slipway's: that one, or
//! none where nothing proves it; never the one that was deployed before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use slipway_deploy::{DeploymentWork, StageError};
use slipway_protocol::{Action, ErrorCode, Serving, Stage};
use slipway_tests::world::{Commit, Generation, Image, Module, Sample, Variant, eventually};
use tokio_util::sync::CancellationToken;

use crate::pipeline::restoring::restore;
use crate::pipeline::scene::{AttemptScene, Heard};

/// CI's job: what its key is let through to, as its script asks for it.
const CIS_JOB: &str =
    "SSH_ORIGINAL_COMMAND='docker compose pull; docker compose up -d' /opt/services/shop/.slipway/ci-deploy";

/// A project that was deployed once.
struct DeployedShop {
    scene: AttemptScene,
    sample: Sample,
    first: Commit,
}

impl DeployedShop {
    fn new() -> Self {
        let scene = AttemptScene::new();
        // Without a health check, so that a page that answers 404 is found out only after it has replaced what served.
        let sample = Sample::new(Generation::One, "Acme", "Shop");
        let first = scene.publish(&sample, Variant::Healthy);
        let shop = Self { scene, sample, first };
        shop.scene.run(shop.work(&shop.first)).unwrap();
        shop
    }

    fn work(&self, commit: &Commit) -> DeploymentWork {
        self.scene.work(&self.sample, commit, "shop", &BTreeMap::new())
    }

    fn publish(&self, what: &str, variant: Variant) -> Commit {
        self.scene.publish(&self.sample.clone().with_file("README.md", what), variant)
    }

    /// To deploy a commit that isn't there, which is told before anything is touched.
    fn nowhere(&self) -> DeploymentWork {
        let mut work = self.work(&self.first);
        work.request.repository.commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
        work
    }

    /// CI's job for what is tagged `latest`.
    fn push_by_ci(&self) {
        self.scene.world.target(0).sh(CIS_JOB).unwrap();
    }

    /// CI's job for a backend of this image.
    fn push_image_by_ci(&self, image: &Image) {
        self.tag_latest(image);
        self.push_by_ci();
    }

    fn tag_latest(&self, image: &Image) {
        self.scene.world.push_image(&self.sample.image(Module::Backend), "latest", image).unwrap();
    }

    /// A deployment that fails where `variant` shows, with or without a rehearsal, and what is told of it.
    fn fails(&self, what: &str, variant: Variant, rehearsal: &str) -> StageError {
        let bad = self.publish(what, variant);
        let mut work = self.work(&bad);
        work.request.variables.insert("SLIPWAY_REHEARSAL".parse().unwrap(), rehearsal.to_owned());
        let (_, error) = *self.scene.run(work).err().unwrap();
        assert!(!error.message.contains(&self.first.sha), "{} doesn't serve any more: {error}", self.first.sha);
        error
    }

    fn planned_from(&self, commit: &Commit) -> Option<String> {
        let (deployer, work) = (self.scene.deployer.clone(), self.work(commit));
        let plan = async move { deployer.plan(work, Arc::new(Heard::default()), CancellationToken::new()).await };
        self.scene.world.block_on(plan).unwrap().unwrap().from
    }
}

fn serves(commit: Option<&Commit>) -> Option<Serving> {
    Some(Serving { commit: commit.map(|c| c.sha.parse().unwrap()), proven: true })
}

#[test]
fn after_cis_push_a_failed_deployment_names_cis_commit_as_serving() {
    let shop = DeployedShop::new();
    let pushed = shop.publish("pushed", Variant::Healthy);
    shop.push_by_ci();
    eventually("the pushed image's answer", Duration::from_secs(20), || {
        let body = shop.scene.get("/health");
        ensure!(body.contains(&pushed.sha), "{body}");
        Ok(())
    })
    .unwrap();
    assert_eq!(shop.planned_from(&pushed), Some(pushed.sha.clone()));

    // In its rehearsal; in the place of what served; before anything is touched.
    for (variant, rehearsal, kept) in
        [(Variant::CrashLoop, "on", "serves on"), (Variant::NotFound, "off", "was put back and is stable")]
    {
        let error = shop.fails(&format!("{variant:?}"), variant, rehearsal);
        assert_eq!(error.detail.serving, serves(Some(&pushed)), "{error}");
        let words = format!("commit {}, which served before, {kept}, and answers", pushed.sha);
        assert!(error.message.ends_with(&words), "{error}");
    }
    let (_, error) = *shop.scene.run(shop.nowhere()).err().unwrap();
    assert_eq!((error.code, &error.detail.serving), (ErrorCode::CommitNotFound, &serves(Some(&pushed))), "{error}");

    // Stopped and started, it's the same; the command knows only of the one that was deployed.
    let to = |action| DeploymentWork { action, ..shop.work(&shop.first) };
    shop.scene.run_stages(to(Action::Stop), &[Stage::Compose]).unwrap();
    let bad = shop.publish("while it's stopped", Variant::CrashLoop);
    let (_, error) = *shop.scene.run(shop.work(&bad)).err().unwrap();
    let words = format!("; commit {}, which was deployed before, is stopped, as it was", pushed.sha);
    assert!(error.message.ends_with(&words), "{error}");
    let started = shop.scene.run_stages(to(Action::Start), &[Stage::Compose, Stage::Verify]).unwrap();
    assert_eq!(started.reports[&Stage::Verify].serving, serves(Some(&pushed)));
}

#[test]
fn where_nothing_proves_what_ci_has_pushed_no_commit_is_named_as_serving() {
    let shop = DeployedShop::new();
    let next = shop.publish("next", Variant::Healthy);
    let image =
        |commit: Option<&Commit>| Image::module(Module::Backend, Variant::Healthy, commit.map(|c| c.sha.as_str()));
    let labelled = |image: Image, source: &str, commit: &Commit| {
        image.label("org.opencontainers.image.source", source).label("org.opencontainers.image.revision", &commit.sha)
    };
    let ours = "https://github.com/Acme/Shop";
    let named: [(&str, Image, Option<&Commit>); 4] = [
        ("neither label nor page", image(None), None),
        ("the page alone", image(Some(&next)), Some(&next)),
        ("the label alone", labelled(image(None), ours, &next), Some(&next)),
        (
            "the label of the image that it's built upon",
            labelled(image(None), "https://github.com/acme/base", &next),
            None,
        ),
    ];
    for (what, pushed, commit) in named {
        shop.push_image_by_ci(&pushed);
        let (_, error) = *shop.scene.run(shop.nowhere()).err().unwrap();
        assert_eq!(error.detail.serving, serves(commit), "{what}: {error}");
        // CI's next job waits for the end of a deployment.
        restore(&shop.scene, shop.nowhere());
        assert_eq!(shop.planned_from(&next), commit.map(|commit| commit.sha.clone()), "{what}");
    }
    let error = shop.fails("bad", Variant::CrashLoop, "on");
    assert!(error.message.ends_with("; what served before serves on, and answers"), "{error}");

    // A label that the page contradicts.
    shop.tag_latest(&labelled(image(Some(&shop.first)), ours, &next));
    let output = shop.scene.world.target(0).exec(&["sh", "-c", CIS_JOB]).unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let words = format!("service backend answers as commit {}", shop.first.sha);
    assert!(!output.status.success() && told.contains(&words) && told.contains("(wrong-version)"), "{told}");
    assert_eq!(shop.planned_from(&next), None);
}
