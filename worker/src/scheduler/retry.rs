//! What follows from an attempt that failed or was cut off.

use std::time::Duration;

use slipway_deploy::StageError;
use slipway_deploy::backoff::RetryPolicy;

/// How often a deployment may be interrupted by workers that stop or die before it's given up.
pub const MAX_INTERRUPTIONS: u32 = 10;

/// How often a deployment's failed try costs it no attempt, since its server couldn't be reached or somebody's rate limit was
/// used up. More than an outage needs to exhaust patience, and a limit the deployment's time, so that this bounds only what
/// these can't: a server that comes and goes.
pub const MAX_WAITS: u32 = 50;

/// How often a deployment was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptCounts {
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// Attempts that weren't counted: the server's circuit was open after them, or they met a rate limit.
    pub waits: u32,
}

/// What follows from an attempt that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// Another attempt, after this delay.
    Retry(Duration),
    /// The same attempt once more, when the server's circuit lets somebody through: not before this delay.
    Wait(Duration),
    /// The same attempt once more, after this delay: somebody allows no more for now.
    Pause(Duration),
    /// None: the error isn't of a kind that goes away by itself.
    Permanent,
    /// None: all attempts are used up.
    Exhausted,
}

/// Decides after an attempt failed with `error`; `open` is how long the server's circuit is open from now, if it is.
/// The delay is drawn with full jitter and is never shorter than what the other side asked for.
#[must_use]
pub fn after_failure(
    policy: &RetryPolicy,
    tries: AttemptCounts,
    error: &StageError,
    open: Option<Duration>,
) -> RetryDecision {
    if !error.code.class().retries() {
        return RetryDecision::Permanent;
    }
    // A dead server says nothing about the deployment: it waits with all others. How long, patience decides.
    if let Some(open) = open
        && error.code.is_connection_failure()
        && tries.waits < MAX_WAITS
    {
        return RetryDecision::Wait(open);
    }
    // Nor does a limit that others have used up. How long, the deployment's own time decides.
    if error.code.is_rate_limit()
        && tries.waits < MAX_WAITS
        && let Some(delay) = RetryPolicy::RATE_LIMITED.delay(tries.waits + 1)
    {
        return RetryDecision::Pause(delay.max(error.retry_after.unwrap_or(RetryPolicy::RATE_LIMITED.initial)));
    }
    match policy.delay(tries.attempt) {
        Some(delay) => RetryDecision::Retry(delay.max(error.retry_after.unwrap_or_default())),
        None => RetryDecision::Exhausted,
    }
}

/// Whether a deployment that was interrupted `before` times, and is so once more, may be claimed again. A release that
/// it left `unproven` is worth one claim more, only to restore the previous one.
#[must_use]
pub fn after_interruption(before: u32, limit: u32, unproven: bool) -> bool {
    before < limit || (unproven && before == limit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use slipway_protocol::ErrorCode;

    use super::*;

    proptest! {
        #[test]
        fn retries_end_and_never_come_before_they_are_welcome(attempts in 1..8u32, after in prop::option::of(0..900u64)) {
            let policy = RetryPolicy { attempts, ..RetryPolicy::ATTEMPTS };
            for code in ErrorCode::ALL {
                let after = after.map(Duration::from_secs);
                let error = StageError { retry_after: after, ..StageError::new(*code, "") };
                for attempt in 1..=attempts {
                    let pause = RetryPolicy::RATE_LIMITED.max.max(after.unwrap_or(RetryPolicy::RATE_LIMITED.initial));
                    match after_failure(&policy, AttemptCounts { attempt, waits: 0 }, &error, None) {
                        RetryDecision::Pause(delay) => {
                            prop_assert!(code.is_rate_limit() && delay >= after.unwrap_or(RetryPolicy::RATE_LIMITED.initial));
                            prop_assert!(delay <= pause);
                        }
                        RetryDecision::Permanent => prop_assert!(!code.class().retries()),
                        RetryDecision::Exhausted => {
                            prop_assert!(code.class().retries() && attempt == attempts && !code.is_rate_limit());
                        }
                        RetryDecision::Retry(delay) => {
                            prop_assert!(code.class().retries() && attempt < attempts);
                            prop_assert!(delay >= after.unwrap_or_default());
                            prop_assert!(delay <= policy.max.max(after.unwrap_or_default()));
                        }
                        RetryDecision::Wait(_) => prop_assert!(false, "no circuit is open"),
                    }
                }
            }
        }

        #[test]
        fn an_open_circuit_spares_attempts_of_connection_failures_alone_and_not_for_ever(
            attempt in 1..8u32, waits in 0..2 * MAX_WAITS
        ) {
            let open = Duration::from_secs(7);
            for code in ErrorCode::ALL {
                let next = after_failure(
                    &RetryPolicy::ATTEMPTS, AttemptCounts { attempt, waits }, &StageError::new(*code, ""), Some(open)
                );
                let spared = code.is_connection_failure() && waits < MAX_WAITS;
                prop_assert_eq!(next == RetryDecision::Wait(open), spared, "{}: {:?}", code, next);
            }
        }
    }
    #[test]
    fn a_rate_limit_is_waited_for_as_long_as_a_deployment_may_take() {
        let error = StageError::new(ErrorCode::RegistryRateLimited, "");
        let (mut slept, mut waits) = (Duration::ZERO, 0);
        while let RetryDecision::Pause(delay) =
            after_failure(&RetryPolicy::ATTEMPTS, AttemptCounts { attempt: 5, waits }, &error, None)
        {
            (slept, waits) = (slept + delay, waits + 1);
        }
        assert_eq!(waits, MAX_WAITS);
        // Three hours is what a deployment may take, retries and waiting included.
        assert!(slept > Duration::from_secs(3 * 3600), "{slept:?}");
        let tries = AttemptCounts { attempt: 5, waits };
        assert_eq!(after_failure(&RetryPolicy::ATTEMPTS, tries, &error, None), RetryDecision::Exhausted);
    }
}
