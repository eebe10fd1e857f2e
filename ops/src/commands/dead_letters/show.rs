//! `slipway dead-letters show`: one dead letter in full, its body without secrets; `--raw` prints the very bytes.

use clap::Args;
use slipway_protocol::ErrorCode;
use slipway_worker::store::{AuditFilter, DeadLetter, DeadLetterFilter, Replay};

use super::selection::load_by_prefix;
use super::verdict::{self, withheld_error};
use super::{audit, json};
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::format_time;
use crate::terminal::print::Printer;
use crate::terminal::redact;

#[derive(Debug, Args)]
pub(crate) struct ShowDeadLetter {
    /// Its id, or a beginning of it that no other has
    id: String,

    /// Print the message's bytes as they came, and nothing else; they may hold what should not be seen
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

pub(super) async fn run(
    args: &ShowDeadLetter,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let letter = load_by_prefix(&args.id, database).await?;
    if args.raw {
        let Some(body) = &letter.body else { return Err(withheld_error(letter.id)) };
        printer.bytes(body);
        return Ok(CommandExit::Success);
    }
    let only = DeadLetterFilter { ids: vec![letter.id], ..DeadLetterFilter::default() };
    let planned = database.store.plan_replay(&only, 1).await.map_err(|e| database.cli_error(&e))?;
    let about = AuditFilter { dead_letter: Some(letter.id), ..AuditFilter::default() };
    let history = database.store.audit(&about, 100).await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        let mut value = json::dead_letter_json(&letter);
        value["replay"] = planned.first().map(|p| json::replay_json(p, Replay::default())).into();
        value["audit"] = history.iter().map(audit::audit_json).collect();
        printer.json(&value);
        return Ok(CommandExit::Success);
    }
    print_fields(&letter, printer);
    if let Some(planned) = planned.first() {
        printer.line(&format!("{:<13} {}", "A replay:", verdict::describe_replay(planned, Replay::default())));
    }
    for entry in history.iter().rev() {
        printer.line(&format!("{:<13} {}", "History:", audit::describe_entry(entry)));
    }
    printer.line("");
    for (name, value) in redact::redact_headers(&letter.headers) {
        printer.line(&format!("{name}: {value}"));
    }
    printer.line("");
    match letter.body.as_deref().map(redact::redact_body) {
        Some(Some(body)) => printer.pretty_json(&body),
        Some(None) => printer.line("(the body isn't JSON; --raw prints it)"),
        None => printer.line("(the body held a secret in plain text and isn't kept)"),
    }
    if let Ok(code) = letter.code.parse::<ErrorCode>() {
        printer.hint(code.next_action());
    }
    Ok(CommandExit::Success)
}

fn print_fields(letter: &DeadLetter, printer: &Printer) {
    let field = |name: &str, value: &str| printer.line(&format!("{:<13} {value}", format!("{name}:")));
    field("Dead letter", &letter.id.to_string());
    field("State", letter.state.as_str());
    field("Project", letter.project.as_deref().unwrap_or("-"));
    field("Server", letter.server.as_deref().unwrap_or("-"));
    field("Stage", &letter.stage);
    field("Code", &format!("{} ({})", letter.code, letter.class));
    field("Message", &letter.message);
    field("Reason", &letter.reason);
    field("Attempts", &letter.attempts.to_string());
    field("First failed", &format_time(letter.first_failed_at));
    field("Last failed", &format_time(letter.last_failed_at));
    if let Some(user) = &letter.amqp_user {
        field("Sent by", &format!("RabbitMQ's user {user}"));
    }
    field("Published to", &format!("{} with key {}", letter.original_exchange, letter.original_routing_key));
    field("Worker", &letter.worker);
    field("Replays", &letter.replay_count.to_string());
    if let Some(replay) = letter.replayed_as {
        field("Replayed as", &replay.to_string());
    }
    for line in letter.note.as_deref().unwrap_or_default().lines() {
        field("Note", line);
    }
}
