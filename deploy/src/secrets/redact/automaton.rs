//! All needles in one automaton of Aho and Corasick: each byte of a text is looked at once, however many needles there
//! are. Which bytes a text may mean is in `escape`, and who follows them in `scanner`.
//!
//! It isn't one of a library. A scanner needs what those don't tell: how much of a needle a state stands for, to know
//! which way to read a text has begun earlier, and what may still become a secret at the end of a line. And their quick
//! form, a table for each state, takes more memory than a request full of secrets may have.

use zeroize::Zeroize as _;

/// The longest needle, in bytes: longer secrets are sought in pieces. So a state knows a bounded past.
pub(super) const MAX_NEEDLE: usize = 64;

/// How many children are few enough to be looked at one after the other.
const FEW: usize = 8;

/// Where every search begins.
pub(super) const ROOT: Position = Position(0);

/// What the automaton remembers of the bytes so far: the longest end of theirs that a needle begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position(u32);

/// A text to seek.
pub(super) struct Needle<'a> {
    pub text: &'a [u8],
    /// Whether it's only a part of a secret.
    pub piece: bool,
}

#[derive(Default, Clone)]
struct Node {
    /// Where to go on when no child fits.
    fail: u32,
    /// The first child, or the number of a table of children.
    child: u32,
    sibling: u32,
    byte: u8,
    depth: u8,
    longest: u8,
    longest_piece: u8,
    half: bool,
    /// The children are in a table.
    table: bool,
}

/// See the module. Its default finds nothing.
pub(super) struct Automaton {
    nodes: Vec<Node>,
    /// The children of the root, of its children, and of others that have many, by their bytes.
    tables: Vec<[u32; 256]>,
    base64: bool,
    /// Nodes of a smaller depth need no other to tell where to go on.
    complete: u8,
}

impl Automaton {
    /// `base64`: the needles are in base64, of which there are two alphabets.
    pub(super) fn new<'a>(needles: impl Iterator<Item = Needle<'a>> + Clone, base64: bool) -> Self {
        let size: usize = needles.clone().map(|needle| needle.text.len()).sum();
        // Room for all, so that nothing is copied and left behind.
        let mut nodes = Vec::with_capacity(size + 1);
        nodes.push(Node { table: true, ..Node::default() });
        let mut automaton = Self { nodes, tables: vec![[0; 256]], base64, complete: 1 };
        for needle in needles.clone() {
            automaton.insert(&needle);
        }
        automaton.mark_halves(needles);
        automaton.link();
        automaton.complete_tables();
        automaton
    }

    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() == 1
    }

    /// Whether escapes that begin with this byte may stand for what a needle has.
    pub(super) fn may_escape(&self, byte: u8) -> bool {
        matches!(byte, b'%' | b'\\') || (!self.base64 && matches!(byte, b'$' | b'\'' | b'+'))
    }

    /// Whether no needle begins with this byte, nor an escape.
    pub(super) fn is_foreign(&self, byte: u8) -> bool {
        self.tables[0][usize::from(self.letter(byte))] == 0 && !self.may_escape(byte)
    }

    fn letter(&self, byte: u8) -> u8 {
        match byte {
            b'-' if self.base64 => b'+',
            b'_' if self.base64 => b'/',
            other => other,
        }
    }

    pub(super) fn next(&self, state: Position, byte: u8) -> Position {
        let byte = self.letter(byte);
        let mut at = state.0;
        loop {
            let child = self.child(at, byte);
            let node = &self.nodes[at as usize];
            if child != 0 || node.depth < self.complete {
                return Position(child);
            }
            at = node.fail;
        }
    }

    /// How many bytes of a needle the state stands for.
    pub(super) fn depth(&self, state: Position) -> usize {
        usize::from(self.nodes[state.0 as usize].depth)
    }

    /// The length of the longest needle that ends here, and of the longest piece; 0: none.
    pub(super) fn longest(&self, state: Position) -> (usize, usize) {
        let node = &self.nodes[state.0 as usize];
        (usize::from(node.longest), usize::from(node.longest_piece))
    }

    /// Whether half of a needle is there.
    pub(super) fn is_half(&self, state: Position) -> bool {
        self.nodes[state.0 as usize].half
    }

    /// Once the tables are complete, those of the root's children hold as well where the root goes on.
    fn child(&self, at: u32, byte: u8) -> u32 {
        #[cfg(test)]
        tests::count_step();
        let node = &self.nodes[at as usize];
        if node.table {
            return self.tables[node.child as usize][usize::from(byte)];
        }
        let mut child = node.child;
        while child != 0 {
            #[cfg(test)]
            tests::count_step();
            let node = &self.nodes[child as usize];
            if node.byte == byte {
                break;
            }
            child = node.sibling;
        }
        child
    }

    fn insert(&mut self, needle: &Needle<'_>) {
        let mut at = 0;
        for byte in needle.text {
            at = match self.child(at, *byte) {
                0 => self.add_child(at, *byte),
                child => child,
            };
        }
        let node = &mut self.nodes[at as usize];
        node.longest = node.depth;
        if needle.piece {
            node.longest_piece = node.depth;
        }
    }

    fn add_child(&mut self, at: u32, byte: u8) -> u32 {
        let (new, depth) = (number(self.nodes.len()), self.nodes[at as usize].depth + 1);
        let mut node = Node { byte, depth, ..Node::default() };
        if depth == 1 {
            (node.child, node.table) = (self.add_table(&[]), true);
        } else if !self.nodes[at as usize].table && self.children(at).len() == FEW {
            let table = self.add_table(&self.children(at));
            let parent = &mut self.nodes[at as usize];
            (parent.child, parent.table) = (table, true);
        }
        let parent = &mut self.nodes[at as usize];
        if parent.table {
            self.tables[parent.child as usize][usize::from(byte)] = new;
        } else {
            node.sibling = std::mem::replace(&mut parent.child, new);
        }
        self.nodes.push(node);
        new
    }

    fn add_table(&mut self, children: &[u32]) -> u32 {
        let mut table = [0; 256];
        children.iter().for_each(|child| table[usize::from(self.nodes[*child as usize].byte)] = *child);
        self.tables.push(table);
        number(self.tables.len() - 1)
    }

    fn children(&self, at: u32) -> Vec<u32> {
        let node = &self.nodes[at as usize];
        if node.table {
            return self.tables[node.child as usize].iter().copied().filter(|child| *child != 0).collect();
        }
        std::iter::successors(Some(node.child), |child| Some(self.nodes[*child as usize].sibling))
            .take_while(|child| *child != 0)
            .collect()
    }

    /// Finds where to go on where no child fits, level by level. A place whose children are all here, too, is passed
    /// by: none of them would fit. Else a run of one byte would cost a step for each of its bytes, again and again.
    fn link(&mut self) {
        let mut level = vec![(0u32, 0u32)];
        while !level.is_empty() {
            let mut below = Vec::new();
            for (at, suffix) in level {
                let children = self.children(at);
                for &child in &children {
                    let byte = self.nodes[child as usize].byte;
                    let end = if at == 0 { 0 } else { self.next(Position(suffix), byte).0 };
                    let shorter = self.nodes[end as usize].clone();
                    let node = &mut self.nodes[child as usize];
                    node.longest = node.longest.max(shorter.longest);
                    node.longest_piece = node.longest_piece.max(shorter.longest_piece);
                    node.half |= shorter.half;
                    below.push((child, end));
                }
                let elsewhere = self.children(suffix);
                let fits_here = |other: &u32| self.child(at, self.nodes[*other as usize].byte) != 0;
                let useless = suffix != 0 && elsewhere.len() <= children.len() && elsewhere.iter().all(fits_here);
                self.nodes[at as usize].fail = if useless { self.nodes[suffix as usize].fail } else { suffix };
            }
            level = below;
        }
    }

    /// From the children of the root one goes on as from the root where no child fits.
    fn complete_tables(&mut self) {
        self.complete = 2;
        let root = self.tables[0];
        for node in self.nodes.iter().filter(|node| node.depth == 1) {
            let table = &mut self.tables[node.child as usize];
            table.iter_mut().zip(root).filter(|(child, _)| **child == 0).for_each(|(child, at_root)| *child = at_root);
        }
    }

    fn mark_halves<'a>(&mut self, needles: impl Iterator<Item = Needle<'a>>) {
        for needle in needles {
            let (mut at, length) = (0, needle.text.len());
            for (done, byte) in (1..).zip(needle.text) {
                at = self.child(at, *byte);
                self.nodes[at as usize].half |= done * 2 >= length;
            }
        }
    }
}

fn number(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl Default for Automaton {
    fn default() -> Self {
        Self::new(std::iter::empty(), false)
    }
}

impl Drop for Automaton {
    fn drop(&mut self) {
        self.nodes.iter_mut().for_each(|node| node.byte.zeroize());
        self.tables.zeroize();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    thread_local! {
        static STEPS: Cell<u64> = const { Cell::new(0) };
    }

    pub(super) fn count_step() {
        STEPS.with(|steps| steps.set(steps.get() + 1));
    }

    /// How many places of automata this thread has looked at so far.
    pub(in super::super) fn steps() -> u64 {
        STEPS.with(Cell::get)
    }
}
