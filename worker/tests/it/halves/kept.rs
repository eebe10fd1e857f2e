//! How long halves are kept: as long as their project is anywhere, and their ids as long as any request's.

use slipway_worker::store::{OldRows, Retention};

use super::{HalvedProject, bytes, changed, own_id};
use crate::services::test_worker::{TestClient, TestWorker, WorkerOptions, eventually, migrated};
use crate::services::vhost;

#[tokio::test(flavor = "multi_thread")]
async fn halves_go_with_their_project_and_are_known_after_that() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let mut outside = TestClient::new(&amqp).await;
    let worker = TestWorker::start(store.clone(), &amqp, changed(), WorkerOptions::default());
    let [lives, gone, waits] = ["lives", "gone", "waits"].map(HalvedProject::new);
    for project in [&lives, &gone] {
        outside.publish(&bytes(&project.code('a', |_| {}))).await;
        outside.publish(&bytes(&project.place(8001, |_| {}))).await;
        assert_eq!(outside.result().await["data"]["outcome"], "succeeded");
    }
    let lonely = waits.code('a', |_| {});
    outside.publish(&bytes(&lonely)).await;
    let count =
        async |condition: &str| database.count(&format!("SELECT count(*) FROM project_halves WHERE {condition}")).await;
    eventually("it waits", || async { count("project_slug = 'waits'").await == 1 }).await;
    let old = "UPDATE project_halves SET received_at = now() - interval '400 days';
               DELETE FROM slug_owners WHERE project_slug = 'gone'";
    database.sql.batch_execute(old).await.unwrap();
    let year = Retention::days(365);
    assert_eq!(store.prune_old(OldRows::Halves, year, 1).await.unwrap(), 1, "one batch");
    assert_eq!(store.prune_old(OldRows::Halves, year, 10).await.unwrap(), 1);
    assert_eq!(count("true").await, 3, "of the project that lives both, and the one that waits");
    let given_up = "UPDATE project_halves SET waits_until = NULL, missed_at = now() WHERE project_slug = 'waits'";
    database.sql.batch_execute(given_up).await.unwrap();
    assert_eq!(store.prune_old(OldRows::Halves, year, 10).await.unwrap(), 1);
    assert_eq!(store.prune_old(OldRows::Halves, year, 10).await.unwrap(), 0);

    // Long afterwards it comes once more.
    outside.publish(&bytes(&lonely)).await;
    outside.publish(&bytes(&lives.code('b', |_| {}))).await;
    assert_eq!(outside.result().await["data"]["commit"], "b".repeat(40), "with the allocation that is known");
    assert_eq!(count("project_slug = 'waits'").await, 0);
    let known = format!("SELECT count(*) FROM ended_requests WHERE id = '{}'", own_id(&lonely));
    assert_eq!(database.count(&known).await, 1);
    worker.stop().await;
}
