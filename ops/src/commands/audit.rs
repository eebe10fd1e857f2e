//! `slipway audit`: everything that operators did: who, from where, to what, why and when. It only reads; the store writes
//! the record together with what is done.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_worker::store::{AuditEntry, AuditFilter, OperatorOrigin};

use crate::commands::arguments::parse_time_or_age;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_time, text_or_dash};
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Args)]
pub(crate) struct OperatorAuditArgs {
    /// Only what was done to something whose name holds this: an id, a slug, a server
    #[arg(value_name = "SUBJECT")]
    subject: Option<String>,

    /// Only what this operator did
    #[arg(long = "as", alias = "by", value_name = "NAME")]
    who: Option<String>,

    /// Only this command, such as `undeploy`, or all of a group's, such as `servers`
    #[arg(long, value_name = "COMMAND")]
    action: Option<String>,

    /// Only what was done after this: an age such as `2h` or `3d`, or a time as RFC 3339 writes it
    #[arg(long, value_name = "TIME", value_parser = parse_time_or_age)]
    since: Option<Timestamp>,

    /// Only what was done before the entry of this number: the last one of the page before
    #[arg(long, value_name = "NUMBER")]
    before: Option<i64>,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
}

pub(crate) async fn run(
    args: OperatorAuditArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    let OperatorAuditArgs { subject, who, action, since, before, limit } = args;
    let filter = AuditFilter { dead_letter: None, who, action, subject, since, before };
    let found = database.store.audit(&filter, limit).await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        printer.json(&found.iter().map(entry_json).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let mut table = Table::new(&["WHEN", "WHO", "FROM", "ACTION", "SUBJECT", "WHY", "WHAT"]);
    for entry in &found {
        table.row([
            format_time(entry.at),
            entry.operator.who.clone(),
            describe_origin(&entry.operator.origin),
            entry.action.clone(),
            entry.subject.clone(),
            text_or_dash(entry.operator.why.as_deref()),
            describe_details(entry),
        ]);
    }
    printer.table(&table);
    if table.is_empty() {
        printer.message("Nothing was done");
    } else if let Some(last) = found.last().filter(|_| found.len() >= usize::try_from(limit).unwrap_or(usize::MAX)) {
        printer.message(&format!("There may be more: give --before {} as well, or a higher --limit", last.number));
    }
    Ok(CommandExit::Success)
}

fn entry_json(entry: &AuditEntry) -> Value {
    json!({
        "number": entry.number,
        "at": entry.at,
        "who": entry.operator.who,
        "from": entry.operator.origin,
        "action": entry.action,
        "subject": entry.subject,
        "why": entry.operator.why,
        "details": entry.details,
    })
}

/// `ada@bastion pts/3, from 203.0.113.9`.
fn describe_origin(origin: &OperatorOrigin) -> String {
    let OperatorOrigin { user, host, terminal, ssh_client, .. } = origin;
    let place = [user.as_deref(), host.as_deref()].into_iter().flatten().collect::<Vec<_>>().join("@");
    let terminal = terminal.as_deref().map(|name| format!(" {}", name.trim_start_matches("/dev/")));
    let client = ssh_client.as_deref().map(|address| format!(", from {address}"));
    let whole = [place, terminal.unwrap_or_default(), client.unwrap_or_default()].concat();
    text_or_dash(Some(whole.as_str()).filter(|text| !text.is_empty()))
}

/// The details of an entry as `name=value`, without those that are false.
pub(crate) fn describe_details(entry: &AuditEntry) -> String {
    let fields = entry.details.as_object().into_iter().flatten().filter(|(_, value)| **value != json!(false));
    let shown = fields.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or(&value.to_string())));
    shown.collect::<Vec<_>>().join(" ")
}
