//! Whoever is allocated a port must answer there, and what can fail is tried before anything that serves is touched:
//! seen by somebody who asks all the while.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use slipway_deploy::{DeploymentWork, StageError};
use slipway_protocol::names::Port;
use slipway_protocol::{Change, ErrorCode, Stage};
use slipway_tests::world::Module::{self, Backend, Frontend, TgBot};
use slipway_tests::world::{Commit, Generation, Image, Sample, Variant};

use crate::pipeline::prober::{Answers, Prober};
use crate::pipeline::scene::{AttemptScene, PATIENCE, PORT};

/// The port of the frontend on the server.
const FRONTEND: u16 = PORT + 1;

fn to(scene: &AttemptScene, sample: &Sample, commit: &Commit) -> DeploymentWork {
    let mut work = scene.work(sample, commit, "shop", &BTreeMap::new());
    work.request.modules = sample.modules().iter().map(|module| module.service().parse().unwrap()).collect();
    if sample.modules().contains(&Frontend) {
        let mut frontend = work.request.allocations[1].clone();
        frontend.service = "frontend".parse().unwrap();
        frontend.host_port = Port::new(FRONTEND).ok();
        frontend.container_port = Port::new(4321).unwrap();
        work.request.allocations.push(frontend);
    }
    work
}

/// A deployment that fails while somebody asks the backend.
fn fails(scene: &AttemptScene, work: DeploymentWork) -> (Stage, StageError, Answers) {
    let prober = Prober::start(SocketAddr::from((scene.world.target(0).ip(), PORT)), "/health");
    let outcome = scene.run(work);
    let answers = prober.stop();
    let (stage, error) = *outcome.err().unwrap();
    (stage, error, answers)
}

#[test]
fn each_allocated_module_must_answer_on_its_port_and_who_does_not_is_named() {
    let mut scene = AttemptScene::new();
    scene.wait_for(8);
    let sample = Sample::new(Generation::One, "acme", "shop").of(&[Backend, Frontend]);
    let deaf = scene.publish(&sample, Variant::Deaf);
    // Everything runs, the frontend answers, and nobody has a health check.
    let (stage, error) = *scene.run(to(&scene, &sample, &deaf)).err().unwrap();
    assert_eq!((stage, error.code), (Stage::Verify, ErrorCode::NotListening), "{error}");
    assert!(error.message.contains("service backend doesn't listen"), "{error}");

    scene.wait_for(PATIENCE);
    let good = scene.publish(&sample.clone().with_file("README.md", "good"), Variant::Healthy);
    let done = scene.run(to(&scene, &sample, &good)).unwrap();
    let verified = &done.reports[&Stage::Verify];
    let asked: Vec<_> = verified.facts["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| (s["service"].as_str().unwrap(), s["path"].as_str().unwrap()))
        .collect();
    assert_eq!(asked, [("frontend", "/"), ("backend", "/health")]);
    assert_eq!(verified.url, Some(format!("http://{}:{FRONTEND}", scene.world.target(0).ip())));
    // Seen once all of them answer, which stage firewall comes too early for.
    let exposed = json!([
        { "port": PORT, "service": "backend", "answers": true, "asked_for": true },
        { "port": FRONTEND, "service": "frontend", "answers": true, "asked_for": true },
    ]);
    assert_eq!(verified.facts["exposed"], exposed);

    // A module of any other name must take connections; a worker that polls needs not.
    scene.wait_for(2);
    let verify = |service: &str, port: u16| {
        let mut work = to(&scene, &sample, &good);
        let mut other = work.request.allocations[1].clone();
        other.service = service.parse().unwrap();
        other.host_port = Port::new(port).ok();
        work.request.modules.insert(other.service.clone());
        work.request.allocations.push(other);
        scene.run_stages(work, &[Stage::Verify]).map(|mut done| done.reports.remove(&Stage::Verify).unwrap())
    };
    let report = verify("tg_bot", 9001).unwrap();
    assert_eq!(report.facts["services"].as_array().unwrap().len(), 2, "{report:?}");
    let (_, error) = *verify("admin", 9001).err().unwrap();
    assert_eq!(error.code, ErrorCode::NotListening, "{error}");
    assert!(error.message.contains("service admin doesn't listen"), "{error}");
    let mute = "setsid python3 -c 'import socket, time; s = socket.create_server((\"\", 9003)); time.sleep(1000)' \
                >/dev/null 2>&1 </dev/null & until ss -Hltn | grep -q :9003; do :; done";
    scene.world.target(0).sh(mute).unwrap();
    let report = verify("admin", 9003).unwrap();
    assert_eq!(report.facts["services"][2], json!({ "service": "admin", "port": 9003, "accepts": true }));
}

#[test]
fn a_release_is_rehearsed_until_it_answers_or_exits_and_the_other_one_serves() {
    let mut scene = AttemptScene::new();
    let sample = Sample::new(Generation::One, "acme", "shop");
    let good = scene.publish(&sample, Variant::Healthy);
    scene.run(to(&scene, &sample, &good)).unwrap();
    for (variant, code, words) in [
        (Variant::LateExit, ErrorCode::CrashLoop, "service backend exits when it's tried beside the running release"),
        (Variant::NotFound, ErrorCode::NotHealthy, "service backend answers 404 at /health when it's tried beside"),
        (Variant::Deaf, ErrorCode::NotListening, "service backend doesn't listen on port 8000 of its container when"),
    ] {
        let bad = scene.publish(&sample.clone().with_file("README.md", &format!("{variant:?}")), variant);
        scene.wait_for(if variant == Variant::Deaf { 8 } else { PATIENCE });
        let (stage, error, answers) = fails(&scene, to(&scene, &sample, &bad));
        assert_eq!((stage, error.code), (Stage::Compose, code), "{variant:?}: {error}");
        assert!(error.message.contains(words), "{error}");
        assert!(error.message.ends_with("which served before, serves on, and answers"), "{error}");
        assert_eq!(answers.failed, 0, "{variant:?}: {answers:?}");
        assert!(answers.asked > 50 && scene.get("/health").contains(&good.sha), "{answers:?}");
    }
    scene.wait_for(PATIENCE);
    // One that takes its time is waited for, and only then takes the other one's place.
    let late = scene.publish(&sample.clone().with_file("README.md", "late"), Variant::Late);
    let done = scene.run(to(&scene, &sample, &late)).unwrap();
    assert_eq!(done.reports[&Stage::Compose].facts["rehearsed"], json!(["backend"]));
    assert!(scene.get("/health").contains(&late.sha));
}

/// The containers of these services, with their starts.
fn containers(scene: &AttemptScene, services: &str) -> String {
    let format = "{{.Name}} {{.Id}} {{.State.StartedAt}} {{.RestartCount}}";
    let names = format!("docker ps --format '{{{{.Names}}}}' | grep -E '^shop-({services})-1$' | sort");
    scene.world.target(0).sh(&format!("docker inspect --format '{format}' $({names})")).unwrap()
}

#[test]
fn a_bot_that_crashes_costs_the_web_service_nothing_and_is_put_back_alone() {
    let scene = AttemptScene::new();
    scene.note_starts(0, "tg_bot");
    for generation in Generation::ALL {
        let slug = if generation == Generation::One { "One" } else { "Two" };
        let mut sample = Sample::new(generation, "acme", slug).of(&[Backend, TgBot]);
        let keeps_notes = generation == Generation::One;
        if keeps_notes {
            sample = with_notes(sample);
        }
        let good = scene.publish(&sample, Variant::Healthy);
        scene.run(to(&scene, &sample, &good)).unwrap();
        let noted = |command: &str| scene.world.target(0).sh(&format!("docker exec shop-tg_bot-1 sh -c '{command}'"));
        if keeps_notes {
            noted("echo mine >/notes/one").unwrap();
        }
        let (web, bot) = (containers(&scene, "backend|db|redis"), containers(&scene, "tg_bot"));

        let bad = scene.publish(&sample.clone().with_file("README.md", "bad"), Variant::Healthy);
        let crashing = Image::module(TgBot, Variant::CrashLoop, Some(&bad.sha));
        scene.world.push_image(&sample.image(Module::TgBot), &bad.tag(), &crashing).unwrap();
        let (stage, error, answers) = fails(&scene, to(&scene, &sample, &bad));
        assert_eq!((stage, error.code), (Stage::Compose, ErrorCode::CrashLoop), "{error}");
        assert!(error.message.starts_with("service tg_bot "), "{error}");
        assert!(error.message.ends_with("which served before, was put back and is stable, and answers"), "{error}");
        assert!(error.tail.iter().any(|line| line.contains("nothing to live for")), "{:?}", error.tail);
        assert_eq!((answers.failed, answers.longest.as_millis()), (0, 0), "{answers:?}");
        assert_eq!(containers(&scene, "backend|db|redis"), web, "the others were touched");
        let restored = containers(&scene, "tg_bot");
        assert!(!restored.is_empty() && restored != bot, "{restored}");
        assert!(scene.get("/health").contains(&good.sha));

        // The bot that was put back is what a deployment of the same commit asks for.
        let again = scene.run(to(&scene, &sample, &good)).unwrap();
        assert_eq!(again.reports[&Stage::Compose].change, Change::Unchanged);
        assert_eq!(containers(&scene, "backend|db|redis|tg_bot"), format!("{web}{restored}"));
        if !keeps_notes {
            exits_once_it_was_tried(&scene, &sample, &good);
        }

        let next = scene.publish(&sample.clone().with_file("README.md", "next"), Variant::Healthy);
        let prober = Prober::start(SocketAddr::from((scene.world.target(0).ip(), PORT)), "/health");
        scene.starts(0, "tg_bot");
        scene.run(to(&scene, &sample, &next)).unwrap();
        let answers = prober.stop();
        tell(generation, &answers);
        assert!(answers.longest < Duration::from_secs(30), "{answers:?}");
        // Only compose hands on what has no name, and starts the bot once more for it.
        assert_eq!(scene.starts(0, "tg_bot"), if keeps_notes { 2 } else { 1 }, "starts of the new bot");
        assert!(!keeps_notes || noted("cat /notes/one").unwrap() == "mine\n");
        assert_ne!(containers(&scene, "tg_bot"), restored);
        let gone = "docker rm -fv $(docker ps -aq); docker volume prune -af; rm -r /opt/services/shop";
        scene.world.target(0).sh(gone).unwrap();
    }
}

/// A bot that runs for longer than it's tried alone, and for less than its five seconds, isn't released either.
fn exits_once_it_was_tried(scene: &AttemptScene, sample: &Sample, good: &Commit) {
    let bad = scene.publish(&sample.clone().with_file("README.md", "soon"), Variant::Healthy);
    let exiting = Image::module(TgBot, Variant::SoonExit, Some(&bad.sha));
    scene.world.push_image(&sample.image(Module::TgBot), &bad.tag(), &exiting).unwrap();
    let (stage, error, _) = fails(scene, to(scene, sample, &bad));
    assert_eq!((stage, error.code), (Stage::Compose, ErrorCode::CrashLoop), "{error}");
    assert!(error.message.starts_with("service tg_bot "), "{error}");
    assert!(error.message.ends_with("which served before, was put back and is stable, and answers"), "{error}");
    assert!(error.tail.iter().any(|line| line.contains("nobody has written")), "{:?}", error.tail);
    let images =
        "docker inspect --format '{{.Config.Image}} {{.State.Status}} {{.RestartCount}}' shop-backend-1 shop-tg_bot-1";
    let images = scene.world.target(0).sh(images).unwrap();
    let serves = |line: &str| line.ends_with(&format!("{} running 0", good.tag()));
    assert!(images.lines().all(serves), "{images}");
    assert!(scene.get("/health").contains(&good.sha));
}

/// With a bot that writes into a volume without a name.
fn with_notes(sample: Sample) -> Sample {
    let (folder, path) = (tempfile::tempdir().unwrap(), "infra/compose.base.yml");
    sample.write(folder.path()).unwrap();
    let base = std::fs::read_to_string(folder.path().join(path)).unwrap();
    let noting = base.replace("  tg_bot:\n", "  tg_bot:\n    volumes: [\"/notes\"]\n");
    assert_ne!(noting, base);
    sample.with_file(path, &noting)
}

/// How long replacing a release that works takes.
#[expect(clippy::print_stderr, reason = "shown when the test is asked to")]
fn tell(generation: Generation, answers: &Answers) {
    eprintln!("a deployment, {generation:?}: {answers:?}");
}
