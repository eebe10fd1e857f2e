//! `slipway plan`: what a request would change on its server, found out by a rehearsal of the pipeline itself. It has to
//! be run where the workers' environment is: it needs their keys and their credentials for GitHub.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use slipway_deploy::plan::{ContainerAction, DeploymentPlan, PlannedReplacement, ServicePlan, VariableChange};
use slipway_deploy::{Deployer, DeploymentWork, LeaseGuard, Reporter, StageError};
use slipway_protocol::names::HostKey;
use slipway_protocol::{Action, DeploymentId, Failure, ProjectCommand, ProjectReady, Server, Stage};
use slipway_worker::config::Config;
use slipway_worker::store::OwnedBasis;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commands::submit::Submission;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    submission: Submission,
}

/// A plan prints its result only, and no progress.
struct SilentReporter;

impl Reporter for SilentReporter {
    fn line(&self, _: Stage, _: &str) {}
    fn retrying(&self, _: Stage, _: &Failure, _: Duration) {}
    // Nothing is pinned by looking; the next deployment will see the key again.
    fn host_key_learned(&self, _: &HostKey) {}
}

pub(crate) async fn run(
    args: PlanArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let prepared = args.submission.prepare()?;
    let config = workers_config()?;
    let work = build_work(&prepared.request.event.data, &config, &Database::new(settings)?).await?;
    show(work, config, printer).await
}

/// Shows what a rollback would change.
pub(crate) async fn show_rollback(
    command: &ProjectCommand,
    database: &Database,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let config = workers_config()?;
    let cli_error = |e| database.cli_error(&e);
    let store = &database.store;
    let basis = store.rollback_basis(command, config.worker.versions).await.map_err(cli_error)?;
    let basis = basis.map_err(|failure| {
        CliError::new(CommandExit::Failed, format!("{}: {}", failure.code, failure.message))
            .hint(failure.code.next_action())
    })?;
    let data = &basis.event.data;
    let server = named_server(data)?;
    let work = DeploymentWork {
        action: Action::Rollback,
        images: store.images_of_version(basis.version).await.map_err(cli_error)?,
        earlier: store.earlier_requests(&data.project, &server.handle).await.map_err(cli_error)?,
        ..build_work(data, &config, database).await?
    };
    show(work, config, printer).await
}

fn workers_config() -> Result<Config, CliError> {
    Config::from_env().map_err(|mistakes| {
        CliError::usage("a plan needs the workers' settings".to_owned())
            .details(mistakes.to_string().lines().map(str::to_owned).collect())
            .hint("run it where a worker runs, with the same environment; `slipway-worker --check` must be content")
    })
}

async fn show(work: DeploymentWork, config: Config, printer: &Printer) -> Result<CommandExit, CliError> {
    let place = format!("{} on {}", work.request.project.slug, work.target.handle);
    let deployer = Deployer::new(config.deployer).map_err(to_cli_error)?;
    let cancel = CancellationToken::new();
    let interrupted = cancel.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.cancel();
        }
    });
    let plan = deployer.plan(work, Arc::new(SilentReporter), cancel).await.map_err(to_cli_error)?;
    if printer.is_json() {
        printer.json(&plan);
        return Ok(CommandExit::Success);
    }
    print_plan(&place, &plan, printer);
    Ok(CommandExit::Success)
}

async fn build_work(data: &ProjectReady, config: &Config, database: &Database) -> Result<DeploymentWork, CliError> {
    let cli_error = |e| database.cli_error(&e);
    let server = named_server(data)?;
    let known = database.store.server(&server.handle).await.map_err(cli_error)?;
    let digests = database.store.github_digests(data.project.id, &server.handle).await.map_err(cli_error)?;
    let allowances = database.store.allowances(&server.handle, &data.project).await.map_err(cli_error)?;
    let owned = database.store.owned_basis(data).await.map_err(cli_error)?;
    let OwnedBasis { former: former_owners, ci_taken } = owned.map_err(|failure| {
        CliError::new(CommandExit::Failed, format!("{}: {}", failure.code, failure.message))
            .hint(failure.code.next_action())
    })?;
    let credentials =
        slipway_worker::engine::load_credentials(config).map_err(|e| CliError::usage(format!("{e:#}")))?;
    // A new id and not the request's: two plans of one request must not use the same files on the server. A plan changes
    // nothing, so it needs no lease.
    let (id, lease) = (DeploymentId(Uuid::now_v7()), LeaseGuard::endless(0));
    let work = credentials.assemble_work(id, data, server, known, digests, lease).map_err(to_cli_error)?;
    let secrets = credentials.open_secrets(data).map_err(to_cli_error)?.values;
    let registry = credentials.choose_registry(data).map_err(to_cli_error)?;
    Ok(DeploymentWork { allowances, secrets, registry, former_owners, ci_taken, ..work })
}

/// The server of a request; a plan is about one.
fn named_server(data: &ProjectReady) -> Result<&Server, CliError> {
    data.server.as_ref().ok_or_else(|| {
        CliError::usage("the request names no server, and a plan is about one".to_owned())
            .hint("`slipway placement explain` shows which one it would get; name that one, and its ports, to plan")
    })
}

fn to_cli_error(error: StageError) -> CliError {
    CliError::new(CommandExit::Failed, format!("{}: {}", error.code, error.message))
        .details(error.tail.clone())
        .hint(error.code.next_action())
}

fn print_plan(place: &str, plan: &DeploymentPlan, printer: &Printer) {
    let short = |commit: &str| commit.chars().take(7).collect::<String>();
    let to = short(&plan.to);
    let files = plan.files.as_ref().map(|files| format!(" ({files})")).unwrap_or_default();
    let from = plan.from.as_deref().map_or("an unknown commit".to_owned(), short);
    match plan.checkout.as_deref().map(short) {
        None => printer.line(&format!("{place}: {to}, for the first time")),
        Some(checkout) if from == to && checkout == to => printer.line(&format!("{place}: {to}, as it is")),
        Some(checkout) if from == checkout => printer.line(&format!("{place}: {from} -> {to}{files}")),
        Some(checkout) => printer.line(&format!("{place}: {from} -> {to}; files {checkout} -> {to}{files}")),
    }
    let variables = plan.variables.iter().map(|v| format!("{} {}", sign_of(v.change), v.name));
    print_section(printer, ".env", variables);
    print_section(printer, "override file", plan.overrides.iter().map(|line| space_sign(line)));
    print_section(printer, "services", plan.services.iter().map(describe_service));
    let rules = plan.open.iter().map(|port| format!("+ {port}/tcp"));
    print_section(printer, "ufw", rules.chain(plan.close.iter().map(|port| format!("- {port}/tcp"))));
    print_section(printer, "GitHub secrets", plan.secrets.iter().map(|name| format!("~ {name}")));
    let whose = match plan.registry_credential.as_deref() {
        Some("request") => "the credential that came with the request",
        Some("owner") => "the workers' credential for the repository's owner",
        Some(_) => "the workers' credential for all projects",
        None => "no credential",
    };
    print_section(printer, "images are read with", std::iter::once(whose.to_owned()));
    if plan.new_deploy_key {
        print_section(printer, "deploy key", ["+ a new one".to_owned()].into_iter());
    }
    printer.message(if plan.is_empty() { "Nothing would change" } else { "Nothing was changed" });
}

fn print_section(printer: &Printer, title: &str, lines: impl Iterator<Item = String>) {
    let mut lines = lines.peekable();
    if lines.peek().is_some() {
        printer.line(title);
        lines.for_each(|line| printer.line(&format!("  {line}")));
    }
}

fn sign_of(change: VariableChange) -> char {
    match change {
        VariableChange::Added => '+',
        VariableChange::Changed => '~',
        VariableChange::Removed => '-',
    }
}

/// Sets the sign of a changed line apart from its text.
fn space_sign(line: &str) -> String {
    let (sign, rest) = line.split_at(line.len().min(1));
    format!("{sign} {rest}")
}

fn describe_service(service: &ServicePlan) -> String {
    let (sign, what) = match service.action {
        ContainerAction::Keep => ('=', "stays"),
        ContainerAction::Create => ('+', "is made"),
        ContainerAction::Recreate => ('~', "is replaced"),
        ContainerAction::Start => ('~', "is started"),
        ContainerAction::Remove => ('-', "is removed"),
    };
    let images = match (&service.from, &service.to) {
        (Some(from), Some(to)) if from != to => format!(": {from} -> {to}"),
        (None, Some(to)) => format!(": {to}"),
        _ => String::new(),
    };
    let pull = if service.pull { ", pulled first" } else { "" };
    let replaced = service.replacement.as_ref().map(describe_replacement).unwrap_or_default();
    format!("{sign} {} {what}{images}{pull}{replaced}{}", service.service, describe_bounds(service))
}

fn describe_replacement(replacement: &PlannedReplacement) -> String {
    match replacement {
        PlannedReplacement::WithoutGap => ", without a gap".to_owned(),
        PlannedReplacement::WithGap { why } => format!(", with a gap: {why}"),
        PlannedReplacement::WithOneGap { why } => format!(", with one gap: {why}"),
    }
}

fn describe_bounds(service: &ServicePlan) -> String {
    if service.action == ContainerAction::Remove {
        return String::new();
    }
    let bounds = &service.bounds;
    let log = bounds.log.as_ref().map_or("its whole log is kept".to_owned(), |log| format!("log {log}"));
    let processes = bounds.processes.map_or("any number of processes".to_owned(), |n| format!("{n} processes"));
    let privileges = if bounds.no_new_privileges { "no new privileges" } else { "may get new privileges" };
    format!(" ({log}, {processes}, {privileges})")
}
