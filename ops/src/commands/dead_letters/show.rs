//! `slipway dead-letters show`: one dead letter in full, its body without secrets; `--raw` prints the very bytes.

use clap::Args;
use slipway_protocol::ErrorCode;
use slipway_worker::store::{AuditFilter, DeadLetter, DeadLetterFilter, Replay};

use super::selection::one;
use super::verdict::{self, withheld};
use super::{audit, json};
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::clock;
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

pub(super) async fn run(args: &ShowDeadLetter, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let letter = one(&args.id, memory).await?;
    if args.raw {
        let Some(body) = &letter.body else { return Err(withheld(letter.id)) };
        printer.bytes(body);
        return Ok(CommandExit::Success);
    }
    let only = DeadLetterFilter { ids: vec![letter.id], ..DeadLetterFilter::default() };
    let planned = memory.store.plan_replay(&only, 1).await.map_err(|e| memory.trouble(&e))?;
    let about = AuditFilter { dead_letter: Some(letter.id), ..AuditFilter::default() };
    let history = memory.store.dead_letter_audit(&about, 100).await.map_err(|e| memory.trouble(&e))?;
    if printer.is_json() {
        let mut value = json::dead_letter_json(&letter);
        value["replay"] = planned.first().map(|p| json::replay_json(p, Replay::default())).into();
        value["audit"] = history.iter().map(json::audit_json).collect();
        printer.json(&value);
        return Ok(CommandExit::Success);
    }
    fields(&letter, printer);
    if let Some(planned) = planned.first() {
        printer.line(&format!("{:<13} {}", "A replay:", verdict::words(planned, Replay::default())));
    }
    for entry in history.iter().rev() {
        printer.line(&format!("{:<13} {}", "History:", audit::words(entry)));
    }
    printer.line("");
    for (name, value) in redact::headers(&letter.headers) {
        printer.line(&format!("{name}: {value}"));
    }
    printer.line("");
    match letter.body.as_deref().map(redact::body) {
        Some(Some(body)) => printer.pretty_json(&body),
        Some(None) => printer.line("(the body isn't JSON; --raw prints it)"),
        None => printer.line("(the body held a secret in plain text and isn't kept)"),
    }
    if let Ok(code) = letter.code.parse::<ErrorCode>() {
        printer.hint(code.next_action());
    }
    Ok(CommandExit::Success)
}

fn fields(letter: &DeadLetter, printer: &Printer) {
    let field = |name: &str, value: &str| printer.line(&format!("{:<13} {value}", format!("{name}:")));
    field("Dead letter", &letter.id.to_string());
    field("State", letter.state.as_str());
    field("Project", letter.project.as_deref().unwrap_or("-"));
    field("Stage", &letter.stage);
    field("Code", &format!("{} ({})", letter.code, letter.class));
    field("Message", &letter.message);
    field("Reason", &letter.reason);
    field("Attempts", &letter.attempts.to_string());
    field("First failed", &clock(letter.first_failed_at));
    field("Last failed", &clock(letter.last_failed_at));
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
