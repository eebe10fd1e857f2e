//! The commands and the flags that all of them have. Each command's own arguments are in its file in `commands`.

use clap::{Parser, Subcommand};

use crate::commands::audit::OperatorAuditArgs;
use crate::commands::cancel::CancelArgs;
use crate::commands::dead_letters::DeadLetters;
use crate::commands::deployments::Deployments;
use crate::commands::events::Events;
use crate::commands::notify::NotifyArgs;
use crate::commands::outbox::Outbox;
use crate::commands::placement::PlacementCommand;
use crate::commands::plan::PlanArgs;
use crate::commands::projects::Projects;
use crate::commands::servers::Servers;
use crate::commands::sources::Sources;
use crate::commands::status::StatusArgs;
use crate::commands::submit::SubmitArgs;
use crate::commands::topology::Topology;
use crate::commands::watch::WatchArgs;
use crate::commands::workers::Workers;
use crate::commands::{explain, keys, lifecycle};
use crate::connect::settings::ConnectionSettings;

/// Deploy finished projects, watch deployments, and repair what went wrong
#[derive(Debug, Parser)]
#[command(name = "slipway", version, max_term_width = 100, after_help = EXITS)]
pub struct Cli {
    /// Print data as JSON on stdout
    #[arg(long, global = true, display_order = 900)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) settings: ConnectionSettings,

    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXITS: &str = "Exit codes:
  0  done; a watched deployment succeeded
  1  a deployment failed or lacks a secret, or what was asked about is unfit
  2  the arguments or an input file are wrong
  3  a watched deployment was cancelled or superseded
  4  RabbitMQ or Postgres can't be asked, so nothing is known";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Ask for a project to be deployed
    Submit(Box<SubmitArgs>),
    /// Show what a request would change on its server, and change nothing
    Plan(Box<PlanArgs>),
    /// Show where a request would be deployed that names no server
    #[command(subcommand)]
    Placement(PlacementCommand),
    /// Watch a deployment to its end
    Watch(WatchArgs),
    /// Call a deployment off: at once while it waits; while it runs, it's ended and the version before goes on serving
    Cancel(CancelArgs),
    /// Stop a project's containers; they stay stopped when the server reboots
    Stop(lifecycle::LifecycleArgs),
    /// Start a stopped project
    Start(lifecycle::LifecycleArgs),
    /// Deploy a recorded version of a project again
    Rollback(lifecycle::RollbackArgs),
    /// Take a project off its server
    Undeploy(lifecycle::UndeployArgs),
    /// List what a project can be rolled back to and whose a slug is; hand one over
    #[command(subcommand)]
    Projects(Projects),
    /// List the halves of requests that wait for the other half, or have waited in vain
    Pending,
    /// List the branches whose pushes Slipway deploys itself, and what they wait for
    Pushes,
    /// Show who works, what waits and what needs a look; exits with 1 when something does
    Status(StatusArgs),
    /// List, show and cancel deployments
    #[command(subcommand)]
    Deployments(Deployments),
    /// List the workers, and forget one that is gone for good
    #[command(subcommand)]
    Workers(Workers),
    /// Keep the inventory of servers
    #[command(subcommand)]
    Servers(Servers),
    /// Say which producers may ask for what
    #[command(subcommand)]
    Sources(Sources),
    /// Count, show, replay and archive what couldn't be done
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// List, resend and drop messages that RabbitMQ can't take
    #[command(subcommand)]
    Outbox(Outbox),
    /// Send events that were published before to a new subscriber's queue
    #[command(subcommand)]
    Events(Events),
    /// Tell people how deployments end: by Telegram, Slack, webhooks and e-mail, until it's stopped
    Notify(NotifyArgs),
    /// Show what operators did: who, from where, to what, and why
    Audit(OperatorAuditArgs),
    /// Declare and check RabbitMQ's exchanges and queues
    #[command(subcommand)]
    Topology(Topology),
    /// Make and show the keys of secrets and of servers
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Say what an error code means and what to do, or what the policies are
    Explain(explain::ExplainArgs),
}
