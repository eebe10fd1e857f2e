//! How much of what strangers send is kept: a server's output, a registry's answer, lines of progress. Whoever reads such
//! data takes each piece from a budget. What is over it is left out, and the reader says so.

/// What may still be kept.
#[derive(Debug, Clone)]
pub struct Budget {
    bytes: usize,
    pieces: usize,
    spent: bool,
}

/// What a script reports to us, in all: whole files in base64 are among it.
pub(crate) const SCRIPT_VALUES: Budget = Budget::new(16 * 1024 * 1024, 100_000);
/// What one command tells people; of the rest only the end is kept, for an error.
pub(crate) const COMMAND_LINES: Budget = Budget::new(2 * 1024 * 1024, 10_000);
/// What the first attempt of a deployment tells people.
const ATTEMPT_LINES: Budget = Budget::new(8 * 1024 * 1024, 50_000);
/// What each attempt may tell, however many there were.
const LATER_LINES: Budget = Budget::new(256 * 1024, 2_000);
/// What one stage has found out, as JSON.
pub(crate) const STAGE_FACTS: Budget = Budget::new(256 * 1024, usize::MAX);
/// One answer of a registry: a manifest, an image's configuration.
pub(crate) const REGISTRY_ANSWER: Budget = Budget::new(4 * 1024 * 1024, usize::MAX);
/// The answer that holds a token.
pub(crate) const REGISTRY_TOKEN: Budget = Budget::new(64 * 1024, usize::MAX);
/// One answer of GitHub; none that is read comes near.
pub(crate) const GITHUB_ANSWER: Budget = Budget::new(1024 * 1024, usize::MAX);

impl Budget {
    /// So many bytes, in so many pieces.
    #[must_use]
    pub const fn new(bytes: usize, pieces: usize) -> Self {
        Self { bytes, pieces, spent: false }
    }

    /// What an attempt tells people. Each has half as much as the one before, so that a deployment tells no more than twice
    /// of what its first attempt may, and a little for each further one.
    #[must_use]
    pub fn of_attempt(number: u32) -> Self {
        let halves = number.saturating_sub(1).min(31);
        let Self { bytes, pieces, .. } = ATTEMPT_LINES;
        Self::new((bytes >> halves).max(LATER_LINES.bytes), (pieces >> halves).max(LATER_LINES.pieces))
    }

    /// Whether a piece may be kept. After the first that may not, none may: what follows a gap would mislead.
    pub fn take(&mut self, bytes: usize) -> bool {
        if self.spent || self.pieces == 0 || bytes > self.bytes {
            self.spent = true;
            return false;
        }
        self.bytes -= bytes;
        self.pieces -= 1;
        true
    }

    /// Whether something was left out.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_tells_so_much_however_many_attempts_it_has() {
        let all: usize = (1..=30).map(|number| Budget::of_attempt(number).bytes).sum();
        assert_eq!(Budget::of_attempt(0).bytes, ATTEMPT_LINES.bytes);
        assert!(all < 3 * ATTEMPT_LINES.bytes, "{all}");
    }

    #[test]
    fn after_the_first_piece_too_many_nothing_is_kept() {
        let mut bytes = Budget::new(10, 5);
        assert_eq!([4, 4, 4, 1].map(|piece| bytes.take(piece)), [true, true, false, false]);
        assert!(bytes.is_spent());
        let mut pieces = Budget::new(10, 2);
        assert_eq!([0, 0].map(|piece| pieces.take(piece)), [true, true]);
        assert!(!pieces.is_spent() && !pieces.take(0) && pieces.is_spent());
    }
}
