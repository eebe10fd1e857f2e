//! A page of the outbox on its way: all its lines at once, each line in order.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::{PAGE, PAGE_BYTES, PASS, REST, Relay, RelayError};
use crate::amqp::{PublishError, Publisher};
use crate::crash::{self, Failpoint};
use crate::metrics::Metrics;
use crate::store::{OrderingKey, OutboxPage, OutboxRow, PublishOutcome, RelayLease};
use crate::telemetry;

/// Lines that the broker took no message of: when to try again, and how often it was tried.
pub(super) type RestingLines = HashMap<OrderingKey, (Instant, u32)>;

/// What became of a line's messages in a page.
#[derive(Default)]
struct SendOutcome {
    sent: Vec<PublishOutcome>,
    stopped: Option<PublishError>,
}

impl Relay {
    /// Sends page after page for [`PASS`] at most; false when there is more.
    pub(super) async fn send_pages(
        &self,
        publishers: &[Publisher],
        lease: RelayLease,
        resting: &mut RestingLines,
    ) -> Result<bool, RelayError> {
        let begun = Instant::now();
        let mut through = false;
        while !through && begun.elapsed() < PASS {
            let now = Instant::now();
            let held: Vec<OrderingKey> =
                resting.iter().filter(|(_, (until, _))| *until > now).map(|(line, _)| *line).collect();
            let OutboxPage { rows, more } = self.store.waiting_messages(&held, PAGE, PAGE_BYTES).await?;
            through = !more;
            if !rows.is_empty() {
                let span = span(&rows);
                self.send_page(publishers, lease, rows, resting).instrument(span).await?;
            }
        }
        Ok(through)
    }

    /// Sends a page, all its lines at once, and marks what the broker confirmed, also when the connection breaks in the
    /// middle.
    async fn send_page(
        &self,
        publishers: &[Publisher],
        lease: RelayLease,
        rows: Vec<OutboxRow>,
        resting: &mut RestingLines,
    ) -> Result<(), RelayError> {
        let mut lines: BTreeMap<i64, Vec<OutboxRow>> = BTreeMap::new();
        let mut first: HashMap<OrderingKey, i64> = HashMap::new();
        for row in rows {
            let position = *first.entry(row.ordering_key).or_insert(row.position);
            lines.entry(position).or_default().push(row);
        }
        let mut under_way: FuturesUnordered<_> = lines
            .values()
            .zip(publishers.iter().cycle())
            .map(|(line, publisher)| async move { (line, send_line(publisher, line).await) })
            .collect();
        let (mut sent, mut broken) = (Vec::new(), None);
        while let Some((line, went)) = under_way.next().await {
            sent.extend(&went.sent);
            match (went.stopped, line.get(went.sent.len())) {
                (Some(PublishError::Broken(error)), _) => broken = broken.or(Some(error)),
                (Some(error), Some(row)) => {
                    if !went.sent.is_empty() {
                        resting.remove(&row.ordering_key);
                    }
                    rest(resting, row, &error);
                }
                _ => {
                    line.first().map(|row| resting.remove(&row.ordering_key));
                }
            }
        }
        if !sent.is_empty() {
            self.store.mark_published(lease, &sent).await?;
        }
        broken.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Sends the messages of one line, each when the one before is confirmed, up to the first that the broker doesn't take.
async fn send_line(publisher: &Publisher, line: &[OutboxRow]) -> SendOutcome {
    let mut went = SendOutcome::default();
    for row in line {
        match send(publisher, row).await {
            Ok(()) => {
                went.sent.push(PublishOutcome { position: row.position, routed: true });
                Metrics::get().published("routed");
            }
            Err(PublishError::Returned { .. }) if !row.must_route => {
                went.sent.push(PublishOutcome { position: row.position, routed: false });
                Metrics::get().published("unrouted");
            }
            Err(error) => {
                went.stopped = Some(error);
                break;
            }
        }
    }
    went
}

async fn send(publisher: &Publisher, row: &OutboxRow) -> Result<(), PublishError> {
    let confirm = crash::around(Failpoint::Publish, publisher.send(&row.message)).await?;
    crash::around(Failpoint::Confirm, confirm.wait()).await
}

fn span(rows: &[OutboxRow]) -> tracing::Span {
    let span = tracing::info_span!(
        "send slipway outbox",
        otel.kind = "producer",
        messaging.system = "rabbitmq",
        messaging.operation.type = "send",
        messaging.operation.name = "send",
        messaging.batch.message_count = rows.len(),
    );
    let traces: HashSet<&str> =
        rows.iter().filter_map(|row| row.message.headers.get("traceparent")).map(String::as_str).collect();
    traces.into_iter().for_each(|traceparent| telemetry::link(&span, traceparent));
    span
}

fn rest(resting: &mut RestingLines, row: &OutboxRow, error: &PublishError) {
    let tried = resting.get(&row.ordering_key).map_or(0, |(_, tried)| *tried) + 1;
    let delay = REST.delay(tried).unwrap_or(REST.max);
    resting.insert(row.ordering_key, (Instant::now() + delay, tried));
    Metrics::get().published(if matches!(error, PublishError::Returned { .. }) { "returned" } else { "failed" });
    let deployment = row.deployment.map(|id| id.to_string());
    tracing::warn!(
        deployment.id = deployment,
        messaging.destination.name = row.message.exchange,
        messaging.rabbitmq.destination.routing_key = row.message.routing_key,
        retry_in_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX),
        "not published: {error}"
    );
}
