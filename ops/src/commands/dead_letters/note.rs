//! `slipway dead-letters note`: a line beside a dead letter, which changes nothing else about it.

use serde_json::json;

use super::selection::by_prefix;
use crate::commands::operator::OperatorArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, clap::Args)]
pub(crate) struct NoteArgs {
    /// Its id, or a beginning of it that no other has
    id: String,

    /// The line
    text: String,

    #[command(flatten)]
    doer: OperatorArgs,
}

pub(super) async fn run(args: NoteArgs, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let id = by_prefix(&args.id, memory).await?;
    let text = args.text.trim();
    if text.is_empty() {
        return Err(CliError::usage("an empty note says nothing"));
    }
    let text = text.replace('\n', " ");
    memory.store.note_dead_letter(id, &text, &args.doer.operator()).await.map_err(|e| memory.trouble(&e))?;
    if printer.is_json() {
        printer.json(&json!({ "id": id, "noted": text }));
    } else {
        printer.note(&format!("Noted beside {id}"));
    }
    Ok(CommandExit::Success)
}
