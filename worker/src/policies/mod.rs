//! Every policy in one table: what is tried how often, how long things may take, how much happens at once. This only
//! prints them: constants are defined where they are used, and the defaults of settings in `config/defaults.rs`. What a
//! stage asks of a server (free disk, a clock) isn't a policy but a check, and is with its stage.
//!
//! A new setting or constant is one more line in [`all`]; a test names those that are missing.

mod notifications;
mod placement;
mod setting;
mod signs_of_life;

use slipway_deploy::backoff::RetryPolicy as Retry;
use slipway_deploy::bounds;
use slipway_deploy::bounds::Deadlines;
use slipway_protocol::topology::{Argument, DEPLOYMENTS_QUEUE, QUEUES};

use crate::config::variables as var;
use crate::intake::{dead_letter_consumer, held};
use crate::publish::{delayed, github_status, relay, relay_lease};
use crate::pushes::{connections, looker, webhook_server};
use crate::run;
use crate::{amqp, engine, housekeeping, scheduler, store};

pub use setting::{PolicySetting, PolicyValue};
use setting::{count, fixed, set, time};

/// Policies that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyGroup {
    /// The heading in `slipway explain policies`.
    pub title: &'static str,
    /// The policies, in reading order.
    pub policies: Vec<PolicySetting>,
}

/// The whole table.
#[must_use]
pub fn all() -> Vec<PolicyGroup> {
    let group = |title, policies| PolicyGroup { title, policies };
    vec![
        group("Retries", retries()),
        group("Interruptions and leases", leases()),
        group("Limits", limits()),
        group("Servers that can't be reached", circuit()),
        group("Placement", placement::policies()),
        group("Deadlines", deadlines()),
        group("Pushes", pushes()),
        group("Signs of life", signs_of_life::policies()),
        group("RabbitMQ and memory", memory()),
        group("What is kept", retention()),
        group("Notifications", notifications::notifications()),
    ]
}

#[rustfmt::skip]
fn retries() -> Vec<PolicySetting> {
    vec![
        fixed("within a stage", "backoff::IN_STAGE", Retry::IN_STAGE,
            "A reset connection or a 502 is over in seconds; starting the attempt anew would cost minutes"),
        count("attempts of a deployment", &var::MAX_ATTEMPTS, "attempts",
            "What failed that often won't heal by itself: it becomes a dead letter for people"),
        time("delay before the second attempt, at most", &var::RETRY_INITIAL,
            "Full jitter keeps what failed together from coming back together"),
        time("delay between attempts, at most", &var::RETRY_MAX,
            "An image that CI still builds or a registry's outage takes minutes, not hours"),
        fixed("delays between attempts", "backoff::ATTEMPTS", Retry::ATTEMPTS,
            "The defaults of the three above together"),
        fixed("pauses for a rate limit", "backoff::RATE_LIMITED", Retry::RATE_LIMITED,
            "Limits of GitHub and of registries reset within hours: they are waited for as long as a deployment may take"),
        fixed("connecting to a server", "backoff::CONNECT", Retry::CONNECT,
            "sshd resets connections at random while many come at once"),
        fixed("reconnecting to RabbitMQ and PostgreSQL", "backoff::RECONNECT", Retry::RECONNECT,
            "Without them there is nothing to do but wait, and be back soon"),
        fixed("reaching a server to put a release back", "backoff::RESTORE", Retry::RESTORE,
            "A server that restarts is back within minutes, and without this the project stays down"),
        fixed("what the database fails at", "store::holding::HELD_RETRIES", store::HELD_RETRIES,
            "A message, a deployment or a mark is held beside the others while the database answers those; then it's a dead \
             letter for people, or waits for them"),
        fixed("a message that the database fails at, from the dead letters", "intake::dead_letter_consumer::MAX_FAILURES",
            PolicyValue::Count(dead_letter_consumer::MAX_FAILURES.into(), "times"),
            "Then it's parked, and those behind it go on"),
        fixed("an attempt's write that the database fails at", "run::persist::MAX_FAILURES",
            PolicyValue::Count(run::MAX_FAILURES.into(), "times"),
            "Then the attempt is interrupted, which is counted as well; an absent database is waited for"),
        fixed("an attempt's write while the database is absent", "run::persist::LONGEST_ABSENCE", run::LONGEST_ABSENCE,
            "The lease runs out before, unless this write alone ends its connections"),
        fixed("a message that nobody is bound for", "publish::delayed::REPUBLISH_BACKOFF", delayed::REPUBLISH_BACKOFF,
            "A result is kept until somebody binds a queue, and doesn't hold up others meanwhile"),
        fixed("a message that breaks its channel", "store::outbox::set_aside::MAX_BREAKS",
            PolicyValue::Count(store::MAX_BREAKS.into(), "times"),
            "What the broker can't take is put aside for people, and others go out"),
        fixed("telling GitHub of a deployment", "publish::github_status::STATUS_RETRIES", github_status::STATUS_RETRIES,
            "A page on GitHub holds nothing up, and after hours it's nobody's news"),
    ]
}

#[rustfmt::skip]
fn leases() -> Vec<PolicySetting> {
    vec![
        time("lease of a project", &var::LEASE,
            "So long after a worker fell silent another takes over, also publishing; it's renewed five times as often"),
        fixed("interruptions of a deployment", "scheduler::retry::MAX_INTERRUPTIONS",
            PolicyValue::Count(scheduler::MAX_INTERRUPTIONS.into(), "interruptions"),
            "A stop or crash of a worker costs no attempt, but a deployment that kills workers must end"),
        time("drain", &var::DRAIN_TIMEOUT,
            "Running stages may end in this time; then they are cut off and taken over"),
        fixed("lease of the relay, at most", "publish::relay_lease::LONGEST", relay_lease::LONGEST,
            "A quarter longer than a project's, and events never wait longer for another relay than this"),
        fixed("an announcement to GitHub", "store::outbox::github_status::ANNOUNCEMENT_LEASE", store::ANNOUNCEMENT_LEASE,
            "So long one worker has for it before another takes it over; longer than its requests together"),
        fixed("search without notifications", "store::connection::wakeups::POLL", store::POLL,
            "Notifications wake workers at once; where none come, everybody has to look"),
    ]
}

#[rustfmt::skip]
fn limits() -> Vec<PolicySetting> {
    vec![
        set("deployments at once of a worker", &var::CONCURRENCY, |n| PolicyValue::Count(n as u64, "deployments"),
            "A deployment mostly waits for its server; the limit is for the worker's memory and connections"),
        count("deployments at once on a server", &var::SERVER_CONCURRENCY, "deployments",
            "Pulling and starting compete with what runs there; others' queues go on meanwhile"),
        count("deployments at once from a registry", &var::REGISTRY_CONCURRENCY, "deployments",
            "Registries limit rates, and then refuse everybody"),
        count("size of a commit", &var::REPOSITORY_MIB, "MiB",
            "A server's disk is everybody's: what one project fills no other can use"),
        count("files and folders of a commit", &var::REPOSITORY_FILES, "files and folders",
            "A few kilobytes of git can make more of them than a disk has inodes"),
        count("processes of a container", &var::PROCESSES, "processes",
            "One that starts processes without end would leave none for the server's other projects"),
        fixed("messages taken from RabbitMQ at once", "engine::PREFETCH",
            PolicyValue::Count(engine::PREFETCH.into(), "messages"),
            "A message is stored in milliseconds; the rest stays in the queue for other workers"),
    ]
}

#[rustfmt::skip]
fn circuit() -> Vec<PolicySetting> {
    vec![
        fixed("failures that open a server's circuit", "scheduler::circuit_breaker::FAILURES_TO_OPEN",
            PolicyValue::Count(scheduler::FAILURES_TO_OPEN.into(), "connection failures in a row"),
            "A server that refuses several in a row refuses the next one too"),
        fixed("cool-down", "scheduler::circuit_breaker::COOL_DOWN", scheduler::COOL_DOWN,
            "Nobody tries so long, half of it at least; then one attempt at a time, until one connects"),
        fixed("attempts that aren't counted", "scheduler::retry::MAX_WAITS",
            PolicyValue::Count(scheduler::MAX_WAITS.into(), "attempts"),
            "A dead server and a rate limit use up no attempts, but a server that comes and goes must not do so for ever"),
        time("patience with a dead server", &var::SERVER_PATIENCE,
            "Longer than a reboot or a repair; then whoever waits for the deployment should know"),
    ]
}

#[rustfmt::skip]
fn deadlines() -> Vec<PolicySetting> {
    vec![
        time("one command on a server", &var::COMMAND_TIMEOUT,
            "Long enough for a slow pull; a hung command holds the project's lease"),
        time("becoming healthy", &var::HEALTH_TIMEOUT,
            "The first start runs migrations; after this the version before is put back"),
        time("proving a release beside the one that serves", &var::PROVING_TIME,
            "What dies some seconds after its start shows it by then; users never meet it"),
        time("requests to a release that is replaced", &var::DRAIN_LIMIT,
            "Most end in a second; a download or a websocket mustn't keep the old release for ever"),
        time("one stage", &var::STAGE_TIMEOUT,
            "Its retries included; what takes longer is ended, and tried again as a transient failure"),
        time("a whole deployment", &var::DEPLOYMENT_TIMEOUT,
            "From its first start, retries and waiting included; whoever waits for it should know by then"),
        time("a request that nobody began with", &var::REQUEST_MAX_AGE,
            "Stale requests of dead projects must not come to life after an outage; an operator can replay them"),
        time("one half of a request without the other", &var::HALF_TIMEOUT,
            "Engineering may take a day from the allocation on; a half that comes later still is joined all the same"),
        fixed("putting the version before back", "bounds::DEFAULT", Deadlines::DEFAULT.restore,
            "As long as starting it may take; its failure is told and hides nothing"),
        fixed("connecting over SSH", "remote::ssh::transport::CONNECT_TIMEOUT", bounds::SSH_CONNECT,
            "A firewall that drops packets never answers"),
        fixed("looking at a server", "stages::unchanged::LOOK_TIME", bounds::SERVER_LOOK,
            "What comes before anything is done waits for nothing; who is silent for so long isn't well, or means harm"),
        fixed("ending a cancelled command", "remote::ssh::session::KILL_GRACE", bounds::KILL_GRACE,
            "Its watchdog kills it after five seconds; the connection is given up after this"),
        fixed("ending an attempt's work", "run::cancellation::SHUTDOWN_GRACE", run::SHUTDOWN_GRACE,
            "What doesn't end by then mustn't hold up its worker's drain"),
        fixed("one question to a project", "http::PROBE_TIMEOUT", bounds::PROBE_TIMEOUT,
            "Users don't wait longer either"),
        fixed("a project that answers badly", "stages::verify::WARM_UP", bounds::WARM_UP,
            "The first answers after a start may be errors"),
        fixed("connecting to GitHub", "github::api::CONNECT_TIMEOUT", bounds::GITHUB_CONNECT,
            "An attempt later is better than a stage that hangs"),
        fixed("one answer of GitHub", "github::api::REQUEST_TIMEOUT", bounds::GITHUB_REQUEST,
            "As above, once connected"),
        fixed("GitHub's secondary limit", "github::answer::SECONDARY_WAIT", bounds::GITHUB_SECONDARY_WAIT,
            "What GitHub's documentation asks for where its answer names no time"),
        fixed("GitHub's longest wait", "github::answer::MAX_WAIT", bounds::GITHUB_MAX_WAIT,
            "Its limits reset every hour; an answer that asks for more is wrong"),
        fixed("taking one message in", "intake::held::TRY_TIME", held::TRY_TIME,
            "Others wait behind it; what takes longer is held and tried beside them"),
        fixed("one call of the database", "store::connection::deadline::DEADLINE", store::DEADLINE,
            "A frozen server keeps its connections open"),
        fixed("one question to the registry", "project::registry::connection::TIMEOUT", bounds::REGISTRY_TIMEOUT,
            "An attempt later is better than a stage that hangs"),
        fixed("trying whether a port is open", "stages::firewall::CONNECT_TIMEOUT", bounds::PORT_CONNECT,
            "A firewall that drops packets never answers"),
        fixed("a release that was put back", "stages::serving::RESTORED_WARM_UP", bounds::RESTORED_WARM_UP,
            "So long it may take to answer before the result says that it doesn't"),
        fixed("connecting to the broker", "amqp::answer::CONNECT", amqp::CONNECT,
            "Login included; then the next address is tried"),
        fixed("learning why a connection broke", "publish::relay::BLAME_TIME", relay::BLAME_TIME,
            "Which message the broker blames is known once it has failed"),
        fixed("one call of the broker", "amqp::answer::TIMEOUT", amqp::TIMEOUT,
            "A blocked broker answers neither publish nor confirm"),
    ]
}

#[rustfmt::skip]
fn pushes() -> Vec<PolicySetting> {
    vec![
        time("looks at a branch", &var::PUSH_INTERVAL,
            "Webhooks tell of a push at once; this finds those that got lost, and GitHub doesn't count what is unchanged"),
        fixed("a branch that GitHub doesn't show", "scheduler::pushes::LOOK_RETRIES", scheduler::LOOK_RETRIES,
            "A missing permission or a rate limit takes a person or an hour; pushes wait meanwhile and aren't lost"),
        fixed("a push without workflow runs", "scheduler::pushes::NO_RUNS_GRACE", scheduler::NO_RUNS_GRACE,
            "GitHub makes runs some seconds after the push; after this it's taken for one that starts none"),
        fixed("one look at a branch", "pushes::looker::LOOK_TIMEOUT", looker::LOOK_TIMEOUT,
            "All its requests together; a slow GitHub mustn't keep others from being looked at"),
        fixed("lease of a look", "store::pushes::look::LOOK_LEASE", store::LOOK_LEASE,
            "So long a worker has for it before another one begins; longer than the look may take"),
        fixed("second look after a webhook", "store::pushes::look::SECOND_LOOK", store::SECOND_LOOK,
            "GitHub may tell of a push before its own answers show it"),
        fixed("answering a webhook", "pushes::webhook_server::ANSWER_TIMEOUT", webhook_server::ANSWER_TIMEOUT,
            "GitHub gives up after ten seconds"),
        fixed("a webhook's connection", "pushes::connections::CONNECTION_LIFETIME", connections::CONNECTION_LIFETIME,
            "Whoever connects and sends nothing mustn't use up the worker's open files"),
        fixed("webhooks that are recognised when sent again", "store::pushes::deliveries::DELIVERY_RETENTION",
            store::DELIVERY_RETENTION,
            "GitHub sends them again for three days"),
    ]
}

#[rustfmt::skip]
fn memory() -> Vec<PolicySetting> {
    let deliveries = QUEUES.iter().filter(|queue| queue.name == DEPLOYMENTS_QUEUE).flat_map(|queue| queue.arguments);
    let limit = deliveries.filter_map(|(name, argument)| match argument {
        Argument::Number(n) if *name == "x-delivery-limit" => u64::try_from(*n).ok(),
        _ => None,
    });
    vec![
        fixed("deliveries of a message", "protocol::topology::QUEUES", PolicyValue::Count(limit.sum(), "deliveries"),
            "A message that no worker survives becomes a dead letter in the end"),
        count("versions of a project to roll back to", &var::VERSIONS, "versions",
            "Older ones can be deployed by their commit; their images may be gone from the registry"),
    ]
}

#[rustfmt::skip]
fn retention() -> Vec<PolicySetting> {
    vec![
        count("sealed secrets", &var::KEEP_SECRETS, "days",
            "Whoever gets hold of an old sealing key can't open history; what a rollback needs stays"),
        count("journals", &var::KEEP_JOURNAL, "days",
            "They are most of a database; after a quarter nobody asks why a stage took so long"),
        count("deployments", &var::KEEP_DEPLOYMENTS, "days",
            "A year answers who deployed what and when; of projects on servers the newest of each kind stay for what comes next"),
        count("events after they were published", &var::KEEP_EVENTS, "days",
            "For `slipway deployments show` and `slipway watch`; subscribers have their own copies"),
        count("dead letters that were dealt with", &var::KEEP_DEAD_LETTERS, "days",
            "Whether the same has happened before is asked within weeks; open ones stay until somebody acts"),
        count("dead letters in RabbitMQ's queue", &var::KEEP_DEAD_LETTER_MESSAGES, "days",
            "Postgres has them; the queue is for programs that want to know of new ones"),
        count("what operators did", &var::KEEP_AUDIT, "days",
            "Who had access and what they changed is asked after years; cancellations and revoked rules belong to it"),
        count("ids of requests", &var::KEEP_IDS, "days",
            "A producer that sends an old request again must not deploy it again; an id takes a hundred bytes"),
        fixed("workers shown after they fell silent", "store::workers::WORKER_RETENTION", store::WORKER_RETENTION,
            "Then others have taken over what it ran, and its name would only alarm people; the log keeps it"),
        fixed("lease of housekeeping", "housekeeping::CHORE_LEASE", housekeeping::CHORE_LEASE,
            "One worker prunes at a time; so long after it fell silent another goes on where it was"),
        fixed("from one pruning to the next", "housekeeping::PASS_PAUSE", housekeeping::PASS_PAUSE,
            "What is kept for days isn't worth more passes"),
        fixed("a batch of pruning", "housekeeping::pace::TARGET", housekeeping::TARGET,
            "Batches become smaller until they take no longer, and rest four times as long: others don't notice"),
    ]
}
