//! A request that leaves its server to Slipway.

use serde_json::json;
use slipway_protocol::{Metadata, decode};

use super::{put, sample_of};

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
