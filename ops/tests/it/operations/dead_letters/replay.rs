//! Which dead letters a replay sends, and what a worker makes of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use slipway_protocol::{DeploymentId, ErrorCode};
use slipway_worker::store::Admission;

use super::{Night, accept, begins, request, snapshot};

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_resumes_where_it_failed_and_what_is_superseded_needs_force() {
    let night = Night::new().await;
    let project = uuid::Uuid::new_v4().to_string();
    let of = |sequence: u64| {
        let project = project.clone();
        move |event: &mut Value| {
            event["data"]["project"]["id"] = project.as_str().into();
            event["data"]["sequence"] = sequence.into();
        }
    };
    let older = night.failed("shop", ErrorCode::PortOccupied, of(1)).await;
    let newer = night.failed("shop", ErrorCode::PortOccupied, of(2)).await;

    let plan = night.json("replay --all --dry-run").await;
    assert_eq!((&plan["would_replay"], &plan["counts"]["superseded"]), (&json!(1), &json!(1)));
    let verdicts: BTreeMap<_, _> =
        plan["dead_letters"].as_array().unwrap().iter().map(|l| (l["id"].to_string(), l.clone())).collect();
    let verdict = |id: DeploymentId| &verdicts[&json!(id).to_string()];
    assert_eq!((&verdict(newer)["verdict"], &verdict(newer)["resumes_at"]), (&json!("ready"), &json!("preflight")));
    assert_eq!(
        (&verdict(older)["verdict"], &verdict(older)["newer_deployment"]),
        (&json!("superseded"), &json!(newer))
    );
    snapshot("replay-dry-run", &night.says("replay --all --dry-run").await);
    snapshot("replay-without-consent", &night.says("replay --code port-occupied").await);
    snapshot("replay-superseded", &night.says(&format!("replay {}", begins(older))).await);
    snapshot("replay-forced-without-reason", &night.says(&format!("replay {} --force", begins(older))).await);
    assert_eq!((night.open().await, night.records().await, night.sent().await.len()), (2, 0, 0), "nothing was done");

    // Several at once: only what isn't superseded is sent, and it resumes.
    let replayed = night.json("replay --code port-occupied --yes").await;
    assert_eq!(replayed["replayed"][0]["id"], json!(newer));
    assert_eq!((replayed["replayed"].as_array().unwrap().len(), night.open().await), (1, 1));
    let sent = night.sent().await;
    let (id, verdict) = night.taken_in(&sent[0]).await;
    assert_eq!((json!(id), verdict), (replayed["replayed"][0]["deployment_id"].clone(), Admission::New));
    assert_eq!(night.value(id, "resumes").await, Some(newer.to_string()));

    // By force the older one takes the newer one's place, though its number is smaller, and from the start.
    let forced = night.json(&format!("replay {} --force --from-start --why rollback", begins(older))).await;
    let sent = night.sent().await;
    let (by_force, verdict) = night.taken_in(&sent[1]).await;
    assert_eq!((json!(by_force), verdict), (forced["replayed"][0]["deployment_id"].clone(), Admission::New));
    assert_eq!(night.value(id, "state").await.as_deref(), Some("superseded"));
    assert_eq!(night.value(by_force, "resumes").await, None);
    // Yet what is newer than all of them still is.
    let next = accept(
        &night.store,
        &request(|event| {
            event["data"]["project"]["slug"] = "shop".into();
            of(3)(event);
        }),
    )
    .await;
    assert_eq!(night.value(by_force, "state").await.as_deref(), Some("superseded"));
    assert_eq!(night.value(next, "state").await.as_deref(), Some("pending"));

    let audit = night.json("audit").await;
    assert_eq!((&audit[0]["why"], &audit[0]["details"]["forced"]), (&json!("rollback"), &json!(true)));
    assert_eq!(audit[0]["details"]["replay_id"], forced["replayed"][0]["replay_id"]);
}
