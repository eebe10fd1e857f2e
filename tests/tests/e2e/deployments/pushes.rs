//! Pushes without a key in the repository: GitHub tells of them, and the worker deploys what GitHub says then. What is
//! sent again, late, forged or lost changes nothing about that.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use slipway_tests::github::{SentWebhook, sign};
use slipway_tests::stack::WEBHOOK_SECRET;
use slipway_tests::workflow::{WorkflowRun, WorkflowRunner};
use slipway_tests::world::{Commit, Generation, Variant, eventually};

use crate::deployments::events::Story;
use crate::deployments::scene::{DIRECTORY, ProjectScene, SLUG};

const DOOR: &str = "127.0.0.1:8088";
const PATIENCE: Duration = Duration::from_secs(60);
/// Branches aren't looked at by themselves while this test runs, but after a start.
const ENVIRONMENT: [(&str, &str); 2] = [("SLIPWAY_WEBHOOK_ADDR", DOOR), ("SLIPWAY_PUSH_INTERVAL", "1h")];

struct PushScene {
    scene: ProjectScene,
    repository: String,
    /// Deployments that were seen so far.
    known: Vec<String>,
}

impl PushScene {
    fn new() -> Result<Self> {
        let scene = ProjectScene::new(Generation::One, &ENVIRONMENT)?;
        scene.stack.github.set_webhook(&format!("http://{DOOR}/github"), WEBHOOK_SECRET);
        let repository = scene.repository();
        Ok(Self { scene, repository, known: Vec::new() })
    }

    /// Commits and pushes, and makes its images.
    fn push(&self, text: &str) -> Result<Commit> {
        let next = self.scene.sample.clone().with_file("README.md", text);
        self.scene.stack.publish(&next, Variant::Healthy)
    }

    /// The request to deploy `commit`, with pushes deployed in this way from then on.
    fn request(&mut self, commit: &Commit, by: &str) -> Result<()> {
        let mut data = self.scene.ready(commit)?;
        data["repository"]["pushes_deployed_by"] = by.into();
        let id = self.scene.request(&data)?;
        self.known.push(id.clone());
        let story = self.scene.story(&id)?;
        ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
        Ok(())
    }

    fn tell_push(&self, commit: &Commit) -> Result<SentWebhook> {
        let sent = self.scene.stack.github.tell_push(&self.repository, &commit.branch, &commit.sha);
        ensure!(sent.status == 202, "{sent:?}");
        Ok(sent)
    }

    fn begin_run(&self, commit: &Commit) -> u64 {
        self.scene.stack.github.begin_run(&self.repository, "CI", &commit.branch, &commit.sha)
    }

    fn end_run(&self, run: u64, conclusion: &str) -> SentWebhook {
        self.scene.stack.github.end_run(&self.repository, run, conclusion)
    }

    fn branch(&self) -> Result<Value> {
        let listed: Value = serde_json::from_str(&self.scene.stack.slipway(&["--json", "pushes"])?)?;
        Ok(listed[0].clone())
    }

    /// Waits until the branch was looked at and this holds for it.
    fn branch_until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
        eventually(what, PATIENCE, || {
            let branch = self.branch()?;
            ensure!(holds(&branch), "{branch}");
            Ok(())
        })
    }

    /// Does something that leads to a look, and waits for its end.
    fn looked(&self, act: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let before = self.branch()?["looked_at"].clone();
        act(self)?;
        self.branch_until("a look at the branch", |branch| branch["looked_at"] != before)
    }

    fn deployments(&self) -> Result<Vec<String>> {
        let listed: Value = serde_json::from_str(&self.scene.stack.slipway(&["--json", "deployments", "list"])?)?;
        let ids = listed.as_array().context("a list")?.iter().filter_map(|d| d["deployment_id"].as_str());
        Ok(ids.map(str::to_owned).collect())
    }

    /// The deployments that nobody here has asked for or waited for.
    fn new_deployments(&self) -> Result<Vec<String>> {
        Ok(self.deployments()?.into_iter().filter(|id| !self.known.contains(id)).collect())
    }

    fn nothing_new(&self) -> Result<()> {
        let new = self.new_deployments()?;
        ensure!(new.is_empty(), "deployed though nothing was pushed: {new:?}");
        Ok(())
    }

    /// Waits for the one deployment that is new, and for its result.
    fn deployed(&mut self, commit: &Commit) -> Result<Story> {
        eventually("a deployment of the push", PATIENCE, || {
            let new = self.new_deployments()?;
            ensure!(new.len() == 1, "{new:?}, and the branch: {}", self.branch()?);
            Ok(())
        })?;
        let id = self.new_deployments()?.remove(0);
        self.known.push(id.clone());
        let story = self.scene.listener.story(&id)?;
        story.check(&Value::Null)?;
        story.is_complete()?;
        let result = story.result();
        ensure!(result["outcome"] == "succeeded" && result["commit"] == commit.sha, "{result}");
        self.answers(commit)?;
        Ok(story)
    }

    fn answers(&self, commit: &Commit) -> Result<()> {
        let (status, body) = self.scene.health()?;
        ensure!(status == 200 && body.contains(&commit.sha), "{status}: {body}");
        Ok(())
    }

    /// What CI could deploy with: on the server and at GitHub.
    fn ci_access(&self) -> Result<(bool, Vec<String>)> {
        let key = format!("grep -c slipway:{SLUG} /root/.ssh/authorized_keys || :");
        let command = format!("{key}; ls {DIRECTORY}/.slipway/ci-deploy 2>/dev/null || :");
        let on_server = self.scene.server().sh(&command)?.trim() != "0";
        let secrets = self.scene.stack.github.secrets(&self.repository);
        Ok((on_server, secrets.into_keys().collect()))
    }
}

#[test]
fn pushes_deploy_themselves_without_a_key_however_webhooks_come() -> Result<()> {
    let mut scene = PushScene::new()?;
    let first = scene.scene.stack.publish(&scene.scene.sample, Variant::Healthy)?;
    scene.request(&first, "webhook")?;
    scene.answers(&first)?;
    ensure!(scene.ci_access()? == (false, Vec::new()), "CI could deploy: {:?}", scene.ci_access()?);
    scene.branch_until("the first look", |branch| branch["considered"] == first.sha && branch["head"] == first.sha)?;

    // A push waits for its run, and is deployed when that has succeeded.
    let second = scene.push("two\n")?;
    let run = scene.begin_run(&second);
    let pushed = scene.tell_push(&second)?;
    scene.branch_until("a push that waits", |branch| branch["waits_for"] == "1 workflow runs")?;
    scene.nothing_new()?;
    ensure!(scene.end_run(run, "success").status == 202);
    scene.deployed(&second)?;

    what_is_sent_again_late_or_forged_changes_nothing(&scene, &first, &pushed)?;
    let third = lost_webhooks_are_made_up_for(&mut scene)?;
    a_rollback_stays_until_the_next_push(&mut scene, &second, &third)?;
    after_cis_own_job_no_container_is_changed(&mut scene, &third)?;

    // Back to webhooks alone: what CI had is gone.
    ensure!(scene.ci_access()?.0 && !scene.ci_access()?.1.is_empty(), "CI has nothing to deploy with");
    let last = scene.push("last\n")?;
    scene.request(&last, "webhook")?;
    ensure!(scene.ci_access()? == (false, Vec::new()), "CI could deploy: {:?}", scene.ci_access()?);
    scene.scene.end(1)
}

fn what_is_sent_again_late_or_forged_changes_nothing(
    scene: &PushScene,
    first: &Commit,
    pushed: &SentWebhook,
) -> Result<()> {
    let github = &scene.scene.stack.github;
    let again = [pushed.clone(), SentWebhook { guid: uuid::Uuid::new_v4().to_string(), ..pushed.clone() }];
    for webhook in again {
        ensure!(github.deliver(webhook).status == 202);
    }
    let forged = SentWebhook { signature: sign("another secret", &pushed.body), ..pushed.clone() };
    ensure!(github.deliver(forged).status == 401, "a forged webhook was taken");
    let changed = SentWebhook { body: pushed.body.replace("main", "mail"), ..pushed.clone() };
    ensure!(github.deliver(changed).status == 401, "a changed webhook was taken");
    // One of a push from before, in good order otherwise: the branch is looked at, and nothing new is there.
    scene.looked(|scene| scene.tell_push(first).map(drop))?;
    scene.nothing_new()?;
    Ok(())
}

/// A failed run holds the push back until it succeeds, though nobody lives to hear of that.
fn lost_webhooks_are_made_up_for(scene: &mut PushScene) -> Result<Commit> {
    let third = scene.push("three\n")?;
    let run = scene.begin_run(&third);
    ensure!(scene.end_run(run, "failure").status == 202);
    let failed = "a workflow run that succeeds: CI ended with failure";
    scene.branch_until("a push whose run has failed", |branch| branch["waits_for"] == failed)?;
    scene.nothing_new()?;

    ensure!(scene.scene.stack.running(0).drain()? == Some(0));
    ensure!(scene.end_run(run, "success").status == 0, "nobody lives to take it");
    scene.scene.stack.worker(&ENVIRONMENT)?;
    scene.deployed(&third)?;
    Ok(third)
}

fn a_rollback_stays_until_the_next_push(scene: &mut PushScene, second: &Commit, third: &Commit) -> Result<()> {
    let said = scene.scene.stack.slipway(&["--json", "rollback", SLUG])?;
    let id = serde_json::from_str::<Value>(&said)?["deployment_id"].as_str().context("the id")?.to_owned();
    scene.known.push(id.clone());
    let result = scene.scene.listener.story(&id)?.result().clone();
    ensure!(result["outcome"] == "succeeded" && result["commit"] == second.sha, "{result}");
    scene.looked(|scene| scene.tell_push(third).map(drop))?;
    scene.nothing_new()?;
    scene.answers(second)?;
    ensure!(scene.ci_access()? == (false, Vec::new()), "CI could deploy: {:?}", scene.ci_access()?);
    Ok(())
}

/// The run of a push holds CI's deploy job, so that its images serve already when the run has succeeded.
fn after_cis_own_job_no_container_is_changed(scene: &mut PushScene, third: &Commit) -> Result<()> {
    scene.request(third, "both")?;
    let sample = scene.scene.sample.clone().with_file("README.md", "four\n");
    let world = &scene.scene.stack.world;
    let fourth = world.git().publish(&sample)?;
    let run = scene.begin_run(&fourth);
    let [registry, user, password] = ["ghcr.io", "acme-ci", "may-push-3d1a"];
    let mut secrets = scene.scene.stack.github.secrets(&scene.repository);
    for (name, value) in [("REGISTRY_URL", registry), ("REGISTRY_USER", user), ("REGISTRY_PASSWORD", password)] {
        secrets.insert(name.to_owned(), value.to_owned());
    }
    let runs = WorkflowRunner::new(world, secrets).who_may_push(registry, user, password).push(&sample, &fourth)?;
    ensure!(runs.iter().all(WorkflowRun::passed), "{}", runs.iter().map(WorkflowRun::log).collect::<String>());
    scene.answers(&fourth)?;
    let before = scene.scene.containers()?;
    ensure!(scene.end_run(run, "success").status == 202);
    let story = scene.deployed(&fourth)?;
    let after = scene.scene.containers()?;
    ensure!(after == before, "a container was replaced that served the push already: {before:?}, {after:?}");
    let compose = story.stages().into_iter().find(|(stage, ..)| stage == "compose").context("stage compose")?;
    ensure!(compose.1 == "unchanged", "{compose:?}: {}", json!(story.result()));
    Ok(())
}
