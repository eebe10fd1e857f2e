//! `slipway dead-letters groups`, `list` and `show`: looking, without changing anything.

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_deploy::backoff::RetryPolicy;
use slipway_protocol::ErrorCode;
use slipway_worker::store::{AuditFilter, DeadLetter, DeadLetterFilter, DeadLetterGroup, Replay};
use uuid::Uuid;

use super::choice::{FilterArgs, StateArg, one};
use super::{audit, replay};
use crate::deployments::{dash, short_id};
use crate::memory::Database;
use crate::print::{Printer, Table};
use crate::redact;
use crate::trouble::{CliError, CommandExit};
use crate::watch::line::{between, clock, duration};

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

#[derive(Debug, Args)]
pub(crate) struct ShowDeadLetter {
    /// Its id, or a beginning of it that no other has
    id: String,

    /// Print the message's bytes as they came, and nothing else; they may hold what should not be seen
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

pub(super) async fn groups(args: &ListGroups, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let filter = args.filter.of(args.state.state());
    let found = memory.store.dead_letter_groups(&filter, args.by_project).await.map_err(|e| memory.trouble(&e))?;
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
        cells.extend(args.by_project.then(|| dash(g.project.as_deref())));
        cells.extend([g.oldest, g.newest].map(|at| duration(between(at, now))));
        table.row(cells);
    }
    printer.table(&table);
    match found.first() {
        Some(group) => {
            printer.hint(&format!("run `slipway explain {0}`, then `slipway dead-letters list --code {0}`", group.code))
        }
        None => printer.note("No such dead letters"),
    }
    Ok(CommandExit::Success)
}

pub(super) async fn list(
    args: &ListDeadLetters,
    memory: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let filter = args.filter.of(args.state.state());
    let found = memory.store.dead_letters(&filter, args.limit).await.map_err(|e| memory.trouble(&e))?;
    if printer.is_json() {
        printer.json(&found.iter().map(as_json).collect::<Vec<_>>());
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

pub(super) async fn show(args: &ShowDeadLetter, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
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
        let mut value = as_json(&letter);
        value["replay"] = planned.first().map(|p| replay::as_json(p, Replay::default())).into();
        value["audit"] = history.iter().map(audit::as_json).collect();
        printer.json(&value);
        return Ok(CommandExit::Success);
    }
    fields(&letter, printer);
    if let Some(planned) = planned.first() {
        printer.line(&format!("{:<13} {}", "A replay:", replay::words(planned, Replay::default())));
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

pub(super) fn withheld(id: Uuid) -> CliError {
    CliError::new(CommandExit::Failed, format!("the body of {id} held a secret in plain text and isn't kept"))
        .hint("have the secret replaced and the event emitted anew")
}

fn as_json(letter: &DeadLetter) -> Value {
    let mut value = facts(letter);
    value["headers"] = json!(redact::headers(&letter.headers));
    value["body"] = letter.body.as_deref().and_then(redact::body).into();
    value
}

/// All about it but its headers and its body.
pub(super) fn facts(letter: &DeadLetter) -> Value {
    json!({
        "id": letter.id,
        "deployment_id": letter.deployment,
        "state": letter.state.as_str(),
        "project": letter.project,
        "reason": letter.reason,
        "stage": letter.stage,
        "code": letter.code,
        "class": letter.class,
        "message": letter.message,
        "next_action": letter.code.parse::<ErrorCode>().ok().map(ErrorCode::next_action),
        "attempts": letter.attempts,
        "first_failed_at": letter.first_failed_at,
        "last_failed_at": letter.last_failed_at,
        "original_exchange": letter.original_exchange,
        "original_routing_key": letter.original_routing_key,
        "worker": letter.worker,
        "replay_count": letter.replay_count,
        "replayed_as": letter.replayed_as,
        "note": letter.note,
        "content_type": letter.content_type,
    })
}
