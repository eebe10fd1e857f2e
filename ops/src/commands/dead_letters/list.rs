//! `slipway dead-letters list`: dead letters in a table, the latest first.

use clap::Args;
use jiff::Timestamp;
use slipway_deploy::backoff::RetryPolicy;
use slipway_worker::store::DeadLetter;

use super::json;
use super::selection::{FilterArgs, StateArg, load_by_prefix};
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_duration, millis_between, short_id, text_or_dash};
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Args)]
pub(crate) struct ListDeadLetters {
    #[command(flatten)]
    filter: FilterArgs,

    /// Which ones
    #[arg(long, value_enum, default_value_t = StateArg::Open)]
    state: StateArg,

    /// Only those behind this one: the last one of the page before
    #[arg(long, value_name = "ID")]
    before: Option<String>,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    /// The workers' limit of attempts, for the column ATTEMPTS
    #[arg(long, value_name = "N", env = "SLIPWAY_MAX_ATTEMPTS", default_value_t = RetryPolicy::ATTEMPTS.attempts)]
    max_attempts: u32,
}

pub(super) async fn run(
    args: &ListDeadLetters,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let mut filter = args.filter.to_filter(args.state.to_state());
    if let Some(prefix) = &args.before {
        let last = load_by_prefix(prefix, database).await?;
        filter.before = Some((last.last_failed_at, last.id));
    }
    let found = database.store.dead_letters(&filter, args.limit).await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        printer.json(&found.iter().map(json::dead_letter_json).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    printer.table(&build_table(&found, args.max_attempts));
    if let Some(last) = found.last().filter(|_| found.len() >= usize::try_from(args.limit).unwrap_or(usize::MAX)) {
        let id = short_id(&last.id.to_string());
        printer.message(&format!("There may be more: give --before {id} as well, or a higher --limit"));
    }
    match most_common_code(&found) {
        Some(code) => printer.hint(&format!("run `slipway explain {code}`")),
        None => printer.message("No such dead letters"),
    }
    Ok(CommandExit::Success)
}

fn build_table(letters: &[DeadLetter], max_attempts: u32) -> Table {
    let now = Timestamp::now();
    let mut table = Table::new(&["DEPLOYMENT", "PROJECT", "SERVER", "STAGE", "CODE", "ATTEMPTS", "AGE"]);
    for letter in letters {
        table.row([
            short_id(&letter.id.to_string()),
            text_or_dash(letter.project.as_deref()),
            text_or_dash(letter.server.as_deref()),
            letter.stage.clone(),
            letter.code.clone(),
            format!("{}/{max_attempts}", letter.attempts),
            format_duration(millis_between(letter.last_failed_at, now)),
        ]);
    }
    table
}

fn most_common_code(letters: &[DeadLetter]) -> Option<&str> {
    let count = |code: &str| letters.iter().filter(|l| l.code == code).count();
    letters.iter().map(|l| l.code.as_str()).max_by_key(|code| (count(code), std::cmp::Reverse(*code)))
}
