//! `slipway dead-letters note`: a line beside a dead letter, which changes nothing else about it.

use serde_json::json;

use super::selection::find_id_by_prefix;
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
    operator: OperatorArgs,
}

pub(super) async fn run(args: NoteArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let id = find_id_by_prefix(&args.id, database).await?;
    let text = args.text.trim();
    if text.is_empty() {
        return Err(CliError::usage("an empty note says nothing"));
    }
    let text = text.replace('\n', " ");
    database
        .store
        .note_dead_letter(id, &text, &args.operator.to_operator())
        .await
        .map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        printer.json(&json!({ "id": id, "noted": text }));
    } else {
        printer.message(&format!("Noted beside {id}"));
    }
    Ok(CommandExit::Success)
}
