//! The project's environment on a real server: what its contract declares, databases that outlive releases, and compose
//! by hand.

use std::collections::BTreeMap;

use slipway_protocol::names::VariableName;
use slipway_protocol::{Change, ErrorCode, Stage};
use slipway_tests::world::{Commit, Generation, Sample, Variant};

use crate::pipeline::scene::{AttemptScene, BOT_TOKEN};

const INFRA: &str = r#"
version: "1"
owner: infra
entries:
  GREETING: {source: literal, environments: [production], consumers: [backend], required: true, value: from the contract}
  LIMIT: {source: literal, environments: [local, production], consumers: [backend], required: true, value: 5}
"#;
const BACKEND: &str = r#"
version: "1"
owner: backend
entries:
  LIMIT: {source: literal, environments: [local, production], consumers: [backend], required: true, value: 5}
  PAY_KEY: {source: user_secret, environments: [production], consumers: [backend], required: true, description: Key of the payment provider}
  PORT: {source: derived, environments: [production], consumers: [backend], required: false}
  QUEUE_KEY: {source: generated_secret, environments: [production], consumers: [backend], required: true}
"#;
const BOT: &str = r#"
version: "1"
owner: tg_bot
entries:
  TELEGRAM_BOT_TOKEN: {source: user_secret, environments: [production], consumers: [tg_bot], required: true, description: Token}
"#;

#[test]
fn what_the_contract_declares_reaches_the_server_and_follows_the_commit() {
    let scene = AttemptScene::new();
    let server = scene.world.target(0);
    let sample = Sample::new(Generation::Two, "acme", "shop")
        .with_file("infra/env.contract.yaml", INFRA)
        .with_file("services/backend/env.contract.yaml", BACKEND)
        .with_file("services/tg_bot/env.contract.yaml", BOT)
        .with_file("services/backend/below/env.contract.yaml", "not one of the project's contracts");
    let deploy = |sample: &Sample, key: Option<&str>| {
        let commit = scene.publish(sample, Variant::Healthy);
        let mut work = scene.work(sample, &commit, "shop", &BTreeMap::new());
        if let Some(key) = key {
            work.secrets.insert(VariableName::new("PAY_KEY").unwrap(), key.to_owned().into());
        }
        scene.run_stages(work, &[Stage::Preflight, Stage::Clone, Stage::Env]).map_err(|e| e.1)
    };
    let env = |name: &str| server.sh(&format!("grep '^{name}=' /opt/services/shop/.env || :")).unwrap();

    let error = deploy(&sample, None).err().unwrap();
    assert_eq!((error.code, error.missing_secret.unwrap().as_str()), (ErrorCode::MissingSecret, "PAY_KEY"));
    assert_eq!(error.detail.secret_description.as_deref(), Some("Key of the payment provider"));

    deploy(&sample, Some("pay-7c1d")).unwrap();
    assert_eq!(env("LIMIT"), "LIMIT=\"5\"\n");
    assert_eq!(env("GREETING"), "GREETING=\"it's \\$5 \\\"now\\\" \\\\\"\n", "the event wins");
    assert_eq!(env("PORT"), "");
    let drawn = env("QUEUE_KEY");
    assert!(drawn.len() > 32, "{drawn}");
    // Each secret for its consumer alone, as compose itself resolves it.
    let config = server.sh("cd /opt/services/shop/infra && docker compose config --format json").unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let of = |service: &str, name: &str| config["services"][service]["environment"][name].clone();
    assert_eq!((of("backend", "PAY_KEY"), of("tg_bot", "PAY_KEY")), ("pay-7c1d".into(), "".into()));
    assert_eq!(of("backend", "TELEGRAM_BOT_TOKEN"), "");
    assert_eq!(of("tg_bot", "TELEGRAM_BOT_TOKEN"), BOT_TOKEN);

    let with = |value: &str| {
        let [infra, backend] = [INFRA, BACKEND].map(|yaml| yaml.replace("value: 5", &format!("value: {value}")));
        let sample = sample.clone().with_file("infra/env.contract.yaml", &infra);
        sample.with_file("services/backend/env.contract.yaml", &backend)
    };
    deploy(&with("6"), Some("pay-7c1d")).unwrap();
    assert_eq!((env("LIMIT"), env("QUEUE_KEY")), ("LIMIT=\"6\"\n".to_owned(), drawn), "a literal follows its commit");
    server.sh("sed -i 's/^LIMIT=.*/LIMIT=99/' /opt/services/shop/.env").unwrap();
    deploy(&with("7"), Some("pay-7c1d")).unwrap();
    assert_eq!(env("LIMIT"), "LIMIT=\"99\"\n", "changed by hand");
    let error = deploy(&with("7"), None).err().unwrap();
    assert_eq!(error.code, ErrorCode::MissingSecret, "what a request leaves out isn't kept");
    assert!(error.message.contains("an earlier request gave PAY_KEY"), "{error}");

    let bad = |yaml: &str| deploy(&sample.clone().with_file("infra/env.contract.yaml", yaml), None).err().unwrap();
    assert_eq!(bad(&INFRA.replace("\"1\"", "\"2\"")).code, ErrorCode::EnvContractVersion);
    let error = bad(&INFRA.replace("value: 5", "value: 8"));
    assert_eq!(error.code, ErrorCode::EnvContractInvalid);
    assert!(error.message.contains("infra/env.contract.yaml declare LIMIT differently"), "{error}");
    assert_eq!(bad(&format!("{INFRA}#{}", "x".repeat(300_000))).code, ErrorCode::EnvContractInvalid);
}

#[test]
fn a_version_without_a_variable_removes_it_and_runs_the_image_of_then() {
    let scene = AttemptScene::new();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let work = scene.work(&sample, &commit, "shop", &BTreeMap::new());
    let env = |added: bool, digest: Option<&str>| {
        let mut work = work.clone();
        if added {
            work.request.variables.insert("ADDED".parse().unwrap(), "yes".to_owned());
        }
        work.images.extend(digest.map(|digest| ("BACKEND_IMAGE".to_owned(), digest.to_owned())));
        let mut done = scene.run_stages(work, &[Stage::Preflight, Stage::Clone, Stage::Env]).unwrap();
        let report = done.reports.remove(&Stage::Env).unwrap();
        (report.change, report.facts.get("removed").cloned())
    };
    let written = || scene.world.target(0).sh("grep -oE '^(ADDED|BACKEND_IMAGE)=.*' /opt/services/shop/.env").unwrap();
    env(false, None);
    let before = written();
    assert_eq!(env(true, None), (Change::Changed, None));
    assert_eq!(written(), format!("ADDED=\"yes\"\n{before}"));
    // Nothing but that differs: it isn't deployed already.
    assert_eq!(env(false, None), (Change::Changed, Some(serde_json::json!(["ADDED"]))));
    assert_eq!(written(), before);
    assert_eq!(env(false, None), (Change::Unchanged, None));
    // No registry answers here: the image of then, or none.
    let digest = format!("sha256:{}", "0f".repeat(32));
    assert_eq!(env(false, Some(&digest)), (Change::Changed, None));
    assert_eq!(written(), before.replace("\"\n", &format!("@{digest}\"\n")));
}

#[test]
fn databases_outlive_releases_and_compose_by_hand_finds_the_project() {
    let scene = AttemptScene::new();
    let server = scene.world.target(0);
    let sample = Sample::new(Generation::One, "acme", "shop");
    let untouched =
        || server.sh("docker inspect --format '{{.Id}} {{.State.StartedAt}}' shop-db-1 shop-redis-1").unwrap();
    let serves = |commit: &Commit| {
        let env = server.sh("docker inspect --format '{{.Config.Env}}' shop-backend-1").unwrap();
        assert!(env.contains(&commit.sha), "{env}");
    };
    let publish = |what: &str| scene.publish(&sample.clone().with_file("README.md", what), Variant::Healthy);
    let first = publish("release 0\n");
    scene.run(scene.work(&sample, &first, "shop", &BTreeMap::new())).unwrap();
    assert!(scene.get("/health").contains(&first.sha));
    let before = untouched();
    for release in 1..4 {
        let commit = publish(&format!("release {release}\n"));
        let mut work = scene.work(&sample, &commit, "shop", &BTreeMap::new());
        // Rehearsals are told of elsewhere, and take half of the time.
        work.request.variables.insert("SLIPWAY_REHEARSAL".parse().unwrap(), "off".to_owned());
        scene.run_stages(work, &[Stage::Clone, Stage::Env, Stage::Compose]).unwrap();
        serves(&commit);
        assert_eq!(untouched(), before, "release {release}");
        if release < 3 {
            continue;
        }
        // As a deployment that has proven itself leaves it.
        server.sh("rm -r /opt/services/shop/.slipway/served").unwrap();
        let pushed = publish(&format!("pushed after {release}\n"));
        let job = "SSH_ORIGINAL_COMMAND='docker compose pull; docker compose up' /opt/services/shop/.slipway/ci-deploy";
        server.sh(job).unwrap();
        serves(&pushed);
        assert_eq!(untouched(), before, "CI's push after release {release}");
    }

    let held = server.sh("docker inspect --format '{{.Config.Env}}' shop-db-1 shop-redis-1").unwrap();
    for foreign in ["_IMAGE=", BOT_TOKEN, "APP_SECRET_KEY", "GREETING"] {
        assert!(!held.contains(foreign), "{foreign}: {held}");
    }
    let told = server.sh("stat -c '%a %F' /opt/services/shop/infra/.env.prod").unwrap();
    assert_eq!(told, "600 regular file\n");

    let all = server.sh("docker ps -aq --no-trunc --filter label=com.docker.compose.project=shop | sort").unwrap();
    assert_eq!(all.lines().count(), 4, "{all}");
    let files = "-f infra/compose.base.yml -f infra/compose.prod.yml -f infra/compose.slipway.yml";
    for (folder, files) in [("shop/infra", ""), ("shop", ""), ("shop", files)] {
        let found = format!("cd /opt/services/{folder} && docker compose {files} ps -aq --no-trunc | sort");
        assert_eq!(server.sh(&found).unwrap(), all, "in {folder} with {files:?}");
    }
    // Nor does a person who starts it by hand touch what runs.
    server.sh("cd /opt/services/shop/infra && docker compose up -d --no-build --pull never").unwrap();
    let after = server.sh("docker ps -aq --no-trunc --filter label=com.docker.compose.project=shop | sort").unwrap();
    assert_eq!(after, all);
}
