//! What is checked in beside the types: schemas, frozen samples, the table of error codes.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};
use slipway_protocol::{
    CloudEvent, DeploymentCancel, DeploymentResult, EngineeringDone, ErrorCode, EventType, Metadata, Progress,
    ProjectMove, ProjectRollback, ProjectStart, ProjectStop, ProjectUndeploy, ResourcesAllocated, ServerCordon, decode,
    read, schema,
};

use super::folder;

#[test]
fn checked_in_schemas_are_those_of_the_types() {
    for event_type in EventType::ALL {
        let path = folder("schemas").join(schema::file_name(event_type));
        let generated = format!("{:#}\n", schema::of(event_type));
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            fs::write(&path, &generated).expect("the schema can be written");
        }
        let checked_in = fs::read_to_string(&path).unwrap_or_default();
        assert!(checked_in == generated, "{} is old: run the tests once with UPDATE_SCHEMAS=1", path.display());
    }
}

#[test]
fn every_frozen_sample_is_valid_against_its_schema_and_decodes() {
    let mut seen = 0;
    for entry in fs::read_dir(folder("samples")).expect("samples are there") {
        let path = entry.expect("samples can be listed").path();
        let body = fs::read(&path).expect("the sample can be read");
        let value: Value = serde_json::from_slice(&body).expect("the sample is JSON");
        let event_type = EventType::ALL
            .into_iter()
            .find(|t| value["type"] == t.as_str())
            .unwrap_or_else(|| panic!("{} has an unknown type", path.display()));
        let validator = jsonschema::draft202012::new(&schema::of(event_type)).expect("the schema compiles");
        let errors: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:?}", path.display());
        let again = match event_type {
            EventType::ProjectReady => {
                serde_json::to_value(decode(&body, &Metadata::default()).expect("the sample decodes").event)
            }
            EventType::EngineeringDone => written_again::<EngineeringDone>(&body),
            EventType::ResourcesAllocated => written_again::<ResourcesAllocated>(&body),
            EventType::ProjectStop => written_again::<ProjectStop>(&body),
            EventType::ProjectStart => written_again::<ProjectStart>(&body),
            EventType::ProjectRollback => written_again::<ProjectRollback>(&body),
            EventType::ProjectUndeploy => written_again::<ProjectUndeploy>(&body),
            EventType::ProjectMove => written_again::<ProjectMove>(&body),
            EventType::DeploymentCancel => written_again::<DeploymentCancel>(&body),
            EventType::ServerCordon => written_again::<ServerCordon>(&body),
            EventType::Progress => {
                serde_json::to_value(serde_json::from_slice::<CloudEvent<Progress>>(&body).expect("the sample decodes"))
            }
            EventType::Result => serde_json::to_value(
                serde_json::from_slice::<CloudEvent<DeploymentResult>>(&body).expect("the sample decodes"),
            ),
        };
        assert_eq!(again.expect("it serialises"), value, "{} changes on its way through", path.display());
        seen += 1;
    }
    assert!(seen >= 37, "only {seen} samples");
}

fn written_again<T: serde::Serialize + serde::de::DeserializeOwned>(body: &[u8]) -> serde_json::Result<Value> {
    read(body, &Metadata::default()).expect("the sample is a valid request");
    serde_json::to_value(serde_json::from_slice::<CloudEvent<T>>(body)?)
}

#[test]
fn every_code_has_a_name_of_its_own_and_says_what_to_do() {
    let mut names = BTreeSet::new();
    for code in ErrorCode::ALL {
        assert!(names.insert(code.as_str()), "{code} twice");
        assert_eq!(code.as_str().parse::<ErrorCode>(), Ok(*code));
        assert_eq!(serde_json::to_value(code).expect("json"), json!(code.as_str()));
        assert!(code.meaning().len() > 15 && code.next_action().len() > 10, "{code}");
    }
}
