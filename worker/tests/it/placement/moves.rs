//! Moves on a real PostgreSQL: what they are refused for, where they go, what waits for them, and what follows from their ends.

use slipway_protocol::{Action, ErrorCode, Failure, Message, MoveData, Outcome, PlacementReason, Stage, read};
use slipway_worker::store::{AttemptSummary, Boundary, Operator, OperatorOrigin, State, StoreError};

use super::*;

const VERSIONS: u32 = 3;

/// Two servers with room, and a project that lives on the first.
struct Living {
    store: Store,
    project: Value,
    database: TestDatabase,
}

impl Living {
    async fn new() -> Self {
        let (database, store) = TestDatabase::migrated("w").await;
        for handle in ["vps-1", "vps-2"] {
            add_server(&database, &store, handle, &facts(4096)).await;
        }
        let body = unplaced(|event| event["data"]["placement"] = json!({ "wait_seconds": 600 }));
        tell(&store, "vps-2", &facts(1024)).await;
        let first = accept(&store, &body).await;
        place(&store, &limits()).await;
        assert_eq!(server_of(&store, first).await.as_deref(), Some("vps-1"));
        succeed(&store).await;
        let project = serde_json::from_slice::<Value>(&body).unwrap()["data"]["project"].clone();
        Self { store, project, database }
    }

    fn command(&self, action: &str, data: &Value) -> Vec<u8> {
        let mut data = data.clone();
        data["project"] = self.project.clone();
        let (id, kind) = (uuid::Uuid::new_v4(), format!("slipway.project.{action}.v1"));
        json!({ "specversion": "1.0", "id": id, "source": "/orchestrator", "type": kind, "data": data })
            .to_string()
            .into_bytes()
    }

    async fn take_in(&self, body: &[u8]) -> Result<DeploymentId, Failure> {
        let incoming = incoming(body);
        let Message::Command(request) = read(body, &incoming.metadata()).unwrap() else { panic!("a command") };
        let accepted = self.store.accept_command(&request, &incoming, VERSIONS).await.unwrap();
        accepted.map(|admission| {
            assert_eq!(admission, Admission::New);
            request.deployment_id()
        })
    }

    async fn move_it(&self, data: Value) -> Result<DeploymentId, Failure> {
        let moved = self.take_in(&self.command("move", &data)).await?;
        place(&self.store, &limits()).await;
        Ok(moved)
    }

    /// A newer request to deploy it on that server.
    async fn deploy_on(&self, server: &str) -> DeploymentId {
        let body = unplaced(|event| {
            event["data"]["project"] = self.project.clone();
            event["data"]["server"] = json!({ "handle": server });
            event["data"]["allocations"] = json!([{ "service": "backend", "host_port": 8080, "container_port": 8000 }]);
            event["time"] = json!(Timestamp::now());
        });
        accept(&self.store, &body).await
    }

    async fn fence_on(&self, server: &str) -> i64 {
        let sql = "SELECT fence FROM project_leases WHERE server = $1";
        self.database.sql.query_one(sql, &[&server]).await.unwrap().get(0)
    }

    async fn state(&self, id: DeploymentId) -> State {
        self.store.deployment(id).await.unwrap().unwrap().state
    }

    /// Where it lives.
    async fn lives_on(&self) -> Vec<&'static str> {
        let mut on = Vec::new();
        for handle in ["vps-1", "vps-2"] {
            if !self.store.living_on(&handle.parse().unwrap()).await.unwrap().is_empty() {
                on.push(handle);
            }
        }
        on
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_goes_to_another_server_and_its_end_undeploys_on_the_old_one() {
    let living = Living::new().await;
    let moved = living.move_it(json!({ "data": "copy", "reason": "a test" })).await.unwrap();
    assert_eq!(server_of(&living.store, moved).await.as_deref(), Some("vps-2"));
    let stopping = living.take_in(&living.command("stop", &json!({ "server": "vps-1" }))).await;
    assert_eq!(
        living.state(moved).await,
        State::Ended(Outcome::Superseded),
        "a newer command about its server comes first"
    );
    assert_eq!(living.store.claim(LONG).await.unwrap().unwrap().lease.deployment, stopping.unwrap());
    let living = Living::new().await;

    let moved = living.move_it(json!({ "data": "copy" })).await.unwrap();
    let claim = living.store.claim(LONG).await.unwrap().unwrap();
    let order = claim.moves.clone().unwrap();
    assert_eq!((claim.action, order.from.as_str(), order.data), (Action::Move, "vps-1", MoveData::Copy));
    assert_eq!(claim.event.data.server.clone().unwrap().handle.as_str(), "vps-2");
    assert!(claim.event.data.allocations.iter().all(|allocation| allocation.host_port.is_some()));
    assert_eq!(living.fence_on("vps-1").await, claim.lease.fence.get(), "one number holds on both servers");
    let version = living.store.moved_version(moved).await.unwrap().unwrap();
    assert_eq!(version.server.unwrap().handle.as_str(), "vps-1");
    assert_eq!(living.lives_on().await, ["vps-1"]);

    let summary = AttemptSummary { moves: Some(claim.event.data.project.id), ..AttemptSummary::default() };
    let done = DeploymentEnd::Succeeded { url: Some("http://203.0.113.7:20000".to_owned()) };
    living.store.finish(&claim.lease, &done, &summary).await.unwrap();
    assert_eq!(living.lives_on().await, ["vps-2"]);
    let result = living.store.deployment(moved).await.unwrap().unwrap().result.unwrap();
    let report = result.moved.unwrap();
    assert_eq!((report.from.as_str(), report.to.unwrap().as_str()), ("vps-1", "vps-2"));
    assert!(result.also_on.is_empty(), "{:?}", result.also_on);
    let claim = living.store.claim(LONG).await.unwrap().unwrap();
    assert_eq!((claim.action, claim.lease.server.as_str()), (Action::Undeploy, "vps-1"));
    assert_eq!((Some(claim.lease.deployment), claim.remove_volumes), (report.undeployment, false));
    end(&living.store, &claim, DeploymentEnd::Succeeded { url: None }).await;
    assert!(living.store.claim(LONG).await.unwrap().is_none());
    // Who names no server means the new one.
    let stopped = living.take_in(&living.command("stop", &json!({}))).await.unwrap();
    assert_eq!(server_of(&living.store, stopped).await.as_deref(), Some("vps-2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_is_refused_for_what_it_can_not_do_and_told_where_there_is_no_room() {
    let living = Living::new().await;
    for (data, code) in [
        (json!({ "to": "vps-1" }), ErrorCode::AlreadyOnServer),
        (json!({ "to": "vps-9" }), ErrorCode::UnknownServer),
        (json!({ "server": "vps-2" }), ErrorCode::UnknownProject),
    ] {
        assert_eq!(living.move_it(data.clone()).await.unwrap_err().code, code, "{data}");
    }
    let sql =
        "INSERT INTO slug_owners (server, project_slug, project_id) SELECT 'vps-2', project_slug, gen_random_uuid()
               FROM slug_owners WHERE server = 'vps-1'";
    living.database.sql.execute(sql, &[]).await.unwrap();
    assert_eq!(living.move_it(json!({ "to": "vps-2" })).await.unwrap_err().code, ErrorCode::SlugTaken);
    living.database.sql.execute("DELETE FROM slug_owners WHERE server = 'vps-2'", &[]).await.unwrap();
    let operator = Operator { who: "ada".to_owned(), why: None, origin: OperatorOrigin::default() };
    living.store.cordon_server(&"vps-2".parse().unwrap(), true, &operator).await.unwrap();
    let moved = living.move_it(json!({ "to": "vps-2" })).await.unwrap();
    let placement = living.store.deployment(moved).await.unwrap().unwrap().placement.unwrap();
    assert_eq!(
        (server_of(&living.store, moved).await.as_deref(), placement.reason),
        (Some("vps-2"), PlacementReason::Named)
    );
    let claim = living.store.claim(LONG).await.unwrap().unwrap();
    let untouched = AttemptSummary { restored: true, ..AttemptSummary::default() };
    living.store.finish(&claim.lease, &DeploymentEnd::Cancelled, &untouched).await.unwrap();
    {
        let moved = living.move_it(json!({})).await.unwrap();
        assert_eq!(living.state(moved).await, State::Pending, "a moment");
        let sql = "UPDATE deployments SET accepted_at = accepted_at - interval '121 s' WHERE id = $1";
        living.database.sql.execute(sql, &[&moved.0]).await.unwrap();
        place(&living.store, &limits()).await;
        let result = living.store.deployment(moved).await.unwrap().unwrap().result.unwrap();
        assert_eq!(result.failure.unwrap().code, ErrorCode::NoCapacity);
        let servers = result.placement.unwrap().servers;
        assert_eq!(servers.iter().map(|score| score.server.as_str()).collect::<Vec<_>>(), ["vps-2"], "{servers:?}");
        assert_eq!(result.moved.unwrap().to, None);
    }
    let running = living.deploy_on("vps-1").await;
    let refused = living.move_it(json!({})).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::DeploymentUnderWay);
    assert!(refused.message.contains(&running.to_string()), "{}", refused.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_on_either_server_waits_until_a_move_was_taken_back() {
    for newer_on in ["vps-1", "vps-2"] {
        let living = Living::new().await;
        let moved = living.move_it(json!({ "to": "vps-2" })).await.unwrap();
        let claim = living.store.claim(LONG).await.unwrap().unwrap();
        living.store.stage_started(&claim.lease, Stage::Clone, b"x").await.unwrap();
        let newer = living.deploy_on(newer_on).await;
        assert!(living.store.claim(LONG).await.unwrap().is_none(), "{newer_on}: it waits");
        // Its worker dies; the next one only takes back what was begun, whichever server the newer one is for.
        living.database.sql.execute("UPDATE project_leases SET expires_at = now()", &[]).await.unwrap();
        living.store.reap(5).await.unwrap().unwrap();
        let again = living.store.claim(LONG).await.unwrap().unwrap();
        assert_eq!((again.lease.deployment, again.boundary), (moved, Boundary::Superseded(newer)), "{newer_on}");
        assert!(again.history.unproven);
        let restored = AttemptSummary { restored: true, ..AttemptSummary::default() };
        living.store.finish_superseded(&again.lease, &restored).await.unwrap();
        assert_eq!(living.lives_on().await, ["vps-1"]);
        assert_eq!(living.store.claim(LONG).await.unwrap().unwrap().lease.deployment, newer, "{newer_on}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_in_a_moves_last_stage_has_it_taken_back() {
    let living = Living::new().await;
    let moved = living.move_it(json!({ "to": "vps-2" })).await.unwrap();
    let claim = living.store.claim(LONG).await.unwrap().unwrap();
    living.store.stage_started(&claim.lease, Stage::Secrets, b"x").await.unwrap();
    let undeploy = living.take_in(&living.command("undeploy", &json!({}))).await.unwrap();
    let summary = AttemptSummary { moves: Some(claim.event.data.project.id), ..AttemptSummary::default() };
    let done = DeploymentEnd::Succeeded { url: None };
    let refused = living.store.finish(&claim.lease, &done, &summary).await.unwrap_err();
    assert!(matches!(refused, StoreError::GivesWay(by) if by == undeploy), "{refused}");
    assert_eq!((living.state(moved).await, living.lives_on().await), (State::Running, vec!["vps-1"]));
    let restored = AttemptSummary { restored: true, ..summary };
    assert_eq!(living.store.finish_superseded(&claim.lease, &restored).await.unwrap(), Some(Outcome::Superseded));
    assert_eq!(living.store.claim(LONG).await.unwrap().unwrap().lease.deployment, undeploy);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_move_could_not_take_back_is_known_to_be_there() {
    let living = Living::new().await;
    living.move_it(json!({ "to": "vps-2" })).await.unwrap();
    let claim = living.store.claim(LONG).await.unwrap().unwrap();
    end(&living.store, &claim, DeploymentEnd::Cancelled).await;
    assert_eq!(living.lives_on().await, ["vps-1"], "it doesn't live there");
    let undeploy = living.take_in(&living.command("undeploy", &json!({ "server": "vps-2" }))).await.unwrap();
    assert_eq!(server_of(&living.store, undeploy).await.as_deref(), Some("vps-2"));
    let claim = living.store.claim(LONG).await.unwrap().unwrap();
    end(&living.store, &claim, DeploymentEnd::Succeeded { url: None }).await;
    let stopped = living.take_in(&living.command("stop", &json!({}))).await.unwrap();
    assert_eq!(server_of(&living.store, stopped).await.as_deref(), Some("vps-1"), "only one place is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_waits_for_the_maintenance_of_the_server_that_it_leaves() {
    let living = Living::new().await;
    let moved = living.move_it(json!({ "to": "vps-2" })).await.unwrap();
    let window = "INSERT INTO maintenance_windows (server, starts_at, ends_at)
                  VALUES ('vps-1', now() - interval '1 h', now() + interval '1 h')";
    living.database.sql.execute(window, &[]).await.unwrap();
    assert!(living.store.claim(LONG).await.unwrap().is_none());
    living.database.sql.execute("DELETE FROM maintenance_windows", &[]).await.unwrap();
    assert_eq!(living.store.claim(LONG).await.unwrap().unwrap().lease.deployment, moved);
}
