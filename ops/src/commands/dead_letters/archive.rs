//! `slipway dead-letters archive` and `restore`: dead letters are put aside without being sent again, and taken up again.

use serde_json::json;
use slipway_worker::store::{DeadLetterFilter, DeadLetterState, Operator};
use uuid::Uuid;

use super::consent::{BulkConsent, consent};
use super::selection::Selection;
use crate::commands::operator::OperatorArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

/// Dead letters that are changed in one transaction.
const BATCH: u32 = 500;

#[derive(Debug, clap::Args)]
pub(crate) struct ArchiveArgs {
    #[command(flatten)]
    choice: Selection,

    #[command(flatten)]
    doer: OperatorArgs,

    /// Only say how many it would be
    #[arg(long)]
    dry_run: bool,

    /// At most so many, the oldest first
    #[arg(long, value_name = "N")]
    max: Option<u32>,

    /// Don't ask, though they are chosen by conditions
    #[arg(long)]
    yes: bool,
}

/// Which way.
#[derive(Clone, Copy)]
enum ArchiveAction {
    Archive,
    Restore,
}

impl ArchiveAction {
    fn from(self) -> DeadLetterState {
        match self {
            Self::Archive => DeadLetterState::Open,
            Self::Restore => DeadLetterState::Archived,
        }
    }

    /// What is to be done, and what was done.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Archive => ("Archive", "Archived"),
            Self::Restore => ("Restore", "Restored"),
        }
    }
}

pub(super) async fn archive(args: ArchiveArgs, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let operator = if args.dry_run { args.doer.operator() } else { args.doer.with_reason("archiving")? };
    step(ArchiveAction::Archive, &args, &operator, memory, printer).await
}

pub(super) async fn restore(args: ArchiveArgs, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    step(ArchiveAction::Restore, &args, &args.doer.operator(), memory, printer).await
}

async fn step(
    way: ArchiveAction,
    args: &ArchiveArgs,
    operator: &Operator,
    memory: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let chosen = args.choice.find(Some(way.from()), memory).await?;
    let fit = DeadLetterFilter { state: Some(way.from()), ..chosen.clone() };
    let groups = memory.store.dead_letter_groups(&fit, false).await.map_err(|e| memory.trouble(&e))?;
    let there: u64 = groups.iter().map(|group| group.count).sum();
    let max = args.max.unwrap_or(u32::MAX);
    let count = there.min(u64::from(max));
    let (verb, done) = way.words();
    if args.dry_run {
        if printer.is_json() {
            printer.json(&json!({ format!("would_{}", verb.to_lowercase()): count }));
        } else {
            printer.note(&format!("Would {} {count}", verb.to_lowercase()));
        }
        return Ok(CommandExit::Success);
    }
    let ids = match count {
        0 => Vec::new(),
        _ => {
            let token = consent(&chosen, args.yes, verb, count, printer)?;
            batches(way, &fit, operator, max, &token, memory).await?
        }
    };
    if printer.is_json() {
        printer.json(&json!({ done.to_lowercase(): ids }));
    } else {
        ids.iter().for_each(|id| printer.line(&id.to_string()));
        printer.note(&format!("{done} {}", ids.len()));
    }
    left(way, &chosen.ids, &ids, memory, printer).await
}

async fn batches(
    way: ArchiveAction,
    fit: &DeadLetterFilter,
    operator: &Operator,
    max: u32,
    _: &BulkConsent,
    memory: &Database,
) -> Result<Vec<Uuid>, CliError> {
    let mut ids: Vec<Uuid> = Vec::new();
    loop {
        let limit = BATCH.min(max.saturating_sub(u32::try_from(ids.len()).unwrap_or(u32::MAX)));
        let done = match way {
            ArchiveAction::Archive => memory.store.archive_dead_letters(fit, operator, limit).await,
            ArchiveAction::Restore => memory.store.restore_dead_letters(fit, operator, limit).await,
        };
        let done = done.map_err(|e| memory.trouble(&e))?;
        if done.is_empty() {
            return Ok(ids);
        }
        ids.extend(done);
    }
}

/// Says of each that was named and stays as it is, what it is.
async fn left(
    way: ArchiveAction,
    named: &[Uuid],
    done: &[Uuid],
    memory: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let mut exit = CommandExit::Success;
    for id in named.iter().filter(|id| !done.contains(id)) {
        let letter = memory.store.dead_letter(*id).await.map_err(|e| memory.trouble(&e))?;
        let is = letter.map_or("gone", |letter| letter.state.as_str());
        printer.trouble(&CliError::new(
            CommandExit::Failed,
            format!("dead letter {id} isn't {}: {is}", way.from().as_str()),
        ));
        exit = CommandExit::Failed;
    }
    Ok(exit)
}
