//! Retry policies: exponential backoff with full jitter. The only file that may import the crate `backoff`, which is
//! unmaintained (RUSTSEC-2025-0012) and must stay replaceable. What is retried is decided by those who use a policy.

use std::time::Duration;

use backoff::ExponentialBackoffBuilder;
use backoff::backoff::Backoff as _;

/// How often and how long apart something is tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryPolicy {
    /// Upper bound of the first delay.
    pub initial: Duration,
    /// Upper bound of any delay.
    pub max: Duration,
    /// Growth of the upper bound from one delay to the next.
    pub multiplier: f64,
    /// How many times it's tried in all.
    pub attempts: u32,
}

impl RetryPolicy {
    /// Short faults within a stage, such as a reset connection, and of one request to GitHub, such as a 502.
    pub const IN_STAGE: Self =
        Self { initial: Duration::from_millis(500), max: Duration::from_secs(5), multiplier: 2.0, attempts: 3 };

    /// Connecting to a server that resets the connection: sshd's MaxStartups does at random while many come at once.
    pub const CONNECT: Self =
        Self { initial: Duration::from_millis(200), max: Duration::from_secs(2), multiplier: 2.0, attempts: 8 };

    /// Reaching a server again to restore the previous release: some minutes, as long as a restart may take.
    pub const RESTORE: Self =
        Self { initial: Duration::from_secs(1), max: Duration::from_secs(30), multiplier: 2.0, attempts: 14 };

    /// Whole attempts of a deployment.
    pub const ATTEMPTS: Self =
        Self { initial: Duration::from_secs(10), max: Duration::from_secs(600), multiplier: 3.0, attempts: 5 };

    /// Whole attempts of a deployment that meet somebody's rate limit: as often as the deployment's time allows.
    pub const RATE_LIMITED: Self =
        Self { initial: Duration::from_secs(60), max: Duration::from_secs(900), multiplier: 2.0, attempts: u32::MAX };

    /// Rebuilding a connection to the broker or the database: without an end. Two seconds at most, so that
    /// work goes on within ten seconds after the connection is possible again.
    pub const RECONNECT: Self =
        Self { initial: Duration::from_millis(250), max: Duration::from_secs(2), multiplier: 2.0, attempts: u32::MAX };

    /// Telling people through a channel that refuses a message, or doesn't work: about half a day for a message.
    pub const NOTIFICATIONS: Self =
        Self { initial: Duration::from_secs(10), max: Duration::from_secs(1800), multiplier: 2.0, attempts: 50 };

    /// The delay after try number `tried` (from 1), drawn evenly from zero to that try's upper bound, or `None` when
    /// all tries are used up.
    #[must_use]
    pub fn delay(&self, tried: u32) -> Option<Duration> {
        if tried >= self.attempts {
            return None;
        }
        // `backoff` draws from interval * (1 ± factor): half the bound with factor 1 is full jitter.
        ExponentialBackoffBuilder::new()
            .with_initial_interval(self.bound(tried) / 2)
            .with_randomization_factor(1.0)
            .with_max_elapsed_time(None)
            .build()
            .next_backoff()
    }

    /// The longest delay after try number `tried` (from 1).
    #[must_use]
    pub fn bound(&self, tried: u32) -> Duration {
        let steps = i32::try_from(tried.saturating_sub(1).min(64)).unwrap_or(64);
        let bound = self.initial.as_secs_f64() * self.multiplier.powi(steps);
        Duration::from_secs_f64(bound.min(self.max.as_secs_f64()))
    }
}
