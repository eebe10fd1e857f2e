//! What the store asks of a database with a long history, a million deployments in the soak: every statement that touches a
//! table which grows with history is run there, reads few pages, and none of such a table from its beginning to its end. A
//! statement of the store that isn't run here fails the test as well.

#![expect(clippy::print_stdout, reason = "tells the soak's figures")]

mod chores;
mod failing;
mod halves;
mod moves;
mod notifications;
mod operators;
mod own_plans;
mod placements;
mod plans;
mod requests;
mod sources;
mod tables;
mod visits;
mod wrap;

use std::time::Instant;

use crate::services::{Postgres, TestDatabase};
use plans::{Plan, plans};

/// As many pages of 8 kB a statement may read, however long the history is.
const PAGES: u64 = 250;

/// Statements that may read more, by what they contain, with the number of pages and the reason.
const EXCEPTIONS: &[(&str, u64, &str)] = &[
    (
        "FROM operator_audit",
        20_000,
        "an operator's search for a part of a name reads the record, which has what operators did",
    ),
    (
        "FROM slug_owners), (SELECT count(*) FROM slug_owners",
        2_000,
        "slugs that are somebody's now, and letters that wait",
    ),
    ("SELECT code, class, stage, CASE WHEN", 2_000, "counts what matches: an operator asks how many there are"),
    ("UPDATE outbox SET published_at", 3_000, "marks a hundred messages at once"),
    (
        "DELETE FROM project_halves WHERE id = ANY",
        10_000,
        "looks over the halves that haven't changed for so long: two of each project that lives",
    ),
    ("WITH waiting AS", 1_000, "reads a hundred messages at once"),
    ("WITH untold AS", 2_000, "counts what waits to be told, and what was given up in a day"),
    ("WITH first AS ( SELECT event_id, target", 600, "claims twenty events of one message at once"),
    (
        "WITH done AS ( UPDATE notifications",
        800,
        "marks twenty events of one message, and puts off the others of its group",
    ),
    ("WITH refused AS ( UPDATE notifications", 600, "puts off twenty events of one message"),
    ("WITH put_back AS ( UPDATE notifications", 600, "gives twenty events of one message back"),
    ("WITH old AS (SELECT id", 500, "five deployments with all that is theirs"),
    ("WITH open AS MATERIALIZED", 300, "a page of each state on each of the project's servers"),
    (
        "WITH page AS MATERIALIZED ( SELECT l.id",
        2_500,
        "a hundred letters, each with the newest request of its project",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_of_the_store_reads_more_since_there_is_a_history() {
    run_on(100_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: ./tests/soak"]
async fn soak_no_statement_of_the_store_reads_more_after_a_million_deployments() {
    run_on(1_000_000).await;
}

async fn run_on(history: u64) {
    let mut log = None;
    let postgres = Postgres::start(|folder| {
        log = Some(folder.join("log"));
        let log_directory = format!("log_directory={}", folder.join("log").display());
        [
            "shared_preload_libraries=auto_explain",
            "auto_explain.log_analyze=on",
            "auto_explain.log_buffers=on",
            "auto_explain.log_format=json",
            "auto_explain.log_nested_statements=on",
            "logging_collector=on",
            "log_destination=jsonlog",
            "log_rotation_size=0",
            "shared_buffers=1GB",
            "max_wal_size=16GB",
            "autovacuum=off",
            &log_directory,
        ]
        .map(str::to_owned)
        .into()
    });
    let (database, _) = TestDatabase::at(postgres.port()).await.with_schema("maker").await;
    let begun = Instant::now();
    database.write_history(history).await;
    println!("a history of {} deployments was written in {:.1?}", history, begun.elapsed());
    for setting in ["auto_explain.log_min_duration", "log_min_duration_statement"] {
        let logged = format!("ALTER DATABASE {} SET {setting} = 0", database.name);
        database.sql.batch_execute(&logged).await.unwrap();
    }
    let store = database.store(plans::VISITOR);
    // Each of its calls is a large future.
    Box::pin(visits::everything(&database, &store)).await;
    drop(store);
    let log = log.unwrap();
    let plans = plans(&log);
    assert!(plans.len() > 100, "{} plans are no record of what was run", plans.len());
    let largest = plans::largest(&plans);
    let mut wrong: Vec<String> = largest.iter().filter_map(|plan| judge(plan)).collect();
    wrong.extend(sources::unvisited(&plans));
    wrong.extend(compare(&plans));
    let begun = Instant::now();
    let excused = |scan: &String| EXCEPTIONS.iter().any(|(part, bound, _)| *bound >= 10_000 && scan.contains(part));
    wrong.extend(own_plans::scans(&database, &log).await.into_iter().filter(|scan| !excused(scan)));
    println!("planned once more in {:.1?}", begun.elapsed());
    let useless = EXCEPTIONS.iter().filter(|(part, ..)| !plans.iter().any(|plan| plan.statement.contains(part)));
    wrong.extend(useless.map(|(part, ..)| format!("no statement needs this exception: {part}")));
    for plan in largest {
        println!("{:>7} pages {:>9} ms  {:.160}", plan.pages, plan.milliseconds, plan.statement);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What is wrong with a life (deployed, stopped, started, rolled back, taken off) of a project with ten thousand requests or
/// more, beside one without any.
fn compare(plans: &[Plan]) -> Option<String> {
    let of = |who: &str| {
        let own = || plans.iter().filter(|plan| plan.by == who);
        (own().count(), own().map(|plan| plan.pages).sum::<u64>())
    };
    let ((statements, pages), (few, first)) = (of(plans::VETERAN), of(plans::NEWCOMER));
    println!("a life takes {statements} statements and {pages} pages, without a history {few} and {first}");
    let is_flat = few > 50 && statements <= few + few / 10 && pages <= first * 2;
    (!is_flat).then(|| format!("with a history {statements} statements and {pages} pages; without {few} and {first}"))
}

/// What is wrong with a plan.
fn judge(plan: &Plan) -> Option<String> {
    let (bound, _) = EXCEPTIONS
        .iter()
        .find(|(part, ..)| plan.statement.contains(part))
        .map_or((PAGES, ""), |(_, bound, why)| (*bound, *why));
    let scanned = if bound < 10_000 { plan.scanned.as_deref() } else { None };
    let reason = match scanned {
        Some(table) => format!("reads all of {table}"),
        None if plan.pages > bound => format!("reads {} pages, more than {bound}", plan.pages),
        None => return None,
    };
    Some(format!("{reason} ({} ms): {}\n{}", plan.milliseconds, plan.statement, plan.shape))
}
