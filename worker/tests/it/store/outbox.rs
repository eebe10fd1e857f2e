//! What is to be told: in order, without gaps, in pages, and not kept for ever.

use std::time::Duration;

use slipway_protocol::{ProgressKind, Stage};
use slipway_worker::store::{
    AttemptSummary, DeploymentEnd, OldRows, OrderingKey, OutboxPage, PublishOutcome, RelayLease, Store, StoreError,
};

use super::{LONG, claimed, ended_failed, failure, held_back, somebody_waits};
use crate::services::TestDatabase;
use crate::services::test_worker::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn sequences_have_no_gaps_and_ids_are_derived_even_when_many_write_at_once() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let claim = claimed(&store).await;
    let id = claim.lease.deployment;
    let tellers = (0..10).map(|i| {
        let (store, lease) = (store.clone(), claim.lease.clone());
        tokio::spawn(async move {
            let lines = vec![format!("line {i}")];
            store.record_progress(&lease, &[ProgressKind::Log { stage: Stage::Clone, lines }]).await.unwrap();
        })
    });
    for teller in tellers.collect::<Vec<_>>() {
        teller.await.unwrap();
    }
    store.retry(&claim.lease, failure(), Duration::ZERO).await.unwrap();
    let claim = store.claim(LONG).await.unwrap().unwrap();
    store.finish(&claim.lease, &ended_failed(), &AttemptSummary::default()).await.unwrap();
    let events = store.events(id, 0).await.unwrap();
    let sequences: Vec<u64> = events.iter().map(|e| e.sequence).collect();
    assert_eq!(sequences, (1..=events.len() as u64).collect::<Vec<_>>());
    // accepted, started, ten lines, scheduled, started, result
    assert_eq!(events.len(), 15);
    for event in &events {
        assert_eq!(event.event["sequence"], format!("{:010}", event.sequence));
        assert_eq!(event.event["id"], id.event_id(event.sequence).to_string());
    }
    assert_eq!(events.last().unwrap().event_type, "slipway.deployment.result.v1");
}

/// Dead letters with bodies of these sizes.
async fn put_letters(database: &TestDatabase, sizes: &[i32]) {
    let sql = "INSERT INTO outbox (message_id, type, exchange, routing_key, body, must_route)
               SELECT i::text, '', '', '', convert_to(repeat('x', size), 'UTF8'), true
               FROM unnest($1::int[]) WITH ORDINALITY AS l(size, i) ORDER BY i";
    database.sql.execute(sql, &[&sizes]).await.unwrap();
}

async fn take(store: &Store, held: Option<RelayLease>, span: Duration) -> Option<RelayLease> {
    store.take_or_renew_relay_lease(held, span).await.unwrap().lease
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relays_lease_has_one_holder_and_a_stale_one_marks_nothing() {
    let (_database, first) = TestDatabase::migrated("a").await;
    let second = first.clone();
    let old = take(&first, None, Duration::from_millis(50)).await.unwrap();
    eventually("the second takes over", || async { take(&second, None, LONG).await.is_some() }).await;
    assert_eq!(take(&first, Some(old), LONG).await, None);
    let marked = first.mark_published(old, &[]).await;
    assert!(matches!(marked, Err(StoreError::LeaseLost)), "{marked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_and_nobody_else_marks_what_was_sent_and_reads_what_waits_at_once() {
    let (database, store) = TestDatabase::migrated("w").await;
    let running = claimed(&store).await.lease;
    put_letters(&database, &[1, 1]).await;
    let waiting = store.waiting_messages(&[], &[], 10, u32::MAX).await.unwrap().rows;
    let (event, letter, last) = (waiting[0].position, waiting[2].position, waiting[3].position);
    assert_eq!(waiting[0].ordering_key, OrderingKey::Events(running.deployment));
    let known: Vec<i64> = waiting[..3].iter().map(|row| row.position).collect();
    let old = take(&store, None, Duration::from_millis(1)).await.unwrap();
    let mut next = None;
    while next.is_none() {
        next = take(&store, None, LONG).await;
    }
    let sent = [(event, true), (letter, true)].map(|(position, routed)| PublishOutcome { position, routed });
    let stale = store.mark_and_read(old, &sent, &[], &known, 10, u32::MAX).await;
    assert!(matches!(stale, Err(StoreError::LeaseLost)), "{stale:?}");
    assert_eq!(store.waiting_messages(&[], &[], 10, u32::MAX).await.unwrap().rows, waiting, "nothing is marked");
    let lease = next.unwrap();
    let page = store.mark_and_read(lease, &sent, &[], &known, 10, u32::MAX).await.unwrap();
    assert_eq!(page, OutboxPage { rows: waiting[3..].to_vec(), more: false });
    let left: Vec<i64> =
        store.waiting_messages(&[], &[], 10, u32::MAX).await.unwrap().rows.iter().map(|row| row.position).collect();
    assert_eq!(left, [known[1], last], "the others are marked");
    let sent = left.iter().map(|&position| PublishOutcome { position, routed: false }).collect::<Vec<_>>();
    let page = store.mark_and_read(lease, &sent, &[], &left, 10, u32::MAX).await.unwrap();
    assert_eq!(page, OutboxPage::default());
    assert_eq!(store.backlog().await.unwrap().depth, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_that_comes_late_does_not_keep_the_relays_lease_that_was_given_back() {
    let (database, store) = TestDatabase::migrated("w").await;
    let lease = take(&store, None, LONG).await.unwrap();
    let gate = held_back(&database, "relay_lease", "WITH before%").await;
    let late = tokio::spawn({
        let store = store.clone();
        async move { take(&store, Some(lease), LONG).await }
    });
    somebody_waits(&database).await;
    store.release_relay_lease(lease).await.unwrap();
    drop(gate);
    assert_eq!(late.await.unwrap(), None);
    assert!(take(&store, None, LONG).await.is_some(), "nobody needs to wait for its end");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_outbox_is_bounded_in_bytes_and_says_whether_more_waits() {
    let (database, store) = TestDatabase::migrated("w").await;
    put_letters(&database, &[10, 700, 600, 9000, 1]).await;
    let mut held = Vec::new();
    for (sizes, more) in [(&[10, 700, 600][..], true), (&[9000], true), (&[1], false), (&[], false)] {
        let page = store.waiting_messages(&held, &[], 10, 1000).await.unwrap();
        assert_eq!(page.rows.iter().map(|row| row.message.body.len()).collect::<Vec<_>>(), sizes);
        assert_eq!(page.more, more);
        held.extend(page.rows.iter().map(|row| row.ordering_key));
    }
    let page = store.waiting_messages(&[], &[], 2, 1000).await.unwrap();
    assert_eq!((page.rows.len(), page.more), (2, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_events_are_removed_in_batches_and_wait_for_nobody() {
    const MANY: u64 = 100_000;
    let (database, store) = TestDatabase::migrated("w").await;
    let ended = claimed(&store).await.lease;
    store.finish(&ended, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default()).await.unwrap();
    let running = claimed(&store).await.lease;
    let old = "INSERT INTO outbox (deployment_id, sequence, message_id, type, exchange, routing_key, body, must_route,
                   published_at)
               SELECT $1, s, s::text, 't', 'e', 'k', 'body', false, now() - interval '40 days'
               FROM generate_series(1000, 999 + $2::bigint) s";
    database.sql.execute(old, &[&ended.deployment.0, &i64::try_from(MANY).unwrap()]).await.unwrap();
    database.sql.execute(old, &[&running.deployment.0, &7_i64]).await.unwrap();
    database
        .sql
        .batch_execute("UPDATE outbox SET published_at = now() WHERE sequence < 1000; ANALYZE outbox")
        .await
        .unwrap();
    let mut other = database.another().await;
    let lock = other.transaction().await.unwrap();
    lock.execute("SELECT 1 FROM outbox WHERE sequence < 1003 AND sequence >= 1000 FOR UPDATE", &[]).await.unwrap();

    let month = Duration::from_secs(30 * 24 * 3600);
    let (mut removed, mut longest) = (0, Duration::ZERO);
    loop {
        let begun = std::time::Instant::now();
        let batch = store.prune_old(OldRows::Events, month, 5_000).await.unwrap();
        longest = longest.max(begun.elapsed());
        assert!(batch <= 5_000);
        removed += batch;
        if batch == 0 {
            break;
        }
    }
    // Three are locked; a locked row is somebody's work, and a running deployment's events are still read.
    assert_eq!(removed, MANY - 3);
    lock.rollback().await.unwrap();
    assert_eq!(store.prune_old(OldRows::Events, month, 5_000).await.unwrap(), 3);
    assert_eq!(database.count("SELECT count(*) FROM outbox WHERE published_at < now() - interval '30 days'").await, 7);
    assert!(longest < Duration::from_secs(5), "one batch took {longest:?}");
    assert!(store.backlog().await.unwrap().depth == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_counted_up_to_a_number_that_says_enough() {
    let (database, store) = TestDatabase::migrated("w").await;
    let waits = "INSERT INTO outbox (message_id, type, exchange, routing_key, body, must_route, created_at, set_aside_at)
                 SELECT i::text, '', '', '', '', true, now() - (200000 - i) * interval '1 second', CASE WHEN i < 4 THEN now() END
                 FROM generate_series(1, 3 + $1::bigint) i";
    database.sql.execute(waits, &[&100_i64]).await.unwrap();
    let few = store.backlog().await.unwrap();
    assert_eq!((few.depth, few.set_aside, few.may_be_more()), (100, 3, false));
    database.sql.execute(waits, &[&100_050_i64]).await.unwrap();
    let many = store.backlog().await.unwrap();
    assert_eq!((many.depth, many.set_aside, many.may_be_more()), (100_000, 6, true));
    assert!(many.oldest >= Duration::from_secs(199_000), "{:?}", many.oldest);
}
