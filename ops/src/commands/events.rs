//! `slipway events`: events that were published before, sent to a queue that wasn't there then.

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use slipway_protocol::names::Slug;
use slipway_protocol::topology::QUEUES;
use slipway_worker::amqp::{PublishError, Publisher, queue_exists};
use slipway_worker::message::Outgoing;
use slipway_worker::store::{EventHistory, HistoryPosition, OperatorAction, PublishedEvent};

use crate::commands::arguments::parse_time_or_age;
use crate::commands::operator::RecordArgs;
use crate::connect::broker::BrokerClient;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

/// How many events are read at once.
const PAGE: u32 = 200;
/// The header with an event's own routing key: through the default exchange it has the queue's name in that place.
const ROUTING_KEY: &str = "slipway-routing-key";

#[derive(Debug, Subcommand)]
pub(crate) enum Events {
    /// Send events that were published before to one queue, in order and with the same ids: history for a new subscriber
    Replay(ReplayEventsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ReplayEventsArgs {
    /// Published since: a time, or an age such as 2h or 3d
    #[arg(long, value_name = "TIME", value_parser = parse_time_or_age)]
    since: Timestamp,

    /// Published before; now when left out
    #[arg(long, value_name = "TIME", value_parser = parse_time_or_age)]
    until: Option<Timestamp>,

    /// Only of this project
    #[arg(long, value_name = "SLUG")]
    project: Option<Slug>,

    /// Only results, as a queue gets them that is bound with `result.#`
    #[arg(long)]
    results: bool,

    /// The queue, which must be there
    #[arg(long, value_name = "QUEUE")]
    to: String,

    #[command(flatten)]
    record: RecordArgs,
}

/// What was sent so far.
#[derive(Default)]
struct ReplayCount {
    sent: u64,
    unreadable: u64,
    last: Option<Timestamp>,
}

pub(crate) async fn run(
    command: Events,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let Events::Replay(args) = command;
    if QUEUES.iter().any(|queue| queue.name == args.to) {
        return Err(CliError::usage(format!("{} is a queue of Slipway's own, and no subscriber's", args.to))
            .hint("name the new subscriber's queue: declare it, and bind it to `slipway.events`, first"));
    }
    if args.until.is_some_and(|until| until <= args.since) {
        return Err(CliError::usage("--until isn't after --since, so nothing was published between them".to_owned())
            .hint("both are times or ages, and an age of 2h is before one of 1h: --since 2h --until 1h"));
    }
    let database = Database::new(settings)?;
    let details = json!({
        "since": args.since, "until": args.until, "project": args.project, "results": args.results, "to": args.to,
    });
    let operator = args.record.to_operator();
    let recorded = database.store.record_beforehand(OperatorAction::ReplayEvents, &args.to, &operator, &details).await;
    let number = recorded.map_err(|e| database.cli_error(&e))?;
    let mut count = ReplayCount::default();
    if let Err(error) = replay(&args, &database, settings, &mut count).await {
        // It stays recorded as asked for where this can't be written.
        let _ = database.store.record_failure(number, &error.message).await;
        return Err(error);
    }
    report(&args, &count, &database, printer).await
}

async fn replay(
    args: &ReplayEventsArgs,
    database: &Database,
    settings: &ConnectionSettings,
    count: &mut ReplayCount,
) -> Result<(), CliError> {
    let broker = BrokerClient::connect(settings).await?;
    // With nothing to send the broker would say nothing about it.
    if !queue_exists(&broker.connection, &args.to).await.map_err(|e| broker.cli_error(&e))? {
        return Err(no_queue(&args.to));
    }
    let publisher = Publisher::open(&broker.connection).await.map_err(|e| broker.cli_error(&e))?;
    let until = match args.until {
        Some(until) => until,
        None => database.store.clock().await.map_err(|e| database.cli_error(&e))?,
    };
    let history = EventHistory { until, project: args.project.clone(), results_only: args.results };
    let mut from = HistoryPosition::since(args.since);
    loop {
        let page = database.store.published_events(&history, from, PAGE).await;
        let page = page.map_err(|e| interrupted(database.cli_error(&e), count))?;
        for event in page.events {
            send(event, &args.to, &publisher, count).await.map_err(|error| interrupted(error, count))?;
        }
        let Some(next) = page.next else { break };
        from = next;
    }
    broker.connection.close().await;
    Ok(())
}

async fn send(
    event: PublishedEvent,
    queue: &str,
    publisher: &Publisher,
    count: &mut ReplayCount,
) -> Result<(), CliError> {
    if event.unreadable.is_some() {
        count.unreadable += 1;
        return Ok(());
    }
    let mut message = Outgoing { exchange: String::new(), ..event.message };
    let key = std::mem::replace(&mut message.routing_key, queue.to_owned());
    message.headers.insert(ROUTING_KEY.to_owned(), key);
    publisher.publish(&message).await.map_err(|error| match error {
        PublishError::Returned { .. } => no_queue(queue),
        PublishError::Nacked => CliError::new(CommandExit::Failed, format!("queue {queue} took no more: is it full?")),
        PublishError::Unfit(why) => CliError::new(CommandExit::Failed, format!("an event can't be sent: {why}")),
        PublishError::Broken(error) => {
            let text = crate::terminal::error::join_sources(&error);
            CliError::new(CommandExit::Unavailable, format!("RabbitMQ: {text}"))
        }
    })?;
    count.sent += 1;
    count.last = Some(event.published_at);
    Ok(())
}

fn no_queue(queue: &str) -> CliError {
    CliError::usage(format!("there is no queue {queue}"))
        .hint("declare the subscriber's queue, and bind it to `slipway.events`, before its history is sent")
}

/// An error in the middle says how to go on.
fn interrupted(error: CliError, count: &ReplayCount) -> CliError {
    let Some(last) = count.last else { return error };
    let message = format!("{}, after {} events", error.message, count.sent);
    let hint = format!("go on with --since {last}: what is sent twice has the same ids");
    CliError { message, ..error }.hint(hint)
}

async fn report(
    args: &ReplayEventsArgs,
    count: &ReplayCount,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let oldest = database.store.oldest_published_event().await.map_err(|e| database.cli_error(&e))?;
    if printer.is_json() {
        let (sent, unreadable) = (count.sent, count.unreadable);
        printer.json(&json!({ "to": args.to, "sent": sent, "unreadable": unreadable, "oldest_kept": oldest }));
    } else {
        printer.message(&format!("{} events are in queue {}", count.sent, args.to));
        if count.unreadable > 0 {
            printer.message(&format!("{} can't be read any more, and were left out", count.unreadable));
        }
        if let Some(oldest) = oldest.filter(|oldest| *oldest > args.since) {
            printer.hint(&format!("nothing that was published before {oldest} is kept (SLIPWAY_KEEP_EVENTS)"));
        }
    }
    Ok(CommandExit::Success)
}
