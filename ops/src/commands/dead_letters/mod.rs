//! `slipway dead-letters`: requests that couldn't be carried out. Which of them a command means is worked out in
//! `selection`; the store records everything that is done.

mod archive;
mod audit;
mod consent;
mod edit;
mod export;
mod groups;
mod json;
mod list;
mod note;
mod outlook;
mod replay;
mod replay_args;
mod selection;
mod show;
mod verdict;

use clap::Subcommand;

use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// Count those that failed alike, the largest group first
    Groups(groups::ListGroups),
    /// List dead letters, the latest first
    List(list::ListDeadLetters),
    /// Show one in full: why, where, its headers, its body without secrets, and what was done with it
    Show(show::ShowDeadLetter),
    /// Send dead letters again, byte for byte or edited; each becomes a deployment of its own
    Replay(Box<replay_args::ReplayArgs>),
    /// Put dead letters aside: nothing is to be done about them
    Archive(archive::ArchiveArgs),
    /// Take archived dead letters up again
    Restore(archive::ArchiveArgs),
    /// Write a line beside a dead letter, for whoever looks at it next
    Note(note::NoteArgs),
    /// Write dead letters out as they came, for a bug report or another system
    Export(export::ExportArgs),
    /// Show what was done with dead letters, by whom and why, the latest first
    Audit(audit::AuditArgs),
}

pub(crate) async fn run(
    command: DeadLetters,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    match command {
        DeadLetters::Groups(args) => groups::run(&args, &database, printer).await,
        DeadLetters::List(args) => list::run(&args, &database, printer).await,
        DeadLetters::Show(args) => show::run(&args, &database, printer).await,
        DeadLetters::Replay(args) => replay::run(*args, &database, printer).await,
        DeadLetters::Archive(args) => archive::archive(args, &database, printer).await,
        DeadLetters::Restore(args) => archive::restore(args, &database, printer).await,
        DeadLetters::Note(args) => note::run(args, &database, printer).await,
        DeadLetters::Export(args) => export::run(args, &database, printer).await,
        DeadLetters::Audit(args) => audit::run(&args, &database, printer).await,
    }
}
