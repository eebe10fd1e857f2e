//! What GitHub is to be told, on a real PostgreSQL: who tells it, when, and that nobody tells it twice.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::services::TestDatabase;
use crate::services::test_worker::{incoming, request};
use serde_json::json;
use slipway_protocol::{Change, ErrorCode, Failure, Message, Outcome, Stage, StageSummary, decode, read};
use slipway_worker::store::{AttemptSummary, Claim, DeploymentEnd, StageEnd, State, Store, StoreError};

const LONG: Duration = Duration::from_secs(60);

async fn claimed(store: &Store, edit: impl FnOnce(&mut serde_json::Value)) -> Claim {
    let body = request(edit);
    let incoming = incoming(&body);
    store.accept(&decode(&body, &incoming.metadata()).unwrap(), &incoming).await.unwrap();
    store.claim(LONG).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_announced_by_one_worker_when_it_begins_and_when_it_ends() {
    let (database, store) = TestDatabase::migrated("w").await;
    assert_eq!(store.next_announcement().await.unwrap(), None);
    let claim = claimed(&store, |_| {}).await;
    let news = {
        let asking = (0..8).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { store.next_announcement().await.unwrap() })
        });
        let mut news = Vec::new();
        for asked in asking.collect::<Vec<_>>() {
            news.extend(asked.await.unwrap());
        }
        assert_eq!(news.len(), 1, "{news:?}");
        news.remove(0)
    };
    assert_eq!((news.deployment, news.state, news.github_id), (claim.lease.deployment, State::Running, None));
    assert_eq!((&news.commit, news.tries), (&claim.event.data.repository.commit, 1));
    store.record_github_id(news.deployment, 4711).await.unwrap();
    store.mark_announced(news.deployment, "in_progress", false).await.unwrap();
    assert_eq!(store.next_announcement().await.unwrap(), None, "nothing is new");

    let failure = Failure::new(ErrorCode::CrashLoop, Some(Stage::Compose), "it exits");
    let end = DeploymentEnd::Failed { failure, missing_secret: None, reason: "permanent" };
    store.finish(&claim.lease, &end, &AttemptSummary::default()).await.unwrap();
    let news = store.next_announcement().await.unwrap().unwrap();
    assert_eq!((news.state, news.github_id), (State::Ended(Outcome::Failed), Some(4711)));
    // GitHub is away: again, but not at once.
    store.record_announcement_failure(news.deployment, "github-unavailable: 503", Some(LONG)).await.unwrap();
    assert_eq!(store.next_announcement().await.unwrap(), None);
    store.record_announcement_failure(news.deployment, "github-unavailable: 503", Some(Duration::ZERO)).await.unwrap();
    let again = store.next_announcement().await.unwrap().unwrap();
    assert_eq!((again.deployment, again.tries), (news.deployment, 2));
    store.mark_announced(news.deployment, "failure", true).await.unwrap();
    assert_eq!(store.next_announcement().await.unwrap(), None, "the end is told");

    // A refusal is final.
    let claim = claimed(&store, |event| event["data"]["project"]["slug"] = "other".into()).await;
    let news = store.next_announcement().await.unwrap().unwrap();
    store
        .record_announcement_failure(news.deployment, "github-forbidden: it needs deployments: write", None)
        .await
        .unwrap();
    store.finish(&claim.lease, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default()).await.unwrap();
    assert_eq!(store.next_announcement().await.unwrap(), None);
    assert_eq!(database.count("SELECT count(*) FROM github_deployments WHERE NOT done").await, 0);
}

/// Accepts a command about the project of `claim`, and claims it.
async fn commanded(store: &Store, event_type: &str, claim: &Claim) -> Claim {
    let body = json!({
        "specversion": "1.0", "type": event_type, "source": "/orchestrator", "id": uuid::Uuid::new_v4(),
        "data": { "project": claim.event.data.project },
    });
    let body = body.to_string().into_bytes();
    let incoming = incoming(&body);
    let Message::Command(command) = read(&body, &incoming.metadata()).unwrap() else { panic!("it's a command") };
    store.accept_command(&command, &incoming, 3).await.unwrap().unwrap();
    store.claim(LONG).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_changes_the_version_is_announced_and_undeploying_takes_it_back() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let end = async |claim: &Claim| {
        store.stage_started(&claim.lease, Stage::Compose, b"x").await.unwrap();
        let summary = StageSummary { stage: Stage::Compose, change: Change::Changed, duration_ms: 1 };
        store
            .stage_finished(
                &claim.lease,
                StageEnd { summary: &summary, facts: &serde_json::Map::new(), digests: None },
                None,
            )
            .await
            .unwrap();
        store.finish(&claim.lease, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default()).await.unwrap();
    };
    let mut versions = Vec::new();
    for sequence in [1, 2] {
        let claim = claimed(&store, |event| {
            event["data"]["project"]["id"] = "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11".into();
            event["data"]["sequence"] = sequence.into();
        })
        .await;
        end(&claim).await;
        let news = store.next_announcement().await.unwrap().unwrap();
        assert_eq!((news.deployment, news.gone), (claim.lease.deployment, false));
        store.mark_announced(news.deployment, "success", true).await.unwrap();
        versions.push(claim);
    }
    let stop = commanded(&store, "slipway.project.stop.v1", &versions[1]).await;
    assert_eq!(store.next_announcement().await.unwrap(), None, "a stop deploys nothing");
    end(&stop).await;
    let undeploy = commanded(&store, "slipway.project.undeploy.v1", &versions[1]).await;
    end(&undeploy).await;
    let news = store.next_announcement().await.unwrap().unwrap();
    assert_eq!((news.deployment, news.gone), (versions[1].lease.deployment, true), "the version that was there");
    store.mark_announced(news.deployment, "inactive", true).await.unwrap();
    assert_eq!(store.next_announcement().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn digests_are_of_the_server_that_wrote_last_and_one_can_be_forgotten() {
    let (_database, store) = TestDatabase::migrated("w").await;
    let project = uuid::Uuid::new_v4();
    let secrets = |digest: &str| {
        BTreeMap::from([
            ("DEPLOY_HOST".to_owned(), digest.to_owned()),
            ("DEPLOY_SSH_KEY".to_owned(), digest.to_owned()),
        ])
    };
    let known =
        async |claim: &Claim| store.github_digests(claim.event.data.project.id, &claim.lease.server).await.unwrap();
    let write = async |server: &str, sequence: u64| {
        let claim = claimed(&store, |event| {
            event["data"]["project"]["id"] = project.to_string().into();
            event["data"]["server"]["handle"] = server.into();
            event["data"]["sequence"] = sequence.into();
        })
        .await;
        store.stage_started(&claim.lease, Stage::Secrets, b"x").await.unwrap();
        let summary = StageSummary { stage: Stage::Secrets, change: Change::Changed, duration_ms: 1 };
        let digests = secrets(server);
        let digests = Some((claim.event.data.project.id, &digests));
        store
            .stage_finished(&claim.lease, StageEnd { summary: &summary, facts: &serde_json::Map::new(), digests }, None)
            .await
            .unwrap();
        store.finish(&claim.lease, &DeploymentEnd::Succeeded { url: None }, &AttemptSummary::default()).await.unwrap();
        claim
    };
    let first = write("vps-1", 1).await;
    assert_eq!(known(&first).await, secrets("vps-1"));
    let second = write("vps-2", 2).await;
    assert_eq!(known(&second).await, secrets("vps-2"));
    assert_eq!(known(&first).await, BTreeMap::new(), "GitHub holds the other server's");

    let forget = async |claim: &Claim| {
        let (project, server) = (&claim.event.data.project, &claim.lease.server);
        store
            .forget_github_digest(project, server, "DEPLOY_SSH_KEY", &slipway_worker::store::Operator::new("ada", None))
            .await
            .unwrap()
    };
    assert!(forget(&second).await);
    assert_eq!(known(&second).await.into_keys().collect::<Vec<_>>(), ["DEPLOY_HOST"]);
    assert!(forget(&second).await, "it's forgotten already");

    // A stage that fails halfway keeps what GitHub holds since; whoever lost the lease keeps nothing.
    let third = claimed(&store, |event| {
        event["data"]["project"]["id"] = project.to_string().into();
        event["data"]["server"]["handle"] = "vps-2".into();
        event["data"]["sequence"] = 3.into();
    })
    .await;
    let id = third.event.data.project.id;
    store.stage_started(&third.lease, Stage::Secrets, b"x").await.unwrap();
    let doubted = BTreeMap::from([("DEPLOY_HOST".to_owned(), String::new())]);
    assert_eq!(known(&third).await, doubted, "whoever dies while it writes leaves nothing that counts as written");
    store.record_digests(&third.lease, id, &secrets("halfway")).await.unwrap();
    assert_eq!(known(&third).await, secrets("halfway"));
    assert!(!forget(&third).await, "whoever acts on it would remember it again");
    assert_eq!(known(&third).await, secrets("halfway"));
    store.finish(&third.lease, &DeploymentEnd::Cancelled, &AttemptSummary::default()).await.unwrap();
    let lost = store.record_digests(&third.lease, id, &secrets("too late")).await.unwrap_err();
    assert!(matches!(lost, StoreError::LeaseLost), "{lost}");
    assert!(forget(&third).await);
}
