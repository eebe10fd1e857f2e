//! `slipway dead-letters export`: messages byte for byte with their headers, one JSON line each or as files. Secrets in
//! them are sealed; a body that held one in plain text isn't kept, and the export says so. It's recorded before it's
//! written.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use slipway_worker::store::{DeadLetter, DeadLetterFilter, Operator};
use uuid::Uuid;

use super::json;
use super::selection::{Selection, StateArg};
use crate::commands::operator::OperatorArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

/// Messages that are in memory at once; each has at most 16 MiB, and usually a few KiB.
const PAGE: usize = 50;
/// The most that one export holds.
const LIMIT: u32 = 1_000_000;

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    selection: Selection,

    /// Which of those that are chosen by conditions
    #[arg(long, value_enum, default_value_t = StateArg::Open)]
    state: StateArg,

    /// Write each as ID.body and ID.json into this directory, which is made; else one JSON line each on stdout
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// At most so many, the latest first
    #[arg(long, alias = "max", value_name = "N", default_value_t = LIMIT)]
    limit: u32,

    #[command(flatten)]
    operator: OperatorArgs,
}

pub(super) async fn run(args: ExportArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let filter = args.selection.resolve(args.state.to_state(), database).await?;
    let ids = database.store.dead_letter_ids(&filter, args.limit).await.map_err(|e| database.cli_error(&e))?;
    let place = args.out.as_ref().map_or_else(|| "stdout".to_owned(), |dir| dir.display().to_string());
    if let Some(dir) = &args.out {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| write_error(dir, &e))?;
    }
    let (operator, mut withheld) = (args.operator.to_operator(), 0);
    for page in ids.chunks(PAGE) {
        for letter in record_and_load(page, &place, &operator, database).await? {
            withheld += usize::from(letter.body.is_none());
            match &args.out {
                None => printer.json(&letter_json(&letter)),
                Some(dir) => write_letter(dir, &letter)?,
            }
        }
    }
    if printer.is_json() && args.out.is_some() {
        printer.json(&json!({ "exported": ids.len(), "withheld": withheld, "to": place }));
    }
    let without = if withheld == 0 { String::new() } else { format!("; {withheld} without their withheld bodies") };
    printer.message(&format!("Exported {} to {place}{without}", ids.len()));
    Ok(CommandExit::Success)
}

async fn record_and_load(
    page: &[Uuid],
    place: &str,
    operator: &Operator,
    database: &Database,
) -> Result<Vec<DeadLetter>, CliError> {
    let filter = DeadLetterFilter { ids: page.to_vec(), ..DeadLetterFilter::default() };
    let letters = database.store.dead_letters(&filter, u32::MAX).await.map_err(|e| database.cli_error(&e))?;
    database.store.record_export(page, place, operator).await.map_err(|e| database.cli_error(&e))?;
    Ok(letters)
}

/// Everything about a dead letter except its body.
fn metadata_json(letter: &DeadLetter) -> Value {
    let mut value = json::facts_json(letter);
    value["headers"] = json!(letter.headers);
    value["withheld"] = letter.body.is_none().into();
    value
}

/// The body is a string when it is UTF-8, and Base64 otherwise.
fn letter_json(letter: &DeadLetter) -> Value {
    let mut value = metadata_json(letter);
    match letter.body.as_deref().map(|body| std::str::from_utf8(body).map_err(|_| body)) {
        Some(Ok(text)) => value["body"] = text.into(),
        Some(Err(bytes)) => value["body_base64"] = STANDARD.encode(bytes).into(),
        None => {}
    }
    value
}

fn write_letter(dir: &Path, letter: &DeadLetter) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(&metadata_json(letter)).unwrap_or_default();
    write_file(&dir.join(format!("{}.json", letter.id)), text.as_bytes())?;
    letter.body.as_ref().map_or(Ok(()), |body| write_file(&dir.join(format!("{}.body", letter.id)), body))
}

fn write_file(path: &Path, content: &[u8]) -> Result<(), CliError> {
    let open = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    open.and_then(|mut file| file.write_all(content)).map_err(|e| write_error(path, &e))
}

fn write_error(path: &Path, error: &std::io::Error) -> CliError {
    CliError::new(CommandExit::Failed, format!("{} can't be written: {error}", path.display()))
}
