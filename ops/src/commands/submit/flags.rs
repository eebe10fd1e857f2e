//! A request spelled in flags. Each value is checked by its protocol type while the arguments are parsed.

use std::collections::BTreeMap;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use slipway_protocol::names::{
    BranchName, CommitSha, Host, HostKey, Port, RepositoryName, SecretReference, ServerHandle, ServiceName, Slug,
    UserName, VariableName,
};
use slipway_protocol::{
    Allocation, Correlation, PlacementWish, Project, ProjectId, ProjectReady, PushDeployer, Repository, SecretSource,
    Server, ServerLabel, ServerTraits,
};

use super::secrets::{self, SealTo};
use crate::commands::arguments::{parse_assignment, parse_port};
use crate::terminal::error::CliError;

#[derive(Debug, Args)]
#[command(next_help_heading = "Request (instead of FILE)")]
pub(super) struct RequestFlags {
    /// The project's slug
    #[arg(long, value_name = "SLUG", conflicts_with = "file",
          requires_all = ["project_id", "repository", "commit", "allocate", "modules"])]
    project: Option<Slug>,

    /// The orchestrator's id of the project
    #[arg(long, value_name = "UUID", requires = "project")]
    project_id: Option<ProjectId>,

    /// Where the code is
    #[arg(long, value_name = "OWNER/NAME", requires = "project")]
    repository: Option<RepositoryName>,

    /// The exact commit, 40 hexadecimal digits
    #[arg(long, value_name = "SHA", requires = "project")]
    commit: Option<CommitSha>,

    /// The branch whose pushes deploy from then on
    #[arg(long, value_name = "NAME", requires = "project", default_value = "main")]
    branch: BranchName,

    /// The server's handle in the inventory; Slipway chooses one when left out
    #[arg(long, value_name = "HANDLE", requires = "project")]
    server: Option<ServerHandle>,

    /// The region that a server of Slipway's choice must be in
    #[arg(long, value_name = "REGION", requires = "project", conflicts_with = "server")]
    region: Option<ServerLabel>,

    /// A label that a server of Slipway's choice must have; repeatable
    #[arg(long = "label", value_name = "LABEL", requires = "project", conflicts_with = "server")]
    labels: Vec<ServerLabel>,

    /// Where the server answers, for one that the inventory doesn't know; the workers must allow that
    #[arg(long, value_name = "HOST", requires = "server")]
    address: Option<Host>,

    /// SSH port of such a server
    #[arg(long, value_name = "PORT", requires = "server", value_parser = parse_port)]
    ssh_port: Option<Port>,

    /// SSH user of such a server
    #[arg(long, value_name = "USER", requires = "server")]
    ssh_user: Option<UserName>,

    /// Host key of such a server, as `ssh-keyscan` prints it without the host
    #[arg(long, value_name = "KEY", requires = "server")]
    host_key: Option<HostKey>,

    /// A service's port on the server and in its container, or that one alone: Slipway chooses the other; repeatable
    #[arg(long, value_name = "SERVICE=[PORT:]PORT", requires = "project", value_parser = parse_allocation)]
    allocate: Vec<Allocation>,

    /// A service that must run; repeatable
    #[arg(long = "module", value_name = "SERVICE", requires = "project")]
    modules: Vec<ServiceName>,

    /// A plain variable of the project's .env; repeatable
    // Parsed later: an error of the argument parser would repeat a value that may be a misplaced secret.
    #[arg(long = "variable", value_name = "NAME=VALUE", requires = "project")]
    variables: Vec<String>,

    /// A secret of the project's .env, from a file or stdin, sealed on the spot to --seal-to; repeatable
    #[arg(long = "secret", value_name = "NAME=@FILE|NAME=-", requires = "project")]
    secrets: Vec<String>,

    /// The workers' public key, as `slipway keys public` prints it, or a file with that line
    #[arg(long, value_name = "KEY_ID:PUBLIC|FILE", requires = "project")]
    seal_to: Option<SealTo>,

    /// A secret that is mounted into the workers; repeatable
    #[arg(long = "secret-ref", value_name = "NAME=REFERENCE", requires = "project", value_parser = parse_secret_reference)]
    references: Vec<(VariableName, SecretReference)>,

    /// Your number of this request within the project; the highest wins
    #[arg(long, value_name = "N", requires = "project")]
    sequence: Option<u64>,

    /// Don't act on the request after this time, such as `1h` or `90m`
    #[arg(long, value_name = "DURATION", requires = "project")]
    expires_in: Option<SignedDuration>,

    /// An opaque id to be echoed in every event; JSON values keep their type; repeatable
    #[arg(long, value_name = "KEY=VALUE", requires = "project", value_parser = parse_correlation)]
    correlation: Vec<(String, Value)>,
}

impl RequestFlags {
    /// The request that the flags describe.
    pub(super) fn build_request(&self) -> Result<ProjectReady, CliError> {
        let project = require(self.project_id, "--project-id")?;
        let mut secrets = secrets::seal_all(&self.secrets, project, self.seal_to.as_ref())?;
        for (name, reference) in &self.references {
            require_new(
                secrets.insert(name.clone(), SecretSource::Reference(reference.clone())).is_none(),
                "secret",
                name,
            )?;
        }
        let required = ServerTraits { region: self.region.clone(), labels: self.labels.iter().cloned().collect() };
        let mut variables = BTreeMap::new();
        for argument in &self.variables {
            let (name, value) = parse_assignment(argument).map_err(|e| CliError::usage(format!("--variable {e}")))?;
            require_new(variables.insert(name.clone(), value.to_owned()).is_none(), "variable", &name)?;
        }
        Ok(ProjectReady {
            project: Project { id: project, slug: require(self.project.clone(), "--project")? },
            repository: Repository {
                name: require(self.repository.clone(), "--repository")?,
                commit: require(self.commit.clone(), "--commit")?,
                branch: self.branch.clone(),
                pushes_deployed_by: PushDeployer::default(),
            },
            server: self.server.clone().map(|handle| Server {
                handle,
                address: self.address.clone(),
                ssh_port: self.ssh_port,
                ssh_user: self.ssh_user.clone(),
                host_key: self.host_key.clone(),
            }),
            placement: (!required.is_empty()).then(|| PlacementWish { required, ..PlacementWish::default() }),
            resources: None,
            allocations: self.allocate.clone(),
            modules: self.modules.iter().cloned().collect(),
            variables,
            secrets,
            registry: None,
            sequence: self.sequence,
            expires_at: self.expires_in.map(add_to_now).transpose()?,
            correlation: self.correlation.iter().cloned().collect::<Correlation>(),
        })
    }
}

/// Clap already requires these flags. If one is missing nevertheless, that is reported, and no value is guessed.
fn require<T>(value: Option<T>, flag: &str) -> Result<T, CliError> {
    value.ok_or_else(|| CliError::usage(format!("{flag} is missing")))
}

fn require_new(is_new: bool, what: &str, name: &VariableName) -> Result<(), CliError> {
    if is_new { Ok(()) } else { Err(CliError::usage(format!("the {what} {name} is given twice"))) }
}

fn add_to_now(duration: SignedDuration) -> Result<Timestamp, CliError> {
    Timestamp::now().checked_add(duration).map_err(|e| CliError::usage(format!("--expires-in is too long: {e}")))
}

fn parse_allocation(text: &str) -> Result<Allocation, String> {
    const FORM: &str =
        "must look like backend=8080:8000, the port on the server first, or backend=8000, that in the container";
    let (service, ports) = text.split_once('=').ok_or(FORM)?;
    let (host, container) = ports.split_once(':').map_or((None, ports), |(host, container)| (Some(host), container));
    Ok(Allocation {
        service: service.parse().map_err(|e: slipway_protocol::names::InvalidName| e.to_string())?,
        host_port: host.map(parse_port).transpose()?,
        container_port: parse_port(container)?,
        health: None,
        domains: Vec::new(),
    })
}

fn parse_secret_reference(text: &str) -> Result<(VariableName, SecretReference), String> {
    let (name, value) = parse_assignment(text)?;
    Ok((name, value.parse().map_err(|e: slipway_protocol::names::InvalidName| e.to_string())?))
}

fn parse_correlation(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or("must look like KEY=VALUE")?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((key.to_owned(), value))
}
