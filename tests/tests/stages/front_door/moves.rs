//! A project's ports move to other services, and away: who asks on the port that stays notices nothing, and a move that fails
//! leaves all as it was.

use slipway_deploy::DeploymentWork;
use slipway_protocol::names::Port;
use slipway_protocol::{Allocation, ErrorCode, Stage};
use slipway_tests::prober::{ProbeKind, Probes};
use slipway_tests::world::{Commit, Generation, Module, Sample, Variant};

use crate::front_door::scene::{DRAIN, DoorProject, PROVING, noticed_only_reloads};
use crate::pipeline::scene::{AttemptScene, PORT};

/// The commit's work, with these ports for backend and frontend.
fn work(project: &DoorProject<'_>, commit: &Commit, ports: [u16; 2]) -> DeploymentWork {
    let mut work = project.work(commit);
    let backend = work.request.allocations.remove(1);
    let services = [("backend", backend.container_port), ("frontend", Port::new(4321).unwrap())];
    for ((service, container_port), port) in services.into_iter().zip(ports) {
        let (service, host_port) = (service.parse().unwrap(), Port::new(port).ok());
        work.request.allocations.push(Allocation { service, host_port, container_port, ..backend.clone() });
    }
    work
}

#[test]
fn ports_move_between_services_and_away_and_nobody_who_asks_one_that_stays_notices() {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    let sample = Sample::new(Generation::Two, "acme", "shop").of(&[Module::Backend, Module::Frontend]);
    let project = DoorProject::of(&scene, sample, "shop", PORT);
    let deploy = |commit: &Commit, ports: [u16; 2]| {
        project.run(work(&project, commit, ports)).unwrap_or_else(|failed| panic!("{}: {:?}", failed.1, failed.1.tail))
    };
    let page = |port: u16| scene.get_from((0, port), "/");
    let first = project.publish(Variant::Healthy);
    deploy(&first, [PORT, PORT + 1]);
    assert!(page(PORT).contains(&first.sha) && page(PORT + 1).contains(&first.sha));

    let probes = Probes::start_with(project.address(), &[ProbeKind::Fresh, ProbeKind::Kept]).unwrap();
    // Away, by a release that never works; then back to front.
    let bad = project.publish(Variant::Unhealthy);
    let (stage, error) = *project.run(work(&project, &bad, [PORT + 2, PORT + 1])).err().unwrap();
    assert_eq!((stage, error.code), (Stage::Compose, ErrorCode::Unhealthy), "{error}");
    assert!(error.message.contains(&format!("{}, which served before, serves on, and answers", first.sha)), "{error}");
    assert!(page(PORT).contains(&first.sha) && page(PORT + 2).is_empty());
    let swapped = project.publish(Variant::Healthy);
    deploy(&swapped, [PORT + 1, PORT]);
    assert!(page(PORT).contains(&swapped.sha) && page(PORT + 1).contains(&swapped.sha));
    noticed_only_reloads("back and forth", &probes.stop().unwrap(), 2);

    let away = project.publish(Variant::Healthy);
    deploy(&away, [PORT + 3, PORT]);
    assert!(page(PORT + 3).contains(&away.sha) && page(PORT).contains(&away.sha) && page(PORT + 1).is_empty());
    let slots = project.server().sh("cut -d ' ' -f 1 /opt/services/.slipway-front-door/slots/shop").unwrap();
    assert_eq!(slots, format!("{}\n{PORT}\n", PORT + 3));

    // The frontend is no service any more, and its port the backend's.
    let probes = Probes::start_with(project.address(), &[ProbeKind::Fresh, ProbeKind::Kept]).unwrap();
    let alone = DoorProject::alone(&scene, "shop", PORT);
    let last = alone.publish(Variant::Healthy);
    alone.deploy(&last);
    let report = probes.stop().unwrap();
    noticed_only_reloads("to the other service", &report, 1);
    let answered: Vec<_> = report.by_commit().into_iter().map(|(commit, _)| commit).collect();
    assert_eq!(answered, [&away.sha, &last.sha], "{report}");
    alone.is_whole(&last);
}
