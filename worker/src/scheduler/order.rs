//! Which of two requests is the newer one, and what gives way to it.

use std::cmp::Ordering;

use jiff::Timestamp;
use slipway_protocol::DeploymentId;

/// What a request's place in the order of its project depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The producer's own number.
    pub sequence: Option<u64>,
    /// When the event happened, by the producer's clock.
    pub time: Option<Timestamp>,
    /// When it arrived here, as a growing number.
    pub arrival: i64,
}

impl Order {
    /// Compares by the producer's number when both have one, else by time when both have one, else by arrival; what
    /// ties falls through to the next. A replay ties with its original in all but its arrival, and so comes after it.
    #[must_use]
    pub fn compare(&self, other: &Self) -> Ordering {
        fn both<T: Ord>(a: Option<T>, b: Option<T>) -> Ordering {
            a.zip(b).map_or(Ordering::Equal, |(a, b)| a.cmp(&b))
        }
        both(self.sequence, other.sequence)
            .then_with(|| both(self.time, other.time))
            .then_with(|| self.arrival.cmp(&other.arrival))
    }

    /// The place of a request that an operator forced: the newest of all that are here, and older than what comes.
    #[must_use]
    pub fn above(self, rivals: &[Rival]) -> Self {
        let sequence = rivals.iter().filter_map(|r| r.order.sequence).chain(self.sequence).max();
        let time = rivals.iter().filter_map(|r| r.order.time).chain(self.time).max();
        Self { sequence, time, ..self }
    }
}

/// Another deployment of the same project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rival {
    /// Which one.
    pub id: DeploymentId,
    /// Its place.
    pub order: Order,
    /// Whether it hasn't ended.
    pub open: bool,
}

/// What follows from a request's arrival: the latest wins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Arrival {
    /// The newest deployment, when that is newer than the request.
    pub superseded_by: Option<DeploymentId>,
    /// Older deployments that haven't ended and give way to the request.
    pub supersedes: Vec<DeploymentId>,
}

/// Places a request among its rivals.
#[must_use]
pub fn arrive(order: &Order, rivals: &[Rival]) -> Arrival {
    let newer = rivals.iter().filter(|r| r.order.compare(order) == Ordering::Greater);
    let superseded_by = newer.max_by(|a, b| a.order.compare(&b.order)).map(|r| r.id);
    let supersedes = match superseded_by {
        Some(_) => Vec::new(),
        None => rivals.iter().filter(|r| r.open).map(|r| r.id).collect(),
    };
    Arrival { superseded_by, supersedes }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(sequence: Option<u64>, second: Option<i64>, arrival: i64) -> Order {
        Order { sequence, time: second.and_then(|s| Timestamp::from_second(s).ok()), arrival }
    }

    fn rival(name: &str, order: Order, open: bool) -> Rival {
        Rival { id: DeploymentId::of("test", name, None), order, open }
    }

    fn orders() -> impl Strategy<Value = Order> {
        (prop::option::of(0..4u64), prop::option::of(0..4i64), 0..1000i64).prop_map(|(s, t, a)| order(s, t, a))
    }

    #[test]
    fn the_producers_number_beats_time_and_time_beats_arrival() {
        let newer = |a: Order, b: Order| a.compare(&b) == Ordering::Greater;
        assert!(newer(order(Some(2), Some(1), 1), order(Some(1), Some(9), 9)));
        assert!(newer(order(None, Some(2), 1), order(Some(7), Some(1), 9)));
        assert!(newer(order(None, None, 2), order(Some(7), Some(9), 1)));
        assert!(newer(order(Some(1), Some(1), 2), order(Some(1), Some(1), 1)), "a replay comes after its original");
    }

    #[test]
    fn of_several_newer_rivals_the_newest_is_named() {
        let rivals = [
            rival("a", order(Some(5), None, 1), true),
            rival("c", order(Some(7), None, 2), false),
            rival("b", order(Some(6), None, 3), true),
        ];
        let arrival = arrive(&order(Some(4), None, 4), &rivals);
        assert_eq!(arrival, Arrival { superseded_by: Some(rivals[1].id), supersedes: vec![] });
        let arrival = arrive(&order(Some(8), None, 4), &rivals);
        assert_eq!(arrival, Arrival { superseded_by: None, supersedes: vec![rivals[0].id, rivals[2].id] });
    }

    proptest! {
        #[test]
        fn of_two_requests_exactly_one_is_newer(a in orders(), b in orders()) {
            prop_assert_eq!(a.compare(&b), b.compare(&a).reverse());
            prop_assert_eq!(a.compare(&b) == Ordering::Equal, a.arrival == b.arrival
                && (a.sequence == b.sequence || a.sequence.is_none() || b.sequence.is_none())
                && (a.time == b.time || a.time.is_none() || b.time.is_none()));
        }

        #[test]
        fn a_request_never_gives_way_and_takes_the_place_of_others_at_once(
            new in orders(), rivals in prop::collection::vec((orders(), any::<bool>()), 0..6)
        ) {
            let rivals: Vec<_> =
                rivals.into_iter().enumerate().map(|(i, (o, open))| rival(&i.to_string(), o, open)).collect();
            let arrival = arrive(&new, &rivals);
            prop_assert!(arrival.superseded_by.is_none() || arrival.supersedes.is_empty());
            prop_assert_eq!(
                arrival.superseded_by.is_some(),
                rivals.iter().any(|r| r.order.compare(&new) == Ordering::Greater)
            );
            prop_assert!(arrival.supersedes.iter().all(|id| rivals.iter().any(|r| r.id == *id && r.open)));
        }

        #[test]
        fn a_forced_request_is_newer_than_all_that_came_before_and_older_than_the_next_number(
            forced in orders(), rivals in prop::collection::vec(orders(), 0..6)
        ) {
            let rivals: Vec<_> =
                rivals.into_iter().enumerate().map(|(i, o)| rival(&i.to_string(), o, true)).collect();
            let forced = Order { arrival: 1000, ..forced }.above(&rivals);
            prop_assert_eq!(arrive(&forced, &rivals).superseded_by, None);
            let next = Order { sequence: forced.sequence.map(|s| s + 1), time: forced.time, arrival: 1001 };
            prop_assert_eq!(next.compare(&forced), Ordering::Greater);
        }
    }
}
