//! `slipway workers`: which workers there are, and forgetting one that is gone for good.

use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};
use slipway_worker::store::{ForgetOutcome, WorkerSeen};

use crate::commands::operator::RecordArgs;
use crate::commands::status_parts::format_age;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::{Printer, Table, clean};

/// So long after a worker should have given its next sign of life it counts as silent.
pub(crate) const SILENT: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
pub(crate) enum Workers {
    /// List the workers, and what each of them runs
    List,
    /// Forget a worker that is silent and won't come back; others take over what it ran as soon as its leases expire
    Forget {
        /// The worker's name
        name: String,

        #[command(flatten)]
        record: RecordArgs,
    },
}

pub(crate) async fn run(
    command: Workers,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    match command {
        Workers::List => list(&database, printer).await,
        Workers::Forget { name, record } => forget(&name, &record, &database, printer).await,
    }
}

async fn list(database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let workers = database.store.workers().await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        printer.json(&workers.iter().map(worker_json).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let table = workers_table(&workers);
    printer.table(&table);
    if table.is_empty() {
        printer.message("No worker has given a sign of life lately");
    }
    Ok(CommandExit::Success)
}

async fn forget(
    name: &str,
    record: &RecordArgs,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let outcome = database.store.forget_worker(name, SILENT, &record.to_operator()).await;
    let name = clean(name);
    match outcome.map_err(|e| database.cli_error(&e))? {
        ForgetOutcome::Forgotten if printer.is_json() => printer.json(&json!({ "name": name, "forgotten": true })),
        ForgetOutcome::Forgotten => printer.message(&format!("Forgot worker {name}")),
        ForgetOutcome::Alive => {
            return Err(CliError::new(CommandExit::Failed, format!("worker {name} gives signs of life"))
                .hint("stop it first; a worker that stops in order is forgotten at once"));
        }
        ForgetOutcome::Unknown => {
            return Err(CliError::usage(format!("there is no worker {name}")).hint("`slipway workers list` shows them"));
        }
    }
    Ok(CommandExit::Success)
}

pub(crate) fn workers_table(workers: &[WorkerSeen]) -> Table {
    let mut table = Table::new(&["WORKER", "VERSION", "RUNS", "SEEN"]);
    for worker in workers {
        let seen = format!("{} ago", format_age(worker.silent));
        table.row([worker.name.clone(), worker.version.clone(), worker.runs.to_string(), seen]);
    }
    table
}

pub(crate) fn worker_json(w: &WorkerSeen) -> Value {
    json!({
        "name": w.name, "version": w.version, "started_at": w.started_at, "silent_s": w.silent.as_secs_f64(), "runs": w.runs,
    })
}

/// Workers that are missed: nobody has taken over what they run, or there is nobody else.
pub(crate) fn worker_problems(workers: &[WorkerSeen]) -> Vec<String> {
    let mut problems = Vec::new();
    let alone = !workers.iter().any(|worker| worker.overdue < SILENT);
    if alone {
        problems.push("no worker has given a sign of life lately".to_owned());
    }
    for worker in workers.iter().filter(|worker| worker.overdue >= SILENT && (alone || worker.runs > 0)) {
        problems.push(format!("worker {} has been silent for {}", worker.name, format_age(worker.silent)));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_worker_is_missed_until_others_have_taken_over_what_it_ran() {
        let worker = |name: &str, overdue: u64, runs| WorkerSeen {
            name: name.to_owned(),
            version: "1".to_owned(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            silent: Duration::from_secs(overdue),
            overdue: Duration::from_secs(overdue),
            runs,
        };
        let problems = |dead_runs, others: &[WorkerSeen]| {
            worker_problems(&[&[worker("dead", 90, dead_runs)][..], others].concat()).len()
        };
        assert_eq!(problems(1, &[worker("new", 1, 0)]), 1);
        assert_eq!(problems(0, &[worker("new", 1, 1)]), 0);
        assert_eq!(problems(0, &[]), 2, "nobody else is there");
    }
}
