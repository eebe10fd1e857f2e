//! The demo behind `ops/demo`: a world of its own, a sample project in it, a real worker, and the command line that
//! sends the project and watches it being deployed; then a second commit takes the first one's place, while all answers are
//! counted; and, with `--fail`, one that must not get through. The script checks the machine and builds; it isn't done here.

mod bad;
mod count;
mod guide;
mod request;
mod say;
mod second;
mod signals;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use slipway_tests::stack::Stack;
use slipway_tests::world::{Generation, Sample, Variant, is_interrupted, was_interrupted};

use request::{EVENT, PORT, SLUG, result, submit};
use say::Laps;

/// Exit code for wrong arguments, as in sysexits.h.
const USAGE: u8 = 64;
/// How much of the worker's log is shown when a deployment fails; its file goes with the world.
const TAIL: usize = 12;

/// What `ops/demo` runs once the machine is prepared
#[derive(Debug, Parser)]
struct Options {
    /// Which generation of the project template: 1 or 2
    #[arg(long, default_value = "2", value_parser = generation)]
    generation: Generation,

    /// Deploy a bad commit afterwards, while the good one is asked all the time: crash-loop
    #[arg(long, value_name = "HOW", value_parser = bad::variant)]
    fail: Option<Variant>,

    /// Let everything run until Ctrl-C or Enter, and tell how to look around
    #[arg(long)]
    keep: bool,

    /// What was done before, for the closing line
    #[arg(long, hide = true, value_name = "PART=MILLISECONDS", value_parser = spent)]
    spent: Vec<(String, Duration)>,
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match signals::listen().and_then(|()| demo(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if was_interrupted() => {
            say::message("interrupted; all that was started is gone");
            ExitCode::from(signals::INTERRUPTED)
        }
        Err(error) => {
            say::error(
                &error,
                "run `./ops/demo --keep` to look at a failed deployment, `cargo test` to find a failing part",
            );
            ExitCode::FAILURE
        }
    }
}

fn demo(options: &Options) -> Result<()> {
    let mut laps = Laps::new(&options.spent);
    say::message("starting a world: RabbitMQ, Postgres, registries, a stand-in for GitHub, a server with Docker");
    let mut stack = Stack::start(1)?;
    laps.end("world");
    let done = deploy(&mut stack, options, &mut laps);
    if options.keep && !is_interrupted() {
        if let Err(error) = &done {
            say::message(&format!("{error:#}"));
        }
        guide::keep(&mut stack, done.as_deref().ok())?;
        laps.skip();
    }
    drop(stack);
    laps.end("clean-up");
    done?;
    say::message(&laps.text());
    Ok(())
}

/// From a published project to an answer, and to the next commit's; gives the URL.
fn deploy(stack: &mut Stack, options: &Options, laps: &mut Laps) -> Result<String> {
    let sample = Sample::new(options.generation, "acme", SLUG);
    say::message(&format!("publishing a sample project, acme/{SLUG}, and its images"));
    let commit = stack.publish(&sample, Variant::Healthy)?;
    laps.end("project");

    say::message("starting a worker, and enlisting the server as target-0");
    let number = stack.worker(&[])?;
    stack.enlist(0)?;
    laps.end("worker");

    let ready = stack.ready(&sample, &commit, SLUG, 0, PORT)?;
    let status = submit(stack, EVENT, &ready)?;
    laps.end("deployment");
    if !status.success() {
        let error = anyhow!("the project wasn't deployed: slipway submit ended with {status}");
        let log = stack.running(number).log()?;
        let lines: Vec<&str> = log.lines().collect();
        return Err(error.context(format!(
            "the worker's log ends with\n{}\n",
            lines[lines.len().saturating_sub(TAIL)..].join("\n")
        )));
    }

    let url = result(stack, EVENT)?.url.context("the deployment succeeded, but its result names no URL")?;
    say::message(&format!("curl {url}"));
    let answer = stack.world.get(&url)?;
    ensure!(answer.status == 200, "{url} answers {}: {}", answer.status, answer.body);
    say::data(&url);
    say::data(answer.body.trim_end());
    laps.end("answer");
    let second = second::replaced(stack, &sample, &commit, &url)?;
    laps.end("second commit");
    if let Some(variant) = options.fail {
        bad::refused(stack, &sample, &second, variant, &url)?;
        laps.end("bad commit");
    }
    Ok(url)
}

fn generation(text: &str) -> Result<Generation> {
    match text {
        "1" => Ok(Generation::One),
        "2" => Ok(Generation::Two),
        _ => bail!("there are generations 1 and 2"),
    }
}

fn spent(text: &str) -> Result<(String, Duration)> {
    let (part, took) = text.split_once('=').context("PART=MILLISECONDS")?;
    Ok((part.to_owned(), Duration::from_millis(took.parse()?)))
}
