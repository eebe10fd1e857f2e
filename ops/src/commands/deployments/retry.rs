//! `slipway deployments retry`: the next attempt at once, for who has mended what was in the way.

use clap::Args;
use serde_json::json;
use slipway_worker::store::RetryNowOutcome;

use crate::commands::operator::RecordArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
pub(crate) struct RetryArgs {
    /// The deployment's id, or a beginning of it that no other has
    #[arg(value_name = "DEPLOYMENT")]
    id: String,

    #[command(flatten)]
    record: RecordArgs,
}

pub(super) async fn run(args: &RetryArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let id = database.find_deployment(&args.id).await?;
    let outcome = database.store.retry_now(id, &args.record.to_operator()).await;
    match outcome.map_err(|e| database.cli_error(&e))? {
        RetryNowOutcome::Due if printer.is_json() => {
            printer.json(&json!({ "deployment_id": id, "due": true }));
            Ok(CommandExit::Success)
        }
        RetryNowOutcome::Due => {
            printer.message(&format!("The next attempt of {id} is due now"));
            printer.hint(&format!("run `slipway watch {id}`"));
            Ok(CommandExit::Success)
        }
        RetryNowOutcome::WithoutServer => {
            Err(CliError::new(CommandExit::Failed, format!("{id} waits for a server with room, not for an attempt"))
                .hint(format!("`slipway deployments show {id}` says what each server lacks")))
        }
        RetryNowOutcome::Not(state) if state.is_terminal() => {
            Err(CliError::new(CommandExit::Failed, format!("{id} has ended as {state}"))
                .hint("`slipway dead-letters replay` sends again what failed; `slipway submit` asks anew"))
        }
        RetryNowOutcome::Not(_) => Err(CliError::new(CommandExit::Failed, format!("an attempt of {id} runs"))
            .hint(format!("run `slipway watch {id}`"))),
        RetryNowOutcome::Unknown => Err(CliError::usage(format!("there is no deployment {id}"))),
    }
}
