//! Every order, duplicate and loss of two codes and two allocations of a project, as a table: what is told last is deployed
//! together, nothing is deployed twice, and nothing is forgotten.

use serde_json::{Value, json};
use slipway_worker::store::DeploymentFilter;

use super::{HalvedProject, ago, bytes, changed, joined_id, own_id};
use crate::services::test_worker::{TestClient, TestWorker, WorkerOptions, eventually, migrated};
use crate::services::{TestDatabase, vhost};

/// How a project's events tell which is newer.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    /// By numbers, while their clocks say the opposite.
    Numbers,
    /// By their times.
    Times,
}

/// The events of a project, in the order in which they happened.
const HAPPENED: [&str; 4] = ["code 1", "place 1", "code 2", "place 2"];

struct Row {
    project: HalvedProject,
    told: Told,
    twice: bool,
    /// Which events come, in which order.
    order: Vec<usize>,
    events: Vec<Value>,
}

impl Row {
    fn new(number: usize, order: Vec<usize>, told: Told, twice: bool) -> Self {
        let project = HalvedProject::new(&format!("t{number}"));
        let mut events = Vec::new();
        for (at, name) in HAPPENED.iter().enumerate() {
            let edit = |event: &mut Value| match told {
                Told::Numbers => {
                    event["data"]["sequence"] = json!(at + 1);
                    event["time"] = ago(10 + i64::try_from(at).unwrap());
                }
                Told::Times => event["time"] = ago(20 - i64::try_from(at).unwrap()),
            };
            let which = if name.ends_with('1') { 1 } else { 2 };
            events.push(match name.starts_with("code") {
                true => project.code(['0', 'a', 'b'][which], edit),
                false => project.place(8000 + u16::try_from(which).unwrap(), edit),
            });
        }
        Self { project, told, twice, order, events }
    }

    fn messages(&self) -> Vec<Vec<u8>> {
        let once: Vec<Vec<u8>> = self.order.iter().map(|at| bytes(&self.events[*at])).collect();
        match self.twice {
            false => once,
            // Each at once, and all of them late once more.
            true => once.iter().flat_map(|body| [body.clone(), body.clone()]).chain(once.clone()).collect(),
        }
    }

    /// The newest event of a kind that came.
    fn newest(&self, kind: &str) -> Option<usize> {
        self.order.iter().copied().filter(|at| HAPPENED[*at].starts_with(kind)).max()
    }

    async fn check(&self, database: &TestDatabase) {
        let about = format!(
            "{:?}, twice: {}, {:?}",
            self.told,
            self.twice,
            self.order.iter().map(|at| HAPPENED[*at]).collect::<Vec<_>>()
        );
        let id = self.project.id;
        let sql = format!(
            "SELECT id::text, state, commit_sha || (request #>> '{{data,allocations,0,host_port}}') AS what FROM deployments
             WHERE project_id = '{id}' AND request IS NOT NULL
             ORDER BY coalesce(producer_sequence, -1), event_time, arrival"
        );
        let made: Vec<(String, String, String)> = database
            .sql
            .query(&sql, &[])
            .await
            .unwrap()
            .iter()
            .map(|row| (row.get("id"), row.get("state"), row.get("what")))
            .collect();
        let mut distinct: Vec<&String> = made.iter().map(|(_, _, what)| what).collect();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), made.len(), "deployed twice: {about}: {made:?}");
        let waiting =
            format!("SELECT count(*) FROM project_halves WHERE project_id = '{id}' AND waits_until IS NOT NULL");
        let waiting = database.count(&waiting).await;
        match (self.newest("code"), self.newest("place")) {
            (Some(code), Some(place)) => {
                let last = made.last().unwrap_or_else(|| panic!("lost: {about}"));
                let expected = joined_id(&self.events[code], &self.events[place]).to_string();
                assert_eq!((last.0.as_str(), last.1.as_str()), (expected.as_str(), "succeeded"), "{about}: {made:?}");
                assert!(made.iter().all(|(_, state, _)| state == "succeeded" || state == "superseded"), "{about}");
                assert_eq!(waiting, 0, "{about}");
            }
            _ => assert_eq!((made.len(), waiting), (0, 1), "{about}: {made:?}"),
        }
        // What came is kept, was told to have ended, or is known to have been here.
        for at in &self.order {
            let own = own_id(&self.events[*at]);
            let known = format!(
                "SELECT (SELECT count(*) FROM project_halves WHERE id = '{own}')
                    + (SELECT count(*) FROM deployments WHERE id = '{own}' AND state = 'superseded' AND request IS NULL)
                    + (SELECT count(*) FROM ended_requests WHERE id = '{own}')"
            );
            assert!(database.count(&known).await >= 1, "{} is forgotten: {about}", HAPPENED[*at]);
        }
    }
}

/// Every way in which some of them come.
fn orders() -> Vec<Vec<usize>> {
    let mut orders = vec![Vec::new()];
    let mut all = Vec::new();
    while let Some(order) = orders.pop() {
        for next in (0..HAPPENED.len()).filter(|next| !order.contains(next)) {
            let longer: Vec<usize> = order.iter().copied().chain([next]).collect();
            orders.push(longer.clone());
            all.push(longer);
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_comes_when_and_how_often_the_last_of_both_is_deployed_once() {
    let ((database, store), amqp) = (migrated("w").await, vhost());
    let outside = TestClient::new(&amqp).await;
    let options = WorkerOptions { concurrency: 16, prefetch: 128, ..WorkerOptions::default() };
    let worker = TestWorker::start(store.clone(), &amqp, changed(), options);
    let mut rows = Vec::new();
    for order in orders() {
        for (told, twice) in [(Told::Numbers, false), (Told::Numbers, true), (Told::Times, false), (Told::Times, true)]
        {
            rows.push(Row::new(rows.len(), order.clone(), told, twice));
        }
    }
    assert_eq!(rows.len(), 64 * 4);
    // One after the other of each project, and all projects at once.
    let mut queues: Vec<_> = rows.iter().map(|row| row.messages().into_iter()).collect();
    loop {
        let next: Vec<Vec<u8>> = queues.iter_mut().filter_map(Iterator::next).collect();
        if next.is_empty() {
            break;
        }
        for body in next {
            outside.publish(&body).await;
        }
    }
    // Halves are taken in one after the other.
    let last = HalvedProject::new("last");
    let (code, place) = (last.code('c', |_| {}), last.place(8000, |_| {}));
    outside.publish(&bytes(&code)).await;
    outside.publish(&bytes(&place)).await;
    let id = joined_id(&code, &place);
    eventually("everything is taken in", || async { store.deployment(id).await.unwrap().is_some() }).await;
    eventually("everything has ended", || async {
        database.count("SELECT count(*) FROM deployments WHERE state IN ('pending', 'running')").await == 0
    })
    .await;
    for row in &rows {
        row.check(&database).await;
    }
    let results = "SELECT count(*) FROM (
                       SELECT d.id FROM deployments d LEFT JOIN outbox o ON o.deployment_id = d.id AND o.type LIKE '%result%'
                       GROUP BY d.id HAVING count(o.position) <> 1) wrong";
    assert_eq!(database.count(results).await, 0, "a deployment has none or several results");
    assert!(!store.deployments(&DeploymentFilter::default(), 1).await.unwrap().is_empty());
    worker.stop().await;
}
