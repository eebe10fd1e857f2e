//! The disk gets full while a release is proven: what is told to have failed has got no request.

use std::thread;

use slipway_protocol::ErrorCode;
use slipway_tests::prober::{ProbeKind, Probes};
use slipway_tests::world::Variant;

use crate::front_door::scene::{DRAIN, DoorProject};
use crate::pipeline::scene::{AttemptScene, PORT};

/// Until the new release runs beside the old one.
const BOTH_ARE_THERE: &str = "
until [ \"$(docker ps -q --filter label=com.docker.compose.project=shop --filter label=com.docker.compose.service=backend | wc -l)\" = 2 ]; do
    sleep 0.1
done";
const FILL: &str = "mount -o remount,size=$(df -k --output=used /opt/services | tail -n 1 | tr -d ' ')k /opt/services";

#[test]
fn a_disk_that_gets_full_before_the_switch_fails_the_release_without_a_request() {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, 4);
    let scene = &scene;
    scene.world.target(0).sh("mkdir -p /opt/services; mount -t tmpfs -o size=2g tmpfs /opt/services").unwrap();
    let shop = DoorProject::alone(scene, "shop", PORT);
    let first = shop.publish(Variant::Healthy);
    shop.deploy(&first);
    let next = shop.publish(Variant::Healthy);
    let probes = Probes::start_with(shop.address(), &[ProbeKind::Fresh, ProbeKind::Kept]).unwrap();
    thread::scope(|scope| {
        let coming = scope.spawn(|| {
            let shop = DoorProject::alone(scene, "shop", PORT);
            shop.fails(&next)
        });
        shop.server().sh(&format!("{BOTH_ARE_THERE}\n{FILL}")).unwrap();
        let (_, error) = coming.join().unwrap();
        assert_eq!(error.code, ErrorCode::DiskFull, "{error}");
    });
    shop.answers(&first);
    let report = probes.stop().unwrap();
    assert_eq!((report.failed().len(), report.of(&next.sha)), (0, 0), "{report}");
    shop.server().sh("mount -o remount,size=2g /opt/services").unwrap();
    shop.deploy(&next);
    shop.is_whole(&next);

    // Nor does a switch wait for others who are at the door just then.
    let pushed = shop.publish(Variant::Healthy);
    thread::scope(|scope| {
        let coming = scope.spawn(|| DoorProject::alone(scene, "shop", PORT).push_by_ci());
        let hold = "setsid flock /run/slipway-front-door.lock sleep 300 >/dev/null 2>&1 </dev/null &";
        shop.server().sh(&format!("{BOTH_ARE_THERE}\n{hold}")).unwrap();
        coming.join().unwrap().unwrap();
    });
    shop.server().sh("pkill -f slipway-front-door.lock").unwrap();
    shop.is_whole(&pushed);
}
