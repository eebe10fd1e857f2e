//! How a deployment ended, in full: stage by stage, service by service, the address, or what to do next.

use slipway_protocol::names::ServerHandle;
use slipway_protocol::{Action, DeploymentResult, MoveReport, Outcome};

use super::event_line::{describe_change, describe_failure};
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_bytes, format_duration, millis_between};
use crate::terminal::print::{Printer, Table};

/// Prints the end of a deployment.
///
/// # Errors
/// The failure, as a person is shown it, when the deployment failed.
pub(crate) fn print_result(result: &DeploymentResult, printer: &Printer) -> Result<CommandExit, CliError> {
    let took = format_duration(millis_between(result.accepted_at, result.finished_at));
    print_tables(result, printer);
    let what = describe_subject(result);
    match result.outcome {
        Outcome::Succeeded | Outcome::AlreadyDeployed => {
            let verb = if result.outcome == Outcome::Succeeded { "answers" } else { "answered as asked already" };
            if let Some(url) = &result.url {
                printer.line(&format!("{} {verb} at {url}", describe_version(result)));
            }
            if let Some(moved) = &result.moved {
                let to = moved.to.as_ref().map_or("another server", ServerHandle::as_str);
                printer.line(&format!("Moved from {} to {to} {}", moved.from, describe_gap(moved)));
            }
            print_findings(result, printer);
            printer.line(&format!("Finished all in {took}"));
        }
        Outcome::Failed | Outcome::MissingSecret => {
            printer.line(&format!(
                "Failed after {took}, in {} {}",
                result.attempts,
                attempt_or_attempts(result.attempts)
            ));
            return Err(failure_error(result));
        }
        Outcome::Cancelled => printer.line(&format!("{what} was cancelled after {took}")),
        Outcome::Superseded => printer.line(&match result.superseded_by {
            Some(newer) => format!("{what} was superseded by {newer} after {took}"),
            None => format!("{what} was superseded by a newer request after {took}"),
        }),
    }
    Ok(exit_of(result.outcome))
}

/// For how long it didn't run, and what was copied.
pub(crate) fn describe_gap(moved: &MoveReport) -> String {
    let gap = match moved.gap_ms {
        None | Some(0) => "without a gap".to_owned(),
        Some(gap) => format!("with a gap of {}", format_duration(gap)),
    };
    let told = match moved.bytes {
        None | Some(0) => gap,
        Some(bytes) => format!("{gap} ({} copied)", format_bytes(bytes)),
    };
    match moved.left_volumes.as_slice() {
        [] => told,
        left => format!("{told}; what is in volumes without a name stays on {}: {}", moved.from, left.join(", ")),
    }
}

/// What worked and yet may not be intended.
fn print_findings(result: &DeploymentResult, printer: &Printer) {
    for found in result.exposed.iter().filter(|port| port.answers && !port.asked_for) {
        let (port, service) = (found.port, &found.service);
        printer.line(&format!(
            "Port {port} of service {service} answers from outside, though nobody asked for that: take it out of the \
             compose files, or bind it to 127.0.0.1"
        ));
    }
    for server in &result.also_on {
        printer
            .line(&format!("It was deployed to {server}, too: `slipway undeploy` takes it off there if it has moved"));
    }
}

/// The exit code of an outcome.
pub(crate) fn exit_of(outcome: Outcome) -> CommandExit {
    match outcome {
        Outcome::Succeeded | Outcome::AlreadyDeployed => CommandExit::Success,
        Outcome::Failed | Outcome::MissingSecret => CommandExit::Failed,
        Outcome::Cancelled | Outcome::Superseded => CommandExit::Overtaken,
    }
}

pub(crate) fn print_tables(result: &DeploymentResult, printer: &Printer) {
    let mut stages = Table::new(&["STAGE", "CHANGE", "TIME"]);
    for s in &result.stages {
        stages.row([s.stage.to_string(), describe_change(s.change).to_owned(), format_duration(s.duration_ms)]);
    }
    let mut services = Table::new(&["SERVICE", "STATE", "HEALTH", "RESTARTS", "IMAGE"]);
    for s in &result.services {
        let health = s.health.clone().unwrap_or_else(|| "-".to_owned());
        services.row([s.service.to_string(), s.state.clone(), health, s.restarts.to_string(), s.image.clone()]);
    }
    for table in [&stages, &services] {
        if !table.is_empty() {
            printer.line("");
            printer.table(table);
        }
    }
    printer.line("");
}

fn failure_error(result: &DeploymentResult) -> CliError {
    let Some(failure) = &result.failure else {
        return CliError::new(
            CommandExit::Failed,
            format!("{} failed, and its result doesn't say why", describe_subject(result)),
        );
    };
    let message = match &result.missing_secret {
        Some(name) => format!("{} ({name})", describe_failure(failure)),
        None => describe_failure(failure),
    };
    CliError::new(CommandExit::Failed, message).details(failure.tail.clone()).hint(failure.next_action.clone())
}

/// The project and its commit.
fn describe_version(result: &DeploymentResult) -> String {
    describe_subject(&DeploymentResult { action: Action::Deploy, ..result.clone() })
}

fn describe_subject(result: &DeploymentResult) -> String {
    let slug = result.project.as_ref().map_or("the project", |p| p.slug.as_str());
    let of = match result.action {
        Action::Deploy => String::new(),
        action => format!("{action} of "),
    };
    match &result.commit {
        Some(commit) => format!("{of}{slug} {}", commit.short()),
        None => format!("{of}{slug}"),
    }
}

fn attempt_or_attempts(attempts: u32) -> &'static str {
    if attempts == 1 { "attempt" } else { "attempts" }
}
