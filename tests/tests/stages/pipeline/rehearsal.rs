//! A release that doesn't work, where another one serves: it's found out before that one is touched.

use std::collections::BTreeMap;

use serde_json::json;
use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::world::{Generation, Sample, Variant};

use crate::pipeline::scene::AttemptScene;

#[test]
fn a_release_that_exits_or_is_unhealthy_is_refused_and_the_serving_one_untouched() {
    let scene = AttemptScene::new();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let good = scene.publish(&sample, Variant::Healthy);
    let first = scene.run(scene.work(&sample, &good, "shop", &BTreeMap::new())).unwrap();
    assert_eq!(first.reports[&Stage::Compose].facts["rehearsed"], json!([]), "nothing serves that it could replace");
    let again = scene.run_stages(scene.work(&sample, &good, "shop", &BTreeMap::new()), &Stage::ALL[..4]).unwrap();
    assert_eq!(again.reports[&Stage::Compose].facts["rehearsed"], json!([]), "nothing is replaced");
    let containers = || {
        let format = "{{.Name}} {{.Id}} {{.State.StartedAt}} {{.RestartCount}}";
        scene.world.target(0).sh(&format!("docker ps -aq | xargs docker inspect --format '{format}' | sort")).unwrap()
    };
    let before = containers();
    let refused = |variant, kept: &str, edit: fn(&mut slipway_deploy::DeploymentWork)| {
        let bad = scene.publish(&sample.clone().with_file("README.md", &format!("{variant:?}")), variant);
        let mut work = scene.work(&sample, &bad, "shop", &BTreeMap::new());
        edit(&mut work);
        let (stage, error) = *scene.run(work).err().unwrap();
        assert_eq!(stage, Stage::Compose, "{error}");
        assert!(error.message.contains(&format!("; commit {}, which served before, {kept}", good.sha)), "{error}");
        assert!(scene.get("/health").contains(&good.sha), "{}", scene.get("/health"));
        error
    };
    for (variant, code, log) in [
        (Variant::CrashLoop, ErrorCode::CrashLoop, "nothing to live for"),
        (Variant::FailingMigration, ErrorCode::CrashLoop, "8c1f0e"),
        (Variant::Unhealthy, ErrorCode::Unhealthy, "listens on 8000"),
    ] {
        let error = refused(variant, "serves on", |_| {});
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains("when it's tried beside the running release"), "{error}");
        assert!(error.tail.iter().any(|line| line.contains(log)), "{:?}", error.tail);
        assert_eq!(containers(), before, "{variant:?} touched what runs, or left something");
    }
    // A project whose service bears no second one says so, and takes the risk.
    let error = refused(Variant::CrashLoop, "was put back", |work| {
        work.request.variables.insert("SLIPWAY_REHEARSAL".parse().unwrap(), "off".to_owned());
    });
    assert!(error.code == ErrorCode::CrashLoop && error.message.contains("keeps exiting"), "{error}");
    assert_ne!(containers(), before);
}
