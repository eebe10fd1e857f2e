//! `--fail`: a commit that doesn't work is refused, while the one that serves is asked all the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use slipway_protocol::{ErrorCode, Outcome};
use slipway_tests::stack::Stack;
use slipway_tests::world::{Commit, Sample, Variant, World};

use crate::request::{BAD_EVENT, PORT, SLUG, result, submit};
use crate::say;

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(50);

pub(crate) fn variant(text: &str) -> Result<Variant> {
    match text {
        "crash-loop" => Ok(Variant::CrashLoop),
        _ => bail!("the one way to fail is crash-loop"),
    }
}

/// What the one who asked got.
#[derive(Debug, Default)]
struct Count {
    requests: u32,
    failed: u32,
}

/// Publishes a commit whose backend behaves as `variant`, asks for its deployment, and checks that `good` answered
/// every request meanwhile and still does.
pub(crate) fn refused(stack: &Stack, sample: &Sample, good: &Commit, variant: Variant, url: &str) -> Result<()> {
    say::message("publishing a commit whose backend exits as soon as it has started");
    let bad = stack.publish(&sample.clone().with_file("README.md", "a bad day's work\n"), variant)?;
    let ready = stack.ready(sample, &bad, SLUG, 0, PORT)?;
    say::message(&format!("curl {url}/health, again and again, while it's being deployed"));
    let stop = AtomicBool::new(false);
    let (status, count) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&stack.world, url, &good.sha, &stop));
        let status = submit(stack, BAD_EVENT, &ready);
        stop.store(true, Ordering::Relaxed);
        let count = asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        status.map(|status| (status, count))
    })?;
    let result = result(stack, BAD_EVENT)?;
    let code = result.failure.map(|failure| failure.code);
    ensure!(!status.success() && result.outcome == Outcome::Failed, "a bad commit was deployed");
    ensure!(code == Some(ErrorCode::CrashLoop), "it failed for another reason: {code:?}");
    let Count { requests, failed } = count;
    ensure!(failed == 0, "{failed} of {requests} requests failed while the bad commit was tried");
    say::data(&format!(
        "commit {} refused; commit {} answered {requests} requests, {failed} failed",
        &bad.sha[..7],
        &good.sha[..7]
    ));
    Ok(())
}

/// Asks until told to stop. A request has failed unless the good commit itself says that it's healthy.
fn ask(world: &World, url: &str, sha: &str, stop: &AtomicBool) -> Count {
    let mut count = Count::default();
    while !stop.load(Ordering::Relaxed) {
        let healthy = world.get(&format!("{url}/health")).is_ok_and(|a| a.status == 200 && a.body.contains(sha));
        count.requests += 1;
        count.failed += u32::from(!healthy);
        std::thread::sleep(PAUSE);
    }
    count
}
