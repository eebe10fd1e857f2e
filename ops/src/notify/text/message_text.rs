//! A message as plain text: a title and lines, made no longer than a channel takes. Nobody's control characters and nothing
//! that has the shape of a credential is in it.

use slipway_deploy::secrets::redact::Redactor;
use slipway_protocol::holds_credential;

use crate::terminal::print::clean;

/// What stands for a line that looks like a credential. Events hold no known secret; this is for what nobody knew.
const WITHHELD: &str = "(withheld: it has the shape of a credential)";
/// What a line is shortened to at least, in characters, while others can be shortened.
const LEAST_OF_A_LINE: usize = 60;

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MessageText {
    /// What happened, in one line.
    pub(crate) title: String,
    /// The rest.
    pub(crate) lines: Vec<String>,
}

impl MessageText {
    /// Of lines, the first of which is the title; those that hold line breaks become several.
    pub(crate) fn new(lines: Vec<String>, redactor: &Redactor) -> Self {
        let safe = |line: &str| {
            let line = redactor.clean(&clean(line).replace('\t', " "));
            if holds_credential(&line) { WITHHELD.to_owned() } else { line.trim_end().to_owned() }
        };
        let mut lines: Vec<String> = lines.iter().flat_map(|line| line.split('\n')).map(safe).collect();
        let title = lines.iter().position(|line| !line.trim().is_empty()).map(|at| lines.drain(..=at).next_back());
        Self { title: title.flatten().unwrap_or_default(), lines }
    }

    /// The whole of it.
    pub(crate) fn plain(&self) -> String {
        std::iter::once(&self.title).chain(&self.lines).map(String::as_str).collect::<Vec<_>>().join("\n")
    }

    /// At most `limit` long, as `length` counts a text: the longest lines end in `…`; then lines are left out, the last but
    /// the very last ones first, since what to do and where to look stand there.
    pub(crate) fn shortened(mut self, limit: usize, length: fn(&str) -> usize) -> Self {
        while length(&self.plain()) > limit {
            let over = length(&self.plain()) - limit;
            let (at, longest) = self
                .lines
                .iter()
                .enumerate()
                .map(|(at, line)| (at, line.chars().count()))
                .max_by_key(|(_, length)| *length)
                .unwrap_or((0, 0));
            if longest > LEAST_OF_A_LINE {
                let kept = kept_of(&self.lines[at], length(&self.lines[at]).saturating_sub(over + 1), length);
                self.lines[at] = cut(&self.lines[at], kept.clamp(LEAST_OF_A_LINE - 1, longest - 1));
            } else if self.lines.len() > 4 {
                let middle = self.lines.len() - 4;
                self.lines.remove(middle);
            } else if self.title.chars().count() > LEAST_OF_A_LINE {
                self.title = cut(&self.title, LEAST_OF_A_LINE - 1);
            } else if self.lines.pop().is_none() {
                self.title = cut(&self.title, limit / 4);
                break;
            }
        }
        self
    }
}

/// How many characters from the beginning of a line take no more than `budget`.
fn kept_of(line: &str, budget: usize, length: fn(&str) -> usize) -> usize {
    let mut taken = 0;
    let fits = |c: &char| {
        taken += length(c.encode_utf8(&mut [0; 4]));
        taken <= budget
    };
    line.chars().take_while(fits).count()
}

/// The first `count` characters and `…`, at the end of a word where one is near.
fn cut(line: &str, count: usize) -> String {
    let kept: String = line.chars().take(count).collect();
    let word = kept.rfind(' ').filter(|at| kept.len() - at < 20).map_or(kept.as_str(), |at| &kept[..at]);
    format!("{}…", word.trim_end())
}

/// Telegram counts what a text takes in UTF-16.
pub(crate) fn utf16_length(text: &str) -> usize {
    text.encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[&str]) -> MessageText {
        MessageText::new(lines.iter().map(|line| (*line).to_owned()).collect(), &Redactor::default())
    }

    #[test]
    fn a_long_text_keeps_its_title_and_its_end() {
        let words = "word ".repeat(2000);
        let shortened =
            text(&["shop failed", &words, "What to do", "https://example.org/1"]).shortened(4096, utf16_length);
        assert!(utf16_length(&shortened.plain()) <= 4096 && utf16_length(&shortened.plain()) > 4000);
        assert_eq!(shortened.title, "shop failed");
        assert!(shortened.lines[0].ends_with("word…"), "{}", shortened.lines[0]);
        assert_eq!(shortened.lines[1..], ["What to do", "https://example.org/1"]);
    }

    #[test]
    fn whatever_it_is_made_of_it_fits_and_no_character_is_broken() {
        let many: Vec<String> = (0..500).map(|n| format!("- project-{n} 😀 failed")).collect();
        let huge = "😀".repeat(5000);
        for lines in [many, vec![huge.clone(), huge.clone(), huge.clone()], vec![huge; 80]] {
            for limit in [100, 1000, 4096] {
                let shortened = MessageText::new(lines.clone(), &Redactor::default()).shortened(limit, utf16_length);
                assert!(utf16_length(&shortened.plain()) <= limit, "{limit}: {}", utf16_length(&shortened.plain()));
                assert!(!shortened.title.is_empty());
            }
        }
    }

    #[test]
    fn what_looks_like_a_credential_and_what_steers_a_terminal_is_left_out() {
        let token = format!("ghp_{}", "a1B2".repeat(9));
        let text = text(&["", "a\u{1b}[2J title", &format!("fatal: {token}"), "two\nlines"]);
        assert_eq!(text.title, "a\u{fffd}[2J title");
        assert_eq!(text.lines, [WITHHELD, "two", "lines"]);
    }
}
