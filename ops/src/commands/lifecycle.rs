//! `slipway stop`, `start`, `rollback`, `undeploy`, `projects rotate-key`: each publishes the same event as an
//! orchestrator would, so that it's carried out by the workers, under the project's lock, and reported in events.

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use slipway_deploy::KEY_SECRET;
use slipway_protocol::names::{CommitSha, ServerHandle, Slug};
use slipway_protocol::{
    Action, CloudEvent, Correlation, DeploymentId, EventType, Project, ProjectId, ProjectRollback, ProjectStart,
    ProjectStop, ProjectUndeploy, Version, topology,
};
use slipway_worker::store::{OperatorAction, ProjectServer};

use crate::commands::named_place::NamedPlace;
use crate::commands::operator::RecordArgs;
use crate::commands::plan;
use crate::commands::submit::{self, publish};
use crate::commands::watch;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::terminal::confirm::{self, Confirmed};
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::print::Printer;

/// Which project, and how to ask.
#[derive(Debug, Args)]
pub(crate) struct LifecycleArgs {
    /// The project's slug
    #[arg(value_name = "PROJECT")]
    project: Slug,

    /// The server, for a project that is on several
    #[arg(long, value_name = "HANDLE")]
    server: Option<ServerHandle>,

    /// The orchestrator's id of the project, for a slug that belonged to several
    #[arg(long, value_name = "UUID")]
    project_id: Option<ProjectId>,

    #[command(flatten)]
    record: RecordArgs,

    /// Your number of this request within the project; the highest wins
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(..=9_007_199_254_740_991))]
    sequence: Option<u64>,

    /// Go on watching, with the exit code of the outcome
    #[arg(long)]
    watch: bool,

    #[command(flatten)]
    watch_options: watch::WatchOptions,
}

#[derive(Debug, Args)]
pub(crate) struct RollbackArgs {
    #[command(flatten)]
    command: LifecycleArgs,

    /// A deployment that `slipway projects versions` lists, or a commit, in full or its beginning; the version before
    /// the present one when left out
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,

    /// Show what it would change on the server, as `slipway plan` does, and where that has to be run; nothing is published
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct UndeployArgs {
    #[command(flatten)]
    command: LifecycleArgs,

    /// Remove the project's volumes as well, with all its data
    #[arg(long)]
    remove_volumes: bool,

    /// Don't ask
    #[arg(long)]
    yes: bool,
}

pub(crate) async fn stop(
    args: LifecycleArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let target = LifecycleCommand::new(&args, Action::Stop, settings).await?;
    let (project, server, reason, sequence) = target.event_fields();
    let correlation = Correlation::new();
    let data = ProjectStop { project, server, reason, sequence, expires_at: None, correlation };
    target.publish(OperatorAction::Stop, EventType::ProjectStop, data, printer).await
}

pub(crate) async fn start(
    args: LifecycleArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let target = LifecycleCommand::new(&args, Action::Start, settings).await?;
    let (project, server, reason, sequence) = target.event_fields();
    let correlation = Correlation::new();
    let data = ProjectStart { project, server, reason, sequence, expires_at: None, correlation };
    target.publish(OperatorAction::Start, EventType::ProjectStart, data, printer).await
}

pub(crate) async fn rollback(
    args: RollbackArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let target = LifecycleCommand::new(&args.command, Action::Rollback, settings).await?;
    let to = match &args.to {
        Some(text) => Some(target.find_version(text).await?),
        None => None,
    };
    let (project, server, reason, sequence) = target.event_fields();
    let correlation = Correlation::new();
    let data = ProjectRollback { project, server, to, reason, sequence, expires_at: None, correlation };
    if args.dry_run {
        return plan::show_rollback(&data.into(), &target.database, printer).await;
    }
    target.publish(OperatorAction::Rollback, EventType::ProjectRollback, data, printer).await
}

pub(crate) async fn undeploy(
    args: UndeployArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let target = LifecycleCommand::new(&args.command, Action::Undeploy, settings).await?;
    let (slug, server) = (&target.place.project.slug, &target.place.server);
    let data = if args.remove_volumes { "with all its data" } else { "keeping its volumes" };
    let what = format!("taking {slug} off {server}, {data},");
    let confirmed = confirm::ask(&what, slug.as_str(), args.yes, printer)?;
    let data = build_undeploy(&target, args.remove_volumes, confirmed);
    target.publish(OperatorAction::Undeploy, EventType::ProjectUndeploy, data, printer).await
}

/// Has the last version deployed again without knowing the deploy key that GitHub holds, so that a new one is made.
pub(crate) async fn rotate_key(
    mut args: LifecycleArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    args.record.why.get_or_insert_with(|| "the deploy key is made anew".to_owned());
    let target = LifecycleCommand::new(&args, Action::Rollback, settings).await?;
    let (database, ProjectServer { project, server, .. }) = (&target.database, &target.place);
    let versions = database.store.versions(project, server, 1).await.map_err(|e| database.cli_error(&e))?;
    let Some(version) = versions.first() else {
        return Err(CliError::new(
            CommandExit::Failed,
            format!("{} was never deployed on {server} with success", project.slug),
        )
        .hint("its first deployment makes its key"));
    };
    let to = Some(Version::Deployment(version.deployment));
    let forgotten = database.store.forget_github_digest(project, server, KEY_SECRET, &args.record.to_operator()).await;
    if !forgotten.map_err(|e| database.cli_error(&e))? {
        let slug = &project.slug;
        return Err(CliError::new(
            CommandExit::Failed,
            format!("a deployment of {slug} to {server} runs; nothing was changed"),
        )
        .hint(format!("`slipway deployments list --project {slug}` shows it; try again when it has ended")));
    }
    let (project, server, reason, sequence) = target.event_fields();
    let correlation = Correlation::new();
    let data = ProjectRollback { project, server, to, reason, sequence, expires_at: None, correlation };
    target.publish(OperatorAction::RotateKey, EventType::ProjectRollback, data, printer).await
}

/// The only function that builds a request to undeploy: it takes the proof that a person confirmed it.
fn build_undeploy(target: &LifecycleCommand<'_>, remove_volumes: bool, _: Confirmed) -> ProjectUndeploy {
    let (project, server, reason, sequence) = target.event_fields();
    let correlation = Correlation::new();
    ProjectUndeploy { project, server, remove_volumes, reason, sequence, expires_at: None, correlation }
}

/// A command whose project and server are known.
pub(super) struct LifecycleCommand<'a> {
    args: &'a LifecycleArgs,
    settings: &'a ConnectionSettings,
    database: Database,
    place: ProjectServer,
}

impl<'a> LifecycleCommand<'a> {
    pub(super) async fn new(
        args: &'a LifecycleArgs,
        action: Action,
        settings: &'a ConnectionSettings,
    ) -> Result<Self, CliError> {
        let database = Database::new(settings)?;
        let places = database.store.places(&args.project).await.map_err(|e| database.cli_error(&e))?;
        let named = NamedPlace { slug: &args.project, server: args.server.as_ref(), project_id: args.project_id };
        let place = named.choose(places, action, &database).await?;
        Ok(Self { args, settings, database, place })
    }

    pub(super) fn event_fields(&self) -> (Project, Option<ServerHandle>, Option<String>, Option<u64>) {
        let (project, server) = (self.place.project.clone(), self.place.server.clone());
        (project, Some(server), self.args.record.why.clone(), self.args.sequence)
    }

    /// The version that a person named by an id, a commit, or the beginning of either.
    async fn find_version(&self, text: &str) -> Result<Version, CliError> {
        if let Ok(commit) = CommitSha::new(text) {
            return Ok(Version::Commit(commit));
        }
        if let Ok(id) = text.parse() {
            return Ok(Version::Deployment(id));
        }
        let (store, place) = (&self.database.store, &self.place);
        // More versions than the workers keep: they decide which of them can be rolled back to, and their refusal says so.
        let versions = store.versions(&place.project, &place.server, 100).await;
        let versions = versions.map_err(|e| self.database.cli_error(&e))?;
        let text = text.to_ascii_lowercase();
        let named = |id: &str| text.len() >= 4 && id.starts_with(&text);
        let mut of_id = versions.iter().filter(|v| named(&v.deployment.to_string()));
        let mut commits: Vec<_> = versions.iter().map(|v| &v.commit).filter(|c| named(c.as_str())).collect();
        commits.dedup();
        match (of_id.next(), of_id.next(), commits.as_slice()) {
            (Some(one), None, []) => Ok(Version::Deployment(one.deployment)),
            (None, None, [one]) => Ok(Version::Commit((*one).clone())),
            (None, None, []) => Err(CliError::usage(format!("{} has no such version", place.project.slug))
                .hint(format!("`slipway projects versions {}` lists them", place.project.slug))),
            _ => Err(CliError::usage("several versions begin like this".to_owned()).hint("give more digits")),
        }
    }

    pub(super) async fn publish<T: Serialize>(
        &self,
        action: OperatorAction,
        event_type: EventType,
        data: T,
        printer: &Printer,
    ) -> Result<CommandExit, CliError> {
        let source = submit::SOURCE;
        let event = CloudEvent::new(event_type, source, uuid::Uuid::now_v7().to_string(), data);
        let subject = Some(self.place.project.slug.to_string());
        let event = CloudEvent { subject, time: Some(Timestamp::now()), ..event };
        let id = DeploymentId::of(source, &event.id, None);
        let body = serde_json::to_vec(&event)
            .map_err(|e| CliError::new(CommandExit::Failed, format!("the event can't be written as JSON: {e}")))?;
        let (slug, server) = (&self.place.project.slug, &self.place.server);
        let recorded = publish::Recorded {
            action,
            subject: format!("{slug} on {server}"),
            operator: self.args.record.to_operator(),
            details: json!({ "deployment_id": id, "data": event.data }),
        };
        let message = publish::build_message(&event, None, body);
        publish::publish(&message, recorded, &self.database, self.settings).await?;
        if printer.is_json() {
            printer.json(&json!({ "deployment_id": id, "published": true, "source": source, "event_id": event.id }));
        } else {
            printer.line(&id.to_string());
        }
        let done = event_type.action().unwrap_or_default();
        printer.message(&format!("Published {done} {slug} on {server} to {}", topology::REQUESTS));
        if self.args.watch {
            return watch::follow(id, &self.args.watch_options, &self.database, printer).await;
        }
        if !printer.is_json() {
            printer.hint(&format!("run `slipway watch {id}`"));
        }
        Ok(CommandExit::Success)
    }
}
