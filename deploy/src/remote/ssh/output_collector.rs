//! Collects what one remote command prints: values for us, and redacted lines for people. How the bytes become lines is
//! in `remote::output`, and how lines are redacted in `secrets::redact`.

use crate::budget::{Budget, COMMAND_LINES};
use crate::remote::output::{LineSplitter, ScriptOutput, cut};
use crate::secrets::redact::{RedactedLines, Redactor};

type OnLine<'a> = &'a (dyn Fn(&str) + Sync);

/// The output of a command so far.
pub(super) struct OutputCollector<'a> {
    output: ScriptOutput,
    /// Only stdout carries values; stderr belongs to the programs.
    stdout: Stream,
    stderr: Stream,
    told: ToldLines<'a>,
    redactor: &'a Redactor,
}

/// Who gets the lines that are for people, up to a number.
struct ToldLines<'a> {
    on_line: OnLine<'a>,
    budget: Budget,
}

impl ToldLines<'_> {
    fn tell(&mut self, line: &str) {
        let was_spent = self.budget.is_spent();
        if self.budget.take(line.len()) {
            (self.on_line)(line);
        } else if !was_spent {
            (self.on_line)("… the command prints more than is told; an error would show the end of it");
        }
    }
}

/// One of its two streams.
struct Stream {
    splitter: LineSplitter,
    mark: String,
    lines: RedactedLines,
}

impl<'a> OutputCollector<'a> {
    /// Lines of stdout that begin with `mark` are values; `on_line` gets all others.
    pub(super) fn new(mark: String, redactor: &'a Redactor, on_line: OnLine<'a>) -> Self {
        let stream = |mark| Stream { splitter: LineSplitter::default(), mark, lines: RedactedLines::default() };
        Self {
            output: ScriptOutput::default(),
            stdout: stream(mark),
            stderr: stream("\0".to_owned()),
            told: ToldLines { on_line, budget: COMMAND_LINES },
            redactor,
        }
    }

    pub(super) fn feed_stdout(&mut self, bytes: &[u8]) {
        self.stdout.feed(bytes, &mut self.output, self.redactor, &mut self.told);
    }

    pub(super) fn feed_stderr(&mut self, bytes: &[u8]) {
        self.stderr.feed(bytes, &mut self.output, self.redactor, &mut self.told);
    }

    /// Whether the command has reported more than is kept.
    pub(super) fn is_too_large(&self) -> bool {
        self.output.is_too_large()
    }

    pub(super) fn finish(mut self) -> ScriptOutput {
        for stream in [self.stdout, self.stderr] {
            stream.finish(&mut self.output, self.redactor, &mut self.told);
        }
        self.output
    }
}

impl Stream {
    fn feed(&mut self, bytes: &[u8], output: &mut ScriptOutput, redactor: &Redactor, told: &mut ToldLines<'_>) {
        let Self { splitter, mark, lines } = self;
        splitter.feed(bytes, |line| sort_line(line, mark, lines, output, redactor, told));
    }

    fn finish(self, output: &mut ScriptOutput, redactor: &Redactor, told: &mut ToldLines<'_>) {
        let Self { mut splitter, mark, mut lines } = self;
        splitter.finish(|line| sort_line(line, &mark, &mut lines, output, redactor, told));
        lines.finish(redactor, |line| report_line(line, output, told));
    }
}

/// Stores a value; hands any other line on as soon as it is redacted.
fn sort_line(
    line: &[u8],
    mark: &str,
    lines: &mut RedactedLines,
    output: &mut ScriptOutput,
    redactor: &Redactor,
    told: &mut ToldLines<'_>,
) {
    if let Some(text) = output.take_line(mark, line) {
        lines.push(redactor, &text, |line| report_line(line, output, told));
    }
}

fn report_line(line: String, output: &mut ScriptOutput, told: &mut ToldLines<'_>) {
    let line = cut(line);
    told.tell(&line);
    output.push_tail(line);
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn a_command_that_prints_for_ever_is_told_in_part_and_its_end_is_kept() {
        let (redactor, told) = (Redactor::default(), Mutex::new(Vec::new()));
        let on_line = |line: &str| told.lock().map(|mut told| told.push(line.len())).unwrap_or_default();
        let mut collector = OutputCollector::new("mark".to_owned(), &redactor, &on_line);
        for number in 0..30_000 {
            collector.feed_stdout(format!("line {number}\n").as_bytes());
        }
        let output = collector.finish();
        assert_eq!(output.tail().last().map(String::as_str), Some("line 29999"));
        assert_eq!(told.lock().map(|told| told.len()).unwrap_or_default(), 10_001);
    }
}
