//! The ways in which a promise can be broken, in words.

use slipway_protocol::Stage;
use uuid::Uuid;

use crate::model::Effect;

/// A broken promise. Ids are deployments' unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A confirmed request came to nothing.
    #[error("lost: {0} was confirmed, and the database doesn't know it")]
    Lost(Uuid),
    /// A confirmed message that can't be read came to nothing.
    #[error("lost: no dead letter holds the confirmed message {0:?}")]
    UnreadableLost(String),
    /// A dead letter was marked as replayed, and no deployment came of it.
    #[error("lost: dead letter {0} was replayed, and no deployment came of it")]
    ReplayLost(Uuid),
    /// A deployment that nobody asked for.
    #[error("unasked: nobody asked for {0}")]
    Unasked(Uuid),
    /// A deployment hasn't ended.
    #[error("not ended: {0} is {1}")]
    Unended(Uuid, String),
    /// No result was received.
    #[error("no result: {0} ended without a word")]
    NoResult(Uuid),
    /// Results with several ids were received.
    #[error("several results: {1} for {0}")]
    SeveralResults(Uuid, usize),
    /// The result says something else than the database.
    #[error("wrong result: {deployment} is {state}, and its result says {told}")]
    OtherResult {
        /// Which deployment.
        deployment: Uuid,
        /// What the database says.
        state: String,
        /// What the result says.
        told: String,
    },
    /// A result of a deployment that the database doesn't know.
    #[error("stray result: the database doesn't know {0}")]
    ResultOfNobody(Uuid),
    /// A failure whose code can't come of what was done to the system.
    #[error("unexplained: {0} failed with {1}")]
    Unexplained(Uuid, String),
    /// One id, two contents. The id is the event's.
    #[error("contradiction: event {0} came with two contents")]
    Contradiction(String),
    /// An id that isn't derived from what it tells. The id is the event's.
    #[error("wrong id: event {0}'s isn't that of its deployment and sequence")]
    WrongId(String),
    /// An event is missing.
    #[error("gap: event {missing} of {deployment} never came")]
    Gap {
        /// Which deployment.
        deployment: Uuid,
        /// Which place.
        missing: u64,
    },
    /// An event came too early.
    #[error("order: event {came} of {deployment} came after {after}")]
    Order {
        /// Which deployment.
        deployment: Uuid,
        /// The one before it.
        after: u64,
        /// The one that came.
        came: u64,
    },
    /// Something was told after the result.
    #[error("after the end: event {came} of {deployment} came after its result")]
    AfterResult {
        /// Which deployment.
        deployment: Uuid,
        /// The one that came.
        came: u64,
    },
    /// A failure without dead letter.
    #[error("no dead letter: {0} failed")]
    NoDeadLetter(Uuid),
    /// A dead letter without failure.
    #[error("stray dead letter: {0} is {1}")]
    StrayDeadLetter(Uuid, String),
    /// A message in the dead-letter queue that the database doesn't know. The id is the dead letter's.
    #[error("stray dead letter: the database doesn't know {0}")]
    StrayMessage(Uuid),
    /// A dead letter's bytes aren't the request's. The id is the dead letter's.
    #[error("changed: dead letter {0} isn't what was published")]
    BodyChanged(Uuid),
    /// The newest request of a project was superseded.
    #[error("latest lost: {0} is the newest of its project, and superseded")]
    LatestSuperseded(Uuid),
    /// Two acted on one project at once.
    #[error("concurrent: {0:?} was under way when {1:?}")]
    Concurrent(Effect, Effect),
    /// An older claim acted after a newer one.
    #[error("old fence: {newest} was there before {effect:?}")]
    OldFence {
        /// What it did.
        effect: Effect,
        /// The newest fence by then.
        newest: i64,
    },
    /// A success without its work.
    #[error("unfounded: {0} succeeded without having done {1}")]
    Unfounded(Uuid, Stage),
    /// Something is left behind.
    #[error("left: {0}")]
    Left(String),
}
