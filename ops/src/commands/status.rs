//! `slipway status`: the state of workers, deployments, events, dead letters and queues, for people and for a monitoring
//! system. It only reads.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use slipway_worker::amqp::{self, QueueState};
use slipway_worker::store::{
    BranchCounts, ChoreProgress, FailingWrites, HeldBacklog, LonelyHalves, NotificationChannel, OutboxBacklog,
    ServerDoor, StatusCounts, WorkerSeen,
};

use crate::commands::arguments::parse_duration;
use crate::commands::front_doors::{door_hints, door_json, door_problems, print_doors};
use crate::commands::pending::lonely_json;
use crate::commands::pushes::LONG_HELD;
use crate::commands::status_circuits::{Circuits, circuit_problems, circuits_json};
use crate::commands::status_notifications::{channel_json, notification_problems, print_channels};
use crate::commands::status_parts::{
    chore_json, failing_json, failing_problems, format_age, format_depth, held_json, held_problems, print_chores,
    queue_problems,
};
use crate::commands::workers::{worker_json, worker_problems, workers_table};
use crate::connect::broker::BrokerClient;
use crate::connect::settings::ConnectionSettings;
use crate::connect::store::Database;
use crate::notify::intake::NOTIFY_QUEUE;
use crate::terminal::error::{CliError, CommandExit};
use crate::terminal::format::millis_between;
use crate::terminal::print::{Printer, Table};

/// After so many failed looks at a branch in a row, a person should know.
const FAILED_LOOKS: u32 = 3;

/// How many held messages are named.
const HELD_NAMED: u32 = 20;

/// How many halves of requests are looked at.
const HALVES_READ: u32 = 200;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// How long the oldest event or deployment may have waited before that counts as a problem, such as `90s` or `10m`
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
    max_wait: Duration,
}

struct StatusReport {
    workers: Vec<WorkerSeen>,
    counts: StatusCounts,
    circuits: Circuits,
    outbox: OutboxBacklog,
    held: HeldBacklog,
    failing: FailingWrites,
    halves: LonelyHalves,
    chores: Vec<ChoreProgress>,
    branches: BranchCounts,
    doors: Vec<ServerDoor>,
    notifications: Vec<NotificationChannel>,
    now: Timestamp,
    /// The queues, or why RabbitMQ couldn't be asked.
    queues: Result<Vec<QueueState>, CliError>,
}

pub(crate) async fn run(
    args: &StatusArgs,
    settings: &ConnectionSettings,
    printer: &Printer,
) -> Result<CommandExit, CliError> {
    let database = Database::new(settings)?;
    settings.amqp_url()?;
    let (queues, workers) = tokio::join!(read_queues(settings), database.store.workers());
    let cli_error = |e| database.cli_error(&e);
    let max_wait = args.max_wait;
    let found = StatusReport {
        workers: workers.map_err(cli_error)?,
        counts: database.store.counts().await.map_err(cli_error)?,
        circuits: database.store.circuits().await.map_err(cli_error)?,
        outbox: database.store.backlog().await.map_err(cli_error)?,
        held: database.store.held(HELD_NAMED).await.map_err(cli_error)?,
        failing: database.store.failing_writes(HELD_NAMED).await.map_err(cli_error)?,
        halves: database.store.lonely_halves(HALVES_READ).await.map_err(cli_error)?,
        chores: database.store.chores().await.map_err(cli_error)?,
        branches: database.store.branch_counts(FAILED_LOOKS, max_wait, LONG_HELD).await.map_err(cli_error)?,
        doors: database.store.front_doors().await.map_err(cli_error)?,
        notifications: database.store.notification_channels().await.map_err(cli_error)?,
        now: Timestamp::now(),
        queues,
    };
    let problems = find_problems(&found, max_wait);
    if printer.is_json() {
        printer.json(&status_json(&found, &problems));
    } else {
        print_status(&found, printer);
        problems.iter().for_each(|problem| printer.message(&format!("problem: {problem}")));
        door_hints(&found.doors, found.now).iter().for_each(|hint| printer.hint(hint));
        if found.branches.held_back > 0 {
            let held = found.branches.held_back;
            printer.hint(&format!(
                "pushes have waited for more than an hour for a workflow run that succeeds ({held}): see `slipway pushes`"
            ));
        }
        if found.counts.with_unbound_secrets > 0 {
            let unbound = found.counts.with_unbound_secrets;
            printer.hint(&format!(
                "projects still get secrets in an old form, which any project could use ({unbound}): `slipway deployments \
                 show` names them; once there are none, set SLIPWAY_UNBOUND_BOXES=false"
            ));
        }
        if found.counts.without_server > 0 {
            printer.hint(
                "no server has room for some deployments: `slipway deployments show` says what each one lacks, and \
                 `slipway servers list` what there is",
            );
        }
        if found.counts.handed_over > 0 {
            let waiting = found.counts.handed_over;
            printer.hint(&format!(
                "slugs were handed over, and not deployed since ({waiting}): see `slipway projects owners`"
            ));
        }
        if !settings.database_route().has_sessions() {
            printer.hint(
                "behind a pooler in transaction mode no notifications come, so everybody asks the database each second: \
                 set SLIPWAY_DATABASE_DIRECT_URL, here and for the workers",
            );
        }
        match &found.queues {
            Err(error) => error.hint.iter().for_each(|hint| printer.hint(hint)),
            Ok(_) if problems.is_empty() => printer.message("All is well"),
            Ok(_) => {}
        }
    }
    Ok(match &found.queues {
        Err(error) => error.exit,
        Ok(_) if problems.is_empty() => CommandExit::Success,
        Ok(_) => CommandExit::Failed,
    })
}

async fn read_queues(settings: &ConnectionSettings) -> Result<Vec<QueueState>, CliError> {
    let broker = BrokerClient::connect(settings).await?;
    let asked = async {
        let mut queues = amqp::queues(&broker.connection).await?;
        queues.extend(amqp::queue(&broker.connection, NOTIFY_QUEUE).await?);
        Ok(queues)
    };
    let queues = asked.await.map_err(|e| broker.cli_error(&e));
    broker.connection.close().await;
    queues
}

/// What somebody should look at, in words; what is merely busy isn't here.
fn find_problems(found: &StatusReport, max_wait: Duration) -> Vec<String> {
    let mut problems = worker_problems(&found.workers);
    problems.extend(circuit_problems(&found.circuits, found.now));
    if found.outbox.oldest > max_wait {
        let (depth, oldest) = (format_depth(&found.outbox), format_age(found.outbox.oldest));
        problems.push(format!("events wait to be published ({depth}), the oldest for {oldest}"));
    }
    if found.outbox.set_aside > 0 {
        let aside = found.outbox.set_aside;
        problems
            .push(format!("messages are aside, since RabbitMQ can't take them ({aside}): see `slipway outbox list`"));
    }
    problems.extend(held_problems(&found.held));
    problems.extend(failing_problems(&found.failing));
    for chore in &found.chores {
        if let Some(problem) = &chore.problem {
            problems.push(format!("what is too old isn't pruned ({}): {problem}", chore.name));
        }
    }
    if found.counts.oldest_due > max_wait {
        problems.push(format!("a deployment has been due for {}", format_age(found.counts.oldest_due)));
    } else if found.counts.oldest_pending > max_wait {
        let oldest = format_age(found.counts.oldest_pending);
        problems.push(format!(
            "a deployment was accepted {oldest} ago, and has no end: see `slipway deployments list --state pending`"
        ));
    }
    if found.counts.open_dead_letters > 0 {
        let open = found.counts.open_dead_letters;
        problems.push(format!("dead letters are open ({open}): see `slipway dead-letters groups`"));
    }
    if found.branches.unreadable > 0 {
        let unreadable = found.branches.unreadable;
        problems
            .push(format!("branches can't be looked at ({unreadable}), and their pushes wait: see `slipway pushes`"));
    }
    if found.branches.overdue > 0 {
        let overdue = found.branches.overdue;
        problems.push(format!("branches should have been looked at long ago ({overdue}): see `slipway pushes`"));
    }
    problems.extend(door_problems(&found.doors));
    problems.extend(notification_problems(&found.notifications, max_wait));
    match &found.queues {
        Err(error) => problems.push(error.message.clone()),
        Ok(queues) => problems.extend(queue_problems(queues)),
    }
    problems
}

fn print_status(found: &StatusReport, printer: &Printer) {
    let mut table = Table::new(&["WHAT", "COUNT", "OLDEST"]);
    let waits = |depth: u64, oldest: Duration| if depth == 0 { "-".to_owned() } else { format_age(oldest) };
    let counts = &found.counts;
    table.row([
        "deployments pending".to_owned(),
        counts.pending.to_string(),
        waits(counts.pending, counts.oldest_due.max(counts.oldest_pending)),
    ]);
    if counts.without_server > 0 {
        table.row(["… that wait for a server".to_owned(), counts.without_server.to_string(), "-".to_owned()]);
    }
    table.row(["deployments running".to_owned(), counts.running.to_string(), "-".to_owned()]);
    table.row([
        "events to publish".to_owned(),
        format_depth(&found.outbox),
        waits(found.outbox.depth, found.outbox.oldest),
    ]);
    let oldest = found.held.messages.first().map(|held| held.waited).unwrap_or_default();
    table.row(["messages held".to_owned(), found.held.count.to_string(), waits(found.held.count, oldest)]);
    let oldest = found.failing.writes.first().map(|failing| failing.waited).unwrap_or_default();
    if found.failing.count > 0 {
        table.row(["writes that fail".to_owned(), found.failing.count.to_string(), format_age(oldest)]);
    }
    let lonely = found.halves.halves.first().map(|half| millis_between(half.since, found.now)).unwrap_or_default();
    table.row([
        "halves without the other".to_owned(),
        found.halves.count.to_string(),
        waits(found.halves.count, Duration::from_millis(lonely)),
    ]);
    table.row(["dead letters open".to_owned(), counts.open_dead_letters.to_string(), "-".to_owned()]);
    table.row(["slugs on servers".to_owned(), counts.slugs.to_string(), "-".to_owned()]);
    for queue in found.queues.iter().flatten() {
        table.row([format!("queue {}", queue.name), queue.messages.to_string(), "-".to_owned()]);
    }
    printer.table(&table);
    print_chores(&found.chores, printer);
    print_doors(&found.doors, found.now, printer);
    print_channels(&found.notifications, printer);
    let table = workers_table(&found.workers);
    if !table.is_empty() {
        printer.line("");
        printer.table(&table);
    }
}

fn status_json(found: &StatusReport, problems: &[String]) -> Value {
    let queue = |q: &QueueState| json!({ "name": q.name, "messages": q.messages, "consumers": q.consumers });
    json!({
        "ok": problems.is_empty(),
        "problems": problems,
        "workers": found.workers.iter().map(worker_json).collect::<Vec<_>>(),
        "deployments": {
            "pending": found.counts.pending,
            "oldest_due_s": found.counts.oldest_due.as_secs_f64(),
            "oldest_pending_s": found.counts.oldest_pending.as_secs_f64(),
            "running": found.counts.running,
            "without_server": found.counts.without_server,
        },
        "circuits": circuits_json(&found.circuits),
        "outbox": {
            "depth": found.outbox.depth,
            "may_be_more": found.outbox.may_be_more(),
            "oldest_s": found.outbox.oldest.as_secs_f64(),
            "set_aside": found.outbox.set_aside,
        },
        "held": {
            "count": found.held.count,
            "messages": found.held.messages.iter().map(held_json).collect::<Vec<_>>(),
            "failing": found.failing.count,
            "writes": found.failing.writes.iter().map(failing_json).collect::<Vec<_>>(),
        },
        "halves": lonely_json(&found.halves),
        "kept": found.chores.iter().map(chore_json).collect::<Vec<_>>(),
        "pushes": {
            "watched": found.branches.watched,
            "unreadable": found.branches.unreadable,
            "overdue": found.branches.overdue,
            "held_back": found.branches.held_back,
        },
        "secrets": { "projects_with_unbound": found.counts.with_unbound_secrets },
        "dead_letters": { "open": found.counts.open_dead_letters },
        "owners": { "slugs": found.counts.slugs, "handed_over": found.counts.handed_over },
        "notifications": { "channels": found.notifications.iter().map(channel_json).collect::<Vec<_>>() },
        "front_doors": found.doors.iter().map(|door| door_json(door, found.now)).collect::<Vec<_>>(),
        // Null when RabbitMQ can't be asked.
        "queues": found.queues.as_ref().ok().map(|queues| queues.iter().map(queue).collect::<Vec<_>>()),
    })
}
