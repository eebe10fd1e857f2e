//! A release that doesn't work, where another one serves: it's found out before that one is touched.

use std::collections::BTreeMap;

use serde_json::json;
use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::world::{Generation, Sample, Variant};

use crate::pipeline::scene::AttemptScene;

const PROD: &str = include_str!("../../../samples/generation-2/infra/compose.prod.yml");

/// What a file of the commit says, what runs once, and what only somebody's own hands start.
const MORE: &str = r#"
  proxy:
    image: redis:7-alpine
    command: [sh, -c, "cat /shown >>/seen/all; exec sleep 1000"]
    stop_signal: SIGKILL
    volumes: ["./shown.txt:/shown:ro", "seen:/seen"]

  migrate:
    image: redis:7-alpine
    command: ["true"]
    deploy: {restart_policy: {condition: none}}

  adminer:
    image: redis:7-alpine
    command: [sleep, "1000"]
    profiles: [debug]

volumes: {seen: }
"#;

#[test]
fn a_release_that_exits_or_is_unhealthy_is_refused_and_the_serving_one_untouched() {
    let scene = AttemptScene::new();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let prod = PROD.replace("  backend:\n", "  backend:\n    pull_policy: always\n") + MORE;
    let sample = sample.with_file("infra/compose.prod.yml", &prod).with_file("infra/shown.txt", "first\n");
    let good = scene.publish(&sample, Variant::Healthy);
    let first = scene.run(scene.work(&sample, &good, "shop", &BTreeMap::new())).unwrap();
    assert_eq!(first.reports[&Stage::Compose].facts["rehearsed"], json!([]), "nothing serves that it could replace");
    let again = scene.run_stages(scene.work(&sample, &good, "shop", &BTreeMap::new()), &Stage::ALL[..4]).unwrap();
    assert_eq!(again.reports[&Stage::Compose].facts["rehearsed"], json!([]), "nothing is replaced");
    let server = scene.world.target(0);
    server
        .sh("cd /opt/services/shop && docker compose --profile debug up -d adminer && docker kill shop-adminer-1")
        .unwrap();
    let containers = || {
        let format = "{{.Name}} {{.Id}} {{.State.StartedAt}} {{.RestartCount}}";
        server.sh(&format!("docker ps -aq | xargs docker inspect --format '{format}' | sort")).unwrap()
    };
    let before = containers();
    let refused = |variant, kept: &str, edit: fn(&mut slipway_deploy::DeploymentWork)| {
        let bad = sample.clone().with_file("README.md", &format!("{variant:?}"));
        let bad = scene.publish(&bad.with_file("infra/shown.txt", "second\n"), variant);
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
    let error = refused(Variant::CrashLoop, "was put back and is stable", |work| {
        work.request.variables.insert("SLIPWAY_REHEARSAL".parse().unwrap(), "off".to_owned());
    });
    assert!(error.code == ErrorCode::CrashLoop && error.message.contains("keeps exiting"), "{error}");
    assert_ne!(containers(), before);
    // What mounts a file of the commit got the new one, and the old one again.
    assert_eq!(server.sh("docker exec shop-proxy-1 cat /seen/all").unwrap(), "first\nsecond\nfirst\n");
    let state = "docker inspect --format '{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}' shop-adminer-1 shop-migrate-1";
    assert_eq!(server.sh(state).unwrap(), "exited 137 0\nexited 0 0\n", "nobody's to start, and run once");
}
