//! Superseding: which of two requests for a project is the newer one, and how the older one gives way to it. The
//! store only fetches what is asked for and writes down what is answered. Two parts of the rule stand elsewhere: which
//! action gives way to which is [`Action::gives_way_to`], and which deployments stand against each other is the selection
//! of a query (`store/deployment/order.rs`), since a project may have thousands of them.

use jiff::{SignedDuration, Timestamp};
use slipway_protocol::{Action, DeploymentId};

/// So much a producer's clock may be ahead.
pub const CLOCK_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// A request's place in the order of its project, fixed when it arrives: by number, else by time, else by arrival.
/// No two places are equal, and the order is total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// The producer's own number. What has none takes the highest one of what happened before it, and so stands right
    /// behind that; absent where nothing before it has one.
    pub sequence: Option<u64>,
    /// When the event happened, as [`happened_at`] decides.
    pub time: Timestamp,
    /// When it arrived here, as a growing number. A replay ties with its original in all but this, and so comes after
    /// it.
    pub arrival: i64,
}

impl Order {
    /// The place of a request that an operator forced: the newest of all that are here, and older than what comes.
    #[must_use]
    pub fn above(self, contenders: &[Contender]) -> Self {
        let newest = contenders.iter().map(|contender| contender.order).chain([self]).max().unwrap_or(self);
        Self { arrival: self.arrival, ..newest }
    }
}

/// When an event counts as having happened that arrives `now`: by the producer's clock, if it tells and can be right. What is
/// said to come from the future would be newer than all that anybody asks for until then.
#[must_use]
pub fn happened_at(told: Option<Timestamp>, now: Timestamp) -> Timestamp {
    told.filter(|told| told.duration_since(now) <= CLOCK_AHEAD).unwrap_or(now)
}

/// Another deployment of the same project.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contender {
    /// The deployment's id, as what follows for it is written under it.
    pub id: DeploymentId,
    /// Its place in the order of the project.
    pub order: Order,
    /// Whether it hasn't ended.
    pub open: bool,
}

/// What follows from a request's arrival: the latest wins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Precedence {
    /// The newest deployment, when that is newer than the request.
    pub superseded_by: Option<DeploymentId>,
    /// Older deployments that haven't ended and give way to the request.
    pub supersedes: Vec<DeploymentId>,
}

/// Decides between a request that arrives with the place `order` and the deployments that it contends with.
#[must_use]
pub fn resolve(order: &Order, contenders: &[Contender]) -> Precedence {
    let newer = contenders.iter().filter(|contender| contender.order > *order);
    let superseded_by = newer.max_by_key(|contender| contender.order).map(|contender| contender.id);
    let supersedes = match superseded_by {
        Some(_) => Vec::new(),
        None => contenders.iter().filter(|c| c.open).map(|c| c.id).collect(),
    };
    Precedence { superseded_by, supersedes }
}

/// A deployment that hasn't ended and is older than the request that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OlderDeployment {
    /// What it does.
    pub action: Action,
    /// Whether an attempt of it runs; otherwise it waits.
    pub running: bool,
    /// Whether any attempt of it has ever begun.
    pub claimed: bool,
    /// Whether it waits, and the previous release has to be restored before it may end.
    pub must_restore: bool,
}

/// How an older deployment gives way to a newer request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GiveWay {
    /// It ends now.
    EndNow,
    /// It is claimed once more, only to restore the previous release, and ends then.
    RestoreFirst,
    /// Its worker ends it at the next boundary between two stages.
    AtNextStage,
    /// It doesn't: what is half undone is undone to its end first.
    GoOn,
}

impl OlderDeployment {
    /// Decides how this deployment gives way to a request that does `newer`.
    #[must_use]
    pub fn give_way_to(self, newer: Action) -> GiveWay {
        let gives_way = self.action.gives_way_to(newer);
        match self.running {
            false if self.must_restore => GiveWay::RestoreFirst,
            false if !self.claimed || gives_way => GiveWay::EndNow,
            true if gives_way => GiveWay::AtNextStage,
            _ => GiveWay::GoOn,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(sequence: Option<u64>, second: i64, arrival: i64) -> Order {
        Order { sequence, time: Timestamp::from_second(second).expect("small"), arrival }
    }

    fn rival(name: &str, order: Order, open: bool) -> Contender {
        Contender { id: DeploymentId::of("test", name, None), order, open }
    }

    fn orders() -> impl Strategy<Value = Order> {
        (prop::option::of(0..4u64), 0..4i64, 0..1000i64).prop_map(|(s, t, a)| order(s, t, a))
    }

    #[test]
    fn the_number_beats_time_and_time_beats_arrival() {
        assert!(order(Some(2), 1, 1) > order(Some(1), 9, 9));
        assert!(order(Some(1), 0, 1) > order(None, 9, 9), "nothing that has a number happened before the other");
        assert!(order(Some(1), 2, 1) > order(Some(1), 1, 9));
        assert!(order(Some(1), 1, 2) > order(Some(1), 1, 1), "a replay comes after its original");
    }

    #[test]
    fn of_several_newer_rivals_the_newest_is_named() {
        let rivals = [
            rival("a", order(Some(5), 0, 1), true),
            rival("c", order(Some(7), 0, 2), false),
            rival("b", order(Some(6), 0, 3), true),
        ];
        let arrival = resolve(&order(Some(4), 0, 4), &rivals);
        assert_eq!(arrival, Precedence { superseded_by: Some(rivals[1].id), supersedes: vec![] });
        let arrival = resolve(&order(Some(8), 0, 4), &rivals);
        assert_eq!(arrival, Precedence { superseded_by: None, supersedes: vec![rivals[0].id, rivals[2].id] });
    }

    #[test]
    fn an_older_deployment_gives_way_unless_it_is_half_undone() {
        let waiting = OlderDeployment { action: Action::Deploy, running: false, claimed: false, must_restore: false };
        let running = OlderDeployment { running: true, claimed: true, ..waiting };
        let undeploying = OlderDeployment { action: Action::Undeploy, ..running };
        assert_eq!(waiting.give_way_to(Action::Deploy), GiveWay::EndNow);
        assert_eq!(running.give_way_to(Action::Deploy), GiveWay::AtNextStage);
        assert_eq!(undeploying.give_way_to(Action::Deploy), GiveWay::AtNextStage);
        assert_eq!(undeploying.give_way_to(Action::Stop), GiveWay::GoOn);
        let between_attempts = OlderDeployment { running: false, ..undeploying };
        assert_eq!(between_attempts.give_way_to(Action::Deploy), GiveWay::EndNow);
        assert_eq!(between_attempts.give_way_to(Action::Stop), GiveWay::GoOn);
        assert_eq!(OlderDeployment { claimed: false, ..between_attempts }.give_way_to(Action::Stop), GiveWay::EndNow);
        let unproven = OlderDeployment { must_restore: true, ..between_attempts };
        assert_eq!(unproven.give_way_to(Action::Stop), GiveWay::RestoreFirst);
    }

    #[test]
    fn what_is_told_to_happen_later_happens_when_it_arrives() {
        let now = Timestamp::constant(1_000_000, 0);
        let at = |second| Some(Timestamp::constant(second, 0));
        let ahead = CLOCK_AHEAD.as_secs();
        for (told, second) in [
            (None, 1_000_000),
            (at(1), 1),
            (at(1_000_000 + ahead), 1_000_000 + ahead),
            (at(1_000_001 + ahead), 1_000_000),
            (Some(Timestamp::MAX), 1_000_000),
            (Some(Timestamp::MIN), Timestamp::MIN.as_second()),
        ] {
            assert_eq!(happened_at(told, now).as_second(), second, "{told:?}");
        }
    }

    proptest! {
        #[test]
        fn of_two_requests_exactly_one_is_newer(a in orders(), b in orders()) {
            prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
            prop_assert!(a.arrival == b.arrival || a != b);
        }

        #[test]
        fn what_is_newer_than_a_newer_one_is_newer(a in orders(), b in orders(), c in orders()) {
            prop_assert!(!(a < b && b < c) || a < c);
        }

        #[test]
        fn whatever_the_order_in_which_they_come_the_newest_of_all_is_what_remains(
            places in prop::collection::vec(orders(), 1..8)
        ) {
            let mut here: Vec<Contender> = Vec::new();
            for (i, place) in places.iter().enumerate() {
                let new = rival(&i.to_string(), Order { arrival: i as i64, ..*place }, true);
                let arrival = resolve(&new.order, &here);
                here.iter_mut().filter(|r| arrival.supersedes.contains(&r.id)).for_each(|r| r.open = false);
                here.push(Contender { open: arrival.superseded_by.is_none(), ..new });
            }
            let newest = here.iter().max_by_key(|r| r.order).map(|r| r.id);
            let open: Vec<_> = here.iter().filter(|r| r.open).map(|r| r.id).collect();
            prop_assert_eq!(open, newest.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn a_request_never_gives_way_and_takes_the_place_of_others_at_once(
            new in orders(), rivals in prop::collection::vec((orders(), any::<bool>()), 0..6)
        ) {
            let rivals: Vec<_> =
                rivals.into_iter().enumerate().map(|(i, (o, open))| rival(&i.to_string(), o, open)).collect();
            let arrival = resolve(&new, &rivals);
            prop_assert!(arrival.superseded_by.is_none() || arrival.supersedes.is_empty());
            prop_assert_eq!(
                arrival.superseded_by.is_some(),
                rivals.iter().any(|r| r.order > new)
            );
            prop_assert!(arrival.supersedes.iter().all(|id| rivals.iter().any(|r| r.id == *id && r.open)));
        }

        #[test]
        fn a_forced_request_is_newer_than_all_before_it_and_older_than_the_next_number(
            forced in orders(), rivals in prop::collection::vec(orders(), 0..6)
        ) {
            let rivals: Vec<_> =
                rivals.into_iter().enumerate().map(|(i, o)| rival(&i.to_string(), o, true)).collect();
            let forced = Order { arrival: 1000, ..forced }.above(&rivals);
            prop_assert_eq!(resolve(&forced, &rivals).superseded_by, None);
            let next = Order { sequence: forced.sequence.map(|s| s + 1), time: forced.time, arrival: 1001 };
            prop_assert!(next > forced);
        }
    }
}
