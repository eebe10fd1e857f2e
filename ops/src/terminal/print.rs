//! The only module that prints. Data goes to stdout, messages to stderr; everything can be understood without colour.
//!
//! Text that came from elsewhere (log lines, server names in errors) can't steer the terminal: control characters are
//! replaced. A reader that went away (`| head`) ends the program quietly. Live progress bars are drawn by
//! `watch::view`, on stderr, through indicatif.

use std::fmt::Write as _;
use std::io::{ErrorKind, IsTerminal as _, Write};

use clap::builder::styling::{AnsiColor, Style};
use serde::Serialize;

use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::fit;

/// Prints for one command, as text or as JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Printer {
    json: bool,
    /// Whether stderr understands colour and wants it.
    colour: bool,
}

impl Printer {
    pub(crate) fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        Self { json, colour: wanted && std::io::stderr().is_terminal() }
    }

    /// Whether data is asked for as JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person watches: both streams are terminals, and no JSON is asked for.
    pub(crate) fn is_live(&self) -> bool {
        !self.json && std::io::stdout().is_terminal() && std::io::stderr().is_terminal()
    }

    /// One line of data.
    pub(crate) fn line(&self, text: &str) {
        write_data(format!("{}\n", clean(text)));
    }

    /// One JSON value on one line.
    pub(crate) fn json(&self, value: &impl Serialize) {
        write_data(format!("{}\n", json_text(value, false)));
    }

    /// One JSON value, laid out for people and for files.
    pub(crate) fn pretty_json(&self, value: &impl Serialize) {
        write_data(format!("{}\n", json_text(value, true)));
    }

    /// Bytes as they are, for a file or another program.
    pub(crate) fn bytes(&self, bytes: &[u8]) {
        write_data(bytes);
    }

    /// A table; an empty one prints nothing.
    pub(crate) fn table(&self, table: &Table) {
        write_data(table.text(width()));
    }

    /// A message beside the data.
    pub(crate) fn message(&self, text: &str) {
        write_message(format!("{}\n", clean(text)));
    }

    /// Asks the person at the terminal; `None` when there is none. Anything but a clear yes is a no.
    pub(crate) fn ask_yes_no(&self, question: &str) -> Option<bool> {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return None;
        }
        write_message(format!("{} [y/N] ", clean(question)));
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// What could be done next, after an empty line.
    pub(crate) fn hint(&self, text: &str) {
        let label = self.paint("hint:", AnsiColor::Cyan);
        write_message(format!("\n{label} {}\n", clean(text)));
    }

    /// What went wrong, and its hint.
    pub(crate) fn error(&self, error: &CliError) {
        let label = self.paint("error:", AnsiColor::Red);
        write_message(format!("{label} {}\n", clean(&error.message)));
        for line in &error.details {
            write_message(format!("  {}\n", clean(line)));
        }
        if let Some(hint) = &error.hint {
            self.hint(hint);
        }
    }

    fn paint(&self, text: &str, colour: AnsiColor) -> String {
        let style: Style = if self.colour { colour.on_default().bold() } else { Style::new() };
        format!("{style}{text}{style:#}")
    }
}

/// Columns of text, aligned to the left; the last one isn't padded.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|h| (*h).to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell).replace('\n', " ")).collect());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The table in `width` columns, as far as words can be broken; what doesn't fit into its column goes on below.
    fn text(&self, width: usize) -> String {
        if self.is_empty() {
            return String::new();
        }
        let widths = fit::column_widths(&self.rows, width);
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<Vec<String>> =
                row.iter().zip(&widths).map(|(cell, width)| fit::wrap(cell, *width)).collect();
            for i in 0..cells.iter().map(Vec::len).max().unwrap_or_default() {
                let mut line = String::new();
                for (cell, width) in cells.iter().zip(&widths) {
                    let part = cell.get(i).map_or("", String::as_str);
                    let _ = write!(line, "{part:<width$}  ");
                }
                text.push_str(line.trim_end());
                text.push('\n');
            }
        }
        text
    }
}

/// How wide a table may be: as COLUMNS says, else as the terminal is. A file or another program gets each row on one line.
fn width() -> usize {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let terminal = || std::io::stdout().is_terminal().then(|| console::Term::stdout().size_checked()).flatten();
    said.or_else(|| Some(usize::from(terminal()?.1))).unwrap_or(usize::MAX)
}

/// `text` without what could steer a terminal; tabs and line feeds stay.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

fn json_text(value: &impl Serialize, pretty: bool) -> String {
    let text = if pretty { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
    text.unwrap_or_else(|e| format!("{{\"error\":\"this can't be written as JSON: {e}\"}}"))
}

/// Data that isn't written counts: whoever keeps it in a file would miss it.
fn write_data(text: impl AsRef<[u8]>) {
    if let Err(error) = write_or_exit(&mut std::io::stdout(), text) {
        let _ = write_or_exit(&mut std::io::stderr(), format!("error: stdout can't be written: {error}\n"));
        std::process::exit(CommandExit::Failed as i32);
    }
}

fn write_message(text: impl AsRef<[u8]>) {
    let _ = write_or_exit(&mut std::io::stderr(), text);
}

fn write_or_exit(to: &mut impl Write, text: impl AsRef<[u8]>) -> std::io::Result<()> {
    let written = to.write_all(text.as_ref()).and_then(|()| to.flush());
    if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        // The reader has what it wanted; 141 is what a shell shows for a process that SIGPIPE ended.
        std::process::exit(141);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_have_no_trailing_spaces() {
        let mut table = Table::new(&["A", "LONGER"]);
        table.row(["wide cell".to_owned(), String::new()]);
        table.row(["x".to_owned(), "y".to_owned()]);
        for width in [17, usize::MAX] {
            assert_eq!(table.text(width), "A          LONGER\nwide cell\nx          y\n");
        }
        assert_eq!(table.text(16), "A         LONGER\nwide\ncell\nx         y\n");
    }

    #[test]
    fn foreign_text_cannot_steer_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\u{9b}c\td\n"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\td\n");
    }
}
