//! What the decoder makes of mutated samples, in both content modes.

use std::fs;

use serde_json::{Map, Value};
use slipway_protocol::{Message, Metadata, Rejection, fuzz, read};

use super::folder;

/// A refusal says where and why in a few words, whatever was sent.
fn assert_short(rejection: &Rejection) {
    assert!(!rejection.message.is_empty() && rejection.message.len() < 2_000, "{} bytes", rejection.message.len());
    assert!(rejection.pointer.as_ref().is_none_or(|pointer| pointer.len() < 2_000), "{:?}", rejection.pointer);
}

fn corpus() -> Vec<Vec<u8>> {
    let samples = fs::read_dir(folder("samples")).expect("the samples").map(|entry| entry.expect("an entry").path());
    let mut samples: Vec<_> = samples.collect();
    samples.sort();
    samples.iter().map(|path| fs::read(path).expect("a sample")).collect()
}

#[test]
fn fuzzed_messages_are_read_or_refused_in_a_few_words() {
    let corpus = corpus();
    let corpus: Vec<&[u8]> = corpus.iter().map(Vec::as_slice).collect();
    fuzz::run("events in structured mode", &corpus, |body| match read(body, &Metadata::default()) {
        Err(rejection) => assert_short(&rejection),
        Ok(Message::Ready(request)) => {
            let again = serde_json::to_vec(&request.event).expect("it's written");
            let Ok(Message::Ready(same)) = read(&again, &Metadata::default()) else {
                panic!("it's refused, once written")
            };
            assert_eq!(same.event, request.event);
        }
        Ok(_) => {}
    });
}

#[test]
fn fuzzed_headers_are_read_or_refused_in_a_few_words() {
    let corpus = corpus();
    let corpus: Vec<&[u8]> = corpus.iter().map(Vec::as_slice).collect();
    fuzz::run("events in binary mode", &corpus, |input| {
        // The attributes go into headers, the data are the body.
        let event = serde_json::from_slice::<Map<String, Value>>(input).unwrap_or_default();
        let body = event.get("data").map_or_else(|| input.to_vec(), |data| data.to_string().into_bytes());
        let prefix = ["cloudEvents_", "cloudEvents:", "ce-", ""][input.len() % 4];
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let attributes = event.iter().filter(|(name, _)| *name != "data");
        let metadata = Metadata {
            content_type: event.get("datacontenttype").map(text),
            headers: attributes.map(|(name, value)| (format!("{prefix}{name}"), text(value))).collect(),
        };
        if let Err(rejection) = read(&body, &metadata) {
            assert_short(&rejection);
        }
    });
}
