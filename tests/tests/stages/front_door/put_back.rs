//! What is put back, or started again, after a release that has failed once it had taken over: as later stages find out.

use slipway_deploy::RestoreOutcome;
use slipway_protocol::{Action, Stage};
use slipway_tests::prober::{ProbeKind, Probes};
use slipway_tests::world::{Commit, Variant};

use crate::front_door::scene::{DRAIN, DoorProject, PROVING};
use crate::pipeline::restoring::restore;
use crate::pipeline::scene::{AttemptScene, PORT};

/// The release takes over, and what served before is put back.
fn takes_over_and_fails(project: &DoorProject<'_>, next: &Commit) -> RestoreOutcome {
    let stages = [Stage::Preflight, Stage::Clone, Stage::Env, Stage::Compose];
    let failed = project.scene.run_stages(project.work(next), &stages).err();
    assert!(failed.is_none(), "{failed:?}");
    restore(project.scene, project.work(next))
}

/// What is stopped has no port, whichever its release has, and starts.
fn stays_stopped_and_starts(project: &DoorProject<'_>, next: &DoorProject<'_>, commit: &Commit) {
    let outcome = takes_over_and_fails(next, &next.publish(Variant::Healthy));
    assert!(matches!(outcome, RestoreOutcome::StaysStopped { .. }), "{outcome:?}");
    for port in [project.port, next.port] {
        let heard = project.server().sh(&format!("ss -Hltn 'sport = :{port}'")).unwrap();
        assert_eq!(heard, "", "{port}");
    }
    project.act(Action::Start, commit, &[Stage::Compose, Stage::Verify]);
    project.answers(commit);
}

#[test]
fn after_a_failed_takeover_what_was_stopped_starts_and_who_is_late_is_awaited() {
    let mut scene = AttemptScene::new();
    let first = {
        let shop = DoorProject::alone(&scene, "shop", PORT);
        let first = shop.publish(Variant::Healthy);
        shop.deploy(&first);
        shop.act(Action::Stop, &first, &[Stage::Compose]);
        first
    };
    scene.with_door(DRAIN, PROVING);
    let shop = DoorProject::alone(&scene, "shop", PORT);
    stays_stopped_and_starts(&shop, &shop, &first);

    let late = shop.publish(Variant::Late);
    shop.deploy(&late);
    shop.act(Action::Stop, &late, &[Stage::Compose]);
    let moved = DoorProject::alone(&scene, "shop", PORT + 1);
    stays_stopped_and_starts(&shop, &moved, &late);
    shop.is_whole(&late);

    let probes = Probes::start_with(shop.address(), &[ProbeKind::Fresh]).unwrap();
    let outcome = takes_over_and_fails(&shop, &shop.publish(Variant::Healthy));
    assert!(matches!(outcome, RestoreOutcome::Restored { stable: true, .. }), "{outcome:?}");
    let report = probes.stop().unwrap();
    assert_eq!(report.failed().len(), 0, "{report}");
    shop.is_whole(&late);
}
