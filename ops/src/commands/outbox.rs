//! `slipway outbox`: messages that the broker can't take and that the relay has put aside, so that others go out. What
//! merely waits is counted by `slipway status`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use slipway_worker::store::SetAsideMessage;

use crate::commands::operator::OperatorArgs;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_time, short_id};
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Outbox {
    /// List the messages that are aside, the oldest first, and why
    List(ListSetAside),
    /// Let the workers send one again, once what was in its way is repaired
    Resend(ResendArgs),
    /// Give one up: nobody will get it
    Drop(DropArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListSetAside {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct ResendArgs {
    /// Its number in `slipway outbox list`
    number: i64,

    #[command(flatten)]
    operator: OperatorArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DropArgs {
    /// Its number in `slipway outbox list`
    number: i64,

    #[command(flatten)]
    operator: OperatorArgs,
}

pub(crate) async fn run(
    command: Outbox,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    let cli_error = |e| database.cli_error(&e);
    match command {
        Outbox::List(args) => {
            let found = database.store.set_aside_messages(args.limit).await.map_err(cli_error)?;
            print_list(&found, printer);
        }
        Outbox::Resend(ResendArgs { number, operator }) => {
            let found = database.store.resend_set_aside(number, &operator.to_operator()).await.map_err(cli_error)?;
            report(
                found,
                number,
                "resent",
                "will be sent again; should the broker refuse it, it's put aside anew",
                printer,
            )?;
        }
        Outbox::Drop(DropArgs { number, operator }) => {
            let operator = operator.require_reason("giving a message up")?;
            let found = database.store.drop_set_aside(number, &operator).await.map_err(cli_error)?;
            report(found, number, "dropped", "is given up, and nobody will get it", printer)?;
        }
    }
    Ok(CommandExit::Success)
}

fn report(found: bool, number: i64, done: &str, text: &str, printer: &Printer) -> Result<(), CliError> {
    if !found {
        let error = CliError::usage(format!("no message {number} is aside"));
        return Err(error.hint("`slipway outbox list` shows those that are"));
    }
    if printer.is_json() {
        printer.json(&json!({ "number": number, "done": done }));
    } else {
        printer.message(&format!("Message {number} {text}"));
    }
    Ok(())
}

fn print_list(found: &[SetAsideMessage], printer: &Printer) {
    if printer.is_json() {
        return printer.json(&found.iter().map(message_json).collect::<Vec<_>>());
    }
    let mut table = Table::new(&["NUMBER", "SINCE", "DEPLOYMENT", "EVENT", "ROUTING KEY", "HEADERS", "BODY", "WHY"]);
    for message in found {
        let bytes = |count: u64| format!("{count} bytes");
        let more = i64::try_from(message.events).unwrap_or(i64::MAX) - 1;
        let event = match message.sequence {
            None => "-".to_owned(),
            Some(first) if more == 0 => first.to_string(),
            Some(first) => format!("{first}-{}", first.saturating_add(more)),
        };
        table.row([
            message.position.to_string(),
            format_time(message.since),
            message.deployment.map_or_else(|| "-".to_owned(), |id| short_id(&id.to_string())),
            event,
            message.routing_key.clone(),
            bytes(message.header_bytes),
            bytes(message.body_bytes),
            message.reason.clone(),
        ]);
    }
    printer.table(&table);
    if table.is_empty() {
        printer.message("No message is aside");
    }
}

fn message_json(message: &SetAsideMessage) -> Value {
    json!({
        "number": message.position,
        "since": message.since,
        "deployment_id": message.deployment,
        "sequence": message.sequence,
        "events": message.events,
        "type": message.event_type,
        "message_id": message.message_id,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "header_bytes": message.header_bytes,
        "body_bytes": message.body_bytes,
        "breaks": message.breaks,
        "why": message.reason,
    })
}
