//! What the runner does with an attempt that doesn't simply run to its end: cancelled, overdue, resumed, refused by the
//! server. A real PostgreSQL and a real RabbitMQ, with a scripted pipeline.

mod bounds;
mod giving_way;
mod restore_previous;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use crate::services::test_worker::{ScriptedStages, report};
use slipway_deploy::{RestoreOutcome, StageError};
use slipway_protocol::{Change, DeploymentId, ErrorCode, Stage};
use tokio::sync::Notify;

const SECOND: Duration = Duration::from_secs(1);

fn id_of(body: &[u8]) -> DeploymentId {
    let event: serde_json::Value = serde_json::from_slice(body).unwrap();
    DeploymentId::of(event["source"].as_str().unwrap(), event["id"].as_str().unwrap(), None)
}

/// A pipeline that waits in stage `stage` for its cancellation.
fn stuck_in(stage: Stage, reached: &Arc<Notify>) -> ScriptedStages {
    let reached = reached.clone();
    ScriptedStages::new(move |call| {
        let reached = reached.clone();
        async move {
            if call.stage == stage {
                reached.notify_one();
                call.cancel.cancelled().await;
                return Err(StageError::new(ErrorCode::DeadlineExceeded, "the command was cancelled"));
            }
            Ok(report(Change::Changed))
        }
    })
}

/// What served before was restored and is stable.
fn put_back() -> RestoreOutcome {
    RestoreOutcome::Restored { commit: Some("c0ffee".to_owned()), stable: true, services: Vec::new(), serving: None }
}
