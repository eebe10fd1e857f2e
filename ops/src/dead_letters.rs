//! `slipway dead-letters`: what couldn't be done, why, and sending it again.

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_deploy::retry::Policy;
use slipway_protocol::ErrorCode;
use slipway_protocol::names::Slug;
use slipway_worker::store::{DeadLetter, DeadLetterFilter, DeadLetterState};
use uuid::Uuid;

use crate::deployments::{dash, short_id};
use crate::memory::Memory;
use crate::print::{Printer, Table, clean};
use crate::replay::{self, Replay};
use crate::settings::Settings;
use crate::trouble::{Exit, Trouble};
use crate::watch::line::{between, clock, duration};
use crate::{explain, redact};

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List dead letters, the latest first
    List(List),
    /// Show one in full: why, where, its headers and its body without secrets
    Show(Show),
    /// Send dead letters again, byte for byte; each becomes a deployment of its own
    Replay(Box<Replay>),
    /// Put one aside
    Archive {
        /// Its id, or a beginning of it that no other has
        id: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
}

/// Conditions that all must hold.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// Only with this error code
    #[arg(long, value_parser = code)]
    pub(crate) code: Option<ErrorCode>,

    /// Only of this project
    #[arg(long, value_name = "SLUG")]
    pub(crate) project: Option<Slug>,

    /// Only from this stage: one of the seven, `intake` or `engine`
    #[arg(long, value_name = "STAGE", value_parser = stage)]
    pub(crate) stage: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    filter: Filter,

    /// Which ones
    #[arg(long, value_enum, default_value_t = Which::Open)]
    state: Which,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,

    /// The workers' limit of attempts, for the column ATTEMPTS
    #[arg(long, value_name = "N", env = "SLIPWAY_MAX_ATTEMPTS", default_value_t = Policy::ATTEMPTS.attempts)]
    max_attempts: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// Those that wait for somebody
    Open,
    /// Those that were sent again
    Replayed,
    /// Those that were put aside
    Archived,
    /// All of them
    All,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its id, or a beginning of it that no other has
    id: String,

    /// Print the message's bytes as they came, and nothing else; they may hold what should not be seen
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

pub(crate) async fn run(command: DeadLetters, settings: &Settings, printer: &Printer) -> Result<Exit, Trouble> {
    let memory = Memory::new(settings)?;
    match command {
        DeadLetters::List(args) => list(&args, &memory, printer).await,
        DeadLetters::Show(args) => show(&args, &memory, printer).await,
        DeadLetters::Replay(args) => replay::run(*args, &memory, printer).await,
        DeadLetters::Archive { id, note } => archive(&id, note.as_deref(), &memory, printer).await,
    }
}

impl Filter {
    /// Those in `state` for which all conditions hold, the latest first.
    pub(crate) async fn find(
        &self,
        state: Option<DeadLetterState>,
        limit: u32,
        memory: &Memory,
    ) -> Result<Vec<DeadLetter>, Trouble> {
        let filter = DeadLetterFilter {
            state,
            project: self.project.clone().map(Into::into),
            code: self.code.map(|c| c.to_string()),
        };
        // The store doesn't know the stage: as many as there may be are asked for, then the others left out.
        let asked = if self.stage.is_some() { 1000 } else { limit };
        let mut found = memory.store.dead_letters(&filter, asked).await.map_err(|e| memory.trouble(&e))?;
        found.retain(|letter| self.stage.as_ref().is_none_or(|stage| *stage == letter.stage));
        found.truncate(limit as usize);
        Ok(found)
    }
}

/// The one dead letter whose id begins with `prefix`.
pub(crate) async fn by_prefix(prefix: &str, memory: &Memory) -> Result<DeadLetter, Trouble> {
    let prefix = prefix.to_ascii_lowercase();
    let unknown = || {
        Trouble::usage(format!("there is no dead letter {}", clean(&prefix)))
            .hint("`slipway dead-letters list --state all` shows them")
    };
    if let Ok(id) = prefix.parse::<Uuid>() {
        return memory.store.dead_letter(id).await.map_err(|e| memory.trouble(&e))?.ok_or_else(unknown);
    }
    if prefix.len() < 4 {
        return Err(unknown());
    }
    let latest = memory.store.dead_letters(&DeadLetterFilter::default(), 1000).await.map_err(|e| memory.trouble(&e))?;
    let mut found = latest.into_iter().filter(|letter| letter.id.to_string().starts_with(&prefix));
    match (found.next(), found.next()) {
        (Some(letter), None) => Ok(letter),
        (None, _) => Err(unknown()),
        (Some(one), Some(other)) => Err(Trouble::usage(format!("several dead letters begin with {prefix}"))
            .details(vec![one.id.to_string(), other.id.to_string()])
            .hint("give more digits")),
    }
}

async fn list(args: &List, memory: &Memory, printer: &Printer) -> Result<Exit, Trouble> {
    let state = match args.state {
        Which::Open => Some(DeadLetterState::Open),
        Which::Replayed => Some(DeadLetterState::Replayed),
        Which::Archived => Some(DeadLetterState::Archived),
        Which::All => None,
    };
    let found = args.filter.find(state, args.limit, memory).await?;
    if printer.is_json() {
        printer.json(&found.iter().map(as_json).collect::<Vec<_>>());
        return Ok(Exit::Success);
    }
    printer.table(&table(&found, args.max_attempts));
    match commonest(&found) {
        Some(code) => printer.hint(&format!("run `slipway explain {code}`")),
        None => printer.note("No such dead letters"),
    }
    Ok(Exit::Success)
}

/// The table of style: one line a letter.
pub(crate) fn table(letters: &[DeadLetter], max_attempts: u32) -> Table {
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

async fn show(args: &Show, memory: &Memory, printer: &Printer) -> Result<Exit, Trouble> {
    let letter = by_prefix(&args.id, memory).await?;
    if args.raw {
        let Some(body) = &letter.body else { return Err(withheld(&letter)) };
        printer.bytes(body);
        return Ok(Exit::Success);
    }
    if printer.is_json() {
        printer.json(&as_json(&letter));
        return Ok(Exit::Success);
    }
    fields(&letter, printer);
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
    Ok(Exit::Success)
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

async fn archive(id: &str, note: Option<&str>, memory: &Memory, printer: &Printer) -> Result<Exit, Trouble> {
    let letter = by_prefix(id, memory).await?;
    if !memory.store.archive_dead_letter(letter.id, note).await.map_err(|e| memory.trouble(&e))? {
        return Err(Trouble::new(
            Exit::Failed,
            format!("dead letter {} isn't open: {}", letter.id, letter.state.as_str()),
        ));
    }
    if printer.is_json() {
        printer.json(&json!({ "id": letter.id, "archived": true }));
    } else {
        printer.note(&format!("Archived {}", letter.id));
    }
    Ok(Exit::Success)
}

pub(crate) fn withheld(letter: &DeadLetter) -> Trouble {
    Trouble::new(Exit::Failed, format!("the body of {} held a secret in plain text and isn't kept", letter.id))
        .hint("have the secret replaced and the event emitted anew")
}

fn as_json(letter: &DeadLetter) -> Value {
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
        "headers": redact::headers(&letter.headers),
        "body": letter.body.as_deref().and_then(redact::body),
    })
}

fn code(text: &str) -> Result<ErrorCode, String> {
    explain::parse(text).map_err(|trouble| trouble.message)
}

fn stage(text: &str) -> Result<String, String> {
    let known = matches!(text, "intake" | "engine") || text.parse::<slipway_protocol::Stage>().is_ok();
    known.then(|| text.to_owned()).ok_or_else(|| "must be one of the seven stages, `intake` or `engine`".to_owned())
}
