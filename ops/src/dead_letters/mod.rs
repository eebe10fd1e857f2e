//! `slipway dead-letters`: what couldn't be done, why, and what is to become of it. Which ones are meant, who does it
//! and why is in `choice`; everything that is done is recorded by the store.

mod aside;
mod audit;
mod choice;
mod edit;
mod export;
mod replay;
mod view;

pub(crate) use choice::at_the_keyboard;
use clap::Subcommand;

use crate::memory::Database;
use crate::print::Printer;
use crate::settings::ConnectionSettings;
use crate::trouble::{CliError, CommandExit};

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// Count those that failed alike, the largest group first
    Groups(view::ListGroups),
    /// List dead letters, the latest first
    List(view::ListDeadLetters),
    /// Show one in full: why, where, its headers, its body without secrets, and what was done with it
    Show(view::ShowDeadLetter),
    /// Send dead letters again, byte for byte or edited; each becomes a deployment of its own
    Replay(Box<replay::ReplayArgs>),
    /// Put dead letters aside: nothing is to be done about them
    Archive(aside::ArchiveArgs),
    /// Take archived dead letters up again
    Restore(aside::ArchiveArgs),
    /// Write a line beside a dead letter, for whoever looks at it next
    Note(aside::NoteArgs),
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
    let memory = Database::new(settings)?;
    match command {
        DeadLetters::Groups(args) => view::groups(&args, &memory, printer).await,
        DeadLetters::List(args) => view::list(&args, &memory, printer).await,
        DeadLetters::Show(args) => view::show(&args, &memory, printer).await,
        DeadLetters::Replay(args) => replay::run(*args, &memory, printer).await,
        DeadLetters::Archive(args) => aside::archive(args, &memory, printer).await,
        DeadLetters::Restore(args) => aside::restore(args, &memory, printer).await,
        DeadLetters::Note(args) => aside::note(args, &memory, printer).await,
        DeadLetters::Export(args) => export::run(args, &memory, printer).await,
        DeadLetters::Audit(args) => audit::run(&args, &memory, printer).await,
    }
}
