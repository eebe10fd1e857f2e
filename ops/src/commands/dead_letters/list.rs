//! `slipway dead-letters list`: dead letters in a table, the latest first.

use clap::Args;
use jiff::Timestamp;
use slipway_deploy::retry::RetryPolicy;
use slipway_worker::store::DeadLetter;

use super::json;
use super::selection::{FilterArgs, StateArg};
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{between, dash, duration, short_id};
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Args)]
pub(crate) struct ListDeadLetters {
    #[command(flatten)]
    filter: FilterArgs,

    /// Which ones
    #[arg(long, value_enum, default_value_t = StateArg::Open)]
    state: StateArg,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    /// The workers' limit of attempts, for the column ATTEMPTS
    #[arg(long, value_name = "N", env = "SLIPWAY_MAX_ATTEMPTS", default_value_t = RetryPolicy::ATTEMPTS.attempts)]
    max_attempts: u32,
}

pub(super) async fn run(args: &ListDeadLetters, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let filter = args.filter.of(args.state.state());
    let found = memory.store.dead_letters(&filter, args.limit).await.map_err(|e| memory.trouble(&e))?;
    if printer.is_json() {
        printer.json(&found.iter().map(json::dead_letter_json).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    printer.table(&table(&found, args.max_attempts));
    match commonest(&found) {
        Some(code) => printer.hint(&format!("run `slipway explain {code}`")),
        None => printer.note("No such dead letters"),
    }
    Ok(CommandExit::Success)
}

fn table(letters: &[DeadLetter], max_attempts: u32) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new(&["DEPLOYMENT", "PROJECT", "STAGE", "CODE", "ATTEMPTS", "AGE"]);
    for letter in letters {
        table.row([
            short_id(&letter.id.to_string()),
            dash(letter.project.as_deref()),
            letter.stage.clone(),
            letter.code.clone(),
            format!("{}/{max_attempts}", letter.attempts),
            duration(between(letter.last_failed_at, now)),
        ]);
    }
    table
}

fn commonest(letters: &[DeadLetter]) -> Option<&str> {
    let count = |code: &str| letters.iter().filter(|l| l.code == code).count();
    letters.iter().map(|l| l.code.as_str()).max_by_key(|code| (count(code), std::cmp::Reverse(*code)))
}
