//! Watched branches: what a look leads to, of two looks which one counts, and what webhooks and other requests change.

use std::time::Duration;

use serde_json::json;
use slipway_deploy::github::PushRuns;
use slipway_protocol::names::CommitSha;
use slipway_protocol::{DeploymentId, Message, Outcome, PushDeployer, Stage, read};
use slipway_worker::store::{
    Admission, AttemptSummary, Boundary, BranchLook, BranchSeen, DeliveryOutcome, DeploymentEnd, LookOutcome, OldRows,
    State, Store, WatchedBranch, WebhookDelivery,
};

use super::{LONG, accept};
use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};

pub(super) const INTERVAL: Duration = Duration::from_secs(300);

/// A project whose pushes are deployed, and its database.
pub(super) struct Watched {
    pub store: Store,
    pub project: serde_json::Value,
    pub database: TestDatabase,
}

pub(super) fn commit(letter: char) -> CommitSha {
    CommitSha::new(letter.to_string().repeat(40)).unwrap()
}

pub(super) fn seen(head: char, runs: Option<PushRuns>) -> BranchSeen {
    BranchSeen { head: commit(head), etag: Some(format!("\"{head}\"")), runs }
}

impl Watched {
    /// Commit `a` is deployed, and it's the branch's head at the first look.
    pub(super) async fn new() -> Self {
        let watched = Self::requested().await;
        watched.end_next(true).await;
        assert_eq!(watched.look(&seen('a', None)).await, LookOutcome::Nothing);
        watched
    }

    /// What a worker's turn tells of the next look.
    async fn until_next_look(&self) -> Option<Duration> {
        self.store.take_turn("0.1.0", Duration::from_secs(1)).await.unwrap().look_in
    }

    pub(super) async fn requested() -> Self {
        let (database, store) = TestDatabase::migrated("w").await;
        let project = json!({ "id": uuid::Uuid::new_v4(), "slug": "corner-shop" });
        let watched = Self { store, project, database };
        watched.deploy('a', "webhook").await;
        watched
    }

    pub(super) async fn deploy(&self, commit: char, by: &str) -> DeploymentId {
        let body = request(|e| {
            e["data"]["project"] = self.project.clone();
            e["data"]["repository"]["commit"] = commit.to_string().repeat(40).into();
            e["data"]["repository"]["pushes_deployed_by"] = by.into();
            e["data"]["variables"] = json!({ "GREETING": format!("of {commit}") });
            e["data"].as_object_mut().unwrap().remove("sequence");
            e.as_object_mut().unwrap().remove("time");
        });
        let (id, admission) = accept(&self.store, &body).await;
        assert_eq!(admission, Admission::New);
        id
    }

    pub(super) async fn command(&self, kind: &str, data: serde_json::Value) -> DeploymentId {
        let mut event = json!({
            "specversion": "1.0", "id": uuid::Uuid::new_v4(), "source": "/test", "data": data,
            "type": format!("slipway.project.{kind}.v1"),
        });
        event["data"]["project"] = self.project.clone();
        let incoming = incoming(event.to_string().as_bytes());
        let Message::Command(command) = read(&incoming.body, &incoming.metadata()).unwrap() else { panic!("{kind}") };
        assert_eq!(self.store.accept_command(&command, &incoming, 3).await.unwrap(), Ok(Admission::New));
        command.deployment_id()
    }

    /// Ends the deployment that is due, with success or without.
    pub(super) async fn end_next(&self, well: bool) {
        let claim = self.store.claim(LONG).await.unwrap().unwrap();
        self.store.stage_started(&claim.lease, Stage::Compose, b"x").await.unwrap();
        let end = if well { DeploymentEnd::Succeeded { url: None } } else { super::ended_failed() };
        self.store.finish(&claim.lease, &end, &AttemptSummary::default()).await.unwrap();
    }

    /// Makes the branch due and claims the look at it.
    pub(super) async fn begin(&self) -> BranchLook {
        let due = "UPDATE watched_branches SET look_at = now()";
        self.database.sql.execute(due, &[]).await.unwrap();
        self.store.next_look().await.unwrap().unwrap()
    }

    pub(super) async fn look(&self, seen: &BranchSeen) -> LookOutcome {
        let look = self.begin().await;
        self.store.finish_look(&look, seen, INTERVAL).await.unwrap()
    }

    pub(super) async fn branch(&self) -> WatchedBranch {
        self.store.watched_branches().await.unwrap().remove(0)
    }

    pub(super) async fn deployed(&self, head: char) -> DeploymentId {
        match self.look(&seen(head, Some(PushRuns::Succeeded))).await {
            LookOutcome::Deployed(id, Admission::New) => id,
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_is_deployed_once_as_the_newest_request_would_be() {
    let watched = Watched::new().await;
    let unfinished = watched.look(&seen('b', Some(PushRuns::Unfinished(1)))).await;
    assert_eq!(unfinished, LookOutcome::Waits("1 workflow runs".to_owned()));
    assert_eq!(
        (watched.branch().await.head, watched.branch().await.considered),
        (Some(commit('b')), Some(commit('a')))
    );
    let id = watched.deployed('b').await;
    let row = watched.store.deployment(id).await.unwrap().unwrap();
    assert_eq!((row.state, row.commit), (State::Pending, Some("b".repeat(40))));
    let claim = watched.store.claim(LONG).await.unwrap().unwrap();
    assert_eq!(claim.event.source, "/slipway/pushes/Acme-Org/corner-shop");
    let data = claim.event.data;
    assert_eq!(data.variables.values().collect::<Vec<_>>(), ["of a"], "as requested last");
    assert_eq!((data.repository.commit, data.repository.pushes_deployed_by), (commit('b'), PushDeployer::Webhook));
    assert!(data.correlation.is_empty() && data.sequence.is_none() && data.expires_at.is_none());
    // The same head again, and one that was there before: nothing new.
    assert_eq!(watched.look(&seen('b', Some(PushRuns::Succeeded))).await, LookOutcome::Nothing);
    // A newer push takes the place of one that is under way.
    let newer = watched.deployed('c').await;
    let boundary = watched.store.stage_started(&claim.lease, Stage::Clone, b"x").await.unwrap();
    assert_eq!(boundary, Boundary::Superseded(newer));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_looks_at_once_only_the_later_one_counts_and_a_push_is_deployed_once() {
    let watched = Watched::new().await;
    let slow = watched.begin().await;
    assert_eq!(watched.store.next_look().await.unwrap(), None, "one look at a time");
    let later = watched.begin().await;
    let old = seen('b', Some(PushRuns::Succeeded));
    let new = seen('c', Some(PushRuns::Succeeded));
    let (one, two) = tokio::join!(
        watched.store.finish_look(&slow, &old, INTERVAL),
        watched.store.finish_look(&later, &new, INTERVAL)
    );
    assert_eq!(one.unwrap(), LookOutcome::Outdated);
    assert!(matches!(two.unwrap(), LookOutcome::Deployed(..)));
    watched.store.fail_look(&slow, "too late", INTERVAL).await.unwrap();
    assert_eq!(watched.branch().await.problem, None);
    // A worker that dies between asking and writing leaves the look to the next one.
    let _dies = watched.begin().await;
    assert!(matches!(watched.look(&seen('d', Some(PushRuns::Succeeded))).await, LookOutcome::Deployed(..)));
    // The same look written twice, as after an answer that got lost.
    let look = watched.begin().await;
    let seen = seen('e', Some(PushRuns::Succeeded));
    assert!(matches!(watched.store.finish_look(&look, &seen, INTERVAL).await.unwrap(), LookOutcome::Deployed(..)));
    assert_eq!(watched.store.finish_look(&look, &seen, INTERVAL).await.unwrap(), LookOutcome::Nothing);
    let pushes = "SELECT count(*) FROM deployments WHERE source LIKE '/slipway/pushes/%'";
    assert_eq!(watched.database.count(pushes).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rollback_nothing_is_deployed_until_the_next_push() {
    let watched = Watched::new().await;
    watched.deployed('b').await;
    watched.end_next(true).await;
    // Pushed and seen, and waiting for its runs, when somebody goes back.
    watched.look(&seen('c', Some(PushRuns::Unfinished(1)))).await;
    watched.command("rollback", json!({})).await;
    assert!(matches!(watched.look(&seen('c', Some(PushRuns::Succeeded))).await, LookOutcome::Waits(_)));
    let rollback = watched.store.claim(LONG).await.unwrap().unwrap();
    assert_eq!(rollback.event.data.repository.commit, commit('a'));
    assert_eq!(rollback.event.data.repository.pushes_deployed_by, PushDeployer::Webhook);
    let end = DeploymentEnd::Succeeded { url: None };
    watched.store.finish(&rollback.lease, &end, &AttemptSummary::default()).await.unwrap();
    assert_eq!(watched.look(&seen('c', Some(PushRuns::Succeeded))).await, LookOutcome::Considered);
    assert_eq!(watched.look(&seen('c', Some(PushRuns::Succeeded))).await, LookOutcome::Nothing);
    watched.deployed('d').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_while_the_project_is_stopped_and_is_deployed_after_its_start() {
    let watched = Watched::new().await;
    watched.command("stop", json!({})).await;
    watched.end_next(true).await;
    let pushed = seen('b', Some(PushRuns::Succeeded));
    assert_eq!(watched.look(&pushed).await, LookOutcome::Waits("the project is stopped".to_owned()));
    assert_eq!(watched.store.next_look().await.unwrap(), None);
    watched.command("start", json!({})).await;
    let look = watched.store.next_look().await.unwrap().expect("due at once");
    assert!(matches!(watched.store.finish_look(&look, &pushed, INTERVAL).await.unwrap(), LookOutcome::Deployed(..)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_isnt_deployed_before_the_project_ever_worked() {
    let watched = Watched::requested().await;
    assert_eq!(watched.look(&seen('a', None)).await, LookOutcome::Nothing);
    let pushed = seen('b', Some(PushRuns::Succeeded));
    assert!(matches!(watched.look(&pushed).await, LookOutcome::Waits(_)));
    watched.end_next(false).await;
    assert!(matches!(watched.look(&pushed).await, LookOutcome::Waits(_)));
    watched.deploy('a', "webhook").await;
    watched.end_next(true).await;
    assert!(matches!(watched.look(&pushed).await, LookOutcome::Deployed(..)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_watched_follows_from_the_latest_request_and_ends_with_the_project() {
    let watched = Watched::new().await;
    watched.look(&seen('b', Some(PushRuns::Unfinished(1)))).await;
    let slow = watched.begin().await;
    watched.deploy('b', "both").await;
    let branch = watched.branch().await;
    assert_eq!((branch.deployed_by, branch.considered), (PushDeployer::Both, Some(commit('a'))), "the same branch");
    assert_eq!(watched.store.finish_look(&slow, &seen('b', None), INTERVAL).await.unwrap(), LookOutcome::Outdated);
    let asked_for = watched.look(&seen('b', Some(PushRuns::Succeeded))).await;
    assert_eq!(asked_for, LookOutcome::Considered, "it's what was asked for");
    watched.end_next(true).await;
    watched.command("undeploy", json!({})).await;
    assert!(matches!(watched.look(&seen('c', Some(PushRuns::Succeeded))).await, LookOutcome::Waits(_)));
    watched.end_next(true).await;
    assert_eq!(watched.store.watched_branches().await.unwrap(), []);
    watched.deploy('a', "webhook").await;
    assert_eq!(watched.branch().await.considered, Some(commit('a')), "what was requested");
    watched.deploy('b', "ci_job").await;
    assert_eq!(watched.store.watched_branches().await.unwrap(), []);
    assert_eq!(watched.until_next_look().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_makes_its_branch_due_and_a_second_one_changes_nothing() {
    let watched = Watched::new().await;
    let delivery = |id: &'static str, signature: &'static str, branch: &'static str| WebhookDelivery {
        id,
        signature,
        event: "push",
        action: None,
        repository: Some("acme-org/CORNER-shop"),
        branch: Some(branch),
    };
    let take = async |delivery| watched.store.take_delivery(&delivery).await.unwrap();
    assert_eq!(watched.store.next_look().await.unwrap(), None);
    assert_eq!(take(delivery("1", "s1", "other")).await, DeliveryOutcome::Marked(0));
    assert_eq!(take(delivery("2", "s2", "main")).await, DeliveryOutcome::Marked(1));
    let wait = watched.until_next_look().await.unwrap();
    assert!(wait <= Duration::from_secs(2), "{wait:?}");
    assert_eq!(take(delivery("2", "s3", "main")).await, DeliveryOutcome::Duplicate);
    assert_eq!(take(delivery("3", "s2", "main")).await, DeliveryOutcome::Duplicate, "the same content, other id");
    // One that comes during a look isn't lost with it, and doesn't begin a second one.
    let look = watched.begin().await;
    assert_eq!(take(delivery("4", "s4", "main")).await, DeliveryOutcome::Marked(1));
    assert_eq!(watched.store.next_look().await.unwrap(), None);
    watched.store.finish_look(&look, &seen('a', None), INTERVAL).await.unwrap();
    let look = watched.store.next_look().await.unwrap().unwrap();
    // GitHub may tell of a push before its own answers show it: once more, and then as usual.
    let until_next = async || watched.until_next_look().await.unwrap().as_secs();
    watched.store.finish_look(&look, &seen('a', None), INTERVAL).await.unwrap();
    assert!((10..=20).contains(&until_next().await));
    watched.look(&seen('a', None)).await;
    assert!((200..=300).contains(&until_next().await));
    let pruned = async |age| watched.store.prune_old(OldRows::Webhooks, age, 2).await.unwrap();
    assert_eq!([pruned(LONG).await, pruned(Duration::ZERO).await, pruned(Duration::ZERO).await], [0, 2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_result_of_a_failed_push_is_a_dead_letter_that_can_be_replayed() {
    let watched = Watched::new().await;
    let id = watched.deployed('b').await;
    watched.end_next(false).await;
    let row = watched.store.deployment(id).await.unwrap().unwrap();
    assert_eq!(row.state, State::Ended(Outcome::Failed));
    let letter = watched.store.dead_letter(id.0).await.unwrap().unwrap();
    let body = letter.body.unwrap();
    let Ok(Message::Ready(request)) = read(&body, &incoming(&body).metadata()) else { panic!("not a request") };
    assert_eq!(request.event.data.repository.commit, commit('b'));
    assert_eq!(watched.look(&seen('b', Some(PushRuns::Succeeded))).await, LookOutcome::Nothing, "not by itself");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_time_without_any_worker_every_branch_is_looked_at_at_once() {
    let watched = Watched::new().await;
    let other = watched.database.store("other");
    other.take_turn("0.1.0", Duration::from_secs(1)).await.unwrap();
    assert_eq!(watched.store.catch_up(LONG).await.unwrap(), 0, "somebody has watched");
    assert_eq!(other.catch_up(LONG).await.unwrap(), 1, "nobody else has");
    assert!(watched.store.next_look().await.unwrap().is_some());
}
