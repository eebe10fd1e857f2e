//! Halves of requests to deploy: what follows from one that arrives, by what is known of its project. Pure code; which
//! halves are known is the store's matter.

use slipway_protocol::DeploymentId;

use super::superseding::Order;

/// The half of the same kind that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptHalf {
    /// Its place among those of its kind.
    pub order: Order,
    /// The deployment that it has made last.
    pub joined_as: Option<DeploymentId>,
    /// Whether it still holds, and the arriving one allocates the very same.
    pub allocates_the_same: bool,
}

/// A half that arrives, and what is known of its project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HalfView {
    /// Its place among those of its kind, as it tells it itself.
    pub order: Order,
    /// Whether an operator sends it again, who wants it carried out.
    pub replayed: bool,
    /// The one of its kind that is kept.
    pub kept: Option<KeptHalf>,
    /// Whether the other half is known, and holds.
    pub has_other: bool,
}

/// What follows from the arrival of a half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfVerdict {
    /// A newer one is kept: it ends as superseded, by the deployment that the newer one has made.
    Stale(Option<DeploymentId>),
    /// It's kept, and ends as superseded: the project is deployed with what it says, by this deployment.
    Unchanged(DeploymentId),
    /// It's kept, and waits for the other one.
    Waits,
    /// It's kept, and makes a deployment with the other one.
    Joins,
}

impl HalfView {
    /// The place of the half: one without a number stands right behind the kept one that happened before it.
    fn place(&self) -> Order {
        let Some(kept) = self.kept else { return self.order };
        let inherited = kept.order.sequence.filter(|_| kept.order.time <= self.order.time);
        Order { sequence: self.order.sequence.or(inherited), ..self.order }
    }

    /// The place with which it's kept: in nothing before the one whose place it takes, so that what two halves make is
    /// never older than what they made before.
    #[must_use]
    pub fn kept_as(&self) -> Order {
        let place = self.place();
        Order { time: self.kept.map_or(place.time, |kept| kept.order.time.max(place.time)), ..place }
    }

    /// What follows.
    #[must_use]
    pub fn decide(&self) -> HalfVerdict {
        if let Some(kept) = self.kept {
            if kept.order > self.place() {
                return HalfVerdict::Stale(kept.joined_as);
            }
            if let Some(by) = kept.joined_as
                && kept.allocates_the_same
                && self.has_other
                && !self.replayed
            {
                return HalfVerdict::Unchanged(by);
            }
        }
        if self.has_other { HalfVerdict::Joins } else { HalfVerdict::Waits }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use slipway_protocol::DeploymentId;

    use super::*;

    const BY: DeploymentId = DeploymentId(uuid::Uuid::nil());

    fn order(sequence: Option<u64>, second: i64) -> Order {
        Order { sequence, time: Timestamp::constant(second, 0), arrival: 0 }
    }

    fn view(order: Order, kept: Option<Order>, has_other: bool) -> HalfView {
        let kept = kept.map(|order| KeptHalf { order, joined_as: Some(BY), allocates_the_same: false });
        HalfView { order, replayed: false, kept, has_other }
    }

    #[test]
    fn a_half_waits_for_the_other_or_joins_it_and_an_older_one_does_neither() {
        let (one, two) = (order(Some(1), 2), order(Some(2), 1));
        for (arriving, kept, has_other, expected) in [
            (one, None, false, HalfVerdict::Waits),
            (one, None, true, HalfVerdict::Joins),
            (two, Some(one), false, HalfVerdict::Waits),
            (two, Some(one), true, HalfVerdict::Joins),
            (one, Some(two), false, HalfVerdict::Stale(Some(BY))),
            (one, Some(two), true, HalfVerdict::Stale(Some(BY))),
            // With the same number the later one counts.
            (order(Some(2), 2), Some(two), true, HalfVerdict::Joins),
            (order(Some(2), 0), Some(two), true, HalfVerdict::Stale(Some(BY))),
            // Without a number it stands behind what was there before it, and before what came after it.
            (order(None, 1), Some(two), true, HalfVerdict::Joins),
            (order(None, 0), Some(two), true, HalfVerdict::Stale(Some(BY))),
        ] {
            assert_eq!(view(arriving, kept, has_other).decide(), expected, "{arriving:?} {kept:?} {has_other}");
        }
    }

    #[test]
    fn a_kept_half_is_in_nothing_before_the_one_whose_place_it_takes() {
        for (arriving, kept, expected) in [
            (order(Some(2), 1), order(Some(1), 2), order(Some(2), 2)),
            (order(None, 3), order(Some(1), 2), order(Some(1), 3)),
            (order(Some(1), 3), order(None, 2), order(Some(1), 3)),
        ] {
            assert_eq!(view(arriving, Some(kept), true).kept_as(), expected);
        }
        assert_eq!(view(order(None, 1), None, true).kept_as(), order(None, 1));
    }

    #[test]
    fn an_allocation_that_says_nothing_new_makes_no_deployment_unless_it_is_replayed() {
        let same = |has_other, replayed, joined_as| {
            let kept = KeptHalf { order: order(Some(1), 1), joined_as, allocates_the_same: true };
            HalfView { order: order(Some(2), 2), replayed, kept: Some(kept), has_other }.decide()
        };
        assert_eq!(same(true, false, Some(BY)), HalfVerdict::Unchanged(BY));
        assert_eq!(same(true, true, Some(BY)), HalfVerdict::Joins);
        assert_eq!(same(true, false, None), HalfVerdict::Joins);
        assert_eq!(same(false, false, Some(BY)), HalfVerdict::Waits, "what it was joined with holds no more");
    }
}
