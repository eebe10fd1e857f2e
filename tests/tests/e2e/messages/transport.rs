//! Bad messages of which more than the body is bad: headers, properties, events in binary mode.

use std::collections::BTreeMap;

use serde_json::json;
use slipway_protocol::ErrorCode::*;
use slipway_protocol::{CONTENT_TYPE, MAX_MESSAGE_BYTES};
use slipway_tests::bus::ReceivedMessage;
use slipway_tests::stack::Stack;

use super::message::{BadMessage, SOURCE, event};

/// All of them.
pub fn all(stack: &Stack) -> Vec<BadMessage> {
    let row = |name: &str, code, change: &dyn Fn(&mut BTreeMap<String, String>)| {
        let id = format!("bad: {name}");
        let mut headers: BTreeMap<String, String> =
            [("specversion", "1.0"), ("id", id.as_str()), ("source", SOURCE), ("type", "slipway.project.ready.v1")]
                .map(|(name, value)| (format!("cloudEvents_{name}"), value.to_owned()))
                .into();
        change(&mut headers);
        let body = event(stack, &id)["data"].to_string().into_bytes();
        let message = ReceivedMessage {
            body,
            content_type: Some("application/json".to_owned()),
            headers,
            ..ReceivedMessage::default()
        };
        BadMessage { name: name.to_owned(), message, code, id: Some(id), secrets: Vec::new() }
    };
    let mut not_json = row("binary that isn't JSON", NotJson, &|_| {});
    not_json.message.body = b"<project/>".to_vec();
    let mut large = row("binary that is too large", MessageTooLarge, &|_| {});
    large.message.body = vec![b'y'; MAX_MESSAGE_BYTES + 1];
    let mut filled =
        BadMessage::event(stack, "headers that fill a frame", InvalidField, |e| e["data"]["modules"] = json!([]));
    filled.message.headers.insert("x-filler".to_owned(), "f".repeat(130_800));
    vec![
        not_json,
        large,
        filled,
        row("binary without an id", NotACloudEvent, &|h| drop(h.remove("cloudEvents_id"))).unread(),
        row("binary without a type", NotACloudEvent, &|h| drop(h.remove("cloudEvents_type"))),
        row("binary of version 9", UnsupportedVersion, &|h| {
            drop(h.insert("cloudEvents_specversion".into(), "9".into()))
        }),
        row("binary with a control character", InvalidField, &|h| {
            drop(h.insert("cloudEvents_source".into(), "a\nb".into()));
        })
        .unread(),
        // Which deployment a result would be about isn't known.
        BadMessage::event(stack, "a bad replay header", InvalidField, |_| {})
            .header("slipway-replay-id", "again")
            .unread(),
        BadMessage::event(stack, "NUL in a header", InvalidField, |e| e["data"]["modules"] = json!([]))
            .header("x\u{0}y", "\u{0}"),
        BadMessage::event(stack, "a traceparent of nonsense", InvalidField, |e| e["data"]["modules"] = json!(["../x"]))
            .header("traceparent", CONTENT_TYPE),
    ]
}
