//! One connection after the other, for ever, with backoff and jitter in between. A failure that repeats is logged once,
//! and then again from time to time.

use std::time::{Duration, Instant};

use slipway_deploy::backoff::RetryPolicy;
use tokio_util::sync::CancellationToken;

use super::address::BrokerAddress;
use super::connection::{BrokerConnection, BrokerEndpoints};
use super::error::AmqpError;

/// A connection that lived this long counts as stable: the next one is tried without a delay.
const STABLE_AFTER: Duration = Duration::from_secs(30);
/// How often a failure that stays the same is logged.
const REMIND_INTERVAL: Duration = Duration::from_secs(300);

impl BrokerEndpoints {
    /// Connections for `purpose`, one after the other.
    #[must_use]
    pub fn generations(&self, purpose: &'static str) -> ConnectionGenerations {
        ConnectionGenerations {
            broker: self.clone(),
            purpose,
            turn: 0,
            tried: 0,
            number: 0,
            since: None,
            logged_failure: None,
            logged_end: None,
        }
    }
}

/// Connections one after the other; the next one is built when the last has failed.
pub struct ConnectionGenerations {
    broker: BrokerEndpoints,
    purpose: &'static str,
    turn: usize,
    tried: u32,
    number: u64,
    since: Option<Instant>,
    /// The last failure to connect that was logged.
    logged_failure: Option<(String, Instant)>,
    /// The last end of a connection that was logged.
    logged_end: Option<(String, Instant)>,
}

impl ConnectionGenerations {
    /// Builds the next connection without a delay: the last one didn't end because of the broker.
    pub fn skip_delay(&mut self) {
        self.tried = 0;
    }

    /// Gives up the last connection because of `error`, and logs `what` when the error is new, and again now and then.
    pub fn give_up(&mut self, what: &'static str, error: impl Into<anyhow::Error>) {
        let error = format!("{:#}", error.into());
        let was_stable = self.since.is_some_and(|since| since.elapsed() > STABLE_AFTER);
        if !was_stable && was_logged_recently(&self.logged_end, &error) {
            tracing::debug!(purpose = self.purpose, error, "{what}");
            return;
        }
        tracing::warn!(purpose = self.purpose, error, "{what}");
        self.logged_end = Some((error, Instant::now()));
    }

    /// The next connection, however long it takes; `None` once `stop` is cancelled. Goes from address to address, and
    /// waits after each round.
    pub async fn next(&mut self, stop: &CancellationToken) -> Option<BrokerConnection> {
        if self.since.is_some_and(|since| since.elapsed() > STABLE_AFTER) {
            self.tried = 0;
        }
        let round = self.broker.addresses.len();
        let mut failed = 0;
        loop {
            if self.tried > 0 && failed % round == 0 {
                let delay = RetryPolicy::RECONNECT.delay(self.tried).unwrap_or(RetryPolicy::RECONNECT.max);
                tokio::select! {
                    () = stop.cancelled() => return None,
                    () = tokio::time::sleep(delay) => {}
                }
            }
            self.tried = self.tried.saturating_add(1);
            let address = self.broker.address(self.turn).clone();
            let connected = tokio::select! {
                () = stop.cancelled() => return None,
                connected = self.broker.connect_to(&address, self.purpose) => connected,
            };
            // Also after a success: the connection that follows is needed when this address has failed.
            self.turn += 1;
            match connected {
                Ok(link) => {
                    self.number += 1;
                    let (purpose, generation) = (self.purpose, self.number);
                    // When connections end again and again soon after they were built, only the first is logged.
                    let was_stable = self.since.is_none_or(|since| since.elapsed() > STABLE_AFTER);
                    if was_stable || self.logged_failure.is_some() {
                        tracing::info!(purpose, generation, address = %address, "connected to the broker");
                    } else {
                        tracing::debug!(purpose, generation, address = %address, "connected to the broker");
                    }
                    (self.since, self.logged_failure) = (Some(Instant::now()), None);
                    return Some(link);
                }
                Err(error) => self.log_failure(&address, error),
            }
            failed += 1;
        }
    }

    /// Logs a failure when it's new, and again now and then.
    fn log_failure(&mut self, address: &BrokerAddress, error: AmqpError) {
        let error = format!("{address}: {:#}", anyhow::Error::from(error));
        if was_logged_recently(&self.logged_failure, &error) {
            tracing::debug!(purpose = self.purpose, tries = self.tried, error, "waiting for the broker");
            return;
        }
        tracing::warn!(purpose = self.purpose, tries = self.tried, error, "waiting for the broker");
        self.logged_failure = Some((error, Instant::now()));
    }
}

/// Whether this failure was logged not long ago.
fn was_logged_recently(logged: &Option<(String, Instant)>, error: &str) -> bool {
    logged.as_ref().is_some_and(|(text, at)| text == error && at.elapsed() < REMIND_INTERVAL)
}
