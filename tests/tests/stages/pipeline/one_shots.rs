//! Releases that can't start by themselves: a migration has to end before, or something new has to be there.

use std::collections::BTreeMap;

use slipway_deploy::DeploymentWork;
use slipway_protocol::{Action, ErrorCode, Stage};
use slipway_tests::world::{Commit, Generation, Sample, Variant};

use crate::pipeline::dying::{Points, count_commands, dies_before_each_command};
use crate::pipeline::scene::{AttemptScene, FinishedAttempt};

const PROD: &str = include_str!("../../../samples/generation-2/infra/compose.prod.yml");

/// A backend that starts only where that much was written by then, into a volume; what `others` is are more services.
fn starts_with(written: u32, depends_on: &str, others: &str) -> Sample {
    let waits = format!(
        "    command: [sh, -c, '[ $$(cat /state/it) -ge {written} ] && exec /app/backend']\n    \
         volumes: [\"state:/state\"]\n    depends_on: {depends_on}\n"
    );
    let prod = PROD.replacen("  backend:\n", &format!("  backend:\n{waits}"), 1);
    let prod = format!("{prod}{others}\nvolumes: {{state: }}\n");
    Sample::new(Generation::Two, "acme", "shop").with_file("infra/compose.prod.yml", &prod)
}

/// Redis' image, which does that.
fn service(name: &str, does: &str) -> String {
    let does = format!("entrypoint: [sh, -c, '{does}']\n    stop_signal: SIGKILL\n    volumes: [\"state:/state\"]\n");
    format!("\n  {name}:\n    image: redis:7-alpine\n    {does}")
}

fn deploy(
    scene: &AttemptScene,
    sample: &Sample,
) -> (Result<FinishedAttempt, (Stage, slipway_deploy::StageError)>, Commit) {
    let commit = scene.publish(sample, Variant::Healthy);
    let done = scene.run(scene.work(sample, &commit, "shop", &BTreeMap::new()));
    (done.map_err(|failed| *failed), commit)
}

#[test]
fn what_a_release_waits_for_has_ended_before_the_release_is_tried() {
    let scene = AttemptScene::new();
    let with_schema = |number, migrate: &str| {
        let migrate = service("migrate", &format!("sleep 6; {migrate}"));
        starts_with(number, "{migrate: {condition: service_completed_successfully}}", &migrate)
    };
    deploy(&scene, &with_schema(1, "echo 1 >/state/it")).0.unwrap();
    let (done, second) = deploy(&scene, &with_schema(2, "echo 2 >/state/it"));
    done.unwrap();
    assert!(scene.get("/health").contains(&second.sha), "{}", scene.get("/health"));
    let server = scene.world.target(0);
    let before = server.sh("docker ps -aq --no-trunc | sort").unwrap();

    let (failed, _) = deploy(&scene, &with_schema(3, "echo no such column; exit 3"));
    let (stage, error) = failed.err().unwrap();
    assert_eq!((stage, error.code), (Stage::Compose, ErrorCode::CrashLoop), "{error}");
    assert!(error.message.starts_with("service migrate exits"), "{error}");
    assert!(error.tail.iter().any(|line| line.contains("no such column")), "{:?}", error.tail);
    assert!(scene.get("/health").contains(&second.sha), "{}", scene.get("/health"));
    assert_eq!(
        server.sh("docker ps -aq --no-trunc | sort").unwrap(),
        before,
        "nothing was touched, and nothing is left"
    );

    // The project's own CI goes the same way, where it isn't known to have ended.
    let job = "docker rm shop-migrate-1 >/dev/null; SSH_ORIGINAL_COMMAND='docker compose pull' /opt/services/shop/.slipway/ci-deploy";
    let said = server.sh(job).unwrap();
    assert!(said.contains("slipway: migrate is tried beside the release that serves"), "{said}");
    assert!(said.contains("slipway: backend runs"), "{said}");
}

#[test]
fn what_a_release_waits_for_is_not_killed_where_nobody_waits_any_more() {
    let scene = AttemptScene::new();
    let with_schema = |number: u32, lasts: u32| {
        let migrate =
            format!("echo begun >>/state/log; sleep {lasts}; echo {number} >/state/it; echo ended >>/state/log");
        starts_with(number, "{migrate: {condition: service_completed_successfully}}", &service("migrate", &migrate))
    };
    deploy(&scene, &with_schema(1, 0)).0.unwrap();
    count_commands(&scene);
    let sample = with_schema(2, 10);
    let second = scene.publish(&sample, Variant::Healthy);
    let run = || scene.run(scene.work(&sample, &second, "shop", &BTreeMap::new())).map(drop);
    let again = |_| run().or_else(|_| run()).map_err(|failed| format!("{failed:?}"));
    let waits = Points::These { from: "*", commands: vec!["timeout * docker wait *".to_owned()] };
    assert_eq!(dies_before_each_command(&scene, waits, |_| (), again, |_| ()), 1);
    assert!(scene.get("/health").contains(&second.sha), "{}", scene.get("/health"));
    let log = scene.world.target(0).sh("cat /var/lib/docker/volumes/shop_state/_data/log").unwrap();
    assert_eq!(log.matches("begun").count(), log.matches("ended").count(), "{log}");
    assert!(log.lines().count() >= 4, "{log}");
}

#[test]
fn what_a_release_brings_along_is_there_when_the_release_is_tried() {
    let scene = AttemptScene::new();
    let keeper = service("keeper", "echo 1 >/state/it; exec sleep 1000");
    deploy(&scene, &starts_with(1, "[keeper]", &keeper)).0.unwrap();
    let cache = service("cache", "echo 2 >/state/it; exec sleep 1000");
    let (done, second) = deploy(&scene, &starts_with(2, "[keeper, cache]", &(keeper + &cache)));
    done.unwrap();
    assert!(scene.get("/health").contains(&second.sha), "{}", scene.get("/health"));
}

#[test]
fn what_is_put_back_does_not_migrate_again() {
    let scene = AttemptScene::new();
    // As Alembic, it refuses a schema that is newer than itself.
    let with_schema = |number: u32, others: &str| {
        let migrate =
            format!("[ ! -e /state/it ] || [ $$(cat /state/it) -le {number} ] || exit 1; echo {number} >/state/it");
        let migrate = service("migrate", &migrate);
        starts_with(number, "{migrate: {condition: service_completed_successfully}}", &(migrate + others))
    };
    let (done, first) = deploy(&scene, &with_schema(1, ""));
    done.unwrap();
    let (failed, _) = deploy(&scene, &with_schema(2, &service("broken", "sleep 1; exit 1")));
    let (stage, error) = failed.err().unwrap();
    assert_eq!((stage, error.code), (Stage::Compose, ErrorCode::CrashLoop), "{error}");
    assert!(error.message.contains("was put back and is stable"), "{error}");
    assert!(scene.get("/health").contains(&first.sha), "{}", scene.get("/health"));
    let (done, third) = deploy(&scene, &with_schema(3, ""));
    done.unwrap();
    assert!(scene.get("/health").contains(&third.sha), "{}", scene.get("/health"));
}

const ENDED: &str = "{condition: service_completed_successfully}";

#[test]
fn what_is_new_is_healthy_before_what_waits_for_that_runs() {
    let scene = AttemptScene::new();
    deploy(&scene, &starts_with(0, "[redis]", &service("keeper", "echo 0 >/state/it; sleep 1000"))).0.unwrap();
    let store = service("store", "sleep 5; touch /state/ready; exec sleep 1000")
        + "\n    healthcheck: {test: [CMD, test, -e, /state/ready], interval: 1s, start_period: 20s}\n";
    let migrate = service("migrate", "[ -e /state/ready ] && echo 2 >/state/it")
        + "\n    depends_on: {store: {condition: service_healthy}}\n";
    let (done, second) = deploy(&scene, &starts_with(2, &format!("{{migrate: {ENDED}}}"), &(store + &migrate)));
    done.unwrap();
    assert!(scene.get("/health").contains(&second.sha), "{}", scene.get("/health"));
}

#[test]
fn what_needs_the_new_release_itself_waits_for_it() {
    let scene = AttemptScene::new();
    let page = service("page", "exec sleep 1000") + &format!("\n    depends_on: {{seed: {ENDED}}}\n");
    let with_seed = |version: u32| {
        let seed = service("seed", &format!("[ $$(cat /state/serves) = {version} ]"))
            + "\n    depends_on: {backend: {condition: service_healthy}}\n";
        let command = format!(
            "    command: [sh, -c, 'echo {version} >/state/serves; exec /app/backend']\n    user: \"0:0\"\n    volumes: [\"state:/state\"]\n"
        );
        let prod = PROD.replacen("  backend:\n", &format!("  backend:\n{command}"), 1);
        let prod = format!("{prod}{page}{seed}\nvolumes: {{state: }}\n");
        Sample::new(Generation::Two, "acme", "shop").with_file("infra/compose.prod.yml", &prod)
    };
    deploy(&scene, &with_seed(1)).0.unwrap();
    let (done, second) = deploy(&scene, &with_seed(2));
    done.unwrap();
    assert!(scene.get("/health").contains(&second.sha), "{}", scene.get("/health"));
}

#[test]
fn what_waits_for_nothing_that_runs_is_left_alone() {
    let scene = AttemptScene::new();
    let other = |profile: &str| service("migrate", "exit 3") + profile;
    let sample = |number: u32| {
        let others = other("\n    profiles: [tools]\n")
            + &service("keeper", &format!("echo {number} >/state/it; exec sleep 1000"));
        starts_with(
            0,
            "{keeper: {condition: service_started}, migrate: {condition: service_completed_successfully, required: false}}",
            &others,
        )
    };
    deploy(&scene, &sample(1)).0.unwrap();
    let (done, second) = deploy(&scene, &sample(2));
    done.unwrap();
    assert!(scene.get("/health").contains(&second.sha), "{}", scene.get("/health"));
}

fn with_pinged(number: u32, others: &str) -> Sample {
    let migrate = format!(
        "redis-cli -h redis ping | grep -q PONG || exit 9; \
         [ ! -e /state/it ] || [ $$(cat /state/it) -le {number} ] || exit 1; echo {number} >/state/it"
    );
    let migrate = service("migrate", &migrate) + "\n    depends_on: {redis: {condition: service_healthy}}\n";
    starts_with(number, &format!("{{migrate: {ENDED}}}"), &(migrate + others))
}

#[test]
fn what_was_stopped_is_deployed_with_its_migration() {
    let scene = AttemptScene::new();
    let sample = with_pinged(1, "");
    let (done, first) = deploy(&scene, &sample);
    done.unwrap();
    let work = scene.work(&sample, &first, "shop", &BTreeMap::new());
    scene.run_stages(DeploymentWork { action: Action::Stop, ..work }, &[Stage::Compose]).unwrap();
    let (done, second) = deploy(&scene, &with_pinged(2, ""));
    done.unwrap();
    assert!(scene.get("/health").contains(&second.sha), "{}", scene.get("/health"));
}

#[test]
fn what_was_put_back_can_be_stopped_and_started() {
    let scene = AttemptScene::new();
    let sample = with_pinged(1, "");
    let (done, first) = deploy(&scene, &sample);
    done.unwrap();
    let (failed, _) = deploy(&scene, &with_pinged(2, &service("broken", "sleep 1; exit 1")));
    let (_, error) = failed.err().unwrap();
    assert!(error.message.contains("was put back and is stable"), "{error}");
    let to = |action| DeploymentWork { action, ..scene.work(&sample, &first, "shop", &BTreeMap::new()) };
    scene.run_stages(to(Action::Stop), &[Stage::Compose]).unwrap();
    scene.run_stages(to(Action::Start), &[Stage::Compose, Stage::Verify]).unwrap();
    assert!(scene.get("/health").contains(&first.sha), "{}", scene.get("/health"));
}

#[test]
fn a_rollback_leaves_out_the_migration_of_its_release() {
    let scene = AttemptScene::new();
    let sample = with_pinged(1, "");
    let (done, first) = deploy(&scene, &sample);
    done.unwrap();
    deploy(&scene, &with_pinged(2, "")).0.unwrap();
    let work = scene.work(&sample, &first, "shop", &BTreeMap::new());
    scene.run(DeploymentWork { action: Action::Rollback, ..work }).map_err(|failed| *failed).unwrap();
    assert!(scene.get("/health").contains(&first.sha), "{}", scene.get("/health"));
}
