//! What a deployment seems to have left as it is, and hasn't, or hasn't proven: what changed before its end, below what
//! containers may write, or in the settings of sshd and ufw; and what failed although all was as it had been left.

use std::collections::BTreeMap;

use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::world::{Generation, Sample, Variant};
use tokio_util::sync::CancellationToken;

use crate::pipeline::scene::AttemptScene;
use crate::pipeline::unchanged::{ALL_BUT_SECRETS, ALL_BUT_VERIFY, Again, PROGRAMS, RELEASE, told};

const PROD: &str = include_str!("../../../samples/generation-2/infra/compose.prod.yml");
/// A file of the commit, and a folder with one and with what isn't.
const MOUNTS: &str = "  redis:\n    volumes: [\"./shown.conf:/shown.conf\", \"../seeds:/seeds\"]\n";

#[test]
fn what_a_success_has_not_seen_is_not_taken_for_what_it_has_left() {
    let scene = AttemptScene::new();
    scene.world.target(0).sh("ufw allow 22/tcp; ufw --force enable").unwrap();
    let sample = Sample::new(Generation::Two, "acme", "shop")
        .with_file("infra/compose.prod.yml", &PROD.replace("  redis:\n", MOUNTS))
        .with_file("infra/shown.conf", "first\n")
        .with_file("seeds/one.txt", "one\n")
        .with_file("seeds/o\"dd.txt", "odd\n")
        .with_file("1:n.conf", "root\n");
    let commit = scene.publish(&sample, Variant::Healthy);
    let mut again = Again { scene: &scene, sample, commit, digests: BTreeMap::new(), times: 0, address: None };
    again.deploy();

    files_of_the_commit_below_mounts_are_looked_at(&mut again);
    settings_of_ufw_and_sshd_are_looked_at(&mut again);
    what_was_started_anew_before_the_end_is_found(&mut again);
    what_has_failed_is_not_proven_again(&mut again);
}

fn files_of_the_commit_below_mounts_are_looked_at(again: &mut Again<'_>) {
    let counter = again.scene.world.target(0).count_programs().unwrap();
    assert_eq!(told(&again.deploy()), (ALL_BUT_VERIFY.to_vec(), vec![]));
    let programs = counter.finish().unwrap();
    assert!(!programs.is_empty() && programs.len() <= PROGRAMS + 1, "{}: {programs:?}", programs.len());
    again.change("the containers' own", "touch infra/shown.conf; echo x >seeds/two.txt");
    again.finds("the containers' own", None);
    let server = again.scene.world.target(0);
    let redis = || server.sh("docker inspect -f '{{.Id}}' shop-redis-1").unwrap();
    for (what, how, is_mounted) in [
        ("a mounted file", "echo x >>infra/shown.conf", true),
        ("files below a mount", "rm seeds/one.txt; echo x >>seeds/o*; chmod +x seeds/o*", true),
        ("a file that nobody has mounted", "echo x >>1:n.conf", false),
        ("a mounted file, without an index", "echo x >>infra/shown.conf; rm .git/index", true),
    ] {
        let before = redis();
        again.change(what, how);
        again.finds(what, Some("a file was changed"));
        again.mends(what, &[], &[Stage::Clone]);
        assert_eq!(redis() != before, is_mounted, "{what}: whoever may have read it is made anew");
    }
    let shown = server.sh("docker exec shop-redis-1 sh -c 'cat /shown.conf /seeds/*'").unwrap();
    assert_eq!(shown, "first\nodd\none\nx\n", "whoever has them mounted reads them as they should be");
}

fn settings_of_ufw_and_sshd_are_looked_at(again: &mut Again<'_>) {
    let rows: &[(&str, &str, &[Stage], &[Stage])] = &[
        ("rules after ufw's own", "echo '# x' >>/etc/ufw/after.rules", &RELEASE, &[]),
        ("rules before ufw's own", "echo '# x' >>/etc/ufw/before6.rules", &RELEASE, &[]),
        ("ufw's defaults", "ufw default allow outgoing; echo '# x' >>/etc/default/ufw", &RELEASE, &[]),
        ("sshd's settings", "touch /etc/ssh/sshd_config", &ALL_BUT_SECRETS, &[]),
        (
            "another file of keys",
            "echo 'AuthorizedKeysFile /etc/ssh/keys/%u .ssh/authorized_keys' >/etc/ssh/sshd_config.d/keys.conf
             kill -HUP $(cat /run/sshd.pid); sleep 1",
            &ALL_BUT_SECRETS,
            &[Stage::Secrets],
        ),
    ];
    for (what, how, proven, changed) in rows {
        again.change(what, how);
        again.mends(what, proven, changed);
    }
    let keys = again.scene.world.target(0).sh("cat /etc/ssh/keys/root").unwrap();
    assert!(keys.contains(" slipway:shop"), "{keys}");
}

fn what_was_started_anew_before_the_end_is_found(again: &mut Again<'_>) {
    again.change("all stages", "rm .slipway/left");
    let (scene, work) = (again.scene, again.work());
    let digests = scene
        .world
        .block_on(async move {
            let mut attempt = scene.deployer.begin(work, scene.heard.clone(), CancellationToken::new());
            let mut digests = None;
            for stage in Stage::ALL {
                if stage == Stage::Secrets {
                    scene.world.target(0).sh("docker restart -t 0 shop-tg_bot-1; sleep 6").unwrap();
                }
                digests = attempt.run(stage).await.unwrap().github_digests;
            }
            attempt.close().await;
            digests
        })
        .unwrap();
    again.digests = digests.unwrap();
    again.finds("a restart", Some("a container was started anew, or went, after it was found stable"));
    again.mends("a restart", &[], &[]);
}

fn what_has_failed_is_not_proven_again(again: &mut Again<'_>) {
    let closes = "iptables -I FORWARD -p tcp --dport 8000 -j DROP";
    again.change("a port that is closed elsewhere", closes);
    let work = again.work();
    let (stage, error) = *again.scene.run(work).err().unwrap();
    assert_eq!((stage, error.code), (Stage::Verify, ErrorCode::NotReachable), "{error}");
    again.change("a port that is closed elsewhere", &closes.replace("-I", "-D"));
    again.mends("a port that is closed elsewhere", &[], &[]);
}
