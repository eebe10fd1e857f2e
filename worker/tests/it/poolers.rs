//! Workers whose database is behind PgBouncer, in session and in transaction mode.

use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::{Change, decode};
use slipway_worker::store::{DatabasePooler, DatabaseRoute, Store};

use crate::services::test_worker::{
    ScriptedStages, TestClient, TestWorker, WorkerOptions, eventually, incoming, report, request,
};
use crate::services::{PgBouncer, TestDatabase, vhost};

/// Deployments of each world.
const DEPLOYMENTS: usize = 12;

fn stages() -> ScriptedStages {
    ScriptedStages::new(|_| async { Ok(report(Change::Changed)) })
}

fn over(url: &SecretString, pooler: DatabasePooler, direct: Option<&SecretString>, name: &str) -> Store {
    Store::over(url, &DatabaseRoute { pooler, direct: direct.cloned() }, None, name).unwrap()
}

/// Two workers bring deployments to their results, each of which comes once.
async fn deploys(database: &TestDatabase, stores: [Store; 2]) {
    let amqp = vhost();
    let mut client = TestClient::new(&amqp).await;
    let workers = stores.map(|store| TestWorker::start(store, &amqp, stages(), WorkerOptions::default()));
    for _ in 0..DEPLOYMENTS {
        client.publish(&request(|_| {})).await;
    }
    let mut ended = std::collections::BTreeSet::new();
    for _ in 0..DEPLOYMENTS {
        let result = client.result().await;
        assert_eq!(result["data"]["outcome"], "succeeded", "{result}");
        assert!(ended.insert(result["data"]["deployment_id"].to_string()), "told twice: {result}");
    }
    let attempts = "SELECT sum(attempt)::bigint FROM deployments WHERE state = 'succeeded'";
    assert_eq!(database.count(attempts).await, i64::try_from(DEPLOYMENTS).unwrap());
    for worker in workers {
        worker.stop().await;
    }
}

/// What a session would keep of ours on the connections of PgBouncer.
async fn kept_statements(url: &SecretString) -> i64 {
    let (client, connection) = tokio_postgres::connect(url.expose_secret(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.simple_query("SELECT count(*) FROM pg_prepared_statements").await.unwrap();
    let count = rows.iter().find_map(|row| match row {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    count.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_deploy_behind_a_pooler_in_session_and_in_transaction_mode() {
    // Shown when it fails.
    let logged = tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr);
    logged.with_env_filter("warn,lapin=off").init();
    let (session, transaction, polled) =
        tokio::join!(TestDatabase::new(), TestDatabase::new(), TestDatabase::migrated("w"));
    let polled = polled.0;
    let ways = [
        ("session", &session, "pool_mode=session pool_size=60"),
        ("transaction", &transaction, "pool_mode=transaction pool_size=2"),
        ("polled", &polled, "pool_mode=transaction pool_size=2"),
    ];
    let bouncer = PgBouncer::start(&ways);
    let url = |name: &str| bouncer.url(name);

    // Without the setting the mistake is named, and so is what nobody can do there.
    let refused = Store::new(&url("session"), None, "w").unwrap().clock().await.unwrap_err();
    assert!(refused.to_string().contains("set SLIPWAY_DATABASE_POOLER"), "{refused}");
    let refused = over(&url("transaction"), DatabasePooler::Transaction, None, "w").migrate().await.unwrap_err();
    assert!(refused.to_string().contains("set SLIPWAY_DATABASE_DIRECT_URL"), "{refused}");

    let of = |name: &str, pooler, direct: Option<&SecretString>| {
        ["w1", "w2"].map(|worker| over(&url(name), pooler, direct, worker))
    };
    let in_session = of("session", DatabasePooler::Session, None);
    let in_transaction = of("transaction", DatabasePooler::Transaction, Some(&transaction.url));
    let without_sessions = of("polled", DatabasePooler::Transaction, None);
    for store in in_session.iter().chain(&in_transaction).chain(&without_sessions) {
        store.migrate().await.unwrap();
    }
    let listener = in_transaction[0].listen();
    eventually("notifications come past the pooler", || async { listener.is_listening() }).await;
    tokio::join!(
        deploys(&session, in_session),
        deploys(&transaction, in_transaction),
        deploys(&polled, without_sessions)
    );
    for name in ["transaction", "polled"] {
        assert_eq!(kept_statements(&url(name)).await, 0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_timeout_of_an_administrator_gives_way_to_ours_or_is_named() {
    let (database, direct) = TestDatabase::migrated("w").await;
    let set = format!(
        "ALTER DATABASE {} SET statement_timeout = '100ms';
         CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END $$;
         CREATE TRIGGER slow BEFORE UPDATE ON operator_audit FOR EACH STATEMENT EXECUTE FUNCTION slow();
         CREATE TRIGGER slow BEFORE INSERT ON deployments FOR EACH STATEMENT EXECUTE FUNCTION slow()",
        database.name
    );
    database.sql.batch_execute(&set).await.unwrap();
    let ways = [("session", &database, "pool_mode=session"), ("transaction", &database, "pool_mode=transaction")];
    let bouncer = PgBouncer::start(&ways);
    let session = over(&bouncer.url("session"), DatabasePooler::Session, None, "w");
    let transaction = over(&bouncer.url("transaction"), DatabasePooler::Transaction, None, "w");
    for store in [&direct, &session] {
        store.record_failure(0, "it failed").await.unwrap();
    }
    // Of a transaction we say how long its statements may take, of a single statement the administrator.
    let body = request(|_| {});
    let (message, request) = (incoming(&body), decode(&body, &incoming(&body).metadata()).unwrap());
    transaction.accept(&request, &message).await.unwrap();
    let ended = transaction.record_failure(0, "it failed").await.unwrap_err();
    for said in [ended.to_string(), ended.summary()] {
        assert!(said.contains("statement_timeout") && said.contains("ALTER ROLE"), "{said}");
    }
    // It's counted as a failure of what was asked, and not as an outage that is waited out.
    assert!(ended.is_transient() && !ended.is_away(), "{ended:?}");
}
