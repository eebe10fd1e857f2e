//! Which requests come to nothing but a new deployment, so that many of them can be stored together.

use super::Order;

/// What is known of a request to deploy that arrives, under the lock of its project.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub struct PlainView {
    /// It's here already.
    pub seen_before: bool,
    /// An operator has sent it again, perhaps edited.
    pub replayed: bool,
    /// Somebody has cancelled it before it came.
    pub cancelled: bool,
    /// Slipway deploys the pushes of its branch itself, or has until now.
    pub watched: bool,
    /// Others of its project haven't ended.
    pub others_open: bool,
    /// Its own place, without what it may take from those before it.
    pub order: Order,
    /// The newest place of its project.
    pub newest: Option<Order>,
    /// It names domains, which have to be claimed.
    pub has_domains: bool,
    /// It leaves its server to Slipway.
    pub has_no_server: bool,
    /// Its slug, or the CI that it asks for, is another project's.
    pub owned_by_others: bool,
}

impl PlainView {
    /// Whether it comes to nothing but a new deployment: it ends no other one, isn't ended by one, and takes nothing from
    /// anybody.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        // Without a number, and after one that has, its place follows from those before it.
        let is_newest = self
            .newest
            .is_none_or(|newest| (self.order.sequence.is_some() || newest.sequence.is_none()) && self.order > newest);
        let is_special = self.seen_before
            || self.replayed
            || self.cancelled
            || self.watched
            || self.has_domains
            || self.has_no_server;
        !is_special && !self.others_open && !self.owned_by_others && is_newest
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn order(sequence: Option<u64>, second: i64) -> Order {
        Order { sequence, time: Timestamp::from_second(second).expect("small"), arrival: 1 }
    }

    fn plain() -> PlainView {
        PlainView {
            seen_before: false,
            replayed: false,
            cancelled: false,
            watched: false,
            others_open: false,
            has_domains: false,
            has_no_server: false,
            order: Order { arrival: i64::MAX, ..order(None, 5) },
            newest: None,
            owned_by_others: false,
        }
    }

    #[test]
    fn only_what_means_nothing_to_any_other_request_is_plain() {
        assert!(plain().is_plain());
        for special in [
            PlainView { seen_before: true, ..plain() },
            PlainView { replayed: true, ..plain() },
            PlainView { cancelled: true, ..plain() },
            PlainView { watched: true, ..plain() },
            PlainView { has_domains: true, ..plain() },
            PlainView { has_no_server: true, ..plain() },
            PlainView { others_open: true, ..plain() },
            PlainView { owned_by_others: true, ..plain() },
        ] {
            assert!(!special.is_plain(), "{special:?}");
        }
    }

    #[test]
    fn a_plain_request_is_the_newest_of_its_project_by_what_it_says_itself() {
        let after = |own: Option<u64>, newest| {
            PlainView { order: Order { sequence: own, ..plain().order }, newest: Some(newest), ..plain() }.is_plain()
        };
        assert!(after(None, order(None, 4)) && after(None, order(None, 5)) && !after(None, order(None, 6)));
        assert!(after(Some(3), order(Some(2), 9)) && !after(Some(2), order(Some(3), 1)));
        assert!(after(Some(1), order(None, 9)), "what has a number is newer than what has none");
        assert!(!after(None, order(Some(1), 1)), "it takes the number of the one before it");
    }
}
