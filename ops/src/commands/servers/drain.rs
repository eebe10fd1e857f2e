//! `slipway servers drain`: a server gets no new projects, and those that it has go to others, one by one. It publishes one move for
//! each project, so that whatever becomes of this program, what has begun goes on; run again, it goes on with the others.

use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{CloudEvent, Correlation, DeploymentId, DeploymentResult, EventType, Project, ProjectMove};
use slipway_worker::store::OperatorAction;

use super::unknown_server::unknown_server;
use crate::commands::operator::RecordArgs;
use crate::commands::projects::moving::MoveDataArgs;
use crate::commands::submit::{self, publish};
use crate::commands::watch::{self, summary::describe_gap};
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_duration, millis_between};
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    /// The server's name
    handle: ServerHandle,

    #[command(flatten)]
    data: MoveDataArgs,

    #[command(flatten)]
    record: RecordArgs,
}

pub(super) async fn run(
    args: &DrainArgs,
    settings: &ConnectionSettings,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let (handle, operator) = (&args.handle, args.record.to_operator());
    let cordoned = database.store.cordon_server(handle, true, &operator).await;
    if cordoned.map_err(|e| database.cli_error(&e))?.is_none() {
        return Err(unknown_server(handle));
    }
    let projects = database.store.living_on(handle).await.map_err(|e| database.cli_error(&e))?;
    let (mut moved, mut rows) = (0_usize, Vec::new());
    for project in &projects {
        let under_way = database.store.open_move(project, handle).await.map_err(|e| database.cli_error(&e))?;
        let id = match under_way {
            Some(id) => id,
            None => ask(args, project, settings, database).await?,
        };
        let result = watch::await_end(id, database).await?;
        let undeployed = match result.moved.as_ref().and_then(|moved| moved.undeployment) {
            Some(undeployment) => Some(watch::await_end(undeployment, database).await?),
            None => None,
        };
        let is_gone = undeployed.as_ref().is_none_or(|result| result.outcome.is_success());
        moved += usize::from(result.outcome.is_success() && is_gone);
        if printer.is_json() {
            rows.push(json!({
                "project": project.slug, "deployment_id": id, "outcome": result.outcome, "move": result.moved,
                "failure": result.failure, "undeployed": undeployed.map(|result| result.outcome),
            }));
        } else {
            printer.line(&describe(project, handle, &result, undeployed.as_ref()));
        }
    }
    let all = projects.len();
    if printer.is_json() {
        printer.json(&json!({ "handle": handle, "projects": all, "moved": moved, "moves": rows }));
    } else {
        printer.line(&format!("Moved {moved} of {all} {} off {handle}", if all == 1 { "project" } else { "projects" }));
    }
    Ok(if moved == all { CommandExit::Success } else { CommandExit::Failed })
}

/// Publishes the move of one project.
async fn ask(
    args: &DrainArgs,
    project: &Project,
    settings: &ConnectionSettings,
    database: &Database,
) -> Result<DeploymentId, CliError> {
    let handle = &args.handle;
    let data = ProjectMove {
        project: project.clone(),
        server: Some(handle.clone()),
        to: None,
        data: args.data.data,
        reason: args.record.why.clone().or_else(|| Some(format!("{handle} is drained"))),
        sequence: None,
        expires_at: None,
        correlation: Correlation::new(),
    };
    let event = CloudEvent::new(EventType::ProjectMove, submit::SOURCE, uuid::Uuid::now_v7().to_string(), data);
    let event = CloudEvent { subject: Some(project.slug.to_string()), time: Some(Timestamp::now()), ..event };
    let id = DeploymentId::of(submit::SOURCE, &event.id, None);
    let body = serde_json::to_vec(&event)
        .map_err(|e| CliError::new(CommandExit::Failed, format!("the event can't be written as JSON: {e}")))?;
    let recorded = publish::Recorded {
        action: OperatorAction::Move,
        subject: format!("{} on {handle}", project.slug),
        operator: args.record.to_operator(),
        details: json!({ "deployment_id": id, "data": event.data }),
    };
    publish::publish(&publish::build_message(&event, None, body), recorded, database, settings).await?;
    Ok(id)
}

/// One line about a project.
fn describe(
    project: &Project,
    from: &ServerHandle,
    result: &DeploymentResult,
    undeployed: Option<&DeploymentResult>,
) -> String {
    let slug = &project.slug;
    let why = |result: &DeploymentResult| match &result.failure {
        Some(failure) => format!("{}: {}", failure.code, failure.message),
        None => format!("it was {}", result.outcome),
    };
    let Some(moved) = result.moved.as_ref().filter(|_| result.outcome.is_success()) else {
        return format!("{slug} stays on {from}: {}", why(result));
    };
    let took = format_duration(millis_between(result.accepted_at, result.finished_at));
    let to = moved.to.as_ref().map_or("another server", ServerHandle::as_str);
    let left = match undeployed.filter(|result| !result.outcome.is_success()) {
        Some(result) => format!("; what it had on {from} is there still: {}", why(result)),
        None => String::new(),
    };
    format!("{slug} moved to {to} in {took}, {}{left}", describe_gap(moved))
}
