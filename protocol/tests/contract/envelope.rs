//! The envelope in both content modes: ids, replays, and what is kept of a message that isn't taken.

use std::collections::BTreeMap;

use serde_json::json;
use slipway_protocol::{ErrorCode, MAX_MESSAGE_BYTES, Metadata, decode};

use super::{read_event, refused, sample, sample_of};

#[test]
fn binary_mode_carries_the_same_request_under_each_header_prefix() {
    let structured = decode(&serde_json::to_vec(&sample()).expect("json"), &Metadata::default()).expect("valid");
    for prefix in ["cloudEvents_", "cloudEvents:", "ce-"] {
        let event = sample();
        let headers: BTreeMap<String, String> =
            ["specversion", "id", "source", "type", "subject", "time", "traceparent"]
                .into_iter()
                .map(|name| (format!("{prefix}{name}"), event[name].as_str().expect("text").to_owned()))
                .collect();
        let metadata = Metadata { content_type: Some("application/json; charset=utf-8".to_owned()), headers };
        let body = serde_json::to_vec(&event["data"]).expect("json");
        assert_eq!(decode(&body, &metadata).expect("valid").event, structured.event, "{prefix}");
    }
}

#[test]
fn a_time_in_binary_mode_may_be_a_count_of_seconds_or_milliseconds() {
    let event = sample();
    let body = serde_json::to_vec(&event["data"]).expect("json");
    let time = |text: &str| {
        let mut headers: BTreeMap<String, String> = ["specversion", "id", "source", "type"]
            .map(|name| (format!("ce-{name}"), event[name].as_str().expect("text").to_owned()))
            .into();
        headers.insert("ce-time".to_owned(), text.to_owned());
        let metadata = Metadata { content_type: Some("application/json".to_owned()), headers };
        decode(&body, &metadata).map(|request| request.event.time.map(|time| time.to_string()))
    };
    for text in ["1764460800", "1764460800000", "2025-11-30T00:00:00Z"] {
        assert_eq!(time(text).expect("valid").as_deref(), Some("2025-11-30T00:00:00Z"), "{text}");
    }
    assert_eq!(time("1764460800.25").expect("valid").as_deref(), Some("2025-11-30T00:00:00.25Z"));
    for text in ["", "true", "?", "1764460800.", "1e9", "NaN", "99999999999999999", "18446744073709551615"] {
        let rejection = time(text).expect_err("refused");
        assert_eq!(rejection.code, ErrorCode::InvalidField, "{text}");
        assert!(rejection.message.starts_with("/time must be a time as RFC 3339 writes it, such as"), "{rejection}");
    }
}

#[test]
fn attributes_in_headers_count_without_a_content_type_unless_the_body_has_its_own() {
    let event = sample();
    let headers = |id: &str| -> BTreeMap<String, String> {
        let values = [("specversion", "1.0"), ("id", id), ("source", "/s"), ("type", "slipway.project.ready.v1")];
        values.map(|(name, value)| (format!("cloudEvents:{name}"), value.to_owned())).into()
    };
    let id = |body: &serde_json::Value, content_type: Option<&str>| {
        let metadata = Metadata { content_type: content_type.map(str::to_owned), headers: headers("in a header") };
        decode(&serde_json::to_vec(body).expect("json"), &metadata).map(|request| request.event.id)
    };
    for content_type in [None, Some(""), Some("application/json")] {
        assert_eq!(id(&event["data"], content_type).as_deref(), Ok("in a header"), "{content_type:?}");
    }
    let own = event["id"].as_str().expect("text");
    assert_eq!(id(&event, None).as_deref(), Ok(own));
}

#[test]
fn a_body_that_is_nested_too_deep_or_compressed_is_told_as_such() {
    let mut event = sample();
    event["data"]["correlation"] = (0..126).fold(json!({}), |below, _| json!({ "a": below }));
    let rejection = refused(&event);
    assert!(
        rejection.code == ErrorCode::NotJson && rejection.message.contains("nested deeper than 127"),
        "{rejection}"
    );
    let rejection = decode(&[0x1f, 0x8b, 8, 0], &Metadata::default()).expect_err("refused");
    assert!(rejection.code == ErrorCode::NotJson && rejection.message.contains("compressed"), "{rejection}");
}

#[test]
fn a_replay_is_a_deployment_of_its_own() {
    let body = serde_json::to_vec(&sample()).expect("json");
    let replayed = |id: &str| {
        let headers = BTreeMap::from([("slipway-replay-id".to_owned(), id.to_owned())]);
        decode(&body, &Metadata { content_type: None, headers }).map(|r| r.deployment_id())
    };
    let first = decode(&body, &Metadata::default()).expect("valid").deployment_id();
    let one = replayed("7a4d3c52-6dd0-4a53-8a3e-0b8f3f2f7b10").expect("valid");
    let two = replayed("7a4d3c52-6dd0-4a53-8a3e-0b8f3f2f7b11").expect("valid");
    assert!(first != one && one != two);
    assert_eq!(replayed("nonsense").expect_err("refused").code, ErrorCode::InvalidField);
}

#[test]
fn binary_mode_keeps_the_ids_whatever_the_body_is() {
    let headers = [("specversion", "1.0"), ("id", "i"), ("source", "/s"), ("type", "slipway.project.ready.v1")]
        .map(|(name, value)| (format!("cloudEvents_{name}"), value.to_owned()));
    let metadata = Metadata { content_type: Some("application/json".to_owned()), headers: headers.into() };
    for body in [b"<project/>".to_vec(), vec![b' '; MAX_MESSAGE_BYTES + 1]] {
        let rejection = decode(&body, &metadata).expect_err("refused");
        assert!(rejection.known.deployment_id().is_some(), "{rejection}");
    }
}

#[test]
fn an_id_that_wasnt_utf_8_in_its_header_is_refused_since_others_look_the_same() {
    for (name, value) in [("id", "a\u{fffd}"), ("source", "\u{fffd}")] {
        let mut event = sample();
        event[name] = value.into();
        let rejection = refused(&event);
        assert_eq!(
            (rejection.code, rejection.pointer.as_deref()),
            (ErrorCode::InvalidField, Some(format!("/{name}").as_str()))
        );
        assert_eq!(rejection.known.deployment_id(), None);
    }
}

#[test]
fn what_is_no_event_at_all_is_told_apart() {
    let code = |body: &[u8]| decode(body, &Metadata::default()).expect_err("refused").code;
    assert_eq!(code(b""), ErrorCode::NotJson);
    assert_eq!(code(b"hello"), ErrorCode::NotJson);
    assert_eq!(code(b"\xff\xfe"), ErrorCode::NotJson);
    assert_eq!(code(b"[]"), ErrorCode::NotACloudEvent);
    assert_eq!(code(b"{}"), ErrorCode::NotACloudEvent);
    assert_eq!(code(&b"[".repeat(MAX_MESSAGE_BYTES)), ErrorCode::NotJson);
    assert_eq!(code(&vec![b' '; MAX_MESSAGE_BYTES + 1]), ErrorCode::MessageTooLarge);
}

#[test]
fn a_message_that_is_too_large_keeps_its_ids_and_nothing_that_is_large() {
    let mut event = sample();
    event["data"]["variables"]["FILLER"] = json!("x".repeat(5_000_000));
    let rejection = refused(&event);
    assert_eq!(rejection.code, ErrorCode::MessageTooLarge);
    let request = decode(&serde_json::to_vec(&sample()).expect("json"), &Metadata::default()).expect("valid");
    assert_eq!(rejection.known.deployment_id(), Some(request.deployment_id()));
    assert_eq!(rejection.known.project.as_ref(), Some(&request.event.data.project));
    assert_eq!(rejection.known.correlation, request.event.data.correlation);

    event["data"]["correlation"] = json!({ "filler": "x".repeat(100_000) });
    let rejection = refused(&event);
    assert!(rejection.known.deployment_id().is_some() && rejection.known.correlation.is_empty());
    event["data"]["variables"]["FILLER"] = json!("x".repeat(20_000_000));
    assert_eq!(refused(&event).known.deployment_id(), None);
}

#[test]
fn what_slipway_tells_is_never_taken_for_a_request() {
    for name in ["result-succeeded", "progress-log"] {
        assert_eq!(read_event(&sample_of(name)).expect_err("refused").code, ErrorCode::UnsupportedType);
    }
}
