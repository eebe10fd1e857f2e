//! `slipway dead-letters groups`: how many failed alike, the largest group first.

use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use slipway_worker::store::DeadLetterGroup;

use super::selection::{FilterArgs, StateArg};
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_duration, millis_between, text_or_dash};
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Args)]
pub(crate) struct ListGroups {
    #[command(flatten)]
    filter: FilterArgs,

    /// Which ones
    #[arg(long, value_enum, default_value_t = StateArg::Open)]
    state: StateArg,

    /// Tell projects apart, too
    #[arg(long)]
    by_project: bool,
}

pub(super) async fn run(args: &ListGroups, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let filter = args.filter.to_filter(args.state.to_state());
    let found =
        database.store.dead_letter_groups(&filter, args.by_project).await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        let row = |g: &DeadLetterGroup| {
            json!({ "code": g.code, "class": g.class, "stage": g.stage, "project": g.project, "count": g.count,
                    "oldest": g.oldest, "newest": g.newest })
        };
        printer.json(&found.iter().map(row).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let now = Timestamp::now();
    let mut headings = vec!["COUNT", "CODE", "CLASS", "STAGE"];
    headings.extend(args.by_project.then_some("PROJECT"));
    let mut table = Table::new(&[&headings[..], &["OLDEST", "NEWEST"]].concat());
    for g in &found {
        let mut cells = vec![g.count.to_string(), g.code.clone(), g.class.clone(), g.stage.clone()];
        cells.extend(args.by_project.then(|| text_or_dash(g.project.as_deref())));
        cells.extend([g.oldest, g.newest].map(|at| format_duration(millis_between(at, now))));
        table.row(cells);
    }
    printer.table(&table);
    match found.first() {
        Some(group) => {
            printer.hint(&format!("run `slipway explain {0}`, then `slipway dead-letters list --code {0}`", group.code))
        }
        None => printer.message("No such dead letters"),
    }
    Ok(CommandExit::Success)
}
