//! What is kept of projects that are nowhere: a year of history, and no secrets. What lives keeps what it needs.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_protocol::names::Slug;
use slipway_protocol::{ErrorCode, Failure, Message, Project, ProjectId, Stage, decode, read};
use slipway_worker::store::{Admission, AttemptSummary, DeploymentEnd, Lease, Store};
use uuid::Uuid;

use super::{base64, keep, walk};
use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, migrated, request};

/// A project and what is asked for it.
struct Asked<'a> {
    store: &'a Store,
    project: Project,
    pushes_deployed_by: &'static str,
}

impl<'a> Asked<'a> {
    fn new(store: &'a Store, slug: &str) -> Self {
        let project = Project { id: ProjectId(Uuid::new_v4()), slug: Slug::new(slug).unwrap() };
        Self { store, project, pushes_deployed_by: "ci_job" }
    }

    /// Asks with a sealed secret; gives the message.
    async fn deploy(&self) -> Vec<u8> {
        let sealed = json!({ "sealed": { "key_id": "k", "sealed_box": base64(&[7; 64]) } });
        let body = request(|event| {
            event["data"]["project"] = json!(self.project);
            event["data"]["repository"]["pushes_deployed_by"] = self.pushes_deployed_by.into();
            event["data"]["secrets"] = json!({ "TOKEN": sealed });
            event["data"].as_object_mut().unwrap().remove("sequence");
        });
        assert_eq!(self.accept(&body).await, Admission::New);
        body
    }

    async fn accept(&self, body: &[u8]) -> Admission {
        let incoming = incoming(body);
        self.store.accept(&decode(body, &incoming.metadata()).unwrap(), &incoming).await.unwrap()
    }

    async fn undeploy(&self) {
        let data = json!({ "project": self.project, "remove_volumes": true });
        let event: Value = json!({
            "specversion": "1.0", "type": "slipway.project.undeploy.v1", "source": "/test", "id": Uuid::new_v4(),
            "data": data,
        });
        let body = event.to_string().into_bytes();
        let incoming = incoming(&body);
        let Message::Command(request) = read(&body, &incoming.metadata()).unwrap() else { panic!("no command") };
        self.store.accept_command(&request, &incoming, 10).await.unwrap().unwrap();
    }

    async fn claim(&self) -> Lease {
        self.store.claim(Duration::from_secs(60)).await.unwrap().unwrap().lease
    }

    async fn end(&self, lease: &Lease, end: DeploymentEnd) {
        self.store.finish(lease, &end, &AttemptSummary::default()).await.unwrap();
    }

    async fn succeed(&self) {
        self.end(&self.claim().await, DeploymentEnd::Succeeded { url: None }).await;
    }

    async fn fail(&self) {
        self.fail_with(&self.claim().await).await;
    }

    async fn fail_with(&self, lease: &Lease) {
        let failure = Failure::new(ErrorCode::PullFailed, Some(Stage::Compose), "x");
        self.end(lease, DeploymentEnd::Failed { failure, missing_secret: None, reason: "exhausted" }).await;
    }

    async fn count(&self, database: &TestDatabase, what: &str) -> i64 {
        database.count(&format!("SELECT count(*) FROM {what} AND project_id = '{}'", self.project.id)).await
    }

    /// Its deployments, and those with a sealed secret.
    async fn kept(&self, database: &TestDatabase) -> (i64, i64) {
        let sealed = "deployments WHERE (request::text LIKE '%sealed_box%' OR body IS NOT NULL)";
        (self.count(database, "deployments WHERE true").await, self.count(database, sealed).await)
    }
}

async fn age(database: &TestDatabase, days: u32) {
    let age = format!(
        "UPDATE deployments SET finished_at = now() - interval '{days} days'; DELETE FROM dead_letters;
         UPDATE outbox SET published_at = now()"
    );
    database.sql.batch_execute(&age).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_is_nowhere_loses_its_secrets_in_weeks_and_all_else_in_a_year() {
    let (database, store) = migrated("w").await;
    let [failed, gone, stuck, halfway, lives, pushed] =
        ["failed", "gone", "stuck", "halfway", "lives", "pushed"].map(|slug| Asked::new(&store, slug));
    let pushed = Asked { pushes_deployed_by: "webhook", ..pushed };
    let body = failed.deploy().await;
    failed.fail().await;
    failed.undeploy().await;
    failed.succeed().await;
    stuck.deploy().await;
    stuck.fail().await;
    halfway.deploy().await;
    let lease = halfway.claim().await;
    store.stage_started(&lease, Stage::Clone, b"x").await.unwrap();
    halfway.fail_with(&lease).await;
    gone.deploy().await;
    gone.succeed().await;
    gone.undeploy().await;
    gone.succeed().await;
    lives.deploy().await;
    lives.succeed().await;
    lives.deploy().await;
    lives.fail().await;
    pushed.deploy().await;
    pushed.fail().await;

    age(&database, 10).await;
    walk(&store, &keep(), 3).await;
    for (project, all) in [(&failed, 2), (&gone, 2), (&stuck, 1), (&halfway, 1), (&lives, 2), (&pushed, 1)] {
        assert_eq!(project.kept(&database).await, (all, all), "{}", project.project.slug);
    }
    age(&database, 20).await;
    walk(&store, &keep(), 3).await;
    assert_eq!(failed.kept(&database).await, (2, 0));
    for project in [&stuck, &halfway] {
        assert_eq!(project.kept(&database).await, (1, 1), "it may be moved, with what it has brought");
    }
    assert_eq!(gone.kept(&database).await, (2, 0));
    assert_eq!(lives.kept(&database).await, (2, 2), "the version, and what images are read with");
    assert_eq!(pushed.kept(&database).await, (1, 1), "the next push is deployed with it");

    age(&database, 400).await;
    walk(&store, &keep(), 3).await;
    for project in [&failed, &gone, &stuck] {
        assert_eq!(project.kept(&database).await, (0, 0), "{}", project.project.slug);
        for table in ["project_places", "project_repositories"] {
            assert_eq!(project.count(&database, &format!("{table} WHERE true")).await, 0, "{table}");
        }
    }
    assert_eq!(halfway.kept(&database).await, (1, 1), "what it has left on its server is nobody else's");
    assert_eq!((lives.kept(&database).await, pushed.kept(&database).await), ((2, 2), (1, 1)));
    assert_eq!(lives.count(&database, "project_places WHERE succeeded IS NOT NULL").await, 1);

    assert_eq!(failed.accept(&body).await, Admission::Duplicate);
    failed.deploy().await;
    failed.succeed().await;
    assert_eq!(failed.count(&database, "project_places WHERE succeeded IS NOT NULL").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_has_kept_its_data_or_was_heard_of_lately_is_not_forgotten() {
    let (database, store) = migrated("w").await;
    let [owner, late, letter, closed] = ["owner", "late", "letter", "closed"].map(|slug| Asked::new(&store, slug));
    for project in [&owner, &late, &letter, &closed] {
        project.deploy().await;
        project.fail().await;
        project.undeploy().await;
        project.succeed().await;
    }
    let own = "INSERT INTO slug_owners (server, project_slug, project_id)
               SELECT DISTINCT server, project_slug, project_id FROM deployments WHERE project_slug = 'owner'";
    age(&database, 400).await;
    database.sql.batch_execute(own).await.unwrap();
    let open =
        "INSERT INTO dead_letters (id, deployment_id, reason, stage, code, class, message, attempts, original_exchange,
                    original_routing_key, worker, project_slug, state)
                SELECT id, id, 'permanent', 'env', 'c', 'permanent', 'm', 1, '', '', 'w', project_slug,
                    CASE project_slug WHEN 'letter' THEN 'open' ELSE 'archived' END FROM deployments
                WHERE project_slug IN ('letter', 'closed') AND action = 'deploy'";
    database.sql.batch_execute(open).await.unwrap();
    late.deploy().await;
    walk(&store, &keep(), 3).await;
    assert_eq!(owner.kept(&database).await, (2, 0));
    assert_eq!(letter.kept(&database).await, (2, 0), "a newer one keeps its dead letter from being replayed");
    assert_eq!(closed.kept(&database).await, (2, 0), "that may be open once more");
    assert_eq!(letter.count(&database, "project_places WHERE true").await, 1);
    assert_eq!(late.kept(&database).await, (3, 1), "one is under way");
    late.fail().await;
    walk(&store, &keep(), 3).await;
    assert_eq!(late.kept(&database).await, (2, 1), "the older one has a newer one of its kind");
    assert_eq!(late.count(&database, "project_places WHERE true").await, 1);
}
