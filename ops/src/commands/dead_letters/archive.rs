//! `slipway dead-letters archive` and `restore`: dead letters are put aside without being sent again, and taken up again.

use serde_json::json;
use slipway_worker::store::{DeadLetterFilter, DeadLetterState, Operator};
use uuid::Uuid;

use super::consent::{BulkConsent, require_consent};
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
    selection: Selection,

    #[command(flatten)]
    operator: OperatorArgs,

    /// Only say how many it would be
    #[arg(long)]
    dry_run: bool,

    /// At most so many, the oldest first
    #[arg(long, alias = "max", value_name = "N")]
    limit: Option<u32>,

    /// Don't ask, though they are chosen by conditions
    #[arg(long)]
    yes: bool,
}

#[derive(Clone, Copy)]
enum ArchiveAction {
    Archive,
    Restore,
}

impl ArchiveAction {
    fn required_state(self) -> DeadLetterState {
        match self {
            Self::Archive => DeadLetterState::Open,
            Self::Restore => DeadLetterState::Archived,
        }
    }

    /// The verb before it is done, and after.
    fn verbs(self) -> (&'static str, &'static str) {
        match self {
            Self::Archive => ("Archive", "Archived"),
            Self::Restore => ("Restore", "Restored"),
        }
    }
}

pub(super) async fn archive(
    args: ArchiveArgs,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let operator =
        if args.dry_run { args.operator.to_operator() } else { args.operator.require_reason("archiving")? };
    archive_or_restore(ArchiveAction::Archive, &args, &operator, database, printer).await
}

pub(super) async fn restore(
    args: ArchiveArgs,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    archive_or_restore(ArchiveAction::Restore, &args, &args.operator.to_operator(), database, printer).await
}

async fn archive_or_restore(
    action: ArchiveAction,
    args: &ArchiveArgs,
    operator: &Operator,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let chosen = args.selection.resolve(Some(action.required_state()), database).await?;
    let fit = DeadLetterFilter { state: Some(action.required_state()), ..chosen.clone() };
    let groups = database.store.dead_letter_groups(&fit, false).await.map_err(|e| database.cli_error(&e))?;
    let matching: u64 = groups.iter().map(|group| group.count).sum();
    let max = args.limit.unwrap_or(u32::MAX);
    let count = matching.min(u64::from(max));
    let (verb, done) = action.verbs();
    if args.dry_run {
        if printer.is_json() {
            printer.json(&json!({ format!("would_{}", verb.to_lowercase()): count }));
        } else {
            printer.message(&format!("Would {} {count}", verb.to_lowercase()));
        }
        return Ok(CommandExit::Success);
    }
    let ids = match count {
        0 => Vec::new(),
        _ => {
            let token = require_consent(&chosen, args.yes, verb, &count.to_string(), printer)?;
            change_in_batches(action, &fit, operator, max, &token, database).await?
        }
    };
    if printer.is_json() {
        printer.json(&json!({ done.to_lowercase(): ids }));
    } else {
        ids.iter().for_each(|id| printer.line(&id.to_string()));
        printer.message(&format!("{done} {}", ids.len()));
    }
    report_unchanged(action, &chosen.ids, &ids, database, printer).await
}

async fn change_in_batches(
    action: ArchiveAction,
    fit: &DeadLetterFilter,
    operator: &Operator,
    max: u32,
    _: &BulkConsent,
    database: &Database,
) -> Result<Vec<Uuid>, CliError> {
    let mut ids: Vec<Uuid> = Vec::new();
    loop {
        let limit = BATCH.min(max.saturating_sub(u32::try_from(ids.len()).unwrap_or(u32::MAX)));
        let done = match action {
            ArchiveAction::Archive => database.store.archive_dead_letters(fit, operator, limit).await,
            ArchiveAction::Restore => database.store.restore_dead_letters(fit, operator, limit).await,
        };
        let done = done.map_err(|e| database.cli_error(&e))?;
        if done.is_empty() {
            return Ok(ids);
        }
        ids.extend(done);
    }
}

/// Reports the state of each dead letter that was named and could not be changed.
async fn report_unchanged(
    action: ArchiveAction,
    named: &[Uuid],
    done: &[Uuid],
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let mut exit = CommandExit::Success;
    for id in named.iter().filter(|id| !done.contains(id)) {
        let letter = database.store.dead_letter(*id).await.map_err(|e| database.cli_error(&e))?;
        let is = letter.map_or("gone", |letter| letter.state.as_str());
        printer.error(&CliError::new(
            CommandExit::Failed,
            format!("dead letter {id} isn't {}: {is}", action.required_state().as_str()),
        ));
        exit = CommandExit::Failed;
    }
    Ok(exit)
}
