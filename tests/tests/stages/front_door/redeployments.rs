//! A release takes the place of another one, in every way that there is: nobody who asks misses an answer, on neither
//! generation, and those who ask other projects of the server notice nothing.

use std::thread;
use std::time::Duration;

use slipway_protocol::{ReplacementWay, Stage};
use slipway_tests::prober::{ProbeReport, Probes};
use slipway_tests::world::{Commit, Generation, Module, Sample, Variant};

use crate::front_door::scene::{DRAIN, DoorProject, GAP, GAP_BESIDE_OTHERS, PROVING, timed, waited_for_nothing};
use crate::pipeline::scene::{AttemptScene, PORT};

/// A deployed project on its way from release to release.
struct Shop<'a> {
    project: DoorProject<'a>,
    /// The newest one, and the one before.
    serving: Commit,
    former: Commit,
}

impl<'a> Shop<'a> {
    fn new(project: DoorProject<'a>) -> Self {
        let serving = project.publish(Variant::Healthy);
        project.deploy(&serving);
        Self { project, former: serving.clone(), serving }
    }

    fn by_event(&mut self) {
        let next = self.project.publish(Variant::Healthy);
        let done = timed("by event", || self.project.deploy(&next));
        let replaced = DoorProject::replaced(&done);
        assert_eq!((replaced.how, replaced.gap_ms), (ReplacementWay::Overlapped, Some(0)), "{replaced:?}");
        self.goes_on_as(next);
    }

    fn by_ci(&mut self) {
        let next = self.project.publish(Variant::Healthy);
        timed("by CI's job", || self.project.push_by_ci()).unwrap();
        self.goes_on_as(next);
    }

    fn by_rollback(&mut self) {
        let back = self.former.clone();
        timed("by rollback", || self.project.roll_back(&back));
        self.goes_on_as(back);
    }

    fn by_environment(&mut self) {
        timed("by a changed environment", || {
            self.project.change_environment(&self.serving, &uuid::Uuid::new_v4().to_string())
        });
        self.project.is_whole(&self.serving);
    }

    /// What fails is taken back: the bot was replaced already.
    fn by_restoration(&mut self) {
        let bad = self.project.publish_with_bad_bot();
        let (stage, error) = timed("by restoration", || self.project.fails(&bad));
        assert_eq!(stage, Stage::Compose, "{error}");
        self.project.is_whole(&self.serving);
    }

    fn goes_on_as(&mut self, commit: Commit) {
        self.project.is_whole(&commit);
        self.former = std::mem::replace(&mut self.serving, commit);
    }
}

/// A way to replace a release.
#[derive(Clone, Copy)]
enum Way {
    Event,
    Ci,
    Rollback,
    Environment,
    Restoration,
}

impl Shop<'_> {
    fn is_replaced(&mut self, way: Way) {
        match way {
            Way::Event => self.by_event(),
            Way::Ci => self.by_ci(),
            Way::Rollback => self.by_rollback(),
            Way::Environment => self.by_environment(),
            Way::Restoration => self.by_restoration(),
        }
    }
}

/// One project of each generation is replaced in these ways, one after the other, while two others are asked as well.
fn on_one_server(longest: Duration, ways: [&[Way]; 2]) {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    let scene = &scene;
    // Those that are replaced, and those that nothing is done to. A project that comes makes the door load its settings, which
    // may cost others a request: nobody asks before.
    let (shops, neighbours) = thread::scope(|scope| {
        let shops = [("one", Generation::One, PORT), ("two", Generation::Two, PORT + 1)]
            .map(|place| scope.spawn(move || Shop::new(DoorProject::new(scene, place.1, place.0, place.2))));
        let neighbours = neighbours(scene);
        (shops.map(|shop| shop.join().unwrap()), neighbours)
    });
    let neighbours = neighbours.map(Neighbour::asked);
    let shops = thread::scope(|scope| {
        let mut ways = ways.into_iter();
        let shops = shops.map(|mut shop| {
            let ways = ways.next().unwrap();
            scope.spawn(move || {
                let probes = shop.project.ask();
                ways.iter().for_each(|way| shop.is_replaced(*way));
                probes.stop().unwrap()
            })
        });
        shops.map(thread::ScopedJoinHandle::join)
    });
    let neighbours = neighbours.map(Neighbour::leave);
    for (shop, what) in shops.into_iter().zip(["generation 1", "generation 2"]) {
        let report = shop.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        waited_for_nothing(what, &report, &neighbours[0], longest);
    }
    waited_for_nothing("a neighbour", &neighbours[0], &neighbours[1], longest);
    waited_for_nothing("another neighbour", &neighbours[1], &neighbours[0], longest);
    let others = neighbours.iter().map(|report| (report.breaks.len(), report.by_commit().len()));
    assert_eq!(others.collect::<Vec<_>>(), [(0, 1), (0, 1)]);
}

#[test]
fn releases_replace_each_other_in_every_way_and_no_request_is_dropped() {
    let one: &[Way] = &[Way::Event, Way::Ci, Way::Rollback];
    on_one_server(GAP_BESIDE_OTHERS, [one, &[Way::Ci, Way::Event, Way::Environment, Way::Restoration]]);
}

#[test]
#[ignore = "takes half an hour: ./tests/soak"]
fn soak_a_hundred_releases_replace_each_other_and_no_request_is_dropped() {
    // As many on each generation by events and by CI's job, and now and then in the other ways.
    let rounds = std::env::var("SLIPWAY_SWITCH_ROUNDS").map_or(50, |text| text.parse().unwrap());
    let others: &[Way] = &[Way::Rollback, Way::Environment, Way::Restoration];
    let round =
        |number| [Way::Event, Way::Ci].into_iter().chain(others.iter().copied().filter(move |_| number % 5 == 0));
    let ways: Vec<_> = (0..rounds).flat_map(round).collect();
    on_one_server(GAP, [&ways, &ways]);
}

/// A project that nothing is done to, and those who ask it.
struct Neighbour<'a> {
    project: DoorProject<'a>,
    commit: Commit,
    probes: Probes,
}

impl<'a> Neighbour<'a> {
    fn asked((project, commit): (DoorProject<'a>, Commit)) -> Self {
        let probes = project.ask();
        Self { project, commit, probes }
    }

    fn leave(self) -> ProbeReport {
        self.project.is_whole(&self.commit);
        self.probes.stop().unwrap()
    }
}

fn neighbours(scene: &AttemptScene) -> [(DoorProject<'_>, Commit); 2] {
    [("bakery", Generation::One, PORT + 10), ("cafe", Generation::Two, PORT + 11)].map(|(slug, generation, port)| {
        let sample = Sample::new(generation, "acme", slug).of(&[Module::Backend]);
        let project = DoorProject::of(scene, sample, slug, port);
        let commit = project.publish(Variant::Healthy);
        project.deploy(&commit);
        (project, commit)
    })
}
