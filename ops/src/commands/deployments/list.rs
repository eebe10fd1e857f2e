//! `slipway deployments list`: deployments in a table, the latest first.

use clap::Args;
use jiff::Timestamp;
use slipway_protocol::names::{ServerHandle, Slug};
use slipway_worker::store::{DeploymentFilter, State};

use super::json;
use super::show::{not_understood, state_text};
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_duration, millis_between, short_id, text_or_dash};
use crate::terminal::print::{Printer, Table};

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

    /// Only those accepted before this one: the last one of the page before
    #[arg(long, value_name = "ID")]
    before: Option<String>,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
}

pub(super) async fn run(
    args: ListDeployments,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let before = match &args.before {
        Some(prefix) => Some(database.find_deployment(prefix).await?),
        None => None,
    };
    let filter = DeploymentFilter {
        state: args.state,
        project: args.project.map(Into::into),
        server: args.server.map(Into::into),
        before,
    };
    let found = database.store.deployments(&filter, args.limit).await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        printer.json(&found.iter().map(json::deployment_json).collect::<Vec<_>>());
        return Ok(CommandExit::Success);
    }
    let now = Timestamp::now();
    let mut table =
        Table::new(&["DEPLOYMENT", "PROJECT", "ACTION", "COMMIT", "SERVER", "STATE", "ATTEMPT", "TOOK", "AGE"]);
    for d in &found {
        let commit: String = d.commit.as_deref().unwrap_or("-").chars().take(7).collect();
        let took = d.started_at.map(|from| format_duration(millis_between(from, d.finished_at.unwrap_or(now))));
        table.row([
            short_id(&d.id.to_string()),
            text_or_dash(d.project.as_deref()),
            d.action.clone(),
            commit,
            text_or_dash(d.server.as_deref()),
            state_text(d),
            d.attempt.to_string(),
            took.unwrap_or_else(|| "-".to_owned()),
            format_duration(millis_between(d.accepted_at, now)),
        ]);
    }
    printer.table(&table);
    if let Some(d) = found.iter().find(|d| !d.unread.is_empty()) {
        printer.message(&not_understood(d));
    }
    if table.is_empty() {
        printer.message("No such deployments");
    } else if let Some(last) = found.last().filter(|_| found.len() >= usize::try_from(args.limit).unwrap_or(usize::MAX))
    {
        let id = short_id(&last.id.to_string());
        printer.message(&format!("There may be more: give --before {id} as well, or a higher --limit"));
    }
    if let Some(failed) = found.iter().find(|d| d.failure.is_some() && d.state.is_terminal()) {
        printer.hint(&format!("run `slipway deployments show {}`", short_id(&failed.id.to_string())));
    }
    Ok(CommandExit::Success)
}
