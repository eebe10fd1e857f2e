//! The ways to read a text that a scanner follows at a time, and where what they have read stands in the text. A way is
//! copied at each escape, so it's small: its past is shared.

use super::automaton::{MAX_NEEDLE, Position, ROOT};
use super::escape::Escape;

/// How many ways are followed at a time.
pub(super) const MAX_READINGS: usize = 6;
/// Readings wait for the place where they go on: an escape's end, or the next byte. More than an escape is long.
const PLACES: usize = 16;
/// How far back the past reaches: for each byte of a needle an escape, and for each of its bytes two ways on.
const PAST: usize = (MAX_NEEDLE * Escape::MAX_LENGTH * 2 * MAX_READINGS).next_power_of_two();

/// One way to read the text so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub state: Position,
    /// The number of the last byte read, in the past.
    last: u32,
}

impl Reading {
    const START: Self = Self { state: ROOT, last: 0 };
}

/// A byte that was read.
#[derive(Clone, Copy, Default)]
struct Read {
    /// The lower half of its place.
    start: u32,
    /// How many of those that were noted right before it were read right before it.
    run: u32,
    /// The number of the one that was read before those.
    before: u32,
}

/// What was read, by all readings, in a ring.
pub(super) struct Past {
    read: Vec<Read>,
    next: u32,
    /// How often one had to look at another byte to find a beginning.
    pub looks: u64,
}

impl Past {
    pub(super) fn new() -> Self {
        Self { read: vec![Read::default()], next: 1, looks: 0 }
    }

    /// The reading has read a byte that stands at `start`, and is in `state` by now.
    #[expect(clippy::inline_always, reason = "once for each byte of all that servers say")]
    #[inline(always)]
    pub(super) fn step(&mut self, reading: &mut Reading, state: Position, start: usize) {
        reading.state = state;
        if state == ROOT {
            return;
        }
        let follows = reading.last.wrapping_add(1) == self.next;
        let last = self.read[index(reading.last)];
        let (run, before) = if follows { (last.run.saturating_add(1), last.before) } else { (0, reading.last) };
        let read = Read { start: lower_half(start), run, before };
        match self.read.get_mut(index(self.next)) {
            Some(old) => *old = read,
            None => self.read.push(read),
        }
        reading.last = self.next;
        self.next = self.next.wrapping_add(1);
    }

    /// Where the last `length` bytes begin, of which the last one isn't after `end`.
    pub(super) fn start(&mut self, reading: &Reading, length: usize, end: usize) -> usize {
        let (mut at, mut back) = (reading.last, lower_half(length.saturating_sub(1)));
        loop {
            let read = self.read[index(at)];
            if back <= read.run {
                let start = self.read[index(at.wrapping_sub(back))].start;
                return end - lower_half(end).wrapping_sub(start) as usize;
            }
            self.looks += 1;
            back -= read.run + 1;
            at = read.before;
        }
    }
}

fn index(number: u32) -> usize {
    number as usize % PAST
}

#[expect(clippy::cast_possible_truncation, reason = "that is what it's for")]
fn lower_half(place: usize) -> u32 {
    place as u32
}

/// Those that go on at one place.
#[derive(Clone, Copy)]
pub(super) struct Here {
    readings: [Reading; MAX_READINGS],
    count: usize,
}

impl Here {
    const NOBODY: Self = Self { readings: [Reading::START; MAX_READINGS], count: 0 };

    pub(super) fn all(&self) -> &[Reading] {
        &self.readings[..self.count]
    }

    pub(super) fn all_mut(&mut self) -> &mut [Reading] {
        &mut self.readings[..self.count]
    }

    /// False: there are too many.
    pub(super) fn add(&mut self, reading: Reading) -> bool {
        let room = self.count < MAX_READINGS;
        if room {
            self.readings[self.count] = reading;
            self.count += 1;
        }
        room
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Reading) -> bool) {
        let all = *self;
        self.count = 0;
        for reading in all.all().iter().filter(|reading| keep(reading)) {
            self.add(*reading);
        }
    }
}

/// All readings.
pub(super) struct Readings {
    places: [Here; PLACES],
    at: usize,
    /// The furthest place for which one waits.
    furthest: usize,
}

impl Readings {
    pub(super) fn new() -> Self {
        let mut places = [Here::NOBODY; PLACES];
        places[0].add(Reading::START);
        Self { places, at: 0, furthest: 0 }
    }

    /// The one that is here, if it's the only one anywhere.
    pub(super) fn only_one(&mut self) -> Option<&mut Reading> {
        if self.furthest > self.at {
            return None;
        }
        match self.places[self.at % PLACES].all_mut() {
            [one] => Some(one),
            _ => None,
        }
    }

    pub(super) fn here(&self) -> &Here {
        &self.places[self.at % PLACES]
    }

    /// Those that are here; they have to be put where they go on.
    pub(super) fn take_here(&mut self) -> Here {
        std::mem::replace(&mut self.places[self.at % PLACES], Here::NOBODY)
    }

    pub(super) fn after(&mut self, length: usize) -> &mut Here {
        self.furthest = self.furthest.max(self.at + length);
        &mut self.places[(self.at + length) % PLACES]
    }

    /// The only one has read so many bytes.
    pub(super) fn carry(&mut self, length: usize) {
        let here = self.take_here();
        self.at += length;
        self.furthest = self.at;
        self.places[self.at % PLACES] = here;
    }

    pub(super) fn advance(&mut self) {
        self.at += 1;
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Reading> {
        self.places.iter().flat_map(Here::all)
    }
}
