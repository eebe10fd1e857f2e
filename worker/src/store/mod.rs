//! What Slipway remembers, in PostgreSQL. The only folder that holds SQL.
//!
//! Every change of a deployment's state is one transaction together with the events that tell it: they leave through
//! the outbox, or neither happened. A write of a running attempt names its [`Lease`], and one whose fence is no longer
//! the newest writes nothing. All times are the database's.

mod audit;
mod connection;
mod dead_letter;
mod deployment;
mod grouped;
mod held;
mod outbox;
mod owners;
mod pushes;
mod retention;
mod server;
mod sources;
mod status;
mod workers;

pub use audit::{AuditEntry, AuditFilter, Operator, OperatorAction, OperatorOrigin};
pub use connection::deadline::DEADLINE;
pub(crate) use connection::error::is_untrusted_certificate;
pub use connection::error::{Result, StoreError};
pub use connection::pool::Store;
pub use connection::pooler::{DatabasePooler, DatabaseRoute, UnknownPooler};
pub(crate) use connection::wakeups::{POLL, spread};
pub use connection::wakeups::{RelayHeard, Wakeups};
pub use dead_letter::from_broker::StoredGivenUp;
pub use dead_letter::list::{DeadLetter, DeadLetterFilter, DeadLetterGroup, DeadLetterState};
pub use dead_letter::refusal::{BrokerDeadLetter, RefusedMessage};
pub use dead_letter::replay::{Replay, SentReplay};
pub use dead_letter::replay_plan::{PlannedReplay, ReplayVerdict};
pub use deployment::accept_plain::{DoorFacts, PlainRequest};
pub use deployment::attempt_writer::AttemptWriter;
pub use deployment::basis::ClaimBasis;
pub use deployment::cancel::{CancelOutcome, CancelRequest, Cancellation};
pub use deployment::claim::Claim;
pub use deployment::command::RollbackBasis;
pub use deployment::end::{AttemptSummary, DeploymentEnd};
pub use deployment::history::DeploymentHistory;
pub use deployment::interruption::InterruptOutcome;
pub(crate) use deployment::interruption::{INTERRUPTED, interrupted_too_often};
pub use deployment::lease::{Fence, Lease, RenewOutcome};
pub use deployment::list::{Deployment, JournalEntry, StoredEvent};
pub use deployment::places::ProjectServer;
pub use deployment::queue::ClaimOptions;
pub use deployment::renewal::LeaseRenewal;
pub use deployment::retry::RetryOutcome;
pub use deployment::selection::DeploymentFilter;
pub use deployment::stage::{StageEnd, StageIntent};
pub use deployment::state::{Boundary, IllegalTransition, State, UnknownState};
pub use deployment::superseding::Admission;
pub(crate) use deployment::unproven::leaves_unproven;
pub use deployment::versions::{RecordedVersion, VERSIONS};
pub use held::rows::{HeldBacklog, HeldMessage, WaitingMessage};
pub(crate) use outbox::github_status::ANNOUNCEMENT_LEASE;
pub use outbox::github_status::Announcement;
pub use outbox::relay_lease::{RelayLease, RelayStanding};
pub use outbox::rows::{OrderingKey, OutboxBacklog, OutboxPage, OutboxRow, PublishOutcome};
pub(crate) use outbox::set_aside::MAX_BREAKS;
pub use outbox::set_aside::{BlamedMessage, SetAsideMessage};
pub use owners::claim::OwnedBasis;
pub use owners::hand_over::{HandOver, HandOverOutcome};
pub use owners::list::{Owned, OwnedThing};
pub use pushes::deliveries::{DELIVERY_RETENTION, DeliveryOutcome, WebhookDelivery};
pub use pushes::look::{BranchLook, BranchSeen, LookOutcome};
pub(crate) use pushes::look::{LOOK_LEASE, SECOND_LOOK};
pub use pushes::watch::{BranchCounts, WatchedBranch};
pub use retention::chores::ChoreProgress;
pub use retention::deployments::{WalkPosition, WalkStep};
pub use retention::others::OldRows;
pub use retention::settings::Retention;
pub use server::allowances::{AllowanceScope, RecordedAllowance};
pub use server::inventory::ServerRecord;
pub use sources::{DeploymentSubject, SourceRule, SourceRuleChange};
pub use status::StatusCounts;
pub use workers::{FleetTurn, WorkerSeen};
