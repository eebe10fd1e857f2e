//! Moves, on a database with a long history.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::json;
use slipway_deploy::ServerMeasurement;
use slipway_protocol::{Action, Message, Project, read};
use slipway_worker::scheduler::PlacementLimits;
use slipway_worker::store::{AttemptSummary, Claim, DeploymentEnd};

use super::requests::{LONG, Requests};
use super::wrap::{ok, quick};
use crate::services::TestDatabase;
use crate::services::test_worker::incoming;

impl Requests<'_> {
    /// The project, which lives somewhere, goes elsewhere.
    pub(super) async fn goes_elsewhere(&self, project: &Project, database: &TestDatabase, facts: &ServerMeasurement) {
        let (store, server) = (self.store, "roomier".parse().unwrap());
        let sql =
            "INSERT INTO servers (handle, address, host_key) VALUES ('roomier', '203.0.113.8', 'ssh-ed25519 AAAA')";
        database.sql.execute(sql, &[]).await.unwrap();
        ok(store.record_server_facts(&server, Timestamp::now(), Ok(facts)).await);
        // One that can't be taken back, and is undeployed there before the next one.
        let claim = Box::pin(self.claimed_move(project)).await;
        Box::pin(self.end(&claim, &DeploymentEnd::Cancelled)).await;
        let nowhere =
            "UPDATE project_places SET begun = NULL, begun_at = NULL WHERE project_id = $1 AND server = 'roomier'";
        database.sql.execute(nowhere, &[&project.id.0]).await.unwrap();
        let claim = Box::pin(self.claimed_move(project)).await;
        let from = "roomy".parse().unwrap();
        assert_eq!(claim.action, Action::Move);
        assert!(ok(quick("its version", store.moved_version(claim.lease.deployment)).await).is_some());
        ok(quick("digests", Box::pin(store.record_digests_of(&claim.lease, &from, project.id, &BTreeMap::new())))
            .await);
        let summary = AttemptSummary { moves: Some(project.id), ..AttemptSummary::default() };
        ok(quick("its end", Box::pin(store.finish(&claim.lease, &DeploymentEnd::Succeeded { url: None }, &summary)))
            .await);
        assert_eq!(ok(quick("who lives there", store.living_on(&server)).await), std::slice::from_ref(project));
    }

    /// A move that was asked for, placed and claimed.
    async fn claimed_move(&self, project: &Project) -> Claim {
        let store = self.store;
        let body = json!({
            "specversion": "1.0", "id": uuid::Uuid::new_v4(), "source": "/o", "type": "slipway.project.move.v1",
            "data": { "project": project, "to": "roomier" },
        });
        let body = body.to_string().into_bytes();
        let incoming = incoming(&body);
        let Ok(Message::Command(request)) = read(&body, &incoming.metadata()) else { panic!("it's valid") };
        let accepted = ok(quick("a move", Box::pin(store.accept_command(&request, &incoming, 10))).await);
        assert!(accepted.is_ok(), "{accepted:?}");
        assert_eq!(ok(quick("placing", Box::pin(store.place_waiting(&PlacementLimits::DEFAULT, 0))).await).placed, 1);
        let from = "roomy".parse().unwrap();
        assert!(ok(quick("an open move", store.open_move(project, &from)).await).is_some());
        loop {
            let claim = ok(quick("a claim", Box::pin(store.claim(LONG))).await).unwrap();
            if claim.lease.deployment == request.deployment_id() {
                return claim;
            }
            Box::pin(self.end(&claim, &DeploymentEnd::Cancelled)).await;
        }
    }
}
