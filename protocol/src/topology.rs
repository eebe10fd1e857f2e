//! The RabbitMQ topology, in one table. Declaring, checking and documenting all read it from here.

use crate::{Outcome, Stage, names::Slug};

/// An exchange; all are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exchange {
    /// Its name.
    pub name: &'static str,
    /// `topic`, `fanout` or `direct`.
    pub kind: &'static str,
    /// Where messages go that match no binding.
    pub alternate: Option<&'static str>,
}

/// An argument's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// Text.
    Text(&'static str),
    /// A number.
    Number(i64),
}

/// A queue; all are durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Its name.
    pub name: &'static str,
    /// Its `x-` arguments.
    pub arguments: &'static [(&'static str, Argument)],
}

/// A binding of a queue to an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// The exchange.
    pub exchange: &'static str,
    /// The queue.
    pub queue: &'static str,
    /// The routing key's pattern.
    pub pattern: &'static str,
}

/// Where requests are published; routing key: the event's type.
pub const REQUESTS: &str = "slipway.requests";
/// Where requests end that no queue is bound for.
const UNROUTABLE: &str = "slipway.unroutable";
/// Where dead letters are published.
pub const DEAD_LETTER_EXCHANGE: &str = "slipway.dead-letters";
/// Where progress and results are published.
pub const EVENTS: &str = "slipway.events";
/// The queue that the workers consume.
pub const DEPLOYMENTS_QUEUE: &str = "slipway.deployments";
/// The queue of dead letters.
pub const DEAD_LETTERS_QUEUE: &str = "slipway.dead-letters";
/// The queue through which workers learn of what the broker itself made a dead letter.
pub const DEAD_LETTERS_INGEST_QUEUE: &str = "slipway.dead-letters.ingest";
/// The queue that no program reads: requests whose routing key no queue was bound for when they came (it isn't an
/// event's type, or [`DEPLOYMENTS_QUEUE`] was missing), and dead letters that no worker survived (with a header
/// `x-death`).
pub const PARKED_QUEUE: &str = "slipway.parked";
/// Header that carries the id of a replay; each replay is a deployment of its own.
pub const REPLAY_HEADER: &str = "slipway-replay-id";

/// Every exchange, in the order of declaration.
pub const EXCHANGES: &[Exchange] = &[
    Exchange { name: UNROUTABLE, kind: "fanout", alternate: None },
    Exchange { name: REQUESTS, kind: "topic", alternate: Some(UNROUTABLE) },
    Exchange { name: DEAD_LETTER_EXCHANGE, kind: "fanout", alternate: None },
    // No alternate exchange here: it would make `mandatory` call an unroutable event routed.
    Exchange { name: EVENTS, kind: "topic", alternate: None },
];

/// Every queue, in the order of declaration.
pub const QUEUES: &[Queue] = &[
    Queue {
        name: DEPLOYMENTS_QUEUE,
        arguments: &[
            ("x-queue-type", Argument::Text("quorum")),
            ("x-dead-letter-exchange", Argument::Text(DEAD_LETTER_EXCHANGE)),
            ("x-dead-letter-strategy", Argument::Text("at-least-once")),
            ("x-overflow", Argument::Text("reject-publish")),
            // Said out loud, since RabbitMQ 4 made 20 its default: a message survives many worker crashes.
            ("x-delivery-limit", Argument::Number(50)),
        ],
    },
    Queue { name: DEAD_LETTERS_QUEUE, arguments: &[("x-queue-type", Argument::Text("quorum"))] },
    // A queue of its own, since another one's arguments can't be changed any more. What breaks its consumer again and
    // again is set aside, so that the next one gets its turn.
    Queue {
        name: DEAD_LETTERS_INGEST_QUEUE,
        arguments: &[
            ("x-queue-type", Argument::Text("quorum")),
            ("x-dead-letter-exchange", Argument::Text(UNROUTABLE)),
            ("x-dead-letter-strategy", Argument::Text("at-least-once")),
            ("x-overflow", Argument::Text("reject-publish")),
            ("x-delivery-limit", Argument::Number(20)),
        ],
    },
    Queue { name: PARKED_QUEUE, arguments: &[("x-queue-type", Argument::Text("quorum"))] },
];

/// Every binding.
pub const BINDINGS: &[Binding] = &[
    Binding { exchange: UNROUTABLE, queue: PARKED_QUEUE, pattern: "" },
    Binding { exchange: REQUESTS, queue: DEPLOYMENTS_QUEUE, pattern: "slipway.project.#" },
    Binding { exchange: REQUESTS, queue: DEPLOYMENTS_QUEUE, pattern: "slipway.deployment.#" },
    Binding { exchange: REQUESTS, queue: DEPLOYMENTS_QUEUE, pattern: "slipway.engineering.#" },
    Binding { exchange: REQUESTS, queue: DEPLOYMENTS_QUEUE, pattern: "slipway.resources.#" },
    Binding { exchange: REQUESTS, queue: DEPLOYMENTS_QUEUE, pattern: "slipway.server.#" },
    Binding { exchange: DEAD_LETTER_EXCHANGE, queue: DEAD_LETTERS_QUEUE, pattern: "" },
    Binding { exchange: DEAD_LETTER_EXCHANGE, queue: DEAD_LETTERS_INGEST_QUEUE, pattern: "" },
];

/// Routing key of a progress event: `progress.<project>.<stage>`, with `engine` for what isn't about a stage.
#[must_use]
pub fn progress_key(project: &Slug, stage: Option<Stage>) -> String {
    format!("progress.{project}.{}", stage.map_or("engine", Stage::as_str))
}

/// Routing key of a result event: `result.<project>.<outcome>`, with `unknown` for a project that couldn't be read.
#[must_use]
pub fn result_key(project: Option<&Slug>, outcome: Outcome) -> String {
    format!("result.{}.{outcome}", project.map_or("unknown", Slug::as_str))
}
