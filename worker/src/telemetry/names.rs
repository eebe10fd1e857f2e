//! Names of attributes in spans, logs and metrics: OpenTelemetry's semantic conventions where they have one (service,
//! messaging, server, error, vcs), Slipway's own nouns elsewhere.

/// `slipway-worker`.
pub const SERVICE_NAME: &str = "service.name";
/// Version of the binary.
pub const SERVICE_VERSION: &str = "service.version";
/// The worker's name.
pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";

/// `rabbitmq`.
pub const MESSAGING_SYSTEM: &str = "messaging.system";
/// The queue or exchange.
pub const MESSAGING_DESTINATION_NAME: &str = "messaging.destination.name";
/// `receive`, `process`, `send` or `settle`.
pub const MESSAGING_OPERATION_TYPE: &str = "messaging.operation.type";
/// The event's id.
pub const MESSAGING_MESSAGE_ID: &str = "messaging.message.id";
/// The correlation id of the request.
pub const MESSAGING_CONVERSATION_ID: &str = "messaging.message.conversation_id";
/// The routing key.
pub const MESSAGING_ROUTING_KEY: &str = "messaging.rabbitmq.destination.routing_key";
/// The CloudEvent's id.
pub const CLOUDEVENTS_EVENT_ID: &str = "cloudevents.event_id";
/// The CloudEvent's source.
pub const CLOUDEVENTS_EVENT_SOURCE: &str = "cloudevents.event_source";
/// The CloudEvent's type.
pub const CLOUDEVENTS_EVENT_TYPE: &str = "cloudevents.event_type";

/// The target server's address.
pub const SERVER_ADDRESS: &str = "server.address";
/// Its SSH port.
pub const SERVER_PORT: &str = "server.port";
/// A stable error code, or absent.
pub const ERROR_TYPE: &str = "error.type";
/// The repository, `owner/name`.
pub const VCS_REPOSITORY_NAME: &str = "vcs.repository.name";
/// The commit.
pub const VCS_REVISION: &str = "vcs.ref.head.revision";

/// Id of a deployment.
pub const DEPLOYMENT_ID: &str = "deployment.id";
/// How a deployment ended.
pub const DEPLOYMENT_OUTCOME: &str = "deployment.outcome";
/// Slug of the project.
pub const PROJECT_SLUG: &str = "project.slug";
/// Number of an attempt, from 1.
pub const ATTEMPT_NUMBER: &str = "attempt.number";
/// A stage of the pipeline.
pub const STAGE_NAME: &str = "stage.name";
/// `changed` or `unchanged`.
pub const STAGE_CHANGE: &str = "stage.change";
/// Handle of the target server.
pub const SERVER_HANDLE: &str = "server.handle";
/// Fence of the lease under which something was done.
pub const LEASE_FENCE: &str = "lease.fence";
