//! What keeps a server from taking a deployment, and is named.

use std::collections::BTreeMap;

use slipway_deploy::{DeploymentWork, StageError};
use slipway_protocol::names::Host;
use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::world::{Generation, Sample, Variant};

use crate::pipeline::scene::AttemptScene;

/// What is done to the server, the stage that fails there, its code, what its message says; and what undoes it.
type Case = (&'static str, Stage, ErrorCode, &'static str, &'static str);

const CASES: [Case; 5] = [
    (
        "mv /usr/bin/docker /usr/bin/docker.real; cat >/usr/bin/docker <<'END'\n#!/bin/sh\nexec unshare --mount sh -c \
         'mount -t tmpfs none /opt; mount -t tmpfs none /dev/shm; exec /usr/bin/docker.real \"$@\"' docker \"$@\"\nEND\n\
         chmod +x /usr/bin/docker",
        Stage::Preflight,
        ErrorCode::DockerConfined,
        "/usr/bin/docker is confined",
        "mv /usr/bin/docker.real /usr/bin/docker",
    ),
    (
        "mv /usr/bin/docker /usr/bin/docker.real; printf '#!/bin/sh\\n[ \"$1\" = --version ] || exit 125\\necho podman \
         version 5.4.2\\n' >/usr/bin/docker; chmod +x /usr/bin/docker",
        Stage::Preflight,
        ErrorCode::DockerMissing,
        "docker on the server is podman under another name",
        "mv /usr/bin/docker.real /usr/bin/docker",
    ),
    (
        "mkdir -p /home/ann/.docker/cli-plugins; mv /usr/libexec/docker/cli-plugins/docker-compose /home/ann/.docker/cli-plugins",
        Stage::Preflight,
        ErrorCode::ComposeMissing,
        "but /home/ann/.docker/cli-plugins/docker-compose, which is that user's alone",
        "mv /home/ann/.docker/cli-plugins/docker-compose /usr/libexec/docker/cli-plugins/",
    ),
    (
        "printf '#!/bin/sh\\nif [ \"$*\" = +%%s ]; then echo $(($(/bin/date +%%s) - 600)); else exec /bin/date \"$@\"; fi\\n' \
         >/usr/local/bin/date; chmod +x /usr/local/bin/date",
        Stage::Preflight,
        ErrorCode::ClockSkewed,
        "s behind the registry's, which decides",
        "rm /usr/local/bin/date",
    ),
    (
        "ip -4 route flush dev eth0; ip -4 addr flush dev eth0",
        Stage::Clone,
        ErrorCode::ServerLacksIpv4,
        "the server has no route to IPv4 addresses, and github.com has no others",
        "true",
    ),
];

#[test]
fn what_an_unfit_server_lacks_is_named_with_its_own_words() {
    let mut scene = AttemptScene::new();
    scene.trust_registries();
    let server = scene.world.target(0);
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let work = || {
        let mut work = scene.work(&sample, &commit, "shop", &BTreeMap::new());
        work.target.address = Host::new(server.ip_v6().to_string()).unwrap();
        work
    };
    let refused = |work: DeploymentWork| -> (Stage, StageError) { *scene.run(work).err().unwrap() };

    server.add_user("ann", &["sudo"]).unwrap();
    server.sh("echo 'Defaults:ann requiretty' >/etc/sudoers.d/ann").unwrap();
    let mut as_ann = work();
    as_ann.target.ssh_user = "ann".parse().unwrap();
    let (stage, error) = refused(as_ann);
    assert_eq!((stage, error.code), (Stage::Preflight, ErrorCode::SudoMissing), "{error}");
    assert!(error.message.contains("you must have a tty") && error.message.contains("!requiretty"), "{error}");

    for (make, stage, code, words, undo) in CASES {
        server.sh(make).unwrap();
        let (at, error) = refused(work());
        assert_eq!((at, error.code), (stage, code), "{error} {:?}", error.tail);
        assert!(error.message.contains(words), "{error}");
        server.sh(undo).unwrap();
    }
}
