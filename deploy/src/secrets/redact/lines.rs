//! The lines of one stream, cleaned together: a secret may begin on one line and end on the next. A line that may be
//! the beginning of a secret waits for those that follow. Each line is searched once.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use super::search::Search;
use super::{Redactor, mask, merge_overlapping};

/// Lines that wait at most; more are no secret, or one whose beginning is masked already.
const MAX_WAITING: usize = 64;
/// How much of text waits at most, but for one line.
const MAX_WAITING_BYTES: usize = 256 * 1024;

/// The end of a stream that isn't emitted yet.
#[derive(Default)]
pub struct RedactedLines {
    search: Option<Search>,
    waiting: VecDeque<(usize, String)>,
    waiting_bytes: usize,
    secrets: Vec<Range<usize>>,
    /// Where the next line will stand in the stream.
    next: usize,
}

impl RedactedLines {
    /// Takes a line, without its end; emits the lines that are clean now, in order.
    pub fn push(&mut self, redactor: &Redactor, line: &str, emit: impl FnMut(String)) {
        let automata = redactor.automata();
        let known = self.search.take().filter(|search| search.seeks(&automata));
        let mut search = known.unwrap_or_else(|| {
            let mut search = Search::new(Arc::clone(&automata));
            self.waiting.iter().for_each(|(start, line)| search.read_line(line, *start, &mut self.secrets));
            search
        });
        search.read_line(line, self.next, &mut self.secrets);
        self.waiting.push_back((self.next, line.to_owned()));
        self.waiting_bytes += line.len();
        self.next += line.len() + 1;
        let open = search.open();
        self.search = Some(search);
        let too_many = self.waiting.len() > MAX_WAITING || self.waiting_bytes > MAX_WAITING_BYTES;
        match open {
            Some(open) if too_many => {
                self.mask_cut_off(open);
                self.emit_before(self.next, emit);
            }
            open => self.emit_before(open.map_or(self.next, |(start, _)| start), emit),
        }
    }

    /// Emits what still waits, at the end of the stream. The beginning of a secret that was cut off is masked if it is half
    /// of the secret or more.
    pub fn finish(&mut self, _redactor: &Redactor, emit: impl FnMut(String)) {
        if let Some(mut search) = self.search.take() {
            search.finish(&mut self.secrets);
            if let Some(open) = search.open() {
                self.mask_cut_off(open);
            }
        }
        self.emit_before(self.next, emit);
    }

    fn mask_cut_off(&mut self, (start, half): (usize, bool)) {
        // What follows a piece of a secret directly is the next piece.
        if half || self.secrets.iter().any(|secret| secret.end <= start && self.is_white(secret.end..start)) {
            self.secrets.push(start..self.next);
        }
    }

    fn is_white(&self, range: Range<usize>) -> bool {
        let letters =
            self.waiting.iter().flat_map(|(start, line)| line.char_indices().map(move |(at, c)| (start + at, c)));
        letters.filter(|(at, _)| range.contains(at)).all(|(_, letter)| letter.is_whitespace())
    }

    /// Emits the lines that end before a place.
    fn emit_before(&mut self, place: usize, mut emit: impl FnMut(String)) {
        if self.secrets.len() > 1 {
            self.secrets = merge_overlapping(std::mem::take(&mut self.secrets));
        }
        while let Some((start, line)) = self.waiting.pop_front_if(|(start, line)| *start + line.len() <= place) {
            self.waiting_bytes -= line.len();
            if self.secrets.is_empty() {
                emit(line);
                continue;
            }
            let within = |secret: &Range<usize>| {
                let clip = |at: usize| at.clamp(start, start + line.len()) - start;
                Some(clip(secret.start)..clip(secret.end)).filter(|range| !range.is_empty())
            };
            emit(mask(&line, &self.secrets.iter().filter_map(within).collect::<Vec<_>>()));
        }
        let first = self.waiting.front().map_or(self.next, |(start, _)| *start);
        self.secrets.retain(|secret| secret.end >= first);
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
