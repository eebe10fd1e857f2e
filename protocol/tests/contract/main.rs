//! The contract as others see it: schemas, frozen samples, and what bad input gets. Here: what the tests share.

mod commands;
mod envelope;
#[cfg(feature = "fuzz")]
mod fuzz;
mod halves;
mod placements;
mod plain_texts;
mod properties;
mod requests;
mod schemas;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use slipway_protocol::{Message, Metadata, Rejection, decode, read};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The frozen sample of that name, as it's written.
fn sample_bytes(name: &str) -> Vec<u8> {
    fs::read(folder("samples").join(format!("{name}.v1.json"))).expect("the sample is there")
}

fn sample_of(name: &str) -> Value {
    serde_json::from_slice(&sample_bytes(name)).expect("the sample is JSON")
}

/// That of a request to deploy.
fn sample() -> Value {
    sample_of("project-ready")
}

fn refused(event: &Value) -> Rejection {
    let body = serde_json::to_vec(event).expect("a value serialises");
    decode(&body, &Metadata::default()).expect_err("the event must be refused")
}

/// Sets the field at `pointer`, whether the sample has it or not.
fn put(event: &mut Value, pointer: &str, value: Value) {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    event.pointer_mut(parent).expect("the sample has the parent")[field] = value;
}

fn read_event(event: &Value) -> Result<Message, Rejection> {
    read(&serde_json::to_vec(event).expect("json"), &Metadata::default())
}
