//! JSON Schemas (draft 2020-12) of the events, generated from the types. The checked-in copies under `schemas/` are
//! compared by a test, which also writes them anew when `UPDATE_SCHEMAS=1` is set. They hold nothing that Ajv's strict mode
//! doesn't know, beside the formats that its own plugin adds.

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
    schema["$id"] = json!(format!("urn:slipway:schema:{event_type}"));
    schema["title"] = json!(event_type.as_str());
    schema["properties"]["specversion"]["const"] = json!("1.0");
    schema["properties"]["type"]["const"] = json!(event_type.as_str());
    schema["properties"]["sequence"]["pattern"] = json!("^[0-9]{10}$");
    drop_formats_of_rust(&mut schema);
    if event_type.action().is_none() {
        let definitions = schema["$defs"].as_object_mut().into_iter().flat_map(|definitions| definitions.values_mut());
        definitions.for_each(open);
    }
    schema
}

/// Names of Rust's types aren't formats that a validator knows; what they bound is said by `minimum` and `maximum`.
fn drop_formats_of_rust(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            let is_rusts = |format: &Value| format.as_str().is_some_and(|f| f.starts_with("uint") || f == "double");
            if map.get("format").is_some_and(is_rusts) {
                map.remove("format");
            }
            map.values_mut().for_each(drop_formats_of_rust);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_formats_of_rust),
        _ => {}
    }
}

/// What Slipway tells may say more once workers are newer: a closed list of words gets room for others, and what is told
/// under a new `kind` has only to have one.
fn open(definition: &mut Value) {
    let Some(Value::Array(mut alternatives)) = definition.get("oneOf").cloned() else { return };
    let kinds: Vec<Value> = alternatives.iter().map(|a| a["properties"]["kind"]["const"].clone()).collect();
    if alternatives.iter().all(|alternative| alternative.get("const").is_some()) {
        alternatives.push(json!({ "type": "string", "description": "Something else, that newer workers tell." }));
        definition["type"] = json!("string");
        definition["anyOf"] = Value::Array(alternatives);
        definition.as_object_mut().map(|definition| definition.remove("oneOf"));
    } else if kinds.iter().all(Value::is_string) {
        alternatives.push(json!({
            "description": "Something else, that newer workers tell.",
            "type": "object",
            "properties": { "kind": { "type": "string", "not": { "enum": kinds } } },
            "required": ["kind"],
        }));
        definition["oneOf"] = Value::Array(alternatives);
    }
}
