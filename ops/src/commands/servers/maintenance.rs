//! `slipway servers maintenance`: times in which nothing is done on a server. It gets no new projects then, and what is asked
//! for those that live there waits for the end.

use clap::{ArgGroup, Args};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use slipway_protocol::names::ServerHandle;

use super::unknown_server::unknown_server;
use crate::commands::operator::RecordArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::format_time;
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("its end").required(true).args(["until", "lasts", "end"]))]
pub(crate) struct MaintenanceArgs {
    /// The server's name
    handle: ServerHandle,

    /// When it begins, such as 2026-12-01T22:00:00Z; now when left out
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,

    /// When it ends
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,

    /// How long it lasts, such as `90m`
    #[arg(long = "for", value_name = "DURATION")]
    lasts: Option<SignedDuration>,

    /// End all its windows that are under way or to come
    #[arg(long, conflicts_with = "from")]
    end: bool,

    #[command(flatten)]
    record: RecordArgs,
}

pub(super) async fn run(
    args: &MaintenanceArgs,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let (handle, operator) = (&args.handle, args.record.to_operator());
    if args.end {
        let ended = database.store.end_maintenance(handle, &operator).await.map_err(|e| database.cli_error(&e))?;
        let Some(ended) = ended else { return Err(unknown_server(handle)) };
        if printer.is_json() {
            printer.json(&json!({ "handle": handle, "ended": ended }));
        } else {
            printer.message(&format!("Ended the windows of {handle} ({ended})"));
        }
        return Ok(CommandExit::Success);
    }
    let from = args.from.unwrap_or_else(Timestamp::now);
    let until = match (args.until, args.lasts) {
        (Some(until), _) => until,
        (None, Some(lasts)) => {
            from.checked_add(lasts).map_err(|e| CliError::usage(format!("--for is too long: {e}")))?
        }
        (None, None) => return Err(CliError::usage("when does it end?".to_owned()).hint("give --until or --for")),
    };
    if until <= from.max(Timestamp::now()) {
        return Err(CliError::usage("the window would end before it begins, or is over".to_owned())
            .hint("give a later --until, or a longer --for"));
    }
    let added = database.store.add_maintenance(handle, from, until, &operator).await;
    let Some(id) = added.map_err(|e| database.cli_error(&e))? else { return Err(unknown_server(handle)) };
    if printer.is_json() {
        printer.json(&json!({ "handle": handle, "window": id, "starts_at": from, "ends_at": until }));
    } else {
        printer.message(&format!(
            "Nothing is done on {handle} from {} until {}: it gets no new projects, and what is asked for the others waits",
            format_time(from),
            format_time(until)
        ));
    }
    Ok(CommandExit::Success)
}
