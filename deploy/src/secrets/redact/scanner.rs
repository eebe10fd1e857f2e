//! Follows a text through an automaton, in all the ways in which it can be read: an escape stands for itself or for what
//! it means. Each byte is read once for each way. It may come in parts.
//!
//! The work is bounded for each byte of any text. Hardly a text can be read in more than one way that leads anywhere; one
//! that can at each of its bytes, as a run of backslashes for which a secret of backslashes is sought, is masked without
//! being read.

use std::ops::Range;

use super::automaton::{Automaton, MAX_NEEDLE, ROOT};
use super::escape::Escape;
use super::readings::{Past, Reading, Readings};

/// How far a reading that isn't followed may still have reached into the text.
pub(super) const REACH: usize = MAX_NEEDLE * Escape::MAX_LENGTH;
/// How much of a text is masked once it would cost too much to read it.
const MASKED: usize = 16 * 1024;
/// What may be spent at once on a text that can be read in several ways, in steps of readings.
const CREDIT: u64 = 8 * 1024;
/// How many steps more two bytes of text allow. Text that is URL-encoded throughout needs fewer.
const STEPS_FOR_TWO_BYTES: u64 = 3;

/// Where parts of a text stand in the original.
pub(super) trait Places {
    /// The place of a byte.
    fn of(&self, at: usize) -> usize;
    /// Whether a whole secret must have begun before this place.
    fn whole_before(&self) -> usize;
}

/// The state of a search.
pub(super) struct Scanner {
    readings: Readings,
    past: Past,
    /// How many bytes more are masked, and how many of them aren't even read.
    blind: usize,
    skip: usize,
    /// What was spent, and what was brought in by bytes; there is `CREDIT` between them at most.
    spent: u64,
    earned: u64,
    /// Where the last byte that was read stands.
    end: usize,
}

impl Scanner {
    pub(super) fn new() -> Self {
        let (readings, past) = (Readings::new(), Past::new());
        Self { readings, past, blind: 0, skip: 0, spent: 0, earned: 0, end: 0 }
    }

    /// Forgets what it has read.
    pub(super) fn start_anew(&mut self) {
        self.readings = Readings::new();
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
            at += self.mask_unread(&text[at..], places, at, found);
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
        self.earned += at as u64;
        at
    }

    /// Masks what costs too much to be read.
    fn mask_unread(
        &mut self,
        text: &[u8],
        places: &impl Places,
        before: usize,
        found: &mut Vec<Range<usize>>,
    ) -> usize {
        let length = self.skip.min(text.len());
        if length > 0 {
            add(found, places.of(before)..places.of(before + length - 1) + 1);
            self.skip -= length;
            self.blind -= length;
        }
        length
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
        let Some(reading) = self.readings.only_one() else { return 0 };
        if self.blind > 0 {
            return 0;
        }
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            if reading.state == ROOT && automaton.is_foreign(byte) {
                at += 1;
                continue;
            }
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
                self.past.step(reading, state, places.of(before + at));
                report(automaton, &mut self.past, reading, places, places.of(before + at), found);
            } else {
                reading.state = ROOT;
            }
            at += 1;
        }
        self.readings.carry(at);
        at
    }

    /// Where the earliest reading began that ends in the middle of a needle, and whether half of one is there already.
    pub(super) fn open(&mut self, automaton: &Automaton) -> Option<(usize, bool)> {
        let (past, end) = (&mut self.past, self.end);
        let unfinished = self.readings.all().filter(|reading| reading.state != ROOT);
        let open = unfinished.map(|reading| {
            (past.start(reading, automaton.depth(reading.state), end), automaton.is_half(reading.state))
        });
        open.reduce(|(a, x), (b, y)| (a.min(b), x || y))
    }

    /// Whether an escape that begins like this matters. Those that stand for any byte always do.
    fn could_begin(&self, automaton: &Automaton, byte: u8) -> bool {
        let here = self.readings.here().all();
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
        let mut here = self.readings.take_here();
        let start = places.of(at);
        let mut too_many = None;
        if self.blind > 0 {
            self.blind -= 1;
            add(found, start..start + 1);
        }
        if let Escape::Means(length, meaning) = escape {
            for reading in here.all() {
                let state = meaning.bytes().iter().fold(reading.state, |state, byte| automaton.next(state, *byte));
                // One that has nothing of a needle is no better than the literal one.
                if state != ROOT {
                    let mut read = *reading;
                    for byte in meaning.bytes() {
                        let state = automaton.next(read.state, *byte);
                        self.past.step(&mut read, state, start);
                    }
                    let end = places.of(at + length - 1);
                    report(automaton, &mut self.past, &read, places, end, found);
                    too_many = self.go_on(automaton, length, read, end).or(too_many);
                    self.spent += 1;
                }
            }
        }
        self.spent += here.all().len() as u64;
        for reading in here.all_mut() {
            let state = automaton.next(reading.state, text[at]);
            self.past.step(reading, state, start);
            report(automaton, &mut self.past, reading, places, start, found);
            too_many = self.go_on(automaton, 1, *reading, start).or(too_many);
        }
        self.readings.advance();
        self.pay(automaton, at as u64, too_many, start, found);
    }

    /// Gives up where there are too many readings, or they have cost too much.
    fn pay(
        &mut self,
        automaton: &Automaton,
        read: u64,
        too_many: Option<usize>,
        here: usize,
        found: &mut Vec<Range<usize>>,
    ) {
        self.spent += std::mem::take(&mut self.past.looks) / 4;
        let earned = (self.earned + read) * STEPS_FOR_TWO_BYTES / 2;
        self.spent = self.spent.max(earned);
        if self.spent > earned + CREDIT || too_many.is_some() {
            let (end, before) = (self.end, too_many.unwrap_or(here));
            self.end = here;
            let open = self.open(automaton).map_or(before, |(start, _)| start.min(before));
            self.end = end;
            add(found, open..here + 1);
            self.readings = Readings::new();
            (self.skip, self.blind) = (MASKED, MASKED + REACH);
        }
    }

    /// Lets a reading, whose last byte stands at `end`, wait for its next place. Of two in the same state, the one that
    /// began earlier covers both. Gives where it began if too many wait there.
    fn go_on(&mut self, automaton: &Automaton, length: usize, reading: Reading, end: usize) -> Option<usize> {
        let there = self.readings.after(length);
        let depth = automaton.depth(reading.state);
        if let Some(same) = there.all_mut().iter_mut().find(|other| other.state == reading.state) {
            if depth > 0 && self.past.start(&reading, depth, end) < self.past.start(same, depth, end) {
                *same = reading;
            }
        } else if depth == 0 && !there.all().is_empty() {
            // Every other one covers it.
        } else {
            there.retain(|other| other.state != ROOT);
            if !there.add(reading) {
                return Some(self.past.start(&reading, depth, end));
            }
        }
        None
    }
}

/// Adds what a reading has found, if it has; `end` is where the last byte stands.
fn report(
    automaton: &Automaton,
    past: &mut Past,
    reading: &Reading,
    places: &impl Places,
    end: usize,
    found: &mut Vec<Range<usize>>,
) {
    let (longest, piece) = automaton.longest(reading.state);
    if longest == 0 {
        return;
    }
    let start = past.start(reading, longest, end);
    if start < places.whole_before() {
        add(found, start..end + 1);
    } else if piece > 0 {
        add(found, past.start(reading, piece, end)..end + 1);
    }
}

/// Adds a range to ranges in order, of which none touch.
fn add(found: &mut Vec<Range<usize>>, mut range: Range<usize>) {
    while let Some(before) = found.pop_if(|before| before.end >= range.start) {
        range = range.start.min(before.start)..range.end.max(before.end);
    }
    found.push(range);
}
