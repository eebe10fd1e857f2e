//! `slipway pushes`: the branches whose pushes Slipway deploys itself, and what each of them waits for. It only reads.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_protocol::names::CommitSha;
use slipway_worker::scheduler::RUN_NEEDED;
use slipway_worker::store::WatchedBranch;

use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_duration, millis_between, text_or_dash};
use crate::terminal::print::{Printer, Table};

/// A push that needs a workflow run for longer than this may have been forgotten.
pub(super) const LONG_HELD: Duration = Duration::from_secs(3600);

pub(crate) async fn run(settings: &ConnectionSettings, printer: &Printer) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    let branches = database.store.watched_branches().await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        printer.json(&branches.iter().map(branch_json).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["PROJECT", "SERVER", "BRANCH", "BY", "HEAD", "CONSIDERED", "LOOKED", "WAITS FOR"]);
    let short = |commit: Option<&CommitSha>| text_or_dash(commit.map(CommitSha::short));
    let age = |at: Timestamp| format!("{} ago", format_duration(millis_between(at, now)));
    for branch in &branches {
        table.row([
            branch.project.slug.to_string(),
            branch.server.to_string(),
            format!("{}@{}", branch.repository, branch.branch),
            branch.deployed_by.as_str().to_owned(),
            short(branch.head.as_ref()),
            short(branch.considered.as_ref()),
            branch.looked_at.map_or_else(|| "-".to_owned(), age),
            text_or_dash(branch.waits_for.as_deref()),
        ]);
    }
    printer.table(&table);
    for branch in &branches {
        if let Some(waited) = held_for(branch, now) {
            let (project, waits_for) = (&branch.project.slug, text_or_dash(branch.waits_for.as_deref()));
            printer.message(&format!("held back: {project} for {}: {waits_for}", format_duration(waited)));
        }
        if let Some(problem) = &branch.problem {
            printer.message(&format!("problem: {} ({} looks failed): {problem}", branch.project.slug, branch.failures));
        }
    }
    if table.is_empty() {
        printer.message("No project has its pushes deployed by Slipway");
    }
    Ok(CommandExit::Success)
}

/// For how many milliseconds its push has needed a workflow run, if that is long.
fn held_for(branch: &WatchedBranch, now: Timestamp) -> Option<u64> {
    let waits_for = branch.waits_for.as_deref()?;
    let waited = millis_between(branch.head_since?, now);
    (waits_for.starts_with(RUN_NEEDED) && u128::from(waited) > LONG_HELD.as_millis()).then_some(waited)
}

fn branch_json(branch: &WatchedBranch) -> Value {
    json!({
        "project": branch.project,
        "server": branch.server,
        "repository": branch.repository,
        "branch": branch.branch,
        "deployed_by": branch.deployed_by,
        "head": branch.head,
        "head_since": branch.head_since,
        "considered": branch.considered,
        "waits_for": branch.waits_for,
        "problem": branch.problem,
        "failures": branch.failures,
        "looked_at": branch.looked_at,
        "look_at": branch.look_at,
    })
}
