//! `slipway deployments show`: one deployment in full.

use serde_json::json;
use slipway_protocol::{Action, DeploymentId, ProjectReady};
use slipway_worker::store::{Deployment, JournalEntry, State, StoredEvent};

use super::json::{as_json, source_words, stage_json, wish_json};
use crate::commands::watch::event::{Event, EventBody};
use crate::commands::watch::event_line::{self as line, short};
use crate::commands::watch::summary;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{between, clock, duration};
use crate::terminal::print::{Printer, Table};

pub(crate) async fn run(id: DeploymentId, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let store = &memory.store;
    let failed = |e| memory.trouble(&e);
    let deployment = store.deployment(id).await.map_err(failed)?;
    let Some(deployment) = deployment else { return Err(CliError::usage(format!("there is no deployment {id}"))) };
    let journal = store.journal(id).await.map_err(failed)?;
    let events = store.events(id, 0).await.map_err(failed)?;
    let wishes = store.cancellations(id).await.map_err(failed)?;
    if printer.is_json() {
        let mut value = as_json(&deployment);
        value["stages"] = journal.iter().map(stage_json).collect();
        value["cancellations"] = wishes.iter().map(wish_json).collect();
        value["events"] = events.into_iter().map(|e| e.event).collect();
        printer.json(&value);
        return Ok(CommandExit::Success);
    }
    head(&deployment, printer);
    for wish in &wishes {
        let why = wish.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        field(printer, "Cancel", &format!("asked for by {} at {}{why}", wish.source, clock(wish.requested_at)));
    }
    if let Some(request) = &deployment.request {
        request_lines(request, printer);
    }
    stages(&journal, printer);
    history(events, printer);
    end(&deployment, printer);
    Ok(CommandExit::Success)
}

/// `--env`: where each variable came from in the last env stage that came to its end.
pub(crate) async fn environment(
    id: DeploymentId,
    memory: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let journal = memory.store.journal(id).await.map_err(|e| memory.trouble(&e))?;
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

fn field(printer: &Printer, name: &str, value: &str) {
    printer.line(&format!("{:<13} {value}", format!("{name}:")));
}

fn head(d: &Deployment, printer: &Printer) {
    let field = |name: &str, value: &str| field(printer, name, value);
    field("Deployment", &d.id.to_string());
    let state = match d.state {
        State::Pending if d.attempt > 0 => format!("pending, attempt {} at {}", d.attempt + 1, clock(d.run_at)),
        state => state.to_string(),
    };
    field("State", &state);
    if d.action != Action::Deploy {
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
    if let Some(replay) = d.replay {
        field("Replay", &replay.to_string());
    }
    field("Accepted", &clock(d.accepted_at));
    if let Some(at) = d.started_at {
        field("Started", &clock(at));
    }
    if let Some(at) = d.finished_at {
        field("Finished", &format!("{}, {} after it was accepted", clock(at), duration(between(d.accepted_at, at))));
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

fn request_lines(request: &ProjectReady, printer: &Printer) {
    let list = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(", ") };
    let ports = request.allocations.iter().map(|a| format!("{} {}:{}", a.service, a.host_port, a.container_port));
    field(printer, "Branch", request.repository.branch.as_str());
    field(printer, "Ports", &list(ports.collect()));
    field(printer, "Modules", &list(request.modules.iter().map(ToString::to_string).collect()));
    field(printer, "Variables", &list(request.variables.keys().map(ToString::to_string).collect()));
    let secrets = request.secrets.iter().map(|(name, source)| format!("{name} ({})", source_words(source)));
    field(printer, "Secrets", &list(secrets.collect()));
    if let Some(sequence) = request.sequence {
        field(printer, "Sequence", &sequence.to_string());
    }
    if let Some(at) = request.expires_at {
        field(printer, "Expires", &clock(at));
    }
}

fn stages(journal: &[JournalEntry], printer: &Printer) {
    let mut table = Table::new(&["ATTEMPT", "STAGE", "BEGAN", "OUTCOME", "CHANGE", "TOOK", "FAILURE"]);
    for entry in journal {
        table.row([
            entry.attempt.to_string(),
            entry.stage.clone(),
            clock(entry.intent_at),
            entry.outcome.clone().unwrap_or_else(|| "runs".to_owned()),
            entry.change.clone().unwrap_or_else(|| "-".to_owned()),
            entry.duration.map_or("-".to_owned(), |d| duration(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))),
            entry.failure.as_ref().map_or(String::new(), |f| f.code.to_string()),
        ]);
    }
    if !table.is_empty() {
        printer.line("");
        printer.table(&table);
    }
}

fn history(events: Vec<StoredEvent>, printer: &Printer) {
    let mut table = Table::new(&["EVENT", "TIME", "PUBLISHED", "WHAT"]);
    for event in events {
        let what = match Event::read(event.event).said {
            EventBody::Progress(progress) => match line::of(&progress.kind) {
                Some(line) => format!("{} {}", line.about, line.text).trim().to_owned(),
                None => continue,
            },
            EventBody::Result(result) => format!("result: {}", result.outcome),
            EventBody::Unknown => event.event_type,
        };
        let published = event.published_at.map_or("waits".to_owned(), |_| "yes".to_owned());
        table.row([event.sequence.to_string(), clock(event.created_at), published, what]);
    }
    if !table.is_empty() {
        printer.line("");
        printer.table(&table);
    }
}

fn end(d: &Deployment, printer: &Printer) {
    if let Some(result) = &d.result {
        summary::tables(result, printer);
        if let Some(url) = &result.url {
            printer.line(&format!("It answers at {url}"));
        }
    }
    let failure = d.result.as_ref().and_then(|r| r.failure.as_ref()).or(d.failure.as_ref());
    if let Some(failure) = failure {
        printer.line(&format!("Failure: {} ({})", short(failure), failure.class));
        for text in &failure.tail {
            printer.line(&format!("  {text}"));
        }
        printer.hint(&failure.next_action);
    }
}
