//! Requests that leave their server to Slipway, on a database with a long history.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use slipway_deploy::ServerMeasurement;
use slipway_protocol::names::Port;
use slipway_protocol::{DeploymentId, ErrorCode, Failure, Message, ServerTraits, Stage, decode, read};
use slipway_worker::scheduler::PlacementLimits;
use slipway_worker::store::DeploymentEnd;
use uuid::Uuid;

use super::requests::{LONG, Requests};
use super::wrap::{ok, quick};
use crate::services::TestDatabase;
use crate::services::test_worker::incoming;

const LIMITS: PlacementLimits = PlacementLimits::DEFAULT;

impl Requests<'_> {
    pub(super) async fn finds_its_server(&self, database: &TestDatabase) {
        let (store, server) = (self.store, "roomy".parse().unwrap());
        let sql = "INSERT INTO servers (handle, address, host_key) VALUES ('roomy', '203.0.113.7', 'ssh-ed25519 AAAA')";
        database.sql.execute(sql, &[]).await.unwrap();
        let due = ok(quick("servers to ask", store.servers_to_ask(16, LONG)).await);
        assert!(due.iter().any(|due| due.server.handle == server));
        let facts = ServerMeasurement {
            ram_mb: 8192,
            free_ram_mb: 8192,
            disk_mb: 99_999,
            free_disk_mb: 99_999,
            cpus: 2,
            ..ServerMeasurement::default()
        };
        ok(store.record_server_facts(&server, Timestamp::now(), Err("it's away")).await);
        ok(quick("facts", store.record_server_facts(&server, Timestamp::now(), Ok(&facts))).await);
        let accept = async |project: serde_json::Value| {
            let body = self.request(|e| {
                let data = e["data"].as_object_mut().unwrap();
                data.remove("server");
                data["project"] = project;
                data["repository"]["name"] = "acme/roomy".into();
                data["allocations"] = json!([{ "service": "backend", "container_port": 8000 }]);
            });
            let incoming = incoming(&body);
            let request = decode(&body, &incoming.metadata()).unwrap();
            drop(ok(quick("accept", store.accept(&request, &incoming)).await));
            drop(ok(quick("explain", store.explain_placement(&request.event.data, "/o", None, &LIMITS)).await));
            request.deployment_id()
        };
        let roomy = json!({ "id": Uuid::new_v4(), "slug": "roomy" });
        let new = accept(roomy.clone()).await;
        assert_eq!(ok(quick("waiting", store.waiting_for_room()).await), 1);
        assert_eq!(ok(quick("placing", store.place_waiting(&LIMITS, 0)).await).placed, 1);
        let claim = self.claim_of(new).await;
        let taken = [Port::new(20_000).unwrap()].into();
        let failure = Failure::new(ErrorCode::PortOccupied, Some(Stage::Preflight), "x");
        let left = ok(quick("leaving a port", store.leave_ports(&claim.lease, &taken, failure, &LIMITS)).await);
        assert!(left.is_some());
        let claim = self.claim_of(new).await;
        self.end(&claim, &DeploymentEnd::Succeeded { url: None }).await;
        let roomy = serde_json::from_value(roomy).unwrap();
        Box::pin(self.goes_elsewhere(&roomy, database, &facts)).await;
        // The project with a tenth of all deployments stays where it is.
        let busy = accept(json!({ "id": self.project.id, "slug": self.project.slug })).await;
        assert_eq!(ok(quick("placing", store.place_waiting(&LIMITS, 0)).await).placed, 1);
        let claim = self.claim_of(busy).await;
        self.end(&claim, &DeploymentEnd::Succeeded { url: None }).await;
        // One that finds no room.
        ok(store.cordon_server(&server, true, &self.operator).await);
        database.sql.execute("UPDATE servers SET cordoned_at = now()", &[]).await.unwrap();
        accept(json!({ "id": Uuid::new_v4(), "slug": "homeless" })).await;
        assert_eq!(ok(quick("waiting", store.place_waiting(&LIMITS, 0)).await).waiting, 1);
        let none = PlacementLimits { wait: Duration::ZERO, ..LIMITS };
        assert_eq!(ok(quick("giving up", store.place_waiting(&none, 0)).await).ended, 1);
        database.sql.execute("UPDATE servers SET cordoned_at = NULL", &[]).await.unwrap();
        self.is_said_of_servers(&server).await;
    }

    async fn is_said_of_servers(&self, server: &slipway_protocol::names::ServerHandle) {
        let store = self.store;
        ok(store.cordon_server(server, false, &self.operator).await);
        ok(store.label_server(server, &ServerTraits::default(), Some(9), &self.operator).await);
        let (now, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
        ok(store.add_maintenance(server, now + hour, now + hour + hour, &self.operator).await);
        drop(ok(quick("availability", store.server_availability()).await));
        ok(store.end_maintenance(server, &self.operator).await);
        drop(ok(quick("rooms", store.server_rooms()).await));
        drop(ok(quick("projects on a server", store.projects_on(server)).await));
        let mut event: serde_json::Value =
            serde_json::from_slice(include_bytes!("../../../../protocol/samples/server-cordon.v1.json")).unwrap();
        event["data"]["server"] = server.as_str().into();
        event["data"]["cordoned"] = false.into();
        event["time"] = serde_json::json!(now);
        let body = serde_json::to_vec(&event).unwrap();
        let incoming = incoming(&body);
        let Ok(Message::Cordon(request)) = read(&body, &incoming.metadata()) else { panic!("it's valid") };
        drop(ok(quick("a cordon", store.accept_cordon(&request, &incoming)).await));
    }

    /// Claims until it's the turn of this deployment; what else is due ends.
    async fn claim_of(&self, id: DeploymentId) -> slipway_worker::store::Claim {
        loop {
            let claim = self.claim().await;
            if claim.lease.deployment == id {
                return claim;
            }
            self.end(&claim, &DeploymentEnd::Cancelled).await;
        }
    }
}
