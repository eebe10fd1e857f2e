//! The command line of the worker: three flags, and the help that is generated from the table of variables. Settings
//! come from the environment and are read in `config`. This is the only file that prints to standard output.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::config::{GROUPS, Unset, VariableDoc};

/// What the worker is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkerCommand {
    /// Work until a signal.
    Run,
    /// Validate the configuration only.
    Check,
    /// Print the help.
    Help,
    /// Print its version.
    Version,
}

/// An argument that isn't known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown argument {0:?}\n\nhint: `slipway-worker --help` lists the flags and every variable")]
pub struct UnknownArgument(pub String);

impl WorkerCommand {
    /// Reads the arguments after the program's name.
    ///
    /// # Errors
    /// The first argument that isn't known.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, UnknownArgument> {
        let mut command = Self::Run;
        for argument in arguments {
            command = match argument.as_str() {
                "--check" => Self::Check,
                "--help" | "-h" => return Ok(Self::Help),
                "--version" | "-V" => return Ok(Self::Version),
                _ => return Err(UnknownArgument(argument)),
            };
        }
        Ok(command)
    }
}

const INTRODUCTION: &str = "\
Deploys finished projects: consumes ProjectReady events from RabbitMQ, runs the pipeline against servers over SSH, and
publishes progress and results.

Usage: slipway-worker [--check | --help | --version]

Flags
  --check        validate the configuration and the files it names, then exit with 0 or 64
  -h, --help     print this
  -V, --version  print the version

Exit codes
  0   stopped after a drain (SIGTERM or SIGINT)
  1   a second signal came during the drain
  64  the configuration or the command line is wrong
  70  the worker itself failed
  An absent database or broker is waited for.

Environment. An empty variable counts as unset; durations are written as 25s, 1m 30s or 500ms.
";

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = format!("{}\n\n{INTRODUCTION}", version());
    for group in GROUPS {
        let _ = write!(text, "\n{}\n", group.title);
        for entry in group.entries {
            write_variable(&mut text, entry);
        }
    }
    text
}

fn write_variable(text: &mut String, entry: &VariableDoc) {
    let unset = match entry.unset {
        Unset::Required => "required".to_owned(),
        Unset::Optional => "optional".to_owned(),
        Unset::Default(value) => format!("default {value}"),
        Unset::Derived(description) => format!("default: {description}"),
    };
    let _ = writeln!(text, "  {} ({unset})", entry.name);
    wrap(text, &format!("{}.", entry.about));
    wrap(text, &format!("Must be {}.", entry.expected));
}

/// Lines of at most 100 columns, indented below the variable's name.
fn wrap(text: &mut String, paragraph: &str) {
    let mut column = 0;
    for word in paragraph.split(' ') {
        if column == 0 || column + 1 + word.len() > 100 {
            text.push_str(if column == 0 { "      " } else { "\n      " });
            column = 6;
        } else {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += word.len();
    }
    text.push('\n');
}

/// The text of `--version`.
#[must_use]
pub fn version() -> String {
    format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
}

/// Prints data. A reader that has gone away (`| head`) is no error.
pub fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

/// Prints a message for a person, before logging works.
pub fn print_error(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "error: {text}");
}

/// Prints a warning for a person, before logging works.
pub fn print_warning(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}
