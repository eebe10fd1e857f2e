//! How much a batch takes, and how long the rest after it is: by how long the last one took.

use std::time::Duration;

/// What a batch should take at most.
pub(crate) const TARGET: Duration = Duration::from_millis(30);
/// The rest is so many times as long as the batch before it.
const REST: u32 = 4;
const LEAST: u32 = 10;
const MOST: u32 = 1_000;

pub(super) struct Pace {
    limit: u32,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { limit: 100 }
    }

    /// How many rows the next batch takes.
    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    /// Learns from a batch; gives the rest after it.
    pub(super) fn after(&mut self, took: Duration) -> Duration {
        if took > TARGET {
            self.limit = (self.limit / 2).max(LEAST);
        } else if took < TARGET / 2 {
            self.limit = (self.limit + self.limit / 4).min(MOST);
        }
        (took * REST).max(Duration::from_millis(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_batches_become_small_at_once_and_fast_ones_large_little_by_little() {
        let mut pace = Pace::new();
        assert_eq!(pace.after(Duration::from_millis(100)), Duration::from_millis(400));
        assert_eq!(pace.limit(), 50);
        for _ in 0..20 {
            pace.after(Duration::from_secs(1));
        }
        assert_eq!(pace.limit(), LEAST);
        for _ in 0..100 {
            pace.after(Duration::from_millis(1));
        }
        assert_eq!(pace.limit(), MOST);
        assert_eq!(pace.after(TARGET * 2 / 3), TARGET * 2 / 3 * REST);
        assert_eq!(pace.limit(), MOST);
    }
}
