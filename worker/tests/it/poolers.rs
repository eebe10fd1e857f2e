//! Workers whose database is behind PgBouncer, in session and in transaction mode.

use secrecy::SecretString;
use slipway_protocol::decode;
use slipway_worker::store::{DatabasePooler, DatabaseRoute, Store};

use crate::services::test_worker::{incoming, request};
use crate::services::{PgBouncer, TestDatabase};

fn over(url: &SecretString, pooler: DatabasePooler, direct: Option<&SecretString>, name: &str) -> Store {
    Store::over(url, &DatabaseRoute { pooler, direct: direct.cloned() }, None, name).unwrap()
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
