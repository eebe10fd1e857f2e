//! A project's life: the first deployment, the same again, the next commit, a bad one, a repaired one. One body for both
//! generations of the template.

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use slipway_tests::world::{Generation, Variant};

use crate::deployments::environment;
use crate::deployments::events::Story;
use crate::deployments::failures::{self, Expected};
use crate::deployments::leaks::{self, Sampler};
use crate::deployments::scene::{DIRECTORY, PORT, ProjectScene, SLUG};

/// What an unattended deployment may cost, in sequential SSH round trips.
const FIRST_ROUND_TRIPS: u64 = 30;
const UNCHANGED_ROUND_TRIPS: u64 = 20;
/// What CI pushes images with: the repository has it before its first deployment.
const PUSHED_WITH: [(&str, &str); 3] =
    [("REGISTRY_PASSWORD", "may-push-7c1d"), ("REGISTRY_URL", "ghcr.io"), ("REGISTRY_USER", "acme-robot")];

/// Generation 1 has no health check: the rehearsal asks for the page itself.
#[test]
#[ignore = "projects::life has both generations: ./tests/soak"]
fn soak_a_project_of_generation_1_moves_on_and_outlives_a_404() -> Result<()> {
    let bad = Expected { variant: Variant::NotFound, stage: "compose", code: "not-healthy" };
    moves_on_and_outlives(Generation::One, &bad)
}

#[test]
fn a_project_of_generation_2_moves_on_and_outlives_a_commit_that_crashes() -> Result<()> {
    let bad = Expected { variant: Variant::CrashLoop, stage: "compose", code: "crash-loop" };
    moves_on_and_outlives(Generation::Two, &bad)
}

fn moves_on_and_outlives(generation: Generation, bad: &Expected) -> Result<()> {
    let mut scene = ProjectScene::new(generation, &[])?;
    let commit = scene.stack.publish(&scene.sample, Variant::Healthy)?;
    for (name, value) in PUSHED_WITH {
        scene.stack.github.set_secret(&scene.repository(), name, value);
    }

    // The first deployment.
    let sampler = Sampler::start(scene.server())?;
    let first = scene.request(&scene.ready(&commit)?)?;
    let story = scene.story(&first)?;
    let seen = sampler.stop()?;
    tell(generation, "first", &story, round_trips(&scene, &first, FIRST_ROUND_TRIPS)?);
    story.is_complete()?;
    succeeded(&story, &scene, "succeeded", &commit.sha)?;
    let variables = environment::check(&scene, &commit)?;
    environment::reaches_the_containers(&scene, &variables)?;
    github_has_what_ci_reads(&scene, &variables)?;
    let secrets = leaks::secrets(&scene, &variables["POSTGRES_PASSWORD"])?;
    seen.check(&secrets)?;
    leaks::on_disk(scene.server(), &secrets, true)?;

    // The same again changes nothing.
    let state = |scene: &ProjectScene| -> Result<_> {
        let keys = scene.server().sh("cat /root/.ssh/authorized_keys")?;
        let writes = scene.stack.github.secret_writes().len();
        Ok((environment::file(scene)?, scene.containers()?, keys, writes))
    };
    let before = state(&scene)?;
    let again = scene.request(&scene.ready(&commit)?)?;
    ensure!(again != first, "a new event is a new deployment");
    let story = scene.story(&again)?;
    tell(generation, "again", &story, round_trips(&scene, &again, UNCHANGED_ROUND_TRIPS)?);
    story.is_complete()?;
    succeeded(&story, &scene, "already_deployed", &commit.sha)?;
    ensure!(story.stages().iter().all(|(_, change, _)| change == "unchanged"), "{:?}", story.stages());
    ensure!(state(&scene)? == before, "something changed on the server or at GitHub");

    // The next commit.
    let next = scene.sample.clone().with_file("README.md", "another\n");
    let next = scene.stack.publish(&next, Variant::Healthy)?;
    let sampler = Sampler::start(scene.server())?;
    let third = scene.request(&scene.ready(&next)?)?;
    let story = scene.story(&third)?;
    let seen = sampler.stop()?;
    tell(generation, "next commit", &story, round_trips(&scene, &third, FIRST_ROUND_TRIPS)?);
    story.is_complete()?;
    succeeded(&story, &scene, "succeeded", &next.sha)?;
    let kept = environment::check(&scene, &next)?;
    for name in ["POSTGRES_PASSWORD", "APP_SECRET_KEY", "DATABASE_URL"] {
        ensure!(kept.get(name) == variables.get(name), "{name} was drawn anew");
    }
    let secrets = leaks::secrets(&scene, &variables["POSTGRES_PASSWORD"])?;
    seen.check(&secrets)?;
    leaks::on_disk(scene.server(), &secrets, true)?;

    let (failed, repaired) = failures::fails_and_is_repaired(&mut scene, &next, &kept, bad)?;

    let shown = [&commit, &commit, &next, &failed, &repaired];
    let ends = ["success", "success", "success", "failure", "success"];
    scene.github_shows(&std::iter::zip(shown, ends).map(|(c, end)| (c.sha.as_str(), end)).collect::<Vec<_>>())?;

    let said: Vec<_> = scene.listener.all(&scene.stack.world)?.iter().map(ToString::to_string).collect();
    leaks::in_text("the events", &said.join("\n"), &secrets)?;
    leaks::in_text("the worker's log", &scene.stack.running(0).log()?, &secrets)?;
    for deployment in [&first, &again, &third] {
        leaks::in_text("the journal", &scene.shown(deployment)?.to_string(), &secrets)?;
    }
    leaks::in_database(&scene.stack.world, &secrets)?;
    scene.end(0)
}

/// Checks the outcome, the URL and who answers there.
fn succeeded(story: &Story, scene: &ProjectScene, outcome: &str, sha: &str) -> Result<()> {
    let result = story.result();
    ensure!(result["outcome"] == outcome, "{result}");
    ensure!(result["commit"] == sha, "{result}");
    ensure!(result["url"] == format!("http://{}:{PORT}", scene.server().ip()), "{result}");
    let services = result["services"].as_array().context("services")?;
    ensure!(services.len() == 4 && services.iter().all(|s| s["state"] == "running"), "{result}");
    let (status, body) = scene.health()?;
    ensure!(status == 200 && body.contains(sha), "{status}: {body}");
    Ok(())
}

/// Checks the Actions secrets: every name that the project's workflow reads, and every value.
fn github_has_what_ci_reads(scene: &ProjectScene, variables: &BTreeMap<String, String>) -> Result<()> {
    let mut secrets = scene.stack.github.secrets(&scene.repository());
    let workflows = scene.server().sh(&format!("cat {DIRECTORY}/.github/workflows/*.yml"))?;
    let reads = workflows
        .split("secrets.")
        .skip(1)
        .map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default());
    for name in reads.filter(|name| *name != "GITHUB_TOKEN") {
        ensure!(secrets.contains_key(name), "CI reads {name}, and GitHub has {:?}", secrets.keys());
    }

    let key = secrets.remove("DEPLOY_SSH_KEY").context("DEPLOY_SSH_KEY")?;
    only_the_projects_own(scene, &key)?;
    let dotenv = STANDARD.decode(secrets.remove("DOTENV").context("DOTENV")?)?;
    ensure!(environment::parse(&String::from_utf8(dotenv)?)? == *variables, "DOTENV isn't what .env holds");

    // SSH's port to the workflow of generation 1, the app's to that of generation 2.
    let deploy_port = match scene.sample.generation() {
        Generation::One => "22".to_owned(),
        Generation::Two => PORT.to_string(),
    };
    let expected = [
        ("DEPLOY_COMPOSE_FILES", "infra/compose.base.yml infra/compose.prod.yml infra/compose.slipway.yml"),
        ("DEPLOY_HOST", &scene.server().ip().to_string()),
        ("DEPLOY_PORT", &deploy_port),
        ("DEPLOY_PROJECT_PATH", DIRECTORY),
        ("DEPLOY_USER", "root"),
        ("PROJECT_NAME", SLUG),
    ];
    let expected = expected.into_iter().chain(PUSHED_WITH);
    let expected: BTreeMap<_, _> = expected.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    ensure!(secrets == expected, "{:?}", secrets.keys());
    Ok(())
}

/// Checks that the key is the one behind the project's restricted line in `authorized_keys`.
fn only_the_projects_own(scene: &ProjectScene, key: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = scene.stack.world.folder().join("deploy-key");
    std::fs::write(&file, key)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
    let told = std::process::Command::new("ssh-keygen").arg("-y").arg("-f").arg(&file).stdin(Stdio::null()).output()?;
    ensure!(told.status.success(), "DEPLOY_SSH_KEY: {}", String::from_utf8_lossy(&told.stderr));
    let public = String::from_utf8(told.stdout)?;
    let public = public.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    let authorized = scene.server().sh("cat /root/.ssh/authorized_keys")?;
    let line = authorized.lines().find(|line| line.contains(&public)).context("the key's line")?;
    let options = format!("restrict,command=\"{DIRECTORY}/.slipway/ci-deploy\" ");
    ensure!(line.starts_with(&options), "{line}");
    Ok(())
}

/// What the worker recorded; at most `limit`.
fn round_trips(scene: &ProjectScene, deployment: &str, limit: u64) -> Result<u64> {
    let count = scene.shown(deployment)?["ssh_round_trips"].as_u64().context("the number of round trips")?;
    ensure!(count > 0 && count <= limit, "{count} SSH round trips; {limit} are allowed");
    Ok(count)
}

#[expect(clippy::print_stderr, reason = "measurements, shown with --nocapture")]
fn tell(generation: Generation, run: &str, story: &Story, round_trips: u64) {
    let stages: Vec<_> = story.stages().into_iter().map(|(stage, _, ms)| format!("{stage} {ms}")).collect();
    eprintln!("generation {generation:?}, {run}: {} ms; {round_trips} SSH round trips", stages.join(", "));
}
