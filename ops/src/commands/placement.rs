//! `slipway placement explain`: which server and ports a request would get if it came now, and why. Nothing is written.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use slipway_protocol::{Placement, PlacementReason, ServerScore};
use slipway_worker::config::placement_from_env;

use crate::commands::submit::Submission;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::format_duration;
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum PlacementCommand {
    /// Show which server and ports a request would get, with the scores of all servers; nothing is done
    Explain(Box<PlacementExplainArgs>),
}

#[derive(Debug, Args)]
pub(crate) struct PlacementExplainArgs {
    /// RabbitMQ's user that would send it, where rules about sources ask for one
    #[arg(long, value_name = "USER")]
    amqp_user: Option<String>,

    #[command(flatten)]
    submission: Submission,
}

pub(crate) async fn run(
    command: PlacementCommand,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let PlacementCommand::Explain(args) = command;
    let prepared = args.submission.prepare()?;
    let limits = placement_from_env().map_err(|mistakes| {
        CliError::usage("the workers' settings of placement can't be used".to_owned())
            .details(mistakes.0.iter().map(|mistake| format!("{} {}", mistake.variable, mistake.problem)).collect())
            .hint("`slipway-worker --help` describes them; without any of them the defaults hold")
    })?;
    let event = &prepared.request.event;
    if let Some(server) = &event.data.server {
        return Err(CliError::usage(format!("the request names its server, {}", server.handle))
            .hint("leave `server` out, and the ports that Slipway is to choose"));
    }
    let database = Database::new(settings)?;
    let user = args.amqp_user.as_deref();
    let explained = database.store.explain_placement(&event.data, &event.source, user, &limits).await;
    let explained = explained.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        let waits = explained.patience.as_secs();
        printer.json(&json!({ "server": explained.server, "placement": explained.placement, "wait_seconds": waits }));
    } else {
        print_placement(&explained.placement, printer);
        match &explained.server {
            Some(server) => printer.message(&format!("It would be deployed to {server}; nothing was set aside")),
            None => printer.message(&outlook(explained.patience)),
        }
    }
    Ok(if explained.server.is_some() { CommandExit::Success } else { CommandExit::Failed })
}

/// What becomes of a request that no server has room for.
fn outlook(patience: Duration) -> String {
    match u64::try_from(patience.as_millis()).unwrap_or(u64::MAX) {
        0 => "It would fail as no-capacity at once, since it waits for no time".to_owned(),
        wait => {
            format!("It would wait for room for {}, and fail as no-capacity if none appears", format_duration(wait))
        }
    }
}

/// What was needed, the ports, and all servers, the best first.
pub(crate) fn print_placement(placement: &Placement, printer: &Printer) {
    let why = match placement.reason {
        PlacementReason::LivesThere => "the project lives there",
        PlacementReason::Named => "the request names it",
        PlacementReason::BestScore => "the best of those with room",
        PlacementReason::NoRoom => "no server has room",
    };
    let needed = &placement.needed;
    printer.line("");
    printer.line(&format!(
        "Placement: {why}; needs {} MiB of memory, {} MiB of disk, {} ports",
        needed.ram_mb, needed.disk_mb, needed.ports
    ));
    if !placement.ports.is_empty() {
        let ports: Vec<String> = placement.ports.iter().map(|(service, port)| format!("{service} {port}")).collect();
        printer.line(&format!("Ports: {}", ports.join(", ")));
    }
    if !placement.left_ports.is_empty() {
        let ports: Vec<String> = placement.left_ports.iter().map(ToString::to_string).collect();
        printer.line(&format!("Left, since strangers hold them: {}", ports.join(", ")));
    }
    let mut table = Table::new(&["SERVER", "SCORE", "PREFERRED", "LACKS"]);
    for score in &placement.servers {
        table.row(score_row(score));
    }
    printer.table(&table);
    if placement.more_servers > 0 {
        printer.line(&format!("… and {} more", placement.more_servers));
    }
}

fn score_row(score: &ServerScore) -> [String; 4] {
    let lacks: Vec<&str> = score.lacks.iter().map(|lack| lack.message.as_str()).collect();
    [
        score.server.to_string(),
        score.score.map_or_else(|| "-".to_owned(), |score| format!("{score:.4}")),
        score.preferred.to_string(),
        if lacks.is_empty() { "-".to_owned() } else { lacks.join("; ") },
    ]
}
