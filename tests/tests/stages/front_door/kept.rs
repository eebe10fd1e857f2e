//! A release that has taken over beside another one is what compose would make: it's left alone the next time.

use std::collections::BTreeMap;

use slipway_protocol::{ReplacementWay, Stage};
use slipway_tests::world::{Generation, Sample, TargetServer, Variant};

use crate::front_door::scene::{DRAIN, PROVING};
use crate::pipeline::scene::AttemptScene;

/// From now on no process of Docker's passes on what comes for a published port, the loopback's neither, but rules of the kernel
/// alone, as many have it.
fn without_proxies(server: &TargetServer) {
    let settings = "mkdir -p /etc/docker; [ ! -e /etc/docker/daemon.json ]
        echo '{\"userland-proxy\": false}' >/etc/docker/daemon.json
        p=$(cat /run/docker.pid); kill $p; while [ -d /proc/$p ]; do sleep 0.1; done
        until docker info >/dev/null 2>&1; do sleep 0.1; done";
    server.sh(settings).unwrap();
}

#[test]
fn a_release_that_took_over_is_kept_where_the_same_is_asked_for_again() {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    without_proxies(scene.world.target(0));
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let first = scene.publish(&sample, Variant::Healthy);
    scene.run(scene.work(&sample, &first, "shop", &BTreeMap::new())).unwrap();
    // A release has to run for longer than one may take to get well.
    scene.with_door(DRAIN, 20);
    scene.wait_for(15);
    let second = scene.publish(&sample.clone().with_file("README.md", "second"), Variant::Healthy);
    for how in [ReplacementWay::Overlapped, ReplacementWay::Kept] {
        // Nothing is proven from what was left: all stages run.
        scene.world.target(0).sh("rm -f /opt/services/shop/.slipway/left").unwrap();
        let done = scene.run(scene.work(&sample, &second, "shop", &BTreeMap::new())).unwrap();
        let services = &done.reports[&Stage::Compose].services;
        let backend = services.iter().find(|service| service.service.as_str() == "backend").unwrap();
        assert_eq!(backend.replaced.as_ref().unwrap().how, how, "{services:?}");
        assert!(scene.get("/health").contains(&second.sha));
    }
}
