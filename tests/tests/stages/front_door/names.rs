//! The project's other services ask for the web service by its name, all the while: whichever release serves answers, and
//! no other one does.

use slipway_tests::world::{Commit, Generation, Sample, Variant};

use crate::front_door::scene::{DRAIN, DoorProject, PROVING, tell};
use crate::pipeline::scene::{AttemptScene, PORT};

/// A cache that isn't replaced asks on and on, and notes which commit has answered. Each `timeout` leaves a process behind, of
/// which a container bears a thousand.
const ASKING: &str = r#"while [ ! -e /tmp/stop ]; do
    if [ "$name" = api ]; then name=backend; else name=api; fi
    answer=$(timeout 5 wget -q -O - "http://$name:8000/" 2>&1)
    case $answer in *'"commit":"'*) answer=${answer#*commit\":\"}; echo "${answer%%\"*}" ;; *) echo "failed: $answer" ;; esac
    sleep 0.2
done >/tmp/asked"#;

/// The backend has a second name.
const COMPOSE: &str = "services:
  backend:
    extends: { file: compose.base.yml, service: backend }
    image: ${BACKEND_IMAGE:?}
    env_file: ../.env
    ports: [\"${BACKEND_PORT:?}:8000\"]
    networks: { default: { aliases: [api] } }
  tg_bot:
    extends: { file: compose.base.yml, service: tg_bot }
    image: ${TG_BOT_IMAGE:?}
    env_file: ../.env
  db:
    extends: { file: compose.base.yml, service: db }
  redis:
    extends: { file: compose.base.yml, service: redis }
";

struct Cache<'a, 'b> {
    project: &'a DoorProject<'b>,
}

impl<'a, 'b> Cache<'a, 'b> {
    fn asks(project: &'a DoorProject<'b>) -> Self {
        let cache = Self { project };
        cache.sh(&format!("rm -f /tmp/stop /tmp/asked; ({ASKING}) >/dev/null 2>&1 &"));
        cache
    }

    fn sh(&self, script: &str) -> String {
        let name = format!("{}-redis-1", self.project.slug);
        let output = self.project.server().exec(&["docker", "exec", &name, "sh", "-c", script]).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The commits that answered, one after the other, with how often: never one again that was replaced.
    fn heard(self, what: &str) -> Vec<(String, usize)> {
        let lines = self.sh("touch /tmp/stop; sleep 0.3; cat /tmp/asked");
        let mut turns: Vec<(String, usize)> = Vec::new();
        for line in lines.lines() {
            match turns.last_mut() {
                Some((commit, count)) if commit == line => *count += 1,
                _ => turns.push((line.to_owned(), 1)),
            }
        }
        tell(what, &format!("{turns:?}"));
        turns
    }
}

fn only(commits: &[&Commit], heard: &[(String, usize)]) {
    let turns: Vec<_> = heard.iter().map(|(commit, _)| commit.as_str()).collect();
    let expected: Vec<_> = commits.iter().map(|commit| commit.sha.as_str()).collect();
    assert_eq!(turns, expected, "{heard:?}");
}

#[test]
fn by_its_names_a_service_finds_the_release_that_serves_and_no_other() {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    let sample = Sample::new(Generation::Two, "acme", "shop").with_file("infra/compose.prod.yml", COMPOSE);
    let project = DoorProject::of(&scene, sample, "shop", PORT);
    let first = project.publish(Variant::Healthy);
    project.deploy(&first);

    let cache = Cache::asks(&project);
    let second = project.publish(Variant::Healthy);
    project.deploy(&second);
    only(&[&first, &second], &cache.heard("by event"));

    let cache = Cache::asks(&project);
    let third = project.publish(Variant::Healthy);
    project.push_by_ci().unwrap();
    only(&[&second, &third], &cache.heard("by CI's job"));

    // Those that run for a while before they are found out.
    refuses(&project, &third, Variant::Errors);
    refuses(&project, &third, Variant::SoonExit);
    project.is_whole(&third);
}

fn refuses(project: &DoorProject<'_>, serving: &Commit, variant: Variant) {
    let cache = Cache::asks(project);
    let bad = project.publish(variant);
    project.fails(&bad);
    only(&[serving], &cache.heard(&format!("{variant:?}")));
}
