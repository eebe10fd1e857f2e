//! A server that serves projects in the old way is taken over project by project, each with one gap at most, and given
//! back. Without a door, what it's for shows.

use slipway_protocol::{Action, ReplacementWay, Stage};
use slipway_tests::prober::{ProbeKind, ProbeReport};
use slipway_tests::world::{Commit, Generation, Variant};

use crate::front_door::scene::{
    DRAIN, DoorProject, GAP_BESIDE_OTHERS, PROVING, noticed_nothing, tell, timed, waited_for_nothing,
};
use crate::pipeline::scene::{AttemptScene, PORT};

const SHOP: (Generation, &str, u16) = (Generation::Two, "shop", PORT);
const BAKERY: (Generation, &str, u16) = (Generation::One, "bakery", PORT + 1);

fn project<'a>(scene: &'a AttemptScene, (generation, slug, port): (Generation, &str, u16)) -> DoorProject<'a> {
    DoorProject::new(scene, generation, slug, port)
}

/// Two releases replace each other without a door.
fn without_a_door(project: &DoorProject<'_>) -> (Commit, ProbeReport) {
    let first = project.publish(Variant::Healthy);
    project.deploy(&first);
    let probes = project.ask();
    let next = project.publish(Variant::Healthy);
    timed("by event, without a door", || project.deploy(&next));
    project.answers(&next);
    let pushed = project.publish(Variant::Healthy);
    timed("by CI's job, without a door", || project.push_by_ci()).unwrap();
    project.answers(&pushed);
    (pushed, probes.stop().unwrap())
}

/// How many times somebody was there, and then nobody.
fn gaps(report: &ProbeReport) -> usize {
    let mut fresh: Vec<_> = report.answers.iter().filter(|answer| answer.kind == ProbeKind::Fresh).collect();
    fresh.sort_by_key(|answer| answer.asked);
    fresh.windows(2).filter(|pair| pair[0].outcome.is_ok() && pair[1].outcome.is_err()).count()
}

#[test]
fn a_server_is_taken_over_with_one_gap_for_each_project_and_given_back() {
    let mut scene = AttemptScene::new();
    let (_, bare) = without_a_door(&project(&scene, SHOP));
    tell("without a door", &bare);
    assert!(bare.failed().len() > 100 && bare.longest_gap().as_millis() > 500, "{bare}");
    let beside = {
        let bakery = project(&scene, BAKERY);
        let commit = bakery.publish(Variant::Healthy);
        bakery.deploy(&commit);
        commit
    };

    scene.with_door(DRAIN, PROVING);
    takes_over(&scene, &beside);
    scene.without_door();
    gives_back(&scene, &beside);
}

/// With one gap, which is told; from then on with none.
fn takes_over(scene: &AttemptScene, beside: &Commit) {
    let (shop, bakery) = (project(scene, SHOP), project(scene, BAKERY));
    let (asking, others) = (shop.ask(), bakery.ask());
    let next = shop.publish(Variant::Healthy);
    let done = timed("taken over", || shop.deploy(&next));
    shop.is_whole(&next);
    let (told, report) = (DoorProject::replaced(&done), asking.stop().unwrap());
    tell("taken over", &report);
    assert_eq!(told.how, ReplacementWay::Overlapped, "{told:?}");
    let (told, seen) = (told.gap_ms.unwrap(), u64::try_from(report.longest_gap().as_millis()).unwrap());
    assert!(told > 0 && told.abs_diff(seen) < 500, "told {told} ms, seen {seen} ms: {report}");
    assert_eq!((gaps(&report), report.by_commit().len()), (1, 2), "{report}");

    let asking = shop.ask();
    let next = shop.publish(Variant::Healthy);
    shop.deploy(&next);
    let (asking, others) = (asking.stop().unwrap(), others.stop().unwrap());
    waited_for_nothing("after the takeover", &asking, &others, GAP_BESIDE_OTHERS);
    noticed_nothing("beside, in the old way", &others);
    assert_eq!(others.of(&beside.sha), others.answers.len(), "{others}");
}

/// The project publishes its port itself once more, and nothing of the door is left.
fn gives_back(scene: &AttemptScene, beside: &Commit) {
    let shop = project(scene, SHOP);
    let asking = shop.ask();
    let next = shop.publish(Variant::Healthy);
    shop.deploy(&next);
    shop.answers(&next);
    let report = asking.stop().unwrap();
    tell("given back", &report);
    assert_eq!(report.by_commit().len(), 2, "{report}");
    let left = "docker ps -a --format '{{.Names}}' | grep front-door || :
        docker ps -q --filter label=com.docker.compose.project=shop --filter label=com.docker.compose.service=backend |
            xargs docker port | grep -F 0.0.0.0";
    assert_eq!(shop.server().sh(left).unwrap(), format!("8000/tcp -> 0.0.0.0:{PORT}\n"));
    shop.act(Action::Stop, &next, &[Stage::Compose]);
    shop.act(Action::Start, &next, &[Stage::Compose, Stage::Verify]);
    shop.answers(&next);
    assert!(scene.get_from((0, PORT + 1), "/").contains(&beside.sha));
}
