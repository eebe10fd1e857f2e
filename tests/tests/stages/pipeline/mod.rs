//! The seven stages against a real target server, without AMQP and without a database: what one attempt does and what
//! a second one finds.

mod answering;
mod as_left;
mod certificates;
mod ci_job;
mod claims;
mod cost;
mod doors;
pub mod dying;
mod environment;
mod killed_scripts;
mod moves;
mod one_shots;
mod prober;
mod refused_by_github;
mod registry_secrets;
mod rehearsal;
pub mod restoring;
pub mod scene;
mod servers;
mod serving;
mod unchanged;
mod workflows;

use std::collections::BTreeMap;

use slipway_deploy::{ContainerDefaults, DeploymentWork, HostKeyPolicy, ProjectLimits};
use slipway_protocol::names::{HostKey, Port};
use slipway_protocol::{Change, ErrorCode, Stage};
use slipway_tests::world::{Commit, Generation, Image, Module, Sample, Variant};
use tokio_util::sync::CancellationToken;

use self::scene::AttemptScene;

#[test]
fn a_host_key_is_pinned_learned_or_refused() {
    let mut scene = AttemptScene::new();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    scene.policy = Some(HostKeyPolicy::Refuse);
    let (_, error) = *scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).err().unwrap();
    assert_eq!(error.code, ErrorCode::HostKeyUnknown);
    assert!(error.message.contains("SHA256:"), "{error}");

    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8yGbVJ0Zt0zZ0c5r3Nq8XqSg2o0yqv6g0u1Yp1cV9b";
    scene.policy = Some(HostKeyPolicy::Pinned(HostKey::new(other).unwrap()));
    let (_, error) = *scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).err().unwrap();
    assert_eq!(error.code, ErrorCode::HostKeyMismatch, "{error}");

    scene.policy = Some(HostKeyPolicy::TrustOnFirstUse);
    scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).unwrap();
    let keys = scene.heard.keys.lock().unwrap();
    assert_eq!(keys[0].as_str(), scene.world.target(0).host_key());
}

#[test]
fn a_new_port_replaces_the_old_one_in_compose_and_in_ufw() {
    let mut scene = AttemptScene::new();
    let unbounded = ContainerDefaults { log_rotation: false, processes: 0, no_new_privileges: false };
    let earlier = scene.deployer_with(ProjectLimits { containers: unbounded, ..ProjectLimits::DEFAULT });
    let deployer = std::mem::replace(&mut scene.deployer, earlier);
    let server = scene.world.target(0);
    server.sh("ufw allow 22/tcp; ufw allow 9999/tcp comment 'not ours'; ufw --force enable").unwrap();
    let sample = Sample::new(Generation::One, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let work = scene.work(&sample, &commit, "shop", &BTreeMap::new());
    let first = scene.run(work.clone()).unwrap();
    scene.deployer = deployer;
    assert_eq!(first.reports[&Stage::Firewall].facts["ufw"], "active");
    let server = scene.world.target(0);
    assert!(server.sh("ufw status").unwrap().contains("# slipway:shop"));
    let bounds = |service: &str| {
        let format = "{{.HostConfig.LogConfig.Config}} {{.HostConfig.PidsLimit}} {{.HostConfig.SecurityOpt}} {{.Id}}";
        let of = format!("docker ps -q --filter label=com.docker.compose.service={service}");
        server.sh(&format!("docker inspect --format '{format}' $({of})")).unwrap()
    };
    let database = bounds("db");
    assert!(database.starts_with("map[] <no value> <no value> "), "{database}");

    let mut moved = work;
    moved.request.allocations[1].host_port = Port::new(8081).ok();
    moved.github_digests = first.reports[&Stage::Secrets].github_digests.clone().unwrap();
    let done = scene.run(moved).unwrap();
    assert_eq!(done.reports[&Stage::Verify].url.as_deref(), Some(format!("http://{}:8081", server.ip()).as_str()));
    let web = bounds("backend");
    assert!(web.starts_with("map[max-file:3 max-size:10m] 1024 [no-new-privileges:true] "), "{web}");
    assert_eq!(bounds("db"), database, "a database isn't replaced for the sake of defaults");
    let rules = server.sh("ufw show added").unwrap();
    assert!(rules.contains("8081/tcp comment 'slipway:shop'") && !rules.contains("8080"), "{rules}");
    assert!(rules.contains("9999/tcp comment 'not ours'"), "{rules}");
    assert_eq!(scene.get("/health"), "", "nobody answers on the old port");

    // Inactive, absent and broken are told apart; a rule is kept right in a ufw that is off.
    let firewall = |port: u16| {
        let mut work = scene.work_on((0, port), &sample, &commit, "shop", &BTreeMap::new());
        work.request.modules.remove(&"tg_bot".parse().unwrap());
        scene.run_stages(work, &[Stage::Firewall]).map(|mut done| done.reports.remove(&Stage::Firewall).unwrap())
    };
    // Somebody else's rule for the port isn't made ours, nor turned round, and outlives the project's stay there.
    server.sh("ufw allow 8085/tcp; ufw deny 8086/tcp").unwrap();
    for port in [8085, 8086] {
        let report = firewall(port).unwrap();
        assert_eq!(report.facts["ruled_by_others"], serde_json::json!([port.to_string()]));
    }
    firewall(8081).unwrap();
    let rules = server.sh("ufw show added").unwrap();
    assert!(rules.contains("ufw allow 8085/tcp\n") && rules.contains("ufw deny 8086/tcp\n"), "{rules}");

    server.sh("ufw disable").unwrap();
    let report = firewall(8082).unwrap();
    assert_eq!((&report.facts["ufw"], report.change), (&serde_json::json!("inactive"), Change::Changed));
    let rules = server.sh("ufw show added").unwrap();
    assert!(rules.contains("8082/tcp comment 'slipway:shop'") && !rules.contains("8081"), "{rules}");
    assert_eq!(firewall(8082).unwrap().change, Change::Unchanged);
    server.sh("mv /usr/sbin/ufw /root/ufw").unwrap();
    for what in ["status", "show", "allow", "delete"] {
        let script = format!("#!/bin/sh\n[ $1 != {what} ] || {{ echo broken >&2; exit 1; }}\nexec /root/ufw \"$@\"\n");
        let write = format!("cat >/usr/sbin/ufw <<'END'\n{script}END\nchmod +x /usr/sbin/ufw");
        server.sh(&write).unwrap();
        let (_, error) = *firewall(8083).err().unwrap();
        let said = error.tail.last().map(String::as_str);
        assert_eq!((error.code, said), (ErrorCode::FirewallFailed, Some("broken")), "ufw {what}: {error}");
    }
    server.sh("rm /usr/sbin/ufw").unwrap();
    let report = firewall(8083).unwrap();
    assert_eq!((&report.facts["ufw"], report.change), (&serde_json::json!("absent"), Change::Unchanged));
    server.sh("mv /root/ufw /usr/sbin/ufw").unwrap();
    projects_that_open_their_ports_at_once_all_keep_their_rule(&scene, &sample, &commit);
}

/// Ufw itself forgets one rule of two that are added at once.
fn projects_that_open_their_ports_at_once_all_keep_their_rule(scene: &AttemptScene, sample: &Sample, commit: &Commit) {
    let server = scene.world.target(0);
    let places: Vec<(String, u16)> = (0..6).map(|n| (format!("neighbour-{n}"), 8090 + n)).collect();
    let attempts: Vec<_> = places
        .iter()
        .map(|(slug, port)| {
            server.sh(&format!("mkdir -p /opt/services/{slug}")).unwrap();
            let work = scene.work_on((0, *port), sample, commit, slug, &BTreeMap::new());
            scene.deployer.begin(work, scene.heard.clone(), CancellationToken::new())
        })
        .collect();
    let all = async {
        let running = attempts.into_iter().map(|mut attempt| {
            tokio::spawn(async move {
                attempt.run(Stage::Firewall).await.unwrap();
                attempt.close().await;
            })
        });
        for attempt in running.collect::<Vec<_>>() {
            attempt.await.unwrap();
        }
    };
    scene.world.block_on(all).unwrap();
    let rules = server.sh("ufw show added").unwrap();
    for (slug, port) in places {
        assert!(rules.contains(&format!("{port}/tcp comment 'slipway:{slug}'")), "{slug}: {rules}");
    }
}

#[test]
fn what_can_not_be_deployed_is_told_before_anything_runs() {
    let scene = AttemptScene::new();
    let server = scene.world.target(0);
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let work = |sample: &Sample, commit: &Commit| scene.work(sample, commit, "shop", &BTreeMap::new());
    let refused = |work: DeploymentWork| {
        let (stage, error) = *scene.run(work).err().unwrap();
        (stage, error.code, error)
    };

    server.sh("setsid python3 -m http.server 8080 >/dev/null 2>&1 </dev/null & until ss -Hltn | grep -q :8080; do :; done").unwrap();
    let (stage, code, error) = refused(work(&sample, &commit));
    assert_eq!((stage, code), (Stage::Preflight, ErrorCode::PortOccupied), "{error}");
    assert!(error.message.contains("python3"), "{error}");
    server.sh("kill $(ss -Hltnp 'sport = :8080' | sed -n 's/.*pid=\\([0-9]*\\).*/\\1/p')").unwrap();

    unfit_in_other_ways(&scene, &work(&sample, &commit));

    let mut nowhere = work(&sample, &commit);
    nowhere.request.repository.commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let (stage, code, error) = refused(nowhere);
    assert_eq!((stage, code), (Stage::Clone, ErrorCode::CommitNotFound), "{error} {:?}", error.tail);

    let mut stranger = work(&sample, &commit);
    stranger.request.repository.name = "acme/unheard-of".parse().unwrap();
    let (stage, code, error) = refused(stranger);
    assert_eq!((stage, code), (Stage::Clone, ErrorCode::RepositoryNotFound), "{error} {:?}", error.tail);

    let leaky = Sample::new(Generation::Two, "acme", "leaky").with_file(".env", "A=1\n");
    let (stage, code, error) = refused(work(&leaky, &scene.publish(&leaky, Variant::Healthy)));
    assert_eq!((stage, code), (Stage::Clone, ErrorCode::EnvFileTracked), "{error}");

    let bare = Sample::new(Generation::Two, "acme", "bare").without_file("infra/compose.prod.yml");
    let (stage, code, error) = refused(work(&bare, &scene.publish(&bare, Variant::Healthy)));
    assert_eq!((stage, code), (Stage::Env, ErrorCode::ComposeFileMissing), "{error}");

    let mut mute = work(&sample, &commit);
    mute.secrets.clear();
    let (stage, code, error) = refused(mute);
    assert_eq!((stage, code), (Stage::Env, ErrorCode::MissingSecret), "{error}");
    assert_eq!(error.missing_secret.unwrap().as_str(), "TELEGRAM_BOT_TOKEN");

    // Compose quotes what it can't read, which may be anything.
    server.sh("printf 'B%%D=\"hunter2-7c1d\"\\n' >/opt/services/shop/.env").unwrap();
    let (stage, code, error) = refused(work(&sample, &commit));
    assert_eq!((stage, code), (Stage::Env, ErrorCode::ComposeInvalid), "{error}");
    assert!(error.tail.concat().contains("unexpected character"), "{:?}", error.tail);
    let heard = scene.heard.lines.lock().unwrap().join("\n") + &error.tail.concat();
    assert!(heard.contains("[redacted]") && !heard.contains("hunter2"), "{heard}");
    server.sh("rm /opt/services/shop/.env").unwrap();

    scene.world.ghcr().remove("acme/shop-tg-bot", &commit.tag()).unwrap();
    let (stage, code, error) = refused(work(&sample, &commit));
    assert_eq!((stage, code), (Stage::Compose, ErrorCode::ImageNotFound), "{error} {:?}", error.tail);
    assert_eq!(server.sh("docker ps -aq").unwrap(), "", "nothing was started");
    assert_eq!(server.sh("ls -A /dev/shm").unwrap(), "", "no registry credential is left");
    assert_eq!(server.sh("stat -Lc %a /opt/services/shop/.env /opt/services/shop/infra/.env").unwrap(), "600\n600\n");
    half_of_a_first_release_is_told_service_by_service(&scene, &sample, &commit);
}

/// The backend is fine, the bot exits again and again.
fn half_of_a_first_release_is_told_service_by_service(scene: &AttemptScene, sample: &Sample, commit: &Commit) {
    let bot = Image::module(Module::TgBot, Variant::CrashLoop, Some(&commit.sha));
    scene.world.push_image(&sample.image(Module::TgBot), &commit.tag(), &bot).unwrap();
    let (_, error) = *scene.run(scene.work(sample, commit, "shop", &BTreeMap::new())).err().unwrap();
    assert!(error.code == ErrorCode::CrashLoop && error.message.contains("tg_bot"), "{error}");
    let fine = |name: &str| {
        let told = error.services.iter().find(|service| service.service.as_str() == name).unwrap();
        told.state == "running" && told.restarts == 0
    };
    assert!(fine("backend") && !fine("tg_bot"), "{:?}", error.services);
}

/// What only a look at a real server shows.
fn unfit_in_other_ways(scene: &AttemptScene, work: &DeploymentWork) {
    let server = scene.world.target(0);
    let preflight = |work: DeploymentWork| scene.run_stages(work, &[Stage::Preflight]);
    let refused = |work: DeploymentWork| preflight(work).err().unwrap().1;
    // Of somebody else's, and between two starts: nobody listens at the moment.
    server.sh("docker run -d --name flaky --restart always -p 8080:80 redis:7-alpine false").unwrap();
    server.sh("until [ \"$(docker inspect -f '{{.State.Status}}' flaky)\" = restarting ]; do :; done").unwrap();
    let error = refused(work.clone());
    assert_eq!(error.code, ErrorCode::PortOccupied, "{error}");
    assert!(error.message.starts_with("port 8080 is held by container flaky"), "{error}");
    server.sh("docker stop flaky").unwrap();
    let report = preflight(work.clone()).unwrap().reports.remove(&Stage::Preflight).unwrap();
    let told = &report.facts["stopped_containers_with_the_ports"];
    assert_eq!(told, &serde_json::json!(["port 8080: container flaky (exited)"]));
    server.sh("docker rm flaky").unwrap();

    server.sh("cp /etc/hosts /root/hosts; sed -i /ghcr.io/d /etc/hosts").unwrap();
    let error = refused(work.clone());
    assert_eq!(error.code, ErrorCode::RegistryUnresolvable, "{error}");
    server.sh("cp /root/hosts /etc/hosts").unwrap();

    for (user, groups) in [("guest", &[][..]), ("docked", &["docker"])] {
        server.add_user(user, groups).unwrap();
        let mut work = work.clone();
        work.target.ssh_user = user.parse().unwrap();
        let error = refused(work);
        assert_eq!(error.code, ErrorCode::SudoMissing, "{error}");
        assert!(error.message.contains(&format!("user {user} isn't root")), "{error}");
        assert_eq!(error.message.contains("talk to Docker"), user == "guest", "{error}");
    }
}
