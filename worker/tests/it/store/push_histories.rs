//! Watched branches: what a push meets that isn't alone, such as a rollback, a failed command or another choice of who
//! deploys.

use serde_json::json;
use slipway_deploy::github::PushRuns;
use slipway_worker::store::LookOutcome;

use super::pushes::{INTERVAL, Watched, commit, seen};
use super::{LONG, accept};
use crate::services::test_worker::request;

const ROLLING_BACK: &str = "a rollback is under way";

#[tokio::test(flavor = "multi_thread")]
async fn a_push_before_the_first_look_is_deployed_once_the_first_deployment_has_worked() {
    let watched = Watched::requested().await;
    // GitHub was away since the request; meanwhile somebody has pushed b.
    let look = watched.begin().await;
    watched.store.fail_look(&look, "github-unavailable", INTERVAL).await.unwrap();
    assert_eq!(watched.branch().await.considered, Some(commit('a')), "what was requested");
    assert!(matches!(watched.look(&seen('b', Some(PushRuns::Succeeded))).await, LookOutcome::Waits(_)));
    assert_eq!(watched.store.next_look().await.unwrap(), None);
    watched.end_next(true).await;
    let look = watched.store.next_look().await.unwrap().expect("due at once");
    let outcome = watched.store.finish_look(&look, &seen('b', Some(PushRuns::Succeeded)), INTERVAL).await.unwrap();
    assert!(matches!(outcome, LookOutcome::Deployed(..)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_isnt_lost_when_who_deploys_changes_and_changes_back() {
    let watched = Watched::new().await;
    watched.look(&seen('b', Some(PushRuns::Unfinished(1)))).await;
    for by in ["ci_job", "webhook"] {
        watched.deploy('a', by).await;
        watched.end_next(true).await;
    }
    let outcome = watched.look(&seen('b', Some(PushRuns::Succeeded))).await;
    assert!(matches!(outcome, LookOutcome::Deployed(..)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_from_before_a_rollback_that_nobody_has_seen_isnt_deployed_after_it() {
    let watched = Watched::new().await;
    watched.deployed('b').await;
    watched.end_next(true).await;
    let look = watched.begin().await; // has seen c, pushed before the rollback
    watched.command("rollback", json!({})).await;
    watched.end_next(true).await;
    let pushed = seen('c', Some(PushRuns::Succeeded));
    let outcome = watched.store.finish_look(&look, &pushed, INTERVAL).await.unwrap();
    assert_eq!(outcome, LookOutcome::Outdated);
    let look = watched.store.next_look().await.unwrap().expect("due at once");
    assert_eq!(look.considered, None);
    let outcome = watched.store.finish_look(&look, &seen('c', None), INTERVAL).await.unwrap();
    assert_eq!(outcome, LookOutcome::Considered);
    assert_eq!(watched.look(&pushed).await, LookOutcome::Nothing);
    watched.deployed('d').await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_waits_outlives_a_rollback_that_fails_or_is_cancelled() {
    let watched = Watched::new().await;
    watched.deployed('b').await;
    watched.end_next(true).await;
    let pushed = seen('c', Some(PushRuns::Succeeded));
    watched.look(&seen('c', Some(PushRuns::Unfinished(1)))).await;
    let rollback = watched.command("rollback", json!({})).await;
    assert_eq!(watched.look(&pushed).await, LookOutcome::Waits(ROLLING_BACK.to_owned()));
    watched.store.cancel(rollback).await.unwrap();
    assert!(watched.store.next_look().await.unwrap().is_some(), "due at once");
    assert_eq!(watched.branch().await.considered, Some(commit('b')));

    watched.command("rollback", json!({})).await;
    assert_eq!(watched.look(&pushed).await, LookOutcome::Waits(ROLLING_BACK.to_owned()));
    watched.end_next(false).await;
    let look = watched.store.next_look().await.unwrap().expect("due at once");
    let outcome = watched.store.finish_look(&look, &pushed, INTERVAL).await.unwrap();
    assert!(matches!(outcome, LookOutcome::Deployed(..)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_rollback_a_push_is_deployed_with_what_serves() {
    let watched = Watched::new().await;
    watched.deploy('b', "webhook").await;
    watched.end_next(true).await;
    watched.look(&seen('b', None)).await;
    watched.command("rollback", json!({})).await;
    watched.end_next(false).await; // b was restored and serves, with GREETING of b
    watched.deployed('c').await;
    let claim = watched.store.claim(LONG).await.unwrap().unwrap();
    assert_eq!(claim.event.data.variables.values().collect::<Vec<_>>(), ["of b"], "what serves");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_failed_holds_no_push_back() {
    for command in ["stop", "undeploy"] {
        let watched = Watched::new().await;
        watched.command(command, json!({})).await;
        let pushed = seen('b', Some(PushRuns::Succeeded));
        assert!(matches!(watched.look(&pushed).await, LookOutcome::Waits(_)), "{command} is under way");
        watched.end_next(false).await;
        let look = watched.store.next_look().await.unwrap().expect("due at once");
        let outcome = watched.store.finish_look(&look, &pushed, INTERVAL).await.unwrap();
        assert!(matches!(outcome, LookOutcome::Deployed(..)), "{command}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_in_another_case_of_letters_keeps_the_push_that_waits() {
    let watched = Watched::new().await;
    watched.look(&seen('b', Some(PushRuns::Unfinished(1)))).await;
    let body = request(|e| {
        e["data"]["project"] = watched.project.clone();
        e["data"]["repository"]["name"] = "acme-org/corner-shop".into();
        e["data"]["repository"]["commit"] = "c".repeat(40).into();
        e["data"]["repository"]["pushes_deployed_by"] = "webhook".into();
        e["data"].as_object_mut().unwrap().remove("sequence");
        e.as_object_mut().unwrap().remove("time");
    });
    accept(&watched.store, &body).await;
    watched.end_next(true).await;
    let branch = watched.branch().await;
    assert_eq!((branch.head, branch.considered), (Some(commit('b')), Some(commit('a'))));
    let outcome = watched.look(&seen('b', Some(PushRuns::Succeeded))).await;
    assert!(matches!(outcome, LookOutcome::Deployed(..)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_has_started_no_run_is_passed_by_the_next_one() {
    let watched = Watched::new().await;
    let skipped = seen('b', Some(PushRuns::NoneStarted));
    watched.look(&skipped).await;
    let past = "UPDATE watched_branches SET head_since = now() - interval '1 hour'";
    watched.database.sql.execute(past, &[]).await.unwrap();
    let waits = "a workflow run: this push has started none";
    assert_eq!(watched.look(&skipped).await, LookOutcome::Waits(waits.to_owned()));
    watched.deployed('c').await;
}
