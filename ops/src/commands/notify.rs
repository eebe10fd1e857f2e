//! `slipway notify`: checks a routing file, and tells people by it until it's stopped. What it does is in `crate::notify`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use slipway_deploy::backoff::RetryPolicy;
use slipway_worker::amqp::BrokerEndpoints;
use slipway_worker::config::{LogFormat, TelemetryConfig};
use slipway_worker::process::{Drain, do_or_wait_for, drain_on_signals};
use slipway_worker::store::{NOTIFICATION_TIMEOUT, Store};
use slipway_worker::telemetry;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::connect::broker::cli_error;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::notify::channel::send::ChannelClient;
use crate::notify::intake::NotifyIntake;
use crate::notify::routing::settings::NotifyRouting;
use crate::notify::routing::{Mistake, read_routing};
use crate::notify::sender::ChannelSender;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

/// How often what has waited too long is given up.
const TIDYING: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct NotifyArgs {
    /// The routing file: channels, and which results go to which
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Only check the file and the secrets that it names, and tell nobody anything
    #[arg(long)]
    check: bool,
}

pub(crate) async fn run(
    args: &NotifyArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let routing = read_file(&args.file)?;
    if args.check {
        return Ok(report(&routing, printer));
    }
    let client = ChannelClient::new(settings.ca_file.as_deref()).map_err(CliError::usage)?;
    let name = format!("slipway-notify-{}", uuid::Uuid::new_v4().simple());
    let store = Database::named(settings, &name)?.store;
    let endpoints = BrokerEndpoints::new(settings.amqp_url()?, settings.ca_file.as_deref(), "slipway-notify");
    let broker = endpoints.map_err(|error| cli_error(None, &error))?;
    let failed = |what: &str| CliError::new(CommandExit::Failed, what.to_owned());
    let _telemetry = telemetry::init(&logging()).map_err(|error| failed(&format!("no logs: {error:#}")))?;
    let drain = Drain::new(NOTIFICATION_TIMEOUT);
    drain_on_signals(drain.clone()).map_err(|error| failed(&format!("signals can't be caught: {error}")))?;
    tell(Arc::new(routing), client, store, broker, &drain).await;
    Ok(CommandExit::Success)
}

fn logging() -> TelemetryConfig {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let format =
        if variable("SLIPWAY_LOG_FORMAT").as_deref() == Some("json") { LogFormat::Json } else { LogFormat::Text };
    let filter = variable("SLIPWAY_LOG").unwrap_or_else(|| "info".to_owned());
    TelemetryConfig { filter, format, export: false, instance: "slipway-notify".to_owned() }
}

/// Tells until the drain begins, and then ends what is under way.
async fn tell(
    routing: Arc<NotifyRouting>,
    client: ChannelClient,
    store: Store,
    broker: BrokerEndpoints,
    drain: &Drain,
) {
    let names: Vec<String> = routing.channels.keys().cloned().collect();
    let open = || store.open_notification_channels(&names);
    if do_or_wait_for("the database", RetryPolicy::RECONNECT, drain, open).await.is_none() {
        return;
    }
    let (client, written) = (Arc::new(client), Arc::new(Notify::new()));
    let mut tasks = JoinSet::new();
    for name in names {
        let sender = ChannelSender {
            name,
            routing: routing.clone(),
            client: client.clone(),
            store: store.clone(),
            drain: drain.clone(),
            written: written.clone(),
        };
        tasks.spawn(sender.run());
    }
    tasks.spawn(tidy(store.clone(), routing.max_age, drain.clone()));
    let intake = NotifyIntake { routing, store: store.clone(), broker, drain: drain.clone(), written };
    tasks.spawn(intake.run());
    while tasks.join_next().await.is_some() {}
    if let Err(error) = store.release_notification_channels().await {
        tracing::debug!(%error, "the channels couldn't be left to others; their lease expires");
    }
}

/// Gives up, now and then, what has waited too long, also for channels that the file doesn't name any more.
async fn tidy(store: Store, max_age: Duration, drain: Drain) {
    while !drain.has_begun() {
        match store.give_up_old_notifications(max_age).await {
            Ok(0) => {}
            Ok(given_up) => tracing::warn!(given_up, "events waited too long, and won't be told any more"),
            Err(error) => tracing::debug!(%error, "what is too old can't be given up for now"),
        }
        tokio::select! {
            () = drain.token().cancelled() => {}
            () = tokio::time::sleep(TIDYING) => {}
        }
    }
}

fn read_file(path: &Path) -> Result<NotifyRouting, CliError> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::usage(format!("the routing file {shown} can't be read: {error}")))?;
    read_routing(&text, path.parent().unwrap_or(Path::new(""))).map_err(|mistakes| {
        let line = |mistake: &Mistake| match mistake.line {
            0 => format!("{shown}: {}", mistake.text),
            line => format!("{shown}:{line}: {}", mistake.text),
        };
        CliError::usage(format!("the routing file {shown} can't be used"))
            .details(mistakes.iter().map(line).collect())
            .hint("correct these lines, and run it again with --check")
    })
}

fn report(routing: &NotifyRouting, printer: &Printer) -> CommandExit {
    if printer.is_json() {
        let channels: Vec<&String> = routing.channels.keys().collect();
        printer.json(&json!({ "channels": channels, "rules": routing.rules.len() }));
    } else {
        let (channels, rules) = (routing.channels.len(), routing.rules.len());
        printer.message(&format!("The file is right (channels: {channels}, rules: {rules})"));
    }
    CommandExit::Success
}
