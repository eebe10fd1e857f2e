//! The search for all needles in one text, which may come in lines: in the text as it is and, where it has several
//! lines, in what is left of it without white space. A program may have broken a line anywhere, indented the rest, and
//! dropped the space between them.

use std::ops::Range;
use std::sync::Arc;

use super::automaton::Automaton;
use super::needle::Automata;
use super::scanner::{Places, REACH, Scanner};

/// Of a line that is longer, only so much of its ends is searched without white space: a secret that goes on from the
/// line before, or on to the next one, reaches no further.
const LONG_LINE: usize = 4 * REACH;

/// See the module.
pub(super) struct Search {
    automata: Arc<Automata>,
    as_it_is: [Scanner; 2],
    squeezed: Squeezed,
    /// The present line with its end. Kept for its memory.
    line: Vec<u8>,
}

/// The text without white space, as far as it isn't read yet.
struct Squeezed {
    text: Vec<u8>,
    places: Vec<usize>,
    /// Each with how much of `text` it has read.
    scanners: [(Scanner, usize); 2],
    /// A line for itself is left as it is: a short secret would be found between its words.
    whole_before: usize,
}

impl Search {
    pub(super) fn new(automata: Arc<Automata>) -> Self {
        let scanners = || [Scanner::new(), Scanner::new()];
        let squeezed = Squeezed {
            text: Vec::new(),
            places: Vec::new(),
            scanners: scanners().map(|scanner| (scanner, 0)),
            whole_before: usize::MAX,
        };
        Self { automata, as_it_is: scanners(), squeezed, line: Vec::new() }
    }

    pub(super) fn seeks(&self, automata: &Arc<Automata>) -> bool {
        Arc::ptr_eq(&self.automata, automata)
    }

    fn seeks_nothing(&self) -> bool {
        both(&self.automata).iter().all(|automaton| automaton.is_empty())
    }

    /// Reads a whole text; nothing may come after it.
    pub(super) fn read_all(&mut self, text: &str, found: &mut Vec<Range<usize>>) {
        if self.seeks_nothing() {
            return;
        }
        self.read_as_it_is(text.as_bytes(), 0, true, found);
        if text.contains('\n') {
            self.squeezed.add(text, 0);
            self.squeezed.read(&self.automata, true, found);
        }
    }

    /// Reads the next line, which stands at `start`, and its end.
    pub(super) fn read_line(&mut self, line: &str, start: usize, found: &mut Vec<Range<usize>>) {
        if self.seeks_nothing() {
            return;
        }
        // The end of a line ends every escape.
        let mut whole = std::mem::take(&mut self.line);
        whole.clear();
        whole.extend_from_slice(line.as_bytes());
        whole.push(b'\n');
        self.read_as_it_is(&whole, start, false, found);
        self.line = whole;
        self.squeezed.whole_before = start;
        let mut rest = 0;
        if line.len() > LONG_LINE {
            let head = line.floor_char_boundary(head_of(line.bytes()));
            rest = line.ceil_char_boundary(line.len() - head_of(line.bytes().rev()));
            if head < rest {
                self.squeezed.add(&line[..head], start);
                self.squeezed.read(&self.automata, true, found);
                self.squeezed.start_anew();
            } else {
                rest = 0;
            }
        }
        self.squeezed.add(&line[rest..], start + rest);
        self.squeezed.read(&self.automata, false, found);
    }

    /// No line follows.
    pub(super) fn finish(&mut self, found: &mut Vec<Range<usize>>) {
        self.squeezed.read(&self.automata, true, found);
    }

    /// Where begins what may become a secret with the next line, and whether half of it is there already.
    pub(super) fn open(&mut self) -> Option<(usize, bool)> {
        if self.seeks_nothing() {
            return None;
        }
        let Squeezed { places, scanners, .. } = &mut self.squeezed;
        let unread = scanners.iter().filter_map(|(_, read)| places.get(*read).map(|start| (*start, false))).min();
        let scanners = self.as_it_is.iter_mut().zip(both(&self.automata));
        let squeezed = self.squeezed.scanners.iter_mut().map(|(scanner, _)| scanner).zip(both(&self.automata));
        let open = scanners.chain(squeezed).filter_map(|(scanner, automaton)| scanner.open(automaton));
        open.chain(unread).reduce(|(a, x), (b, y)| (a.min(b), x || y))
    }

    fn read_as_it_is(&mut self, text: &[u8], start: usize, last: bool, found: &mut Vec<Range<usize>>) {
        for (scanner, automaton) in self.as_it_is.iter_mut().zip(both(&self.automata)) {
            if !automaton.is_empty() {
                let mut seen = Vec::new();
                scanner.read(automaton, text, &Straight(start), last, &mut seen);
                found.append(&mut seen);
            }
        }
    }
}

/// How many bytes have so much in them as a secret reaches into.
fn head_of(bytes: impl Iterator<Item = u8>) -> usize {
    let (mut length, mut black) = (0, 0);
    for byte in bytes {
        length += 1;
        black += usize::from(!byte.is_ascii_whitespace());
        if black > REACH {
            break;
        }
    }
    length
}

impl Squeezed {
    /// What comes next has nothing to do with what was read.
    fn start_anew(&mut self) {
        self.text.clear();
        self.places.clear();
        for (scanner, read) in &mut self.scanners {
            scanner.start_anew();
            *read = 0;
        }
    }

    fn add(&mut self, text: &str, start: usize) {
        self.text.reserve(text.len());
        self.places.reserve(text.len());
        let mut done = 0;
        for (at, byte) in text.bytes().enumerate() {
            if at < done {
                continue;
            }
            if byte.is_ascii() {
                if !byte.is_ascii_whitespace() && byte != 0x0b {
                    self.text.push(byte);
                    self.places.push(start + at);
                }
                continue;
            }
            let Some(letter) = text[at..].chars().next() else { break };
            done = at + letter.len_utf8();
            if !letter.is_whitespace() {
                let end = at + letter.len_utf8();
                self.text.extend_from_slice(&text.as_bytes()[at..end]);
                self.places.extend(start + at..start + end);
            }
        }
    }

    fn read(&mut self, automata: &Automata, last: bool, found: &mut Vec<Range<usize>>) {
        for ((scanner, read), automaton) in self.scanners.iter_mut().zip(both(automata)) {
            let places = Listed { places: &self.places[*read..], whole_before: self.whole_before };
            let mut seen = Vec::new();
            *read += scanner.read(automaton, &self.text[*read..], &places, last, &mut seen);
            found.append(&mut seen);
        }
        let done = self.scanners.iter().map(|(_, read)| *read).min().unwrap_or(0);
        self.text.drain(..done);
        self.places.drain(..done);
        self.scanners.iter_mut().for_each(|(_, read)| *read -= done);
    }
}

fn both(automata: &Automata) -> [&Automaton; 2] {
    [&automata.plain, &automata.base64]
}

/// One place after the other.
struct Straight(usize);

impl Places for Straight {
    fn of(&self, at: usize) -> usize {
        self.0 + at
    }

    fn whole_before(&self) -> usize {
        usize::MAX
    }
}

struct Listed<'a> {
    places: &'a [usize],
    whole_before: usize,
}

impl Places for Listed<'_> {
    fn of(&self, at: usize) -> usize {
        self.places[at]
    }

    fn whole_before(&self) -> usize {
        self.whole_before
    }
}
