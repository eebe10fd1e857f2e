//! Deployments that can't succeed: what is told of them, and that they succeed once the cause is gone.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use slipway_tests::stack::BOT_TOKEN;
use slipway_tests::world::{Commit, Generation, Sample, Variant};

use crate::deployments::environment;
use crate::deployments::leaks;
use crate::deployments::scene::{DIRECTORY, ProjectScene};

/// What a failure is told as.
pub struct Expected {
    pub variant: Variant,
    pub stage: &'static str,
    pub code: &'static str,
}

/// Deploys a bad commit over `good`, which serves on, and then a repaired one. Answers with both.
pub fn fails_and_is_repaired(
    scene: &mut ProjectScene,
    good: &Commit,
    variables: &BTreeMap<String, String>,
    expected: &Expected,
) -> Result<(Commit, Commit)> {
    let Expected { variant, stage, code } = *expected;
    let bad = scene.stack.publish(&talkative(&scene.sample)?, variant)?;
    let failed = scene.request(&scene.ready(&bad)?)?;
    let story = scene.story(&failed)?;
    let result = story.result();
    ensure!(result["outcome"] == "failed" && result["attempts"] == 1, "{result}");
    let failure = &result["failure"];
    ensure!(failure["code"] == code && failure["class"] == "permanent", "{failure}");
    ensure!(failure["stage"] == stage, "{failure}");
    let crashes = variant == Variant::CrashLoop;
    let tail = failure["tail"].to_string();
    ensure!(!crashes || tail.contains("nothing to live for"), "{failure}");
    for name in ["TELEGRAM_BOT_TOKEN", "POSTGRES_PASSWORD"] {
        ensure!(!crashes || tail.contains(&format!("{name}=[redacted]")), "its log shows the {name}: {failure}");
    }
    let message = failure["message"].as_str().unwrap_or_default();
    // Both show in the rehearsal, before what runs is touched.
    let words = format!("commit {}, which served before, serves on, and answers", good.sha);
    ensure!(message.ends_with(&words), "{failure}");
    ensure!(result["serving"] == json!({ "commit": good.sha, "proven": true }), "{result}");
    let (status, body) = scene.health()?;
    ensure!(status == 200 && body.contains(&good.sha), "{status}: {body}");
    services_are_told_truly(scene, result, &good.tag())?;
    ensure!(environment::check(scene, good)? == *variables, "the variables are those of before");
    ensure!(scene.server().sh(&format!("git -C {DIRECTORY} rev-parse HEAD"))?.trim() == good.sha, "so is the code");

    let letters = scene.dead_letters()?;
    let [letter] = letters.as_slice() else { anyhow::bail!("one dead letter, not {letters:?}") };
    ensure!(letter["deployment_id"] == failed.as_str() && letter["code"] == code, "{letter}");
    ensure!(letter["stage"] == stage && letter["reason"] == "permanent", "{letter}");
    ensure!(letter["body"]["data"]["repository"]["commit"] == bad.sha.as_str(), "{letter}");
    let secrets = leaks::secrets(scene, &variables["POSTGRES_PASSWORD"])?;
    leaks::on_disk(scene.server(), &secrets, false)?;

    // The next commit is well again, and the database still opens with the first password.
    let repaired = scene.sample.clone().with_file("README.md", "works again\n");
    let repaired = scene.stack.publish(&repaired, Variant::Healthy)?;
    let last = scene.request(&scene.ready(&repaired)?)?;
    let story = scene.story(&last)?;
    ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
    ensure!(scene.health()?.1.contains(&repaired.sha), "{:?}", scene.health()?);
    let kept = environment::check(scene, &repaired)?;
    ensure!(kept["POSTGRES_PASSWORD"] == variables["POSTGRES_PASSWORD"], "the password was drawn anew");
    Ok((bad, repaired))
}

/// The same project with a backend that knows the bot's token, too, and shows its environment to everybody before it
/// begins.
fn talkative(sample: &Sample) -> Result<Sample> {
    let folder = tempfile::tempdir()?;
    sample.write(folder.path())?;
    let base = std::fs::read_to_string(folder.path().join("infra/compose.base.yml"))?;
    let command = "  backend:\n    command: [\"/bin/sh\", \"-c\", \"env | grep -E 'TOKEN|PASSWORD|KEY|URL'; exec /app/backend\"]\n";
    let shown = base.replacen("  backend:\n", command, 1);
    ensure!(shown != base, "the base file has no backend");
    let shown = sample.clone().with_file("infra/compose.base.yml", &shown);
    if sample.generation() == Generation::One {
        return Ok(shown);
    }
    let contract = std::fs::read_to_string(folder.path().join("services/tg_bot/env.contract.yaml"))?;
    let for_both = contract.replace("    consumers: [tg_bot]\n", "    consumers: [backend, tg_bot]\n");
    ensure!(for_both != contract, "the contract has no token for the bot alone");
    Ok(shown.with_file("services/tg_bot/env.contract.yaml", &for_both))
}

/// Compares the services of a failed deployment's result with those of the server, and both with who answers outside.
fn services_are_told_truly(scene: &ProjectScene, result: &Value, previous: &str) -> Result<()> {
    let format = r#"{{index .Config.Labels "com.docker.compose.service"}} {{.Config.Image}}"#;
    let runs = scene.server().sh(&format!(
        "docker ps -aq --filter label=com.docker.compose.project | xargs docker inspect --format '{format}' | sort"
    ))?;
    let told = result["services"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut told: Vec<_> = told.map(|s| (text(&s["service"]), text(&s["image"]), text(&s["state"]))).collect();
    told.sort();
    let lines: String = told.iter().map(|(service, image, _)| format!("{service} {image}\n")).collect();
    ensure!(lines == runs, "told:\n{lines}really:\n{runs}");
    let backend = told.iter().find(|(service, ..)| service == "backend").context("the backend is told")?;
    let previous_runs = backend.1.ends_with(previous) && backend.2 == "running";
    let answers = scene.health().is_ok_and(|(status, _)| status == 200);
    ensure!(previous_runs == answers, "told: {backend:?}, but from outside it answers: {answers}");
    ensure!(result["url"].is_null(), "{result}");
    Ok(())
}

#[test]
fn a_missing_secret_is_named_and_a_replay_deploys_once_it_is_there() -> Result<()> {
    let mut scene = ProjectScene::new(Generation::One, &[])?;
    let commit = scene.stack.publish(&scene.sample, Variant::Healthy)?;
    let mut data = scene.ready(&commit)?;
    data["secrets"] = json!({});
    let refused = scene.submit(&data)?;
    let story = scene.story(&refused)?;
    let result = story.result();
    ensure!(result["outcome"] == "missing_secret", "{result}");
    ensure!(result["missing_secret"] == "TELEGRAM_BOT_TOKEN", "{result}");
    ensure!(result["failure"]["code"] == "missing-secret", "{result}");
    ensure!(result["failure"]["class"] == "user_action" && result["attempts"] == 1, "{result}");
    ensure!(scene.containers()?.is_empty(), "nothing was started");

    // Somebody puts it where the project keeps its secrets.
    let line = format!("TELEGRAM_BOT_TOKEN=\"{BOT_TOKEN}\"\n");
    let file = scene.server().root()?.join(DIRECTORY.trim_start_matches('/')).join(".env");
    std::fs::write(&file, line)?;
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    replay_succeeds(&mut scene, &refused, "missing-secret")?;
    environment::check(&scene, &commit)?;
    ensure!(scene.health()?.0 == 200, "{:?}", scene.health()?);

    // The other way: a secret by a reference that nobody has mounted yet.
    data["secrets"] = json!({ "PAYMENT_KEY": { "reference": "late" } });
    let refused = scene.submit(&data)?;
    let story = scene.story(&refused)?;
    ensure!(story.result()["failure"]["code"] == "unknown-secret-reference", "{}", story.result());
    let owners = scene.stack.world.folder().join("slipway/secrets/owners/acme-org");
    std::fs::create_dir_all(&owners)?;
    std::fs::write(owners.join("late"), "pays-7c1d\n")?;
    replay_succeeds(&mut scene, &refused, "unknown-secret-reference")?;
    let variables = environment::parse(&environment::file(&scene)?)?;
    ensure!(variables["PAYMENT_KEY"] == "pays-7c1d", "{:?}", variables.keys());
    scene.end(0)
}

/// Checks that `deployment` is the one open dead letter, replays it, and that this deploys anew, once.
fn replay_succeeds(scene: &mut ProjectScene, deployment: &str, code: &str) -> Result<()> {
    let letters = scene.dead_letters()?;
    let [letter] = letters.as_slice() else { anyhow::bail!("one dead letter, not {letters:?}") };
    ensure!(letter["deployment_id"] == deployment && letter["code"] == code, "{letter}");
    let id = letter["id"].as_str().context("the dead letter's id")?;
    let said: Value = serde_json::from_str(&scene.stack.slipway(&["--json", "dead-letters", "replay", id])?)?;
    let replayed = said["replayed"][0]["deployment_id"].as_str().context("the new deployment")?.to_owned();
    ensure!(replayed != deployment, "a replay is a deployment of its own");
    let story = scene.story(&replayed)?;
    ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
    story.is_complete()?;
    ensure!(scene.dead_letters()?.is_empty(), "it isn't open any more");
    ensure!(scene.stack.slipway(&["dead-letters", "replay", id]).is_err(), "a second replay is refused");
    Ok(())
}
