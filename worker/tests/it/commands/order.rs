//! Of several requests about one project, which goes on.

use std::time::Duration;

use serde_json::{Value, json};
use slipway_protocol::{Action, ErrorCode, Failure, Stage};
use slipway_worker::store::{
    Admission, AttemptSummary, Boundary, DeadLetterFilter, DeploymentEnd, ReplayVerdict, State,
};

use super::{COMMANDS, LONG, SUPERSEDED, Shop, id_of};

#[tokio::test(flavor = "multi_thread")]
async fn of_every_pair_of_requests_the_newer_one_wins_whether_the_older_one_waits_or_runs() {
    let requests = [Action::Deploy, Action::Stop, Action::Start, Action::Rollback, Action::Undeploy];
    for older in requests {
        for newer in requests {
            let ask = async |shop: &Shop, action: Action, commit: char| {
                let body = match action {
                    Action::Deploy => shop.ready(commit, "one"),
                    action => shop.command(action, json!({})),
                };
                assert_eq!(shop.take_in(&body).await, Ok(Admission::New), "{older} {newer}");
                id_of(&body)
            };
            // The older one waits.
            let shop = Shop::new().await;
            shop.history("ab").await;
            let first = ask(&shop, older, 'c').await;
            let second = ask(&shop, newer, 'd').await;
            assert_eq!(shop.state(first).await, SUPERSEDED, "{older} waits, {newer} comes");
            let result = shop.store.deployment(first).await.unwrap().unwrap().result.unwrap();
            assert_eq!((result.superseded_by, result.action), (Some(second), older));

            // The older one runs.
            let running = shop.claim().await;
            assert_eq!(running.lease.deployment, second);
            let third = ask(&shop, older, 'e').await;
            let boundary = shop.store.stage_started(&running.lease, running.action.stages()[0], b"x").await.unwrap();
            // Only what makes the project whole, or takes it off for good, leaves an undeployment unfinished.
            let goes_on = newer == Action::Undeploy && matches!(older, Action::Stop | Action::Start);
            let expected = if goes_on { Boundary::GoOn } else { Boundary::Superseded(third) };
            assert_eq!(boundary, expected, "{newer} runs, {older} comes");
            assert_eq!(shop.state(third).await, State::Pending);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undeployment_that_waits_for_its_next_attempt_goes_on_before_what_came_later() {
    let shop = Shop::new().await;
    shop.history("a").await;
    let undeploy = shop.command(Action::Undeploy, json!({}));
    assert_eq!(shop.take_in(&undeploy).await, Ok(Admission::New));
    let again = async |delay: Duration| {
        let claim = shop.claim().await;
        assert_eq!(claim.lease.deployment, id_of(&undeploy));
        shop.store.stage_started(&claim.lease, Stage::Secrets, b"x").await.unwrap();
        let failure = Failure::new(ErrorCode::GithubUnavailable, Some(Stage::Secrets), "it's away for a moment");
        shop.store.retry(&claim.lease, failure, delay).await.unwrap();
    };
    again(Duration::ZERO).await;
    again(LONG).await;
    for action in [Action::Stop, Action::Start] {
        assert_eq!(shop.take_in(&shop.command(action, json!({}))).await, Ok(Admission::New));
        assert_eq!(shop.state(id_of(&undeploy)).await, State::Pending, "{action}");
        assert_eq!(shop.store.claim(LONG).await.unwrap(), None, "{action} waits");
    }
    // What makes the project whole again needn't wait.
    let deployed = shop.deploy('b', "one").await;
    assert_eq!(shop.state(id_of(&undeploy)).await, SUPERSEDED);
    assert_eq!(shop.carry_out().await, deployed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_request_is_superseded_at_once_whatever_it_asks_for() {
    let shop = Shop::new().await;
    let numbered = |body: Vec<u8>, sequence: u64| {
        let mut event: Value = serde_json::from_slice(&body).unwrap();
        event["data"]["sequence"] = sequence.into();
        event.to_string().into_bytes()
    };
    shop.take_in(&numbered(shop.ready('a', "one"), 1)).await.unwrap();
    shop.carry_out().await;
    let stop = numbered(shop.command(Action::Stop, json!({})), 9);
    shop.take_in(&stop).await.unwrap();
    let superseded = Ok(Admission::Superseded(id_of(&stop)));
    assert_eq!(shop.take_in(&numbered(shop.ready('b', "one"), 8)).await, superseded);
    shop.carry_out().await;
    for action in COMMANDS.into_iter().filter(|action| *action != Action::Rollback) {
        let stale = numbered(shop.command(action, json!({})), 7);
        assert_eq!(shop.take_in(&stale).await, superseded, "{action}");
        assert_eq!(shop.take_in(&stale).await, Ok(Admission::Duplicate), "{action}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_leaves_the_projects_deployments_on_other_servers_alone() {
    let shop = Shop::new().await;
    shop.history("a").await;
    let moved = shop.deploy('b', "two").await;
    let stop = shop.command(Action::Stop, json!({ "server": "one" }));
    assert_eq!(shop.take_in(&stop).await, Ok(Admission::New));
    assert_eq!(shop.state(moved).await, State::Pending);
    let moved_again = shop.deploy('b', "three").await;
    assert_eq!((shop.state(moved).await, shop.state(id_of(&stop)).await), (SUPERSEDED, State::Pending));
    assert_eq!(shop.state(moved_again).await, State::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_of_a_command_stands_behind_what_came_later_for_its_own_server() {
    let shop = Shop::new().await;
    for server in ["one", "two"] {
        shop.deploy('a', server).await;
        shop.carry_out().await;
    }
    let stop = shop.command(Action::Stop, json!({ "server": "one" }));
    shop.take_in(&stop).await.unwrap();
    let claim = shop.claim().await;
    let failure = Failure::new(ErrorCode::CrashLoop, Some(Stage::Compose), "it exits");
    let end = DeploymentEnd::Failed { failure, missing_secret: None, reason: "permanent" };
    shop.store.finish(&claim.lease, &end, &AttemptSummary::default()).await.unwrap();
    let verdict = async || {
        let only = DeadLetterFilter { ids: vec![id_of(&stop).0], ..DeadLetterFilter::default() };
        shop.store.plan_replay(&only, 1).await.unwrap()[0].verdict
    };
    shop.deploy('b', "two").await;
    shop.carry_out().await;
    assert_eq!(verdict().await, ReplayVerdict::Ready, "a deployment to another server stands in no command's way");
    shop.take_in(&shop.command(Action::Start, json!({ "server": "one" }))).await.unwrap();
    assert_eq!(verdict().await, ReplayVerdict::Superseded);
}
