//! Asking before something is destroyed. Whatever destroys asks for a [`Confirmed`], and only this file makes one.

use std::io::{BufRead as _, IsTerminal as _};

use crate::terminal::error::CliError;
use crate::terminal::print::Printer;

/// Proof that a person has agreed.
#[derive(Debug)]
pub(crate) struct Confirmed(());

/// Asks the person to type `word`, unless `yes` was given.
///
/// # Errors
/// When nobody can be asked, or the answer is another one.
pub(crate) fn ask(what: &str, word: &str, yes: bool, printer: &Printer) -> Result<Confirmed, CliError> {
    if yes {
        return Ok(Confirmed(()));
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(CliError::usage(format!("{what} must be confirmed, and there is nobody to ask"))
            .hint("give --yes if you are sure"));
    }
    printer.message(&format!("{what} must be confirmed. Type `{word}` to go on:"));
    let mut answer = String::new();
    match stdin.lock().read_line(&mut answer) {
        Ok(_) if answer.trim() == word => Ok(Confirmed(())),
        _ => Err(CliError::usage("not confirmed, and nothing was done".to_owned())),
    }
}
