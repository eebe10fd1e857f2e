//! A request that leaves its server to Slipway.

use serde_json::{Value, json};
use slipway_protocol::{Metadata, decode};

use super::{put, read_event, sample_of};

#[test]
fn a_request_may_leave_the_server_and_some_ports_to_slipway() {
    let mut event = sample_of("project-ready-placed");
    put(&mut event, "/data/allocations/0/host_port", json!(15432));
    let request = decode(&serde_json::to_vec(&event).expect("json"), &Metadata::default()).expect("it is valid");
    let data = &request.event.data;
    assert_eq!((&data.server, data.allocations[1].host_port), (&None, None));
    assert_eq!(data.allocations[0].host_port.map(|port| port.get()), Some(15432));
    let wish = data.placement.as_ref().expect("a wish");
    assert_eq!(wish.required.region.as_ref().map(ToString::to_string).as_deref(), Some("eu-central"));
    assert_eq!((wish.wait_seconds, data.resources.and_then(|needed| needed.ram_mb)), (Some(1800), Some(768)));
    assert_eq!(serde_json::to_value(&request.event).expect("json"), event);
}

/// Every place of a value, as a JSON pointer.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, field)| pointers(field, &format!("{at}/{name}"), found))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, item)| pointers(item, &format!("{at}/{n}"), found));
        }
        _ => {}
    }
}

#[test]
fn a_value_of_another_kind_is_refused_in_words_of_json_and_not_of_rust() {
    let samples = [
        "project-ready",
        "project-ready-placed",
        "project-move",
        "project-rollback",
        "server-cordon",
        "engineering-done",
        "resources-allocated",
    ];
    let rust =
        ["u8", "u16", "u32", "u64", "usize", "i32", "i64", "f64", "struct", "enum", "tuple", "sequence", "map", "unit"];
    let others = [json!("soon"), json!(-1), json!(1.5), json!(true), json!([]), json!([[]]), json!({}), json!(null)];
    let (mut told, mut bad) = (0, Vec::new());
    for name in samples {
        let sample = sample_of(name);
        let mut places = Vec::new();
        pointers(&sample["data"], "/data", &mut places);
        for place in places {
            for other in &others {
                let mut event = sample.clone();
                *event.pointer_mut(&place).expect("the sample has it") = other.clone();
                let Err(rejection) = read_event(&event) else { continue };
                let rule = rejection.message.split_once(' ').map_or("", |(_, rule)| rule);
                let words = rule.split(|c: char| !c.is_ascii_alphanumeric());
                let found: Vec<&str> = words.filter(|word| rust.contains(word)).collect();
                if !found.is_empty() {
                    bad.push(format!("{name} {place} {other}: {}", rejection.message));
                }
                told += 1;
            }
        }
    }
    assert!(told > 300 && bad.is_empty(), "{told} {bad:#?}");
    let mut event = sample_of("project-ready-placed");
    put(&mut event, "/data/placement/wait_seconds", json!("soon"));
    let told = super::refused(&event).message;
    assert_eq!(told, "/data/placement/wait_seconds must be a whole number from 0 to 4294967295");
}
