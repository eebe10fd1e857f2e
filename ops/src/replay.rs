//! `slipway dead-letters replay`: sends the very bytes again, under a replay id, so that it's a deployment of its own.

use clap::Args;
use serde_json::{Value, json};
use slipway_deploy::retry::Policy;
use slipway_protocol::{Class, DeploymentId, ErrorCode, Metadata, decode, topology};
use slipway_worker::store::{DeadLetter, DeadLetterState};
use uuid::Uuid;

use crate::dead_letters::{Filter, by_prefix, table, withheld};
use crate::memory::Memory;
use crate::print::Printer;
use crate::trouble::{Exit, Trouble};

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// Which ones: ids, or beginnings of them that no other has
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,

    /// All open ones for which the conditions hold, at most 1000
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    filter: Filter,

    /// Only say what would be sent
    #[arg(long)]
    dry_run: bool,

    /// Who asks for it, for the record; `user@host` when left out
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// A dead letter that was sent again.
struct Sent {
    letter: Uuid,
    replay: Uuid,
    deployment: Option<DeploymentId>,
}

pub(crate) async fn run(args: Replay, memory: &Memory, printer: &Printer) -> Result<Exit, Trouble> {
    let letters = chosen(&args, memory).await?;
    if args.dry_run {
        return Ok(preview(&letters, printer));
    }
    let by = args.by.unwrap_or_else(operator);
    let (mut sent, mut failed) = (Vec::new(), Vec::new());
    for letter in &letters {
        match send(letter, &by, memory).await {
            Ok(one) => sent.push(one),
            // The database is away: the others wouldn't fare better, but what was sent must be told.
            Err(trouble) if trouble.exit == Exit::Unavailable => {
                report(&sent, &failed, printer);
                return Err(trouble);
            }
            Err(trouble) => failed.push(trouble),
        }
    }
    report(&sent, &failed, printer);
    Ok(if failed.is_empty() { Exit::Success } else { Exit::Failed })
}

async fn chosen(args: &Replay, memory: &Memory) -> Result<Vec<DeadLetter>, Trouble> {
    if args.all {
        return args.filter.find(Some(DeadLetterState::Open), 1000, memory).await;
    }
    let mut letters: Vec<DeadLetter> = Vec::new();
    for id in &args.ids {
        let letter = by_prefix(id, memory).await?;
        if letters.iter().all(|l| l.id != letter.id) {
            letters.push(letter);
        }
    }
    Ok(letters)
}

fn preview(letters: &[DeadLetter], printer: &Printer) -> Exit {
    let ready = |l: &&DeadLetter| l.state == DeadLetterState::Open && l.body.is_some();
    let count = letters.iter().filter(ready).count();
    if printer.is_json() {
        let row =
            |l: &DeadLetter| json!({ "id": l.id, "code": l.code, "state": l.state.as_str(), "replayable": ready(&l) });
        printer.json(&json!({ "would_replay": count, "dead_letters": letters.iter().map(row).collect::<Vec<_>>() }));
        return Exit::Success;
    }
    printer.table(&table(letters, Policy::ATTEMPTS.attempts));
    printer
        .note(&format!("{count} would be sent again, {} not: replayed, archived or withheld", letters.len() - count));
    let permanent =
        letters.iter().filter_map(|l| l.code.parse().ok()).find(|c: &ErrorCode| c.class() == Class::Permanent);
    if let Some(code) = permanent {
        printer.hint(&format!(
            "{code} is permanent: a replay will fail in the same way unless Slipway itself was changed"
        ));
    }
    Exit::Success
}

async fn send(letter: &DeadLetter, by: &str, memory: &Memory) -> Result<Sent, Trouble> {
    let Some(body) = &letter.body else { return Err(withheld(letter)) };
    let replay = Uuid::now_v7();
    if !memory.store.replay_dead_letter(letter.id, replay).await.map_err(|e| memory.trouble(&e))? {
        return Err(Trouble::new(Exit::Failed, format!("dead letter {} isn't open any more", letter.id))
            .hint(format!("`slipway dead-letters show {}` says what became of it", letter.id)));
    }
    let note = format!("replayed as {replay} by {by} at {}", crate::watch::line::clock(jiff::Timestamp::now()));
    memory.store.note_dead_letter(letter.id, &note).await.map_err(|e| memory.trouble(&e))?;
    Ok(Sent { letter: letter.id, replay, deployment: deployment(letter, body, replay) })
}

/// The deployment that the replay asks for, as far as the message tells.
fn deployment(letter: &DeadLetter, body: &[u8], replay: Uuid) -> Option<DeploymentId> {
    let mut metadata = Metadata { content_type: letter.content_type.clone(), headers: letter.headers.clone() };
    metadata.headers.insert(topology::REPLAY_HEADER.to_owned(), replay.to_string());
    match decode(body, &metadata) {
        Ok(request) => Some(request.deployment_id()),
        Err(rejection) => rejection.known.deployment_id(),
    }
}

fn report(sent: &[Sent], failed: &[Trouble], printer: &Printer) {
    if printer.is_json() {
        let row = |s: &Sent| json!({ "id": s.letter, "replay_id": s.replay, "deployment_id": s.deployment });
        let errors: Vec<Value> = failed.iter().map(|t| json!(t.message)).collect();
        printer.json(&json!({ "replayed": sent.iter().map(row).collect::<Vec<_>>(), "errors": errors }));
    } else {
        for one in sent {
            printer.line(&one.deployment.map_or_else(|| "-".to_owned(), |id| id.to_string()));
        }
        if !sent.is_empty() {
            printer.note(&format!("Sent {} again; a worker's relay publishes them", sent.len()));
        }
    }
    for trouble in failed {
        printer.trouble(trouble);
    }
    if let (false, Some(id)) = (printer.is_json(), sent.iter().find_map(|s| s.deployment)) {
        printer.hint(&format!("run `slipway watch {id}`"));
    }
}

/// Who is at the keyboard, as far as the system knows.
pub(crate) fn operator() -> String {
    let user =
        ["SUDO_USER", "USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}@{}", user.as_deref().unwrap_or("unknown"), if host.is_empty() { "unknown" } else { host })
}
