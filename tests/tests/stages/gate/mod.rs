//! The gate alone, on containers that begin in every way that projects know: what it says, whatever a single look would
//! have seen; and, on the same server, single scripts under which something fails. Whole deployments stand in
//! `projects`.

mod scripts;
mod views;

use std::thread;

use slipway_tests::world::{TargetServer, World, WorldOptions};

/// The gate with what it needs of the other scripts.
const GATE: &str = concat!(
    include_str!("../../../../deploy/src/scripts/project_files.sh"),
    include_str!("../../../../deploy/src/scripts/containers.sh"),
    include_str!("../../../../deploy/src/scripts/service_report.sh"),
    include_str!("../../../../deploy/src/scripts/stability_gate.sh"),
);

/// A project's containers, how many seconds the gate may wait and the whole script take, and what it's to say of which
/// service.
struct Case {
    slug: &'static str,
    /// Service, options of `docker run`, program.
    containers: &'static [(&'static str, &'static str, &'static str)],
    patience: u32,
    limit: u32,
    verdict: &'static str,
}

const CASES: [Case; 8] = [
    Case {
        slug: "slow",
        containers: &[(
            "web",
            "--health-cmd 'test -e /tmp/ok' --health-interval 1s --health-retries 1 --health-start-period 30s",
            "sleep 6; touch /tmp/ok; sleep 1000",
        )],
        // The declared start period counts on top.
        patience: 1,
        limit: 120,
        verdict: "ok",
    },
    Case {
        slug: "sick",
        containers: &[("web", "--health-cmd false --health-interval 1s --health-retries 2", "sleep 1000")],
        patience: 60,
        limit: 120,
        verdict: "unhealthy web",
    },
    Case {
        slug: "once",
        containers: &[("migrations", "--restart no", "exit 0"), ("web", "--restart unless-stopped", "sleep 1000")],
        patience: 60,
        limit: 120,
        verdict: "ok",
    },
    Case {
        slug: "at-second-try",
        containers: &[(
            "web",
            "--restart unless-stopped",
            "[ -e /tmp/again ] || { touch /tmp/again; exit 1; }; sleep 1000",
        )],
        patience: 90,
        limit: 120,
        verdict: "ok",
    },
    Case {
        slug: "loop",
        // It runs at nearly every moment: only its restarts show.
        containers: &[(
            "web",
            "--restart unless-stopped",
            "[ -e /tmp/again ] || { touch /tmp/again; sleep 3; exit 1; }; sleep 8; exit 1",
        )],
        patience: 40,
        limit: 120,
        verdict: "crash-loop web",
    },
    Case {
        slug: "half",
        containers: &[("db", "--restart unless-stopped", "sleep 1000"), ("bot", "--restart no", "exit 3")],
        patience: 60,
        limit: 120,
        verdict: "crash-loop bot",
    },
    Case {
        slug: "slower",
        containers: &[("web", "--health-cmd false --health-interval 1s --health-start-period 300s", "sleep 1000")],
        // Its own word on its start is longer than the whole command may take.
        patience: 60,
        limit: 5,
        verdict: "wait web",
    },
    // `up` failed before it made any; then its own words are all there is to tell.
    Case { slug: "none", containers: &[], patience: 60, limit: 120, verdict: "wait" },
];

fn judge(target: &TargetServer, case: &Case) -> (String, String) {
    let slug = case.slug;
    for (service, options, program) in case.containers {
        target
            .sh(&format!(
                "docker run -d --label com.docker.compose.project={slug} --label com.docker.compose.oneoff=False \
                 --label com.docker.compose.service={service} {options} redis:7-alpine sh -c '{program}'"
            ))
            .unwrap();
    }
    let script = format!(
        "exec 2>&1\nroot=/srv slug={slug} patience={} limit={}\ntell() {{ echo \"$1 $2\"; }}\n{GATE}\ngate\necho \"${{answer% *}}\"\n",
        case.patience, case.limit,
    );
    let said = target.sh(&script).unwrap();
    (said.lines().last().unwrap_or_default().to_owned(), said)
}

#[test]
fn the_gate_looks_more_than_once_and_scripts_keep_what_they_cannot_replace() {
    let world = World::start(WorldOptions { targets: 1, ..WorldOptions::default() }).unwrap();
    let target = world.target(0);
    target.sh("docker pull -q redis:7-alpine").unwrap();
    thread::scope(|scope| {
        // Most of a judgement is waiting.
        let scripts = scope.spawn(|| scripts::hold_on_to_what_they_can_not_replace(target));
        let views = scope.spawn(|| views::read_files_as_compose_does(target));
        let judged: Vec<_> = CASES.iter().map(|case| (case, scope.spawn(move || judge(target, case)))).collect();
        for (case, judged) in judged {
            let (verdict, said) = judged.join().unwrap();
            assert_eq!(verdict, case.verdict, "{}: {said}", case.slug);
            assert!(!case.containers.is_empty() || said == "wait\n", "nothing floods what was said before: {said}");
            let told = said.lines().filter(|line| line.starts_with("service ")).count();
            assert_eq!(told, case.containers.len(), "every service is told: {said}");
        }
        for others in [scripts, views] {
            others.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}
