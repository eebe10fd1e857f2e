//! Collects what one remote command prints: values for us, and redacted lines for people. How the bytes become lines is
//! in `remote::output`, and how lines are redacted in `secrets::redact`.

use crate::remote::output::{LineSplitter, ScriptOutput, cut};
use crate::secrets::redact::{RedactedLines, Redactor};

type OnLine<'a> = &'a (dyn Fn(&str) + Sync);

/// The output of a command so far.
pub(super) struct OutputCollector<'a> {
    output: ScriptOutput,
    /// Only stdout carries values; stderr belongs to the programs.
    stdout: Stream,
    stderr: Stream,
    redactor: &'a Redactor,
    on_line: OnLine<'a>,
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
            redactor,
            on_line,
        }
    }

    pub(super) fn feed_stdout(&mut self, bytes: &[u8]) {
        self.stdout.feed(bytes, &mut self.output, self.redactor, self.on_line);
    }

    pub(super) fn feed_stderr(&mut self, bytes: &[u8]) {
        self.stderr.feed(bytes, &mut self.output, self.redactor, self.on_line);
    }

    pub(super) fn finish(mut self) -> ScriptOutput {
        for stream in [self.stdout, self.stderr] {
            stream.finish(&mut self.output, self.redactor, self.on_line);
        }
        self.output
    }
}

impl Stream {
    fn feed(&mut self, bytes: &[u8], output: &mut ScriptOutput, redactor: &Redactor, on_line: OnLine<'_>) {
        let Self { splitter, mark, lines } = self;
        splitter.feed(bytes, |line| sort_line(line, mark, lines, output, redactor, on_line));
    }

    fn finish(self, output: &mut ScriptOutput, redactor: &Redactor, on_line: OnLine<'_>) {
        let Self { mut splitter, mark, mut lines } = self;
        splitter.finish(|line| sort_line(line, &mark, &mut lines, output, redactor, on_line));
        lines.finish(redactor, |line| report_line(line, output, on_line));
    }
}

/// Stores a value; hands any other line on as soon as it is redacted.
fn sort_line(
    line: &[u8],
    mark: &str,
    lines: &mut RedactedLines,
    output: &mut ScriptOutput,
    redactor: &Redactor,
    on_line: OnLine<'_>,
) {
    if let Some(text) = output.take_line(mark, line) {
        lines.push(redactor, &text, |line| report_line(line, output, on_line));
    }
}

fn report_line(line: String, output: &mut ScriptOutput, on_line: OnLine<'_>) {
    let line = cut(line);
    on_line(&line);
    output.push_tail(line);
}
