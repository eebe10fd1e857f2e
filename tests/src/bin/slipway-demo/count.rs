//! Who answers while a commit is deployed: it's asked all the time, and the count stands on the screen.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use slipway_tests::prober::{ProbeKind, ProbeReport, Probes, thousands};
use slipway_tests::stack::Stack;
use slipway_tests::world::Commit;

use crate::say;

/// How often the count on the screen is made anew.
const TICK: Duration = Duration::from_millis(200);
/// For how long it's asked before and after.
const AROUND: Duration = Duration::from_secs(1);

/// The commit that serves at the beginning, and the one that is deployed.
#[derive(Clone, Copy)]
pub(crate) struct Commits<'a> {
    pub old: &'a Commit,
    pub new: &'a Commit,
}

impl Commits<'_> {
    /// What was answered, and by whom: what the demo shows.
    pub(crate) fn line(self, report: &ProbeReport) -> String {
        format!(
            "{} answers, {} failed, old {}, new {}",
            thousands(report.answers.len()),
            thousands(report.failed().len()),
            thousands(report.of(&self.old.sha)),
            thousands(report.of(&self.new.sha))
        )
    }
}

/// Asks at `url`, by new connections and on one that is kept, while `act` goes on, and gives what came of both.
pub(crate) fn asked<T>(
    stack: &Stack,
    url: &str,
    commits: Commits<'_>,
    act: impl FnOnce() -> Result<T>,
) -> Result<(T, ProbeReport)> {
    let place = url.strip_prefix("http://").context("the project's URL isn't plain HTTP")?;
    let address: SocketAddr = place.parse().context("the project's URL has no address")?;
    let probes = start(stack, address)?;
    let over = AtomicBool::new(false);
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                say::count(&commits.line(&probes.report()));
                thread::sleep(TICK);
            }
            say::end_count();
        });
        let _end = EndOfCount(&over);
        thread::sleep(AROUND);
        let done = act();
        thread::sleep(AROUND);
        done
    });
    let report = probes.stop()?;
    Ok((done?, report))
}

/// The count ends, whatever becomes of what it was for.
struct EndOfCount<'a>(&'a AtomicBool);

impl Drop for EndOfCount<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// That nobody missed an answer, and that nobody else answered.
pub(crate) fn check(report: &ProbeReport, commits: Commits<'_>) -> Result<()> {
    let failed = report.failed().len();
    ensure!(failed == 0, "{failed} of {} requests failed: {}", report.answers.len(), report.why_failed());
    let known = report.of(&commits.old.sha) + report.of(&commits.new.sha);
    ensure!(known == report.answers.len(), "somebody else answered: {report}");
    Ok(())
}

/// What asks is in the network of the thread that starts it.
fn start(stack: &Stack, address: SocketAddr) -> Result<Probes> {
    let start = || {
        stack.world.enter()?;
        Probes::start_with(address, &[ProbeKind::Fresh, ProbeKind::Kept])
    };
    thread::scope(|scope| scope.spawn(start).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
