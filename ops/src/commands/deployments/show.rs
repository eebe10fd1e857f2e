//! `slipway deployments show`: one deployment in full.

use serde_json::json;
use slipway_protocol::names::Port;
use slipway_protocol::{Action, DeploymentId, ProjectReady};
use slipway_worker::store::{Deployment, JournalEntry, State, StoredEvent};

use super::json::{cancellation_json, deployment_json, describe_secret_source, stage_json};
use crate::commands::placement::print_placement;
use crate::commands::watch::event::{Event, EventBody};
use crate::commands::watch::event_line::{describe_event, describe_failure};
use crate::commands::watch::summary;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_duration, format_time, millis_between, short_id};
use crate::terminal::print::{Printer, Table};

pub(crate) async fn run(id: DeploymentId, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let store = &database.store;
    let failed = |e| database.cli_error(&e);
    let deployment = store.deployment(id).await.map_err(failed)?;
    let Some(deployment) = deployment else { return Err(CliError::usage(format!("there is no deployment {id}"))) };
    let journal = store.journal(id).await.map_err(failed)?;
    let events = store.events(id, 0).await.map_err(failed)?;
    let cancellations = store.cancellations(id).await.map_err(failed)?;
    if printer.is_json() {
        let mut value = deployment_json(&deployment);
        value["stages"] = journal.iter().map(stage_json).collect();
        value["cancellations"] = cancellations.iter().map(cancellation_json).collect();
        value["events"] = events.into_iter().map(|e| e.event).collect();
        printer.json(&value);
        return Ok(CommandExit::Success);
    }
    print_head(&deployment, printer);
    for cancellation in &cancellations {
        let why = cancellation.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        print_field(
            printer,
            "Cancel",
            &format!("asked for by {} at {}{why}", cancellation.source, format_time(cancellation.requested_at)),
        );
    }
    if let Some(request) = &deployment.request {
        print_request(request, printer);
    }
    if let Some(placement) = &deployment.placement {
        print_placement(placement, printer);
    }
    print_stages(&journal, printer);
    print_events(events, printer);
    print_outcome(&deployment, printer);
    Ok(CommandExit::Success)
}

/// `--env`: where each variable came from in the last env stage that came to its end.
pub(crate) async fn print_environment(
    id: DeploymentId,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let journal = database.store.journal(id).await.map_err(|e| database.cli_error(&e))?;
    let facts = journal.into_iter().rev().filter(|entry| entry.stage == "env").find_map(|entry| entry.facts);
    let Some(origins) = facts.and_then(|facts| facts.get("origins").cloned()) else {
        return Err(CliError::new(CommandExit::Failed, format!("stage env of deployment {id} hasn't come to its end")));
    };
    let mut rows: Vec<(String, String)> = Vec::new();
    for (origin, names) in origins.as_object().into_iter().flatten() {
        let names = names.as_array().into_iter().flatten().filter_map(|name| name.as_str());
        rows.extend(names.map(|name| (name.to_owned(), origin.clone())));
    }
    rows.sort();
    if printer.is_json() {
        printer.json(&rows.iter().map(|(name, origin)| json!({ "name": name, "origin": origin })).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let mut table = Table::new(&["VARIABLE", "ORIGIN"]);
    for (name, origin) in rows {
        table.row([name, origin]);
    }
    printer.table(&table);
    Ok(CommandExit::Success)
}

/// The state's name, as it stands in the database.
pub(super) fn state_text(d: &Deployment) -> String {
    d.unread.get("state").and_then(|name| name.as_str()).unwrap_or(d.state.as_str()).to_owned()
}

/// What of a deployment a later version has written that this one can't show.
pub(super) fn not_understood(d: &Deployment) -> String {
    let columns: Vec<&str> =
        d.unread.keys().map(|column| if *column == "data" { "request" } else { *column }).collect();
    let id = short_id(&d.id.to_string());
    format!("a later version wrote {} of {id}: use the `slipway` of the workers' version", columns.join(", "))
}

fn print_field(printer: &Printer, name: &str, value: &str) {
    printer.line(&format!("{:<13} {value}", format!("{name}:")));
}

fn print_head(d: &Deployment, printer: &Printer) {
    let field = |name: &str, value: &str| print_field(printer, name, value);
    field("Deployment", &d.id.to_string());
    let state = match d.state {
        State::Pending if d.server.is_none() => "pending, waits for a server with room".to_owned(),
        State::Pending if d.attempt > 0 => format!("pending, attempt {} at {}", d.attempt + 1, format_time(d.run_at)),
        _ => state_text(d),
    };
    field("State", &state);
    if !d.unread.is_empty() {
        field("Not shown", &not_understood(d));
    }
    if d.action != Action::Deploy.as_str() {
        let volumes = if d.remove_volumes { ", with its volumes" } else { "" };
        field("Action", &format!("{}{volumes}", d.action));
    }
    if let Some(version) = d.acts_on {
        field("Version of", &version.to_string());
    }
    if let Some(why) = &d.reason {
        field("Reason", why);
    }
    for (name, value) in
        [("Project", &d.project), ("Repository", &d.repository), ("Commit", &d.commit), ("Server", &d.server)]
    {
        field(name, value.as_deref().unwrap_or("-"));
    }
    field("Request", &format!("{} from {}", d.event_id, d.source));
    if let Some(user) = &d.amqp_user {
        field("Sent by", &format!("RabbitMQ's user {user}"));
    }
    if !d.unbound_secrets.is_empty() {
        field("Not bound", &format!("{}: any project could have used them", d.unbound_secrets.join(", ")));
    }
    if let Some(replay) = d.replay {
        field("Replay", &replay.to_string());
    }
    field("Accepted", &format_time(d.accepted_at));
    if let Some(at) = d.started_at {
        field("Started", &format_time(at));
    }
    if let Some(at) = d.finished_at {
        field(
            "Finished",
            &format!(
                "{}, {} after it was accepted",
                format_time(at),
                format_duration(millis_between(d.accepted_at, at))
            ),
        );
    }
    field("Attempts", &format!("{}, {} interruptions", d.attempt, d.interruptions));
    if let Some(trips) = d.ssh_round_trips {
        field("SSH", &format!("{trips} round trips in the last attempt"));
    }
    if let Some(owner) = &d.owner {
        field("Worker", owner);
    }
    if let Some(newer) = d.superseded_by {
        field("Superseded by", &newer.to_string());
    }
    if let Some(trace) = &d.traceparent {
        field("Trace", trace);
    }
}

fn print_request(request: &ProjectReady, printer: &Printer) {
    let list = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(", ") };
    let port = |port: Option<Port>| port.map_or_else(|| "?".to_owned(), |port| port.to_string());
    let ports = request.allocations.iter().map(|a| format!("{} {}:{}", a.service, port(a.host_port), a.container_port));
    print_field(printer, "Branch", request.repository.branch.as_str());
    print_field(printer, "Ports", &list(ports.collect()));
    print_field(printer, "Modules", &list(request.modules.iter().map(ToString::to_string).collect()));
    print_field(printer, "Variables", &list(request.variables.keys().map(ToString::to_string).collect()));
    let secrets = request.secrets.iter().map(|(name, source)| format!("{name} ({})", describe_secret_source(source)));
    print_field(printer, "Secrets", &list(secrets.collect()));
    if let Some(sequence) = request.sequence {
        print_field(printer, "Sequence", &sequence.to_string());
    }
    if let Some(at) = request.expires_at {
        print_field(printer, "Expires", &format_time(at));
    }
}

fn print_stages(journal: &[JournalEntry], printer: &Printer) {
    let mut table = Table::new(&["ATTEMPT", "STAGE", "BEGAN", "OUTCOME", "CHANGE", "TOOK", "FAILURE"]);
    for entry in journal {
        table.row([
            entry.attempt.to_string(),
            entry.stage.clone(),
            format_time(entry.intent_at),
            entry.outcome.clone().unwrap_or_else(|| "runs".to_owned()),
            entry.change.clone().unwrap_or_else(|| "-".to_owned()),
            entry
                .duration
                .map_or("-".to_owned(), |d| format_duration(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))),
            entry.failure.as_ref().map_or(String::new(), |f| f.code.to_string()),
        ]);
    }
    if !table.is_empty() {
        printer.line("");
        printer.table(&table);
    }
}

fn print_events(events: Vec<StoredEvent>, printer: &Printer) {
    let mut table = Table::new(&["EVENT", "TIME", "PUBLISHED", "WHAT"]);
    for event in events {
        let what = match Event::read(event.event).body {
            EventBody::Progress(progress) => match describe_event(&progress.kind) {
                Some(line) => format!("{} {}", line.about, line.text).trim().to_owned(),
                None => continue,
            },
            EventBody::Result(result) => format!("result: {}", result.outcome),
            EventBody::Unknown => event.event_type,
        };
        let published = event.published_at.map_or("waits".to_owned(), |_| "yes".to_owned());
        table.row([event.sequence.to_string(), format_time(event.created_at), published, what]);
    }
    if !table.is_empty() {
        printer.line("");
        printer.table(&table);
    }
}

fn print_outcome(d: &Deployment, printer: &Printer) {
    if let Some(result) = &d.result {
        summary::print_tables(result, printer);
        if let Some(url) = &result.url {
            printer.line(&format!("It answers at {url}"));
        }
    }
    let failure = d.result.as_ref().and_then(|r| r.failure.as_ref()).or(d.failure.as_ref());
    if let Some(failure) = failure {
        printer.line(&format!("Failure: {} ({})", describe_failure(failure), failure.class));
        for text in &failure.tail {
            printer.line(&format!("  {text}"));
        }
        printer.hint(&failure.next_action);
    } else if let Some(raw) = d.unread.get("failure") {
        let text = |name: &str| raw[name].as_str().unwrap_or("-").to_owned();
        printer.line(&format!("Failure: {}: {} ({})", text("code"), text("message"), text("class")));
    }
}
