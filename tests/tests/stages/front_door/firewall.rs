//! The door's ports are ordinary sockets: ufw's rule opens them and its removal closes them, on a server that is hardened
//! against the ports that Docker publishes as well.

use serde_json::json;
use slipway_deploy::StageError;
use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::world::{Commit, Generation, Module, Sample, Variant};

use crate::front_door::scene::{DRAIN, DoorProject, PROVING, timed};
use crate::pipeline::scene::{AttemptScene, FinishedAttempt, PORT};

/// What people add so that ufw rules what Docker publishes, too: it lets in what comes from private networks and what a
/// route rule names, and drops every other new connection to a container.
const HARDENING: &str = "
*filter
:ufw-user-forward - [0:0]
:hardened-drop - [0:0]
:DOCKER-USER - [0:0]
-A DOCKER-USER -j ufw-user-forward
-A DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j RETURN
-A DOCKER-USER -s 10.0.0.0/8 -j RETURN
-A DOCKER-USER -s 172.16.0.0/12 -j RETURN
-A DOCKER-USER -s 192.168.0.0/16 -j RETURN
-A DOCKER-USER -d 172.16.0.0/12 -p tcp --syn -j hardened-drop
-A DOCKER-USER -d 192.168.0.0/16 -p tcp --syn -j hardened-drop
-A DOCKER-USER -j RETURN
-A hardened-drop -j DROP
COMMIT
";

/// Enough for what answers, in seconds.
const IMPATIENCE: u64 = 15;

fn shop(scene: &AttemptScene) -> DoorProject<'_> {
    let sample = Sample::new(Generation::Two, "acme", "shop").of(&[Module::Backend]);
    DoorProject::of(scene, sample, "shop", PORT)
}

/// Whether somebody outside gets an answer.
fn is_open(scene: &AttemptScene) -> bool {
    !scene.get("/health").is_empty()
}

fn exposed(done: &FinishedAttempt) -> &serde_json::Value {
    &done.reports[&Stage::Verify].facts["exposed"]
}

fn verified(project: &DoorProject<'_>, commit: &Commit) -> Result<FinishedAttempt, StageError> {
    project.scene.run_stages(project.work(commit), &[Stage::Verify]).map_err(|failed| failed.1)
}

/// The rule opens, its removal closes, the next deployment opens.
fn obeys_ufw(scene: &AttemptScene, project: &DoorProject<'_>) {
    let server = project.server();
    let commit = project.publish(Variant::Healthy);
    let done = timed("behind the door", || project.deploy(&commit));
    let open = json!([{ "port": PORT, "service": "backend", "answers": true, "asked_for": true }]);
    assert_eq!(*exposed(&done), open);
    assert!(is_open(scene));
    assert!(server.sh("ufw status").unwrap().contains("# slipway:shop"));

    server.sh(&format!("ufw delete allow {PORT}/tcp")).unwrap();
    assert!(!is_open(scene), "without a rule it's open");
    let error = verified(project, &commit).err().unwrap();
    assert_eq!(error.code, ErrorCode::NotReachable, "{error}");
    assert!(server.sh(&format!("curl -s -m 5 http://127.0.0.1:{PORT}/health")).unwrap().contains(&commit.sha));

    let next = project.publish(Variant::Healthy);
    let done = project.deploy(&next);
    assert_eq!(*exposed(&done), open);
    project.is_whole(&next);
}

#[test]
fn ufws_rule_opens_the_doors_ports_also_on_a_server_hardened_against_docker() {
    let mut scene = AttemptScene::new();
    scene.wait_for(IMPATIENCE);
    scene.world.target(0).sh("ufw allow 22/tcp; ufw --force enable").unwrap();
    // What it was without a door: no rule rules it, and on a hardened server none opens it.
    let bare = shop(&scene);
    let commit = bare.publish(Variant::Healthy);
    bare.deploy(&commit);
    bare.server().sh(&format!("ufw delete allow {PORT}/tcp")).unwrap();
    assert!(is_open(&scene), "Docker publishes past ufw");
    bare.server()
        .sh(&format!("cat >>/etc/ufw/after.rules <<'END'{HARDENING}END\nufw allow {PORT}/tcp; ufw reload"))
        .unwrap();
    assert!(!is_open(&scene), "a rule opens what Docker publishes");
    let error = verified(&bare, &commit).err().unwrap();
    assert_eq!(error.code, ErrorCode::NotReachable, "{error}");
    bare.server().sh(&format!("ufw delete allow {PORT}/tcp")).unwrap();

    scene.with_door(DRAIN, PROVING);
    scene.wait_for(IMPATIENCE);
    obeys_ufw(&scene, &shop(&scene));
}
