//! Whole deployments on servers that are unusual in many ways at once, and leaving them again.

use std::collections::BTreeMap;

use slipway_deploy::DeploymentWork;
use slipway_protocol::names::Port;
use slipway_protocol::{Action, ErrorCode, Stage};
use slipway_tests::world::{Generation, Sample, TargetServer, Variant};

use crate::front_door::scene::{DRAIN, DoorProject, PROVING};
use crate::pipeline::scene::{AttemptScene, PORT};

/// One session at a time, through a shell that isn't POSIX's and greets, in another language; keys elsewhere; a `/tmp` that
/// runs nothing; Compose and a proxy in root's own directory; Docker without its proxies; and a firewall that judges what
/// Docker publishes, as ufw-docker writes it.
const UNUSUAL: &str = r#"
echo '{"userland-proxy": false, "live-restore": true}' >/etc/docker/daemon.json
kill -KILL "$(cat /run/docker.pid)"
mkdir -p /root/.docker/cli-plugins /root/.config/fish /etc/ssh/keys
mv /usr/libexec/docker/cli-plugins/docker-compose /root/.docker/cli-plugins/
echo '{"proxies": {"default": {"httpsProxy": "http://proxy.invalid:3128"}}, "credsStore": "missing"}' >/root/.docker/config.json
usermod --shell "$(command -v fish)" root
echo 'echo "Willkommen!"; echo "mind the gap" >&2' >/root/.config/fish/config.fish
mount -o remount,noexec /tmp
cp /root/.ssh/authorized_keys /etc/ssh/keys/root
cat >>/etc/ufw/after.rules <<'END'
# BEGIN UFW AND DOCKER
*filter
:ufw-user-forward - [0:0]
:DOCKER-USER - [0:0]
-A DOCKER-USER -j ufw-user-forward
-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A DOCKER-USER -s 10.0.0.0/8 -j RETURN
-A DOCKER-USER -s 172.16.0.0/12 -j RETURN
-A DOCKER-USER -s 192.168.0.0/16 -j RETURN
-A DOCKER-USER -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -d 192.168.0.0/16 -j DROP
-A DOCKER-USER -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -d 10.0.0.0/8 -j DROP
-A DOCKER-USER -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -d 172.16.0.0/12 -j DROP
-A DOCKER-USER -j RETURN
COMMIT
# END UFW AND DOCKER
END
ufw allow 22/tcp
ufw allow 2222:2223/tcp
until docker version >/dev/null 2>&1; do sleep 0.1; done
ufw --force enable
"#;

fn work(scene: &AttemptScene, sample: &Sample) -> DeploymentWork {
    let commit = scene.publish(sample, Variant::Healthy);
    let mut work = scene.work(sample, &commit, "shop", &BTreeMap::new());
    work.target.ssh_port = Port::new(2222).unwrap();
    work
}

#[test]
fn a_server_that_is_unusual_in_every_way_at_once_is_deployed_to_and_left_again() {
    let scene = AttemptScene::new();
    let server = scene.world.target(0);
    server.sh(UNUSUAL).unwrap();
    scene.start_sshd(0, 2222, "-o MaxSessions=1 -o AuthorizedKeysFile=/etc/ssh/keys/%u -o SetEnv=LANGUAGE=de");
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let mut work = work(&scene, &sample);
    let done = scene.run(work.clone()).unwrap();

    let told = &done.reports[&Stage::Firewall].facts;
    assert_eq!(told["exposed"][0]["answers"], true, "{told:?}");
    let rules = server.sh("ufw show added").unwrap();
    let subnet = server.sh("docker network inspect -f '{{(index .IPAM.Config 0).Subnet}}' shop_default").unwrap();
    let opened = format!("ufw route allow to {} port 8000 proto tcp comment 'slipway:shop'", subnet.trim());
    assert!(rules.contains(&opened), "{rules}");
    let seen = server.sh("docker inspect -f '{{.Config.Env}}' shop-backend-1").unwrap();
    assert!(seen.contains("HTTPS_PROXY=http://proxy.invalid:3128"), "{seen}");
    let keys = server.sh("cat /etc/ssh/keys/root").unwrap();
    assert!(keys.contains("slipway:shop"), "{keys}");
    let unused = server.sh("cat /root/.ssh/authorized_keys; ls -A /dev/shm").unwrap();
    assert!(!unused.contains("slipway:") && !unused.contains("slipway."), "{unused}");

    work.github_digests = done.reports[&Stage::Secrets].github_digests.clone().unwrap();
    let again = scene.run(work.clone()).unwrap();
    assert!(again.reports[&Stage::Secrets].facts.contains_key("as_left"), "{:?}", again.reports[&Stage::Preflight]);
    server.sh("sed -i /slipway:shop/d /etc/ssh/keys/root").unwrap();
    let again = scene.run(work.clone()).unwrap();
    assert_eq!(again.reports[&Stage::Secrets].facts["new_deploy_key"], true);

    a_key_that_sshd_refuses_is_an_error(&scene, work.clone());
    leaves_others_alone(&scene, server, DeploymentWork { action: Action::Undeploy, remove_volumes: true, ..work });
}

/// Another sshd, which asks a program for keys: nothing that is written anywhere is known to be read.
fn a_key_that_sshd_refuses_is_an_error(scene: &AttemptScene, mut work: DeploymentWork) {
    let options = "-o AuthorizedKeysFile=none -o AuthorizedKeysCommandUser=root -o 'AuthorizedKeysCommand=/usr/bin/cat /etc/ssh/keys/root'";
    scene.start_sshd(0, 2223, options);
    work.target.ssh_port = Port::new(2223).unwrap();
    work.github_digests.clear();
    let (_, error) = *scene.run_stages(work, &[Stage::Secrets]).err().unwrap();
    assert_eq!(error.code, ErrorCode::DeployKeyFailed, "{error}");
    assert!(error.message.contains("refuses CI's key, which is in /root/.ssh/authorized_keys"), "{error}");
    assert!(!error.detail.github_digests.unwrap().contains_key("DEPLOY_SSH_KEY"));
}

/// Somebody's own reverse proxy was connected to the project's network, and reads a volume of it.
fn leaves_others_alone(scene: &AttemptScene, server: &TargetServer, work: DeploymentWork) {
    server
        .sh("docker run -d --name traefik -v shop_db_data:/data:ro redis:7-alpine; docker network connect shop_default traefik")
        .unwrap();
    let done = scene.run_stages(work, Action::Undeploy.stages()).unwrap();
    let told = &done.reports[&Stage::Compose].facts;
    let stays = ["network shop_default: in use by traefik", "volume shop_db_data: in use by traefik"];
    assert_eq!(told["left_in_use"], serde_json::json!(stays), "{told:?}");
    assert_eq!(told["volumes_kept"], serde_json::json!(["shop_db_data"]));
    let left = server.sh("ls -A /opt/services; ufw show added; cat /etc/ssh/keys/root /root/.ssh/authorized_keys; docker image ls; docker ps -a --format '{{.Names}}'");
    let left = left.unwrap();
    for gone in ["shop-backend", "slipway:shop", "acme/shop"] {
        assert!(!left.contains(gone), "{gone}: {left}");
    }
    assert!(left.lines().all(|line| line != "shop"), "{left}");
    let lines = scene.heard.lines.lock().unwrap().join("\n");
    assert!(lines.contains("compose: warning: network shop_default: in use by traefik"), "{lines}");
    server.sh("ufw --force disable").unwrap();
    assert!(!server.sh("docker logs traefik").unwrap().is_empty(), "it runs on at port {PORT}'s end");
}

#[test]
#[ignore = "takes a minute: ./tests/soak"]
fn soak_a_server_with_containerds_image_store_is_deployed_to_again_and_again() {
    let scene = AttemptScene::new();
    let server = scene.world.target(0);
    server
        .sh("echo '{\"features\": {\"containerd-snapshotter\": true}}' >/etc/docker/daemon.json; kill -KILL \"$(cat /run/docker.pid)\"; \
             until docker info -f '{{.DriverStatus}}' 2>/dev/null | grep -q io.containerd.snapshotter; do sleep 0.1; done")
        .unwrap();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let mut digests = BTreeMap::new();
    let mut tags = Vec::new();
    for n in 0..3 {
        let sample = sample.clone().with_file("README.md", &format!("{n}\n"));
        let commit = scene.publish(&sample, Variant::Healthy);
        let mut work = scene.work(&sample, &commit, "shop", &digests);
        digests = scene.run(work.clone()).unwrap().reports[&Stage::Secrets].github_digests.clone().unwrap();
        assert!(scene.get("/health").contains(&commit.sha));
        work.github_digests = digests.clone();
        let again = scene.run(work).unwrap();
        assert!(again.reports[&Stage::Compose].facts.contains_key("as_left"), "{:?}", again.reports[&Stage::Preflight]);
        tags.push(commit.tag());
    }
    let images = server.sh("docker image ls --format '{{.Repository}}:{{.Tag}}'").unwrap();
    assert!(!images.contains(&tags[0]) && images.contains(&tags[1]) && images.contains(&tags[2]), "{images}");
}

#[test]
#[ignore = "takes a minute: ./tests/soak"]
fn soak_a_server_where_roots_of_containers_are_nobody_has_a_front_door() {
    let mut scene = AttemptScene::new();
    scene
        .world
        .target(0)
        .sh("useradd --system dockremap; echo dockremap:200000:65536 | tee -a /etc/subuid >>/etc/subgid; \
             echo '{\"userns-remap\": \"dockremap\"}' >/etc/docker/daemon.json; kill -KILL \"$(cat /run/docker.pid)\"; \
             until docker info -f '{{.SecurityOptions}}' 2>/dev/null | grep -q name=userns; do sleep 0.1; done")
        .unwrap();
    scene.with_door(DRAIN, PROVING);
    let project = DoorProject::alone(&scene, "shop", PORT);
    for _ in 0..2 {
        let commit = project.publish(Variant::Healthy);
        project.deploy(&commit);
        assert!(scene.get("/health").contains(&commit.sha));
    }
}
