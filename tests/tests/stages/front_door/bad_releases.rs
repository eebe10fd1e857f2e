//! A release that fails, in whatever way, gets no request at all, and the one that serves misses none.

use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::world::{Commit, Generation, Variant};

use crate::front_door::scene::{DRAIN, DoorProject, PROVING, noticed_nothing, timed};
use crate::pipeline::scene::{AttemptScene, PORT};

/// What a bad commit answers as that says it's another one.
const STRANGER: &str = "0123456789abcdef0123456789abcdef01234567";

/// Nobody was answered by any of these, and nobody by nobody.
fn gets_no_request(project: &DoorProject<'_>, what: &str, never: &[&str], serving: &Commit, act: impl FnOnce()) {
    let probes = project.ask();
    act();
    let report = probes.stop().unwrap();
    noticed_nothing(what, &report);
    for commit in never {
        assert_eq!(report.of(commit), 0, "{what}: {report}");
    }
    assert_eq!(report.by_commit().len(), 1, "{what}: {report}");
    assert!(report.breaks.is_empty(), "{what}: {report}");
    project.is_whole(serving);
}

fn refused_by_event(project: &DoorProject<'_>, serving: &Commit, variant: Variant, code: ErrorCode) {
    let bad = project.publish(variant);
    gets_no_request(project, &format!("{variant:?} by event"), &[&bad.sha], serving, || {
        let (stage, error) = timed(&format!("{variant:?} by event"), || project.fails(&bad));
        assert_eq!((stage, error.code), (Stage::Compose, code), "{variant:?}: {error} {:?}", error.tail);
        assert!(error.message.contains(&serving.sha), "{error}");
    });
}

fn refused_by_ci(project: &DoorProject<'_>, serving: &Commit, variant: Variant, code: &str) {
    let bad = project.publish(variant);
    gets_no_request(project, &format!("{variant:?} by CI's job"), &[&bad.sha], serving, || {
        let told = timed(&format!("{variant:?} by CI's job"), || project.push_by_ci()).unwrap_err().to_string();
        assert!(told.contains(&format!("({code})")) && told.contains("the release before serves on"), "{told}");
    });
}

/// A server whose projects are waited for no longer than that, and a project on it.
fn scene(patience: u64, proving: u64) -> AttemptScene {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, proving);
    scene.wait_for(patience);
    scene
}

/// How a bad release of a project comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Event,
    CisJob,
}

/// The ways not to work. Only generation 2 has a health check of Docker's.
fn ways(generation: Generation) -> [(By, Variant, ErrorCode); 6] {
    let unwell = if generation == Generation::One { ErrorCode::NotHealthy } else { ErrorCode::Unhealthy };
    [
        (By::Event, Variant::CrashLoop, ErrorCode::CrashLoop),
        (By::Event, Variant::Unhealthy, unwell),
        (By::Event, Variant::Errors, unwell),
        (By::CisJob, Variant::CrashLoop, ErrorCode::CrashLoop),
        (By::CisJob, Variant::Unhealthy, unwell),
        (By::CisJob, Variant::Errors, unwell),
    ]
}

/// Those of the ways that `chosen` names, on both generations.
fn refused(chosen: impl Fn(Generation, By, Variant) -> bool) {
    let scene = scene(25, PROVING);
    for (generation, slug, port) in [(Generation::One, "one", PORT), (Generation::Two, "two", PORT + 1)] {
        let project = DoorProject::new(&scene, generation, slug, port);
        let serving = project.publish(Variant::Healthy);
        project.deploy(&serving);
        for (by, variant, code) in ways(generation) {
            match by {
                _ if !chosen(generation, by, variant) => (),
                By::Event => refused_by_event(&project, &serving, variant, code),
                By::CisJob => refused_by_ci(&project, &serving, variant, code.as_str()),
            }
        }
        let liar = project.publish_as(STRANGER);
        gets_no_request(&project, "another commit", &[&liar.sha, STRANGER], &serving, || {
            let (_, error) = project.fails(&liar);
            assert_eq!(error.code, ErrorCode::WrongVersion, "{error}");
            let told = project.push_by_ci().unwrap_err().to_string();
            assert!(told.contains("(wrong-version)") && told.contains(STRANGER), "{told}");
        });
    }
}

#[test]
fn a_release_that_never_works_gets_no_request_and_none_is_dropped() {
    // Each way once; all of them on both generations is a soak.
    refused(|generation, by, variant| match generation {
        Generation::One => (by == By::Event) == (variant == Variant::Unhealthy),
        _ => (by == By::Event) != (variant == Variant::Unhealthy),
    });
}

#[test]
#[ignore = "takes minutes: ./tests/soak bad_releases"]
fn soak_bad_releases_of_every_kind_get_no_request_on_either_generation() {
    refused(|_, _, _| true);
}

#[test]
fn a_release_that_answers_and_dies_after_ten_seconds_gets_no_request() {
    let scene = scene(40, 12);
    let project = DoorProject::new(&scene, Generation::Two, "shop", PORT);
    let serving = project.publish(Variant::Healthy);
    project.deploy(&serving);
    refused_by_event(&project, &serving, Variant::Dies, ErrorCode::CrashLoop);
    refused_by_ci(&project, &serving, Variant::Dies, "crash-loop");
    // The next good one isn't held up.
    let next = project.publish(Variant::Healthy);
    project.deploy(&next);
    project.is_whole(&next);
    // Its bot had its own time to prove itself within the web service's.
    let started = |service| {
        let command =
            format!("date +%s.%N -d \"$(docker inspect --format '{{{{.State.StartedAt}}}}' shop-{service}-1)\"");
        scene.world.target(0).sh(&command).unwrap().trim().parse::<f64>().unwrap()
    };
    let apart = started("tg_bot") - started("backend");
    assert!((6.0..12.0).contains(&apart), "{apart} s");
}
