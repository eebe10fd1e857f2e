//! What a first deployment and those of new commits take of a server, in what doesn't depend on the machine: the programs
//! that are started there for them, and the round trips.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use slipway_protocol::Stage;
use slipway_protocol::names::Host;
use slipway_tests::world::{Generation, LongLine, Sample, Variant};

use crate::pipeline::scene::{AttemptScene, PORT};

/// The most questions to Docker, rooms for the project's files, calls of git and of ufw, and waits of a shell, of a first
/// deployment and of a new commit: what takes 20 to 110 ms each; and of all that is counted. Once Docker is called for what is
/// put in front of it here, which could keep files from it; a busy machine looks twice more, with two calls each.
const MOST: Bounds = [
    ("docker", [20, 35]),
    ("unshare", [5, 4]),
    ("git", [20, 20]),
    ("ufw", [6, 3]),
    ("sleep", [2, 4]),
    ("", [320, 320]),
];
/// With a front door, which the first deployment installs. The new commit is watched on its slot, takes over, and waits until
/// the old one has ended what it had.
const MOST_BY_DOOR: Bounds = [
    ("docker", [28, 54]),
    ("unshare", [5, 4]),
    ("git", [20, 20]),
    ("ufw", [6, 3]),
    ("sleep", [6, 24]),
    ("", [430, 440]),
];
/// The most round trips over SSH, on the wire. A first deployment brings variables with which compose hasn't been asked yet.
/// A new commit takes 12 on a quiet machine; on a very busy one 15 were seen.
const ROUND_TRIPS: [u32; 2] = [15, 15];
/// So long that a slow start of sshd's own programs isn't taken for a round trip.
const DELAY: Duration = Duration::from_millis(50);
/// Puts in front of programs what notes that they're started.
const COUNT: &str = r#"mkdir /root/count
for name in docker git sleep ufw unshare \
    awk base64 cat chmod cmp cp cut date df du find flock getent grep head id install ip ln mkdir mount mv readlink realpath rm sed \
    sha256sum sort ss stat sync tail tee timeout tr; do
    printf '#!/bin/sh\necho %s 2>/dev/null >>/root/started\nexec %s "$@"\n' $name $(command -v $name) >/root/count/$name
done
chmod +x /root/count/*
mv /root/count/* /usr/local/bin/"#;

/// What a first deployment and a new commit may take.
type Bounds = [(&'static str, [usize; 2]); 6];

#[test]
fn first_deployments_and_new_commits_start_few_programs_and_seldom_wait() {
    let mut scene = AttemptScene::new();
    let server = scene.world.target(0);
    server.sh(COUNT).unwrap();
    let line = LongLine::lay(Ipv4Addr::LOCALHOST, server.ip(), &[22, PORT, PORT + 1], DELAY).unwrap();
    cost(&scene, &line, ("shop", PORT), &MOST);
    scene.with_door(2, 1);
    cost(&scene, &line, ("kiosk", PORT + 1), &MOST_BY_DOOR);
}

/// Deploys a project and its next commit, over a long line.
fn cost(scene: &AttemptScene, line: &LongLine, (slug, port): (&str, u16), most: &Bounds) {
    let server = scene.world.target(0);
    let sample = Sample::new(Generation::Two, "acme", slug);
    let mut digests = BTreeMap::new();
    for n in 0..2 {
        let sample = sample.clone().with_file("services/backend/new.txt", &format!("{n}\n"));
        let commit = scene.publish(&sample, Variant::Healthy);
        let mut work = scene.work_on((0, port), &sample, &commit, slug, &digests);
        work.target.address = Host::new(line.address().to_string()).unwrap();
        let done = scene.run(work).unwrap();
        digests = done.reports[&Stage::Secrets].github_digests.clone().unwrap();
        assert!(scene.get_from((0, port), "/health").contains(&commit.sha));
        let rehearsed: &[&str] = if n == 0 { &[] } else { &["backend"] };
        assert_eq!(done.reports[&Stage::Compose].facts["rehearsed"], serde_json::json!(rehearsed));
        let started = server.sh("cat /root/started; : >/root/started").unwrap();
        for (program, most) in most {
            let count = started.lines().filter(|name| program.is_empty() || name == program).count();
            assert!(
                count <= most[n],
                "{count} times {program:?}, {} are the most, by deployment {n} of {slug}",
                most[n]
            );
        }
        let (trips, _) = line.take(22);
        assert!(trips <= ROUND_TRIPS[n], "{trips} round trips by deployment {n} of {slug}");
        assert!(done.round_trips <= trips, "{} are counted, and {trips} were on the wire", done.round_trips);
    }
}
