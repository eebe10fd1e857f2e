//! `slipway deployments`: what was asked for and what became of it. Secrets are never shown, not even sealed.

mod json;
mod list;
mod retry;
mod show;

use clap::Subcommand;

use crate::commands::cancel::{self, CancelArgs};
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Subcommand)]
pub(crate) enum Deployments {
    /// List deployments, the latest first
    List(list::ListDeployments),
    /// Show one in full: request, attempts, stages, services, failure, events
    Show {
        /// The deployment's id, or a beginning of it that no other has
        #[arg(value_name = "DEPLOYMENT")]
        id: String,

        /// Only where each variable of the project's environment came from; values are never shown
        #[arg(long)]
        env: bool,
    },
    /// Let a deployment that waits for its next attempt have it now, whatever its server's circuit says
    Retry(retry::RetryArgs),
    /// The same as `slipway cancel`
    Cancel(CancelArgs),
}

pub(crate) async fn run(
    command: Deployments,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    match command {
        Deployments::List(args) => list::run(args, &database, printer).await,
        Deployments::Show { id, env: true } => {
            show::print_environment(database.find_deployment(&id).await?, &database, printer).await
        }
        Deployments::Show { id, env: false } => {
            show::run(database.find_deployment(&id).await?, &database, printer).await
        }
        Deployments::Retry(args) => retry::run(&args, &database, printer).await,
        Deployments::Cancel(args) => cancel::run(args, settings, printer).await,
    }
}
