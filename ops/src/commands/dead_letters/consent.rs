//! Consent to change many dead letters at once. Whatever changes them asks for a [`BulkConsent`], and only this file makes
//! one.

use slipway_worker::store::DeadLetterFilter;

use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

/// Permission to change dead letters that were chosen by conditions; only [`require_consent`] gives it.
pub(super) struct BulkConsent(());

/// Consent to do `what` with `count` dead letters: given by naming each of them, by `--yes`, or by a person who is
/// asked.
pub(super) fn require_consent(
    filter: &DeadLetterFilter,
    yes: bool,
    what: &str,
    count: &str,
    printer: &Printer,
) -> Result<BulkConsent, CliError> {
    if yes || !filter.ids.is_empty() {
        return Ok(BulkConsent(()));
    }
    let question = format!("{what} {count} dead letters?");
    match printer.ask_yes_no(&question) {
        Some(true) => Ok(BulkConsent(())),
        Some(false) => Err(CliError::new(CommandExit::Failed, "nothing was done")),
        None => Err(CliError::usage(format!("{question} Nobody is there to be asked"))
            .hint("look at what is meant with `slipway dead-letters list`, then give --yes")),
    }
}
