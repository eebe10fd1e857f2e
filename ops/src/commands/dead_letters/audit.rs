//! `slipway dead-letters audit`: what was done with dead letters. The store records it together with what it does.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_worker::store::{AuditEntry, AuditFilter};

use super::selection::find_id_by_prefix;
use crate::commands::arguments::parse_time_or_age;
use crate::commands::audit::describe_details;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_time, short_id, text_or_dash};
use crate::terminal::print::{Printer, Table};

/// What the record puts before the names of these actions.
const GROUP: &str = "dead-letters ";

/// The action, as it's named here.
pub(super) fn action_name(entry: &AuditEntry) -> &str {
    entry.action.strip_prefix(GROUP).unwrap_or(&entry.action)
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Only about this one: its id, or a beginning of it that no other has
    id: Option<String>,

    /// Only what this operator did
    #[arg(long = "as", alias = "by", value_name = "NAME")]
    who: Option<String>,

    /// Only this: replay, edit, archive, restore, note or export
    #[arg(long, value_parser = ["replay", "edit", "archive", "restore", "note", "export"])]
    action: Option<String>,

    /// Only what was done after this: an age such as `2h` or `3d`, or a time as RFC 3339 writes it
    #[arg(long, value_name = "TIME", value_parser = parse_time_or_age)]
    since: Option<Timestamp>,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
}

pub(super) async fn run(args: &AuditArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let dead_letter = match &args.id {
        Some(id) => Some(find_id_by_prefix(id, database).await?),
        None => None,
    };
    let action = match &args.action {
        Some(action) => format!("{GROUP}{action}"),
        None => GROUP.trim_end().to_owned(),
    };
    let filter = AuditFilter {
        dead_letter,
        who: args.who.clone(),
        action: Some(action),
        since: args.since,
        ..AuditFilter::default()
    };
    let found = database.store.audit(&filter, args.limit).await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        printer.json(&found.iter().map(audit_json).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let mut table = Table::new(&["WHEN", "WHO", "ACTION", "LETTER", "WHY", "WHAT"]);
    for entry in &found {
        table.row([
            format_time(entry.at),
            entry.operator.who.clone(),
            action_name(entry).to_owned(),
            short_id(&entry.subject),
            text_or_dash(entry.operator.why.as_deref()),
            describe_details(entry),
        ]);
    }
    printer.table(&table);
    if table.is_empty() {
        printer.message("Nothing was done");
    }
    Ok(CommandExit::Success)
}

/// One line of a dead letter's history.
pub(super) fn describe_entry(entry: &AuditEntry) -> String {
    let why = entry.operator.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    format!("{} {} by {}{why}", format_time(entry.at), action_name(entry), entry.operator.who)
}

pub(super) fn audit_json(entry: &AuditEntry) -> Value {
    json!({
        "dead_letter_id": entry.dead_letter,
        "action": action_name(entry),
        "who": entry.operator.who,
        "from": entry.operator.origin,
        "why": entry.operator.why,
        "at": entry.at,
        "details": entry.details,
    })
}
