//! What a deployment needs fails under it, from one table: disk, registry, git server, Docker, the server itself.
//! Either the engine gets over it, or the deployment fails with the code that says what to repair, and a replay
//! succeeds then. The version before answers all the while. Every fault is a real one; a project's own failures are in
//! `life`.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use slipway_tests::github::{FaultEffect, PlantedFault, StandInServer};
use slipway_tests::stack::Stack;
use slipway_tests::world::{Commit, Generation, Module, RegistryLogin, Sample, Variant, eventually, net};

use crate::projects::server::{DeployedProject, Poll};

/// What fails, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// The projects' file system has no room left, from the middle of a fetch on.
    DiskFull,
    /// Nothing listens where the registry was.
    RegistryDown,
    /// The registry takes connections and says nothing for a while, from the middle of a pull on.
    RegistrySlow,
    /// The registry refuses the credential, from the middle of a pull on.
    TokenExpired,
    /// The git server ends every connection without an answer.
    GitDown,
    /// The Docker daemon is killed when the first container of the new release is there.
    DockerRestarted,
    /// The server goes off and on again when the first container of the new release is there.
    ServerRebooted,
}

impl Fault {
    /// The codes that the deployment may fail with, and whether the engine may get over it. What comes back by itself
    /// may take longer than the attempts last.
    fn codes(self) -> (&'static [&'static str], bool) {
        match self {
            Self::DiskFull => (&["disk-full"], false),
            Self::RegistryDown => (&["registry-unavailable"], false),
            Self::RegistrySlow => (&[], true),
            Self::TokenExpired => (&["registry-credential-refused"], false),
            Self::GitDown => (&["git-unavailable"], false),
            Self::DockerRestarted => (&["docker-not-running"], true),
            Self::ServerRebooted => (&["server-connection-lost", "server-unreachable", "docker-not-running"], true),
        }
    }

    /// Whether it strikes when the version before is being replaced.
    fn is_late(self) -> bool {
        matches!(self, Self::DockerRestarted | Self::ServerRebooted)
    }
}

/// What happens to the project on the first server, whose projects lie on a disk of their own, while this happens to
/// the one on the second. Both have one registry, so that what ails that comes afterwards.
const AT_ONCE: [&[Fault]; 2] = [&[Fault::GitDown, Fault::DiskFull], &[Fault::DockerRestarted, Fault::ServerRebooted]];
const AFTERWARDS: &[Fault] = &[Fault::RegistryDown, Fault::RegistrySlow, Fault::TokenExpired];

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_what_a_deployment_needs_may_fail_and_the_version_before_answers() -> Result<()> {
    let mut stack = Stack::start(2)?;
    stack.worker(&[
        ("SLIPWAY_MAX_ATTEMPTS", "3"),
        ("SLIPWAY_RETRY_INITIAL", "3s"),
        ("SLIPWAY_RETRY_MAX", "3s"),
        ("SLIPWAY_COMMAND_TIMEOUT", "60s"),
    ])?;
    stack.enlist(0)?;
    stack.enlist(1)?;
    stack.world.target(0).sh("mkdir -p /opt/services; mount -t tmpfs -o size=3g,mode=755 projects /opt/services")?;
    let stack = &stack;
    thread::scope(|scope| -> Result<()> {
        let second = scope.spawn(|| life(stack, 1, AT_ONCE[1]));
        let first = life(stack, 0, AT_ONCE[0]);
        second.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let (project, mut good) = first?;
        AFTERWARDS.iter().try_for_each(|fault| outlives(&project, &mut good, *fault))
    })
}

fn life<'a>(stack: &'a Stack, target: usize, rows: &[Fault]) -> Result<(DeployedProject<'a>, Commit)> {
    let sample = Sample::new(Generation::Two, &format!("Owner-{target}"), "Shop").of(&[Module::Backend]);
    let slug = format!("shop-{target}");
    let project = DeployedProject { stack, target, slug, sample, port: 8100, variables: json!({}) };
    let mut good = stack.publish(&project.sample, Variant::Healthy)?;
    let first = project.deploy(&good)?;
    ensure!(first.result()["outcome"] == "succeeded", "first: {}", first.result());
    rows.iter().try_for_each(|fault| outlives(&project, &mut good, *fault))?;
    Ok((project, good))
}

#[expect(clippy::print_stderr, reason = "what came of each row is what a soak is run for")]
fn tell(row: &str) {
    eprintln!("{row}");
}

/// Deploys the next commit with `fault` on its way, and again if it failed once that has passed.
fn outlives(project: &DeployedProject<'_>, good: &mut Commit, fault: Fault) -> Result<()> {
    let begun = Instant::now();
    let sample = project.sample.clone().with_file("README.md", &format!("{fault:?}\n"));
    let next = project.stack.publish(&sample, Variant::Healthy)?;
    let (id, answers) = thread::scope(|scope| -> Result<_> {
        let poll = Poll::start(scope, project, &[good, &next]);
        let id = strike(project, &next, fault);
        Ok((id?, poll.stop()?))
    })
    .with_context(|| format!("{fault:?}"))?;
    let ended = project.ended(&id)?;
    let result = ended.result();
    let silent = answers.iter().filter(|answered| !**answered).count();
    let failure = &result["failure"];
    let told = format!(
        "{fault:?}: {} in {:.1} s, {} attempts, silent {silent} times of {}: {failure}",
        result["outcome"],
        begun.elapsed().as_secs_f64(),
        result["attempts"],
        answers.len()
    );
    tell(&told);
    let (codes, heals) = fault.codes();
    if heals && result["outcome"] == "succeeded" {
        ended.serves(&next).context(told)?;
    } else {
        ensure!(codes.iter().any(|code| failure["code"] == *code), "{told}");
        ensure!(fault.is_late() || silent == 0, "{told}");
        // Nobody can look at a server that is away, and then nothing is said.
        let unseen = fault.is_late() && !result["serving"]["proven"].as_bool().unwrap_or_default();
        ensure!(unseen || ended.serves(good).is_ok(), "serving is {}: {told}", result["serving"]);
        replayed(project, &id, &next).context(told)?;
    }
    eventually("the new version answers", Duration::from_secs(5), || {
        let answer = project.stack.world.get(&format!("http://{}:{}/", project.server().ip(), project.port))?;
        ensure!(answer.status == 200 && answer.body.contains(&next.sha), "{fault:?}: {answer:?}");
        Ok(())
    })?;
    *good = next;
    Ok(())
}

/// Sends the dead letter of deployment `id` again and checks that `commit` serves then.
fn replayed(project: &DeployedProject<'_>, id: &str, commit: &Commit) -> Result<()> {
    let said: Value = serde_json::from_str(&project.stack.slipway(&["--json", "dead-letters", "replay", id])?)?;
    let again = said["replayed"][0]["deployment_id"].as_str().context("the replay's deployment")?;
    let ended = project.ended(again)?;
    ensure!(ended.result()["outcome"] == "succeeded", "the replay: {}", ended.result());
    ended.serves(commit)
}

/// Deploys `commit` with `fault` on its way; what failed works again when this returns the deployment's id.
fn strike(project: &DeployedProject<'_>, commit: &Commit, fault: Fault) -> Result<String> {
    let (stack, server, data) = (project.stack, project.server(), project.data(commit)?);
    let (ghcr, world) = (stack.world.ghcr(), &stack.world);
    let begun = |id: &str, stage: &str| {
        eventually(&format!("stage {stage} has begun"), Duration::from_secs(60), || {
            let shown = project.shown(id)?;
            let mut events = shown["events"].as_array().into_iter().flatten().map(|event| &event["data"]);
            ensure!(events.any(|e| e["kind"] == "stage_started" && e["stage"] == stage), "{}", shown["state"]);
            Ok(())
        })
    };
    match fault {
        Fault::RegistryDown => {
            ghcr.service().kill()?;
            let id = project.submit(&data)?;
            project.ended(&id)?;
            ghcr.service().start()?;
            Ok(id)
        }
        Fault::RegistrySlow | Fault::TokenExpired => {
            // The workers may ask the registry, the server's pull waits for it.
            let rule = format!("OUTPUT -p tcp -d {} --dport 443 -j DROP", net::GHCR);
            server.sh(&format!("iptables -I {rule}"))?;
            let id = project.submit(&data)?;
            begun(&id, "compose")?;
            if fault == Fault::RegistrySlow {
                ghcr.service().pause()?;
                server.sh(&format!("iptables -D {rule}"))?;
                thread::sleep(Duration::from_secs(4));
                ensure!(project.shown(&id)?["result"].is_null(), "it ended though no image could be pulled");
                ghcr.service().resume()?;
                project.ended(&id)?;
            } else {
                let real = world.registry_credential();
                ghcr.accept_only(&RegistryLogin { password: "another".to_owned(), ..real.clone() })?;
                server.sh(&format!("iptables -D {rule}"))?;
                project.ended(&id)?;
                ghcr.accept_only(real)?;
            }
            Ok(id)
        }
        Fault::GitDown => {
            let path = format!("/{}/{}", project.sample.owner(), project.sample.repository());
            stack.github.plant(PlantedFault::next(StandInServer::Git, &path, FaultEffect::Cut).times(usize::MAX));
            let id = project.submit(&data)?;
            project.ended(&id)?;
            stack.github.clear_faults();
            Ok(id)
        }
        Fault::DiskFull => {
            let path = format!("/{}/{}", project.sample.owner(), project.sample.repository());
            stack.github.plant(PlantedFault::next(
                StandInServer::Git,
                &path,
                FaultEffect::Slow(Duration::from_secs(4)),
            ));
            let id = project.submit(&data)?;
            begun(&id, "clone")?;
            // Somebody may write between the look and the mount, which then refuses to make it smaller than what's used.
            server.sh("for _ in {1..100}; do
                     used=$(df -k --output=used /opt/services | tail -n 1 | tr -d ' ')
                     if mount -o remount,size=${used}k /opt/services; then exit; fi
                 done; exit 1")?;
            project.ended(&id)?;
            server.sh("mount -o remount,size=3g /opt/services")?;
            Ok(id)
        }
        Fault::DockerRestarted | Fault::ServerRebooted => {
            let listen = "exec 3< <(timeout 100 docker events --filter event=create \
                          --filter label=com.docker.compose.oneoff=False); \
                          read -r line <&3; kill $!; echo \"$line\"";
            let (id, created) = thread::scope(|scope| -> Result<_> {
                let first = scope.spawn(|| server.sh(listen));
                eventually("somebody listens", Duration::from_secs(20), || {
                    server.sh("pgrep -f '^docker events' >/dev/null").map(drop)
                })?;
                let id = project.submit(&data)?;
                Ok((id, first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?))
            })?;
            ensure!(created.contains(" create "), "no container was made: {created}");
            if fault == Fault::ServerRebooted {
                server.reboot()?
            } else {
                server.kill_docker()?
            }
            project.ended(&id)?;
            Ok(id)
        }
    }
}
