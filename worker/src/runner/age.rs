//! Whether a claimed deployment is too old: requests that waited for too long aren't begun, and deployments that have
//! taken too long aren't gone on with. Pure; all moments are the database's.

use std::time::Duration;

use jiff::Timestamp;
use slipway_deploy::StageError;
use slipway_deploy::retry::Deadlines;
use slipway_protocol::{CloudEvent, ErrorCode, ProjectReady};

use crate::store::DeploymentHistory;

/// Why nothing of it may be done any more, if that's so.
pub(super) fn too_old(
    deadlines: &Deadlines,
    past: &DeploymentHistory,
    event: &CloudEvent<ProjectReady>,
) -> Result<(), StageError> {
    if past.begun {
        return match left(deadlines, past) {
            Duration::ZERO => Err(overdue(deadlines)),
            _ => Ok(()),
        };
    }
    if let Some(expiry) = event.data.expires_at.filter(|expiry| *expiry <= past.now) {
        let message = format!("the request expired at {expiry}, before a worker could begin with it");
        return Err(StageError::new(ErrorCode::ExpiredEvent, message));
    }
    // The event's own time counts, for it may have waited in RabbitMQ. Who sends it again knows how old it is.
    let born = event.time.filter(|time| !past.replayed && *time < past.accepted_at).unwrap_or(past.accepted_at);
    if since(past.now, born) >= deadlines.request {
        let message =
            format!("the request is of {born}, and none older than {} s is begun", deadlines.request.as_secs());
        return Err(StageError::new(ErrorCode::ExpiredEvent, message));
    }
    Ok(())
}

/// How long the deployment may still take.
pub(super) fn left(deadlines: &Deadlines, past: &DeploymentHistory) -> Duration {
    deadlines.deployment.saturating_sub(since(past.now, past.started_at))
}

pub(super) fn overdue(deadlines: &Deadlines) -> StageError {
    let message =
        format!("the deployment took longer than {} s, all attempts together", deadlines.deployment.as_secs());
    StageError::new(ErrorCode::DeploymentOverdue, message)
}

fn since(now: Timestamp, then: Timestamp) -> Duration {
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

    fn past(now: i64) -> DeploymentHistory {
        DeploymentHistory {
            now: at(now),
            accepted_at: at(5000),
            started_at: at(5000),
            replayed: false,
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

    fn code(past: &DeploymentHistory, event: &CloudEvent<ProjectReady>) -> Option<ErrorCode> {
        too_old(&limits(), past, event).err().map(|error| error.code)
    }

    #[test]
    fn a_request_that_waited_for_too_long_anywhere_is_not_begun() {
        let expired = Some(ErrorCode::ExpiredEvent);
        assert_eq!(code(&past(5999), &event(None, None)), None);
        assert_eq!(code(&past(6000), &event(None, None)), expired, "in the database");
        assert_eq!(code(&past(5001), &event(Some(4001), None)), expired, "in RabbitMQ");
        assert_eq!(code(&past(5001), &event(Some(9000), None)), None, "a producer whose clock is ahead");
        assert_eq!(code(&past(5001), &event(None, Some(5001))), expired, "by its own word");
        let replayed = DeploymentHistory { replayed: true, ..past(5001) };
        assert_eq!(code(&replayed, &event(Some(1), None)), None, "an operator knows how old it is");
    }

    #[test]
    fn what_has_begun_is_bounded_by_the_deployments_deadline_alone() {
        let begun = |now| DeploymentHistory { begun: true, ..past(now) };
        assert_eq!(code(&begun(5099), &event(Some(1), Some(5001))), None);
        assert_eq!(left(&limits(), &begun(5099)), Duration::from_secs(1));
        assert_eq!(code(&begun(5100), &event(None, None)), Some(ErrorCode::DeploymentOverdue));
    }
}
