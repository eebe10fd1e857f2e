//! `slipway servers check`: connects to a server as the workers do and runs their preflight, nothing else. No project
//! is touched: preflight only looks, and starts a front door that is down.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::json;
use slipway_deploy::{
    CredentialSource, Deployer, DeployerConfig, DeploymentWork, EarlierRequests, FrontDoor, FrontDoorFacts,
    GithubCredential, LeaseGuard, ProjectLimits, Reporter, StageError, StageReport, Target,
};
use slipway_protocol::names::{BranchName, CommitSha, HostKey, InvalidName, Port, RepositoryName, ServerHandle, Slug};
use slipway_protocol::{
    Action, Allocation, Correlation, DeploymentId, Failure, Project, ProjectId, ProjectReady, PushDeployer, Repository,
    Server, Stage,
};
use slipway_worker::config::front_door_from_env;
use slipway_worker::run::Credentials;
use slipway_worker::store::{Operator, ServerRecord};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::commands::arguments::parse_port;
use crate::commands::front_doors::{door_hints, door_json, print_door};
use crate::commands::operator::RecordArgs;
use crate::connect::store::Database;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::format_duration;
use crate::terminal::print::{Printer, Table};

/// Longest time for the one command that preflight runs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The server's name in the inventory
    handle: ServerHandle,

    /// A port that has to be free; repeatable
    #[arg(long = "free-port", value_name = "PORT", value_parser = parse_port)]
    ports: Vec<Port>,

    /// The workers' SSH key, for a server that has none of its own
    #[arg(long, value_name = "FILE", env = "SLIPWAY_SSH_KEY_FILE", hide_env_values = true)]
    ssh_key_file: Option<PathBuf>,

    /// The age identity that opens a key stored with the server
    #[arg(long, value_name = "FILE", env = "SLIPWAY_AGE_IDENTITY_FILE", hide_env_values = true)]
    age_identity_file: Option<PathBuf>,

    /// The projects' directory on the server
    #[arg(
        long,
        value_name = "DIR",
        env = "SLIPWAY_PROJECT_ROOT",
        hide_env_values = true,
        default_value = "/opt/services"
    )]
    project_root: String,

    /// The registry whose name the server has to resolve
    #[arg(long, value_name = "HOST", env = "SLIPWAY_REGISTRY", hide_env_values = true, default_value = "ghcr.io")]
    registry: String,

    #[command(flatten)]
    record: RecordArgs,
}

/// Records the host key that the connection learned. Progress lines are dropped: the report has what preflight found.
#[derive(Default)]
struct HostKeyRecorder {
    learned: std::sync::Mutex<Option<HostKey>>,
}

impl Reporter for HostKeyRecorder {
    fn line(&self, _: Stage, _: &str) {}
    fn retrying(&self, _: Stage, _: &Failure, _: Duration) {}
    fn host_key_learned(&self, key: &HostKey) {
        if let Ok(mut learned) = self.learned.lock() {
            *learned = Some(key.clone());
        }
    }
}

pub(crate) async fn run(args: CheckArgs, database: &Database, printer: &Printer) -> Result<CommandExit, CliError> {
    let known = database.store.server(&args.handle).await.map_err(|e| database.cli_error(&e))?;
    let Some(record) = known else {
        return Err(CliError::usage(format!("{} isn't in the inventory", args.handle))
            .hint("`slipway servers list` shows it, `slipway servers add` adds to it"));
    };
    let target = build_target(&args, &record)?;
    let front_door = front_door_from_env().map_err(|mistakes| {
        CliError::usage("the workers' settings of front doors can't be used".to_owned())
            .details(mistakes.0.iter().map(|mistake| format!("{} {}", mistake.variable, mistake.problem)).collect())
            .hint("`slipway-worker --help` describes them; without any of them the defaults hold")
    })?;
    let recorder = Arc::new(HostKeyRecorder::default());
    let began = Instant::now();
    let (found, round_trips) = run_preflight(&args, target, front_door, recorder.clone()).await?;
    let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    pin_host_key(&recorder, &record, &args.record.to_operator(), database, printer).await?;
    let report = found.map_err(|error| unfit_error(&record, &error))?;
    database.store.record_reachable(&record.handle).await.map_err(|e| database.cli_error(&e))?;
    if let Some(seen) = report.facts.get(FrontDoorFacts::FACT) {
        database.store.record_front_door(&record.handle, seen).await.map_err(|e| database.cli_error(&e))?;
    }
    let door = database.store.front_door(&record.handle).await.map_err(|e| database.cli_error(&e))?;
    let now = Timestamp::now();
    if printer.is_json() {
        printer.json(&json!({
            "handle": record.handle, "fit": true, "facts": report.facts, "ssh_round_trips": round_trips, "duration_ms": took,
            "front_door": door.as_ref().map(|door| door_json(door, now)),
        }));
        return Ok(CommandExit::Success);
    }
    let mut table = Table::new(&["FINDING", "VALUE"]);
    for (name, value) in report.facts.iter().filter(|(name, _)| *name != FrontDoorFacts::FACT) {
        table.row([name.clone(), value.as_str().map_or_else(|| value.to_string(), str::to_owned)]);
    }
    printer.table(&table);
    if let Some(door) = &door {
        printer.line("");
        print_door(door, now, printer);
        door_hints(std::slice::from_ref(door), now).iter().for_each(|hint| printer.hint(hint));
    }
    let place = format!("{} ({}:{})", record.handle, record.address, record.ssh_port);
    printer.message(&format!("{place} is fit; asked in {} with {round_trips} round trips", format_duration(took)));
    Ok(CommandExit::Success)
}

/// The server as the workers would connect to it.
fn build_target(args: &CheckArgs, record: &ServerRecord) -> Result<Target, CliError> {
    let read = |file: &PathBuf| {
        std::fs::read_to_string(file)
            .map(SecretString::from)
            .map_err(|e| CliError::usage(format!("the SSH key {} can't be read: {e}", file.display())))
    };
    let credentials = Credentials {
        ssh_key: args.ssh_key_file.as_ref().map(read).transpose()?.map(CredentialSource::Value),
        age_identity_file: args.age_identity_file.clone(),
        ..Credentials::default()
    };
    let server =
        Server { handle: record.handle.clone(), address: None, ssh_port: None, ssh_user: None, host_key: None };
    credentials.resolve_target(&server, Some(record.clone())).map_err(|error| {
        CliError::usage(error.message)
            .hint("give --ssh-key-file or --age-identity-file, or set the workers' variables that are named")
    })
}

async fn run_preflight(
    args: &CheckArgs,
    target: Target,
    front_door: FrontDoor,
    recorder: Arc<HostKeyRecorder>,
) -> Result<(Result<StageReport, StageError>, u32), CliError> {
    let work = build_work(args, target).map_err(|e| CliError::new(CommandExit::Failed, e.to_string()))?;
    let deployer = Deployer::new(build_config(args, front_door)).map_err(|e| CliError::usage(e.message))?;
    let mut attempt = deployer.begin(work, recorder, CancellationToken::new());
    let found = attempt.run(Stage::Preflight).await;
    let round_trips = attempt.round_trips();
    attempt.close().await;
    Ok((found, round_trips))
}

/// The key that a server showed first is pinned now, as a deployment would have done.
async fn pin_host_key(
    recorder: &HostKeyRecorder,
    record: &ServerRecord,
    operator: &Operator,
    database: &Database,
    printer: &Printer,
) -> Result<(), CliError> {
    let Some(key) = recorder.learned.lock().ok().and_then(|mut learned| learned.take()) else { return Ok(()) };
    if database.store.pin_host_key(record, &key, Some(operator)).await.map_err(|e| database.cli_error(&e))? {
        printer.message(&format!("Pinned the host key that {} showed: {key}", record.handle));
        return Ok(());
    }
    Err(CliError::new(CommandExit::Failed, format!("{} showed {key}, and another key is pinned by now", record.handle))
        .hint("run the check again; if it fails, don't deploy before you know why"))
}

fn unfit_error(record: &ServerRecord, error: &StageError) -> CliError {
    CliError::new(CommandExit::Failed, format!("{}: {}: {}", record.handle, error.code, error.message))
        .details(error.tail.clone())
        .hint(error.code.next_action())
}

/// Preflight asks neither GitHub nor a registry: what is given here as a credential is never sent anywhere.
fn build_config(args: &CheckArgs, front_door: FrontDoor) -> DeployerConfig {
    DeployerConfig {
        github_api: "https://api.github.com".to_owned(),
        github_git: "https://github.com".to_owned(),
        github: GithubCredential::Token("no token: a check doesn't ask GitHub".into()),
        image_registry: args.registry.clone(),
        registry_token_host: None,
        digest_key: SecretString::from("no key: a check doesn't write any GitHub secret"),
        ca_file: None,
        project_root: args.project_root.clone(),
        command_timeout: COMMAND_TIMEOUT,
        health_timeout: COMMAND_TIMEOUT,
        limits: ProjectLimits::DEFAULT,
        front_door: Some(front_door),
    }
}

/// The request of no project: its ports must be free, since nobody's container may hold them.
fn build_work(args: &CheckArgs, target: Target) -> Result<DeploymentWork, InvalidName> {
    let mut allocations = Vec::new();
    for (i, port) in args.ports.iter().enumerate() {
        allocations.push(Allocation {
            service: format!("port{i}").parse()?,
            host_port: Some(*port),
            container_port: *port,
            health: None,
            domains: Vec::new(),
        });
    }
    let request = ProjectReady {
        // As long as a slug may be, so that no real project is likely to have it.
        project: Project { id: ProjectId(Uuid::nil()), slug: Slug::new("slipway-servers-check-of-no-project-0000")? },
        repository: Repository {
            name: RepositoryName::new("slipway/check")?,
            commit: CommitSha::new("0".repeat(40))?,
            branch: BranchName::new("main")?,
            pushes_deployed_by: PushDeployer::default(),
        },
        server: Some(Server {
            handle: target.handle.clone(),
            address: None,
            ssh_port: None,
            ssh_user: None,
            host_key: None,
        }),
        placement: None,
        resources: None,
        modules: allocations.iter().map(|a| a.service.clone()).collect(),
        allocations,
        variables: BTreeMap::new(),
        secrets: BTreeMap::new(),
        registry: None,
        sequence: None,
        expires_at: None,
        correlation: Correlation::new(),
    };
    let deployment = DeploymentId(Uuid::now_v7());
    Ok(DeploymentWork {
        deployment,
        action: Action::Deploy,
        remove_volumes: false,
        moving: None,
        shares_repository: false,
        former_owners: Vec::new(),
        ci_taken: None,
        request,
        target,
        secrets: BTreeMap::new(),
        registry: None,
        images: BTreeMap::new(),
        earlier: EarlierRequests::default(),
        github_digests: BTreeMap::new(),
        allowances: Vec::new(),
        lease: LeaseGuard::endless(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slug_of_no_project_is_valid() {
        assert!(Slug::new("slipway-servers-check-of-no-project-0000").is_ok());
    }
}
