//! A second commit goes live, and nobody who asks meanwhile misses an answer.

use anyhow::{Result, ensure};
use slipway_tests::stack::Stack;
use slipway_tests::world::{Commit, Sample, Variant};

use crate::count::{Commits, asked, check};
use crate::request::{PORT, SECOND_EVENT, SLUG, submit_beside};
use crate::say;

/// Publishes a second commit, deploys it while `url` is asked all the time, and gives it.
pub(crate) fn replaced(stack: &Stack, sample: &Sample, first: &Commit, url: &str) -> Result<Commit> {
    say::message("publishing a second commit");
    let second = stack.publish(&sample.clone().with_file("README.md", "a good day's work\n"), Variant::Healthy)?;
    let ready = stack.ready(sample, &second, SLUG, 0, PORT)?;
    let commits = Commits { old: first, new: &second };
    say::message(&format!("asking {url} all the time, while the second commit takes the first one's place"));
    let (status, report) = asked(stack, url, commits, || submit_beside(stack, SECOND_EVENT, &ready))?;
    ensure!(status.success(), "the second commit wasn't deployed: slipway submit ended with {status}");
    check(&report, commits)?;
    ensure!(report.of(&second.sha) > 0, "the second commit never answered: {report}");
    say::data(&commits.line(&report));
    Ok(second)
}
