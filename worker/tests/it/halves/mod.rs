//! Requests that come in two halves, through a real RabbitMQ and into a real PostgreSQL.

mod kept;
mod refusals;
mod table;
mod waiting;

use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use slipway_protocol::{
    Change, CloudEvent, DeploymentId, EngineeringDone, ProjectId, ProjectReady, ResourcesAllocated, join,
};
use uuid::Uuid;

use crate::services::test_worker::{ScriptedStages, report};

pub const CODE: &str = "/engineering";
pub const PLACE: &str = "/zavhoz";

pub fn changed() -> ScriptedStages {
    ScriptedStages::new(|_| async { Ok(report(Change::Changed)) })
}

/// A project of its own, with a server of its own.
#[derive(Debug, Clone)]
pub struct HalvedProject {
    pub id: ProjectId,
    pub slug: String,
}

impl HalvedProject {
    pub fn new(slug: &str) -> Self {
        Self { id: ProjectId(Uuid::new_v4()), slug: slug.to_owned() }
    }

    /// The half that tells a commit, which consists of one letter.
    pub fn code(&self, letter: char, edit: impl FnOnce(&mut Value)) -> Value {
        let mut event = self.half(include_bytes!("../../../../protocol/samples/engineering-done.v1.json"), CODE);
        event["data"]["repository"] =
            json!({ "name": format!("acme/{}", self.slug), "commit": letter.to_string().repeat(40), "branch": "main" });
        for field in ["secrets", "registry"] {
            event["data"].as_object_mut().unwrap().remove(field);
        }
        edit(&mut event);
        event
    }

    /// The half that tells the port.
    pub fn place(&self, port: u16, edit: impl FnOnce(&mut Value)) -> Value {
        let mut event = self.half(include_bytes!("../../../../protocol/samples/resources-allocated.v1.json"), PLACE);
        event["data"]["server"] = json!({ "handle": format!("s-{}", self.slug), "address": "203.0.113.10" });
        event["data"]["allocations"] = json!([{ "service": "backend", "host_port": port, "container_port": 8000 }]);
        edit(&mut event);
        event
    }

    fn half(&self, sample: &[u8], source: &str) -> Value {
        let mut event: Value = serde_json::from_slice(sample).unwrap();
        event["id"] = Uuid::new_v4().to_string().into();
        event["source"] = source.into();
        event["time"] = Timestamp::now().to_string().into();
        event["data"]["project"] = json!({ "id": self.id, "slug": self.slug });
        event["data"].as_object_mut().unwrap().remove("sequence");
        event
    }
}

/// The request that two halves make.
pub fn joined(code: &Value, place: &Value) -> CloudEvent<ProjectReady> {
    let code: CloudEvent<EngineeringDone> = serde_json::from_value(code.clone()).unwrap();
    let place: CloudEvent<ResourcesAllocated> = serde_json::from_value(place.clone()).unwrap();
    join(&code, &place)
}

pub fn joined_id(code: &Value, place: &Value) -> DeploymentId {
    let event = joined(code, place);
    DeploymentId::of(&event.source, &event.id, None)
}

/// The id under which a half is told of when no deployment comes of it.
pub fn own_id(half: &Value) -> DeploymentId {
    DeploymentId::of(half["source"].as_str().unwrap(), half["id"].as_str().unwrap(), None)
}

pub fn bytes(event: &Value) -> Vec<u8> {
    event.to_string().into_bytes()
}

/// So many seconds ago.
pub fn ago(seconds: i64) -> Value {
    (Timestamp::now() - seconds.seconds()).to_string().into()
}
