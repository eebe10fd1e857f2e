//! JSON Schemas (draft 2020-12) of the events, generated from the types. The checked-in copies under `schemas/` are
//! compared by a test, which also writes them anew when `UPDATE_SCHEMAS=1` is set.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::{
    CloudEvent, DeploymentCancel, DeploymentResult, EngineeringDone, EventType, Progress, ProjectMove, ProjectReady,
    ProjectRollback, ProjectStart, ProjectStop, ProjectUndeploy, ResourcesAllocated, ServerCordon,
};

/// The schema of a whole event of `event_type`, envelope included.
#[must_use]
pub fn of(event_type: EventType) -> Value {
    match event_type {
        EventType::ProjectReady => generate::<ProjectReady>(event_type),
        EventType::EngineeringDone => generate::<EngineeringDone>(event_type),
        EventType::ResourcesAllocated => generate::<ResourcesAllocated>(event_type),
        EventType::ProjectStop => generate::<ProjectStop>(event_type),
        EventType::ProjectStart => generate::<ProjectStart>(event_type),
        EventType::ProjectRollback => generate::<ProjectRollback>(event_type),
        EventType::ProjectUndeploy => generate::<ProjectUndeploy>(event_type),
        EventType::ProjectMove => generate::<ProjectMove>(event_type),
        EventType::DeploymentCancel => generate::<DeploymentCancel>(event_type),
        EventType::ServerCordon => generate::<ServerCordon>(event_type),
        EventType::Progress => generate::<Progress>(event_type),
        EventType::Result => generate::<DeploymentResult>(event_type),
    }
}

/// File name of the checked-in schema.
#[must_use]
pub fn file_name(event_type: EventType) -> String {
    format!("{event_type}.schema.json")
}

fn generate<T: JsonSchema>(event_type: EventType) -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<CloudEvent<T>>();
    let mut schema = schema.to_value();
    schema["title"] = json!(event_type.as_str());
    schema["properties"]["specversion"]["const"] = json!("1.0");
    schema["properties"]["type"]["const"] = json!(event_type.as_str());
    schema["properties"]["sequence"]["pattern"] = json!("^[0-9]{10}$");
    schema
}
