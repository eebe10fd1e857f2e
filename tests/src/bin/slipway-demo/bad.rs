//! `--fail`: a commit that doesn't work is refused, while the one that serves is asked all the time.

use anyhow::{Result, bail, ensure};
use slipway_protocol::{ErrorCode, Outcome};
use slipway_tests::prober::thousands;
use slipway_tests::stack::Stack;
use slipway_tests::world::{Commit, Sample, Variant};

use crate::count::{Commits, asked, check};
use crate::request::{BAD_EVENT, PORT, SLUG, result, submit_beside};
use crate::say;

pub(crate) fn variant(text: &str) -> Result<Variant> {
    match text {
        "crash-loop" => Ok(Variant::CrashLoop),
        _ => bail!("the one way to fail is crash-loop"),
    }
}

/// Publishes a commit whose backend behaves as `variant`, asks for its deployment, and checks that `good` answered
/// every request meanwhile and still does.
pub(crate) fn refused(stack: &Stack, sample: &Sample, good: &Commit, variant: Variant, url: &str) -> Result<()> {
    say::message("publishing a commit whose backend exits as soon as it has started");
    let bad = stack.publish(&sample.clone().with_file("README.md", "a bad day's work\n"), variant)?;
    let ready = stack.ready(sample, &bad, SLUG, 0, PORT)?;
    let commits = Commits { old: good, new: &bad };
    say::message(&format!("asking {url} all the time, while the bad commit is tried"));
    let (status, report) = asked(stack, url, commits, || submit_beside(stack, BAD_EVENT, &ready))?;
    let result = result(stack, BAD_EVENT)?;
    let code = result.failure.map(|failure| failure.code);
    ensure!(!status.success() && result.outcome == Outcome::Failed, "a bad commit was deployed");
    ensure!(code == Some(ErrorCode::CrashLoop), "it failed for another reason: {code:?}");
    check(&report, commits)?;
    let reached = report.of(&bad.sha);
    ensure!(reached == 0, "{reached} requests reached the bad commit");
    say::data(&format!(
        "commit {} refused: {reached} requests reached it; commit {} answered {} requests, {} failed",
        &bad.sha[..7],
        &good.sha[..7],
        thousands(report.of(&good.sha)),
        report.failed().len()
    ));
    Ok(())
}
