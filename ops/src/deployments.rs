//! `slipway deployments`: what was asked for and what became of it. Secrets are never shown, not even sealed.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_protocol::names::{ServerHandle, Slug};
use slipway_protocol::{ProjectReady, SecretSource};
use slipway_worker::store::{Deployment, DeploymentFilter, State};

use crate::cancel::{self, CancelArgs};
use crate::memory::Database;
use crate::print::{Printer, Table};
use crate::settings::ConnectionSettings;
use crate::show;
use crate::trouble::{CliError, CommandExit};
use crate::watch::line::{between, duration};

#[derive(Debug, Subcommand)]
pub(crate) enum Deployments {
    /// List deployments, the latest first
    List(ListDeployments),
    /// Show one in full: request, attempts, stages, services, failure, events
    Show {
        /// The deployment's id, or a beginning of it that no other has
        #[arg(value_name = "DEPLOYMENT")]
        id: String,

        /// Only where each variable of the project's environment came from; values are never shown
        #[arg(long)]
        env: bool,
    },
    /// The same as `slipway cancel`
    Cancel(CancelArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListDeployments {
    /// Only of this project
    #[arg(long, value_name = "SLUG")]
    project: Option<Slug>,

    /// Only on this server
    #[arg(long, value_name = "HANDLE")]
    server: Option<ServerHandle>,

    /// Only in this state: pending, running, or an outcome such as failed
    #[arg(long)]
    state: Option<State>,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub(crate) async fn run(
    command: Deployments,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let memory = Database::new(settings)?;
    match command {
        Deployments::List(args) => list(args, &memory, printer).await,
        Deployments::Show { id, env: true } => show::environment(memory.find(&id).await?, &memory, printer).await,
        Deployments::Show { id, env: false } => show::run(memory.find(&id).await?, &memory, printer).await,
        Deployments::Cancel(args) => cancel::run(args, settings, printer).await,
    }
}

async fn list(args: ListDeployments, memory: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let filter = DeploymentFilter {
        state: args.state,
        project: args.project.map(Into::into),
        server: args.server.map(Into::into),
    };
    let found = memory.store.deployments(&filter, args.limit).await.map_err(|e| memory.trouble(&e))?;
    if printer.is_json() {
        printer.json(&found.iter().map(as_json).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let now = Timestamp::now();
    let mut table =
        Table::new(&["DEPLOYMENT", "PROJECT", "ACTION", "COMMIT", "SERVER", "STATE", "ATTEMPT", "TOOK", "AGE"]);
    for d in &found {
        let commit: String = d.commit.as_deref().unwrap_or("-").chars().take(7).collect();
        let took = d.started_at.map(|from| duration(between(from, d.finished_at.unwrap_or(now))));
        table.row([
            short_id(&d.id.to_string()),
            dash(d.project.as_deref()),
            d.action.to_string(),
            commit,
            dash(d.server.as_deref()),
            d.state.to_string(),
            d.attempt.to_string(),
            took.unwrap_or_else(|| "-".to_owned()),
            duration(between(d.accepted_at, now)),
        ]);
    }
    printer.table(&table);
    if table.is_empty() {
        printer.note("No such deployments");
    } else if let Some(failed) = found.iter().find(|d| d.failure.is_some() && d.state.is_terminal()) {
        printer.hint(&format!("run `slipway deployments show {}`", short_id(&failed.id.to_string())));
    }
    Ok(CommandExit::Success)
}

/// The first eight digits of an id: enough to be unique among a few thousand.
pub(crate) fn short_id(id: &str) -> String {
    id.chars().take(8).collect()
}

pub(crate) fn dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}

/// A deployment as JSON, without the values of variables and secrets.
pub(crate) fn as_json(d: &Deployment) -> Value {
    json!({
        "deployment_id": d.id,
        "action": d.action,
        "acts_on": d.acts_on,
        "remove_volumes": d.remove_volumes,
        "reason": d.reason,
        "state": d.state.as_str(),
        "project": d.project,
        "repository": d.repository,
        "commit": d.commit,
        "server": d.server,
        "source": d.source,
        "event_id": d.event_id,
        "replay_id": d.replay,
        "request": d.request.as_ref().map(request_json),
        "attempt": d.attempt,
        "interruptions": d.interruptions,
        "run_at": (d.state == State::Pending).then_some(d.run_at),
        "worker": d.owner,
        "cancel_requested": d.cancel_requested,
        "superseded_by": d.superseded_by,
        "failure": d.failure,
        "result": d.result,
        "ssh_round_trips": d.ssh_round_trips,
        "traceparent": d.traceparent,
        "accepted_at": d.accepted_at,
        "started_at": d.started_at,
        "finished_at": d.finished_at,
    })
}

fn request_json(request: &ProjectReady) -> Value {
    let secrets: serde_json::Map<String, Value> =
        request.secrets.iter().map(|(name, source)| (name.to_string(), json!(source_words(source)))).collect();
    json!({
        "project": request.project,
        "repository": request.repository,
        "server": request.server,
        "allocations": request.allocations,
        "modules": request.modules,
        "variables": request.variables.keys().collect::<Vec<_>>(),
        "secrets": secrets,
        "sequence": request.sequence,
        "expires_at": request.expires_at,
        "correlation": request.correlation,
    })
}

/// Where a secret comes from, without the box.
pub(crate) fn source_words(source: &SecretSource) -> String {
    match source {
        SecretSource::Sealed(sealed) => format!("sealed to {}", sealed.key_id),
        SecretSource::Reference(name) => format!("mounted as {name}"),
    }
}
