//! `slipway projects`: what is known of a project beyond its single deployments.

mod hand_over;
pub(super) mod moving;
mod owners;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;
use slipway_protocol::names::{ServerHandle, Slug};
use slipway_worker::store::VERSIONS;
use uuid::Uuid;

use crate::commands::allowances::{self, AllowanceArgs, project_scope};
use crate::commands::lifecycle;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::{format_duration, millis_between, short_id};
use crate::terminal::print::{Printer, Table};

#[derive(Debug, Subcommand)]
pub(crate) enum Projects {
    /// List the versions that a project can be rolled back to, the latest first
    Versions(VersionsArgs),
    /// Allow a project what no project gets otherwise
    Allow {
        /// The project's slug
        project: Slug,
        /// The project's id, where several have had that slug, or none has yet
        #[arg(long, value_name = "UUID")]
        id: Option<Uuid>,
        #[command(flatten)]
        args: AllowanceArgs,
    },
    /// Take back what a project was allowed
    Revoke {
        /// The project's slug
        project: Slug,
        /// The project's id, where several have had that slug, or none has yet
        #[arg(long, value_name = "UUID")]
        id: Option<Uuid>,
        #[command(flatten)]
        args: AllowanceArgs,
    },
    /// List what a project was ever allowed, by whom and why
    Allowances {
        /// The project's slug
        project: Slug,
        /// The project's id, where several have had that slug, or none has yet
        #[arg(long, value_name = "UUID")]
        id: Option<Uuid>,
    },
    /// Take a project to another server; the old one serves until the new one is proven
    Move(moving::MoveArgs),
    /// List whose the slugs on servers are, and whose CI secrets repositories hold
    Owners(owners::OwnersArgs),
    /// Give a slug on a server, or the CI of a repository, to another project
    HandOver(hand_over::HandOverArgs),
    /// Make a project's deploy key anew, by deploying its last version again: GitHub gets the new key, and its server
    /// refuses the old one from then on
    RotateKey(lifecycle::LifecycleArgs),
}

#[derive(Debug, Args)]
pub(crate) struct VersionsArgs {
    /// The project's slug
    #[arg(value_name = "PROJECT")]
    project: Slug,

    /// Only on this server
    #[arg(long, value_name = "HANDLE")]
    server: Option<ServerHandle>,

    /// At most so many a server; the workers offer the last SLIPWAY_VERSIONS
    #[arg(long, value_name = "N", default_value_t = VERSIONS, value_parser = clap::value_parser!(u32).range(1..=100))]
    limit: u32,
}

pub(crate) async fn run(
    command: Projects,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    match command {
        Projects::Versions(args) => list_versions(&args, &Database::new(settings)?, printer).await,
        Projects::Allow { project, id, args } => {
            let database = Database::new(settings)?;
            allowances::allow(project_scope(project, id, &database).await?, args, &database, printer).await
        }
        Projects::Revoke { project, id, args } => {
            let database = Database::new(settings)?;
            allowances::revoke(project_scope(project, id, &database).await?, args, &database, printer).await
        }
        Projects::Allowances { project, id } => {
            let database = Database::new(settings)?;
            allowances::list(&project_scope(project, id, &database).await?, &database, printer).await
        }
        Projects::Move(args) => moving::run(args, settings, printer).await,
        Projects::Owners(args) => owners::run(&args, &Database::new(settings)?, printer).await,
        Projects::HandOver(args) => hand_over::run(args, &Database::new(settings)?, printer).await,
        Projects::RotateKey(args) => lifecycle::rotate_key(args, settings, printer).await,
    }
}

async fn list_versions(args: &VersionsArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let places = database.store.places(&args.project).await.map_err(|e| database.cli_error(&e))?;
    let (mut rows, now) = (Vec::new(), Timestamp::now());
    let mut table = Table::new(&["DEPLOYMENT", "COMMIT", "SERVER", "BY", "AGE"]);
    for place in places.iter().filter(|p| args.server.as_ref().is_none_or(|s| *s == p.server)) {
        let versions = database.store.versions(&place.project, &place.server, args.limit).await;
        for version in versions.map_err(|e| database.cli_error(&e))? {
            table.row([
                short_id(&version.deployment.to_string()),
                version.commit.short().to_owned(),
                place.server.to_string(),
                version.action.to_string(),
                version.finished_at.map_or_else(|| "-".to_owned(), |at| format_duration(millis_between(at, now))),
            ]);
            rows.push(json!({
                "deployment_id": version.deployment,
                "commit": version.commit,
                "server": place.server,
                "project_id": place.project.id,
                "action": version.action,
                "finished_at": version.finished_at,
            }));
        }
    }
    if printer.is_json() {
        printer.json(&rows);
        return Ok(CommandExit::Success);
    }
    printer.table(&table);
    if table.is_empty() {
        printer.message(&format!("No version of {} is recorded", args.project));
    } else {
        printer.hint(&format!("run `slipway rollback {} --to DEPLOYMENT`", args.project));
    }
    Ok(CommandExit::Success)
}
