//! `slipway watch`: what happened to a deployment so far, then what happens, then how it ended.
//!
//! Events are read from the outbox in Postgres, not from a subscription to RabbitMQ. They are written there in the same
//! transaction as the change that they report, numbered without gaps, before they are published. So one query, "all after
//! number n", gives both old and new events and misses none, however long the connection was lost. LISTEN only makes it
//! faster: the query is repeated every [`POLL`] anyway.

pub(crate) mod event;
pub(crate) mod event_line;
pub(crate) mod summary;
mod view;

use std::time::{Duration, Instant};

use clap::Args;
use jiff::SignedDuration;
use slipway_protocol::{DeploymentId, DeploymentResult};

use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::format_duration;
use crate::terminal::print::Printer;
use event::{Event, EventBody};
use view::EventView;

/// How long it waits at most before it asks again.
const POLL: Duration = Duration::from_secs(1);
/// How long Postgres may be away before watching ends.
const MAX_OUTAGE: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The deployment's id, or a beginning of it that no other has
    #[arg(value_name = "DEPLOYMENT")]
    id: String,

    #[command(flatten)]
    pub(crate) options: WatchOptions,
}

/// How to watch; shared with `submit --watch`.
#[derive(Debug, Clone, Args)]
pub(crate) struct WatchOptions {
    /// Show what remote commands write, too
    #[arg(long)]
    logs: bool,

    /// How long to wait for workers to accept a request that they don't know yet
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    appear_within: SignedDuration,
}

pub(crate) async fn run(
    args: &WatchArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    // A full id may be that of a request which no worker has accepted yet.
    let id = match args.id.parse() {
        Ok(id) => id,
        Err(_) => database.find_deployment(&args.id).await?,
    };
    follow(id, &args.options, &database, printer).await
}

/// Watches one deployment to its end.
pub(crate) async fn follow(
    id: DeploymentId,
    options: &WatchOptions,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let wakeups = database.store.listen();
    let mut view = EventView::new(*printer, options.logs);
    view.show_waiting("for a worker to accept the request");
    wait_until_known(id, options, database, &wakeups).await?;
    let mut seen = 0;
    let mut away: Option<Instant> = None;
    let result = loop {
        match show_new_events(id, &mut seen, database, &mut view).await {
            Ok(Some(result)) => break result,
            Ok(None) => away = None,
            Err(error) if error.is_transient() && away.get_or_insert_with(Instant::now).elapsed() < MAX_OUTAGE => {
                view.show_waiting("for Postgres, which doesn't answer");
            }
            Err(error) => return Err(database.cli_error(&error)),
        }
        let _ = tokio::time::timeout(POLL, wakeups.outbox()).await;
    };
    view.remove_spinner();
    if printer.is_json() {
        return Ok(summary::exit_of(result.outcome));
    }
    summary::print_result(&result, printer)
}

/// Waits for the end of a deployment that was just asked for, and shows nothing.
pub(crate) async fn await_end(id: DeploymentId, database: &Database) -> Result<DeploymentResult, CliError> {
    let wakeups = database.store.listen();
    let options = WatchOptions { logs: false, appear_within: SignedDuration::from_secs(30) };
    wait_until_known(id, &options, database, &wakeups).await?;
    let mut away: Option<Instant> = None;
    loop {
        match database.store.deployment(id).await {
            Ok(found) => {
                away = None;
                if let Some(result) = found.and_then(|deployment| deployment.result) {
                    return Ok(result);
                }
            }
            Err(error) if error.is_transient() && away.get_or_insert_with(Instant::now).elapsed() < MAX_OUTAGE => {}
            Err(error) => return Err(database.cli_error(&error)),
        }
        let _ = tokio::time::timeout(POLL, wakeups.outbox()).await;
    }
}

/// Shows what is new; gives the result once it's there.
async fn show_new_events(
    id: DeploymentId,
    seen: &mut u64,
    database: &Database,
    view: &mut EventView,
) -> Result<Option<DeploymentResult>, slipway_worker::store::StoreError> {
    for event in database.store.events(id, *seen).await? {
        *seen = event.sequence;
        let event = Event::read(event.event);
        view.show_event(&event);
        if let EventBody::Result(result) = event.body {
            return Ok(Some(*result));
        }
    }
    // Events of old deployments are pruned; the result stays.
    let ended = database.store.deployment(id).await?.filter(|d| d.state.is_terminal());
    let Some(ended) = ended else { return Ok(None) };
    // It may have ended between the two queries: then its last events are shown before its result.
    match database.store.events(id, *seen).await? {
        more if more.is_empty() => Ok(ended.result),
        _ => Ok(None),
    }
}

/// Waits until the deployment is known.
async fn wait_until_known(
    id: DeploymentId,
    options: &WatchOptions,
    database: &Database,
    wakeups: &slipway_worker::store::Wakeups,
) -> Result<(), CliError> {
    let patience = Duration::try_from(options.appear_within).unwrap_or_default();
    let began = Instant::now();
    while database.store.deployment(id).await.map_err(|e| database.cli_error(&e))?.is_none() {
        let left = patience.saturating_sub(began.elapsed());
        if left.is_zero() {
            let message =
                format!("no worker has accepted deployment {id} within {}", format_duration(millis(patience)));
            return Err(CliError::new(CommandExit::Failed, message)
                .hint("check the id, that a worker runs, and `slipway topology check`"));
        }
        let _ = tokio::time::timeout(POLL.min(left), wakeups.outbox()).await;
    }
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
