//! Intake, runner and relay on a real PostgreSQL and a real RabbitMQ, with a scripted pipeline.

mod acknowledgements;
mod attempts;
mod cost;
mod dependencies;
mod draining;
mod failing;
mod held;
mod renewals;
mod spoilers;

use crate::services::test_worker::{ScriptedStages, report};
use slipway_protocol::{Change, DeploymentId};

fn unchanged() -> ScriptedStages {
    ScriptedStages::new(|_| async { Ok(report(Change::Unchanged)) })
}

pub(super) fn changed() -> ScriptedStages {
    ScriptedStages::new(|_| async { Ok(report(Change::Changed)) })
}

fn id_of(body: &[u8]) -> DeploymentId {
    let event: serde_json::Value = serde_json::from_slice(body).unwrap();
    DeploymentId::of(event["source"].as_str().unwrap(), event["id"].as_str().unwrap(), None)
}
