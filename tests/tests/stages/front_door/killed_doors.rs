//! What the door is told, and the door itself, where a script is killed between what it writes down and what the door does.

use std::cell::RefCell;

use slipway_protocol::{Action, ErrorCode, Stage};
use slipway_tests::world::{Commit, Variant};

use crate::front_door::scene::{DOOR, DRAIN, DoorProject, PROVING, noticed_nothing, noticed_only_reloads};
use crate::pipeline::dying::{Points, commands_of, count_commands, dies_before_each_command};
use crate::pipeline::restoring::restore;
use crate::pipeline::scene::{AttemptScene, PORT};

/// Both projects come, and go again, each script killed once before a command like that; then it's done anew.
fn killed_before(scene: &AttemptScene, command: &str, act: impl Fn() -> Result<(), String>, whole: impl Fn()) {
    let points = Points::These { from: "*", commands: vec![command.to_owned()] };
    let again = |_| act().or_else(|_| act());
    let deaths = dies_before_each_command(scene, points, |_| (), again, |_| whole());
    assert_eq!(deaths, 1, "{command}");
}

const RELOAD: &str = "docker exec slipway-front-door caddy reload *";

#[test]
fn a_door_that_was_not_told_of_what_is_written_is_told_by_the_next_try() {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    count_commands(&scene);
    let (shop, bakery) = (DoorProject::alone(&scene, "shop", PORT), DoorProject::alone(&scene, "bakery", PORT + 1));
    let commits = [&shop, &bakery].map(|project| project.publish(Variant::Healthy));
    for (project, commit) in [&shop, &bakery].into_iter().zip(&commits) {
        let deploy = || project.run(project.work(commit)).map(drop).map_err(|failed| format!("{failed:?}"));
        killed_before(&scene, RELOAD, deploy, || project.is_whole(commit));
    }
    let undeploy = |project: &DoorProject<'_>, commit| {
        project
            .tries(Action::Undeploy, commit, Action::Undeploy.stages())
            .map(drop)
            .map_err(|failed| format!("{failed:?}"))
    };
    let listening = |port: u16| shop.server().sh(&format!("ss -Hltn 'sport = :{port}'")).unwrap();
    killed_before(&scene, RELOAD, || undeploy(&shop, &commits[0]), || assert_eq!(listening(PORT), ""));
    bakery.answers(&commits[1]);
    killed_before(
        &scene,
        "docker rm -f slipway-front-door *",
        || undeploy(&bakery, &commits[1]),
        || {
            let left = "docker ps -aq; ls /opt/services/.slipway-front-door 2>/dev/null || :";
            assert_eq!((shop.server().sh(left).unwrap().as_str(), listening(PORT + 1).as_str()), ("", ""));
        },
    );
}

/// What a command looks like, whichever image it's about, that makes, ends or renames a door.
fn changes_doors(command: &str) -> Option<String> {
    let door = "slipway-front-door";
    let changes = ["docker run ", "docker stop ", "docker rm ", "docker rename "];
    let changes = changes.iter().any(|change| command.starts_with(change)) && command.contains(door);
    let end = if command.starts_with("docker run ") { command.find(door)? } else { command.len() };
    changes.then(|| format!("{}*", &command[..end]))
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_wherever_an_upgrade_is_killed_no_request_is_dropped_and_one_door_is_left() {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    let serving = RefCell::new(Vec::new());
    {
        let (shop, bakery) = (DoorProject::alone(&scene, "shop", PORT), DoorProject::alone(&scene, "bakery", PORT + 1));
        for project in [&shop, &bakery] {
            let commit = project.publish(Variant::Healthy);
            project.deploy(&commit);
            serving.borrow_mut().push(commit);
        }
        count_commands(&scene);
    }
    let mut commands = vec!["docker run *".to_owned()];
    let mut number = 0;
    while let Some(command) = commands.pop() {
        scene.with_another_door(&format!("v{number}"), DRAIN, PROVING);
        let (shop, bakery) = (DoorProject::alone(&scene, "shop", PORT), DoorProject::alone(&scene, "bakery", PORT + 1));
        let next = || serving.borrow_mut()[0] = shop.publish(Variant::Healthy);
        let deploy = || {
            let commit = serving.borrow()[0].clone();
            shop.run(shop.work(&commit)).map(drop).map_err(|failed| format!("{failed:?}"))
        };
        let asking = [shop.ask(), bakery.ask()];
        next();
        if number == 0 {
            let all = commands_of(&scene, "docker ps -a --filter name=?slipway-front-door *", || deploy().unwrap());
            commands = all.iter().filter_map(|command| changes_doors(command)).collect();
        } else {
            killed_before(&scene, &command, deploy, || ());
        }
        number += 1;
        shop.is_whole(&serving.borrow()[0]);
        bakery.is_whole(&serving.borrow()[1]);
        for (project, asking) in ["shop", "bakery"].into_iter().zip(asking) {
            // WebSockets end with the door that they go through, once it has drained.
            let upgrades = 2;
            noticed_only_reloads(&format!("killed before {command}, {project}"), &asking.stop().unwrap(), upgrades);
        }
        let doors = "docker ps -a --filter name=front-door --format '{{.Names}} {{.State}}'";
        assert_eq!(shop.server().sh(doors).unwrap(), "slipway-front-door running\n", "{command}");
        assert_eq!(shop.server().sh(&format!("ls {DOOR}/run | wc -l")).unwrap(), "1\n", "{command}");
    }
    assert_eq!(number, 5, "one that isn't killed, and four that are");
    without_an_image(scene, &serving.borrow()[0]);
}

/// An image that no registry has: nothing is touched, and the old door and release serve on.
fn without_an_image(mut scene: AttemptScene, serving: &Commit) {
    scene.with_absent_door(DRAIN, PROVING);
    let shop = DoorProject::alone(&scene, "shop", PORT);
    let asking = shop.ask();
    let next = shop.publish(Variant::Healthy);
    let (stage, error) = shop.fails(&next);
    assert_eq!((stage, error.code), (Stage::Compose, ErrorCode::FrontDoorFailed), "{error}");
    assert!(error.message.contains("couldn't be started from image"), "{error}");
    restore(&scene, shop.work(&next));
    let report = asking.stop().unwrap();
    noticed_nothing("an image that isn't there", &report);
    assert_eq!(report.of(&serving.sha), report.answers.len(), "{report}");
    shop.is_whole(serving);
}
