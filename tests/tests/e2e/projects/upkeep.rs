//! What a deployment takes from, leaves in and clears out of its surroundings: images, the repository's history, and
//! secrets that somebody has left on the server. One server, several projects, no failure of the project's own.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use slipway_tests::stack::{BOT_TOKEN, Stack};
use slipway_tests::world::{Commit, Generation, Image, Module, Sample, Variant, eventually};

use crate::projects::server::DeployedProject;

/// Where an image tells its commit.
const REVISION: &str = "org.opencontainers.image.revision";

fn project<'a>(stack: &'a Stack, owner: &str, slug: &str, port: u16) -> DeployedProject<'a> {
    let sample = Sample::new(Generation::Two, owner, "Shop").of(&[Module::Backend]);
    DeployedProject { stack, target: 0, slug: slug.to_owned(), sample, port, variables: json!({}) }
}

fn next(project: &DeployedProject<'_>, turn: &str) -> Result<Commit> {
    project.stack.publish(&project.sample.clone().with_file("README.md", turn), Variant::Healthy)
}

#[test]
fn images_are_found_pinned_kept_for_the_way_back_and_then_removed() -> Result<()> {
    let mut stack = Stack::start(1)?;
    stack.worker(&[("SLIPWAY_MAX_ATTEMPTS", "2")])?;
    stack.enlist(0)?;
    std::thread::scope(|scope| {
        let by_branch = scope.spawn(|| the_branchs_image_is_pinned_unless_it_is_of_another_commit(&stack));
        superseded_images_go_and_those_that_anybody_needs_stay(&stack)?;
        by_branch.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// CI that tags after its branch only.
fn the_branchs_image_is_pinned_unless_it_is_of_another_commit(stack: &Stack) -> Result<()> {
    let shop = project(stack, "branch", "by-branch", 8300);
    let (name, ghcr) = (shop.sample.image(Module::Backend), stack.world.ghcr());
    let push = |commit: &Commit, of: &Commit| -> Result<String> {
        ghcr.remove(&name, &commit.tag())?;
        let image = Image::module(Module::Backend, Variant::Healthy, Some(&of.sha)).label(REVISION, &of.sha);
        stack.world.push_image(&name, "main", &image)
    };
    let first = next(&shop, "one")?;
    let digest = push(&first, &first)?;
    let ended = shop.deploy(&first)?;
    ended.serves(&first)?;
    let pinned = format!("ghcr.io/{name}:main@{digest}");
    ensure!(ended.facts("env")["images"]["BACKEND_IMAGE"] == digest.as_str(), "{}", ended.facts("env"));
    let env = |what: &str| shop.server().sh(&format!("grep -c '{what}' {}/.env || :", shop.directory()));
    ensure!(env(&format!("^BACKEND_IMAGE=\"{pinned}\"$"))? == "1\n", "it isn't pinned");
    ensure!(shop.state()?.containers["backend"].contains(&pinned), "{:?}", shop.state()?.containers);

    // The branch's image is still that of the first commit: CI isn't done.
    let second = next(&shop, "two")?;
    push(&second, &first)?;
    let before = shop.state()?;
    let ended = shop.deploy(&second)?;
    ensure!(ended.result()["failure"]["code"] == "image-not-found", "{}", ended.result());
    ensure!(ended.result()["failure"]["message"].to_string().contains(&first.sha), "{}", ended.result());
    ended.serves(&first)?;
    ensure!(shop.state()?.containers == before.containers, "containers were touched");
    ensure!(env(&pinned)? == "1\n", ".env was touched");

    let digest = push_again(stack, &name, &second)?;
    shop.deploy(&second)?.serves(&second)?;
    ensure!(env(&digest)? == "1\n", "the new one isn't pinned");
    Ok(())
}

fn push_again(stack: &Stack, name: &str, commit: &Commit) -> Result<String> {
    let image = Image::module(Module::Backend, Variant::Healthy, Some(&commit.sha)).label(REVISION, &commit.sha);
    stack.world.push_image(name, "main", &image)
}

/// Two projects of one repository, and one of another whose images begin alike.
fn superseded_images_go_and_those_that_anybody_needs_stay(stack: &Stack) -> Result<()> {
    let (shop, twin) = (project(stack, "acme", "shop", 8310), project(stack, "acme", "twin", 8320));
    let server = shop.server();
    let first = next(&shop, "one")?;
    let stray = "ghcr.io/acme/shopping-backend:sha-0000000";
    shop.deploy(&first)?.serves(&first)?;
    twin.deploy(&first)?.serves(&first)?;
    let name = format!("ghcr.io/{}", shop.sample.image(Module::Backend));
    let image = |commit: &Commit| format!("{name}:{}", commit.tag());
    // One that a failed deployment has left, and one of somebody else's.
    for tag in [format!("{name}:sha-9999999").as_str(), stray] {
        server.sh(&format!("docker tag {} {tag}", image(&first)))?;
    }
    // No container of the twin's keeps its image, only its `.env`.
    server.sh("docker compose -p twin rm --stop --force backend")?;
    // As somebody clones by hand.
    let git = format!("git -C {}", shop.directory());
    server.sh(&format!("{git} remote add origin https://x-access-token:ghs_7c1d@github.com/acme/Shop.git"))?;

    let mut commits = vec![first];
    for turn in ["two", "three"] {
        let commit = next(&shop, turn)?;
        let ended = shop.deploy(&commit)?;
        ended.serves(&commit)?;
        commits.push(commit);
    }
    let origin = server.sh(&format!("{git} config remote.origin.url; ! grep -r ghs_7c1d {}/.git", shop.directory()))?;
    ensure!(origin.ends_with("//github.com/acme/Shop.git\n"), "the token in a clone's URL stays: {origin}");
    let left = server.sh(&format!("docker image ls --format '{{{{.Repository}}}}:{{{{.Tag}}}}' '{name}'"))?;
    let left: BTreeSet<String> = left.lines().map(str::to_owned).collect();
    // The twin's, the one before, the one that runs.
    ensure!(left == commits.iter().map(image).collect(), "{left:?}");
    server.sh(&format!("docker image inspect {stray} redis:7-alpine postgres:16 >/dev/null"))?;
    the_way_back_outlives_a_history_that_is_rewritten(&shop, &commits[2])
}

/// The commit that serves is on no branch any more when the next one fails.
fn the_way_back_outlives_a_history_that_is_rewritten(shop: &DeployedProject<'_>, serving: &Commit) -> Result<()> {
    let stack = shop.stack;
    shop.server().sh(&format!("echo mine >{}/notes.txt", shop.directory()))?;
    let forced = shop.sample.clone().with_file("README.md", "rewritten");
    let bad = stack.world.git().publish_by_force(&forced)?;
    let image = Image::module(Module::Backend, Variant::CrashLoop, Some(&bad.sha));
    stack.world.push_image(&shop.sample.image(Module::Backend), &bad.tag(), &image)?;
    let ended = std::thread::scope(|scope| {
        let collected = scope.spawn(|| collect_what_no_branch_knows(shop, &bad));
        let ended = shop.deploy(&bad);
        collected.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        ended
    })?;
    ensure!(ended.result()["failure"]["code"] == "crash-loop", "{}", ended.result());
    ended.serves(serving)?;
    let head = shop.server().sh(&format!("cd {} && git rev-parse HEAD && cat notes.txt", shop.directory()))?;
    ensure!(head == format!("{}\nmine\n", serving.sha), "{head}");

    // A wanted commit that no branch knows any more, either.
    let wanted = stack.world.git().publish_by_force(&shop.sample.clone().with_file("README.md", "wanted"))?;
    let image = Image::module(Module::Backend, Variant::Healthy, Some(&wanted.sha));
    stack.world.push_image(&shop.sample.image(Module::Backend), &wanted.tag(), &image)?;
    stack.world.git().publish_by_force(&shop.sample.clone().with_file("README.md", "forgotten"))?;
    shop.deploy(&wanted)?.serves(&wanted)
}

/// Does as soon as `commit` is checked out what git does by itself after some weeks.
fn collect_what_no_branch_knows(shop: &DeployedProject<'_>, commit: &Commit) -> Result<()> {
    let run = |git: &str| shop.server().sh(&format!("cd {} && git {git}", shop.directory()));
    eventually("the commit is checked out", Duration::from_secs(60), || {
        ensure!(run("rev-parse HEAD")?.trim() == commit.sha, "another one is");
        Ok(())
    })?;
    run("reflog expire --expire=now --all")?;
    run("gc --quiet --prune=now")?;
    Ok(())
}

#[test]
fn secrets_that_somebody_left_on_the_server_are_told_by_place_and_never_by_value() -> Result<()> {
    let mut stack = Stack::start(1)?;
    stack.worker(&[])?;
    stack.enlist(0)?;
    let mut shop = project(&stack, "acme", "shop", 8330);
    shop.sample = shop.sample.of(&[Module::Backend, Module::TgBot]);
    let (server, commit) = (shop.server(), next(&shop, "one")?);
    let first = shop.deploy(&commit)?;
    first.serves(&commit)?;
    ensure!(first.facts("secrets")["leaks"] == json!([]), "{}", first.facts("secrets"));
    ensure!(first.facts("secrets")["leaks_sought_everywhere"] == true, "{}", first.facts("secrets"));

    let login = stack.world.registry_credential();
    let auth = STANDARD.encode(format!("{}:{}", login.username, login.password));
    let directory = shop.directory();
    server.sh(&format!(
        "cd {directory}; mkdir -p 'data dir'; echo 'bot={BOT_TOKEN}' >'data dir/notes'
         git config remote.origin.url https://x:{BOT_TOKEN}@github.com/acme/shop
         mkdir -p /root/.docker; echo '{{\"auths\":{{\"ghcr.io\":{{\"auth\":\"{auth}\"}}}}}}' >/root/.docker/config.json
         cp -p .env infra/.env.backup
         LEAKED={BOT_TOKEN} setsid sleep 1000 >/dev/null 2>&1 </dev/null &
         setsid sh -c 'sleep 1000; : {BOT_TOKEN}' >/dev/null 2>&1 </dev/null &"
    ))?;
    let again = shop.deploy(&commit)?;
    ensure!(
        again.result()["outcome"] == "succeeded" || again.result()["outcome"] == "already_deployed",
        "a finding fails nothing"
    );
    let leaks: BTreeSet<String> = serde_json::from_value(again.facts("secrets")["leaks"].clone())?;
    for place in ["data dir/notes", ".git/config", "infra/.env.backup"] {
        ensure!(leaks.contains(&format!("{directory}/{place}")), "{place}: {leaks:?}");
    }
    ensure!(leaks.contains("/root/.docker/config.json"), "{leaks:?}");
    let of = |file: &str| leaks.iter().any(|l| l.starts_with(&format!("the {file} of process ")));
    ensure!(of("environ") && of("cmdline"), "{leaks:?}");
    ensure!(!leaks.contains(&format!("{directory}/.env")), "{leaks:?}");

    let warned = again.0["events"].to_string();
    ensure!(warned.contains("warning: secret-leaked: a known secret stands in"), "{warned}");
    let log = std::fs::read_to_string(stack.world.folder().join("worker-0.log")).context("the log")?;
    for (what, text) in [("events", again.0.to_string()), ("log", log)] {
        for secret in [BOT_TOKEN, auth.as_str(), login.password.as_str()] {
            ensure!(!text.contains(secret), "the {what} hold it");
        }
    }
    Ok(())
}
