//! What a deployment ends with, and the result that says so: pure code.

use jiff::Timestamp;
use slipway_protocol::names::VariableName;
use slipway_protocol::{
    Action, DeploymentId, DeploymentResult, Failure, MoveReport, Outcome, ProjectId, ServiceReport, Serving,
    StageSummary,
};

use crate::store::deployment::head::DeploymentHead;
use crate::store::deployment::move_order::MoveOrder;
use crate::store::deployment::seen::{MeasuredMove, SeenAtEnd};

/// The outcome of a deployment, with what only its result and its dead letter need.
#[derive(Debug, Clone, PartialEq)]
pub enum DeploymentEnd {
    /// Everything is done. Whether anything was changed for it, the journal knows.
    Succeeded {
        /// Where the project answers, if it's to.
        url: Option<String>,
    },
    /// It failed for good.
    Failed {
        /// The code, class and message, for the result and the dead letter.
        failure: Failure,
        /// For `missing-secret`: the variable that lacks its value.
        missing_secret: Option<VariableName>,
        /// The dead letter's reason: `permanent`, `exhausted`, `overdue` or `interrupted`.
        reason: &'static str,
    },
    /// A newer request took its place.
    Superseded {
        /// The deployment of the newer request, where it's known.
        by: Option<DeploymentId>,
    },
    /// Somebody asked to cancel it.
    Cancelled,
}

/// What an attempt saw, for the result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AttemptSummary {
    /// What runs, as seen last.
    pub services: Vec<ServiceReport>,
    /// What serves, after a failure or a start.
    pub serving: Option<Serving>,
    /// The stages that ran to their end, in order.
    pub stages: Vec<StageSummary>,
    /// Sequential SSH round trips of the attempt.
    pub round_trips: Option<u32>,
    /// Whether the previous release serves again, or nothing had to be restored.
    pub restored: bool,
    /// Of a move: its project, whose other requests wait for its end.
    pub moves: Option<ProjectId>,
}

impl DeploymentEnd {
    /// The outcome, which also depends on whether anything `changed`: what isn't a deployment has succeeded either way.
    fn outcome(&self, action: Action, changed: bool) -> Outcome {
        match self {
            Self::Succeeded { .. } if changed || !action.deploys() => Outcome::Succeeded,
            Self::Succeeded { .. } => Outcome::AlreadyDeployed,
            Self::Failed { missing_secret: Some(_), .. } => Outcome::MissingSecret,
            Self::Failed { .. } => Outcome::Failed,
            Self::Superseded { .. } => Outcome::Superseded,
            Self::Cancelled => Outcome::Cancelled,
        }
    }
}

/// How a move went.
fn move_report(order: &MoveOrder, head: &DeploymentHead, end: &DeploymentEnd, seen: &SeenAtEnd) -> MoveReport {
    let report = MoveReport {
        from: order.from.clone(),
        to: head.server.clone(),
        data: order.data,
        gap_ms: None,
        bytes: None,
        volumes: Vec::new(),
        left_volumes: Vec::new(),
        undeployment: None,
    };
    if !matches!(end, DeploymentEnd::Succeeded { .. }) {
        return report;
    }
    let MeasuredMove { gap_ms, bytes, volumes, left_volumes } = seen.moved.clone().unwrap_or_default();
    MoveReport { gap_ms: Some(gap_ms), bytes: Some(bytes), volumes, left_volumes, ..report }
}

/// What is told of the end.
pub(in crate::store) fn result(
    head: &DeploymentHead,
    end: &DeploymentEnd,
    summary: &AttemptSummary,
    seen: &SeenAtEnd,
) -> DeploymentResult {
    let (mut url, mut failure, mut missing_secret, mut superseded_by) = (None, None, None, None);
    let mut serving = summary.serving.clone();
    match end {
        DeploymentEnd::Succeeded { url: at } => {
            url.clone_from(at);
            let proven = |commit| Some(Serving { commit, proven: true });
            serving = match head.action {
                action if action.deploys() => proven(head.commit.clone()),
                // What is started isn't always what was deployed last: CI may have replaced it.
                Action::Start => proven(serving.and_then(|serving| serving.commit)),
                // Stopping and undeploying succeed, and nothing serves.
                _ => None,
            };
        }
        DeploymentEnd::Failed { failure: why, missing_secret: which, .. } => {
            failure = Some(why.clone());
            missing_secret.clone_from(which);
        }
        DeploymentEnd::Superseded { by } => superseded_by = *by,
        DeploymentEnd::Cancelled => {}
    }
    DeploymentResult {
        deployment_id: head.id,
        action: head.action,
        outcome: end.outcome(head.action, seen.changed),
        project: head.project.clone(),
        repository: head.repository.clone(),
        commit: head.commit.clone(),
        server: head.server.clone(),
        placement: head.placement.clone(),
        moved: head.moves.as_ref().map(|order| move_report(order, head, end, seen)),
        url,
        failure,
        missing_secret,
        superseded_by,
        serving,
        also_on: Vec::new(),
        exposed: seen.exposed.clone(),
        services: summary.services.clone(),
        stages: summary.stages.clone(),
        attempts: head.attempt,
        accepted_at: head.accepted_at,
        finished_at: Timestamp::now().max(head.accepted_at),
        correlation: head.correlation.clone(),
    }
}
