//! `slipway servers`: the inventory of servers. What is known there wins over what an event says.

mod add;
mod check;
mod cordon;
mod drain;
mod json;
mod label;
mod list;
mod maintenance;
mod remove;
mod room;
mod show;
mod twins;
mod unknown_server;

use clap::Subcommand;
use slipway_protocol::names::ServerHandle;
use slipway_worker::store::AllowanceScope;

use crate::commands::allowances::{self, AllowanceArgs};
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;
pub(crate) use unknown_server::unknown_server;

#[derive(Debug, Subcommand)]
pub(crate) enum Servers {
    /// Add a server, or change what is given of one that is known
    Add(Box<add::AddServer>),
    /// List the servers
    List,
    /// Show what is known of a server, and of its front door as it was seen last
    Show {
        /// The server's name
        handle: ServerHandle,
    },
    /// Connect to a server as the workers do, and show whether it's fit
    Check(Box<check::CheckArgs>),
    /// Allow all projects on a server what no project gets otherwise
    Allow {
        /// The server's name
        handle: ServerHandle,
        #[command(flatten)]
        args: AllowanceArgs,
    },
    /// Take back what all projects on a server were allowed
    Revoke {
        /// The server's name
        handle: ServerHandle,
        #[command(flatten)]
        args: AllowanceArgs,
    },
    /// List what all projects on a server were ever allowed, by whom and why
    Allowances {
        /// The server's name
        handle: ServerHandle,
    },
    /// Say a server's region, labels and how many projects it may have, in the place of what was said before
    Label(label::LabelArgs),
    /// Keep new projects off a server, unless a request names it; the ones that live there go on being deployed
    Cordon(cordon::CordonArgs),
    /// Let a server get new projects again
    Uncordon(cordon::CordonArgs),
    /// Cordon a server, and move its projects to others, one by one; what is done already isn't done again
    Drain(drain::DrainArgs),
    /// Announce a time in which nothing is done on a server, or end it
    Maintenance(maintenance::MaintenanceArgs),
    /// Take a server out of the inventory on which no project lives
    Remove(remove::RemoveArgs),
}

pub(crate) async fn run(
    command: Servers,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    match command {
        Servers::Add(args) => add::run(*args, &database, printer).await,
        Servers::List => list::run(&database, printer).await,
        Servers::Show { handle } => show::run(&handle, &database, printer).await,
        Servers::Check(args) => check::run(*args, &database, printer).await,
        Servers::Allow { handle, args } => {
            allowances::allow(AllowanceScope::Server(handle), args, &database, printer).await
        }
        Servers::Revoke { handle, args } => {
            allowances::revoke(AllowanceScope::Server(handle), args, &database, printer).await
        }
        Servers::Allowances { handle } => allowances::list(&AllowanceScope::Server(handle), &database, printer).await,
        Servers::Label(args) => label::run(&args, &database, printer).await,
        Servers::Cordon(args) => cordon::run(&args, true, &database, printer).await,
        Servers::Uncordon(args) => cordon::run(&args, false, &database, printer).await,
        Servers::Drain(args) => drain::run(&args, settings, &database, printer).await,
        Servers::Maintenance(args) => maintenance::run(&args, &database, printer).await,
        Servers::Remove(args) => remove::run(&args, &database, printer).await,
    }
}
