//! What must hold in the model's world, written down once more and apart from what decides it.

use slipway_protocol::Outcome;

use super::super::MAX_WAITS;
use super::world::{ATTEMPTS, INTERRUPTIONS, ModelAttempt, ModelWorld};
use crate::store::State;

impl ModelWorld {
    /// Nobody who could have been claimed was due before, by rules that are written down here once more.
    pub(super) fn check_turn(&self, next: usize) {
        let room = |server: usize| {
            let running = self.running().filter(|d| d.server == server).count();
            match self.circuits.get(&server).and_then(|c| c.open_until) {
                Some(until) => running == 0 && until <= self.now,
                None => running < 2,
            }
        };
        let turn = &self.deployments[next];
        assert!(self.running().count() < 4 && room(turn.server), "a limit is exceeded: {self:#?}");
        for (i, d) in self.deployments.iter().enumerate() {
            let before = (d.run_at, i) < (turn.run_at, next);
            assert!(!(before && self.waits_for_nothing(d) && room(d.server)), "{next} overtakes {i}: {self:#?}");
        }
    }

    /// A stage begins only for what nothing newer has replaced.
    pub(super) fn check_newest(&self, this: usize) {
        let d = &self.deployments[this];
        let gone = [Outcome::Superseded, Outcome::Cancelled].map(State::Ended);
        let newer = self
            .deployments
            .iter()
            .find(|other| other.project == d.project && other.order > d.order && !gone.contains(&other.state));
        assert!(newer.is_none(), "{this} runs though there is a newer one: {self:#?}");
    }

    /// What must hold whenever nothing is under way.
    pub(super) fn check(&self) {
        for (i, d) in self.deployments.iter().enumerate() {
            assert!(d.tries.attempt <= ATTEMPTS.attempts && d.tries.waits <= MAX_WAITS, "{i}: {d:?}");
            // Restoring the previous release is worth one claim more.
            let most = INTERRUPTIONS + u32::from(d.touched);
            assert!(d.interruptions <= most + 1, "{i}: {d:?}");
            // The interruption that ends a deployment leaves it the attempt.
            let last = u32::from(d.interruptions > most);
            assert_eq!(d.claims + last, d.tries.attempt + d.tries.waits + d.interruptions, "{i} lost count: {d:?}");
        }
        for attempt in self.attempts.iter().filter(|a| self.held(**a)) {
            let d = &self.deployments[attempt.deployment];
            let rival = |a: &&ModelAttempt| {
                let other = &self.deployments[a.deployment];
                (other.project, other.server) == (d.project, d.server) && self.held(**a)
            };
            assert_eq!(self.attempts.iter().filter(rival).count(), 1, "two act on one project: {self:#?}");
        }
    }
}
