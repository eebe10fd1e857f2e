//! `slipway topology`: exchanges, queues and bindings of the protocol's table, declared or compared.

use clap::Subcommand;
use serde_json::json;
use slipway_protocol::topology::{BINDINGS, EXCHANGES, QUEUES};
use slipway_worker::amqp::{self, TopologyProblem};
use slipway_worker::store::{Operator, OperatorAction};

use crate::commands::operator::RecordArgs;
use crate::connect::broker::BrokerClient;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Topology {
    /// Declare what is missing; what exists is never changed or deleted
    Apply(RecordArgs),
    /// Compare RabbitMQ with the table; nothing is created
    Check,
}

pub(crate) async fn run(
    command: Topology,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let broker = BrokerClient::connect(settings).await?;
    let problems = amqp::check(&broker.connection).await.map_err(|e| broker.cli_error(&e))?;
    let exit = match command {
        Topology::Apply(args) => {
            let applied = apply(&broker, &problems, printer).await;
            record_applied(&problems, &args.to_operator(), settings, printer).await;
            applied
        }
        Topology::Check => Ok(check(&problems, printer)),
    };
    broker.connection.close().await;
    exit
}

async fn apply(broker: &BrokerClient, found: &[TopologyProblem], printer: &Printer) -> Result<CommandExit, CliError> {
    let differing: Vec<TopologyProblem> = found.iter().filter(|p| !is_missing(p)).cloned().collect();
    if !differing.is_empty() {
        print_problems(&differing, printer);
        return Ok(CommandExit::Failed);
    }
    let channel = broker.connection.channel().await.map_err(|e| broker.cli_error(&e))?;
    amqp::declare(&channel).await.map_err(|e| broker.cli_error(&e))?;
    let declared: Vec<&str> = found.iter().map(|p| p.what.as_str()).collect();
    if printer.is_json() {
        printer.json(&json!({ "declared": declared, "problems": [] }));
    } else if declared.is_empty() {
        printer.message(&format!("Nothing was missing: {}", describe_size()));
    } else {
        printer.message(&format!("Declared {}; complete: {}", declared.join(", "), describe_size()));
    }
    Ok(CommandExit::Success)
}

/// Records what was declared, where there is a database already: this comes before the first worker makes the tables, and
/// a worker declares the same by itself.
async fn record_applied(
    found: &[TopologyProblem],
    operator: &Operator,
    settings: &ConnectionSettings,
    printer: &Printer,
) {
    let Ok(database) = Database::new(settings) else { return };
    let (missing, differing): (Vec<_>, Vec<_>) = found.iter().partition(|problem| is_missing(problem));
    let names = |problems: &[&TopologyProblem]| problems.iter().map(|p| p.what.clone()).collect::<Vec<_>>();
    let details = match differing.as_slice() {
        [] => json!({ "declared": names(&missing) }),
        _ => json!({ "failed": format!("these differ: {}", names(&differing).join(", ")) }),
    };
    let written = database.store.record_beforehand(OperatorAction::ApplyTopology, "RabbitMQ", operator, &details).await;
    if let Err(error) = written {
        printer.message(&format!("This isn't recorded: {}", database.cli_error(&error).message));
    }
}

fn check(problems: &[TopologyProblem], printer: &Printer) -> CommandExit {
    if !problems.is_empty() {
        print_problems(problems, printer);
        return CommandExit::Failed;
    }
    if printer.is_json() {
        printer.json(&json!({ "problems": [] }));
    } else {
        let queues_and_exchanges = format!("{} exchanges and {} queues", EXCHANGES.len(), QUEUES.len());
        printer.message(&format!(
            "{queues_and_exchanges} are as they should be; bindings can only be made sure of by `apply`"
        ));
    }
    CommandExit::Success
}

fn print_problems(problems: &[TopologyProblem], printer: &Printer) {
    if printer.is_json() {
        let problem = |p: &TopologyProblem| json!({ "what": p.what, "missing": is_missing(p), "reason": p.reason });
        return printer.json(&json!({ "problems": problems.iter().map(problem).collect::<Vec<_>>() }));
    }
    let mut table = Table::new(&["WHAT", "PROBLEM", "RABBITMQ SAYS"]);
    for p in problems {
        let problem = if is_missing(p) { "missing" } else { "differs" };
        // lapin repeats the code before the broker's words.
        let reason = p.reason.split_once(" - ").map_or(p.reason.as_str(), |(_, text)| text);
        table.row([p.what.clone(), problem.to_owned(), reason.to_owned()]);
    }
    printer.table(&table);
    if problems.iter().all(is_missing) {
        printer.hint("run `slipway topology apply`");
    } else {
        printer.hint(
            "what exists with other settings can't be changed (PRECONDITION_FAILED): stop its producers and consumers, \
             empty it, delete it by hand, then run `slipway topology apply`",
        );
    }
}

/// AMQP's NOT_FOUND, as opposed to PRECONDITION_FAILED.
fn is_missing(problem: &TopologyProblem) -> bool {
    let reason = problem.reason.to_ascii_uppercase().replace(['-', ' '], "_");
    reason.contains("NOT_FOUND")
}

fn describe_size() -> String {
    format!("{} exchanges, {} queues, {} bindings", EXCHANGES.len(), QUEUES.len(), BINDINGS.len())
}
