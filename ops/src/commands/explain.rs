//! `slipway explain`: error codes, out of the protocol's table, and the policies.

use clap::Args;
use serde_json::{Value, json};
use slipway_protocol::ErrorCode;

use crate::commands::policies::{self, describe_class};
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The code, such as `port-occupied`; without it, all codes are listed. `policies` lists what is tried how often,
    /// how long things may take, and how much happens at once
    code: Option<String>,
}

pub(crate) fn run(args: &ExplainArgs, printer: &Printer) -> Result<CommandExit, CliError> {
    match &args.code {
        Some(word) if word == "policies" => policies::run(printer),
        Some(code) => print_code(parse_code(code)?, printer),
        None => print_codes(printer),
    }
    Ok(CommandExit::Success)
}

/// A code by its name, or the nearest names.
pub(crate) fn parse_code(code: &str) -> Result<ErrorCode, CliError> {
    code.parse().map_err(|_| {
        let error = CliError::usage(format!("there is no error code `{code}`"));
        match find_nearest(code) {
            Some(near) => error.hint(format!("did you mean `{near}`? `slipway explain` lists all codes")),
            None => error.hint("`slipway explain` lists all codes"),
        }
    })
}

fn print_code(code: ErrorCode, printer: &Printer) {
    if printer.is_json() {
        return printer.json(&code_json(code));
    }
    printer.line(&format!("{code}: {}", code.meaning()));
    printer.line("");
    printer.line(&format!("Class:  {} ({})", code.class(), describe_class(code.class())));
    printer.line(&format!("Next:   {}", code.next_action()));
}

fn print_codes(printer: &Printer) {
    if printer.is_json() {
        return printer.json(&ErrorCode::ALL.iter().copied().map(code_json).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["CODE", "CLASS", "MEANING"]);
    for code in ErrorCode::ALL {
        table.row([code.to_string(), code.class().to_string(), code.meaning().to_owned()]);
    }
    printer.table(&table);
    printer.hint("run `slipway explain CODE` for what to do");
}

fn code_json(code: ErrorCode) -> Value {
    json!({
        "code": code,
        "class": code.class(),
        "retried": code.class().retries(),
        "meaning": code.meaning(),
        "next_action": code.next_action(),
    })
}

/// The code that shares most pairs of letters with `typed`, if it shares at least half of them.
fn find_nearest(typed: &str) -> Option<ErrorCode> {
    let pairs = |text: &str| -> Vec<(char, char)> {
        let text = text.to_lowercase().replace(['_', ' '], "-");
        text.chars().zip(text.chars().skip(1)).collect()
    };
    let wanted = pairs(typed);
    let shared = |code: ErrorCode| {
        let own = pairs(code.as_str());
        let common = wanted.iter().filter(|p| own.contains(p)).count();
        // Dice's coefficient in percent: integers can be compared with `max_by_key`.
        200 * common / (wanted.len() + own.len()).max(1)
    };
    ErrorCode::ALL
        .iter()
        .copied()
        .map(|code| (shared(code), code))
        .max_by_key(|(s, _)| *s)
        .filter(|(s, _)| *s >= 50)
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_code_finds_its_neighbour_and_nonsense_finds_none() {
        assert_eq!(find_nearest("port_occupied"), Some(ErrorCode::PortOccupied));
        assert_eq!(find_nearest("port-ocupied"), Some(ErrorCode::PortOccupied));
        assert_eq!(find_nearest("xyzzy"), None);
    }
}
