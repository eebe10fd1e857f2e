//! `slipway submit`: a request from a file or from flags, validated exactly as the workers do, then published.

mod flags;
mod input;
pub(crate) mod publish;
mod secrets;

pub(crate) use input::read_input;

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::json;
use slipway_protocol::{CONTENT_TYPE, ErrorCode, Metadata, Rejection, Request, decode, topology};
use slipway_worker::store::OperatorAction;

use crate::commands::operator::RecordArgs;
use crate::commands::watch;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

/// `source` of the events that this command makes.
pub(crate) const SOURCE: &str = "/slipway/cli";

/// A request, from a file or from flags.
#[derive(Debug, Args)]
pub(crate) struct Submission {
    /// A CloudEvent of type slipway.project.ready.v1, or only its `data`, as JSON; `-` reads stdin
    #[arg(value_name = "FILE", required_unless_present = "project")]
    file: Option<PathBuf>,

    /// `source` of the event, unless FILE tells it
    #[arg(long, value_name = "URI", default_value = SOURCE)]
    source: String,

    /// `id` of the event, unless FILE tells it; the same source and id ask for the same deployment [default: random]
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,

    #[command(flatten)]
    flags: flags::RequestFlags,
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// Validate, and print the event as it would be sent; nothing is published
    #[arg(long)]
    dry_run: bool,

    /// Go on watching the deployment, with the exit code of its outcome
    #[arg(long, conflicts_with = "dry_run")]
    watch: bool,

    #[command(flatten)]
    watch_options: watch::WatchOptions,

    #[command(flatten)]
    record: RecordArgs,

    #[command(flatten)]
    submission: Submission,
}

/// A request that is valid, and the bytes that ask for it.
pub(crate) struct PreparedRequest {
    body: Vec<u8>,
    pub(crate) request: Request,
}

pub(crate) async fn run(
    args: SubmitArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let prepared = args.submission.prepare()?;
    let id = prepared.request.deployment_id();
    let event = &prepared.request.event;
    if args.dry_run {
        if printer.is_json() {
            printer.json(&json!({ "deployment_id": id, "published": false, "event": event }));
        } else {
            printer.pretty_json(event);
        }
        printer.message(&format!("Valid, not published: it would be deployment {id}"));
        return Ok(CommandExit::Success);
    }
    let database = Database::new(settings)?;
    let correlation_id = event.data.correlation.get("correlation_id").and_then(|id| id.as_str());
    let data = &event.data;
    let server =
        data.server.as_ref().map_or_else(|| "a server of Slipway's choice".to_owned(), |s| s.handle.to_string());
    let recorded = publish::Recorded {
        action: OperatorAction::Submit,
        subject: format!("{} on {server}", data.project.slug),
        operator: args.record.to_operator(),
        details: json!({
            "deployment_id": id, "source": event.source, "event_id": event.id, "project_id": data.project.id,
            "repository": data.repository.name, "commit": data.repository.commit,
        }),
    };
    let message = publish::build_message(event, correlation_id, prepared.body.clone());
    publish::publish(&message, recorded, &database, settings).await?;
    if printer.is_json() {
        let published = json!({ "deployment_id": id, "published": true, "source": event.source, "event_id": event.id });
        printer.json(&published);
    } else {
        printer.line(&id.to_string());
    }
    printer.message(&format!(
        "Published {} {} for {server} to {}",
        data.project.slug,
        data.repository.commit.short(),
        topology::REQUESTS
    ));
    if args.watch {
        return watch::follow(id, &args.watch_options, &database, printer).await;
    }
    if !printer.is_json() {
        printer.hint(&format!("run `slipway watch {id}`"));
    }
    Ok(CommandExit::Success)
}

impl Submission {
    /// Reads and validates it, as the workers will.
    pub(crate) fn prepare(&self) -> Result<PreparedRequest, CliError> {
        let event_id = self.event_id.clone().unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        let (name, body) = match &self.file {
            Some(file) => {
                let (name, bytes) = input::read_input(file)?;
                let body = input::wrap_bare_data(&name, bytes, &self.source, &event_id)?;
                (name, body)
            }
            None => {
                ("the flags".to_owned(), input::wrap_request(self.flags.build_request()?, &self.source, &event_id)?)
            }
        };
        let metadata = Metadata { content_type: Some(CONTENT_TYPE.to_owned()), ..Metadata::default() };
        let request = decode(&body, &metadata).map_err(|rejection| rejection_error(&name, &rejection))?;
        if let Some(at) = request.event.data.expires_at.filter(|at| *at <= Timestamp::now()) {
            let error =
                CliError::usage(format!("{name}: /data/expires_at is over ({at}): {}", ErrorCode::ExpiredEvent));
            return Err(error.hint("set a later expiry time, or none"));
        }
        input::refuse_unread_fields(&name, &body, &request)?;
        Ok(PreparedRequest { body, request })
    }
}

fn rejection_error(name: &str, rejection: &Rejection) -> CliError {
    CliError::usage(format!("{name}: {}: {}", rejection.code, rejection.message)).hint(rejection.code.next_action())
}
