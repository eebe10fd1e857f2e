//! The circuit breaker of a server: after some connection failures in a row nobody tries for a while, then one attempt
//! does.
//!
//! There is no circuit for a server to which the last connection was made: making one forgets it. The one attempt that
//! is let through needs no mark of its own, since it's whatever acts on the server then ([`super::Limits`]): when its
//! worker dies, its lease ends, and the next one is let through.

use std::time::Duration;

use jiff::Timestamp;
use slipway_deploy::backoff::RetryPolicy;

/// Connection failures in a row, of any deployments, that open a server's circuit.
pub const FAILURES_TO_OPEN: u32 = 3;

/// How long an open circuit lets nobody through. Short at most: a probe costs one connection, and a server that is back
/// shouldn't be kept waiting.
pub const COOL_DOWN: RetryPolicy = RetryPolicy {
    initial: Duration::from_secs(10),
    max: Duration::from_secs(120),
    multiplier: 2.0,
    attempts: u32::MAX,
};

/// A server to which connections have failed since the last one that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Circuit {
    /// How many, up to the one that opened it last.
    pub failures: u32,
    /// When the first of them failed.
    pub since: Timestamp,
    /// When one attempt may try again; absent until it has opened.
    pub open_until: Option<Timestamp>,
}

/// Whom a circuit lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Everybody: too little has failed.
    Closed,
    /// Nobody until this time.
    Open(Timestamp),
    /// One attempt at a time, to find out whether the server is back.
    HalfOpen,
}

impl Circuit {
    /// Whom this circuit lets through at `now`.
    #[must_use]
    pub fn state_at(&self, now: Timestamp) -> CircuitState {
        match self.open_until {
            None => CircuitState::Closed,
            Some(until) if now < until => CircuitState::Open(until),
            Some(_) => CircuitState::HalfOpen,
        }
    }

    /// What one more connection failure makes of it. `jitter` (from 0 to 1) spreads the cool-down over the upper half of
    /// its bound. A failure while it's open says nothing new: that attempt began before.
    #[must_use]
    pub fn failed(known: Option<Self>, now: Timestamp, jitter: f64) -> Self {
        let known = known.unwrap_or(Self { failures: 0, since: now, open_until: None });
        if matches!(known.state_at(now), CircuitState::Open(_)) {
            return known;
        }
        let failures = known.failures.saturating_add(1);
        let openings = (failures + 1).saturating_sub(FAILURES_TO_OPEN);
        let cool_down = COOL_DOWN.bound(openings).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        Self { failures, open_until: (openings > 0).then(|| now + cool_down), ..known }
    }

    /// Whether deployments that have waited for `patience` are given up: the outage has lasted that long, and a probe
    /// has just found that it goes on. Time in which nobody probed proves nothing.
    #[must_use]
    pub fn exhausts_patience(&self, now: Timestamp, patience: Duration) -> bool {
        matches!(self.state_at(now), CircuitState::Open(_)) && self.since + patience <= now
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn it_opens_with_the_third_failure_in_a_row_and_lets_one_through_when_cooled_down() {
        let first = Circuit::failed(None, at(100), 0.0);
        assert_eq!(first, Circuit { failures: 1, since: at(100), open_until: None });
        assert_eq!(first.state_at(at(100)), CircuitState::Closed);
        let second = Circuit::failed(Some(first), at(101), 0.0);
        assert_eq!(second.state_at(at(101)), CircuitState::Closed);
        let third = Circuit::failed(Some(second), at(102), 0.0);
        assert_eq!(third, Circuit { failures: 3, since: at(100), open_until: Some(at(107)) });
        assert_eq!(
            (third.state_at(at(106)), third.state_at(at(107))),
            (CircuitState::Open(at(107)), CircuitState::HalfOpen)
        );
        assert_eq!(Circuit::failed(Some(third), at(105), 0.0), third, "a late failure adds nothing");
        let fourth = Circuit::failed(Some(third), at(110), 1.0);
        assert_eq!(fourth, Circuit { failures: 4, since: at(100), open_until: Some(at(130)) });
    }

    #[test]
    fn an_outage_exhausts_patience_only_once_a_probe_has_confirmed_it() {
        let patience = Duration::from_secs(60);
        let circuit = Circuit { failures: 3, since: at(0), open_until: Some(at(50)) };
        assert!(!circuit.exhausts_patience(at(49), patience), "not long enough");
        assert!(!circuit.exhausts_patience(at(5000), patience), "nobody has tried for long");
        let probed = Circuit::failed(Some(circuit), at(5000), 0.5);
        assert!(probed.exhausts_patience(at(5001), patience));
    }

    proptest! {
        #[test]
        fn cool_downs_grow_and_stay_within_their_bounds(failures in 0..80u32, jitter in 0.0..1.0f64) {
            let known = Circuit { failures: FAILURES_TO_OPEN - 1 + failures, since: at(0), open_until: None };
            let until = Circuit::failed(Some(known), at(0), jitter).open_until.unwrap();
            let cool_down = Duration::try_from(until.duration_since(at(0))).unwrap();
            let bound = COOL_DOWN.bound(failures + 1);
            prop_assert!(bound <= COOL_DOWN.max && bound >= COOL_DOWN.initial);
            prop_assert!(cool_down <= bound && cool_down >= bound / 2, "{cool_down:?} {bound:?}");
            prop_assert!(failures == 0 || bound >= COOL_DOWN.bound(failures));
        }
    }
}
