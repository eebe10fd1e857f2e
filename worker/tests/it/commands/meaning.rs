//! Which server and which version a command means, decided when it arrives.

use serde_json::{Value, json};
use slipway_deploy::EarlierRequests;
use slipway_protocol::{
    Action, Change, Correlation, ErrorCode, Failure, ProjectCommand, ProjectRollback, Stage, StageSummary, Version,
};
use slipway_worker::store::{Admission, AttemptSummary, DeploymentEnd, StageEnd};

use super::{COMMANDS, LONG, SUPERSEDED, Shop, command, id_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_acts_with_the_version_that_it_means() {
    let shop = Shop::new().await;
    let made = shop.history("abc").await;
    // What failed isn't what is there.
    shop.deploy('f', "one").await;
    let failing = shop.claim().await;
    let failure = Failure::new(ErrorCode::CrashLoop, Some(Stage::Compose), "it keeps exiting");
    let failed = DeploymentEnd::Failed { failure, missing_secret: None, reason: "permanent" };
    shop.store.finish(&failing.lease, &failed, &AttemptSummary::default()).await.unwrap();

    let commit = |letter: char| json!({ "to": { "commit": letter.to_string().repeat(40) } });
    let rows = [
        (Action::Stop, json!({ "reason": "tests" }), made[2]),
        (Action::Start, json!({ "server": "one" }), made[2]),
        (Action::Undeploy, json!({ "remove_volumes": true }), made[2]),
        (Action::Rollback, json!({}), made[1]),
        (Action::Rollback, commit('a'), made[0]),
        (Action::Rollback, json!({ "to": { "deployment": made[0] } }), made[0]),
    ];
    for (action, data, version) in rows {
        let body = shop.command(action, data.clone());
        assert_eq!(shop.take_in(&body).await, Ok(Admission::New), "{action} {data}");
        let claim = shop.claim().await;
        let of = shop.store.deployment(version).await.unwrap().unwrap();
        assert_eq!(claim.lease.deployment, id_of(&body));
        assert_eq!((claim.action, claim.remove_volumes), (action, data["remove_volumes"] == true));
        assert_eq!(Some(claim.event.data.repository.commit.to_string()), of.commit, "{action} {data}");
        let stored = shop.store.deployment(id_of(&body)).await.unwrap().unwrap();
        assert_eq!((stored.acts_on, stored.reason.as_deref()), (Some(version), data["reason"].as_str()));
        shop.store.cancel(id_of(&body)).await.unwrap();
        shop.store.finish(&claim.lease, &DeploymentEnd::Cancelled, &AttemptSummary::default()).await.unwrap();
    }
    // Back, and forth again; the same commit once more is no other version.
    shop.take_in(&shop.command(Action::Rollback, json!({}))).await.unwrap();
    shop.carry_out().await;
    let forth = shop.command(Action::Rollback, json!({}));
    shop.take_in(&forth).await.unwrap();
    assert_eq!(shop.claim().await.event.data.repository.commit.as_str(), "c".repeat(40));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_while_a_version_is_being_deployed_goes_back_from_that_one() {
    let shop = Shop::new().await;
    let made = shop.history("ab").await;
    let deploying = shop.deploy('c', "one").await;
    let body = shop.command(Action::Rollback, json!({}));
    shop.take_in(&body).await.unwrap();
    assert_eq!(shop.state(deploying).await, SUPERSEDED);
    assert_eq!(shop.store.deployment(id_of(&body)).await.unwrap().unwrap().acts_on, Some(made[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_meant_is_refused_with_its_code_and_writes_nothing() {
    let shop = Shop::new().await;
    let refused = async |body: Vec<u8>| shop.take_in(&body).await.unwrap_err().code;
    for action in COMMANDS {
        assert_eq!(refused(shop.command(action, json!({}))).await, ErrorCode::UnknownProject, "{action}");
    }
    shop.history("abcde").await;
    for action in COMMANDS {
        let elsewhere = shop.command(action, json!({ "server": "elsewhere" }));
        assert_eq!(refused(elsewhere).await, ErrorCode::UnknownProject, "{action}");
        let mut renamed = shop.project.clone();
        renamed.slug = "corner-shop-2".parse().unwrap();
        assert_eq!(refused(command(&renamed, action, json!({}))).await, ErrorCode::UnknownProject, "{action}");
    }
    let to = |to: Value| shop.command(Action::Rollback, json!({ "to": to }));
    let commit = |letter: &str| json!({ "commit": letter.repeat(40) });
    assert_eq!(refused(to(commit("f"))).await, ErrorCode::UnknownVersion);
    assert_eq!(refused(to(commit("b"))).await, ErrorCode::UnknownVersion, "only the last three are offered");
    assert_eq!(refused(to(json!({ "deployment": uuid::Uuid::new_v4() }))).await, ErrorCode::UnknownVersion);

    // On two servers it must be said which.
    shop.deploy('e', "two").await;
    shop.carry_out().await;
    for action in COMMANDS {
        assert_eq!(refused(shop.command(action, json!({}))).await, ErrorCode::AmbiguousServer, "{action}");
    }
    let on = |action, server: &str| shop.command(action, json!({ "server": server }));
    assert_eq!(refused(on(Action::Rollback, "two")).await, ErrorCode::UnknownVersion, "there is one version only");

    // Once it's undeployed, only undeploying again has a meaning, for its volumes' sake.
    shop.take_in(&on(Action::Undeploy, "one")).await.unwrap();
    shop.carry_out().await;
    assert_eq!(shop.take_in(&shop.command(Action::Stop, json!({}))).await, Ok(Admission::New), "it's on one only");
    shop.carry_out().await;
    for action in [Action::Stop, Action::Start, Action::Rollback] {
        assert_eq!(refused(on(action, "one")).await, ErrorCode::NotDeployed, "{action}");
    }
    assert_eq!(shop.take_in(&on(Action::Undeploy, "one")).await, Ok(Admission::New));
    shop.carry_out().await;
    let server = "one".parse().unwrap();
    assert!(shop.store.versions(&shop.project, &server, 10).await.unwrap().is_empty());
    shop.history("a").await;
    assert_eq!(shop.store.versions(&shop.project, &server, 10).await.unwrap().len(), 1);
    assert_eq!(shop.take_in(&on(Action::Stop, "one")).await, Ok(Admission::New));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_of_a_command_means_what_its_original_meant() {
    let shop = Shop::new().await;
    shop.history("ab").await;
    let rollback = shop.command(Action::Rollback, json!({}));
    shop.take_in(&rollback).await.unwrap();
    shop.carry_out().await;
    let undeploy = shop.command(Action::Undeploy, json!({}));
    shop.take_in(&undeploy).await.unwrap();
    shop.carry_out().await;
    for body in [&rollback, &undeploy] {
        assert_eq!(shop.take_in(body).await, Ok(Admission::Duplicate), "though it would be refused by now");
    }
    assert_eq!(shop.store.claim(LONG).await.unwrap(), None);
}

fn back(shop: &Shop, to: Option<Version>) -> ProjectCommand {
    let (project, correlation) = (shop.project.clone(), Correlation::new());
    ProjectRollback { project, server: None, to, reason: None, sequence: None, expires_at: None, correlation }.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_acts_with_its_versions_images_and_knows_what_was_given() {
    let shop = Shop::new().await;
    for (commit, image) in [('a', Some("sha256:aa")), ('b', None), ('c', Some("sha256:cc"))] {
        let mut event: Value = serde_json::from_slice(&shop.ready(commit, "one")).unwrap();
        event["data"]["variables"] = json!({ "LIMIT": commit.to_string() });
        event["data"]["secrets"] = json!({ "PAY_KEY": { "reference": "pay" } });
        event["data"]["registry"] =
            json!({ "username": format!("robot-{commit}"), "password": { "reference": "pay" } });
        shop.take_in(event.to_string().as_bytes()).await.unwrap();
        let claim = shop.claim().await;
        let images = image.map(|image| ("images".to_owned(), json!({ "BACKEND_IMAGE": image }))).into_iter().collect();
        let summary = StageSummary { stage: Stage::Env, change: Change::Changed, duration_ms: 1 };
        shop.store.stage_started(&claim.lease, Stage::Env, b"x").await.unwrap();
        shop.store
            .stage_finished(&claim.lease, StageEnd { summary: &summary, facts: &images, digests: None }, None)
            .await
            .unwrap();
        shop.end(&claim).await;
        let own = shop.store.images_of_version(claim.lease.deployment).await.unwrap();
        assert_eq!(own.into_values().next().as_deref(), image);
    }
    let basis = shop.store.rollback_basis(&back(&shop, None), 10).await.unwrap().unwrap();
    assert_eq!(basis.event.data.repository.commit.as_str(), "b".repeat(40), "the version before the present one");
    let user = basis.event.data.registry.map(|registry| registry.username.as_str().to_owned());
    assert_eq!(user.as_deref(), Some("robot-c"), "what images are read with isn't part of a version");
    let unknown = back(&shop, Some(Version::Commit("d".repeat(40).parse().unwrap())));
    let refused = shop.store.rollback_basis(&unknown, 10).await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::UnknownVersion);
    for (commit, expected) in [("a", Some("sha256:aa")), ("b", None)] {
        let body = shop.command(Action::Rollback, json!({ "to": { "commit": commit.repeat(40) } }));
        shop.take_in(&body).await.unwrap();
        let images = shop.store.recorded_images(id_of(&body)).await.unwrap();
        assert_eq!(images.get("BACKEND_IMAGE").map(String::as_str), expected, "{images:?}");
        assert_eq!(images.len(), usize::from(expected.is_some()));
    }
    let earlier = shop.store.earlier_requests(&shop.project, &"one".parse().unwrap()).await.unwrap();
    let limits = ["a", "b", "c"].map(|value| ("LIMIT".to_owned(), value.to_owned()));
    assert_eq!(earlier, EarlierRequests { variables: limits.into(), secrets: ["PAY_KEY".to_owned()].into() });
}
