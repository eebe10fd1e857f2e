//! The door is killed or stopped by somebody, Docker's daemon dies or is restarted, the server loses its power: everything
//! answers again, by itself wherever nobody has wanted it otherwise. How long that takes is told.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;
use slipway_deploy::RestoreOutcome;
use slipway_protocol::{Action, ErrorCode, Stage};
use slipway_tests::prober::{ProbeKind, Probes};
use slipway_tests::world::{Commit, Generation, TargetServer, Variant, eventually};

use crate::front_door::scene::{DRAIN, DoorProject, PROVING, noticed_nothing, tell, timed};
use crate::pipeline::restoring::restore;
use crate::pipeline::scene::{AttemptScene, PORT};

/// The process of the door itself.
const DOORS_PROCESS: &str = "docker inspect --format '{{.State.Pid}}' slipway-front-door";

/// Two projects, one of them on its second slot.
struct Street<'a> {
    projects: [(DoorProject<'a>, Commit); 2],
}

impl<'a> Street<'a> {
    fn new(scene: &'a AttemptScene) -> Self {
        let places = [("one", Generation::One, PORT), ("two", Generation::Two, PORT + 1)];
        let projects = places.map(|(slug, generation, port)| {
            let project = DoorProject::new(scene, generation, slug, port);
            let mut commit = project.publish(Variant::Healthy);
            project.deploy(&commit);
            if generation == Generation::Two {
                commit = project.publish(Variant::Healthy);
                project.deploy(&commit);
            }
            (project, commit)
        });
        Self { projects }
    }

    fn server(&self) -> &TargetServer {
        self.projects[0].0.server()
    }

    /// Does that, and waits until all are there again; tells how long nobody was.
    fn comes_back_after(&self, what: &str, within: u64, act: impl FnOnce()) {
        let asking = self.projects.each_ref().map(|(project, _)| {
            Probes::start_with(SocketAddr::from((project.server().ip(), project.port)), &[ProbeKind::Fresh]).unwrap()
        });
        act();
        let began = Instant::now();
        eventually(&format!("answers after: {what}"), Duration::from_secs(within), || {
            for (project, commit) in &self.projects {
                let body = project.scene.get_from((0, project.port), "/health");
                ensure!(body.contains(&commit.sha), "{}: {body}", project.slug);
            }
            Ok(())
        })
        .unwrap_or_else(|error| {
            let look =
                "docker ps -a; docker logs --tail 2 slipway-front-door 2>&1; ss -Hltn; tail -20 /var/log/dockerd.log";
            panic!("{error:#}\n{}", self.server().sh(look).unwrap());
        });
        tell(&format!("{what}, then all are there after"), &format!("{:.1?}", began.elapsed()));
        // For as long as what comes back may go away once more.
        thread::sleep(Duration::from_secs(2));
        for (asking, (project, commit)) in asking.into_iter().zip(&self.projects) {
            let report = asking.stop().unwrap();
            tell(&format!("{what}, {}", project.slug), &report);
            assert_eq!(report.by_commit().len(), 1, "{what}: {report}");
            project.is_whole(commit);
        }
    }
}

impl Street<'_> {
    /// Somebody has taken a port of the door while it was away: it's told, and the door comes back by itself afterwards.
    fn waits_for_a_taken_port(&self) {
        let taken = PORT + 1;
        let take = format!(
            "docker stop slipway-front-door; setsid python3 -m http.server {taken} >/dev/null 2>&1 </dev/null &
             until ss -Hltn | grep -q ':{taken} '; do sleep 0.1; done; docker start slipway-front-door
             until docker inspect --format '{{{{.State.Status}}}}' slipway-front-door | grep -qx restarting; do :; done"
        );
        self.server().sh(&take).unwrap();
        let (project, _) = &self.projects[0];
        let next = project.publish(Variant::Healthy);
        let (stage, error) = project.fails(&next);
        assert_eq!((stage, error.code), (Stage::Compose, ErrorCode::FrontDoorFailed), "{error}");
        let restored = restore(project.scene, project.work(&next));
        assert!(matches!(restored, RestoreOutcome::Untouched { .. }), "{restored:?}");
        let why = error.tail.join("\n");
        assert!(why.contains(&format!(":{taken}: bind: address already in use")), "{why}");
        self.comes_back_after("a port of the door was somebody else's", 90, || {
            let free = format!("kill $(ss -Hltnp 'sport = :{taken}' | sed -n 's/.*pid=\\([0-9]*\\).*/\\1/p')");
            self.server().sh(&free).map(drop).unwrap();
        });
    }
}

#[test]
fn a_killed_door_a_killed_daemon_and_a_power_cut_are_survived_and_all_answer_again() {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    let mut street = timed("two projects", || Street::new(&scene));
    street.comes_back_after("the door is killed", 20, || {
        street.server().sh(&format!("kill -KILL $({DOORS_PROCESS})")).map(drop).unwrap();
    });
    street.comes_back_after("Docker's daemon is restarted", 60, || {
        let daemon = street.server().sh("cat /run/docker.pid").unwrap();
        let gone = format!("kill {0}; while [ -d /proc/{0} ]; do sleep 0.1; done", daemon.trim());
        street.server().sh(&gone).map(drop).unwrap();
    });
    street.comes_back_after("the server loses its power", 60, || street.server().reboot().unwrap());

    // A daemon that comes back ends what has run on without it, and takes services that restart "unless stopped" for
    // stopped by hand; so it is without a door.
    street.comes_back_after("Docker's daemon is killed, and the projects are started", 120, || {
        street.server().kill_docker().unwrap();
        let back = "until docker info >/dev/null 2>&1; do sleep 0.1; done";
        street.server().sh(back).unwrap();
        for (project, commit) in &street.projects {
            project.act(Action::Start, commit, &[Stage::Compose, Stage::Verify]);
        }
    });

    // What somebody has stopped or removed stays so, until the next deployment of whichever project, also of what was
    // deployed before.
    // The last time all but the door is as that project's deployment has left it.
    let ways =
        [("stopped", "docker stop", false), ("removed", "docker rm -f", true), ("stopped again", "docker stop", false)];
    for (what, by_hand, new) in ways {
        street.server().sh(&format!("{by_hand} slipway-front-door")).unwrap();
        assert_eq!(scene.get_from((0, PORT + 1), "/"), "", "{what}: nobody answers");
        let (project, commit) = &mut street.projects[0];
        if new {
            *commit = project.publish(Variant::Healthy);
        }
        project.deploy(commit);
        street.comes_back_after(&format!("the door was {what}, and the other project is deployed"), 5, || {});
    }
    street.waits_for_a_taken_port();

    let (project, _) = &street.projects[1];
    let asking = project.ask();
    let next = project.publish(Variant::Healthy);
    project.deploy(&next);
    project.is_whole(&next);
    noticed_nothing("after all that", &asking.stop().unwrap());
}
