//! The slots of a project's services among the ports of other projects, which come and go.

use std::thread;

use slipway_protocol::{Action, ErrorCode, Stage};
use slipway_tests::prober::{ProbeKind, Probes};
use slipway_tests::world::Variant;

use crate::front_door::scene::{DOOR, DRAIN, DoorProject, PROVING, noticed_only_reloads};
use crate::pipeline::scene::{AttemptScene, PORT};

#[test]
fn a_port_of_another_project_is_no_slot_and_the_one_who_comes_keeps_the_door() {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    let shop = DoorProject::alone(&scene, "shop", PORT);
    let first = shop.publish(Variant::Healthy);
    shop.deploy(&first);
    let of_slot_a = DoorProject::alone(&scene, "bakery", 30000);
    let others = of_slot_a.publish(Variant::Healthy);
    let (stage, error) = of_slot_a.fails(&others);
    assert_eq!((stage, error.code), (Stage::Preflight, ErrorCode::PortOccupied), "{error}");
    // The slot that doesn't serve is nobody's yet.
    let bakery = DoorProject::alone(&scene, "bakery", 30001);
    bakery.deploy(&others);

    let probes = Probes::start_with(shop.address(), &[ProbeKind::Fresh, ProbeKind::Kept]).unwrap();
    let next = shop.publish(Variant::Healthy);
    shop.deploy(&next);
    let report = probes.stop().unwrap();
    noticed_only_reloads("another slot", &report, 1);
    let answered: Vec<_> = report.by_commit().into_iter().map(|(commit, _)| commit).collect();
    assert_eq!(answered, [&first.sha, &next.sha], "{report}");
    bakery.answers(&others);
    shop.is_whole(&next);

    // The last project goes while another one is deployed for the first time.
    bakery.act(Action::Undeploy, &others, Action::Undeploy.stages());
    let cafe = &scene;
    thread::scope(|scope| {
        let coming = scope.spawn(move || {
            let cafe = DoorProject::alone(cafe, "cafe", PORT + 1);
            let commit = cafe.publish(Variant::Healthy);
            cafe.deploy(&commit);
            cafe.is_whole(&commit);
        });
        shop.server().sh(&format!("until [ -s {DOOR}/slots/cafe ]; do sleep 0.1; done")).unwrap();
        shop.act(Action::Undeploy, &next, Action::Undeploy.stages());
        coming.join().unwrap();
    });
}
