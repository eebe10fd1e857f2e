//! `slipway pending`: halves of requests that wait for the other half, or have waited in vain. It only reads.

use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_worker::store::{LonelyHalf, LonelyHalves};

use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_duration, format_time, millis_between};
use crate::terminal::print::{Printer, Table};

/// How many are listed: of more, somebody has to find out first what is wrong with these.
const LISTED: u32 = 200;

pub(crate) async fn run(settings: &ConnectionSettings, printer: &Printer) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    let found = database.store.lonely_halves(LISTED).await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        printer.json(&found.halves.iter().map(half_json).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let now = Timestamp::now();
    let mut table = Table::new(&["PROJECT", "HERE", "SINCE", "MISSING", "WAITS UNTIL", "SOURCE", "EVENT"]);
    for half in &found.halves {
        table.row([
            half.project.slug.to_string(),
            half.half.as_str().to_owned(),
            format!("{} ago", format_duration(millis_between(half.since, now))),
            half.half.other().event_type().to_string(),
            waits_until(half),
            half.source.clone(),
            half.event_id.clone(),
        ]);
    }
    printer.table(&table);
    if table.is_empty() {
        printer.message("No half of a request waits for the other one");
    }
    let listed = u64::try_from(found.halves.len()).unwrap_or(u64::MAX);
    if found.count > listed {
        printer.hint(&format!("there are more ({} or more); these came first", found.count));
    }
    Ok(CommandExit::Success)
}

fn waits_until(half: &LonelyHalf) -> String {
    match (half.waits_until, half.missed_at) {
        (Some(until), _) => format_time(until),
        (None, Some(told)) => format!("told {}", format_time(told)),
        (None, None) => "-".to_owned(),
    }
}

/// What of this is to be seen in `slipway status`.
pub(super) fn lonely_json(halves: &LonelyHalves) -> Value {
    let missed = halves.halves.iter().filter(|half| half.missed_at.is_some()).count();
    json!({ "count": halves.count, "oldest_since": halves.halves.first().map(|half| half.since), "missed": missed })
}

fn half_json(half: &LonelyHalf) -> Value {
    json!({
        "project": half.project,
        "here": half.half.as_str(),
        "missing": half.half.other().as_str(),
        "missing_type": half.half.other().event_type(),
        "source": half.source,
        "event_id": half.event_id,
        "since": half.since,
        "waits_until": half.waits_until,
        "told_at": half.missed_at,
    })
}
