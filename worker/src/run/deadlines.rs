//! Whether a claimed deployment is too old: a request that waited for too long isn't begun, and a deployment that has
//! taken too long isn't continued. Pure; all times are the database's. How long one stage may take is checked in
//! `stages`.

use std::time::Duration;

use jiff::Timestamp;
use slipway_deploy::StageError;
use slipway_deploy::bounds::Deadlines;
use slipway_protocol::{CloudEvent, ErrorCode, ProjectReady};

use crate::store::DeploymentHistory;

/// Fails when the deployment is too old to begin, or has taken too long.
pub(super) fn check_age(
    deadlines: &Deadlines,
    history: &DeploymentHistory,
    event: &CloudEvent<ProjectReady>,
) -> Result<(), StageError> {
    if history.begun {
        return match remaining(deadlines, history) {
            Duration::ZERO => Err(overdue(deadlines)),
            _ => Ok(()),
        };
    }
    if let Some(expiry) = event.data.expires_at.filter(|expiry| *expiry <= history.now) {
        let message = format!("the request expired at {expiry}, before a worker could begin with it");
        return Err(StageError::new(ErrorCode::ExpiredEvent, message));
    }
    // The event's own time counts, since it may have waited in RabbitMQ. Whoever replays it knows how old it is.
    let requested_at =
        event.time.filter(|time| !history.replayed && *time < history.accepted_at).unwrap_or(history.accepted_at);
    if elapsed(history.now, requested_at) >= deadlines.request {
        let message =
            format!("the request is of {requested_at}, and none older than {} s is begun", deadlines.request.as_secs());
        return Err(StageError::new(ErrorCode::ExpiredEvent, message));
    }
    Ok(())
}

/// How long the deployment may still take.
pub(super) fn remaining(deadlines: &Deadlines, history: &DeploymentHistory) -> Duration {
    deadlines.deployment.saturating_sub(elapsed(history.now, history.started_at))
}

pub(super) fn overdue(deadlines: &Deadlines) -> StageError {
    let message = format!("it took longer than {} s, all attempts together", deadlines.deployment.as_secs());
    StageError::new(ErrorCode::DeploymentOverdue, message)
}

fn elapsed(now: Timestamp, then: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = include_bytes!("../../../protocol/samples/project-ready.v1.json");

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn limits() -> Deadlines {
        Deadlines { deployment: Duration::from_secs(100), request: Duration::from_secs(1000), ..Deadlines::DEFAULT }
    }

    fn history(now: i64) -> DeploymentHistory {
        DeploymentHistory {
            now: at(now),
            accepted_at: at(5000),
            started_at: at(5000),
            replayed: false,
            resumes: false,
            begun: false,
            unproven: false,
        }
    }

    fn event(time: Option<i64>, expires: Option<i64>) -> CloudEvent<ProjectReady> {
        let mut event: CloudEvent<ProjectReady> = serde_json::from_slice(SAMPLE).unwrap();
        event.time = time.map(at);
        event.data.expires_at = expires.map(at);
        event
    }

    fn code(history: &DeploymentHistory, event: &CloudEvent<ProjectReady>) -> Option<ErrorCode> {
        check_age(&limits(), history, event).err().map(|error| error.code)
    }

    #[test]
    fn a_request_that_waited_for_too_long_anywhere_is_not_begun() {
        let expired = Some(ErrorCode::ExpiredEvent);
        assert_eq!(code(&history(5999), &event(None, None)), None);
        assert_eq!(code(&history(6000), &event(None, None)), expired, "in the database");
        assert_eq!(code(&history(5001), &event(Some(4001), None)), expired, "in RabbitMQ");
        assert_eq!(code(&history(5001), &event(Some(9000), None)), None, "a producer whose clock is ahead");
        assert_eq!(code(&history(5001), &event(None, Some(5001))), expired, "by its own word");
        let replayed = DeploymentHistory { replayed: true, ..history(5001) };
        assert_eq!(code(&replayed, &event(Some(1), None)), None, "an operator knows how old it is");
    }

    #[test]
    fn what_has_begun_is_bounded_by_the_deployments_deadline_alone() {
        let begun = |now| DeploymentHistory { begun: true, ..history(now) };
        assert_eq!(code(&begun(5099), &event(Some(1), Some(5001))), None);
        assert_eq!(remaining(&limits(), &begun(5099)), Duration::from_secs(1));
        assert_eq!(code(&begun(5100), &event(None, None)), Some(ErrorCode::DeploymentOverdue));
    }
}
