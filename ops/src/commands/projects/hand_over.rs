//! `slipway projects hand-over`: gives a slug on a server, or the CI of a repository, to another project. Nothing on the
//! server changes until that project is deployed there.

use clap::Args;
use serde_json::json;
use slipway_protocol::ProjectId;
use slipway_protocol::names::{RepositoryName, ServerHandle, Slug};
use slipway_worker::store::{HandOver, HandOverOutcome};

use crate::commands::operator::RecordArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
pub(crate) struct HandOverArgs {
    /// The slug that is handed over, with the directory, data and secrets that are there
    #[arg(value_name = "PROJECT", required_unless_present = "repository", requires = "server")]
    slug: Option<Slug>,

    /// The server on which it's handed over
    #[arg(long, value_name = "HANDLE", requires = "slug")]
    server: Option<ServerHandle>,

    /// The repository whose CI secrets are handed over
    #[arg(long, value_name = "OWNER/NAME")]
    repository: Option<RepositoryName>,

    /// The orchestrator's id of the project that gets it
    #[arg(long, value_name = "UUID")]
    to: ProjectId,

    /// The project that the server itself names as the owner, where Postgres doesn't know it
    #[arg(long, value_name = "UUID", requires = "slug")]
    from: Option<ProjectId>,

    #[command(flatten)]
    record: RecordArgs,
}

pub(super) async fn run(args: HandOverArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let operator = args.record.require_reason("handing something over")?;
    let HandOverArgs { slug, server, repository, to, from, .. } = args;
    let what = [
        slug.as_ref().zip(server.as_ref()).map(|(slug, server)| format!("{slug} on {server}")),
        repository.as_ref().map(|repository| format!("CI of {repository}")),
    ];
    let what = what.into_iter().flatten().collect::<Vec<_>>().join(" and ");
    let hand_over = HandOver { slug: slug.zip(server), repository, to, from };
    let outcome = database.store.hand_over(&hand_over, &operator).await.map_err(|e| database.cli_error(&e))?;
    let failed = |message: String| CliError::new(CommandExit::Failed, message);
    match outcome {
        HandOverOutcome::Done(from) => {
            if printer.is_json() {
                printer.json(&json!({ "handed_over": what, "from": from, "to": to }));
            } else {
                printer.message(&format!("Handed over {what} to project {to}"));
                printer.hint("deploy that project now, or replay its dead letter: until then what serves is as it was");
            }
            Ok(CommandExit::Success)
        }
        HandOverOutcome::Already => Err(failed(format!("{what} belongs to project {to} already"))),
        HandOverOutcome::Nobodys => Err(failed(format!("{what} belongs to nobody, so there is nothing to hand over"))
            .hint(
                "the first project that is deployed gets it; where the server names another one, say which with --from",
            )),
        HandOverOutcome::Busy => {
            Err(failed(format!("a deployment of the project that has {what} runs; nothing was changed"))
                .hint("`slipway deployments list` shows it; try again when it has ended"))
        }
    }
}
