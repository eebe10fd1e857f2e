//! Bounds every wait for an answer of the broker. When the next connection is tried is decided in `generations`.

use std::time::Duration;

use tokio::sync::watch;

use super::connection_state::ConnectionState;
use super::error::AmqpError;

/// Longest time for any one answer of the broker.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time for connecting to one address, login included.
pub const CONNECT: Duration = Duration::from_secs(5);

/// Bounds the wait for an answer: a frozen or blocked broker keeps its connections open.
pub(super) async fn answer<T>(
    what: &'static str,
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, AmqpError> {
    answer_within(TIMEOUT, what, work).await
}

pub(super) async fn answer_within<T>(
    limit: Duration,
    what: &'static str,
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, AmqpError> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(source)) => Err(AmqpError::Broker { what, source }),
        Err(_) => Err(AmqpError::TimedOut { what, limit }),
    }
}

/// As [`answer`], but the time during which the broker is in alarm doesn't count: then it answers later.
pub(super) async fn answer_when_unblocked<T>(
    mut state: watch::Receiver<ConnectionState>,
    what: &'static str,
    work: impl Future<Output = lapin::Result<T>>,
) -> Result<T, AmqpError> {
    let is_blocked = |state: &ConnectionState| matches!(state, ConnectionState::Blocked(_));
    let overdue = async {
        loop {
            let alarm = tokio::time::timeout(TIMEOUT, state.wait_for(is_blocked)).await;
            let Ok(is_in_alarm) = alarm.map(|state| state.is_ok()) else { return };
            if !is_in_alarm || state.wait_for(|state| !is_blocked(state)).await.is_err() {
                // The connection has ended, so no alarm is reported any more: `work` is about to fail with the reason.
                return tokio::time::sleep(TIMEOUT).await;
            }
        }
    };
    tokio::select! {
        answered = work => answered.map_err(|source| AmqpError::Broker { what, source }),
        () = overdue => Err(AmqpError::TimedOut { what, limit: TIMEOUT }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_ends_is_told_by_what_was_asked_and_is_no_late_answer() {
        for last in [ConnectionState::Up, ConnectionState::Blocked("memory".to_owned())] {
            let (sender, state) = watch::channel(last);
            drop(sender);
            let refused = async {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Err::<(), _>(lapin::ErrorKind::InvalidChannel(1).into())
            };
            let refused = answer_when_unblocked(state, "a message", refused).await;
            assert!(matches!(refused, Err(AmqpError::Broker { .. })), "{refused:?}");
        }
    }
}
