//! The lines of one stream, cleaned together: a secret may begin on one line and end on the next. A line that may be
//! the beginning of a secret waits for those that follow.

use super::{Redactor, mask};

/// Lines that wait at most; a long key has no more.
const MAX_WAITING: usize = 64;

/// The end of a stream that isn't emitted yet.
#[derive(Debug, Default)]
pub struct RedactedLines {
    waiting: Vec<String>,
}

impl RedactedLines {
    /// Takes a line, without its end; emits the lines that are clean now, in order.
    pub fn push(&mut self, redactor: &Redactor, line: &str, mut emit: impl FnMut(String)) {
        self.waiting.push(line.to_owned());
        let text = self.waiting.join("\n");
        let found = redactor.find(&text);
        let Some((open, _)) = found.open else {
            self.waiting.clear();
            mask(&text, &found.secrets).split('\n').for_each(|line| emit(line.to_owned()));
            return;
        };
        if self.waiting.len() > MAX_WAITING {
            return self.finish(redactor, emit);
        }
        let line_of = |at: usize| text[..at].rfind('\n').map_or(0, |end| end + 1);
        let mut cut = line_of(open);
        // No secret may be cut in two by what is emitted now.
        for secret in found.secrets.iter().rev().filter(|s| s.start <= open) {
            if secret.end > cut {
                cut = cut.min(line_of(secret.start));
            }
        }
        let ready = text[..cut].matches('\n').count();
        if ready > 0 {
            let masked = mask(&text, &found.secrets);
            masked.split('\n').take(ready).for_each(|line| emit(line.to_owned()));
            self.waiting.drain(..ready);
        }
    }

    /// Emits what still waits, at the end of the stream. The beginning of a secret that was cut off is masked if it is half
    /// of the secret or more.
    pub fn finish(&mut self, redactor: &Redactor, mut emit: impl FnMut(String)) {
        let text = std::mem::take(&mut self.waiting).join("\n");
        let found = redactor.find(&text);
        let mut secrets = found.secrets;
        if let Some((open, true)) = found.open {
            secrets.push(open..text.len());
        }
        if !text.is_empty() {
            mask(&text, &super::merge_overlapping(secrets)).split('\n').for_each(|line| emit(line.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::super::MASK;
    use super::*;

    fn redact_lines(secret: &str, lines: &[&str]) -> Vec<String> {
        let redactor = Redactor::default();
        redactor.learn(&SecretString::from(secret.to_owned()));
        let (mut heard, mut all) = (RedactedLines::default(), Vec::new());
        for line in lines {
            heard.push(&redactor, line, |line| all.push(line));
        }
        heard.finish(&redactor, |line| all.push(line));
        all
    }

    #[test]
    fn a_line_that_begins_like_a_secret_is_told_once_the_next_one_refutes_it() {
        assert_eq!(redact_lines("topsecret", &["stop", "here", "to"]), ["stop", "here", "to"]);
    }

    #[test]
    fn the_beginning_of_a_secret_that_is_cut_off_is_masked() {
        assert_eq!(redact_lines("topsecret", &["it is topsec"]), [format!("it is {MASK}")]);
    }

    #[test]
    fn what_looks_like_the_beginning_of_a_secret_for_ever_is_told_in_the_end() {
        let endless = vec!["ab"; 300];
        let all = redact_lines(&"ab".repeat(500), &endless);
        assert_eq!(all.len(), 300);
    }
}
