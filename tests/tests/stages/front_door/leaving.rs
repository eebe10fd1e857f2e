//! A service, or a whole project, that is to publish its port itself from now on, where the door had it.

use slipway_deploy::DeploymentWork;
use slipway_protocol::{Action, ErrorCode, Stage};
use slipway_tests::world::{Commit, Generation, Sample, Variant};

use crate::front_door::scene::{DOOR, DRAIN, DoorProject, PROVING};
use crate::pipeline::scene::{AttemptScene, PORT};

/// A second web service, by the name of the bot.
const COMPOSE: &str = "services:
  backend:
    extends: { file: compose.base.yml, service: backend }
    image: ${BACKEND_IMAGE:?}
    env_file: ../.env
    ports: [\"${BACKEND_PORT:?}:8000\"]
  tg_bot:
    extends: { file: compose.base.yml, service: tg_bot }
    image: ${BACKEND_IMAGE:?}
    env_file: ../.env
    environment:
      OTHER: ${TG_BOT_IMAGE:?}
      DATABASE_URL: \"postgresql+psycopg://${POSTGRES_USER:-postgres}:${POSTGRES_PASSWORD:-postgres}@${POSTGRES_HOST:-db}:${POSTGRES_PORT:-5432}/${POSTGRES_DB:-service}\"
      REDIS_URL: \"${REDIS_URL:-redis://redis:6379}\"
  db:
    extends: { file: compose.base.yml, service: db }
  redis:
    extends: { file: compose.base.yml, service: redis }
";
const SECOND: u16 = PORT + 5;

fn project(scene: &AttemptScene) -> DoorProject<'_> {
    let sample = Sample::new(Generation::Two, "acme", "shop").with_file("infra/compose.prod.yml", COMPOSE);
    DoorProject::of(scene, sample, "shop", PORT)
}

/// With a second web service, whose path of health puts it behind the door, or whose lack of one leaves it outside.
fn work(project: &DoorProject<'_>, commit: &Commit, is_behind: bool) -> DeploymentWork {
    let mut work = project.work(commit);
    let mut second = serde_json::json!({ "service": "tg_bot", "host_port": SECOND, "container_port": 8000 });
    if is_behind {
        second["health"] = serde_json::json!({ "path": "/health" });
    }
    work.request.allocations.push(serde_json::from_value(second).unwrap());
    work
}

fn deploy(project: &DoorProject<'_>, commit: &Commit, is_behind: bool) {
    let failed = project.run(work(project, commit, is_behind)).err();
    assert!(failed.is_none(), "{failed:?}");
    for port in [PORT, SECOND] {
        let page = project.scene.get_from((0, port), "/health");
        assert!(page.contains(&commit.sha), "{port}: {page}");
    }
}

#[test]
fn services_leave_the_door_one_by_one_and_what_fails_then_is_put_back_behind_it() {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    let first = {
        let shop = project(&scene);
        let first = shop.publish(Variant::Healthy);
        deploy(&shop, &first, true);
        deploy(&shop, &first, false);
        let at_door = shop.server().sh(&format!("cut -d ' ' -f 1 {DOOR}/slots/shop")).unwrap();
        assert_eq!(at_door, format!("{PORT}\n"));
        let next = shop.publish(Variant::Healthy);
        deploy(&shop, &next, false);
        next
    };

    scene.without_door();
    let shop = project(&scene);
    let bad = shop.publish(Variant::CrashLoop);
    let (stage, error) = *shop.run(work(&shop, &bad, false)).err().unwrap();
    assert_eq!((stage, error.code), (Stage::Compose, ErrorCode::CrashLoop), "{error}");
    shop.answers(&first);
    shop.act(Action::Stop, &first, &[Stage::Compose]);
    shop.act(Action::Start, &first, &[Stage::Compose, Stage::Verify]);
    shop.answers(&first);
    let last = shop.publish(Variant::Healthy);
    deploy(&shop, &last, false);
    let left = "docker ps -aq --filter name=front-door; ls /opt/services/.slipway-front-door 2>/dev/null || :";
    assert_eq!(shop.server().sh(left).unwrap(), "");
}
