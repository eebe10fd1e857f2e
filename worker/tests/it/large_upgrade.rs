//! A large database of a version before is taken over while workers of that version go on: nobody waits long for a lock,
//! nothing runs into a limit, and all is there afterwards.

#![expect(clippy::print_stdout, reason = "tells the soak's figures")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use refinery::Target;
use slipway_worker::store::{DeploymentFilter, Store};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// Deployments of 450 each to a project, and a tenth of all to one, with a journal and events; in the tables as the first
/// version made them.
const HISTORY: &str = "
    SET synchronous_commit = off;
    SET session_replication_role = replica;
    INSERT INTO deployments (id, source, event_id, project_id, project_slug, repository, commit_sha, server, request,
        producer_sequence, state, attempt, fence, owner, next_sequence, accepted_at, started_at, finished_at)
    SELECT md5('d' || i)::uuid, '/old', i::text, md5('p' || p)::uuid, 'p' || p, 'acme/p' || p,
        repeat('a', 40), 's' || p % 50, '{}', CASE WHEN i % 2 = 0 THEN i END,
        CASE i % 10 WHEN 0 THEN 'failed' WHEN 1 THEN 'superseded' ELSE 'succeeded' END, 1, i, 'old', 3,
        now() - interval '1 day', now() - interval '1 day', now() - interval '1 day'
    FROM generate_series(1, $ROWS) i, LATERAL (SELECT CASE WHEN i % 20 IN (2, 3) THEN 0 ELSE 1 + i / 500 END AS p) of;
    INSERT INTO stage_journal (deployment_id, fence, attempt, stage, input_hash, outcome)
    SELECT id, fence, 1, 'clone', '', 'done' FROM deployments;
    INSERT INTO outbox (deployment_id, sequence, message_id, type, exchange, routing_key, body, must_route, published_at)
    SELECT id, 1, '', 't', 'e', 'k', '', false, now() FROM deployments;
    INSERT INTO project_leases (project_slug, server, owner, fence, expires_at)
    SELECT DISTINCT project_slug, server, 'old', 1000000000, now() FROM deployments;
    SET session_replication_role = origin;
    ANALYZE";

/// What a worker of the version before writes, again and again, and what it would fail at: a wait for a lock of more than a
/// second. Gives how often it wrote, and the longest that this took.
async fn write_meanwhile(url: String, stop: Arc<AtomicBool>) -> Result<(u32, Duration), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await?;
    tokio::spawn(connection);
    client.batch_execute("SET lock_timeout = '1s'").await?;
    let (mut written, mut longest) = (0, Duration::ZERO);
    while !stop.load(Ordering::Relaxed) {
        written += 1;
        let begun = Instant::now();
        let id = Uuid::new_v4();
        let (project, slug) = (Uuid::new_v4(), format!("w{written}"));
        let insert =
            "INSERT INTO deployments (id, source, event_id, project_id, project_slug, repository, commit_sha, server,
                          request, state) VALUES ($1, '/meanwhile', $2, $3, $2, 'acme/w', '', 's1', '{}', 'pending')";
        client.execute(insert, &[&id, &slug, &project]).await?;
        let event =
            "INSERT INTO outbox (deployment_id, sequence, message_id, type, exchange, routing_key, body, must_route)
                     VALUES ($1, 1, '', 't', 'e', 'k', '', false)";
        client.execute(event, &[&id]).await?;
        let begin =
            "UPDATE deployments SET state = 'running', fence = 1, owner = 'old', started_at = now() WHERE id = $1";
        client.execute(begin, &[&id]).await?;
        let journal =
            "INSERT INTO stage_journal (deployment_id, fence, attempt, stage, input_hash) VALUES ($1, 1, 1, 'env', '')";
        client.execute(journal, &[&id]).await?;
        let lease = "INSERT INTO project_leases (project_slug, server, owner, fence, expires_at)
                     VALUES ($1, 's1', 'old', 1, now() + interval '1 minute')";
        client.execute(lease, &[&slug]).await?;
        client.execute("UPDATE project_leases SET expires_at = now() WHERE project_slug = $1", &[&slug]).await?;
        client.execute("UPDATE outbox SET published_at = now() WHERE deployment_id = $1", &[&id]).await?;
        let end = "UPDATE deployments SET state = 'succeeded', finished_at = now() WHERE id = $1";
        client.execute(end, &[&id]).await?;
        longest = longest.max(begun.elapsed());
    }
    Ok((written, longest))
}

async fn migrate_to(database: &TestDatabase, version: i32) {
    use secrecy::ExposeSecret as _;
    let (mut client, connection) = tokio_postgres::connect(database.url.expose_secret(), NoTls).await.unwrap();
    tokio::spawn(connection);
    embedded::migrations::runner().set_target(Target::Version(version)).run_async(&mut client).await.unwrap();
}

async fn schema(sql: &Client) -> Vec<String> {
    let query = "SELECT table_name || '.' || column_name || ' ' || data_type || ' ' || is_nullable || coalesce(column_default, '')
                 FROM information_schema.columns WHERE table_schema = 'public'
                 UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
                 UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal
                 UNION ALL SELECT version || name || checksum FROM refinery_schema_history ORDER BY 1";
    sql.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
}

async fn take_over(from: i32, rows: u32) {
    use secrecy::ExposeSecret as _;
    let database = TestDatabase::new().await;
    migrate_to(&database, from).await;
    let begun = Instant::now();
    database.sql.batch_execute(&HISTORY.replace("$ROWS", &rows.to_string())).await.unwrap();
    println!("{rows} deployments of version {from} were written in {:.1?}", begun.elapsed());
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write_meanwhile(database.url.expose_secret().to_owned(), stop.clone()));
    let stores: Vec<Store> = ["one", "two"].map(|name| database.store(name)).into();
    let begun = Instant::now();
    let (one, two) = tokio::join!(stores[0].migrate(), stores[1].migrate());
    one.unwrap();
    two.unwrap();
    let migrated = begun.elapsed();
    stores[0].make_indexes().await.unwrap();
    let whole = begun.elapsed();
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.store(true, Ordering::Relaxed);
    let (written, longest) = writer.await.unwrap().unwrap();
    println!(
        "migrated in {migrated:.1?}, with indexes {whole:.1?}; {written} deployments meanwhile, {longest:.1?} the slowest"
    );
    assert!(written > 2, "{written}");

    let (fresh, _store) = TestDatabase::migrated("fresh").await;
    assert_eq!(schema(&database.sql).await, schema(&fresh.sql).await);
    let all = i64::from(rows) + i64::from(written);
    assert_eq!(database.count("SELECT count(*) FROM deployments").await, all);
    assert_eq!(database.count("SELECT count(*) FROM stage_journal").await, all);
    // Half of them came with a number; the others have the one before since V10, but for the first of a project.
    let numbered = "SELECT count(*) FROM deployments WHERE source = '/old' AND producer_sequence IS NULL";
    let without = database.count(numbered).await;
    assert!(if from < 10 { without <= i64::from(rows) / 500 + 1 } else { without == i64::from(rows) / 2 }, "{without}");
    if from < 14 {
        assert!(database.count("SELECT count(*) FROM slug_owners").await >= i64::from(rows) / 500);
    }
    let store = &stores[0];
    let body = request(|_| {});
    let new = slipway_protocol::decode(&body, &incoming(&body).metadata()).unwrap();
    store.accept(&new, &incoming(&body)).await.unwrap();
    assert_eq!(store.deployments(&DeploymentFilter::default(), 5).await.unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_database_of_the_first_version_is_taken_over_while_others_write() {
    take_over(1, 60_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_database_of_the_version_before_is_taken_over_while_others_write() {
    take_over(15, 60_000).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: ./tests/soak"]
async fn soak_a_million_deployments_of_each_version_before_are_taken_over() {
    take_over(1, 1_000_000).await;
    take_over(15, 1_000_000).await;
}
