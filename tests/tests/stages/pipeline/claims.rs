//! Two claims on one server, and an attempt that goes on where another one stopped: fence, resuming, putting back.

use std::collections::BTreeMap;
use std::time::Duration;

use slipway_deploy::{CompletedStages, DeploymentWork, LeaseGuard, RestoreOutcome};
use slipway_protocol::{Action, Change, ErrorCode, ProjectId, Stage};
use slipway_tests::github::{FaultEffect, PlantedFault, StandInServer};
use slipway_tests::world::{Commit, Generation, Sample, Variant};
use tokio_util::sync::CancellationToken;

use crate::pipeline::scene::AttemptScene;

/// What an attempt could change, down to inodes and times: a file that is written anew with the same content counts.
const STATE: &str = "cd /opt/services/shop; find . -path ./.git -prune -o -path ./.slipway -prune -o -printf '%p %i %T@\\n' | sort; \
    cat .env infra/compose.slipway.yml .git/HEAD .slipway/fence; docker ps -aq --no-trunc | xargs -r docker inspect \
    --format '{{.Id}} {{.State.StartedAt}} {{.RestartCount}}' | sort; ufw show added; cat /root/.ssh/authorized_keys";

#[test]
fn a_newer_claim_ends_what_an_older_one_runs_and_the_older_one_is_refused_after() {
    let scene = AttemptScene::new();
    let server = scene.world.target(0);
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    // The first command that asks for the project's networks hangs for ever and heeds no signal.
    server
        .sh("printf '%s\\n' '#!/bin/sh' 'if [ \"$1\" = network ] && mv /run/hold /run/held 2>/dev/null; then trap \"\" TERM; \
             while :; do sleep 1000; done; fi' 'exec /usr/bin/docker \"$@\"' >/usr/local/bin/docker; \
             chmod 755 /usr/local/bin/docker; touch /run/hold")
        .unwrap();
    let of = |fence| DeploymentWork {
        lease: LeaseGuard::endless(fence),
        ..scene.work(&sample, &commit, "shop", &BTreeMap::new())
    };
    let (deployer, heard) = (scene.deployer.clone(), scene.heard.clone());
    let (older, newer) = (of(7), of(8));
    scene
        .world
        .block_on(async {
            let mut zombie = deployer.begin(older, heard.clone(), CancellationToken::new());
            for stage in [Stage::Preflight, Stage::Clone] {
                zombie.run(stage).await.unwrap();
            }
            let stuck = tokio::spawn(async move {
                let outcome = zombie.run(Stage::Env).await;
                (zombie, outcome)
            });
            while server.sh("[ -e /run/held ]").is_err() {}

            server.sh("mkdir /opt/services/.slipway-gone.shop; touch /opt/services/.slipway-gone.shop/.env").unwrap();
            let mut attempt = deployer.begin(newer, heard.clone(), CancellationToken::new());
            let began = std::time::Instant::now();
            attempt.run(Stage::Clone).await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(60), "it didn't wait for the lock: {:?}", began.elapsed());
            server.sh("[ ! -e /opt/services/.slipway-gone.shop ]").unwrap();
            let (mut zombie, outcome) = stuck.await.unwrap();
            assert!(outcome.is_err(), "{outcome:?}");
            let left = server.processes().unwrap();
            assert!(!left.iter().any(|argv| argv.iter().any(|a| a == "1000")), "{left:?}");
            for stage in [Stage::Env, Stage::Compose, Stage::Firewall, Stage::Verify, Stage::Secrets] {
                attempt.run(stage).await.unwrap();
            }
            attempt.close().await;

            let all = format!("{STATE}; find .slipway -printf '%p %i %T@\\n' | sort");
            let before = server.sh(&all).unwrap();
            for stage in [Stage::Clone, Stage::Env, Stage::Compose, Stage::Firewall, Stage::Secrets] {
                assert_eq!(zombie.run(stage).await.unwrap_err().code, ErrorCode::StaleFence, "{stage}");
            }
            let settled = zombie.restore_previous(false, CancellationToken::new()).await;
            assert!(matches!(&settled, RestoreOutcome::Unknown(e) if e.code == ErrorCode::StaleFence), "{settled:?}");
            assert_eq!(server.sh(&all).unwrap(), before);

            // Another project of that slug, whatever its claim, is told whose it is, and touches nothing.
            let owner = of(0).request.project.id;
            let stranger = ProjectId(uuid::Uuid::new_v4());
            let of_stranger = |fence, former: &[ProjectId]| {
                let mut work = of(fence);
                work.request.project.id = stranger;
                work.former_owners = former.to_vec();
                work
            };
            let mut attempt = deployer.begin(of_stranger(9, &[]), heard.clone(), CancellationToken::new());
            for stage in [Stage::Preflight, Stage::Clone, Stage::Env, Stage::Compose, Stage::Firewall, Stage::Secrets] {
                let error = attempt.run(stage).await.unwrap_err();
                assert_eq!(error.code, ErrorCode::SlugTaken, "{stage}: {error:?}");
                assert!(error.message.contains(&owner.to_string()), "{error:?}");
            }
            assert_eq!(attempt.restore_previous(false, CancellationToken::new()).await, RestoreOutcome::Nothing);
            for action in [Action::Stop, Action::Start, Action::Undeploy] {
                let work = DeploymentWork { action, remove_volumes: true, ..of_stranger(9, &[]) };
                let mut attempt = deployer.begin(work, heard.clone(), CancellationToken::new());
                for &stage in action.stages().iter().filter(|stage| !matches!(stage, Stage::Preflight | Stage::Verify))
                {
                    let error = attempt.run(stage).await.unwrap_err();
                    assert_eq!(error.code, ErrorCode::SlugTaken, "{action} {stage}: {error:?}");
                }
                attempt.close().await;
            }
            let planned = deployer.plan(of_stranger(9, &[]), heard.clone(), CancellationToken::new()).await;
            assert_eq!(planned.unwrap_err().code, ErrorCode::SlugTaken);
            attempt.close().await;
            assert_eq!(server.sh(&all).unwrap(), before);
            // Once it's handed over, the one before is the stranger, with CI's key of old, which knew of no owners.
            server.sh("cd /opt/services/shop && sed -i '/^owner=/d' .slipway/ci-deploy").unwrap();
            let mut attempt = deployer.begin(of_stranger(10, &[owner]), heard.clone(), CancellationToken::new());
            for stage in [Stage::Preflight, Stage::Clone] {
                attempt.run(stage).await.unwrap();
            }
            attempt.close().await;
            let mut attempt = deployer.begin(of(11), heard.clone(), CancellationToken::new());
            for stage in [Stage::Preflight, Stage::Clone] {
                assert_eq!(attempt.run(stage).await.unwrap_err().code, ErrorCode::SlugTaken, "{stage}");
            }
            attempt.close().await;
            let said = server.sh("cd /opt/services/shop && rm -rf .slipway/served && \
                 SSH_ORIGINAL_COMMAND='docker compose pull' .slipway/ci-deploy 2>&1 || :");
            assert!(said.as_ref().unwrap().contains("slug-taken"), "{said:?}");
            // Where the repository's secrets are another project's, nothing is written, and CI's access goes.
            let ci_taken = Some("repository-taken: it's another one's".to_owned());
            let work = DeploymentWork { ci_taken, ..of_stranger(11, &[]) };
            let mut attempt = deployer.begin(work, heard.clone(), CancellationToken::new());
            let report = attempt.run(Stage::Secrets).await.unwrap();
            assert_eq!(report.facts["finding"], "repository-taken", "{report:?}");
            assert!(!report.facts.contains_key("written") && report.change == Change::Changed, "{report:?}");
            attempt.close().await;
            server
                .sh("[ ! -e /opt/services/shop/.slipway/ci-deploy ]; ! grep slipway:shop /root/.ssh/authorized_keys")
                .unwrap();

            // Not even what was undeployed is forgotten, and data that are kept are its project's.
            let undeployed = DeploymentWork { action: Action::Undeploy, ..of_stranger(12, &[]) };
            let mut attempt = deployer.begin(undeployed, heard.clone(), CancellationToken::new());
            // That GitHub lets nobody in any more is a reason to undeploy.
            scene.github.plant(PlantedFault::next(
                StandInServer::Api,
                "/repos/acme/shop/actions",
                FaultEffect::Status(403),
            ));
            for &stage in Action::Undeploy.stages() {
                let report = attempt.run(stage).await.unwrap();
                let left = report.facts.get("github").map(ToString::to_string);
                assert!(left.is_none_or(|left| left.contains("closed to Slipway")), "{stage}: {report:?}");
            }
            attempt.close().await;
            assert_eq!(zombie.run(Stage::Clone).await.unwrap_err().code, ErrorCode::StaleFence);
            let kept = server.sh("cat /opt/services/.slipway-kept/shop/owner").unwrap();
            assert_eq!(kept.trim(), stranger.to_string());
            let mut attempt = deployer.begin(of(13), heard.clone(), CancellationToken::new());
            assert_eq!(attempt.run(Stage::Preflight).await.unwrap_err().code, ErrorCode::SlugTaken);
            attempt.close().await;
            let removed = DeploymentWork { action: Action::Undeploy, remove_volumes: true, ..of_stranger(14, &[]) };
            let mut attempt = deployer.begin(removed, heard, CancellationToken::new());
            for &stage in Action::Undeploy.stages() {
                attempt.run(stage).await.unwrap();
            }
            attempt.close().await;
            server.sh("[ ! -e /opt/services/.slipway-kept/shop/owner ]").unwrap();
        })
        .unwrap();
}

#[test]
fn what_is_done_and_still_so_is_resumed_and_what_a_failure_touched_is_put_back() {
    let scene = AttemptScene::new();
    let server = scene.world.target(0);
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let work = |commit: &Commit| scene.work(&sample, commit, "shop", &BTreeMap::new());
    let first = scene.run(work(&commit)).unwrap();
    let done: CompletedStages = first.reports.into_iter().map(|(stage, report)| (stage, report.facts)).collect();
    let resumed = |done: &CompletedStages| -> Vec<Stage> {
        let (deployer, heard, work) = (scene.deployer.clone(), scene.heard.clone(), work(&commit));
        let resume = async {
            let mut attempt = deployer.begin(work, heard, CancellationToken::new());
            attempt.resume(done).await.unwrap()
        };
        let reports = scene.world.block_on(resume).unwrap();
        assert!(reports.values().all(|r| r.change == Change::Unchanged && r.facts["resumed"] == true), "{reports:?}");
        assert!(reports.get(&Stage::Compose).is_none_or(|r| r.services.len() == 4), "{reports:?}");
        reports.into_keys().collect()
    };
    let before = server.sh(STATE).unwrap();
    assert_eq!(resumed(&done), [Stage::Clone, Stage::Env, Stage::Compose]);
    assert_eq!(server.sh(STATE).unwrap(), before, "looking changes nothing");
    // Nothing is resumed on the journal's word alone.
    assert_eq!(resumed(&CompletedStages::new()), []);
    let unproven: CompletedStages = done.keys().map(|stage| (*stage, serde_json::Map::new())).collect();
    server.sh("mkdir /opt/services/shop/.slipway/served").unwrap();
    assert_eq!(resumed(&unproven), [Stage::Clone]);
    server.sh("docker restart -t 0 $(docker ps -q --filter name=backend)").unwrap();
    assert_eq!(resumed(&done), [Stage::Clone, Stage::Env], "another start isn't the one that was proven");
    server.sh("echo '# by hand' >>/opt/services/shop/.env").unwrap();
    assert_eq!(resumed(&done), [Stage::Clone]);
    server.sh("echo >>/opt/services/shop/README.md").unwrap();
    assert_eq!(resumed(&done), []);
    server.sh("rmdir /opt/services/shop/.slipway/served").unwrap();
    scene.run(work(&commit)).unwrap();

    // A pull that fails touches no container, and leaves no file of the new commit.
    let files = "cd /opt/services/shop; git -c safe.directory='*' rev-parse HEAD; cat .env infra/compose.slipway.yml; \
                 docker ps -q --no-trunc | sort; ls .slipway";
    let serving = server.sh(files).unwrap();
    let next = scene.publish(&sample.clone().with_file("README.md", "next"), Variant::Healthy);
    scene.world.ghcr().remove("acme/shop-tg-bot", &next.tag()).unwrap();
    what_a_killed_git_or_a_lost_power_left_is_made_anew(&scene, work(&commit), work(&next));
    // Nor is a release that was being tried when its worker died.
    server
        .sh("docker run -d --name shop-rehearsal-backend --label com.docker.compose.project=shop \
             --label com.docker.compose.oneoff=True redis:7-alpine")
        .unwrap();
    // And what somebody has written beside the compose files is taken over, and is theirs again.
    server.sh("cd /opt/services/shop/infra; rm .env; echo 'BY_HAND=\"x\"' >.env").unwrap();
    let (deployer, heard, failing) = (scene.deployer.clone(), scene.heard.clone(), work(&next));
    let fail = async {
        let mut attempt = deployer.begin(failing, heard, CancellationToken::new());
        for stage in [Stage::Preflight, Stage::Clone, Stage::Env] {
            let report = attempt.run(stage).await.unwrap();
            assert!(
                stage != Stage::Env || report.facts["origins"]["kept"].to_string().contains("BY_HAND"),
                "{report:?}"
            );
        }
        assert_eq!(attempt.run(Stage::Compose).await.unwrap_err().code, ErrorCode::ImageNotFound);
        attempt.restore_previous(true, CancellationToken::new()).await
    };
    let settled = scene.world.block_on(fail).unwrap();
    assert!(settled.serving().is_some_and(|serving| serving.proven), "{settled:?}");
    let RestoreOutcome::Untouched { commit: serves, services, .. } = settled else { panic!("{settled:?}") };
    assert_eq!((serves.as_deref(), services.len()), (Some(commit.sha.as_str()), 4));
    assert_eq!(server.sh(files).unwrap(), serving);
    assert_eq!(server.sh("cd /opt/services/shop/infra; [ ! -L .env ] && cat .env").unwrap(), "BY_HAND=\"x\"\n");
    what_somebody_stopped_stays_so_and_starts_as_it_served(&scene, &sample, &commit);
}

/// Whatever state the repository is in: the commit is checked out, and what serves can be put back. For locks it isn't
/// even fetched again.
fn what_a_killed_git_or_a_lost_power_left_is_made_anew(
    scene: &AttemptScene,
    serving: DeploymentWork,
    next: DeploymentWork,
) {
    let server = scene.world.target(0);
    let checked_out = "cd /opt/services/shop; git() { command git -c safe.directory='*' \"$@\"; }; git rev-parse HEAD; \
                       git diff-index HEAD --; git fsck --no-dangling 2>&1";
    let damages = [
        "touch index.lock packed-refs.lock refs/slipway/served.lock shallow.lock",
        "find . -mindepth 1 -delete",
        "rm -r objects",
        "rm -r refs",
        "rm HEAD",
        ": >HEAD",
        "echo [ >config",
        ": >index",
        "echo nonsense >index",
        "echo nonsense >shallow",
        "find objects -name '*.pack' -delete",
        "find objects -type f -exec truncate -s 0 {} +",
    ];
    for damage in damages {
        let before = server.sh(checked_out).unwrap();
        assert_eq!(before.trim(), serving.request.repository.commit.as_str());
        server.sh(&format!("cd /opt/services/shop/.git; {damage}")).unwrap();
        scene.run_stages(next.clone(), &[Stage::Clone]).unwrap_or_else(|e| panic!("{damage}: {e:?}"));
        assert_eq!(server.sh(checked_out).unwrap().trim(), next.request.repository.commit.as_str(), "{damage}");
        let warned = std::mem::take(&mut *scene.heard.lines.lock().unwrap()).concat().contains("made anew");
        assert_eq!(warned, !damage.starts_with("touch"), "{damage}");
        let whole = "cd /opt/services/shop; git -c safe.directory='*' archive $(cat .slipway/served/commit) >/dev/null";
        server.sh(whole).unwrap_or_else(|e| panic!("{damage}: what served is gone: {e:#}"));
        for back in [true, false] {
            server.sh("rm -r /opt/services/shop/.slipway/served").unwrap();
            if back {
                scene.run_stages(serving.clone(), &[Stage::Clone]).unwrap();
            }
        }
    }
}

/// Stopping in the middle of a deployment, and a deployment that fails in the middle of a stop.
fn what_somebody_stopped_stays_so_and_starts_as_it_served(scene: &AttemptScene, sample: &Sample, commit: &Commit) {
    let server = scene.world.target(0);
    let to =
        |action, commit: &Commit| DeploymentWork { action, ..scene.work(sample, commit, "shop", &BTreeMap::new()) };
    let is_stopped = "cd /opt/services/shop; [ -f .slipway/stopped ] && [ ! -e .slipway/served ] && [ -z \"$(docker ps -q)\" ] \
                      && git -c safe.directory='*' rev-parse HEAD";
    let unproven = scene.publish(&sample.clone().with_file("README.md", "unproven"), Variant::Healthy);
    scene.run_stages(to(Action::Deploy, &unproven), &Stage::ALL[..4]).unwrap();
    assert!(scene.get("/health").contains(&unproven.sha));
    scene.run_stages(to(Action::Stop, &unproven), &[Stage::Compose]).unwrap();
    assert_eq!(server.sh(is_stopped).unwrap().trim(), commit.sha);
    scene.run_stages(to(Action::Start, commit), &[Stage::Compose]).unwrap();
    assert!(scene.get("/health").contains(&commit.sha), "what never proved itself was started");

    scene.run_stages(to(Action::Stop, commit), &[Stage::Compose]).unwrap();
    let bad = scene.publish(&sample.clone().with_file("README.md", "bad"), Variant::CrashLoop);
    let (_, error) = *scene.run(to(Action::Deploy, &bad)).err().unwrap();
    let words = format!("; commit {}, which was deployed before, is stopped, as it was", commit.sha);
    assert!(error.code == ErrorCode::CrashLoop && error.message.ends_with(&words), "{error}");
    assert_eq!(server.sh(is_stopped).unwrap().trim(), commit.sha);
}
