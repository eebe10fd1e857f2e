//! What `slipway notify` asks for, and history for a new subscriber, on a database with a long history of both.

use std::time::Duration;

use jiff::Timestamp;
use slipway_worker::store::{
    EventHistory, HistoryPosition, NotificationGroup, NotificationIntent, RefusedNotification, Store,
};

use super::wrap::{ok, quick};
use crate::services::TestDatabase;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// As many as a year of a busy fleet leaves: told, given up, and a few hundred that wait.
const HISTORY: &str = "
    INSERT INTO notifications (event_id, channel, target, group_key, event, urgent, created_at, due_at, tries, ended_at, told)
    SELECT n::text, 'c' || n % 5, CASE n % 3 WHEN 0 THEN '-100' ELSE '' END, CASE n % 4 WHEN 0 THEN 'server s' || n % 50 END,
        NULL, false, now() - n * interval '1 minute', now() - n * interval '1 minute', 1, now() - n * interval '1 minute', n % 100 > 0
    FROM generate_series(1, 100000) n;
    INSERT INTO notifications (event_id, channel, target, group_key, event, urgent, created_at, due_at)
    SELECT 'w' || n, 'c' || n % 5, '', CASE n % 2 WHEN 0 THEN 'server s1' END, '{}', false, now(), now()
    FROM generate_series(1, 300) n;
    ANALYZE notifications";

pub async fn tell(store: &Store, database: &TestDatabase) {
    database.sql.batch_execute(HISTORY).await.unwrap();
    let names: Vec<String> = (0..5).map(|n| format!("c{n}")).collect();
    ok(store.open_notification_channels(&names).await);
    let group = NotificationGroup { key: "server s1".to_owned(), wait: DAY, every: DAY };
    let intents: Vec<NotificationIntent> = names
        .iter()
        .map(|name| NotificationIntent {
            channel: name.clone(),
            target: String::new(),
            group: Some(group.clone()),
            urgent: false,
            not_before: None,
        })
        .collect();
    ok(quick("intents", store.intend_notifications("new", b"{}", &intents)).await);
    for name in &names {
        ok(quick("the next one", store.until_next_notification(name)).await);
        let claimed = ok(quick("a claim", store.claim_notifications(name, 20)).await).expect("some are due");
        let events: Vec<String> = claimed.events.into_iter().map(|event| event.event_id).collect();
        match name.as_str() {
            "c0" | "c1" => ok(quick("told", store.mark_notified(name, &events, DAY, Duration::ZERO)).await),
            "c2" => ok(quick("paused", store.pause_notifications(name, &events, DAY, Some("x"), false)).await),
            _ => {
                let again = Some(DAY);
                let refused =
                    RefusedNotification { problem: "x".to_owned(), again, not_before: None, maybe_told: false };
                let refuse = store.mark_notification_refused(name, &events, &refused, Duration::ZERO);
                ok(quick("refused", refuse).await);
            }
        }
    }
    ok(quick("the overview", store.notification_channels()).await);
    ok(quick("giving up", store.give_up_old_notifications(DAY)).await);
    ok(store.release_notification_channels().await);
}

pub async fn replay(store: &Store) {
    let history = EventHistory { until: Timestamp::now(), project: Some("p7".parse().unwrap()), results_only: true };
    let oldest = ok(quick("the oldest event", store.oldest_published_event()).await).expect("events were published");
    let mut from = HistoryPosition::since(oldest);
    for _ in 0..3 {
        let page = ok(quick("a page of history", store.published_events(&history, from, 20)).await);
        from = page.next.expect("there is more");
    }
}
