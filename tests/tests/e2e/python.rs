//! The orchestrator's side as its authors write it: Python programs with pika, PyNaCl and the contract file that they
//! vendor. What the events mean is tested elsewhere.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use slipway_protocol::{
    Action, CONTENT_TYPE, DeploymentId, ErrorCode, EventType, Message, Metadata, Outcome, PlacementReason,
    PushDeployer, ReplacementWay, SecretSource, Stage, decode, join, schema, topology,
};
use slipway_tests::stack::{BOT_TOKEN, Stack};
use slipway_tests::world::{Cache, Generation, Sample, Variant};

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `command` is Python; it runs one of the programs in `tests/python` with the contract file to import.
pub fn program(mut command: Command, name: &str) -> Command {
    command
        .arg(root().join("tests/python").join(name))
        .env_clear()
        .env("PYTHONPATH", root().join("protocol/python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("LANG", "C.UTF-8");
    command
}

fn samples() -> Vec<PathBuf> {
    let mut samples: Vec<PathBuf> =
        std::fs::read_dir(root().join("protocol/samples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    samples.sort();
    samples
}

/// What the contract file makes of the samples, and what it writes.
fn contract() -> Value {
    let python = Command::new(Cache::open().unwrap().python());
    let output = program(python, "contract.py").args(samples()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether two values say the same; moments may be spelled in several ways.
fn same(one: &Value, other: &Value) -> bool {
    let moment = |value: &Value| value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let all = |one: &Map<String, Value>, other: &Map<String, Value>| {
        one.len() == other.len() && one.iter().all(|(name, value)| other.get(name).is_some_and(|o| same(value, o)))
    };
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => all(one, other),
        _ => one == other || (moment(one).is_some() && moment(one) == moment(other)),
    }
}

#[test]
fn the_vendored_file_reads_every_frozen_sample_in_full() {
    let contract = contract();
    let samples = samples();
    assert!(samples.len() >= 9);
    for (path, parsed) in samples.iter().zip(contract["parsed"].as_array().unwrap()) {
        let sample: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(same(&parsed["data"], &sample["data"]), "{}: {parsed:#}", path.display());
        for attribute in ["id", "source", "type", "subject", "time", "sequence", "causationid", "traceparent"] {
            let (parsed, sample) = (&parsed[attribute], &sample[attribute]);
            assert!(same(parsed, sample), "{}: {attribute}: {parsed} {sample}", path.display());
        }
    }
}

#[test]
fn what_the_vendored_file_writes_is_valid_and_what_it_must_not_write_is_refused() {
    let contract = contract();
    let schema = jsonschema::draft202012::new(&schema::of(EventType::ProjectReady)).unwrap();
    let written = contract["written"].as_array().unwrap();
    assert_eq!(written.len(), 3);
    for body in written {
        let body = body.as_str().unwrap();
        let event: Value = serde_json::from_str(body).unwrap();
        let errors: Vec<String> = schema.iter_errors(&event).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {body}");
        let request = decode(body.as_bytes(), &Metadata::default()).unwrap();
        // Nothing that it wrote is unknown here.
        assert!(same(&serde_json::to_value(&request.event.data).unwrap(), &without_empty(&event["data"])), "{body}");
    }
    let full = decode(written[2].as_str().unwrap().as_bytes(), &Metadata::default()).unwrap().event;
    assert_eq!(
        Value::Object(full.data.correlation),
        json!({ "correlation_id": "c-1", "story_id": null, "chat": { "id": -100, "none": null }, "many": [null] })
    );
    assert!(
        matches!(full.data.secrets.values().next(), Some(SecretSource::Sealed(sealed)) if sealed.bytes().is_some())
    );
    assert!(contract["refused"].as_array().unwrap().iter().all(|refused| refused == true), "{}", contract["refused"]);
}

#[test]
fn the_commands_that_the_vendored_file_writes_are_valid_and_mean_what_they_say() {
    let contract = contract();
    let commanded = contract["commanded"].as_array().unwrap();
    let mut actions = Vec::new();
    for body in commanded {
        let body = body.as_str().unwrap();
        let event: Value = serde_json::from_str(body).unwrap();
        let event_type = EventType::named(event["type"].as_str().unwrap()).unwrap();
        let schema = jsonschema::draft202012::new(&schema::of(event_type)).unwrap();
        let errors: Vec<String> = schema.iter_errors(&event).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}: {body}");
        match slipway_protocol::read(body.as_bytes(), &Metadata::default()).unwrap() {
            Message::Command(request) => {
                let data = request.event.data;
                assert_eq!(data.to.is_some() || data.move_to.is_some(), event["data"].get("to").is_some(), "{body}");
                assert_eq!(data.server.is_some(), event["data"].get("server").is_some(), "{body}");
                assert_eq!(json!(data.correlation), event["data"].get("correlation").cloned().unwrap_or(json!({})));
                actions.push((data.action, data.remove_volumes));
            }
            Message::Cancel(request) => {
                assert!(request.event.data.deployment().is_some(), "{body}");
                actions.push((Action::Cancel, false));
            }
            Message::Cordon(request) => {
                assert_eq!(json!(request.event.data.cordoned), event["data"]["cordoned"], "{body}");
                actions.push((Action::Cordon, false));
            }
            Message::Ready(_) | Message::Half(_) => panic!("{body}"),
        }
    }
    use Action::{Cancel, Cordon, Move, Rollback, Start, Stop, Undeploy};
    let expected = [Stop, Stop, Start, Rollback, Rollback, Rollback, Undeploy, Move, Move, Cancel, Cancel, Cordon];
    assert_eq!(actions, expected.map(|action| (action, action == Undeploy)));
}

#[test]
fn the_halves_that_the_vendored_file_writes_are_valid_and_named_as_here() {
    let halved = &contract()["halved"];
    let body = |at: usize| halved["bodies"][at].as_str().unwrap();
    for (at, event_type) in [EventType::EngineeringDone, EventType::ResourcesAllocated].into_iter().enumerate() {
        let schema = jsonschema::draft202012::new(&schema::of(event_type)).unwrap();
        assert!(schema.is_valid(&serde_json::from_str(body(at)).unwrap()), "{}", body(at));
        let read = slipway_protocol::read(body(at).as_bytes(), &Metadata::default()).unwrap();
        assert!(matches!(read, Message::Half(_)), "{read:?}");
    }
    let joined = join(&serde_json::from_str(body(0)).unwrap(), &serde_json::from_str(body(1)).unwrap());
    assert_eq!(halved["joined"], json!({ "source": joined.source, "id": joined.id }));
    assert_eq!(halved["deployment_id"], json!(DeploymentId::of(&joined.source, &joined.id, None)));
}

/// Maps that are empty needn't be written.
fn without_empty(data: &Value) -> Value {
    let mut data = data.clone();
    data.as_object_mut().unwrap().retain(|_, value| *value != json!({}));
    data
}

#[test]
fn the_vendored_file_has_the_same_words_ids_and_names() {
    let contract = contract();
    assert_eq!(contract["types"], json!(EventType::ALL));
    assert_eq!(contract["stages"], json!(Stage::ALL));
    assert_eq!(contract["actions"], json!(Action::ALL));
    assert_eq!(contract["replacement_ways"], json!(ReplacementWay::ALL));
    assert_eq!(contract["placement_reasons"], json!(PlacementReason::ALL));
    assert_eq!(contract["push_deployers"], json!([PushDeployer::CiJob, PushDeployer::Webhook, PushDeployer::Both]));
    assert_eq!(contract["outcomes"], json!(Outcome::ALL));
    let codes: Map<String, Value> = ErrorCode::ALL.iter().map(|code| (code.to_string(), json!(code.class()))).collect();
    assert_eq!(contract["codes"], Value::Object(codes));
    assert_eq!(contract["exchanges"], json!([topology::REQUESTS, topology::EVENTS]));
    assert_eq!(contract["content_type"], CONTENT_TYPE);
    assert_eq!(contract["deployment_id"], json!(DeploymentId::of("/орк", "e-1", None)));
    let replay = uuid::Uuid::from_u128(7);
    assert_eq!(contract["replay_id"], json!(DeploymentId::of("/o", "e-1", Some(replay))));
}

/// A consumer in Python; killed when dropped.
pub struct Consumer {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Consumer {
    pub fn start(stack: &Stack, slug: &str) -> Self {
        let python = stack.world.command(&stack.world.cache().python().display().to_string());
        let mut child = program(python, "consumer.py")
            .args([stack.world.amqp_url(), slug])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "bound");
        Self { child, lines }
    }

    /// Everything that it prints until it ends.
    pub fn rest(mut self) -> Vec<Value> {
        let told = self.lines.by_ref().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        assert!(self.child.wait().unwrap().success());
        told
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Publishes a request from Python; gives what the producer told.
fn produce(stack: &Stack, request: &Value) -> Value {
    let python = stack.world.command(&stack.world.cache().python().display().to_string());
    tell(program(python, "producer.py").arg(stack.world.amqp_url()), request)
}

/// Gives a program its input, and what it answers.
pub fn tell(program: &mut Command, input: &Value) -> Value {
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn an_orchestrator_and_a_bot_in_python_see_a_project_through() {
    let mut stack = Stack::start(1).unwrap();
    let sample = Sample::new(Generation::Two, "Acme-Org", "corner.Shop");
    let commit = stack.publish(&sample, Variant::Healthy).unwrap();
    stack.worker(&[]).unwrap();
    stack.enlist(0).unwrap();
    let key = stack.slipway(&["keys", "public"]).unwrap();
    let correlation =
        json!({ "correlation_id": "c-17", "chat": { "id": -100, "topic": null }, "task_id": 42, "story_id": null });
    let mut ready = stack.ready(&sample, &commit, "shop", 0, 8080).unwrap();
    ready["secrets"] = json!({});
    ready["correlation"] = correlation.clone();

    let consumer = Consumer::start(&stack, "shop");
    let secrets = json!({ "TELEGRAM_BOT_TOKEN": BOT_TOKEN });
    let request = json!({ "key": key.trim(), "secrets": secrets, "source": "/orchestrator", "ready": ready });
    let produced = produce(&stack, &request);
    let body = produced["body"].as_str().unwrap();
    assert!(!body.contains(BOT_TOKEN));
    let schema = jsonschema::draft202012::new(&schema::of(EventType::ProjectReady)).unwrap();
    assert!(schema.is_valid(&serde_json::from_str(body).unwrap()), "{body}");

    let told = consumer.rest();
    let result = told.last().unwrap();
    assert_eq!(result["result"], "succeeded", "{result:#}\n{}", stack.running(0).log().unwrap());
    assert_eq!(result["url"], format!("http://{}:8080", stack.world.target(0).ip()));
    assert_eq!(result["stages"], json!(Stage::ALL));
    for (index, event) in told.iter().enumerate() {
        assert_eq!(event["sequence"], format!("{:010}", index + 1), "{event}");
        assert_eq!(event["correlation"], correlation, "{event}");
        assert_eq!(event["correlation_id"], "c-17", "{event}");
        assert_eq!(event["causationid"], produced["id"], "{event}");
        assert_eq!(event["deployment_id"], produced["deployment_id"], "{event}");
        assert_eq!(event["message_id_is_event_id"], true, "{event}");
    }
    assert_eq!(told[0]["progress"], "accepted");
    let finished = told.iter().filter(|event| event["progress"] == "stage_finished").map(|event| &event["stage"]);
    assert_eq!(json!(finished.collect::<Vec<_>>()), json!(Stage::ALL));
    let environment = stack.world.target(0).sh("cat /opt/services/shop/.env").unwrap();
    assert!(environment.contains(BOT_TOKEN), "what Python sealed is what the project gets");
}
