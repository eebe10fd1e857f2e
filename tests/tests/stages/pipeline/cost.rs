//! What a first deployment and those of new commits take of a server, in what doesn't depend on the machine: the programs
//! that are started there for them, and the round trips.

use std::collections::BTreeMap;

use slipway_protocol::Stage;
use slipway_tests::world::{Generation, Sample, Variant};

use crate::pipeline::scene::AttemptScene;

/// The most questions to Docker, rooms for the project's files, calls of git and of ufw, and waits of a shell, of a first
/// deployment and of a new commit: what takes 20 to 110 ms each. A busy machine asks Docker once or twice more.
const MOST: [(&str, [usize; 2]); 5] =
    [("docker", [31, 60]), ("unshare", [8, 8]), ("git", [28, 31]), ("ufw", [5, 4]), ("sleep", [2, 3])];
/// Puts in front of programs what notes that they're started.
const COUNT: &str = r#"mkdir /root/count
for name in docker git sleep ufw unshare; do
    printf '#!/bin/sh\necho %s >>/root/started\nexec %s "$@"\n' $name $(command -v $name) >/root/count/$name
done
chmod +x /root/count/*
mv /root/count/* /usr/local/bin/"#;

#[test]
fn first_deployments_and_new_commits_start_few_programs_and_seldom_wait() {
    let scene = AttemptScene::new();
    let server = scene.world.target(0);
    server.sh(COUNT).unwrap();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let mut digests = BTreeMap::new();
    for n in 0..2 {
        let sample = sample.clone().with_file("services/backend/new.txt", &format!("{n}\n"));
        let commit = scene.publish(&sample, Variant::Healthy);
        let done = scene.run(scene.work(&sample, &commit, "shop", &digests)).unwrap();
        digests = done.reports[&Stage::Secrets].github_digests.clone().unwrap();
        assert!(scene.get("/health").contains(&commit.sha));
        let rehearsed: &[&str] = if n == 0 { &[] } else { &["backend"] };
        assert_eq!(done.reports[&Stage::Compose].facts["rehearsed"], serde_json::json!(rehearsed));
        let started = server.sh("cat /root/started; : >/root/started").unwrap();
        for (program, most) in MOST {
            let count = started.lines().filter(|name| *name == program).count();
            assert!(count <= most[n], "{count} times {program}, {} are the most, by deployment {n}", most[n]);
        }
        assert!(done.round_trips <= 16, "{}", done.round_trips);
    }
}
