//! From the bytes of a remote command to lines: marked ones, which are values for us, and all others, which are for people
//! and of which a bounded tail is kept. Redacting them is not done here.

use std::collections::{BTreeMap, VecDeque};

use crate::budget::{Budget, SCRIPT_VALUES};

/// Longest line of a program that is reported; the rest of it is cut off, after redaction.
const MAX_LINE: usize = 4 * 1024;
/// Longest line of a program that is read.
const MAX_TEXT: usize = 64 * 1024;
/// Longest line of ours: a whole file in base64.
const MAX_VALUE: usize = 4 * 1024 * 1024;
/// Lines kept for an error's tail.
pub const TAIL: usize = 40;

/// Cuts a stream into lines; memory is bounded by [`MAX_VALUE`].
#[derive(Default)]
pub struct LineSplitter {
    rest: Vec<u8>,
}

impl LineSplitter {
    /// Feeds bytes and hands every complete line to `line`. A carriage return ends a line too (progress bars).
    pub fn feed(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8])) {
        for part in bytes.split_inclusive(|b| matches!(b, b'\n' | b'\r')) {
            let (text, complete) = match part.split_last() {
                Some((b'\n' | b'\r', text)) => (text, true),
                _ => (part, false),
            };
            let room = MAX_VALUE.saturating_sub(self.rest.len());
            self.rest.extend_from_slice(&text[..text.len().min(room)]);
            if complete {
                line(&std::mem::take(&mut self.rest));
            }
        }
    }

    /// The last line, if it had no end.
    pub fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            line(&std::mem::take(&mut self.rest));
        }
    }
}

/// What a script printed: values for us, and the end of what is for people.
#[derive(Debug, Clone)]
pub struct ScriptOutput {
    values: BTreeMap<String, Vec<String>>,
    budget: Budget,
    too_large: bool,
    tail: VecDeque<String>,
}

impl Default for ScriptOutput {
    fn default() -> Self {
        Self { values: BTreeMap::new(), budget: SCRIPT_VALUES, too_large: false, tail: VecDeque::new() }
    }
}

impl ScriptOutput {
    /// Whether there were more values than are kept; then none may be believed.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// Stores a line that is a value. Returns any other as text without control characters, not redacted yet.
    pub fn take_line(&mut self, mark: &str, line: &[u8]) -> Option<String> {
        let line = String::from_utf8_lossy(line);
        let ours = line.strip_prefix(mark).and_then(|rest| rest.strip_prefix(' '));
        if let Some((key, value)) = ours.map(|rest| rest.split_once(' ').unwrap_or((rest, ""))) {
            if self.budget.take(line.len()) {
                self.values.entry(plain(key)).or_default().push(plain(value));
            } else {
                self.too_large = true;
            }
            return None;
        }
        let text = plain(line[..line.floor_char_boundary(MAX_TEXT)].trim_end());
        (!text.is_empty()).then_some(text)
    }

    /// Adds a value that the script hasn't told, since it's known.
    pub(crate) fn assume(&mut self, key: &str, value: &str) {
        self.values.entry(plain(key)).or_default().push(plain(value));
    }

    /// Adds a line to the tail; it must be redacted already.
    pub fn push_tail(&mut self, line: String) {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// Whether there is any value.
    pub(crate) fn has_values(&self) -> bool {
        !self.values.is_empty()
    }

    /// The last value under `key`.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.values(key).last().map(String::as_str)
    }

    /// All values under `key`, in order.
    #[must_use]
    pub fn values(&self, key: &str) -> &[String] {
        self.values.get(key).map_or(&[], Vec::as_slice)
    }

    /// The end of what was printed.
    #[must_use]
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}

/// A redacted line as it's reported: at most [`MAX_LINE`] bytes.
#[must_use]
pub fn cut(mut line: String) -> String {
    if line.len() > MAX_LINE {
        line.truncate(line.floor_char_boundary(MAX_LINE));
        line.push('…');
    }
    line
}

/// Without terminal sequences and control characters.
pub(crate) fn plain(line: &str) -> String {
    without_controls(line, |c| c == '\t')
}

/// As [`plain`], for a text of several lines.
pub(crate) fn plain_text(text: &str) -> String {
    without_controls(text, |c| matches!(c, '\t' | '\n'))
}

/// Control characters, and those that turn the direction of what follows.
fn is_acted_upon(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn without_controls(line: &str, stays: impl Fn(char) -> bool) -> String {
    if !line.contains(is_acted_upon) {
        return line.to_owned();
    }
    let mut text = String::new();
    let mut chars = line.chars();
    let mut endless = false;
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            match chars.next() {
                // CSI sequences end with a byte from @ to ~.
                Some('[') => drop(chars.find(|c| ('@'..='~').contains(c))),
                // OSC and the like end with BEL, or with ESC and a backslash.
                Some(']' | 'P' | 'X' | '^' | '_') if !endless => endless = !skip_string(&mut chars),
                _ => {}
            }
        } else if stays(c) || !is_acted_upon(c) {
            text.push(c);
        }
    }
    text
}

/// To the end of a terminal's command with a text in it. False: there is none, and only its beginning is left out, since
/// what follows may be what people have to know.
fn skip_string(chars: &mut std::str::Chars<'_>) -> bool {
    let mut ahead = chars.clone();
    while let Some(c) = ahead.next() {
        if c == '\u{1b}' && ahead.clone().next() == Some('\\') {
            ahead.next();
        } else if !matches!(c, '\u{7}' | '\u{9c}') {
            continue;
        }
        *chars = ahead;
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marked_line_is_a_value_and_any_other_is_text() {
        let mut output = ScriptOutput::default();
        let mut lines = Vec::new();
        let mut splitter = LineSplitter::default();
        for chunk in ["ab12 hea", "d 42\nother ab12 head 43\n\u{1b}[32mgreen\u{1b}[0m\rab12 flag\n", "no end"] {
            splitter.feed(chunk.as_bytes(), |l| lines.extend(output.take_line("ab12", l)));
        }
        splitter.finish(|l| lines.extend(output.take_line("ab12", l)));
        assert_eq!(output.value("head"), Some("42"));
        assert_eq!(output.value("flag"), Some(""));
        assert_eq!(lines, ["other ab12 head 43", "green", "no end"]);
    }

    #[test]
    fn what_terminals_act_upon_is_left_out() {
        for (shown, left) in [
            ("\u{1b}]0;title\u{7}a", "a"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\b", "linkb"),
            ("\u{1b}]0;no end, and an error", "0;no end, and an error"),
            ("\u{1b}[2J\u{1b}cA\0B\u{9b}31mC\u{1b}", "AB31mC"),
            ("a\u{202e}b\u{2066}c", "abc"),
        ] {
            assert_eq!(plain(shown), left, "{shown:?}");
        }
        assert_eq!(plain_text("a\nb\u{1b}[0m\tc\r"), "a\nb\tc");
        let mut output = ScriptOutput::default();
        output.take_line("m", b"m os Debian\0 \x1b[2J12 \xff");
        assert_eq!(output.value("os"), Some("Debian 12 \u{fffd}"));
        // In one pass, however often it begins.
        assert_eq!(plain(&"\u{1b}]".repeat(500_000)), "");
    }

    #[test]
    fn fuzzed_output_is_read_alike_however_it_comes_in_pieces() {
        let printed = b"m os Debian\nline\rm failed disk-full no room\r\n\x1b[31mred\x1b[0m\n\nm service backend running - 0 0 a:b\nend";
        slipway_protocol::fuzz::run("scripts' output", &[printed, b"m head 0123\nm done clone env\n"], |input| {
            let read = |size: usize| {
                let (mut splitter, mut output, mut lines) =
                    (LineSplitter::default(), ScriptOutput::default(), Vec::new());
                for piece in input.chunks(size) {
                    splitter.feed(piece, |line| lines.extend(output.take_line("m", line)));
                }
                splitter.finish(|line| lines.extend(output.take_line("m", line)));
                (lines, output.values)
            };
            let (lines, values) = read(input.len().max(1));
            assert_eq!((&lines, &values), (&read(7).0, &read(7).1));
            let told = lines.iter().chain(values.values().flatten()).chain(values.keys());
            assert!(
                told.clone().all(|text| !text.contains(|c: char| c.is_control() && c != '\t')),
                "{lines:?} {values:?}"
            );
        });
    }

    #[test]
    fn endless_values_are_not_kept() {
        let mut output = ScriptOutput::default();
        let long = format!("m key {}", "x".repeat(MAX_VALUE - 10));
        for _ in 0..100 {
            assert_eq!(output.take_line("m", long.as_bytes()), None);
        }
        assert!(output.is_too_large() && output.values("key").len() == 4, "{}", output.values("key").len());
        let mut output = ScriptOutput::default();
        for number in 0..150_000 {
            output.take_line("m", format!("m {number}").as_bytes());
        }
        assert!(output.is_too_large() && output.values.len() == 100_000);
    }

    #[test]
    fn endless_output_without_a_newline_is_cut_off() {
        let mut splitter = LineSplitter::default();
        let chunk = vec![b'x'; 1024 * 1024];
        for _ in 0..20 {
            splitter.feed(&chunk, |_| {});
        }
        assert!(splitter.rest.len() <= MAX_VALUE);
        let mut output = ScriptOutput::default();
        splitter.finish(|l| assert!(output.take_line("m", l).is_some_and(|t| cut(t).len() <= MAX_LINE + 8)));
    }
}
