//! Follows a text through an automaton, in all the ways in which it can be read: an escape stands for itself or for what
//! it means. Each byte is read once for each way, and the number of ways is bounded. It may come in parts.

use std::ops::Range;

use super::automaton::{Automaton, MAX_NEEDLE, Position, ROOT};
use super::escape::Escape;

/// How many ways to read a text are followed at a time. Where there are more, as in a run of backslashes for which a
/// secret of backslashes is sought, what could be a secret is masked without being read.
const MAX_READINGS: usize = 6;
/// How far a reading that isn't followed may still have reached into the text.
const BLIND: usize = MAX_NEEDLE * Escape::MAX_LENGTH;
/// Readings wait for the place where they go on: an escape's end, or the next byte.
const PLACES: usize = Escape::MAX_LENGTH + 1;

/// Where parts of a text stand in the original.
pub(super) trait Places {
    /// The place of a byte.
    fn of(&self, at: usize) -> usize;
    /// Whether a whole secret must have begun before this place.
    fn whole_before(&self) -> usize;
}

/// One way to read the text so far.
#[derive(Clone)]
struct Reading {
    state: Position,
    last: usize,
    /// Where each of the last bytes that were read stands, in a ring; of each place the lower half. They are copied for
    /// each way.
    starts: [u32; MAX_NEEDLE],
}

impl Reading {
    const START: Self = Self { state: ROOT, last: 0, starts: [0; MAX_NEEDLE] };

    fn step(&mut self, state: Position, start: usize) {
        self.state = state;
        if state != ROOT {
            self.last = (self.last + 1) % MAX_NEEDLE;
            self.starts[self.last] = lower_half(start);
        }
    }

    /// Where the last `length` bytes begin, of which the last one isn't after `end`.
    fn start(&self, length: usize, end: usize) -> usize {
        let start = self.starts[(self.last + MAX_NEEDLE + 1 - length) % MAX_NEEDLE];
        end - lower_half(end).wrapping_sub(start) as usize
    }
}

#[expect(clippy::cast_possible_truncation, reason = "that is what it's for")]
fn lower_half(place: usize) -> u32 {
    place as u32
}

/// The state of a search.
pub(super) struct Scanner {
    readings: [Vec<Reading>; PLACES],
    /// How many readings wait for a place behind the present one.
    ahead: usize,
    at: usize,
    blind: usize,
    /// Where the last byte that was read stands.
    end: usize,
    /// Kept for its memory.
    spare: Vec<Reading>,
}

impl Scanner {
    pub(super) fn new() -> Self {
        let mut readings: [Vec<Reading>; PLACES] = Default::default();
        readings[0].push(Reading::START);
        Self { readings, ahead: 0, at: 0, blind: 0, end: 0, spare: Vec::new() }
    }

    /// Reads `text`; gives how many bytes were read. The others have to come again with more text, unless it is the
    /// `last`. Secrets are added to `found`, those that touch as one.
    pub(super) fn read(
        &mut self,
        automaton: &Automaton,
        text: &[u8],
        places: &impl Places,
        last: bool,
        found: &mut Vec<Range<usize>>,
    ) -> usize {
        let mut at = 0;
        loop {
            at += self.read_literally(automaton, &text[at..], places, at, found);
            let Some(byte) = text.get(at) else { break };
            let escape = if automaton.may_escape(*byte) { Escape::read(&text[at..]) } else { Escape::None };
            if escape == Escape::Cut && !last && self.could_begin(automaton, *byte) {
                break;
            }
            self.read_one(automaton, text, at, escape, places, found);
            at += 1;
        }
        if at > 0 {
            self.end = places.of(at - 1);
        }
        at
    }

    /// Reads up to an escape that may stand for what a needle has, as long as there is one reading alone.
    fn read_literally(
        &mut self,
        automaton: &Automaton,
        text: &[u8],
        places: &impl Places,
        before: usize,
        found: &mut Vec<Range<usize>>,
    ) -> usize {
        let [reading] = self.readings[self.at % PLACES].as_mut_slice() else { return 0 };
        if self.ahead > 0 || self.blind > 0 {
            return 0;
        }
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            if automaton.may_escape(byte) {
                let means_nothing = match Escape::read(&text[at..]) {
                    Escape::None => true,
                    Escape::Cut => false,
                    Escape::Means(_, meaning) => {
                        let state = meaning.bytes().iter().fold(reading.state, |state, b| automaton.next(state, *b));
                        state == ROOT
                    }
                };
                if !means_nothing {
                    break;
                }
            }
            let state = automaton.next(reading.state, byte);
            if state != ROOT {
                reading.step(state, places.of(before + at));
                report(automaton, reading, places, places.of(before + at), found);
            } else {
                reading.state = ROOT;
            }
            at += 1;
        }
        self.readings.swap(self.at % PLACES, (self.at + at) % PLACES);
        self.at += at;
        at
    }

    /// Where the earliest reading began that ends in the middle of a needle, and whether half of one is there already.
    pub(super) fn open(&self, automaton: &Automaton) -> Option<(usize, bool)> {
        let unfinished = self.readings.iter().flatten().filter(|reading| reading.state != ROOT);
        let start = |reading: &Reading| reading.start(automaton.depth(reading.state), self.end);
        let open = unfinished.map(|reading| (start(reading), automaton.is_half(reading.state)));
        open.reduce(|(a, x), (b, y)| (a.min(b), x || y))
    }

    /// Whether an escape that begins like this matters. Those that stand for any byte always do.
    fn could_begin(&self, automaton: &Automaton, byte: u8) -> bool {
        let here = &self.readings[self.at % PLACES];
        matches!(byte, b'%' | b'\\') || here.iter().any(|reading| automaton.next(reading.state, byte) != ROOT)
    }

    fn read_one(
        &mut self,
        automaton: &Automaton,
        text: &[u8],
        at: usize,
        escape: Escape,
        places: &impl Places,
        found: &mut Vec<Range<usize>>,
    ) {
        let mut here = std::mem::take(&mut self.spare);
        std::mem::swap(&mut here, &mut self.readings[self.at % PLACES]);
        let start = places.of(at);
        if self.blind > 0 {
            self.blind -= 1;
            add(found, start..start + 1);
        }
        if let Escape::Means(length, meaning) = escape {
            for reading in &here {
                let state = meaning.bytes().iter().fold(reading.state, |state, byte| automaton.next(state, *byte));
                // One that has nothing of a needle is no better than the literal one.
                if state != ROOT {
                    let mut read = reading.clone();
                    meaning.bytes().iter().for_each(|byte| read.step(automaton.next(read.state, *byte), start));
                    let end = places.of(at + length - 1);
                    report(automaton, &read, places, end, found);
                    self.go_on(automaton, length, &read, end, found);
                }
            }
        }
        for reading in &mut here {
            reading.step(automaton.next(reading.state, text[at]), start);
            report(automaton, reading, places, start, found);
        }
        let there = &mut self.readings[(self.at + 1) % PLACES];
        if here.len() == 1 && there.is_empty() {
            std::mem::swap(&mut here, there);
        } else {
            here.iter().for_each(|reading| self.go_on(automaton, 1, reading, start, found));
        }
        here.clear();
        self.spare = here;
        self.at += 1;
        let all: usize = self.readings.iter().map(Vec::len).sum();
        self.ahead = all - self.readings[self.at % PLACES].len();
    }

    /// Lets a reading, whose last byte stands at `end`, wait for its next place. Of two in the same state, the one that
    /// began earlier covers both.
    fn go_on(
        &mut self,
        automaton: &Automaton,
        length: usize,
        reading: &Reading,
        end: usize,
        found: &mut Vec<Range<usize>>,
    ) {
        let there = &mut self.readings[(self.at + length) % PLACES];
        let depth = automaton.depth(reading.state);
        if let Some(same) = there.iter_mut().find(|other| other.state == reading.state) {
            if depth > 0 && reading.start(depth, end) < same.start(depth, end) {
                same.clone_from(reading);
            }
        } else if depth == 0 && !there.is_empty() {
            // Every other one covers it.
        } else if there.len() == MAX_READINGS {
            add(found, reading.start(depth, end)..end + 1);
            self.blind = BLIND;
        } else {
            there.retain(|other| other.state != ROOT);
            there.push(reading.clone());
        }
    }
}

/// Adds what a reading has found, if it has; `end` is where the last byte stands.
fn report(automaton: &Automaton, reading: &Reading, places: &impl Places, end: usize, found: &mut Vec<Range<usize>>) {
    let (longest, piece) = automaton.longest(reading.state);
    if longest == 0 {
        return;
    }
    let start = reading.start(longest, end);
    if start < places.whole_before() {
        add(found, start..end + 1);
    } else if piece > 0 {
        add(found, reading.start(piece, end)..end + 1);
    }
}

/// Adds a range to ranges in order, of which none touch.
fn add(found: &mut Vec<Range<usize>>, mut range: Range<usize>) {
    while let Some(before) = found.pop_if(|before| before.end >= range.start) {
        range = range.start.min(before.start)..range.end.max(before.end);
    }
    found.push(range);
}
