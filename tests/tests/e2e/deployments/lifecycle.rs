//! What is done to a project after it's deployed: cancelled, stopped over a reboot, started, rolled back, undeployed
//! without and with its data. One server, one project, from the command line and from events.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use slipway_protocol::{CONTENT_TYPE, CloudEvent, DeploymentId, EventType, topology};
use slipway_tests::world::{Commit, Generation, Image, Module, Variant, eventually};
use slipway_worker::message::Outgoing;

use crate::deployments::environment;
use crate::deployments::events::{Story, publish};
use crate::deployments::scene::{DIRECTORY, ProjectScene, SLUG};

/// Runs a command of the command line about the project, and waits for its result.
fn command(scene: &mut ProjectScene, arguments: &[&str]) -> Result<Story> {
    let (action, rest) = arguments.split_first().context("an action")?;
    let said = scene.stack.slipway(&[&["--json", action, SLUG, "--why", "a test"], rest].concat())?;
    let said: Value = serde_json::from_str(&said)?;
    let id = said["deployment_id"].as_str().context("the id")?.to_owned();
    let story = scene.listener.story(&id)?;
    story.check(&Value::Null)?;
    let result = story.result();
    ensure!(result["action"] == *action, "{result}");
    let shown = scene.shown(&id)?;
    ensure!(shown["reason"] == "a test" && shown["action"] == *action, "{shown}");
    Ok(story)
}

/// As [`command`], with something to do and success.
fn changes(scene: &mut ProjectScene, arguments: &[&str]) -> Result<Story> {
    let story = command(scene, arguments)?;
    ensure!(story.result()["outcome"] == "succeeded", "{arguments:?}: {}", story.result());
    Ok(story)
}

/// Publishes a request of any type, as an orchestrator does.
fn send(scene: &ProjectScene, event_type: EventType, data: &Value) -> Result<String> {
    let id = uuid::Uuid::new_v4().to_string();
    let event = CloudEvent::new(event_type, "/orchestrator", &id, data);
    let message = Outgoing {
        exchange: topology::REQUESTS.to_owned(),
        routing_key: event_type.to_string(),
        message_id: id.clone(),
        event_type: event_type.to_string(),
        content_type: Some(CONTENT_TYPE.to_owned()),
        headers: BTreeMap::new(),
        body: serde_json::to_vec(&CloudEvent { time: Some(jiff::Timestamp::now()), ..event })?,
        correlation_id: None,
    };
    publish(&scene.stack.world, &message)?;
    Ok(DeploymentId::of("/orchestrator", &id, None).to_string())
}

fn deploy(scene: &mut ProjectScene, data: &Value) -> Result<String> {
    let id = scene.request(data)?;
    let story = scene.story(&id)?;
    ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
    Ok(id)
}

/// Checks which commit answers.
fn answers(scene: &ProjectScene, sha: &str) -> Result<()> {
    let (status, body) = scene.health()?;
    ensure!(status == 200 && body.contains(sha), "{status}: {body}; {sha} should answer");
    Ok(())
}

/// What the server has of the project besides its directory, by kind.
fn traces(scene: &ProjectScene) -> Result<BTreeMap<&'static str, String>> {
    let of_project = format!("--filter label=com.docker.compose.project={SLUG}");
    let looks = [
        ("containers", format!("docker ps -aq {of_project}")),
        ("networks", format!("docker network ls -q {of_project}")),
        ("volumes", "docker volume ls -q".to_owned()),
        ("images", "docker image ls -a --format '{{.Repository}}' | grep acme-org/ || :".to_owned()),
        ("rule", format!("ufw show added | grep slipway:{SLUG} || :")),
        ("key", format!("grep slipway:{SLUG} /root/.ssh/authorized_keys || :")),
        ("directory", format!("ls -d {DIRECTORY} 2>/dev/null || :")),
        ("credential", "ls -A /dev/shm".to_owned()),
    ];
    let told = looks.into_iter().map(|(kind, look)| Ok((kind, scene.server().sh(&look)?.trim().to_owned())));
    let mut found = told.collect::<Result<BTreeMap<_, _>>>()?;
    let secrets: Vec<_> = scene.stack.github.secrets(&scene.repository()).into_keys().collect();
    found.insert("secrets at GitHub", secrets.join(" "));
    found.retain(|_, trace| !trace.is_empty());
    Ok(found)
}

/// When the project's database was set up, told by a login with the project's own password.
fn founded(scene: &ProjectScene) -> Result<String> {
    let query = "PATH=/usr/lib/postgresql/15/bin:$PATH PGPASSWORD=$POSTGRES_PASSWORD psql -h 127.0.0.1 -U postgres -d service -Atc 'select applied_at from migrations'";
    scene.server().sh(&format!("docker exec {SLUG}-db-1 sh -c \"{}\"", query.replace('$', "\\$")))
}

#[test]
fn a_project_is_cancelled_stopped_started_rolled_back_undeployed_and_comes_back() -> Result<()> {
    let mut scene = ProjectScene::new(Generation::One, &[])?;
    let first = scene.stack.publish(&scene.sample, Variant::Healthy)?;
    let second = scene.stack.publish(&scene.sample.clone().with_file("README.md", "second\n"), Variant::Healthy)?;
    let mut data = scene.ready(&first)?;
    data["variables"]["LIMIT"] = "1".into();

    // Cancelled while it runs, by an event that names the request.
    let running = scene.request(&data)?;
    scene.listener.until(&running, |e| e["data"]["kind"] == "stage_started" && e["data"]["stage"] == "clone")?;
    send(&scene, EventType::DeploymentCancel, &json!({ "deployment_id": running, "reason": "too early" }))?;
    let story = scene.story(&running)?;
    ensure!(story.result()["outcome"] == "cancelled", "{}", story.result());
    ensure!(scene.shown(&running)?["cancellations"][0]["reason"] == "too early");

    deploy(&mut scene, &data)?;
    scene.server().sh(&format!("echo 'BY_HAND=\"kept\"' >>{DIRECTORY}/.env"))?;
    let then = environment::parse(&environment::file(&scene)?)?;
    let mut next = scene.ready(&second)?;
    next["variables"]["LIMIT"] = "2".into();
    next["variables"]["BROKEN"] = "yes".into();
    let made = deploy(&mut scene, &next)?;
    answers(&scene, &second.sha)?;
    let password = environment::parse(&environment::file(&scene)?)?["POSTGRES_PASSWORD"].clone();
    let since = founded(&scene)?;

    // Stopped, over a reboot; twice is once; started.
    let story = changes(&mut scene, &["stop"])?;
    ensure!(story.stages().len() == 1 && story.result()["services"][0]["state"] == "exited", "{}", story.result());
    ensure!(scene.health().is_err(), "somebody listens though it's stopped");
    scene.server().reboot()?;
    eventually("docker is up", Duration::from_secs(60), || scene.server().sh("docker info").map(drop))?;
    ensure!(
        scene.server().sh("docker ps -q --filter label=com.docker.compose.project")?.is_empty(),
        "a reboot started what was stopped"
    );
    let again = command(&mut scene, &["stop"])?;
    ensure!(again.result()["outcome"] == "succeeded", "{}", again.result());
    let story = changes(&mut scene, &["start"])?;
    ensure!(story.result()["url"].as_str().is_some_and(|url| url.ends_with(":8080")), "{}", story.result());
    answers(&scene, &second.sha)?;

    // Back, though the commit's tag means another image by now, and to a version by its name.
    move_tag(&scene, &first, &backend(&first, Variant::CrashLoop))?;
    let story = changes(&mut scene, &["rollback"])?;
    story.is_complete()?;
    ensure!(story.result()["commit"] == first.sha.as_str(), "{}", story.result());
    answers(&scene, &first.sha)?;
    is_as_then(&scene, &then)?;
    move_tag(&scene, &first, &backend(&first, Variant::Healthy))?;
    let gone = move_tag(&scene, &second, &backend(&second, Variant::Healthy))?;
    scene.stack.world.ghcr().remove_manifest(&scene.sample.image(Module::Backend), &gone)?;
    let story = changes(&mut scene, &["rollback", "--to", &made[..8]])?;
    let warning = format!("warning: {gone}, which ran as BACKEND_IMAGE in the version rolled back to, is gone");
    ensure!(json!(story.0).to_string().contains(&warning), "nobody is told that another image runs");
    answers(&scene, &second.sha)?;
    ensure!(environment::parse(&environment::file(&scene)?)?["BROKEN"] == "yes");
    let versions: Value = serde_json::from_str(&scene.stack.slipway(&["--json", "projects", "versions", SLUG])?)?;
    ensure!(versions.as_array().is_some_and(|versions| versions.len() == 4), "{versions}");

    the_key_is_made_anew(&mut scene)?;
    undeployed_and_back(&mut scene, &data, &password, &since)?;
    answers(&scene, &first.sha)?;

    // With its data this time.
    changes(&mut scene, &["undeploy", "--remove-volumes", "--yes"])?;
    ensure!(traces(&scene)?.is_empty(), "{:?}", traces(&scene)?);
    let left = |scene: &ProjectScene| scene.server().sh("cd /opt/services; find . -type f");
    let fence = format!("./.slipway-kept/{SLUG}/fence\n");
    ensure!(left(&scene)? == fence, "more than the last claim's number is left below /opt/services");
    let nothing = command(&mut scene, &["undeploy", "--remove-volumes", "--yes"])?;
    ensure!(nothing.result()["outcome"] == "succeeded", "{}", nothing.result());
    ensure!(left(&scene)? == fence, "looking for nothing left something");

    // What can't be meant is refused, in words for an orchestrator and for a person.
    let stop = send(&scene, EventType::ProjectStop, &json!({ "project": data["project"], "correlation": { "n": 1 } }))?;
    let story = scene.listener.story(&stop)?;
    story.check(&json!({ "n": 1 }))?;
    ensure!(story.result()["failure"]["code"] == "not-deployed", "{}", story.result());
    let refused = scene.stack.slipway(&["stop", "nowhere"]).err().context("it must be refused")?.to_string();
    ensure!(refused.contains("no deployment of nowhere is known"), "{refused}");
    scene.end(0)
}

fn backend(commit: &Commit, variant: Variant) -> Image {
    Image::module(Module::Backend, variant, Some(&commit.sha))
}

/// Gives the tag of `commit` to another image of the backend, which the server has to pull; gives the digest of
/// the one that the server had.
fn move_tag(scene: &ProjectScene, commit: &Commit, image: &Image) -> Result<String> {
    let repository = scene.sample.image(Module::Backend);
    let name = format!("ghcr.io/{repository}:{}", commit.tag());
    let had =
        scene.server().sh(&format!("docker image inspect --format '{{{{index .RepoDigests 0}}}}' {name} || :"))?;
    scene.server().sh(&format!("docker image rm {name} || :"))?;
    scene.stack.world.push_image(&repository, &commit.tag(), image)?;
    Ok(had.trim().rsplit('@').next().unwrap_or_default().to_owned())
}

/// The first version's variables are there again, everywhere, and so is what no request gave.
fn is_as_then(scene: &ProjectScene, then: &BTreeMap<String, String>) -> Result<()> {
    let now = environment::parse(&environment::file(scene)?)?;
    for name in ["LIMIT", "BROKEN", "BY_HAND", "APP_SECRET_KEY", "POSTGRES_PASSWORD", "TELEGRAM_BOT_TOKEN"] {
        ensure!(now.get(name) == then.get(name), "{name} is another one than in the version rolled back to");
    }
    let runs = scene.server().sh(&format!("docker inspect --format '{{{{.Config.Env}}}}' {SLUG}-backend-1"))?;
    let for_ci = STANDARD.decode(&scene.stack.github.secrets(&scene.repository())["DOTENV"])?;
    for (place, text) in [("backend", runs), ("CI's DOTENV", String::from_utf8(for_ci)?)] {
        ensure!(text.contains("BY_HAND") && !text.contains("BROKEN"), "{place} has another version's variables");
    }
    Ok(())
}

/// CI gets into the server with another key, and only the one that GitHub holds.
fn the_key_is_made_anew(scene: &mut ProjectScene) -> Result<()> {
    let accepted = |scene: &ProjectScene| scene.server().sh(&format!("grep slipway:{SLUG} /root/.ssh/authorized_keys"));
    let old = accepted(scene)?;
    let said: Value = serde_json::from_str(&scene.stack.slipway(&["--json", "projects", "rotate-key", SLUG])?)?;
    let story = scene.listener.story(said["deployment_id"].as_str().context("the id")?)?;
    ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
    let new = accepted(scene)?;
    ensure!(new != old && new.lines().count() == 1, "before: {old}\nafter: {new}");
    let file = scene.stack.world.folder().join("deploy-key");
    std::fs::write(&file, &scene.stack.github.secrets(&scene.repository())["DEPLOY_SSH_KEY"])?;
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let public = std::process::Command::new("ssh-keygen").arg("-y").arg("-f").arg(&file).output()?;
    let public = String::from_utf8(public.stdout)?;
    let key = public.split_whitespace().nth(1).context("GitHub's key")?;
    ensure!(new.contains(key), "GitHub's key {key} isn't the one that is accepted: {new}");
    Ok(())
}

/// Taken off the server without its data, with an eye on somebody else's; then deployed anew.
fn undeployed_and_back(scene: &mut ProjectScene, data: &Value, password: &str, since: &str) -> Result<()> {
    let others = "docker volume create others >&2; ufw allow 9999/tcp comment 'not ours' >&2; docker ps -q | wc -l";
    scene.server().sh(others)?;
    let unconfirmed = scene.stack.slipway(&["undeploy", SLUG]).err().context("it must be confirmed")?.to_string();
    ensure!(unconfirmed.contains("give --yes"), "{unconfirmed}");
    let before = traces(scene)?;
    for kind in ["containers", "networks", "volumes", "images", "rule", "key", "directory", "secrets at GitHub"] {
        ensure!(before.contains_key(kind), "there are no {kind} to begin with: {before:?}");
    }
    let story = changes(scene, &["undeploy", "--yes"])?;
    let stages: Vec<_> = story.stages().into_iter().map(|(stage, change, _)| format!("{stage} {change}")).collect();
    ensure!(stages == ["secrets changed", "firewall changed", "compose changed", "clone changed"], "{stages:?}");
    let after = traces(scene)?;
    ensure!(after.keys().copied().collect::<Vec<_>>() == ["volumes"], "{after:?}");
    ensure!(after["volumes"].lines().any(|v| v.ends_with("_db_data")), "the database is gone: {after:?}");
    ensure!(scene.server().sh("ufw show added")?.contains("not ours"), "somebody else's rule is gone");
    let kept = scene.server().sh(&format!("cat /opt/services/.slipway-kept/{SLUG}/env"))?;
    ensure!(kept.contains(password) && !kept.contains("TELEGRAM"), "only what the data need is kept");
    ensure!(scene.server().sh(&format!("stat -c %a /opt/services/.slipway-kept/{SLUG}/env"))?.trim() == "600");

    deploy(scene, data)?;
    let variables = environment::parse(&environment::file(scene)?)?;
    ensure!(variables["POSTGRES_PASSWORD"] == password, "the password was drawn anew");
    ensure!(founded(scene)? == since, "the database was set up anew");
    ensure!(traces(scene)?.contains_key("secrets at GitHub"), "CI can't deploy any more");
    ensure!(scene.server().sh("docker volume rm others").is_ok(), "somebody else's volume is gone");
    Ok(())
}
