//! The life of a project, step by step, from one table: both generations of the template, all sets of modules. After a
//! commit that can't be deployed the server has what it had before, and the version before answers.

mod table;

use std::thread;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use slipway_tests::stack::Stack;
use slipway_tests::world::Module::{Backend, TgBot};
use slipway_tests::world::{Commit, Generation, Sample, Variant};

use self::table::{Row, Step, Why, covering, product};
use crate::projects::server::{DeployedProject, EndedDeployment, Poll, ProjectOnServer, one_bot_at_a_time, watch_bots};

#[test]
fn every_kind_of_project_lives_through_good_and_bad_commits() -> Result<()> {
    live(&covering(), 3)
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_every_kind_of_project_lives_through_everything() -> Result<()> {
    live(&product(), 3)
}

/// All rows on one server, `at_once` deployments at a time.
fn live(rows: &[Row], at_once: usize) -> Result<()> {
    let mut stack = Stack::start(1)?;
    stack.worker(&[("SLIPWAY_CONCURRENCY", &at_once.to_string()), ("SLIPWAY_MAX_ATTEMPTS", "2")])?;
    stack.enlist(0)?;
    let stack = &stack;
    let failed: Vec<String> = thread::scope(|scope| {
        let lives: Vec<_> = (0u16..)
            .zip(rows)
            .map(|(number, row)| {
                let name = format!("{:?} {:?}", row.generation, row.modules);
                (name, scope.spawn(move || life(stack, number, row)))
            })
            .collect();
        let ends = lives.into_iter().filter_map(|(name, life)| {
            let end = life.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Some(format!("{name}: {:#}", end.err()?))
        });
        ends.collect()
    });
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    // One file for all of them, which several deployments have changed at once.
    let keys = stack.world.target(0).sh("grep -c ' slipway:shop-' /root/.ssh/authorized_keys")?;
    ensure!(keys.trim() == rows.len().to_string(), "{keys} keys of {} projects", rows.len());
    Ok(())
}

fn life(stack: &Stack, number: u16, row: &Row) -> Result<()> {
    let mut sample = Sample::new(row.generation, &format!("Owner-{number}"), "Some.Shop").of(row.modules);
    if row.modules.len() == 4 {
        sample = sample.with_one_shot();
    }
    let (slug, port) = (format!("shop-{number}"), 8100 + 10 * number);
    let mut project = DeployedProject {
        stack,
        target: 0,
        slug,
        sample,
        port,
        variables: json!({ "GREETING": "it's $5 \"now\" \\" }),
    };
    let bot = row.modules.contains(&TgBot);
    let mut commit = stack.publish(&project.sample, Variant::Healthy)?;
    let first = project.deploy(&commit).context("first")?;
    ensure!(first.result()["outcome"] == "succeeded", "first: {}", first.result());
    first.serves(&commit)?;
    all_run(&project, &first)?;
    if bot {
        watch_bots(&project)?;
    }
    for (turn, step) in row.steps.iter().enumerate() {
        let before = project.state()?;
        commit = match step {
            Step::Same => same(&project, commit, &before),
            Step::Environment => environment(&mut project, commit, &before, turn),
            Step::Commit => next(&project, &before, turn),
            Step::Fails(why) => fails(&project, commit, &before, *why, turn),
        }
        .with_context(|| format!("{step:?}, step {turn}"))?;
    }
    if bot {
        one_bot_at_a_time(&project)?;
    }
    // Its health checks would take from those that still live.
    project
        .server()
        .sh(&format!("docker kill $(docker ps -q --filter label=com.docker.compose.project={})", project.slug))?;
    Ok(())
}

/// Checks that the result tells every service, and that each of them runs; the one-shot has exited with 0.
fn all_run(project: &DeployedProject<'_>, ended: &EndedDeployment) -> Result<()> {
    let told = ended.result()["services"].as_array().context("services")?;
    let runs = |name: &str, state: &str| told.iter().any(|s| s["service"] == name && s["state"] == state);
    for module in project.sample.modules() {
        ensure!(runs(module.service(), "running"), "{} doesn't run: {told:?}", module.service());
    }
    // Generation 1 has no Redis for a backend alone.
    let redis = project.sample.generation() == Generation::Two || project.sample.modules().len() > 1;
    ensure!(runs("db", "running") && runs("redis", "running") == redis, "{told:?}");
    ensure!(project.sample.modules().len() < 4 || runs("migrations", "exited"), "{told:?}");
    Ok(())
}

fn same(project: &DeployedProject<'_>, commit: Commit, before: &ProjectOnServer) -> Result<Commit> {
    let ended = project.deploy(&commit)?;
    ensure!(ended.result()["outcome"] == "already_deployed", "{}", ended.result());
    ended.serves(&commit)?;
    let after = project.state()?;
    ensure!(after == *before, "something changed on the server:\n{before:#?}\n{after:#?}");
    Ok(commit)
}

fn environment(
    project: &mut DeployedProject<'_>,
    commit: Commit,
    before: &ProjectOnServer,
    turn: usize,
) -> Result<Commit> {
    let greeting = format!("number {turn}");
    project.variables["GREETING"] = greeting.as_str().into();
    let ended = project.deploy(&commit)?;
    ensure!(ended.result()["outcome"] == "succeeded", "{}", ended.result());
    ended.serves(&commit)?;
    let after = project.state()?;
    after.keeps(before, &["db", "redis"])?;
    ensure!(after.containers["backend"] != before.containers["backend"], "the backend still has the old value");
    let env = format!("docker inspect --format '{{{{json .Config.Env}}}}' {}-backend-1", project.slug);
    let env: Vec<String> = serde_json::from_str(&project.server().sh(&env)?)?;
    ensure!(env.contains(&format!("GREETING={greeting}")), "{env:?}");
    let origins = &ended.facts("env")["origins"];
    ensure!(origins["given"].to_string().contains("GREETING"), "{origins}");
    ensure!(origins["kept"].to_string().contains("POSTGRES_PASSWORD"), "{origins}");
    Ok(commit)
}

fn next(project: &DeployedProject<'_>, before: &ProjectOnServer, turn: usize) -> Result<Commit> {
    let sample = project.sample.clone().with_file("README.md", &format!("step {turn}\n"));
    let commit = project.stack.publish(&sample, Variant::Healthy)?;
    let ended = project.deploy(&commit)?;
    ensure!(ended.result()["outcome"] == "succeeded", "{}", ended.result());
    ended.serves(&commit)?;
    all_run(project, &ended)?;
    let after = project.state()?;
    after.keeps(before, &["db", "redis"])?;
    ensure!(after.volumes == before.volumes, "{:?}", after.volumes);
    Ok(commit)
}

fn fails(
    project: &DeployedProject<'_>,
    good: Commit,
    before: &ProjectOnServer,
    why: Why,
    turn: usize,
) -> Result<Commit> {
    let mut sample = project.sample.clone().with_file("README.md", &format!("step {turn} fails\n"));
    if why == Why::MissingVariable {
        let folder = tempfile::tempdir()?;
        sample.write(folder.path())?;
        let base = std::fs::read_to_string(folder.path().join("infra/compose.base.yml"))?;
        let needs = "    environment:\n      PAYMENT_API_KEY: ${PAYMENT_API_KEY:?Key of the payment provider}\n";
        sample = sample.with_file("infra/compose.base.yml", &base.replacen("    environment:\n", needs, 1));
    }
    let bad = project.stack.publish(&sample, why.variant())?;
    if why == Why::NoImage {
        project.stack.world.ghcr().remove(&sample.image(Backend), &bad.tag())?;
    }
    let (ended, answers) = thread::scope(|scope| -> Result<_> {
        let poll = Poll::start(scope, project, &[&good]);
        let ended = project.deploy(&bad);
        Ok((ended?, poll.stop()?))
    })?;
    let result = ended.result();
    let code = why.code(project.sample.generation());
    ensure!(result["failure"]["code"] == code, "not {code}: {}", result["failure"]);
    ensure!(result["url"].is_null(), "{result}");
    ended.serves(&good)?;
    if why == Why::MissingVariable {
        ensure!(result["outcome"] == "missing_secret" && result["missing_secret"] == "PAYMENT_API_KEY", "{result}");
        ensure!(result["failure"]["secret_description"] == "Key of the payment provider", "{result}");
    }
    ensure!(answers.last() == Some(&true), "the version before doesn't answer any more");
    let silent = answers.iter().filter(|answered| !**answered).count();
    ensure!(!why.is_early() || silent == 0, "it was silent {silent} times of {}", answers.len());
    restored(project, before, why)?;
    Ok(good)
}

/// Checks that the server has what it had.
fn restored(project: &DeployedProject<'_>, before: &ProjectOnServer, why: Why) -> Result<()> {
    let after = project.state()?;
    if why.is_early() {
        ensure!(after.containers == before.containers, "containers were touched: {:?}", after.containers);
    }
    after.keeps(before, &["db", "redis"])?;
    let images = |state: &ProjectOnServer| -> Vec<_> {
        state.containers.iter().map(|(name, c)| (name.clone(), c.split(' ').nth(1).map(str::to_owned))).collect()
    };
    ensure!(images(&after) == images(before), "other images run: {:?}", after.containers);
    ensure!(after.images.is_superset(&before.images), "images are gone: {:?}", after.images);
    ensure!(after.volumes == before.volumes, "{:?}", after.volumes);
    // Until somebody puts the code back, too, a failure before anything was touched leaves the new commit's files.
    let own = |state: &ProjectOnServer| -> Vec<_> {
        let early = |line: &&String| !why.is_early() || line.contains(".env") || line.contains("=\"");
        state.files.iter().filter(early).cloned().collect()
    };
    ensure!(own(&after) == own(before), "files differ:\n{:#?}\n{:#?}", before.files, after.files);
    Ok(())
}
