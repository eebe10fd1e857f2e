//! `slipway servers label`: what a server is, for requests that ask for a region or labels, and how many projects it may have.

use clap::Args;
use serde_json::json;
use slipway_protocol::names::ServerHandle;
use slipway_protocol::{ServerLabel, ServerTraits};

use super::unknown_server::unknown_server;
use crate::commands::operator::RecordArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
pub(crate) struct LabelArgs {
    /// The server's name
    handle: ServerHandle,

    /// The region that it's in; none when left out
    #[arg(long, value_name = "REGION")]
    region: Option<ServerLabel>,

    /// A label, such as ssd; repeatable
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<ServerLabel>,

    /// How many projects it may have; as the workers are configured when left out
    #[arg(long, value_name = "N")]
    max_projects: Option<u32>,

    #[command(flatten)]
    record: RecordArgs,
}

pub(super) async fn run(args: &LabelArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let handle = &args.handle;
    let traits = ServerTraits { region: args.region.clone(), labels: args.labels.iter().cloned().collect() };
    let known = database.store.label_server(handle, &traits, args.max_projects, &args.record.to_operator()).await;
    if !known.map_err(|e| database.cli_error(&e))? {
        return Err(unknown_server(handle));
    }
    if printer.is_json() {
        let (region, labels) = (&traits.region, &traits.labels);
        printer
            .json(&json!({ "handle": handle, "region": region, "labels": labels, "project_limit": args.max_projects }));
    } else {
        printer.message(&format!("Labelled {handle}"));
    }
    Ok(CommandExit::Success)
}
